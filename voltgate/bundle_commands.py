"""`voltgate bundle`: write what other tools show Voltgate with, made of this installation's contracts."""

from pathlib import Path

from dashboards.saved.grafana_board import board
from dashboards.saved.opensearch_objects import saved_objects, to_ndjson
from dashboards.saved.prometheus_rules import rules
from gateway.core.settings import Settings
from processors.indexing.plan import index_plan
from processors.stages.chain import Chain
from processors.stores import contracts_of
from voltgate.output import Exit, fail, say


def bundle_opensearch(settings: Settings, output: Path | None) -> int:
    """Write the saved objects of OpenSearch Dashboards to a file, or to stdout."""
    contracts, prefix = contracts_of(settings), settings.opensearch.index_prefix
    objects = saved_objects(index_plan(contracts, Chain(contracts).schemas, prefix=prefix), prefix=prefix)
    write_bundle(to_ndjson(objects), output)
    if output is not None:
        say(f"{len(objects)} saved objects in {output}; import them into OpenSearch Dashboards")
    return Exit.OK


def bundle_prometheus(output: Path | None) -> int:
    """Write the rules for Prometheus to a file, or to stdout."""
    write_bundle(rules(), output)
    return Exit.OK


def bundle_grafana(output: Path | None) -> int:
    """Write the dashboard for Grafana to a file, or to stdout."""
    write_bundle(board(), output)
    return Exit.OK


def write_bundle(text: str, output: Path | None) -> None:
    """Write a file, UTF-8, or stdout where none is named. Raises: SystemExit: The file cannot be written."""
    if output is None:
        print(text, end="")
        return
    try:
        output.write_text(text, "utf-8")
    except OSError as exc:
        fail(f"{output} cannot be written: {exc.strerror}; name a file in a directory that is there")

"""The commands about bundles for other tools: parse, then call one function."""

from pathlib import Path
from typing import Annotated

import typer

from voltgate.cli_options import ConfigOption, DataOption, load_settings, new_group

bundle = new_group("Dashboards and rules for other tools, made of your contracts.")

OutputOption = Annotated[Path | None, typer.Option("--output", help="File to write; else stdout.")]


@bundle.command("opensearch")
def bundle_opensearch_(output: OutputOption = None, config: ConfigOption = None, data: DataOption = None) -> None:
    """Write saved objects for OpenSearch Dashboards. Example: voltgate bundle opensearch --output voltgate.ndjson."""
    from voltgate.bundle_commands import bundle_opensearch

    raise SystemExit(bundle_opensearch(load_settings(config, data), output))


@bundle.command("prometheus")
def bundle_prometheus_(output: OutputOption = None) -> None:
    """Write alerting rules for Prometheus. Example: voltgate bundle prometheus --output rules.yaml."""
    from voltgate.bundle_commands import bundle_prometheus

    raise SystemExit(bundle_prometheus(output))


@bundle.command("grafana")
def bundle_grafana_(output: OutputOption = None) -> None:
    """Write a dashboard for Grafana. Example: voltgate bundle grafana --output voltgate.json."""
    from voltgate.bundle_commands import bundle_grafana

    raise SystemExit(bundle_grafana(output))

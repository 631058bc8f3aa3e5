"""The commands about OpenSearch: parse, then call one function."""

from typing import Annotated

import typer

from voltgate.cli_options import ConfigOption, DataOption, JsonOption, load_settings, new_group

opensearch = new_group("The search cluster that shows what the lake holds.")


@opensearch.command("init")
def opensearch_init(config: ConfigOption = None, data: DataOption = None, *, as_json: JsonOption = False) -> None:
    """Prepare the cluster now, as the processors do at their start: templates, fields, indices. Safe to repeat."""
    from voltgate.opensearch_commands import init

    raise SystemExit(init(load_settings(config, data), as_json=as_json))


@opensearch.command("status")
def opensearch_status(config: ConfigOption = None, data: DataOption = None, *, as_json: JsonOption = False) -> None:
    """Show the cluster, and how far each table is indexed. Example: voltgate opensearch status --json."""
    from voltgate.opensearch_commands import show_status

    raise SystemExit(show_status(load_settings(config, data), as_json=as_json))


@opensearch.command("reindex")
def opensearch_reindex(
    tables: Annotated[list[str] | None, typer.Argument(help="Tables of the lake, or devices; without one all.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    *,
    drop: Annotated[bool, typer.Option("--drop", help="Delete their indices first.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when everything is indexed again.")] = False,
) -> None:
    """Have the processors index tables from the beginning. Example: voltgate opensearch reindex alerts --wait."""
    from voltgate.opensearch_commands import reindex

    raise SystemExit(reindex(load_settings(config, data), tables or [], drop=drop, wait=wait))

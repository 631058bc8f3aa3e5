"""The commands about KPIs: parse, then call one function."""

from typing import Annotated

import typer

from voltgate.cli_options import ConfigOption, DataOption, JsonOption, LimitOption, load_settings, new_group

kpi = new_group("Figures per day: trips, vehicles, chargers, sites, fleets, battery health.")

DayOption = Annotated[str | None, typer.Option("--day", help="UTC day such as 2026-11-22.")]


@kpi.command("run")
def kpi_run(
    day: DayOption = None,
    since: Annotated[str | None, typer.Option("--since", help="This UTC day and all later ones.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Compute the days that changed since the last run, or those given; safe to repeat, also while all is running."""
    from voltgate.kpi_commands import run

    raise SystemExit(run(load_settings(config, data), day=day, since=since, as_json=as_json))


@kpi.command("show")
def kpi_show(
    what: Annotated[str, typer.Argument(help="vehicles, chargers, sites, fleet, trips or health.")],
    day: DayOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    limit: LimitOption = 100,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show a day's figures, without --day the newest; --json has all columns. Example: voltgate kpi show chargers."""
    from voltgate.kpi_commands import show

    raise SystemExit(show(load_settings(config, data), what, day=day, limit=limit, as_json=as_json))

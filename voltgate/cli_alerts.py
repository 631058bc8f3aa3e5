"""The commands about alerts: parse, then call one function."""

from typing import Annotated

import typer

from voltgate.cli_options import (
    ConfigOption,
    DataOption,
    JsonOption,
    LimitOption,
    TenantOption,
    load_settings,
    new_group,
)

alerts = new_group("Alerts: what is wrong, why, and who sees to it.")
notices = new_group("Notices: what receivers were sent about alerts.")
alerts.add_typer(notices, name="notices")

ByOption = Annotated[str | None, typer.Option("--by", help="Who orders it; else who is logged in.")]
NoteOption = Annotated[str | None, typer.Option("--note", help="What others should know.")]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Do not wait to see that it took.")]
NamesArgument = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids, or the beginnings of ids.")]


# ---- to look ---------------------------------------------------------------------------------------------------------
@alerts.command("ls")
def alerts_ls(
    device_id: Annotated[str | None, typer.Option("--device", help="Only this device.")] = None,
    rule: Annotated[str | None, typer.Option("--rule", help="Only this rule, as NAME or STREAM/NAME.")] = None,
    severity: Annotated[str | None, typer.Option("--severity", help="Only info, warning or critical.")] = None,
    site: Annotated[str | None, typer.Option("--site", help="Only this site.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    limit: LimitOption = 50,
    *,
    with_resolved: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List open alerts, the worst first. Example: voltgate alerts ls --severity critical."""
    from voltgate.alert_commands import AlertFilter, list_alerts

    wanted = AlertFilter(device_id=device_id, rule=rule, severity=severity, site=site)
    list_alerts(load_settings(config, data), wanted, with_resolved=with_resolved, limit=limit, as_json=as_json)


@alerts.command("show")
def alerts_show(
    name: Annotated[str, typer.Argument(metavar="ID", help="Id, or its beginning.")],
    config: ConfigOption = None,
    data: DataOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Explain one alert: what was measured, the limit and where it comes from, what to check, what became of it."""
    from voltgate.alert_commands import show_alert

    raise SystemExit(show_alert(load_settings(config, data), name, as_json=as_json))


# ---- orders about alerts ---------------------------------------------------------------------------------------------
@alerts.command("ack")
def alerts_ack(
    names: NamesArgument,
    by: ByOption = None,
    note: NoteOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    *,
    no_wait: NoWaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say that somebody sees to it. Example: voltgate alerts ack 3fa9 --note "driver is told to stop"."""
    from voltgate.alert_commands import change_alerts

    settings = load_settings(config, data)
    raise SystemExit(change_alerts(settings, "ack", names, by=by, note=note, wait=not no_wait, as_json=as_json))


@alerts.command("unack")
def alerts_unack(
    names: NamesArgument,
    by: ByOption = None,
    note: NoteOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    *,
    no_wait: NoWaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take an acknowledgement back: nobody sees to it."""
    from voltgate.alert_commands import change_alerts

    settings = load_settings(config, data)
    raise SystemExit(change_alerts(settings, "unack", names, by=by, note=note, wait=not no_wait, as_json=as_json))


@alerts.command("resolve")
def alerts_resolve(
    names: NamesArgument,
    by: ByOption = None,
    note: NoteOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    *,
    no_wait: NoWaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say that it is over; it fires again only after its condition has ended and begins anew."""
    from voltgate.alert_commands import change_alerts

    settings = load_settings(config, data)
    raise SystemExit(change_alerts(settings, "resolve", names, by=by, note=note, wait=not no_wait, as_json=as_json))


# ---- silences --------------------------------------------------------------------------------------------------------
@alerts.command("silence")
def alerts_silence(
    matchers: Annotated[
        list[str],
        typer.Argument(metavar="MATCHER...", help="device=bus-0042, rule!=silent, site~depot-.*; all must match."),
    ],
    span: Annotated[str, typer.Option("--for", help="How long, such as 2h or 30min.")],
    why: Annotated[str, typer.Option("--why", help="The reason.")],
    by: ByOption = None,
    starts_at: Annotated[str | None, typer.Option("--from", help="When it begins, UTC; else now.")] = None,
    tenant: TenantOption = "default",
    config: ConfigOption = None,
    data: DataOption = None,
    *,
    maintenance: Annotated[bool, typer.Option("--maintenance", help="It is work on devices, not noise.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Send nobody notices about what matches. Example: voltgate alerts silence site=depot --for 2h --why "rewiring"."""
    from voltgate.alert_commands import SilenceOrder, begin_silence

    order = SilenceOrder(
        tenant=tenant,
        matchers=matchers,
        span=span,
        why=why,
        by=by,
        starts_at=starts_at,
        is_maintenance=maintenance,
    )
    raise SystemExit(begin_silence(load_settings(config, data), order, as_json=as_json))


@alerts.command("silences")
def alerts_silences(
    config: ConfigOption = None,
    data: DataOption = None,
    *,
    with_ended: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List silences."""
    from voltgate.alert_commands import list_silences

    list_silences(load_settings(config, data), with_ended=with_ended, as_json=as_json)


@alerts.command("unsilence")
def alerts_unsilence(
    silence_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the silence, from `alerts silences`.")],
    by: ByOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """End a silence now."""
    from voltgate.alert_commands import end_silence

    raise SystemExit(end_silence(load_settings(config, data), silence_id, by=by))


# ---- notices ---------------------------------------------------------------------------------------------------------
@alerts.command("test")
def alerts_test(
    receiver: Annotated[str, typer.Argument(help="Name of the receiver in alerts.yaml.")],
    by: ByOption = None,
    tenant: TenantOption = "default",
    config: ConfigOption = None,
    data: DataOption = None,
    *,
    no_wait: NoWaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Send a test notice to one receiver and say whether it arrived. Example: voltgate alerts test on-call."""
    from voltgate.notice_commands import send_test

    settings = load_settings(config, data)
    raise SystemExit(send_test(settings, receiver, tenant=tenant, by=by, wait=not no_wait, as_json=as_json))


@notices.command("ls")
def notices_ls(
    receiver: Annotated[str | None, typer.Option("--receiver", help="Only to this receiver.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    limit: LimitOption = 50,
    *,
    dead: Annotated[bool, typer.Option("--dead", help="Only those that were given up.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List notices and what became of them, newest first."""
    from voltgate.notice_commands import list_notices

    list_notices(load_settings(config, data), is_dead=dead, receiver=receiver, limit=limit, as_json=as_json)


@notices.command("retry")
def notices_retry(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Ids, from `notices ls --dead`.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    *,
    all_dead: Annotated[bool, typer.Option("--all-dead", help="All that were given up.")] = False,
) -> None:
    """Send notices again that were given up, after their receiver was mended."""
    from voltgate.notice_commands import retry_notices

    raise SystemExit(retry_notices(load_settings(config, data), ids or [], all_dead=all_dead))

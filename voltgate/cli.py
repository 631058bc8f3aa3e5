"""The commands: parse, then call one function. Imports happen inside the commands, so that `--help` is quick."""

from pathlib import Path
from typing import Annotated, Any

import typer

from voltgate import cli_alerts, cli_bundle, cli_kpis, cli_opensearch, cli_orders
from voltgate.cli_options import ConfigOption, DataOption, JsonOption, LimitOption, load_settings, new_group

app = typer.Typer(
    name="voltgate",
    help="The open gateway between electric vehicles, their chargers and the people who run them.",
    epilog="Start here: voltgate demo. Data goes to stdout, talk to stderr. Exit codes: 0 ok, 1 failed, 2 usage, "
    "3 configuration, 4 not found, 6 findings; of commands 7 rejected, 8 offline, 9 no answer in time.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _group(name: str, help_text: str) -> typer.Typer:
    group = new_group(help_text)
    app.add_typer(group, name=name)
    return group


simulate = _group("simulate", "Play vehicles, chargers, recorded trips, or load.")
contract = _group("contract", "Streams and their contracts.")
journal = _group("journal", "The journal of everything received.")
rejects = _group("rejects", "What could not become a row, and why.")
device = _group("device", "Devices that may connect.")
app.add_typer(cli_orders.command, name="command")
app.add_typer(cli_orders.charger, name="charger")
app.add_typer(cli_orders.asset, name="asset")
app.add_typer(cli_alerts.alerts, name="alerts")
app.add_typer(cli_kpis.kpi, name="kpi")
app.add_typer(cli_opensearch.opensearch, name="opensearch")
app.add_typer(cli_bundle.bundle, name="bundle")


# ---- run -------------------------------------------------------------------------------------------------------------
@app.command()
def demo(
    data: Annotated[Path, typer.Option("--data", help="Where the demo keeps its data.")] = Path("demo-data"),
    duration: Annotated[
        float | None, typer.Option("--duration", min=1, help="Seconds; without it until Ctrl-C.")
    ] = None,
    vehicles: Annotated[int, typer.Option("--vehicles", min=1, max=5000, help="Simulated vehicles.")] = 40,
    chargers: Annotated[int, typer.Option("--chargers", min=1, max=1000, help="Simulated chargers.")] = 12,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="MQTT port; 0 takes a free one.")] = 1883,
    ocpp_port: Annotated[int, typer.Option("--ocpp-port", min=0, max=65535, help="The same for OCPP.")] = 9000,
) -> None:
    """Run everything on this machine with a simulated fleet. Example: voltgate demo --duration 60."""
    from voltgate.demo import run_demo

    raise SystemExit(
        run_demo(data, duration_s=duration, vehicles=vehicles, chargers=chargers, port=port, ocpp_port=ocpp_port)
    )


InsecureOption = Annotated[bool, typer.Option("--insecure", help="Listen beyond this machine without TLS.")]


def _run_settings(config: Path | None, data: Path | None, insecure: bool) -> Any:  # noqa: FBT001 - from an option
    return load_settings(config, data, **({"gateway.insecure": True} if insecure else {}))


@app.command()
def run(config: ConfigOption = None, data: DataOption = None, *, insecure: InsecureOption = False) -> None:
    """Run gateway and processors, supervised. Example: voltgate run --data /var/lib/voltgate."""
    from voltgate.compose import children
    from voltgate.output import say
    from voltgate.supervise import Supervisor, stop_on_signals

    supervisor = Supervisor(children(_run_settings(config, data, insecure), config), say=say)
    raise SystemExit(supervisor.run(stop_on_signals(supervisor.reload)))


@app.command()
def gateway(config: ConfigOption = None, data: DataOption = None, *, insecure: InsecureOption = False) -> None:
    """Run the gateway alone: terminate MQTT and make bytes durable."""
    from voltgate.compose import become

    become(_run_settings(config, data, insecure), "gateway", config=config)


@app.command()
def processors(
    config: ConfigOption = None,
    data: DataOption = None,
    *,
    drain: Annotated[bool, typer.Option("--drain", help="Process what the journal holds, then end.")] = False,
) -> None:
    """Run the processors alone: journal to lake."""
    from voltgate.compose import become

    become(load_settings(config, data), "processors", *(["--drain"] if drain else []), config=config)


@app.command()
def check(config: ConfigOption = None, data: DataOption = None, *, as_json: JsonOption = False) -> None:
    """Check settings and contracts without starting anything; every finding has file, line and mend."""
    from voltgate.status import check_configuration

    raise SystemExit(check_configuration(config, data, as_json=as_json))


@app.command()
def doctor(config: ConfigOption = None, data: DataOption = None, *, as_json: JsonOption = False) -> None:
    """Find out what is wrong: numbered checks, each with its mend; exit code 6 when there is something to mend."""
    from voltgate.doctor import run_doctor

    raise SystemExit(run_doctor(config, data, as_json=as_json))


@app.command()
def status(
    config: ConfigOption = None,
    data: DataOption = None,
    interval: Annotated[float, typer.Option("--interval", min=0.1, max=3600, help="Seconds, with --watch.")] = 2.0,
    count: Annotated[int | None, typer.Option("--count", min=1, help="With --watch: end after so many.")] = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Show rates, again and again, until Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what runs, how far the cursors are, and the ledger. Example: voltgate status --watch."""
    settings = load_settings(config, data)
    if watch:
        from voltgate.status_watch import watch_status

        raise SystemExit(watch_status(settings, interval_s=interval, count=count, as_json=as_json))
    from voltgate.status import show_status

    raise SystemExit(show_status(settings, as_json=as_json))


@app.command()
def tail(
    config: ConfigOption = None,
    data: DataOption = None,
    device_id: Annotated[str | None, typer.Option("--device", help="Only this device.")] = None,
    channel: Annotated[str | None, typer.Option("--channel", help="Only this channel.")] = None,
    count: Annotated[int | None, typer.Option("--count", min=1, help="End after so many messages.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show messages as they become durable. Example: voltgate tail --device bus-0042 --json."""
    from voltgate.inspectors import follow

    follow(load_settings(config, data), device_id=device_id, channel=channel, count=count, as_json=as_json)


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="One read-only DuckDB statement; tables are the lake's.")],
    config: ConfigOption = None,
    data: DataOption = None,
    limit: LimitOption = 1000,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=3600, help="Seconds.")] = 30.0,
    *,
    as_json: JsonOption = False,
) -> None:
    """Ask the lake. Example: voltgate query "select device_id, max(soc_pct) from vehicle_telemetry group by 1"."""
    from voltgate.inspectors import ask

    ask(load_settings(config, data), sql, rows_max=limit, timeout_s=timeout, as_json=as_json)


@app.command()
def version(*, as_json: JsonOption = False) -> None:
    """Show the version of Voltgate and of what it stands on."""
    from voltgate.status import show_version

    show_version(as_json=as_json)


# ---- simulate --------------------------------------------------------------------------------------------------------
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def _simulate(kind: str, context: typer.Context) -> None:
    from simulators.__main__ import main

    raise SystemExit(main([kind, *context.args], prog="voltgate simulate"))


@simulate.command("vehicles", context_settings=PASS_ON)
def simulate_vehicles(context: typer.Context) -> None:
    """Drive simulated buses and cars; options: voltgate simulate vehicles --help."""
    _simulate("vehicles", context)


@simulate.command("chargers", context_settings=PASS_ON)
def simulate_chargers(context: typer.Context) -> None:
    """Play chargers of any OCPP version, or recorded sessions; options: voltgate simulate chargers --help."""
    _simulate("chargers", context)


@simulate.command("depot", context_settings=PASS_ON)
def simulate_depot(context: typer.Context) -> None:
    """Drive vehicles that charge at simulated chargers; options: voltgate simulate depot --help."""
    _simulate("depot", context)


@simulate.command("replay", context_settings=PASS_ON)
def simulate_replay(context: typer.Context) -> None:
    """Publish recorded trips; options: voltgate simulate replay --help."""
    _simulate("replay", context)


@simulate.command("load", context_settings=PASS_ON)
def simulate_load(context: typer.Context) -> None:
    """Publish as fast as asked, and count what is acknowledged; options: voltgate simulate load --help."""
    _simulate("load", context)


# ---- contracts -------------------------------------------------------------------------------------------------------
@contract.command("ls")
def contract_ls(config: ConfigOption = None, data: DataOption = None, *, as_json: JsonOption = False) -> None:
    """List streams, their channels and where they are defined."""
    from voltgate.contract_commands import list_contracts

    list_contracts(load_settings(config, data), as_json=as_json)


@contract.command("check")
def contract_check(
    files: Annotated[list[Path] | None, typer.Argument(help="Contract files; else all in use.")] = None,
    against: Annotated[Path | None, typer.Option("--against", help="The released version to compare with.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Check contracts; with --against also whether the version number admits the change."""
    from voltgate.contract_commands import check_contracts

    raise SystemExit(check_contracts(load_settings(config, data), files or [], against=against, as_json=as_json))


@contract.command("export")
def contract_export(
    stream: Annotated[str, typer.Argument(help="Stream name.")],
    form: Annotated[str, typer.Option("--format", help="odcs or text.")] = "odcs",
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Print a contract as Open Data Contract Standard 3.1, or as a catalogue page."""
    from voltgate.contract_commands import export_contract

    export_contract(load_settings(config, data), stream, form)


# ---- journal ---------------------------------------------------------------------------------------------------------
@journal.command("verify")
def journal_verify(config: ConfigOption = None, data: DataOption = None, *, as_json: JsonOption = False) -> None:
    """Check every frame's checksum; exit code 6 when something is torn or corrupt."""
    from voltgate.inspectors import verify_journal

    raise SystemExit(verify_journal(load_settings(config, data), as_json=as_json))


@journal.command("stats")
def journal_stats(config: ConfigOption = None, data: DataOption = None, *, as_json: JsonOption = False) -> None:
    """Show size, offsets, ages and who wrote how much."""
    from voltgate.inspectors import journal_statistics

    journal_statistics(load_settings(config, data), as_json=as_json)


@journal.command("dump")
def journal_dump(
    offset: Annotated[int, typer.Option("--offset", min=0, help="First offset.")] = 0,
    config: ConfigOption = None,
    data: DataOption = None,
    limit: LimitOption = 20,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show entries from an offset on."""
    from voltgate.inspectors import dump_journal

    dump_journal(load_settings(config, data), offset=offset, limit=limit, as_json=as_json)


# ---- rejects ---------------------------------------------------------------------------------------------------------
@rejects.command("ls")
def rejects_ls(
    config: ConfigOption = None,
    data: DataOption = None,
    code: Annotated[str | None, typer.Option("--code", help="Only this reason.")] = None,
    device_id: Annotated[str | None, typer.Option("--device", help="Only this device.")] = None,
    limit: LimitOption = 50,
    *,
    as_json: JsonOption = False,
) -> None:
    """List rejects, newest first, with reason, place, what was expected and what came."""
    from voltgate.reject_commands import list_rejects

    list_rejects(load_settings(config, data), code=code, device_id=device_id, limit=limit, as_json=as_json)


@rejects.command("show")
def rejects_show(
    offset: Annotated[int, typer.Argument(help="Journal offset of the reject, from `rejects ls`.")],
    config: ConfigOption = None,
    data: DataOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show one reject with its bytes."""
    from voltgate.reject_commands import show_reject

    raise SystemExit(show_reject(load_settings(config, data), offset, as_json=as_json))


@rejects.command("retry")
def rejects_retry(
    offsets: Annotated[list[int] | None, typer.Argument(help="Journal offsets; or use --code.")] = None,
    code: Annotated[str | None, typer.Option("--code", help="All rejects with this reason.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Put rejected payloads into the journal again, after a contract was mended. The gateway must run."""
    from voltgate.reject_commands import retry_rejects

    raise SystemExit(retry_rejects(load_settings(config, data), offsets or [], code=code, as_json=as_json))


# ---- devices ---------------------------------------------------------------------------------------------------------
ProfileOption = Annotated[
    int | None, typer.Option("--security-profile", min=0, max=3, help="Lowest OCPP security profile; of a new one 1.")
]
StrictnessOption = Annotated[str | None, typer.Option("--strictness", help="strict, lenient or audit; else as set.")]
CertificateNameOption = Annotated[
    str | None, typer.Option("--certificate-name", help="CN of the charger's certificate; else its login.")
]


@device.command("add")
def device_add(
    device_id: Annotated[str, typer.Argument(help="Name of the device, the third level of its topics.")],
    tenant: Annotated[str, typer.Option("--tenant", help="Whose device it is.")] = "default",
    username: Annotated[str | None, typer.Option("--username", help="Login; else the device id.")] = None,
    password_file: Annotated[Path | None, typer.Option("--password-file", help="Else one is made.")] = None,
    note: Annotated[str, typer.Option("--note", help="For people.")] = "",
    config: ConfigOption = None,
    data: DataOption = None,
    security_profile: ProfileOption = None,
    strictness: StrictnessOption = None,
    certificate_name: CertificateNameOption = None,
    *,
    charger: Annotated[bool, typer.Option("--charger", help="It speaks OCPP; its login is its identity.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Register a device; a password that is made is shown this once. Example: voltgate device add CP-1 --charger."""
    from voltgate.device_commands import Rules, add_device

    add_device(
        load_settings(config, data),
        tenant,
        device_id,
        username=username,
        password_file=password_file,
        note=note,
        is_charger=charger,
        rules=Rules(security_profile, strictness, certificate_name),
        as_json=as_json,
    )


@device.command("change")
def device_change(
    device_id: Annotated[str, typer.Argument(help="Name of the charger.")],
    tenant: Annotated[str, typer.Option("--tenant", help="Whose device it is.")] = "default",
    security_profile: ProfileOption = None,
    strictness: StrictnessOption = None,
    certificate_name: CertificateNameOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Change how a charger must connect, and keep its password; it is disconnected and comes back within seconds."""
    from voltgate.device_commands import Rules, change_device

    rules = Rules(security_profile, strictness, certificate_name)
    raise SystemExit(change_device(load_settings(config, data), tenant, device_id, rules))


@device.command("ls")
def device_ls(config: ConfigOption = None, data: DataOption = None, *, as_json: JsonOption = False) -> None:
    """List registered devices."""
    from voltgate.device_commands import list_devices

    list_devices(load_settings(config, data), as_json=as_json)


@device.command("show")
def device_show(
    device_id: Annotated[str, typer.Argument(help="Name of the device.")],
    tenant: Annotated[str, typer.Option("--tenant", help="Whose device it is.")] = "default",
    config: ConfigOption = None,
    data: DataOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what is registered of a device, and the newest value of every field with how old it is."""
    from voltgate.device_commands import show_device

    raise SystemExit(show_device(load_settings(config, data), tenant, device_id, as_json=as_json))


@device.command("revoke")
def device_revoke(
    device_id: Annotated[str, typer.Argument(help="Name of the device.")],
    tenant: Annotated[str, typer.Option("--tenant", help="Whose device it is.")] = "default",
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Refuse the device from now on; a live connection is closed within seconds."""
    from voltgate.device_commands import revoke_device

    raise SystemExit(revoke_device(load_settings(config, data), tenant, device_id))

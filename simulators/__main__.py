"""`python -m simulators KIND`: the simulators without the rest of Voltgate, against any MQTT or OCPP server.

The summary is one JSON object on standard output, progress goes to standard error. Exit 0 when everything that was sent
is acknowledged, 1 when not or when the run could not be made, 2 when the command line is wrong.
"""

import argparse
import asyncio
import json
import resource
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from simulators.chargers.faults import ChargerFaultRates
from simulators.chargers.fleet import ChargersConfig, ChargersSummary, run_chargers
from simulators.chargers.hardware import VERSIONS
from simulators.chargers.link import CentralSystem
from simulators.chargers.replay_sessions import ReplaySessionsConfig, run_replay_sessions
from simulators.depot import DepotConfig, DepotSummary, run_depot
from simulators.faults import FaultRates
from simulators.load import LoadConfig, LoadSummary, run_load
from simulators.replay import ReplayConfig, ReplaySummary, run_replay
from simulators.scenarios.orders import CHARGER_KINDS, VEHICLE_KINDS, FaultOrder, read_order
from simulators.target import DEFAULT_TENANT, Credentials, Progress, SimulationError, Target
from simulators.vehicles.fleet import VehiclesConfig, VehiclesSummary, run_vehicles

Summary = VehiclesSummary | ReplaySummary | LoadSummary | ChargersSummary | DepotSummary


def main(argv: list[str] | None = None, *, prog: str = "python -m simulators") -> int:
    """Run one simulator and return the exit code; `prog` is what the help calls the command."""
    arguments = _parser(prog).parse_args(argv)
    _allow_many_files()
    try:
        summary = uvloop.run(_until_interrupted(arguments))
    except SimulationError as exc:
        print(f"simulators: {exc}", file=sys.stderr)
        return 1
    print(json.dumps(msgspec.to_builtins(summary), indent=2))
    return 0 if _is_complete(summary) else 1


def _is_complete(summary: Summary) -> bool:
    """Whether everything that was sent is acknowledged."""
    match summary:
        case ChargersSummary() | DepotSummary():
            return summary.is_complete
        case ReplaySummary():
            return summary.acknowledged == summary.published
        case _:
            return summary.acknowledged == summary.sent


async def _until_interrupted(arguments: argparse.Namespace) -> Summary:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return await _run(arguments, stop)


def _run(arguments: argparse.Namespace, stop: asyncio.Event) -> Coroutine[Any, Any, Summary]:
    given: dict[str, Any] = vars(arguments).copy()
    kind = given.pop("simulator")
    if given.pop("mode", None) is not None:
        kind = "replay-sessions"
    credentials = _credentials(given.pop("credentials"))
    if kind not in ("chargers", "replay-sessions"):
        given["target"] = Target(
            host=given.pop("host"), port=given.pop("port"), tenant=given.pop("tenant"), credentials=credentials
        )
    if kind in ("chargers", "replay-sessions", "depot"):
        names = [name for name in CentralSystem.__struct_fields__ if name in given]
        given["server"] = CentralSystem(credentials=credentials, **{name: given.pop(name) for name in names})
    if "scenarios" in given:
        given["scenarios"] = tuple(given["scenarios"])
    match kind:
        case "vehicles":
            given["faults"] = FaultRates(**{name: given.pop(name) for name in FaultRates.__struct_fields__})
            return run_vehicles(VehiclesConfig(**given), stop=stop, on_progress=_show)
        case "replay":
            given["files"] = tuple(given["files"])
            return run_replay(ReplayConfig(**given), stop=stop, on_progress=_show)
        case "chargers":
            rates = {name: given.pop(name) for name in ChargerFaultRates.__struct_fields__}
            return run_chargers(
                ChargersConfig(faults=ChargerFaultRates(**rates), **given), stop=stop, on_progress=_show
            )
        case "replay-sessions":
            # The namespace also has the options of `chargers`, whose sub-command this is.
            named = {name: given[name] for name in ReplaySessionsConfig.__struct_fields__ if name in given}
            return run_replay_sessions(ReplaySessionsConfig(**named), stop=stop, on_progress=_show)
        case "depot":
            given["faults"] = FaultRates(**{name: given.pop(name) for name in FaultRates.__struct_fields__})
            return run_depot(DepotConfig(**given), stop=stop, on_progress=_show)
    return run_load(LoadConfig(**given), stop=stop, on_progress=_show)


def _credentials(file: Path | None) -> dict[str, Credentials]:
    if file is None:
        return {}
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Credentials])
    except OSError as exc:
        raise SimulationError(f"{file}: {exc.strerror}; give a file that can be read") from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise SimulationError(f'{file}: {exc}; write {{"device": ["username", "password"], ...}}') from exc


def _show(progress: Progress) -> None:
    rate = progress.acknowledged / progress.elapsed_s if progress.elapsed_s else 0.0
    print(
        f"{progress.elapsed_s:7.1f} s  {progress.connected} connected  {progress.sent} sent  "
        f"{progress.acknowledged} acknowledged  {rate:.0f}/s",
        file=sys.stderr,
    )


def _allow_many_files() -> None:
    """A connection is a file, and the usual soft limit is 1,024 of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _probability(text: str) -> float:
    """Return the number. Raises: argparse.ArgumentTypeError: It is not between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is no probability; give a number from 0 to 1")
    return value


def _order(text: str) -> FaultOrder:
    """Return the order. Raises: argparse.ArgumentTypeError: The text is none."""
    try:
        return read_order(text)
    except SimulationError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description="Play devices against any MQTT or OCPP server.")
    kinds = parser.add_subparsers(dest="simulator", required=True)
    credentials = argparse.ArgumentParser(add_help=False)
    credentials.add_argument("--credentials", type=Path, help='JSON file {"device": ["username", "password"]}')
    mqtt = argparse.ArgumentParser(add_help=False, parents=[credentials])
    mqtt.add_argument("--host", default="127.0.0.1")
    mqtt.add_argument("--port", type=int, default=1883)
    mqtt.add_argument("--tenant", default=DEFAULT_TENANT)
    ocpp = argparse.ArgumentParser(add_help=False)
    ocpp.add_argument("--url", default=CentralSystem().url, help="the charger's id is appended")
    ocpp.add_argument("--ca", type=Path, help="certificate that a wss:// server's is signed with, PEM")
    ocpp.add_argument("--response-timeout", dest="response_timeout_s", type=float, default=30.0)
    ocpp.add_argument("--acknowledged-file", type=Path, help="where to note every answered call")
    _vehicles(kinds.add_parser("vehicles", parents=[mqtt], help="a fleet of buses and cars"))
    _replay(kinds.add_parser("replay", parents=[mqtt], help="recorded trips from CSV files"))
    _load(kinds.add_parser("load", parents=[mqtt], help="as many messages as a server takes"))
    chargers = kinds.add_parser("chargers", parents=[credentials, ocpp], help="a fleet of chargers over OCPP")
    _chargers(chargers)
    modes = chargers.add_subparsers(dest="mode", metavar="replay-sessions")
    _replay_sessions(modes.add_parser("replay-sessions", parents=[credentials, ocpp], help="recorded DC sessions"))
    _depot(kinds.add_parser("depot", parents=[mqtt, ocpp], help="vehicles and the chargers they charge at"))
    return parser


def _vehicles(parser: argparse.ArgumentParser) -> None:
    defaults = VehiclesConfig(target=Target())
    parser.add_argument("--buses", type=int, default=defaults.buses)
    parser.add_argument("--cars", type=int, default=defaults.cars)
    _run_options(parser)
    _fault_option(parser, VEHICLE_KINDS)
    for name in FaultRates.__struct_fields__:
        parser.add_argument(f"--{name}", type=_probability, default=0.0, help="probability per message")


def _fault_option(parser: argparse.ArgumentParser, kinds: tuple[str, ...]) -> None:
    parser.add_argument(
        "--fault",
        dest="scenarios",
        type=_order,
        action="append",
        default=[],
        metavar="KIND[:DEVICE]@SECONDS",
        help=f"lets a device fail, repeatable; KIND: {', '.join(kinds)}; SECONDS: simulated, after the start",
    )


def _run_options(parser: argparse.ArgumentParser) -> None:
    defaults = VehiclesConfig(target=Target())
    parser.add_argument("--seconds", type=float, help="default: until interrupted")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--pace", type=float, default=defaults.pace, help="simulated seconds per second")
    parser.add_argument("--truth-file", type=Path, help="where to note what must come out")


def _replay(parser: argparse.ArgumentParser) -> None:
    defaults = ReplayConfig(target=Target(), files=())
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--channel", default=defaults.channel)
    parser.add_argument("--device-prefix", default=defaults.device_prefix)
    parser.add_argument("--speed", type=float, default=defaults.speed, help="1 for the recorded pace, 0 for full speed")
    parser.add_argument("--window", type=int, default=defaults.window)
    parser.add_argument("--truth-file", type=Path, help="where to note what must come out")


def _load(parser: argparse.ArgumentParser) -> None:
    defaults = LoadConfig(target=Target())
    parser.add_argument("--connections", type=int, default=defaults.connections)
    parser.add_argument("--window", type=int, default=defaults.window)
    parser.add_argument("--rate", dest="rate_per_s", type=float, help="messages a second; default: as windows allow")
    parser.add_argument("--seconds", type=float, default=defaults.seconds)
    parser.add_argument("--device-prefix", default=defaults.device_prefix)
    parser.add_argument("--idle", action="store_true", help="connect and hold, send nothing")
    parser.add_argument("--survive", action="store_true", help="reconnect and resend when the server goes away")
    parser.add_argument("--acknowledged-file", type=Path, help="where to note every acknowledged message")


def _chargers(parser: argparse.ArgumentParser) -> None:
    defaults = ChargersConfig()
    _run_options(parser)
    _fault_option(parser, CHARGER_KINDS)
    parser.add_argument("--count", type=int, default=defaults.count)
    parser.add_argument("--prefix", default=defaults.prefix, help="of the chargers' ids")
    parser.add_argument("--version", choices=("mixed", *VERSIONS), default=defaults.version)
    parser.add_argument("--meter-interval", dest="meter_interval_s", type=int, default=defaults.meter_interval_s)
    parser.add_argument(
        "--gap", dest="gap_s", type=float, default=defaults.gap_s, help="mean simulated seconds that an outlet is free"
    )
    parser.add_argument("--sessions", type=Path, help="DESL sessions.csv to draw from; default: a table made from it")
    parser.add_argument(
        "--drain", dest="drain_s", type=float, default=defaults.drain_s, help="longest wait for answers at the end"
    )
    for name in ChargerFaultRates.__struct_fields__:
        parser.add_argument(f"--{name.replace('_', '-')}", type=_probability, default=0.0, help="probability")


def _replay_sessions(parser: argparse.ArgumentParser) -> None:
    defaults = ReplaySessionsConfig(file=Path())
    parser.add_argument("--file", type=Path, required=True, help="sessions.csv of the DESL data set")
    parser.add_argument("--version", choices=VERSIONS, default=defaults.version)
    parser.add_argument("--stations", type=int, default=defaults.stations, help="deal the sessions to so many")
    parser.add_argument("--prefix", default=defaults.prefix, help="of the stations' ids")
    parser.add_argument("--meter-values", type=int, default=defaults.meter_values, help="inside each session")
    parser.add_argument("--limit", type=int, help="the first so many sessions; default: all")
    parser.add_argument("--truth-file", type=Path, help="where to note what must come out")


def _depot(parser: argparse.ArgumentParser) -> None:
    defaults = DepotConfig(target=Target())
    _run_options(parser)
    _fault_option(parser, (*VEHICLE_KINDS, *CHARGER_KINDS))
    parser.add_argument("--buses", type=int, default=defaults.buses)
    parser.add_argument("--cars", type=int, default=defaults.cars)
    parser.add_argument("--chargers", type=int, default=defaults.chargers)
    parser.add_argument("--version", choices=("mixed", *VERSIONS), default=defaults.version)
    parser.add_argument("--meter-interval", dest="meter_interval_s", type=int, default=defaults.meter_interval_s)
    parser.add_argument("--plugged", type=_probability, default=defaults.plugged, help="part that begins at a charger")
    parser.add_argument("--anonymous", type=_probability, default=defaults.anonymous, help="part with a foreign token")
    parser.add_argument("--charger-truth-file", type=Path, help="where to note the sessions that must come out")
    parser.add_argument("--charger-dirt", type=_probability, default=defaults.charger_dirt, help="per meter value")
    for name in FaultRates.__struct_fields__:
        parser.add_argument(f"--{name}", type=_probability, default=0.0, help="probability per vehicle's message")


if __name__ == "__main__":
    sys.exit(main())

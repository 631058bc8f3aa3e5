"""`python -m simulators vehicles|replay|load`: the simulators without the rest of Voltgate, against any MQTT server.

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

from simulators.faults import FaultRates
from simulators.load import LoadConfig, LoadSummary, run_load
from simulators.replay import ReplayConfig, ReplaySummary, run_replay
from simulators.target import DEFAULT_TENANT, Credentials, Progress, SimulationError, Target
from simulators.vehicles.fleet import VehiclesConfig, VehiclesSummary, run_vehicles

Summary = VehiclesSummary | ReplaySummary | LoadSummary


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
    sent = summary.published if isinstance(summary, ReplaySummary) else summary.sent
    return 0 if summary.acknowledged == sent else 1


async def _until_interrupted(arguments: argparse.Namespace) -> Summary:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return await _run(arguments, stop)


def _run(arguments: argparse.Namespace, stop: asyncio.Event) -> Coroutine[Any, Any, Summary]:
    given: dict[str, Any] = vars(arguments).copy()
    kind = given.pop("simulator")
    given["target"] = Target(
        host=given.pop("host"),
        port=given.pop("port"),
        tenant=given.pop("tenant"),
        credentials=_credentials(given.pop("credentials")),
    )
    if kind == "vehicles":
        given["faults"] = FaultRates(**{name: given.pop(name) for name in FaultRates.__struct_fields__})
        return run_vehicles(VehiclesConfig(**given), stop=stop, on_progress=_show)
    if kind == "replay":
        given["files"] = tuple(given["files"])
        return run_replay(ReplayConfig(**given), stop=stop, on_progress=_show)
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


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description="Play devices against any MQTT server.")
    kinds = parser.add_subparsers(dest="simulator", required=True)
    everywhere = argparse.ArgumentParser(add_help=False)
    everywhere.add_argument("--host", default="127.0.0.1")
    everywhere.add_argument("--port", type=int, default=1883)
    everywhere.add_argument("--tenant", default=DEFAULT_TENANT)
    everywhere.add_argument("--credentials", type=Path, help='JSON file {"device": ["username", "password"]}')
    _vehicles(kinds.add_parser("vehicles", parents=[everywhere], help="a fleet of buses and cars"))
    _replay(kinds.add_parser("replay", parents=[everywhere], help="recorded trips from CSV files"))
    _load(kinds.add_parser("load", parents=[everywhere], help="as many messages as a server takes"))
    return parser


def _vehicles(parser: argparse.ArgumentParser) -> None:
    defaults = VehiclesConfig(target=Target())
    parser.add_argument("--buses", type=int, default=defaults.buses)
    parser.add_argument("--cars", type=int, default=defaults.cars)
    parser.add_argument("--seconds", type=float, help="default: until interrupted")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--pace", type=float, default=defaults.pace, help="simulated seconds per second")
    parser.add_argument("--truth-file", type=Path, help="where to note what must come out")
    for name in FaultRates.__struct_fields__:
        parser.add_argument(f"--{name}", type=_probability, default=0.0, help="probability per message")


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


if __name__ == "__main__":
    sys.exit(main())

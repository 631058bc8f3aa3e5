"""A gateway dies while thousands of chargers are in the middle of calls; all come back at once."""

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from gateway.configuration import open_registry
from gateway.core.credentials import DeviceKind
from gateway.core.limits import MIB
from gateway.core.settings import Settings
from gateway.journal.reader import SegmentReader
from tests.bench.harness import BenchError, Child, Workspace, listens, python, wait_until
from tests.bench.ocpp_commands import command_all
from tests.bench.ocpp_load import identity
from tests.bench.ocpp_outage_client import OutageConfig, Reunion
from tests.bench.ocpp_servers import RPC, gateway_environ, has_rpc, rpc_command
from tests.bench.report import Row, row

NAME: Final = "ocpp_reconnect_s"
COMMANDS_NAME: Final = "ocpp_command_all_s"
STATIONS: Final = 5_000
QUICK_STATIONS: Final = 500
CALLING_S: Final = 2.0
TIMEOUT_S: Final = 120.0
METER_VALUES: Final = "ocpp1.6/MeterValues"
NETSTAT: Final = Path("/proc/net/netstat")
ENTRIES_READ: Final = 50_000
ENDS: Final = {"after_kill": signal.SIGKILL, "after_sigterm": signal.SIGTERM}


class Outage(msgspec.Struct, frozen=True, kw_only=True):
    """One outage.

    Attributes:
        start_s: From the end of the old process until the new one listens.
        accepted_s: From the end of the old process to the last handshake.
        answered_s: From there to the last answer of a call that had been lost.
        commands_s: How long one command to all of them took afterwards, None for the peer.
        overflows: Connections that the system dropped meanwhile because nobody had accepted those before them; their
            stations try again after 1, 2, 4 ... seconds.
        reunion: What the stations saw.
    """

    start_s: float
    accepted_s: float
    answered_s: float
    commands_s: float | None
    overflows: int
    reunion: Reunion


def measure(workspace: Workspace, *, quick: bool) -> list[Row]:
    """Return the rows. Raises: BenchError: An acknowledged message is not in the journal."""
    stations = QUICK_STATIONS if quick else STATIONS
    rounds = 1 if quick else 2
    ours = {end: [_ours(workspace, stations, signum) for _ in range(rounds)] for end, signum in ENDS.items()}
    theirs = [_peer(workspace, stations) for _ in range(rounds)] if has_rpc() else []
    killed = ours["after_kill"]
    return [
        row(
            NAME,
            _median(killed, "answered_s"),
            "s",
            peer=RPC if theirs else None,
            peer_value=_median(theirs, "answered_s") if theirs else None,
        ),
        row(f"{NAME}/start", _median(killed, "start_s"), "s"),
        row(f"{NAME}/accepted", _median(killed, "accepted_s"), "s"),
        row(f"{NAME}/after_sigterm", _median(ours["after_sigterm"], "answered_s"), "s"),
        row(COMMANDS_NAME, _median([each for end in ours.values() for each in end], "commands_s"), "s"),
    ]


def _median(outages: list[Outage], name: str) -> float:
    return float(median(getattr(outage, name) for outage in outages))


def _ours(workspace: Workspace, stations: int, signum: int) -> Outage:
    """Return one outage of the gateway, its stations registered with passwords."""
    data, port = workspace.fresh("gateway"), steady_port()
    passwords = register(data, stations)

    def start() -> Child:
        environ = gateway_environ(port, allow_unauthenticated=False)
        return Child(python("gateway", "--data", data), log=data / "gateway.log", environ=environ)

    def command() -> float:
        return command_all(data, [identity(index) for index in range(stations)])

    outage = _outage(start, port, passwords, signum, log=data / "stations.log", afterwards=command)
    _check_journal(data, outage.reunion.acknowledged)
    _tell(f"gateway, {signal.Signals(signum).name}", outage)
    workspace.discard(data)
    return outage


def _peer(workspace: Workspace, stations: int) -> Outage:
    """Return one outage of ocpp-rpc, killed; it asks for no passwords and keeps nothing."""
    directory, port = workspace.fresh("ocpp-rpc"), steady_port()
    command, environ = rpc_command(port)

    def start() -> Child:
        return Child(command, log=directory / "rpc.log", environ=environ)

    outage = _outage(start, port, [None] * stations, signal.SIGKILL, log=directory / "stations.log")
    _tell("ocpp-rpc, SIGKILL", outage)
    workspace.discard(directory)
    return outage


def steady_port() -> int:
    """Return a free port that no client is given: one that knocks while nobody listens could be given the very port."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in range(lowest - 1, 1024, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise BenchError(f"no port below {lowest} is free")


def register(data: Path, stations: int) -> list[str | None]:
    """Add the stations to the registry of a data directory and return their passwords."""
    registry = open_registry(Settings(data=data))
    now_ns = time.time_ns()
    added = [
        registry.add(tenant="default", device_id=identity(index), now_ns=now_ns, kind=DeviceKind.CHARGER)
        for index in range(stations)
    ]
    registry.close()
    return [each.password for each in added]


def _outage(
    start: Callable[[], Child],
    port: int,
    passwords: list[str | None],
    signum: int,
    *,
    log: Path,
    afterwards: Callable[[], float] | None = None,
) -> Outage:
    """Let the stations call, end the server, start it again, and return how they came back."""
    config_file = log.with_suffix(".json")
    config_file.write_bytes(msgspec.json.encode(OutageConfig(port=port, passwords=passwords)))
    with ExitStack() as children:
        first = children.enter_context(start())
        wait_until("listening", lambda: listens(port), child=first)
        stations = children.enter_context(
            Child(python("tests.bench.ocpp_outage_client", config_file), log=log, piped=True)
        )
        stations.read_json(TIMEOUT_S)
        time.sleep(CALLING_S)
        overflows = listen_overflows(NETSTAT.read_text())
        os.kill(first.pid, signum)
        first.stop()
        ended_s = time.monotonic()
        second = children.enter_context(start())
        wait_until("listening", lambda: listens(port), child=second)
        listening_s = time.monotonic()
        reunion = msgspec.convert(stations.read_json(TIMEOUT_S), Reunion)
        commands_s = None if afterwards is None else afterwards()
        second.check()
    return Outage(
        start_s=listening_s - ended_s,
        accepted_s=reunion.accepted_at_s - ended_s,
        answered_s=reunion.answered_at_s - ended_s,
        commands_s=commands_s,
        overflows=listen_overflows(NETSTAT.read_text()) - overflows,
        reunion=reunion,
    )


def _check_journal(data: Path, acknowledged: Sequence[int]) -> None:
    """Count what was acknowledged in the journal. Raises: BenchError: Something is not there."""
    found: dict[str, set[int]] = {identity(index): set() for index in range(len(acknowledged))}
    reader = SegmentReader(data / "ingest")
    offset, entries = reader.start_offset(), 0
    while len(batch := reader.read(offset, rows_max=ENTRIES_READ, bytes_max=64 * MIB)):
        for entry in batch.entries():
            if entry.envelope.route.channel == METER_VALUES:
                found[entry.envelope.route.device_id].add(int(entry.envelope.payload[4:12]))
                entries += 1
        offset = batch.end_offset
    if missing := lost_calls(found, acknowledged):
        raise BenchError(f"{len(missing)} acknowledged calls are not in the journal, the first: {missing[:3]}")
    repeats = entries - sum(map(len, found.values()))
    print(f"  journal: all {sum(acknowledged):,} acknowledged calls, {repeats:,} of them twice (their answer was lost)")


def listen_overflows(netstat: str) -> int:
    """Return the ListenOverflows of a `/proc/net/netstat` text: since the start of the machine, of all sockets."""
    names, values = (line.split() for line in netstat.splitlines() if line.startswith("TcpExt:"))
    return int(values[names.index("ListenOverflows")])


def lost_calls(found: Mapping[str, Set[int]], acknowledged: Sequence[int]) -> list[tuple[str, int]]:
    """Return the calls that were acknowledged and are not there.

    Args:
        found: Numbers in the journal by station.
        acknowledged: Highest number acknowledged by station; those from 1 to it were.
    """
    return [
        (identity(index), number)
        for index, last in enumerate(acknowledged)
        for number in range(1, last + 1)
        if number not in found[identity(index)]
    ]


def _tell(who: str, outage: Outage) -> None:
    print(
        f"  {who}: listens after {outage.start_s:.1f} s, all accepted {outage.accepted_s:.1f} s, "
        f"all answered {outage.answered_s:.1f} s, listen queue overflows {outage.overflows}, "
        f"refusals {outage.reunion.refusals}"
        + ("" if outage.commands_s is None else f"; a command to all {outage.commands_s:.1f} s"),
        flush=True,
    )

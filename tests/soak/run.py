"""One soak: a real node, the whole of Voltgate under its supervisor, a fleet, and somebody who looks every second."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.request import urlopen

import msgspec
import psutil
from prometheus_client.parser import text_string_to_metric_families

from gateway.configuration import load_settings
from gateway.journal.disk import read_durable
from processors.contracts.load import load_contracts
from tests.fault.indexing import compare, from_lake, from_node
from tests.fault.programs import Supervised
from tests.fault.rounds import free_port
from tests.installation import environment, until
from tests.services.opensearch import Node
from tests.soak.load import LoadConfig, LoadResult
from voltgate.ledger import read_balance

LAG_S: Final = 5.0
"""An index that is no farther behind has caught up."""
WARM_UP_SHARE: Final = 0.25
"""Of the time; what is allocated once is allocated by then."""
SETTLE_S: Final = 180.0
MIB: Final = 2**20
PROGRAMS: Final = ("gateway", "processors")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How long, how much, and how long without OpenSearch.

    Attributes:
        seconds: How long the fleet publishes.
        rate: Messages a second of the whole fleet.
        outage_s: How long the node is stopped, from a third of the time on.
        speed: How fast the fleet's clock goes: `rate / speed` vehicles measure once a second of it. Readings are kept
            for the `lateness` of their contract, ten minutes of that clock, so memory is not flat before.
    """

    seconds: int
    rate: int
    outage_s: int
    speed: int = 1


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Resident memory of a process after the warm-up; the slope is by least squares, in MiB per 10 minutes."""

    first_mib: float
    last_mib: float
    max_mib: float
    slope_mib: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen; `findings` is empty when all is as promised."""

    plan: Plan
    load: LoadResult
    outage_s: int
    lag_entries_max: int
    lag_s_max: float
    caught_up_s: float | None
    lake_lag_s_max: float
    documents: int
    memory: dict[str, Memory]
    ledger: tuple[str, ...]
    findings: tuple[str, ...]


class _Look(msgspec.Struct, frozen=True, kw_only=True):
    at_s: float
    rss_mib: dict[str, float]
    lag_entries: int
    lag_s: float
    lake_lag_s: float


def soak(plan: Plan, directory: Path, *, say: Callable[[str], None]) -> Report:
    """Run a plan in an empty directory; `say` gets a line now and then."""
    data, mqtt_port = directory / "data", free_port()
    with Node() as node:
        settings: dict[str, object] = {
            "gateway__mqtt__port": mqtt_port,
            "gateway__mqtt__allow_anonymous": True,
            "gateway__ocpp__port": free_port(),
            "opensearch__url": node.url,
        }
        with Supervised(data, environment(**settings)) as programs:
            programs.start()
            load, looks, caught_up_s = _drive(plan, mqtt_port, node, programs, say)
            say("the load is over; waiting for lake and index")
            _settle(data, programs)
            wanted = from_lake(data / "lake", parts={c.stream: c.part for c in load_contracts([]) if c.part})
            shown = compare(wanted, from_node(node.request))
    balance = read_balance(load_settings(None, {}, overrides={"data": str(data)}))
    findings = list(balance.findings)
    if not load.published == load.acknowledged == balance.raw_rows:
        findings.append(f"{load.acknowledged} of {load.published} acknowledged, {balance.raw_rows} in the lake")
    if not shown.equal:
        findings.append(f"the index is not what the lake says: {shown}")
    if caught_up_s is None:
        findings.append(f"the index was still more than {LAG_S:g} s behind when the load ended")
    return Report(
        plan=plan,
        load=load,
        outage_s=plan.outage_s,
        lag_entries_max=max(look.lag_entries for look in looks),
        lag_s_max=max(look.lag_s for look in looks),
        caught_up_s=caught_up_s,
        lake_lag_s_max=max(look.lake_lag_s for look in looks),
        documents=shown.documents,
        memory={name: _memory(looks, name) for name in PROGRAMS},
        ledger=tuple(balance.lines()),
        findings=tuple(findings),
    )


def _drive(
    plan: Plan, mqtt_port: int, node: Node, programs: Supervised, say: Callable[[str], None]
) -> tuple[LoadResult, list[_Look], float | None]:
    """Let the fleet publish and OpenSearch go and come; return what was seen meanwhile, once a second."""
    config = LoadConfig(
        port=mqtt_port,
        devices=plan.rate // plan.speed,
        seconds=plan.seconds,
        speed=plan.speed,
        # The fast clock comes to the true time at the end: what is measured in the future is a reject.
        began_at=datetime.now(UTC) - timedelta(seconds=plan.seconds * (plan.speed - 1)),
    )
    argv = [sys.executable, "-m", "tests.soak.load", msgspec.json.encode(config).decode()]
    looks: list[_Look] = []
    processes = {name: psutil.Process(programs.run_file(name)["pid"]) for name in PROGRAMS}
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as fleet:
        assert fleet.stdout is not None
        try:
            assert b"connected\n" == fleet.stdout.readline(), "the fleet did not connect"
            began_s = time.monotonic()
            away_s = plan.seconds // 3
            back_s = away_s + plan.outage_s
            is_away, started_s, caught_up_s = False, None, None
            while fleet.poll() is None:
                now_s = time.monotonic() - began_s
                if not is_away and started_s is None and now_s >= away_s:
                    node.stop()
                    is_away = True
                elif is_away and now_s >= back_s:
                    node.start(wait=False)
                    is_away, started_s = False, time.monotonic() - began_s
                looks.append(_look(now_s, programs, processes))
                if started_s is not None and caught_up_s is None and looks[-1].lag_s < LAG_S:
                    caught_up_s = round(now_s - started_s, 1)
                if len(looks) % 30 == 0:
                    say(_line(looks[-1], is_away=is_away))
                time.sleep(max(0.0, 1.0 - (time.monotonic() - began_s - now_s)))
            said = fleet.stdout.read()
        finally:
            if fleet.poll() is None:
                fleet.kill()
    return msgspec.json.decode(said, type=LoadResult), looks, caught_up_s


def _look(now_s: float, programs: Supervised, processes: dict[str, psutil.Process]) -> _Look:
    port = programs.run_file("processors")["observe_port"]
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    largest: dict[str, float] = {}
    for family in families:
        for sample in family.samples:
            largest[sample.name] = max(sample.value, largest.get(sample.name, 0.0))
    return _Look(
        at_s=now_s,
        rss_mib={name: process.memory_info().rss / MIB for name, process in processes.items()},
        lag_entries=int(largest["voltgate_index_lag_entries"]),
        lag_s=round(largest["voltgate_index_lag_seconds"], 1),
        lake_lag_s=round(largest["voltgate_cursor_lag_seconds"], 1),
    )


def _line(look: _Look, *, is_away: bool) -> str:
    memory = ", ".join(f"{name} {mib:.0f} MiB" for name, mib in look.rss_mib.items())
    away = ", OpenSearch is stopped" if is_away else ""
    return (
        f"{look.at_s:5.0f} s  {memory}, lake {look.lake_lag_s:g} s behind, index {look.lag_s:g} s "
        f"and {look.lag_entries} entries{away}"
    )


def _settle(data: Path, programs: Supervised) -> None:
    """Return when everything durable is in the lake, and everything in the lake was given to the index."""
    end = int(read_durable(data / "ingest") or 0)
    until(lambda: programs.run_file("processors")["offset"] >= end, timeout_s=SETTLE_S, what="a lake that follows")
    until(lambda: _look(0.0, programs, {}).lag_entries == 0, timeout_s=SETTLE_S, what="an index that follows")


def _memory(looks: list[_Look], name: str) -> Memory:
    begin_s = WARM_UP_SHARE * looks[-1].at_s
    points = [(look.at_s, look.rss_mib[name]) for look in looks if look.at_s >= begin_s]
    slope, _ = statistics.linear_regression(*zip(*points, strict=True))
    sizes = [size for _, size in points]
    return Memory(first_mib=sizes[0], last_mib=sizes[-1], max_mib=max(sizes), slope_mib=slope * 600)

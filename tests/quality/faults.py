"""`python -m tests.quality faults`: recall, lead time and false alerts over injected faults and healthy days.

Everything is simulated at the speed of the computer and deterministic by its seed: payload bytes as devices would send
them become journal entries, the processors' own chain makes alerts of them. Two processes, nothing is sent anywhere.
"""

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from tests.quality import report
from tests.quality.fault_chargers import ChargersPlan, run_chargers, run_recorded
from tests.quality.fault_page import TARGET_PER_DAY, Part, figures, page
from tests.quality.fault_recorded import run_trips
from tests.quality.fault_score import count_by_rule, false_alerts, judge_all, score
from tests.quality.fault_vehicles import KINDS, FleetPlan, FleetResult, run_fleet
from tests.recordings import DATA

CHARGER_KINDS = ("derating", "zombie", "stalled")
FAILING_DAYS = 1.35
CHARGERS_DAYS = 3
SESSIONS = 400
Job = Callable[[], FleetResult]


def measure(name: str, results: Sequence[FleetResult]) -> Part:
    """Return what several runs over the same kind of devices amount to."""
    injected = [one for result in results for one in judge_all(result.faults, result.alerts)]
    counts = count_by_rule(
        one for result in results for one in false_alerts(result.alerts, result.faults, result.holes)
    )
    strict = sum(len(false_alerts(result.alerts, result.faults, [])) for result in results)
    return Part(
        name=name,
        days=sum(result.vehicle_days for result in results),
        scores=score(injected),
        false=[(rule, severity, number) for (rule, severity), number in sorted(counts.items())],
        explained=strict - sum(counts.values()),
        messages=sum(result.messages for result in results),
        rejected=sum(result.rejected for result in results),
    )


def plans(vehicle_days: float, charger_days: float, seed: int) -> tuple[list[FleetPlan], list[ChargersPlan]]:
    """Return the fleets that together live so many healthy days.

    One is large, so that vehicles have peers, the other lives for longer than the drift detector learns. A vehicle that
    fails begins to live on the day before, so it is healthy for a day and a third.
    """
    fleets = []
    for name, days, share in (("wide", 4, 0.5), ("long", 11, 0.5)):
        faults = KINDS * max(round(vehicle_days * share * 0.3 / len(KINDS) / FAILING_DAYS), 1)
        healthy = max(round((vehicle_days * share - len(faults) * FAILING_DAYS) / days), 1)
        fleets.append(FleetPlan(name=name, seed=seed, days=days, healthy=healthy, faults=faults))
    ill = CHARGER_KINDS * 3
    well = max(round((charger_days / 2 - len(ill) * 2.0) / CHARGERS_DAYS), 1)
    chargers = [
        ChargersPlan(name=name, seed=seed, days=CHARGERS_DAYS, healthy=well, faults=ill) for name in ("east", "west")
    ]
    return fleets, chargers


def run_all(vehicle_days: float, charger_days: float, seed: int) -> list[Part]:
    """Run everything in two processes and return the parts."""
    fleets, chargers = plans(vehicle_days, charger_days, seed)
    trips, sessions = sorted((DATA / "twizy").glob("*.csv")), DATA / "desl" / "sessions.csv"
    jobs: list[tuple[str, Job]] = [("vehicles", partial(run_fleet, plan)) for plan in fleets]
    jobs += [("chargers", partial(run_chargers, plan)) for plan in chargers]
    if sessions.exists():
        jobs.append(("recorded sessions", partial(run_recorded, sessions, SESSIONS)))
    if trips:
        jobs.append(("recorded trips", partial(run_trips, trips)))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        results = pool.map(_run, [job for _, job in jobs], chunksize=1)
    names = dict.fromkeys(name for name, _ in jobs)
    return [measure(name, [r for (n, _), r in zip(jobs, results, strict=True) if n == name]) for name in names]


def _run(job: Job) -> FleetResult:
    return job()


def main(arguments: list[str]) -> int:
    """Measure, print and write; exit 0 when every fault was noticed and false alerts are below the target."""
    parser = argparse.ArgumentParser(prog="python -m tests.quality faults", description=__doc__)
    parser.add_argument("--vehicle-days", type=float, default=200.0)
    parser.add_argument("--charger-days", type=float, default=80.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--no-write", action="store_true", help="leave build/alerts.json and the page as they are")
    given = parser.parse_args(arguments)
    began_s = time.monotonic()
    parts = run_all(given.vehicle_days, given.charger_days, given.seed)
    found, text = figures(parts), page(parts, seed=given.seed)
    if not given.no_write:
        report.merge_figures(found)
        report.write_part("faults", text)
    print(json.dumps(_details(parts, found), indent=2) if given.json else text)
    if not given.json:
        print(f"\n{time.monotonic() - began_s:.0f} s")
    is_good = found["fault_recall"] == 1.0 and found["false_alerts_per_vehicle_day"] < TARGET_PER_DAY
    return 0 if is_good else 1


def _details(parts: Sequence[Part], found: dict[str, float]) -> dict[str, Any]:
    return {**found, "parts": msgspec.to_builtins(parts)}

"""`python -m tests.fault --kills N [--seed S] [--json] [--quick]`: kill a system under load N times and compare.

The table goes to standard output, progress to standard error, the figures to build/fault.json. Exit 0 when everything
acknowledged is there exactly once and equals an uninterrupted run, 1 when not, 2 for wrong usage.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gateway.core.failpoints import Failpoint
from tests.fault.compare import Comparison, total
from tests.fault.plan import plan
from tests.fault.rounds import KillRecord, Round, RoundResult, hit

REPORT = Path("build") / "fault.json"
RATE_PER_S = 2500
"""Enough for full commits and several rolls a second on one busy core; the load is not what is tested."""
KILLS = 28
CHARGING_SHARE = 20 / KILLS
"""Of the kills, those that must come while calls of chargers are answered: twenty of the usual number."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the oracle and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault", description=__doc__)
    parser.add_argument(
        "--kills", type=int, default=KILLS, help=f"how many, at least {len(Failpoint)} (default {KILLS})"
    )
    parser.add_argument("--seed", type=int, help="makes the same plan again; it is printed")
    parser.add_argument("--rate", type=int, default=RATE_PER_S, help="messages a second (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="random moments only, no failpoints")
    parser.add_argument("--json", action="store_true", help="print the figures instead of the table")
    arguments = parser.parse_args(argv)
    seed = random.SystemRandom().randrange(2**31) if arguments.seed is None else arguments.seed
    try:
        rounds = plan(seed, arguments.kills, failpoints=not arguments.quick)
    except ValueError as exc:
        parser.error(str(exc))
    REPORT.unlink(missing_ok=True)  # a run that breaks down must not leave the figures of the last one
    began_s = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="voltgate-fault-"))
    _say(f"seed {seed}, {arguments.kills} kills in {len(rounds)} rounds, {arguments.rate} messages/s, in {directory}")
    results = []
    for i, kills in enumerate(rounds):
        one = Round(directory / str(i), kills, rate_per_s=arguments.rate, seed=seed + i, say=lambda r: _say(_line(r)))
        results.append(one.run())
        if results[-1].comparison.passed:
            shutil.rmtree(directory / str(i))
    wanted = set() if arguments.quick else set(Failpoint)
    figures = _figures(results)
    passed = _verdict(results).passed and figures["kills"] >= arguments.kills and wanted <= _hit(results)
    passed = passed and not _quiet(results)
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(figures, indent=2) + "\n")
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        print("\n".join(_table(results, wanted)))
        print(f"seed {seed}, {time.monotonic() - began_s:.0f} s: {'PASSED' if passed else f'FAILED, see {directory}'}")
    if passed:
        directory.rmdir()
    return 0 if passed else 1


def _figures(results: Sequence[RoundResult]) -> dict[str, int | float]:
    """Return the content of build/fault.json."""
    records = [record for result in results for record in result.records]
    verdict = _verdict(results)
    return {
        "kills": sum(record.happened for record in records),
        "kills_charging": sum(record.happened and record.charging for record in records),
        "acknowledged": verdict.acknowledged,
        "lost": verdict.lost,
        "duplicated": verdict.duplicated,
        "windows_differing": verdict.windows_differing + verdict.rows_differing,
        "calls_resent": verdict.resent,
        "sessions": verdict.sessions,
        "sessions_differing": verdict.sessions_differing,
        "alerts": verdict.alerts,
        "restart_s_max": round(max((record.restart_s for record in records), default=0.0), 2),
        "catch_up_s_max": round(max(result.catch_up_s for result in results), 2),
        "fresh_s_max": round(max(result.fresh_s for result in results), 2),
        "failpoints_hit": len(_hit(results)),
        "failpoints": len(Failpoint),
    }


def _verdict(results: Sequence[RoundResult]) -> Comparison:
    return total(result.comparison for result in results)


def _hit(results: Sequence[RoundResult]) -> set[Failpoint]:
    return {name for result in results for name in hit(result.records)}


def _quiet(results: Sequence[RoundResult]) -> int:
    """Return how many kills under the load of chargers are missing.

    Random kills wait for that load, or are planned without; a process dies at a failpoint whenever it comes by there,
    which may be in the second in which chargers find their way back.
    """
    figures = _figures(results)
    return max(0, round(figures["kills"] * CHARGING_SHARE) - int(figures["kills_charging"]))


def _table(results: Sequence[RoundResult], wanted: set[Failpoint]) -> list[str]:
    """Return the report for people: a line for each kill, then the sums, then what is wrong."""
    verdict, figures = _verdict(results), _figures(results)
    catch_up_s = max(result.catch_up_s for result in results)
    fresh_s = max(result.fresh_s for result in results)
    lines = [f"{'':>3}  {'killed':<10}  {'where':<28}  {'acknowledged':>12}  {'restart':>8}"]
    records = [record for result in results for record in result.records]
    lines += [f"{number:>3}  {_line(record)}" for number, record in enumerate(records, 1)]
    lines += [
        "",
        f"acknowledged       {verdict.acknowledged:>9}",
        f"found              {verdict.found:>9}",
        f"lost               {verdict.lost:>9}",
        f"duplicated         {verdict.duplicated:>9}",
        f"windows differing  {verdict.windows_differing:>9}",
        f"rows differing     {verdict.rows_differing:>9}   raw, readings, rejects, revisions of sessions and alerts",
        f"calls resent       {verdict.resent:>9}   journalled, killed, sent again: two in raw, one row",
        f"sessions compared  {verdict.sessions:>9}",
        f"sessions differing {verdict.sessions_differing:>9}   energy, end, id token, count",
        f"alerts told        {verdict.alerts:>9}   to a receiver, each revision under one id",
        f"kills              {figures['kills']:>9}   {figures['kills_charging']} of them while chargers were answered",
        f"failpoints hit     {figures['failpoints_hit']:>9}   of {len(Failpoint)}",
        f"restart max        {figures['restart_s_max']:>7.2f} s",
        f"catch-up max       {catch_up_s:>7.2f} s   after the last fault, beside the load: until the lake has all",
        f"fresh message max  {fresh_s:>7.2f} s   after faults and load, until it is acknowledged and in the lake",
    ]
    lines += [f"WRONG: {finding}" for finding in verdict.findings]
    if quiet := _quiet(results):
        lines += [f"WRONG: {quiet} more kills had to come while chargers were answered"]
    lines += [f"WRONG: {name} was not hit" for name in sorted(wanted - _hit(results))]
    return lines


def _line(record: KillRecord) -> str:
    kill = record.kill
    moment = f"{kill.delay_s * 1e3:.0f} ms after " + ("load" if kill.loaded else "ready")
    if kill.again_after_s is not None:
        moment += f" + {kill.again_after_s:.1f} s"
    where = moment if kill.failpoint is None else f"{kill.failpoint}, hit {kill.nth}"
    restart = f"{record.restart_s:.2f} s"
    missed = ("" if record.happened else "  NOT KILLED") + ("" if record.charging else "  chargers silent")
    return f"{kill.target:<10}  {where:<28}  {record.acknowledged:>12}  {restart:>8}{missed}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())

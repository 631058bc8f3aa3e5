"""Voltgate at a steady rate with OpenSearch away for a while: nothing is lost, nothing grows, the index comes back.

python -m tests.soak --minutes 10 --rate 5000 --speed 10 --outage-minutes 2 [--json FILE]

`rate / speed` vehicles measure once a second of a clock that goes `speed` times as fast as ours. After a third of the
time OpenSearch is stopped, and started again after the outage. Exit code 0: everything acknowledged is in the lake,
the ledger balances, the index is what the lake says, and it fell back to LAG_S of lag while the fleet still
published. The growth of memory is a figure, not a verdict: a short run has none to show.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import msgspec

from tests.bench.harness import BUILD
from tests.soak.run import LAG_S, Plan, Report, soak


def main() -> int:
    """Run it, and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=int, default=5000, help="messages a second")
    parser.add_argument("--speed", type=int, default=10, help="of the clock of the vehicles")
    parser.add_argument("--outage-minutes", type=float, default=2.0)
    parser.add_argument("--json", type=Path, help="file for the report")
    given = parser.parse_args()
    plan = Plan(
        seconds=round(given.minutes * 60),
        rate=given.rate,
        outage_s=round(given.outage_minutes * 60),
        speed=given.speed,
    )
    BUILD.mkdir(exist_ok=True)
    # On the disk of the checkout: in memory fdatasync would be free.
    with tempfile.TemporaryDirectory(prefix="soak-", dir=BUILD) as directory:
        report = soak(plan, Path(directory), say=lambda line: print(line, file=sys.stderr, flush=True))
    print("\n".join(lines(report)))
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    return 0 if not report.findings else 1


def lines(report: Report) -> list[str]:
    """Return the report for people."""
    load = report.load
    text = [
        f"published     {load.published}, acknowledged {load.acknowledged}",
        f"              turns at most {load.late_s:g} s late, at most {load.waiting_max} messages waited at once",
        f"outage        {report.outage_s} s",
        f"              index at most {report.lag_entries_max} entries and {report.lag_s_max:g} s behind",
        f"              below {LAG_S:g} s again {report.caught_up_s} s after the node was started",
        f"lake          at most {report.lake_lag_s_max:g} s behind the journal",
        f"index         {report.documents} documents demanded by the lake",
    ]
    text += [
        f"memory        {name}: {memory.first_mib:.0f} MiB after warm-up, {memory.last_mib:.0f} at the end, "
        f"{memory.max_mib:.0f} at most, {memory.slope_mib:+.1f} MiB in 10 minutes"
        for name, memory in report.memory.items()
    ]
    return [*text, *(f"FOUND         {finding}" for finding in report.findings), *report.ledger]


if __name__ == "__main__":
    raise SystemExit(main())

"""`python -m tests.bench [--only NAME] [--quick]`: measure beside peers in the same run, print, write.

Writes `build/bench.json` and `docs/reference/benchmarks.md`; a quick run writes `build/bench-quick.json` alone.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from tests.bench import (
    alerts,
    detection,
    idle,
    ingest,
    ocpp,
    ocpp_idle,
    ocpp_reconnect,
    opensearch,
    pipeline,
    replay,
)
from tests.bench.harness import BUILD, ROOT, BenchError, Workspace, open_workspace, raise_file_limit
from tests.bench.machine import describe, measure_sync, mosquitto_version
from tests.bench.ocpp_servers import has_rpc
from tests.bench.report import Row, belongs_to, write

Measure = Callable[..., list[Row]]
PAGE: Final = ROOT / "docs" / "reference" / "benchmarks.md"
FILES: Final = 10_000


def benchmarks() -> list[tuple[tuple[str, ...], Measure]]:
    """Return what there is: the names that one measurement yields, and the function."""
    ingests = [(ingest.names(n), partial(ingest.measure, n)) for n in ingest.CONNECTIONS]
    return [
        *ingests,
        ((pipeline.NAME,), pipeline.measure),
        ((replay.NAME,), replay.measure),
        ((detection.NAME,), detection.measure),
        ((alerts.NAME,), alerts.measure),
        ((idle.NAME,), idle.measure),
        *((ocpp.names(work), partial(ocpp.measure, work)) for work in ocpp.WORKS),
        ((ocpp_idle.NAME,), ocpp_idle.measure),
        ((ocpp_reconnect.NAME, ocpp_reconnect.COMMANDS_NAME), ocpp_reconnect.measure),
        ((opensearch.NAME,), opensearch.measure),
    ]


def main(arguments: Sequence[str]) -> int:
    """Return 0 when everything asked for was measured, 1 otherwise, 2 for an unknown name."""
    known = [name for names, _ in benchmarks() for name in names]
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="measure beside peers in the same run")
    parser.add_argument("--only", metavar="NAME", choices=known, help=f"one of {', '.join(known)}")
    parser.add_argument("--quick", action="store_true", help="once and briefly, to see that it runs")
    options = parser.parse_args(arguments)
    raise_file_limit(FILES)
    if mosquitto_version() is None:
        print("mosquitto is not on this machine (Debian package `mosquitto`): its figures are missing, peer is null")
    if not has_rpc():
        print("npm ocpp-rpc is not on this machine (Debian packages `nodejs npm`): its figures are missing")
    measured: list[Row] = []
    failed = 0
    with open_workspace() as workspace:
        machine, sync = describe(workspace.root), measure_sync(workspace.root)
        print(f"{machine.cpu}; {machine.system}; {machine.disk}")
        print(f"fdatasync of 64 KiB: p50 {sync.p50_us:,.0f} us, p99 {sync.p99_us:,.0f} us")
        for names, measure in benchmarks():
            if options.only is None or options.only in names:
                rows = _run(names, measure, workspace, quick=options.quick)
                failed += not rows
                measured += [each for each in rows if options.only is None or belongs_to(each.name, options.only)]
    json_file = BUILD / ("bench-quick.json" if options.quick else "bench.json")
    # A benchmark that failed keeps its older row rather than losing it.
    partial_run = options.only is not None or bool(failed)
    write(measured, machine, sync, json_file=json_file, page_file=None if options.quick else PAGE, partial=partial_run)
    print(f"written: {json_file.relative_to(ROOT)}" + ("" if options.quick else f", {PAGE.relative_to(ROOT)}"))
    return 1 if failed else 0


def _run(names: Sequence[str], measure: Measure, workspace: Workspace, *, quick: bool) -> list[Row]:
    """Run one benchmark and print its rows; a failure is printed and yields none."""
    print(f"\n{', '.join(names)}", flush=True)
    began_s = time.monotonic()
    try:
        rows: list[Row] = measure(workspace, quick=quick)
    except BenchError as exc:
        print(f"  not measured: {exc}", flush=True)
        return []
    for each in rows:
        beside = "" if each.ratio is None else f"   {each.peer}: {each.peer_value:,.2f}   ratio {each.ratio:.2f}"
        print(f"  {each.name:<44} {each.value:>14,.2f} {each.unit}{beside}")
    print(f"  ({time.monotonic() - began_s:.0f} s)", flush=True)
    return rows


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

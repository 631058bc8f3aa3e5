"""What rules and anomaly detection cost per message, at the batches that live traffic makes."""

from statistics import fmean
from typing import Final

from tests.bench.harness import Child, Workspace, python
from tests.bench.report import Row, row

NAME: Final = "detection_cpu_us"
STREAMS: Final = ("battery_pack", "vehicle_telemetry")
"""A vehicle sends one message of each at a time, so the figure is their mean. The first has the most rules of all."""
LIVE_ROWS: Final = 2_000
"""What comes between two looks into the journal at 10,000 messages a second."""
REPLAY_ROWS: Final = 30_000
TIMEOUT_S: Final = 300.0


def measure(workspace: Workspace, *, quick: bool) -> list[Row]:
    """Return the mean of the streams, and what it is made of."""
    unit = "us CPU/message"
    costs = {stream: _cost(workspace, stream, LIVE_ROWS) for stream in STREAMS}
    rows = [row(NAME, fmean(cost["rules"] + cost["anomalies"] for cost in costs.values()), unit)]
    for stream, cost in costs.items():
        rows += [row(f"{NAME}/{stream}_{part}", cost[part], unit) for part in ("rules", "anomalies")]
        if not quick:
            replay = _cost(workspace, stream, REPLAY_ROWS)
            rows.append(row(f"{NAME}/{stream}_replay", replay["rules"] + replay["anomalies"], unit))
    return [*rows, row(f"{NAME}/series_bytes", costs[STREAMS[0]]["series_bytes"], "B")]


def _cost(workspace: Workspace, stream: str, rows: int) -> dict[str, float]:
    """Return microseconds per reading by detector, and the bytes of a series that anomalies watch."""
    directory = workspace.fresh("detection")
    with Child(python("tests.bench.detect", stream, rows), log=directory / "detect.log", piped=True) as child:
        said = child.read_json(TIMEOUT_S)
    workspace.discard(directory)
    cost = {part: used_s / said["readings"] * 1e6 for part, used_s in said["cpu_s"].items()}
    return cost | {"series_bytes": said["series_bytes"]}

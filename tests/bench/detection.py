"""What rules and anomaly detection cost per message, at the batches that live traffic makes."""

from typing import Final

from tests.bench.harness import Child, Workspace, python
from tests.bench.report import Row, row

NAME: Final = "detection_cpu_us"
STREAMS: Final = ("battery_pack", "vehicle_telemetry")
"""The first has the most rules of all streams, and its figure is the one to read."""
LIVE_ROWS: Final = 2_000
"""What comes between two looks into the journal at 10,000 messages a second."""
REPLAY_ROWS: Final = 30_000
TIMEOUT_S: Final = 300.0


def measure(workspace: Workspace, *, quick: bool) -> list[Row]:
    """Return the rows of the streams."""
    unit = "us CPU/message"
    rows: list[Row] = []
    for stream in STREAMS[:1] if quick else STREAMS:
        live = _cost(workspace, stream, LIVE_ROWS)
        name = NAME if stream == STREAMS[0] else f"{NAME}/{stream}"
        separator = "/" if name == NAME else "_"
        rows.append(row(name, sum(live[part] for part in ("rules", "anomalies")), unit))
        rows += [row(f"{name}{separator}{part}", live[part], unit) for part in ("rules", "anomalies")]
        if not quick:
            replay = _cost(workspace, stream, REPLAY_ROWS)
            rows.append(row(f"{name}{separator}replay", replay["rules"] + replay["anomalies"], unit))
        if stream == STREAMS[0]:
            rows.append(row(f"{NAME}/series_bytes", live["series_bytes"], "B"))
    return rows


def _cost(workspace: Workspace, stream: str, rows: int) -> dict[str, float]:
    """Return microseconds per reading by detector, and the bytes of a series that anomalies watch."""
    directory = workspace.fresh("detection")
    with Child(python("tests.bench.detect", stream, rows), log=directory / "detect.log", piped=True) as child:
        said = child.read_json(TIMEOUT_S)
    workspace.discard(directory)
    cost = {part: used_s / said["readings"] * 1e6 for part, used_s in said["cpu_s"].items()}
    return cost | {"series_bytes": said["series_bytes"]}

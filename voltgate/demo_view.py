"""What somebody sees while the demo runs: rates, devices, newest windows, rejects.

A terminal gets a picture, a pipe gets lines.
"""

import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.core.settings import Settings
from voltgate.ledger import stream_tables
from voltgate.output import is_terminal, say
from voltgate.status import read_run_file

LAKE_EVERY_S = 2.0
"""How often the lake is asked: as often as it changes."""
LINE_EVERY_S = 5.0
"""How often a line is written where nobody watches."""
WINDOWS_SHOWN = 8
SESSIONS_SHOWN = 6
SESSION_COLUMNS = (
    "charger",
    "vehicle",
    "match",
    "status",
    "charger kWh",
    "vehicle kWh",
    "loss %",
    "SoC from",
    "SoC to",
)


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """How things stand at one moment; counts since the gateway started.

    Attributes:
        received: Messages taken from devices.
        acknowledged: Of those, durable and answered.
        connections: Devices connected.
        rows: Readings in the lake.
        devices: Devices with a reading in the lake.
        rejects: Reject code -> count.
        windows: Newest one-minute windows: (device, start, n, first and last state of charge, km).
        sessions: Newest charging sessions, as `SESSION_COLUMNS`.
    """

    received: int = 0
    acknowledged: int = 0
    connections: int = 0
    rows: int = 0
    devices: int = 0
    rejects: dict[str, int] = {}
    windows: list[tuple[Any, ...]] = []
    sessions: list[tuple[str, ...]] = []


class LiveView:
    """Draws snapshots; a context manager. `refresh` may be called as often as one likes."""

    def __init__(self, settings: Settings, *, started_at_s: float) -> None:
        self._settings, self._started_at_s = settings, started_at_s
        self._live = Live(console=Console(), refresh_per_second=2, transient=True) if is_terminal() else None
        self._snapshot = Snapshot()
        self._lake_at_s = self._line_at_s = started_at_s
        self._rate_from = (started_at_s, 0)
        self._rate = 0.0
        self._first_reading_said = False

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def refresh(self, now_s: float) -> None:
        """Look again and draw."""
        self._snapshot = with_gateway(self._snapshot, self._settings)
        if now_s - self._lake_at_s >= LAKE_EVERY_S:
            self._lake_at_s = now_s
            self._snapshot = with_lake(self._snapshot, self._settings.lake_directory)
        self._measure_rate(now_s)
        if self._snapshot.rows and not self._first_reading_said:
            self._first_reading_said = True
            self.say(f"first readings are in the lake after {now_s - self._started_at_s:.1f} s")
        if self._live is not None:
            self._live.update(self._picture(now_s))
        elif now_s - self._line_at_s >= LINE_EVERY_S:
            self._line_at_s = now_s
            say(self._line(now_s))

    def say(self, line: str) -> None:
        """Print a line, above the picture where there is one."""
        if self._live is not None:
            self._live.console.print(line)
        else:
            say(line)

    def _measure_rate(self, now_s: float) -> None:
        since_s, received = self._rate_from
        if now_s - since_s >= 1.0:
            self._rate = (self._snapshot.received - received) / (now_s - since_s)
            self._rate_from = (now_s, self._snapshot.received)

    def _line(self, now_s: float) -> str:
        s = self._snapshot
        return (
            f"{now_s - self._started_at_s:6.0f} s  {s.connections} connected  {self._rate:.0f} messages/s  "
            f"{s.received} received  {s.acknowledged} acknowledged  {s.rows} rows of {s.devices} devices  "
            f"{sum(s.rejects.values())} rejects  {len(s.sessions)} newest sessions"
        )

    def _picture(self, now_s: float) -> Group:
        s = self._snapshot
        rejected = ", ".join(f"{code} {n}" for code, n in sorted(s.rejects.items())) or "none"
        head = Table.grid(padding=(0, 2))
        for name, value in (
            ("running", f"{now_s - self._started_at_s:.0f} s"),
            ("devices", f"{s.connections} connected, {s.devices} in the lake"),
            ("received", f"{s.received}  ({self._rate:.0f} messages/s), {s.acknowledged} acknowledged after fdatasync"),
            ("lake", f"{s.rows} readings, rejects: {rejected}"),
        ):
            head.add_row(Text(name, style="dim"), value)
        windows = Table(title="newest one-minute windows", title_justify="left", box=None, padding=(0, 2))
        for name in ("device", "minute", "readings", "SoC first", "SoC last", "km"):
            windows.add_column(name, justify="left" if name in ("device", "minute") else "right")
        for device, start, n, first, last, km in s.windows:
            windows.add_row(
                device, start.strftime("%H:%M"), str(n), _number(first, 2), _number(last, 2), _number(km, 3)
            )
        sessions = Table(title="newest charging sessions", title_justify="left", box=None, padding=(0, 2))
        for name in SESSION_COLUMNS:
            sessions.add_column(name, justify="left" if name in SESSION_COLUMNS[:4] else "right")
        for session in s.sessions:
            sessions.add_row(*session)
        return Group(head, Text(), windows, Text(), sessions)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def with_gateway(snapshot: Snapshot, settings: Settings) -> Snapshot:
    """Return the snapshot with the gateway's own counts of now, or unchanged while it does not answer."""
    run_file = read_run_file(settings, "gateway")
    if run_file is None:
        return snapshot
    url = f"http://{run_file['observe_host']}:{run_file['observe_port']}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            sums = metric_sums(response.read().decode())
    except OSError:
        return snapshot
    return msgspec.structs.replace(
        snapshot,
        received=int(sums.get("voltgate_received_total", 0)),
        acknowledged=int(sums.get("voltgate_acknowledged_total", 0)),
        connections=int(sums.get("voltgate_connections", 0)),
    )


def metric_sums(page: str) -> dict[str, float]:
    """Return metric -> sum over its labels, from a page in the Prometheus text format."""
    from prometheus_client.parser import text_string_to_metric_families

    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0) + sample.value
    return sums


def with_lake(snapshot: Snapshot, lake: Path) -> Snapshot:
    """Return the snapshot with the lake's counts of now."""
    from dashboards.queries import history

    tables = set(history.tables(lake))
    if "vehicle_telemetry" not in tables:
        return snapshot
    counts = " union all ".join(f'select count(*) n from "{name}"' for name in stream_tables(tables))  # noqa: S608
    rows = history.query(lake, f"select sum(n) from ({counts})").rows[0][0]  # noqa: S608 - names come from the lake
    devices = history.query(lake, "select count(distinct device_id) from vehicle_telemetry").rows[0][0]
    rejects = history.query(lake, "select code, count(*) from rejects group by 1").rows if "rejects" in tables else []
    windows: list[tuple[Any, ...]] = []
    if "windows_vehicle_telemetry" in tables:
        windows = history.query(
            lake,
            "select device_id, window_start, n, soc_pct_first, soc_pct_last, distance_km "
            "from windows_vehicle_telemetry_latest where window_s = 60 order by window_start desc, device_id",
            rows_max=WINDOWS_SHOWN,
        ).rows
    return msgspec.structs.replace(
        snapshot,
        rows=int(rows),
        devices=int(devices),
        rejects=dict(rejects),
        windows=windows,
        sessions=newest_sessions(lake, SESSIONS_SHOWN),
    )


def newest_sessions(lake: Path, count: int) -> list[tuple[str, ...]]:
    """Return the newest charging sessions, both sides of each, as text in `SESSION_COLUMNS`."""
    from dashboards.queries import history

    if "charging_session_revisions" not in history.tables(lake):
        return []
    rows = history.query(
        lake,
        "select charger_id || ' ' || connector, vehicle_id, vehicle_match, status, energy_wh / 1000, "
        "vehicle_energy_wh / 1000, loss_pct, coalesce(vehicle_soc_start_pct, soc_start_pct), "
        "coalesce(vehicle_soc_end_pct, soc_end_pct) from charging_sessions "
        "order by coalesce(ended_at, last_event_at) desc, charger_id, connector",
        rows_max=count,
    ).rows
    return [
        (
            charger,
            vehicle or "-",
            match or "-",
            status,
            *map(_number, (kwh, vehicle_kwh, loss, soc_from, soc_to), (3, 3, 1, 1, 1)),
        )
        for charger, vehicle, match, status, kwh, vehicle_kwh, loss, soc_from, soc_to in rows
    ]


def session_lines(lake: Path, count: int) -> list[str]:
    """Return the newest charging sessions as lines of text, a head first; nothing without sessions."""
    sessions = newest_sessions(lake, count)
    if not sessions:
        return []
    table = [SESSION_COLUMNS, *sessions]
    widths = [max(len(row[i]) for row in table) for i in range(len(SESSION_COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]

"""Frames for the tests of windows: seconds in, tables out."""

import polars as pl

from processors.contracts.windows import Aggregate, AggregateKind, WindowPlan

START_S = 1_790_000_400
"""2026-09-21 13:40:00 UTC, the start of a window of 20 minutes; times in the tests are seconds since."""
TIME = pl.Datetime("us", "UTC")
FIELDS = {"speed_kmh": pl.Float64(), "soc_pct": pl.Float64(), "mode": pl.String()}


def plan_of(*aggregates: tuple[str, AggregateKind], **changes: object) -> WindowPlan:
    """Return one-minute panes with 5 s of disorder, 5 min of lateness, 90 s of idle."""
    given = {
        "pane_s": 60,
        "sizes_s": (60, 300),
        "disorder_s": 5.0,
        "lateness_s": 300.0,
        "idle_s": 90.0,
        "gap_max_s": 30.0,
    }
    return WindowPlan(
        aggregates=tuple(
            Aggregate(field=field, kind=kind, column=kind.value, unit="1", scale=1 / 3600)
            if kind is AggregateKind.INTEGRAL
            else Aggregate(field=field, kind=kind, column=kind.value, unit="1")
            for field, kind in aggregates
        ),
        **(given | changes),
    )


def readings_of(*rows: tuple[int, str, float, float | None], received: dict[int, float] | None = None) -> pl.DataFrame:
    """Return readings from (offset, device, measured second, speed); received when measured unless told by offset."""
    received = received or {}
    return pl.DataFrame(
        [
            {
                "tenant": "acme",
                "device_id": device,
                "measured_at": round((START_S + at_s) * 1_000_000),
                "received_at": round((START_S + received.get(offset, at_s)) * 1_000_000),
                "offset": offset,
                "record": 0,
                "flags": None,
                "speed_kmh": speed,
                "soc_pct": None,
                "mode": None,
            }
            for offset, device, at_s, speed in rows
        ],
        schema={
            "tenant": pl.String(),
            "device_id": pl.String(),
            "measured_at": TIME,
            "received_at": TIME,
            "offset": pl.Int64(),
            "record": pl.Int32(),
            "flags": pl.String(),
            **FIELDS,
        },
    )


def ticks_of(*ticks: tuple[int, float]) -> pl.DataFrame:
    """Return ticks from (offset, received second)."""
    return pl.DataFrame(
        [(offset, round((START_S + at_s) * 1_000_000)) for offset, at_s in ticks],
        schema={"offset": pl.Int64(), "received_at": TIME},
        orient="row",
    )


def said(windows: pl.DataFrame, *columns: str) -> list[tuple[object, ...]]:
    """Return (device, window_s, start second, revision, offset, n, *columns) of each row, sorted."""
    start = (pl.col("window_start").dt.epoch("s") - START_S).alias("start_s")
    return sorted(windows.select("device_id", "window_s", start, "revision", "offset", "n", *columns).rows())

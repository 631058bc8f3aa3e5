"""Event-time windows per device: when they end, what they hold, and how often they were said before.

Everything here is a function of the journal: the same entries give the same windows however they are cut into batches,
wherever a state was saved and loaded, and for any order of arrival within the plan's bounds. In one batch only the last
word about a window is emitted, so the highest revision of a window is the same after any cut.

What is said about a window of a device is said at *events*; its revision is the number of its earlier events:

- **close**: a reading moves the watermark (newest measured_at - `disorder_s`) to the window's end or past it;
- **late**: a reading is merged into a window that is closed; its pane's end + `lateness_s` is still ahead of the
  watermark;
- **idle**: a journal tick was received `idle_s` after the device's last receipt. The window stays open: a device that
  comes back is not late, and what it adds is said at the next event.

A window with nothing new since its last event is not emitted again. A row's `offset` and `received_at` are those of the
entry that made the event, the reading or the tick; its content is all merged readings up to that entry.

Cost per batch: its own rows, the devices' open windows, and the samples of the panes that close. Samples of closed
panes are touched only when a late reading asks for them, and dropped `lateness_s` after their end.
"""

import msgspec
import polars as pl

from gateway.core.limits import PANE_SAMPLES_MAX
from processors.contracts.windows import WindowPlan
from processors.stages.closing import advance_round, no_windows
from processors.stages.panes import US_PER_S, fields_of, finish
from processors.stages.roster import owner_of, with_devices
from processors.stages.watermarks import ON_TIME, REVISED, UNMERGED, Patience, find_silences, with_watermarks
from processors.stages.window_state import KEY, WindowState

__all__ = ["Advanced", "WindowState", "advance"]


class Advanced(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a batch did to the windows.

    Attributes:
        state: The state after the batch.
        windows: One row per window with an event in the batch, by offset: tenant, device_id, the plan's part if it has
            one, window_start, window_s Int32, revision Int32, n Int64, the plan's columns, offset Int64, received_at.
        readings: The readings given, with `late` Int8: 0 in time for its pane, 1 late and merged, 2 not merged (too
            late, or its pane is full) and left to `recompute`.
        late_revised: Readings with late = 1.
        late_dropped: Readings not merged because they came too late.
        pane_full: Readings not merged because their pane holds PANE_SAMPLES_MAX.
    """

    state: WindowState
    windows: pl.DataFrame
    readings: pl.DataFrame
    late_revised: int
    late_dropped: int
    pane_full: int


def advance(plan: WindowPlan, state: WindowState, readings: pl.DataFrame, ticks: pl.DataFrame) -> Advanced:
    """Merge a batch of readings and emit the windows it ends or revises.

    Args:
        plan: Windows of the stream, the plan of `state`.
        state: The state after all earlier entries.
        readings: New readings sorted by (offset, record), duplicates dropped.
        ticks: `offset` Int64 and `received_at` of the batch's ticks, sorted by offset.

    Returns: The windows, the readings marked, and the new state; `state` itself is unchanged.
    """
    assert readings["offset"].is_sorted(), "readings are not in journal order"
    patience = Patience.of(plan)
    devices, codes = with_devices(state.devices, readings, owner_of(plan.part))
    state = msgspec.structs.replace(state, devices=devices)
    rows = with_watermarks(_to_rows(plan, readings, codes), devices["_newest"], patience)
    late_dropped = _count(rows, UNMERGED)
    rows = _mark_full_panes(state, rows)

    dirty = state.open_windows.filter("_dirty").select(pl.col("_device").unique())
    waiting = dirty.with_columns(_received=devices["_received"].gather(dirty["_device"]))
    times = ticks.select(_offset="offset", _received=pl.col("received_at").dt.epoch("us"))
    silences = find_silences(rows, waiting, times, patience.idle_us)
    emitted = []
    for segment, idle in silences.rounds(rows):
        state, windows = advance_round(state, segment, idle)
        emitted.append(windows)
    if not emitted:
        emitted.append(no_windows(state, rows))
    return Advanced(
        state=state,
        windows=_to_windows(plan, state.devices, emitted),
        readings=readings.with_columns(_late_in_order(rows)),
        late_revised=_count(rows, REVISED),
        late_dropped=late_dropped,
        pane_full=_count(rows, UNMERGED) - late_dropped,
    )


def _to_rows(plan: WindowPlan, readings: pl.DataFrame, codes: pl.Series) -> pl.DataFrame:
    """Return what windows need of the readings, sorted by device, within a device in journal order."""
    return (
        readings.select(
            codes.alias("_device"),
            pl.col("measured_at").dt.epoch("us").alias("_at"),
            pl.col("received_at").dt.epoch("us").alias("_received"),
            pl.col("offset").alias("_offset"),
            *fields_of(plan),
        )
        .with_row_index("_row")
        .sort("_device", maintain_order=True)
    )


def _count(rows: pl.DataFrame, late: int) -> int:
    return int((rows["late"] == late).sum())


def _mark_full_panes(state: WindowState, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with those not merged that come after the first PANE_SAMPLES_MAX of their pane.

    A device whose time stands still would else grow its pane without end.
    """
    panes = rows.filter(pl.col("late") == REVISED).select("_device", _panes=pl.lit(1, pl.Int64()), _start="_pane")
    held = pl.concat(
        frame.select("_device", _pane="_start", _held="_samples")
        for frame in (
            state.open_windows.filter(pl.col("_panes") == 1),
            *state.closed_windows.matching(panes.unique(), "_start"),
        )
    )
    held = held.group_by("_device", "_pane").sum()
    if _most(held["_held"]) + _most(rows.group_by("_device").len()["len"]) <= PANE_SAMPLES_MAX:
        return rows
    place = pl.col("_merged").cum_sum().over("_device", "_pane") + pl.col("_held").fill_null(0)
    full = pl.col("_merged") & (place > PANE_SAMPLES_MAX)
    return (
        rows.join(held, on=["_device", "_pane"], how="left", maintain_order="left")
        .with_columns(_merged=pl.col("late") != UNMERGED)
        .with_columns(late=pl.when(full).then(pl.lit(UNMERGED, pl.Int8())).otherwise("late"))
        .drop("_held", "_merged")
    )


def _most(values: pl.Series) -> int:
    most = values.max()
    return most if isinstance(most, int) else 0


def _late_in_order(rows: pl.DataFrame) -> pl.Series:
    """Return `late` in the order of the readings."""
    if _count(rows, ON_TIME) == rows.height:
        return rows["late"]
    return rows.select("_row", "late").sort("_row")["late"]


def _to_windows(plan: WindowPlan, devices: pl.DataFrame, emitted: list[pl.DataFrame]) -> pl.DataFrame:
    """Return the last event of each window as an output row."""
    rows = pl.concat(emitted)
    if len(emitted) > 1:
        rows = rows.unique(KEY, keep="last", maintain_order=True)
    owner = owner_of(plan.part)
    names = devices.select(owner).with_row_index("_device")
    pane_us = plan.pane_s * US_PER_S
    time = pl.Datetime("us", "UTC")
    return (
        rows.join(names, on="_device")
        .select(
            *owner,
            (pl.col("_start") * pane_us).cast(time).alias("window_start"),
            (pl.col("_panes") * plan.pane_s).cast(pl.Int32()).alias("window_s"),
            pl.col("_revision").alias("revision"),
            "n",
            *finish(plan),
            pl.col("_offset").alias("offset"),
            pl.col("_received").cast(time).alias("received_at"),
        )
        .sort("offset", *owner, "window_s", "window_start")
    )

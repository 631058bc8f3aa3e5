"""One step of the windows: readings of each device that no silence interrupts, then the silence, if one follows.

`advance_round` is the only place where windows open, close, are revised and go idle; see windows.py for the rules.
"""

from functools import lru_cache
from typing import Final

import msgspec
import polars as pl

from processors.contracts.windows import WindowPlan
from processors.stages.panes import aggregate_panes, fields_of, merge_panes
from processors.stages.runs import Runs
from processors.stages.watermarks import ON_TIME, REVISED, UNMERGED, Patience
from processors.stages.window_state import KEY, OPEN_SCHEMA, Folds, WindowState

_SchemaItems = tuple[tuple[str, pl.DataType], ...]
_PLANS_MAX: Final = 64
"""Empty results kept, one per stream: making one takes as long as making a small full one."""
_SIZES: Final = {"_panes": pl.Int64()}
_START: Final = pl.col("_pane") // pl.col("_panes") * pl.col("_panes")
"""First pane of the window of `_panes` that holds `_pane`."""
_NO_EVENTS: Final = pl.DataFrame(
    schema={
        **{name: OPEN_SCHEMA[name] for name in KEY},
        "_revision": pl.Int32(),
        "_offset": pl.Int64(),
        "_received": pl.Int64(),
    }
)


class _Events(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What happened to windows in one step.

    Attributes:
        emitted: Key, `_revision`, `_offset`, `_received`: the last event of each window that had one.
        open_windows: As in the state, before idle devices are seen to.
        closed: Rows for the log of closed windows.
    """

    emitted: pl.DataFrame
    open_windows: pl.DataFrame
    closed: pl.DataFrame


def advance_round(state: WindowState, rows: pl.DataFrame, idle: pl.DataFrame) -> tuple[WindowState, pl.DataFrame]:
    """Merge each device's rows, then let the devices in `idle` go idle.

    Args:
        state: The state before; its `devices` know every device of `rows`.
        rows: Rows with watermarks and `late`, sorted by device, within a device in journal order.
        idle: `_device`, `_offset`, `_received` of the tick that follows the device's rows, at most one a device.

    Returns: The state after, and the windows' last events with their parts.
    """
    plan = state.plan
    devices = _with_newest(state.devices, rows)
    closed_pane = devices.select(Patience.of(plan).closed_pane("_newest")).to_series()
    folds = Folds(plan, devices)
    merged = rows.filter(pl.col("late") != UNMERGED)
    events = _find_events(state, merged, rows, closed_pane)
    open_windows, idled = _go_idle(events.open_windows, idle)
    emitted = pl.concat([events.emitted, idled])

    fresh, open_samples, closed_samples = _settle(state, merged, idled, closed_pane, folds)
    # Before anything is folded away: the readings that closed these windows may also be what puts them beyond revision.
    windows = _with_parts(plan, emitted, fresh, Runs((*state.panes.frames, fresh)))
    state = WindowState(
        plan=plan,
        devices=devices,
        open_windows=open_windows,
        closed_windows=state.closed_windows.with_rows(events.closed, folds.windows),
        open_samples=open_samples,
        closed_samples=closed_samples,
        panes=state.panes.with_rows(fresh, folds.panes),
    )
    return state, windows


def no_windows(state: WindowState, rows: pl.DataFrame) -> pl.DataFrame:
    """Return what `advance_round` does when nothing ends, with its columns."""
    samples = rows.select("_device", "_pane", "_at", "_offset", *fields_of(state.plan))
    return _no_windows(state.plan, tuple(samples.schema.items()))


@lru_cache(maxsize=_PLANS_MAX)
def _no_windows(plan: WindowPlan, sample_schema: _SchemaItems) -> pl.DataFrame:
    return _with_parts(plan, _NO_EVENTS, _no_panes(plan, sample_schema), Runs())


def _with_newest(devices: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the devices with their newest time and last receipt after the rows."""
    if rows.is_empty():
        return devices
    last = (pl.col("_device") != pl.col("_device").shift(-1)).fill_null(value=True)
    seen = rows.filter(last).select("_device", "_newest_after", received="_received")
    return (
        devices.with_row_index("_device")
        .join(seen, on="_device", how="left", maintain_order="left")
        .with_columns(_newest=pl.coalesce("_newest_after", "_newest"), _received=pl.coalesce("received", "_received"))
        .select(devices.columns)
    )


def _find_events(state: WindowState, merged: pl.DataFrame, rows: pl.DataFrame, closed_pane: pl.Series) -> _Events:
    """Count what the merged readings do to the windows they belong to, and close those the watermark has passed."""
    sizes = pl.DataFrame({"_panes": [size_s // state.plan.pane_s for size_s in state.plan.sizes_s]}, schema=_SIZES)
    late = merged.filter(pl.col("late") == REVISED)
    touched = [_touched(merged.filter(pl.col("late") == ON_TIME) if late.height else merged, sizes)]
    touched += [_revised(late, sizes)] if late.height else []
    windows = pl.concat([state.open_windows, *touched], how="diagonal")
    sums = [pl.col("_events").sum(), pl.col("_dirty").any(), pl.col("_samples").sum()]
    if late.height:
        # A window has at most one row with a late offset, so max picks it.
        sums += [pl.col("_late").sum(), pl.col("_late_offset").max(), pl.col("_late_received").max()]
    windows = windows.group_by(KEY).agg(sums)
    ended = windows["_start"] + windows["_panes"] <= closed_pane.gather(windows["_device"])
    closed = windows.filter(ended)
    open_windows = windows.filter(~ended).select(*OPEN_SCHEMA)
    if late.height:
        closed = _with_logged_events(state.closed_windows, closed)
    else:
        zero, none = pl.lit(0, pl.Int32()), pl.lit(None, pl.Int64())
        closed = closed.with_columns(_late=zero, _logged=zero, _late_offset=none, _late_received=none)
    closed = closed.with_columns(_events=pl.col("_events") + pl.col("_dirty").cast(pl.Int32()) + pl.col("_late"))
    emitted = _with_closing_entry(closed.filter(pl.col("_dirty") | (pl.col("_late") > 0)), rows).select(
        *KEY,
        _revision=pl.col("_logged") + pl.col("_events") - 1,
        _offset=pl.coalesce("_late_offset", "_closing_offset"),
        _received=pl.coalesce("_late_received", "_closing_received"),
    )
    return _Events(
        emitted=emitted,
        open_windows=open_windows,
        closed=closed.select(*KEY, "_events", "_samples").sort(KEY),
    )


def _touched(on_time: pl.DataFrame, sizes: pl.DataFrame) -> pl.DataFrame:
    """Return the windows that on-time readings make dirty, as rows of OPEN_SCHEMA, one or more a window."""
    # Neighbours are mostly of one pane, so counting runs first leaves little to group.
    runs = on_time.select(pl.struct("_device", "_pane").rle().struct.unnest()).unnest("value")
    panes = runs.group_by("_device", "_pane").agg(_samples=pl.col("len").sum().cast(pl.Int64()))
    return panes.join(sizes, how="cross").select(
        "_device",
        "_panes",
        _start=_START,
        _events=pl.lit(0, pl.Int32()),
        _dirty=pl.lit(value=True),
        _samples="_samples",
    )


def _revised(late: pl.DataFrame, sizes: pl.DataFrame) -> pl.DataFrame:
    """Return what late readings do to their windows: an event where one was closed before them, else dirt."""
    after_close = pl.col("_start") + pl.col("_panes") <= pl.col("_closed_before")
    return (
        late.join(sizes, how="cross", maintain_order="left")
        .with_columns(_start=_START)
        .with_columns(_after=after_close)
        .group_by(KEY, maintain_order=True)
        .agg(
            pl.lit(0, pl.Int32()).alias("_events"),
            (~pl.col("_after")).any().alias("_dirty"),
            pl.len().cast(pl.Int64()).alias("_samples"),
            pl.col("_after").sum().cast(pl.Int32()).alias("_late"),
            pl.col("_offset").filter("_after").last().alias("_late_offset"),
            pl.col("_received").filter("_after").last().alias("_late_received"),
        )
    )


def _with_logged_events(log: Runs, closed: pl.DataFrame) -> pl.DataFrame:
    """Return the windows with `_logged`, their events in the log of closed windows."""
    asked = closed.filter(pl.col("_late") > 0).select(KEY)
    found = [run.select(*KEY, _logged="_events") for run in log.matching(asked, "_start")]
    if not found:
        return closed.with_columns(_logged=pl.lit(0, pl.Int32()))
    logged = pl.concat(found).group_by(KEY).sum()
    return closed.join(logged, on=KEY, how="left").with_columns(pl.col("_logged").fill_null(0))


def _with_closing_entry(windows: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the windows with offset and receipt of the first reading that moved the watermark to their end."""
    moves = rows.filter((pl.col("_closed_after") > pl.col("_closed_before")).fill_null(value=True)).select(
        "_device", _end="_closed_after", _closing_offset="_offset", _closing_received="_received"
    )
    # Within a device `_closed_after` ascends in journal order, so sorted by it both sides are as join_asof asks.
    return (
        windows.with_columns(_end=pl.col("_start") + pl.col("_panes"))
        .sort("_end")
        .join_asof(
            moves.sort("_end", maintain_order=True), by="_device", on="_end", strategy="forward", check_sortedness=False
        )
    )


def _go_idle(open_windows: pl.DataFrame, idle: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the open windows after the idle events, and the events."""
    if idle.is_empty():
        return open_windows, _NO_EVENTS
    asked = open_windows.join(idle, on="_device", how="left", maintain_order="left")
    said = asked["_offset"].is_not_null() & asked["_dirty"]
    events = asked.filter(said).select(*KEY, pl.col("_events").alias("_revision"), "_offset", "_received")
    open_windows = open_windows.with_columns(
        _events=pl.col("_events") + said.cast(pl.Int32()), _dirty=pl.col("_dirty") & ~said
    )
    return open_windows, events


def _settle(
    state: WindowState,
    merged: pl.DataFrame,
    idled: pl.DataFrame,
    closed_pane: pl.Series,
    folds: Folds,
) -> tuple[pl.DataFrame, Runs, Runs]:
    """Move the samples of closed panes, and compute the panes that closed, were revised or went idle.

    Returns: The computed pane rows, the open and the closed samples.
    """
    samples = merged.select("_device", "_pane", "_at", "_offset", *fields_of(state.plan))
    ended = samples["_pane"] < closed_pane.gather(samples["_device"])
    panes = state.open_windows.filter(pl.col("_panes") == 1)
    if (panes["_start"] < closed_pane.gather(panes["_device"])).any() or idled.height:
        pool = pl.concat([*state.open_samples.frames, samples])
        ended = pool["_pane"] < closed_pane.gather(pool["_device"])
        # Made whole, or each batch would leave one more chunk in what stays.
        moved, left = pool.filter(ended), pool.filter(~ended).rechunk()
        open_samples = Runs().with_rows(left, folds.nothing)
    elif ended.any():
        moved, left = samples.filter(ended), samples.filter(~ended)
        open_samples = state.open_samples.with_rows(left, folds.nothing)
    else:
        none = _no_panes(state.plan, tuple(samples.schema.items()))
        return none, state.open_samples.with_rows(samples, folds.nothing), state.closed_samples
    late_panes = merged.filter(pl.col("late") == REVISED).select("_device", "_pane").unique()
    work = [*state.closed_samples.matching(late_panes, "_pane"), moved]
    idle_panes = idled.filter(pl.col("_panes") == 1).select("_device", _pane="_start")
    if idle_panes.height:
        work.append(left.join(idle_panes, on=["_device", "_pane"], how="semi", maintain_order="left"))
    fresh = aggregate_panes(state.plan, pl.concat(work))
    return fresh, open_samples, state.closed_samples.with_rows(moved, folds.samples)


@lru_cache(maxsize=_PLANS_MAX)
def _no_panes(plan: WindowPlan, sample_schema: _SchemaItems) -> pl.DataFrame:
    """Return no pane rows, with their columns."""
    return aggregate_panes(plan, pl.DataFrame(schema=dict(sample_schema)))


def _with_parts(plan: WindowPlan, emitted: pl.DataFrame, fresh: pl.DataFrame, panes: Runs) -> pl.DataFrame:
    """Return the emitted windows with their parts: panes as just computed, larger ones merged from all their panes."""
    found = [fresh.with_columns(_panes=pl.lit(1, pl.Int64())).rename({"_pane": "_start"})]
    larger = emitted.filter(pl.col("_panes") > 1).select(KEY)
    if larger.height:
        inside = larger.with_columns(_pane=pl.int_ranges("_start", pl.col("_start") + pl.col("_panes"))).explode(
            "_pane"
        )
        rows = pl.concat(panes.matching(inside.select("_device", "_pane").unique(), "_pane"))
        newest = rows.unique(["_device", "_pane"], keep="last", maintain_order=True)
        found.append(merge_panes(plan, inside.join(newest, on=["_device", "_pane"])))
    windows = emitted.join(pl.concat(found, how="diagonal"), on=KEY, how="inner")
    assert windows.height == emitted.height, f"{emitted.height} windows ended, {windows.height} have panes"
    return windows

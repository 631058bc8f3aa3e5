"""How far each device's own time has come, reading by reading, and when silence counts as the end.

Event time is per device: a bus that returns from two hours without coverage is not late. Times are Int64 microseconds
since 1970, compared as pane numbers: with every window a whole number of panes, "the watermark has passed the window's
end" is `end pane <= floor(watermark / pane)`, in integers.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate

import msgspec
import polars as pl

from processors.contracts.windows import WindowPlan
from processors.stages.panes import US_PER_S

ON_TIME, REVISED, UNMERGED = 0, 1, 2
"""Values of `late`: in time for its pane; after the pane closed but still merged; in the lake alone."""


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """The spans of a plan in whole microseconds."""

    pane_us: int
    disorder_us: int
    lateness_us: int
    idle_us: int

    @classmethod
    def of(cls, plan: WindowPlan) -> "Patience":
        """Return the plan's spans."""
        return cls(
            pane_us=plan.pane_s * US_PER_S,
            disorder_us=round(plan.disorder_s * US_PER_S),
            lateness_us=round(plan.lateness_s * US_PER_S),
            idle_us=round(plan.idle_s * US_PER_S),
        )

    def closed_pane(self, newest: str) -> pl.Expr:
        """Return the end pane up to which windows are closed, from the newest measured_at; null before the first."""
        return (pl.col(newest) - self.disorder_us) // self.pane_us

    def lost_pane(self, newest: str) -> pl.Expr:
        """Return the end pane up to which windows can no longer be revised."""
        return (pl.col(newest) - (self.disorder_us + self.lateness_us)) // self.pane_us


def with_newest(rows: pl.DataFrame, newest: pl.Series) -> pl.DataFrame:
    """Return the rows with the device's newest measured_at before and after each.

    Args:
        rows: `_device`, `_at`, sorted by device, within a device in journal order.
        newest: Int64, device code -> newest measured_at before these rows, null for a new device.

    Returns: The rows with `_first` (the device's first row here), `_newest_before` (null before its first ever) and
        `_newest_after`.
    """
    first = (pl.col("_device") != pl.col("_device").shift(1)).fill_null(value=True)
    seed = newest.gather(rows["_device"])
    return rows.with_columns(
        _first=first, _newest_after=pl.max_horizontal(pl.col("_at").cum_max().over("_device"), seed)
    ).with_columns(_newest_before=pl.when("_first").then(seed).otherwise(pl.col("_newest_after").shift(1)))


def with_watermarks(rows: pl.DataFrame, newest: pl.Series, patience: Patience) -> pl.DataFrame:
    """Return the rows with where the device's windows stand before and after each, and whether it is late.

    Args:
        rows: `_device`, `_at`, sorted by device, within a device in journal order.
        newest: Int64, device code -> newest measured_at before these rows, null for a new device.
        patience: The plan's spans.

    Returns: The rows with what `with_newest` adds, `_pane`, the end panes `_closed_before` (null before the device's
        first reading ever) and `_closed_after`, and `late` Int8.
    """
    closed = patience.closed_pane("_newest_before")
    pane = pl.col("_at") // patience.pane_us
    late = pl.when(pane < patience.lost_pane("_newest_before")).then(UNMERGED).when(pane < closed).then(REVISED)
    return with_newest(rows, newest).with_columns(
        _pane=pane,
        _closed_before=closed,
        _closed_after=patience.closed_pane("_newest_after"),
        late=late.otherwise(ON_TIME).cast(pl.Int8()),
    )


class Silences(msgspec.Struct, frozen=True, eq=False):
    """Where devices fell silent within a batch.

    Attributes:
        segments: UInt32, per row of the batch how often its device had fallen silent before it.
        idle: `_device`, `_segment` (the segment the silence ends), `_offset` and `_received` of the tick that shows it.
    """

    segments: pl.Series
    idle: pl.DataFrame

    def rounds(self, rows: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """Yield every device's k-th segment with the silences that end it: devices do not know of each other.

        No rows and no silence give nothing.
        """
        if self.idle.is_empty():
            if rows.height:
                yield rows, self.idle
            return
        numbers = self.segments.unique().to_list() + self.idle["_segment"].unique().to_list()
        for number in range(max(numbers) + 1):
            yield rows.filter(self.segments == number), self.idle.filter(pl.col("_segment") == number)


_IDLE_SCHEMA = {"_device": pl.UInt32(), "_segment": pl.UInt32(), "_offset": pl.Int64(), "_received": pl.Int64()}


def find_silences(rows: pl.DataFrame, waiting: pl.DataFrame, ticks: pl.DataFrame, idle_us: int) -> Silences:
    """Find for every pause of a device the first tick that is `idle_us` past the receipt before the pause.

    Args:
        rows: `_device`, `_first`, `_offset`, `_received`, sorted by device, within a device in journal order.
        waiting: `_device`, `_received` (its last receipt) of devices with something to emit from earlier batches.
        ticks: `_offset`, `_received` in journal order.
        idle_us: The pause, microseconds.

    Returns: The silences; each is examined by itself, so ticks may go back in time when the gateway's clock does.
    """
    none = Silences(pl.zeros(rows.height, pl.UInt32(), eager=True), pl.DataFrame(schema=_IDLE_SCHEMA))
    offsets: list[int] = ticks["_offset"].to_list()
    received: list[int] = ticks["_received"].to_list()
    if not offsets:
        return none
    highest = list(accumulate(received, max))
    heard = [least for least in (rows["_received"].min(), waiting["_received"].min()) if isinstance(least, int)]
    if min(heard, default=highest[-1]) > highest[-1] - idle_us:
        return none
    marks: list[int] = []
    found: list[tuple[int, int, int]] = []
    for device, place, since, after, before, restart in _pauses(rows, waiting, highest[-1] - idle_us).iter_rows():
        start = 0 if after is None else bisect_right(offsets, after)
        stop = len(offsets) if before is None else bisect_left(offsets, before)
        for tick in range(max(start, bisect_left(highest, since + idle_us)), stop):
            if received[tick] >= since + idle_us:
                found.append((device, place, tick))
                if restart is not None:
                    marks.append(restart)
                break
    if not found:
        return none
    marked = pl.zeros(rows.height, pl.UInt32(), eager=True).alias("_mark").scatter(marks, 1)
    segments = rows.select("_device", marked).select(pl.col("_mark").cum_sum().over("_device")).to_series()
    idle = pl.DataFrame(
        [(device, 0 if place < 0 else segments[place], offsets[tick], received[tick]) for device, place, tick in found],
        schema=_IDLE_SCHEMA,
        orient="row",
    )
    return Silences(segments, idle)


def _pauses(rows: pl.DataFrame, waiting: pl.DataFrame, latest: int) -> pl.DataFrame:
    """Return pauses that began at or before `latest`: device, place, since, after, before, restart.

    A pause begins with the receipt `since` at row `place` (-1: in an earlier batch) and offset `after`, and ends before
    offset `before`, the one of row `restart` (both null: not in this batch).
    """
    last = pl.col("_first").shift(-1, fill_value=True)
    within = rows.with_row_index("_place").select(
        "_device",
        pl.col("_place").cast(pl.Int64()),
        "_received",
        pl.col("_offset").alias("_after"),
        pl.when(~last).then(pl.col("_offset").shift(-1)).alias("_before"),
        pl.when(~last).then(pl.col("_place").cast(pl.Int64()) + 1).alias("_restart"),
    )
    firsts = within.filter(rows["_first"]).select("_device", pl.col("_after").alias("_before"), _restart="_place")
    ahead = waiting.filter(pl.col("_received") <= latest).join(firsts, on="_device", how="left")
    ahead = ahead.select(
        "_device",
        pl.lit(-1, pl.Int64()).alias("_place"),
        "_received",
        pl.lit(None, pl.Int64()).alias("_after"),
        "_before",
        "_restart",
    )
    return pl.concat([ahead, within.filter(pl.col("_received") <= latest)])

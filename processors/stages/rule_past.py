"""What rules know of a device's own past: samples of it, so that memory is bounded and cuts do not show.

A *series* is an argument of functions with their span W, as in `rate(cell_temp_max_c, 60 s)`: its points are the
in-order readings of a device (or part) whose argument is not null. Event time is cut into buckets of W/8
(`floor(t / (W/8))`); a *sample* is the first point of a bucket. A function of the reading r, at time t with value x,
sees the samples at or before r whose bucket is at most 8 before that of r, and r itself. The oldest of these, `then`,
is 7/8 W to 9/8 W old where the device sends at least every W/8.

    rate(x, W) = (x - x_then) / (t - t_then), per second     lowest(x, W), highest(x, W) over the samples and x
    change(x, W) = x - x_then

All four are null where x is, or where `then` is less than W/2 before r: after the first readings, after a gap, of a
device that sends too seldom. Samples, not readings: what lies between them is in no lowest or highest, except r itself.

State per device and series: a ring of RING samples of 16 bytes; the sample of bucket b is in place b modulo RING, so
that samples are written before they are looked for, and the readings of a batch need no pass of their own.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
import polars as pl

from processors.stages.rule_columns import finite, full
from processors.stages.rule_rows import NEVER, Rows, before, longer, quotient, scattered
from processors.stages.runs import from_ipc, to_ipc

BUCKETS: Final = 8
RING: Final = 12
"""Samples of one ring: 9 that a reading may see, and 3 that later readings of the same batch may write before."""

_LONG_CELLS_MAX: Final = 1 << 21
"""Samples held at once for the devices of a batch that holds more of their time than fits into RING: 32 MiB."""
_LONG_RING_MIN: Final = 4 * BUCKETS
_AT: Final = pl.Int64()
_VALUE: Final = pl.Float64()
_PLACE: Final = pl.UInt32()
_ALL_BACK: Final = pl.DataFrame({"back": range(BUCKETS, -1, -1)}, schema={"back": _AT})
_TRUE: Final = pl.Series([True])


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """A series: its span W in us, and whether somebody asks for the lowest or highest of its samples."""

    span_us: int
    has_extremes: bool

    @property
    def width_us(self) -> int:
        """Width of a bucket."""
        return max(self.span_us // BUCKETS, 1)


class Past(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Samples of all series of one stream. A value: nothing changes it.

    Attributes:
        at: Time of each sample in us, NEVER for an empty place: for each device code the rings of all series.
        value: Their values, in the same order.
    """

    at: pl.Series = pl.Series([], dtype=_AT)
    value: pl.Series = pl.Series([], dtype=_VALUE)

    def grown(self, cells: int) -> "Past":
        """Return the past with room for so many samples."""
        return Past(at=longer(self.at, cells, NEVER), value=longer(self.value, cells, 0.0))

    def with_samples(self, places: pl.Series, at: pl.Series, value: pl.Series) -> "Past":
        """Return the past with samples at these places."""
        return Past(at=scattered(self.at, places, at), value=scattered(self.value, places, value))

    def to_parts(self, devices: int, series: int) -> list[bytes]:
        """Return of each series the rings of all devices, as an Arrow IPC file."""
        cells = devices * series * RING
        if not cells:
            return [b""] * series
        past = self.grown(cells)
        rings = pl.DataFrame([past.at.head(cells).alias("at"), past.value.head(cells).alias("value")])
        rings = rings.select(pl.all().reshape((-1, RING)))
        return [to_ipc(rings.gather_every(series, place)) for place in range(series)]

    @classmethod
    def from_parts(cls, parts: Sequence[bytes], devices: int) -> "Past":
        """Invert `to_parts`, with empty rings where a part is b""."""
        if not devices or not any(parts):
            return cls()
        cells = cls().grown(devices * RING)
        empty = pl.DataFrame([cells.at.alias("at"), cells.value.alias("value")]).head(devices * RING)
        empty = empty.select(pl.all().reshape((-1, RING)))
        rings = pl.concat(empty if frame is None else frame for frame in map(from_ipc, parts))
        place = pl.int_range(devices * len(parts), eager=True)
        rings = rings[place % len(parts) * devices + place // len(parts)].select(pl.all().reshape((-1,)))
        return cls(at=rings["at"], value=rings["value"])

    def of_devices(self, codes: pl.Series, devices: int, series: int) -> "Past":
        """Return the past of some of the devices, in their order."""
        each = series * RING
        if not codes.len() or not each:
            return Past()
        past = self.grown(devices * each)
        place = pl.int_range(codes.len() * each, eager=True)
        places = (codes.cast(_AT)[place // each] * each + place % each).cast(_PLACE)
        return Past(at=past.at[places], value=past.value[places])


class Points(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Readings of all series whose argument is not null, one series after the other, each sorted as the rows.

    Attributes:
        row: Series times the height of the rows, plus row.
        at, x: Time in us and value.
        key: Device code times the number of series, plus series.
        bucket: Number of its bucket.
        since: When that begins, in us.
        width: Width of the buckets of its series.
        begins: Whether it is the first point of its key.
        extremes: How many of the points, from the first on, are of series of which lowest or highest are asked.
    """

    row: pl.Series
    at: pl.Series
    x: pl.Series
    key: pl.Series
    bucket: pl.Series
    since: pl.Series
    width: pl.Series
    begins: pl.Series
    extremes: int

    @classmethod
    def of(cls, looks: Sequence[Look], rows: Rows, arguments: Sequence[pl.Series]) -> "Points":
        """Return the points of the rows; looks with extremes are the first."""
        height, series = rows.height, len(looks)
        first_key = rows.device.cast(_AT) * series
        widths = [pl.Series([look.width_us], dtype=_AT).new_from_index(0, height) for look in looks]
        buckets = [quotient(rows.at, look.width_us) for look in looks]
        points = cls(
            row=pl.int_range(series * height, dtype=_PLACE, eager=True),
            at=pl.concat([rows.at] * series, rechunk=True),
            x=pl.concat(arguments, rechunk=True),
            key=pl.concat([first_key + place for place in range(series)], rechunk=True),
            bucket=pl.concat(buckets, rechunk=True),
            since=pl.concat(
                [bucket * look.width_us for bucket, look in zip(buckets, looks, strict=True)], rechunk=True
            ),
            width=pl.concat(widths, rechunk=True),
            begins=pl.concat([rows.first] * series, rechunk=True),
            extremes=sum(look.has_extremes for look in looks) * height,
        )
        return points.only(points.x.is_not_null()) if points.x.null_count() else points

    def only(self, kept: pl.Series) -> "Points":
        """Return the points where `kept` is true."""
        columns = [getattr(self, name).filter(kept) for name in _COLUMNS]
        key: pl.Series = columns[3]
        begins = pl.concat([_TRUE.head(key.len()), key.slice(1) != key.head(max(key.len() - 1, 0))], rechunk=True)
        return Points(
            **dict(zip(_COLUMNS, columns, strict=True)), begins=begins, extremes=int(kept.head(self.extremes).sum())
        )

    @property
    def height(self) -> int:
        """How many points."""
        return self.row.len()

    def spread(self) -> pl.Series | None:
        """Return how many buckets lie between the first and the last point of each point's key; None for 0 or few."""
        if self.begins.all():
            return None
        starts = self.begins.arg_true()
        ends = pl.concat([starts.slice(1) - 1, pl.Series([self.height - 1], dtype=starts.dtype)], rechunk=True)
        spread = self.bucket[ends] - self.bucket[starts]
        widest = spread.max()
        if not isinstance(widest, int) or widest < RING - BUCKETS:
            return None
        return spread[self.begins.cum_sum().cast(_PLACE) - 1]


_COLUMNS: Final = ("row", "at", "x", "key", "bucket", "since", "width")


class Window(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Points, and where what they see stands.

    `past` holds rings of `ring` places, `start` is where a point's ring begins, `slot` a number that grows with its
    bucket by as much, or by more than BUCKETS where that does; see `_long_windows`.

    Slots of the points of one ring are less than `ring - BUCKETS` apart: so nothing that a point sees is overwritten by
    later ones, and nothing newer than a point stands where it looks.
    """

    points: Points
    past: Past
    start: pl.Series
    slot: pl.Series
    ring: int

    def write(self) -> "Window":
        """Return the window with the samples among its points written."""
        points = self.points
        fresh = points.begins | (points.bucket != before(points.bucket))
        places = self.place(0)
        # The first point of a bucket is a sample unless an earlier batch had one: that is not older than the bucket.
        fresh &= self.past.at[places] < points.since
        past = self.past.with_samples(places.filter(fresh), points.at.filter(fresh), points.x.filter(fresh))
        return msgspec.structs.replace(self, past=past)

    def place(self, back: int) -> pl.Series:
        """Return where the sample of so many buckets before stands."""
        slot = (self.slot - back) % self.ring
        return (self.start + slot).cast(_PLACE)

    def seen(self) -> "Seen":
        """Return what the points see."""
        points = self.points
        oldest = points.since - points.width * BUCKETS
        then_at = pl.Series([NEVER], dtype=_AT).new_from_index(0, points.height)
        then_place = pl.Series([0], dtype=_PLACE).new_from_index(0, points.height)
        low = high = points.x.head(points.extremes)
        for back in range(BUCKETS + 1):
            # What is newer than half the span is too new for `then`: only the extremes look at it.
            is_old = back >= BUCKETS // 2
            if not is_old and not points.extremes:
                continue
            place = self.place(back) if is_old else self.place(back).head(points.extremes)
            at = self.past.at[place]
            is_seen = at >= (oldest if is_old else oldest.head(points.extremes))
            if is_old:
                then_at, then_place = at.zip_with(is_seen, then_at), place.zip_with(is_seen, then_place)
            if points.extremes:
                value, is_seen = self.past.value[place.head(points.extremes)], is_seen.head(points.extremes)
                low = value.zip_with(is_seen & (value < low), low)
                high = value.zip_with(is_seen & (value > high), high)
        is_known = (then_at != NEVER) & (points.at - then_at >= points.width * (BUCKETS // 2))
        return Seen(
            row=points.row,
            at=points.at,
            x=points.x,
            then_at=then_at,
            then_x=self.past.value[then_place],
            is_known=is_known,
            low=low,
            high=high,
        )

    def histories(self, rows: pl.Series) -> dict[int, list[tuple[int, float]]]:
        """Return of the points of these rows the samples (us, value) that they see, oldest first, and themselves."""
        asked = self.points.row.is_in(rows.implode()).arg_true()
        places = [self.place(back)[asked] for back in range(BUCKETS, -1, -1)]
        at = [self.past.at[place].to_list() for place in places]
        value = [self.past.value[place].to_list() for place in places]
        points = self.points
        oldest = (points.since - points.width * BUCKETS)[asked]
        own = zip(points.row[asked], points.at[asked], points.x[asked], oldest, strict=True)
        histories = {}
        for place, (row, own_at, own_x, oldest_at) in enumerate(own):
            samples = [(at[k][place], value[k][place]) for k in range(BUCKETS + 1) if at[k][place] >= oldest_at]
            histories[row] = samples if samples[-1:] == [(own_at, own_x)] else [*samples, (own_at, own_x)]
        return histories


class Seen(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What points see: `then`, meaningless where it is not known, and of the first of them the lowest and highest."""

    row: pl.Series
    at: pl.Series
    x: pl.Series
    then_at: pl.Series
    then_x: pl.Series
    is_known: pl.Series
    low: pl.Series
    high: pl.Series

    def value(self, function: str) -> pl.Series:
        """Return a function's value at the points, of `lowest` and `highest` at those that have one."""
        if function == "lowest":
            return self._if_known(self.low)
        if function == "highest":
            return self._if_known(self.high)
        change = self.x - self.then_x
        if function == "rate":
            # Where nothing is known the time may be anything, also none.
            change = finite(change / ((self.at - self.then_at) / 1e6))
        return self._if_known(change)

    def _if_known(self, values: pl.Series) -> pl.Series:
        height = values.len()
        return values.zip_with(self.is_known.head(height), full(None, _VALUE, height))


class Looked:
    """What the readings of a batch saw.

    Args:
        windows: Points with the samples that they see, each point once.
        height: How many readings there are.
        series: How many series.
    """

    def __init__(self, windows: Sequence[Window], height: int, series: int) -> None:
        self._windows, self._height, self._series = windows, height, series
        self._seen = [window.seen() for window in windows]
        self._long: dict[str, pl.Series] = {}

    def values(self, function: str, series: int) -> pl.Series:
        """Return a function's value at each reading."""
        if function not in self._long:
            self._long[function] = self._joined(function)
        return self._long[function].slice(series * self._height, self._height)

    def histories(self, series: int, rows: Sequence[int]) -> dict[int, list[tuple[int, float]]]:
        """Return of readings the samples (us, value) that they saw in a series, oldest first, and themselves."""
        first = series * self._height
        asked = pl.Series([first + row for row in rows], dtype=_PLACE)
        return {row - first: samples for window in self._windows for row, samples in window.histories(asked).items()}

    def _joined(self, function: str) -> pl.Series:
        """Return a function's value at the points of all series, null where there is none."""
        height = self._height * self._series
        found = [seen.value(function) for seen in self._seen]
        if len(found) == 1 and found[0].len() == self._seen[0].row.len() == height:
            return found[0]
        joined = full(None, _VALUE, height)
        for seen, values in zip(self._seen, found, strict=True):
            joined = joined.scatter(seen.row.head(values.len()), values)
        return joined


def look_back(
    looks: Sequence[Look], past: Past, rows: Rows, arguments: Sequence[pl.Series], devices: int
) -> tuple[Looked, Past]:
    """Return what readings see of their past, and the past with their samples.

    Args:
        looks: The series, those of `past`; at least one, those with extremes first.
        past: Samples of all earlier readings.
        rows: In-order readings, at least one.
        arguments: Of each series its argument at the rows, Float64.
        devices: How many devices are known; each code is below.
    """
    points = Points.of(looks, rows, arguments)
    past = past.grown(devices * len(looks) * RING)
    spread = points.spread()
    near, far = (points, None) if spread is None else _split(points, spread)
    window = Window(points=near, past=past, start=near.key * RING, slot=near.bucket, ring=RING).write()
    past, windows = window.past, [window]
    if far is not None:
        more, past = _long_windows(past, far)
        windows += more
    return Looked(windows, rows.height, len(looks)), past


def _split(points: Points, spread: pl.Series) -> tuple[Points, Points]:
    """Return the points of keys that fit into the ring, and the others."""
    is_far = spread >= RING - BUCKETS
    return points.only(~is_far), points.only(is_far)


def _long_windows(past: Past, points: Points) -> tuple[list[Window], Past]:
    """Return windows of points that reach further than RING, and the past with their samples.

    They have longer rings of their own, into which what the first point of each key may see is copied, and come in
    several windows if memory asks for it. Slots count from BUCKETS at a key's first point. More than BUCKETS buckets
    without a point count as BUCKETS + 1, since no point sees across; so the rings that are needed depend on how many
    points there are, whatever their times.
    """
    frame = pl.DataFrame([getattr(points, name).alias(name) for name in (*_COLUMNS, "begins")])
    begins, bucket = pl.col("begins"), pl.col("bucket")
    step = pl.when(begins).then(0).otherwise((bucket - bucket.shift(1)).clip(upper_bound=BUCKETS + 1))
    frame = frame.with_columns(group=begins.cum_sum().cast(_AT) - 1, steps=step.cum_sum()).with_columns(
        slot=pl.col("steps") - pl.when(begins).then("steps").forward_fill() + BUCKETS
    )
    firsts, lasts = frame.filter(begins), frame.filter(begins.shift(-1, fill_value=True))
    longest = lasts.select(pl.col("slot").max()).item() + 1
    ring = max(min(longest, _LONG_CELLS_MAX // firsts.height), _LONG_RING_MIN)
    local = Past().grown(firsts.height * ring)
    known = firsts.select("key", "group", "bucket", "width").join(_ALL_BACK, how="cross")
    known = known.with_columns(source=pl.col("key") * RING + (bucket - pl.col("back")) % RING)
    known = known.with_columns(at=past.at[known["source"].cast(_PLACE)])
    known = known.filter(pl.col("at") // pl.col("width") == bucket - pl.col("back"))
    places = known.select(pl.col("group") * ring + BUCKETS - pl.col("back")).to_series()
    local = local.with_samples(places, known["at"], past.value[known["source"].cast(_PLACE)])

    windows = []
    part = (frame["slot"] - BUCKETS) // (ring - BUCKETS)
    for number in part.unique().sort() if longest > ring else part.head(1):
        chosen = part == number if longest > ring else full(value=True, dtype=pl.Boolean(), height=part.len())
        some = frame.filter(chosen)
        window = Window(
            points=points.only(chosen), past=local, start=some["group"] * ring, slot=some["slot"], ring=ring
        ).write()
        windows.append(window)
        local = window.past
    kept = lasts.select("key", "group", "bucket", "width", "slot").join(_ALL_BACK, how="cross")
    source = kept.select((pl.col("group") * ring + (pl.col("slot") - pl.col("back")) % ring).cast(_PLACE)).to_series()
    kept = kept.with_columns(at=local.at[source], x=local.value[source])
    number = pl.col("at") // pl.col("width")
    kept = kept.filter(number >= bucket - BUCKETS).with_columns(place=pl.col("key") * RING + number % RING)
    return windows, past.with_samples(kept["place"].cast(_PLACE), kept["at"], kept["x"])

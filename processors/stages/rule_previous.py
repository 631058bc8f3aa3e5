"""`previous(x)`: the newest value that an earlier in-order reading of the device (or part) had.

Earlier is earlier in the journal and not later in event time. Null where there was none, or where that is longer ago
than the rule's `needs`, RULE_PREVIOUS_S without. State per device and argument: one value and its time.
"""

from typing import Final

import msgspec
import polars as pl

from processors.stages.rule_columns import full
from processors.stages.rule_rows import NEVER, Rows, longer, scattered
from processors.stages.runs import from_ipc, to_ipc

_AT: Final = pl.Int64()


class Last(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The newest value of one argument of each device. A value: nothing changes it.

    Attributes:
        at: Device code -> its time in us, NEVER for none; devices past the end have none.
        value: Device code -> value.
    """

    at: pl.Series
    value: pl.Series

    @classmethod
    def empty(cls, dtype: pl.DataType) -> "Last":
        """Return that of no device."""
        return cls(at=pl.Series([], dtype=_AT), value=pl.Series([], dtype=dtype))

    def grown(self, devices: int) -> "Last":
        """Return it with room for so many devices."""
        return Last(at=longer(self.at, devices, NEVER), value=longer(self.value, devices, None))

    def to_bytes(self) -> bytes:
        """Return it as one Arrow IPC file."""
        return to_ipc(pl.DataFrame([self.at.alias("at"), self.value.alias("value")]))

    @classmethod
    def from_bytes(cls, payload: bytes) -> "Last":
        """Invert `to_bytes`."""
        frame = from_ipc(payload)
        assert frame is not None
        return cls(at=frame["at"], value=frame["value"])

    def of_devices(self, codes: pl.Series, devices: int) -> "Last":
        """Return that of some of the devices, in their order."""
        last = self.grown(devices)
        return Last(at=last.at[codes], value=last.value[codes])


class Earlier(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Of each row the newest value before it, and how long ago that was, us."""

    value: pl.Series
    ago_us: pl.Series

    def within(self, most_us: int) -> pl.Series:
        """Return the values, null where they are longer ago."""
        return self.value.zip_with(self.ago_us <= most_us, full(None, self.value.dtype, self.value.len()))


def look_before(last: Last, rows: Rows, argument: pl.Series, devices: int) -> tuple[Earlier, Last]:
    """Return what each row finds before it, and the newest values after the rows.

    Args:
        last: The newest values before them.
        rows: In-order readings.
        argument: Its value at each row.
        devices: How many devices are known; each code is below.
    """
    last = last.grown(devices)
    at, value = last.at[rows.device], last.value[rows.device]
    if rows.ends is not None:
        at, value = _within_the_batch(rows, argument, at, value)
    if rows.ends is None and not argument.null_count():
        device, newest_at, newest = rows.device, rows.at, argument
    else:
        known = argument.is_not_null()
        # The last known value of each device is the one after which none of it is known.
        places = known.arg_true()
        device = rows.device[places]
        ends = pl.concat([device.slice(1) != device.head(max(device.len() - 1, 0)), _TRUE.head(device.len())])
        places = places.filter(ends)
        device, newest_at, newest = rows.device[places], rows.at[places], argument[places]
    after = Last(at=scattered(last.at, device, newest_at), value=_replaced(last.value, device, newest))
    return Earlier(value=value, ago_us=rows.at - at), after


_TRUE: Final = pl.Series([True])


def _within_the_batch(rows: Rows, argument: pl.Series, at: pl.Series, value: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return time and value before each row, `at` and `value` where the batch has none before it."""
    place, first, known = pl.int_range(pl.len(), dtype=pl.Int64()), pl.col("first"), pl.col("argument").is_not_null()
    frame = pl.DataFrame([rows.first.alias("first"), argument.alias("argument")])
    found = frame.select(
        begin=pl.when(first).then(place).forward_fill(),
        place=pl.when(known).then(place).forward_fill().shift(1),
    )
    is_here = (found["place"] >= found["begin"]).fill_null(value=False)
    places = found["place"].fill_null(0).cast(pl.UInt32())
    return rows.at[places].zip_with(is_here, at), argument[places].zip_with(is_here, value)


def _replaced(series: pl.Series, places: pl.Series, values: pl.Series) -> pl.Series:
    if series.dtype.is_numeric():
        return scattered(series, places, values)
    # Texts and truths are not scattered in place.
    index = pl.int_range(series.len(), dtype=pl.UInt32(), eager=True)
    index = index.scatter(
        places, pl.int_range(series.len(), series.len() + values.len(), dtype=pl.UInt32(), eager=True)
    )
    return pl.concat([series, values], rechunk=True)[index]

"""Readings as rules look at them: sorted by device, in order, and only the columns that somebody asks for."""

from typing import Final

import polars as pl

NEVER: Final = -(1 << 62)
"""A time in us for what has not happened: before all times, and without nulls, which would cost more."""


class Rows:
    """Readings of a batch, sorted by device, within a device in journal order. Nothing changes them.

    Attributes:
        device: Device code, UInt32.
        at: Time in us, Int64.
        first: Whether it is the first reading of its device here.
        ends: Places of the last reading of each device, UInt32; None if each device has one reading.
    """

    def __init__(self, frame: pl.DataFrame, order: pl.Series | None, device: pl.Series, at: pl.Series) -> None:
        self._frame, self._order = frame, order
        self.device, self.at = device, at
        self.first = _begins(device)
        self.ends: pl.Series | None = None
        if not self.first.all():
            self.ends = pl.concat([self.first.slice(1), pl.Series([True])], rechunk=True).arg_true()

    @classmethod
    def by_device(cls, frame: pl.DataFrame, codes: pl.Series, devices: int) -> "Rows":
        """Return all rows of a batch.

        Args:
            frame: Readings sorted by (offset, record), at least one.
            codes: Their device codes.
            devices: How many devices are known.
        """
        at = frame["measured_at"].cast(pl.Int64())
        height = frame.height
        place = pl.int_range(height, eager=True)
        if height <= devices:
            # Each row writes its place under its device: where it is still there, nobody else wrote.
            written = pl.Series([0]).new_from_index(0, devices).scatter(codes, place)
            if (written[codes] == place).all():
                return cls(frame, None, codes, at)
        order = ((codes.cast(pl.Int64()) * height + place).sort() % height).cast(pl.UInt32())
        return cls(frame, order, codes[order], at[order])

    @property
    def height(self) -> int:
        """How many rows."""
        return self.device.len()

    def column(self, name: str) -> pl.Series:
        """Return a column of the readings."""
        column = self._frame[name]
        return column if self._order is None else column[self._order]

    def only(self, kept: pl.Series) -> "Rows":
        """Return the rows where `kept` is true."""
        order = kept.arg_true() if self._order is None else self._order.filter(kept)
        return Rows(self._frame, order, self.device.filter(kept), self.at.filter(kept))

    def last(self, column: pl.Series) -> pl.Series:
        """Return of each device the last value of one of its columns."""
        return column if self.ends is None else column[self.ends]


def _begins(keys: pl.Series) -> pl.Series:
    """Return whether each key differs from the one before."""
    return pl.concat([pl.Series([True]), keys.slice(1) != keys.head(keys.len() - 1)], rechunk=True)


def before(column: pl.Series) -> pl.Series:
    """Return the column one row later; the first row has its own value."""
    return pl.concat([column.head(1), column.head(column.len() - 1)], rechunk=True)


def longer(series: pl.Series, height: int, value: object) -> pl.Series:
    """Return the series with `value` behind it up to a height, and more where it grows, so that growth is rare."""
    if series.len() >= height:
        return series
    more = pl.Series([value], dtype=series.dtype).new_from_index(0, height - series.len() + height // 8)
    return pl.concat([series, more], rechunk=True)


def quotient(times: pl.Series, by: int) -> pl.Series:
    """Return `floor(times / by)` of times in us, as Int64.

    Floor division is planned as an expression, which costs more than it. Whole numbers below 2**53 divide exactly.
    """
    return ((times - times % by) / by).cast(pl.Int64())


def scattered(series: pl.Series, places: pl.Series, values: pl.Series) -> pl.Series:
    """Return the series with other values at some places."""
    return series.clone().scatter(places, values)

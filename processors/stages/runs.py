"""Append-only piles of rows that are folded now and then instead of being rewritten at every batch."""

from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Final

import msgspec
import polars as pl

Fold = Callable[[pl.DataFrame], pl.DataFrame]
"""Drops or combines rows that no reader of a pile can tell from the original; keeps the order of those that stay."""


_RUNS_MAX: Final = 8
"""A look-up asks each run, at about 0.3 ms; fewer runs are copied more often."""


class Runs(msgspec.Struct, frozen=True, eq=False):
    """Rows in order of arrival, held in at most _RUNS_MAX runs, newest last.

    Appending is free until there is one run too many; then the newest are folded into one, back to the first that is at
    least twice as high as all after it. So a row is copied a few times in its life, and what a fold can drop needs no
    pass of its own: a pile stays below about three times its live rows.

    Attributes:
        frames: Non-empty frames of one schema, oldest first.
    """

    frames: tuple[pl.DataFrame, ...] = ()

    @property
    def height(self) -> int:
        """Rows held, those a fold would drop included."""
        return sum(frame.height for frame in self.frames)

    def with_rows(self, rows: pl.DataFrame, fold: Fold) -> "Runs":
        """Return the pile with `rows` at its end."""
        if rows.is_empty():
            return self
        frames = (*self.frames, rows)
        if len(frames) <= _RUNS_MAX:
            return Runs(frames)
        first = len(frames) - 2
        height = rows.height + frames[first].height
        while first and frames[first - 1].height < 2 * height:
            first -= 1
            height += frames[first].height
        merged = fold(pl.concat(frames[first:], rechunk=True))
        return Runs((*frames[:first], merged) if merged.height else frames[:first])

    def matching(self, keys: pl.DataFrame, ordered_by: str) -> Iterator[pl.DataFrame]:
        """Yield, oldest first and in order, the rows of each run whose key is among `keys`.

        Args:
            keys: Key columns, `_device` (UInt32 code) one of them; unique rows.
            ordered_by: The integer key column by which old rows differ from new ones.
        """
        if keys.is_empty():
            return
        low, high = keys[ordered_by].min(), keys[ordered_by].max()
        for frame in self.frames:
            # A range and a table of devices leave few rows for the join, and of those only the keys are copied.
            asked = pl.zeros(_highest(frame["_device"], keys["_device"]) + 1, pl.Boolean(), eager=True)
            asked = asked.scatter(keys["_device"], values=True).gather(frame["_device"])
            near = frame.select(keys.columns).with_row_index("_place")
            near = near.filter(asked & frame[ordered_by].is_between(low, high))
            if near.height:
                places = near.join(keys, on=keys.columns, how="semi", maintain_order="left")["_place"]
                yield frame.select(pl.all().gather(places))

    def to_frame(self, fold: Fold) -> pl.DataFrame | None:
        """Return all live rows in order of arrival, or None for an empty pile that does not know its columns yet."""
        return fold(pl.concat(self.frames)) if self.frames else None


def _highest(*columns: pl.Series) -> int:
    return max(code for code in (column.max() for column in columns) if isinstance(code, int))


def to_runs(frame: pl.DataFrame | None) -> Runs:
    """Return a pile of the rows of `frame`."""
    return Runs() if frame is None or frame.is_empty() else Runs((frame,))


def to_ipc(frame: pl.DataFrame | None) -> bytes:
    """Return the frame as one Arrow IPC file; b"" for None."""
    if frame is None:
        return b""
    sink = BytesIO()
    frame.write_ipc(sink, compression="zstd")
    return sink.getvalue()


def from_ipc(payload: bytes) -> pl.DataFrame | None:
    """Invert `to_ipc`."""
    return pl.read_ipc(BytesIO(payload)) if payload else None

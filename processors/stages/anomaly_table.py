"""Numbers of many series side by side: one array a quantity, one row a series, made larger, copied and kept together.

A table is the memory of a detector. Between batches it is a value that nobody changes: who wants to change it takes
a `copy`, so that a batch that fails leaves no trace.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from gateway.core.errors import CheckpointError

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_GROWN: Final = 64
"""Rows for which room is made at least; beyond that an eighth more than are needed."""


class Column(msgspec.Struct, frozen=True):
    """One quantity: its NumPy type, what it is of a series of which nothing is known, and its shape a series."""

    dtype: str
    blank: float
    shape: tuple[int, ...] = ()


class _Packed(msgspec.Struct, frozen=True):
    height: int
    columns: dict[str, bytes]


class Table:
    """Columns of one height.

    Args:
        layout: Name -> column.
        height: Series, each blank.
    """

    def __init__(self, layout: Mapping[str, Column], height: int = 0) -> None:
        self._layout = layout
        self.height = height
        self._columns = {name: _blank(column, height) for name, column in layout.items()}

    def __getitem__(self, name: str) -> Array:
        """Return a column; the array is the table's own."""
        return self._columns[name][: self.height]

    def __setitem__(self, name: str, values: Array) -> None:
        """Replace a column."""
        assert len(values) == self.height, f"{name} has {len(values)} rows, not {self.height}"
        self._columns[name] = values

    @property
    def nbytes(self) -> int:
        """Bytes of all columns."""
        return sum(column.nbytes for column in self._columns.values())

    def copy(self, height: int | None = None) -> "Table":
        """Return a table of its own with the same rows, and blank ones after them.

        Args:
            height: How many series the copy has, at least as many as there are; None for those.
        """
        copy = Table(self._layout)
        copy.height = self.height if height is None else height
        room = len(next(iter(self._columns.values()), ()))
        if copy.height > room:
            room = max(copy.height + copy.height // 8, _GROWN)
        for name, column in self._layout.items():
            made = np.empty((room, *column.shape), column.dtype)
            made[: self.height] = self[name]
            made[self.height :] = column.blank
            copy._columns[name] = made
        return copy

    def take(self, rows: Ints) -> "Table":
        """Return a table of these rows, in their order."""
        taken = Table(self._layout)
        taken.height = len(rows)
        taken._columns = {name: self[name][rows] for name in self._layout}
        return taken

    def to_bytes(self) -> bytes:
        """Return the rows as one MessagePack map."""
        columns = {name: np.ascontiguousarray(self[name]).tobytes() for name in self._layout}
        return msgspec.msgpack.encode(_Packed(self.height, columns))

    @classmethod
    def from_bytes(cls, layout: Mapping[str, Column], payload: bytes) -> "Table":
        """Invert `to_bytes`.

        Raises: CheckpointError: The bytes are no table of this layout.
        """
        try:
            packed = msgspec.msgpack.decode(payload, type=_Packed)
        except msgspec.DecodeError as exc:
            raise CheckpointError(f"table of a detector is unreadable: {exc}") from exc
        table = cls(layout)
        table.height = packed.height
        for name, column in layout.items():
            shape = (packed.height, *column.shape)
            wanted = np.dtype(column.dtype).itemsize * int(np.prod(shape))
            found = packed.columns.get(name, b"")
            if len(found) != wanted:
                raise CheckpointError(f"column '{name}' of a detector has {len(found)} bytes, not {wanted}")
            table._columns[name] = np.frombuffer(found, column.dtype).reshape(shape)
        return table


def _blank(column: Column, height: int) -> Array:
    return np.full((height, *column.shape), column.blank, column.dtype)

"""Which row of a detector's tables belongs to which device, found for a whole batch without joining names.

A join of each batch with 10,000 names costs 0.9 ms, five times a second; a look-up by a 64-bit hash of the names costs
a twentieth. Two of 100,000 devices share a hash with a probability of 3e-10, and would then share a history.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from processors.stages.anomaly_table import Ints

_Keys = npt.NDArray[np.uint64]
_SLOTS_MIN: Final = 256
_NOBODY: Final = -1


class Roster:
    """Devices (or their parts) in order of appearance: a device's code is its row. A value: nothing changes it.

    Args:
        names: Tenant, device and where there are parts the part, one row a device.
    """

    def __init__(self, names: pl.DataFrame) -> None:
        self.names = names
        self._slot_keys, self._slot_codes = _index(_keys(names))

    @classmethod
    def empty(cls, owner: tuple[str, ...]) -> "Roster":
        """Return the roster without devices; `owner` names the columns."""
        return cls(pl.DataFrame(schema=dict.fromkeys(owner, pl.String())))

    @property
    def height(self) -> int:
        """How many devices there are."""
        return self.names.height

    def with_devices(self, rows: pl.DataFrame) -> tuple["Roster", Ints]:
        """Return the roster with the devices of the rows, and the code of each row."""
        roster, codes = self, self._codes(rows)
        if len(codes) and codes.min() < 0:
            fresh = rows.select(self.names.columns).filter(pl.Series(codes < 0)).unique(maintain_order=True)
            roster = Roster(pl.concat([self.names, fresh], rechunk=True))
            codes = roster._codes(rows)
        return roster, codes

    def take(self, codes: Ints) -> "Roster":
        """Return the roster of these devices alone, in their order."""
        return Roster(self.names[codes])

    def _codes(self, rows: pl.DataFrame) -> Ints:
        # Not `select`, which plans a query, five times as long as what it would do here.
        keys = _keys(pl.DataFrame([rows.get_column(name) for name in self.names.columns]))
        mask = np.uint64(len(self._slot_keys) - 1)
        slots = keys & mask
        codes: Ints = self._slot_codes[slots]
        lost = np.flatnonzero((codes != _NOBODY) & (self._slot_keys[slots] != keys))
        while len(lost):
            slots[lost] = (slots[lost] + np.uint64(1)) & mask
            codes[lost] = self._slot_codes[slots[lost]]
            lost = lost[(codes[lost] != _NOBODY) & (self._slot_keys[slots[lost]] != keys[lost])]
        return codes


def _keys(names: pl.DataFrame) -> _Keys:
    return names.hash_rows(seed=0).to_numpy() if names.height else np.empty(0, np.uint64)


def _index(keys: _Keys) -> tuple[_Keys, Ints]:
    """Return an open-addressed table, at most half full: key and code of each slot, _NOBODY where it is free."""
    size = max(_SLOTS_MIN, 1 << (2 * len(keys)).bit_length())
    mask = np.uint64(size - 1)
    slot_keys, slot_codes = np.zeros(size, np.uint64), np.full(size, _NOBODY, np.int64)
    slots, left = keys & mask, np.arange(len(keys))
    while len(left):
        free = left[slot_codes[slots[left]] == _NOBODY]
        slot_codes[slots[free]] = free
        slot_keys[slots[free]] = keys[slot_codes[slots[free]]]
        left = left[slot_codes[slots[left]] != left]
        slots[left] = (slots[left] + np.uint64(1)) & mask
    return slot_keys, slot_codes

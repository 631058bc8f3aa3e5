"""Small integers for devices: state and joins work on these codes, names come back only at the edge of a stage.

Where a contract names a `part`, each part of a device has a code of its own; rows that name no part share one.
"""

from collections.abc import Sequence

import polars as pl

NAMES = ("tenant", "device_id")
EMPTY = pl.DataFrame(schema={"tenant": pl.String(), "device_id": pl.String()})
"""A roster without devices. A roster only grows: a device's code is its row."""


def owner_of(part: str | None) -> tuple[str, ...]:
    """Return the columns that say whose a reading is: the device, and its part where there are parts."""
    return NAMES if part is None else (*NAMES, part)


def with_devices(
    roster: pl.DataFrame, readings: pl.DataFrame, names: Sequence[str] = NAMES
) -> tuple[pl.DataFrame, pl.Series]:
    """Return the roster with the devices of `readings` added in order of appearance, and each row's code.

    Args:
        roster: Known devices, columns `names` first; a new device has null in the others.
        readings: Rows with the columns `names`, shape (n, any).
        names: NAMES, and the part where there are parts; a part may be null.

    Returns: The grown roster, and a UInt32 series of n codes.
    """
    codes = _codes(roster, readings, names)
    if codes.null_count():
        fresh = readings.select(names).filter(codes.is_null()).unique(maintain_order=True)
        roster = pl.concat([roster, fresh], how="diagonal")
        codes = _codes(roster, readings, names)
    return roster, codes


def _codes(roster: pl.DataFrame, readings: pl.DataFrame, names: Sequence[str]) -> pl.Series:
    known = roster.select(names).with_row_index("_device")
    has_part = len(names) > len(NAMES)
    return readings.select(names).join(known, on=names, how="left", maintain_order="left", nulls_equal=has_part)[
        "_device"
    ]

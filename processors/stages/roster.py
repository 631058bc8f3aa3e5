"""Small integers for devices: state and joins work on these codes, names come back only at the edge of a stage."""

import polars as pl

NAMES = ("tenant", "device_id")
EMPTY = pl.DataFrame(schema={"tenant": pl.String(), "device_id": pl.String()})
"""A roster without devices. A roster only grows: a device's code is its row."""


def with_devices(roster: pl.DataFrame, readings: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
    """Return the roster with the devices of `readings` added in order of appearance, and each row's code.

    Args:
        roster: Known devices, columns NAMES first; a new device has null in the others.
        readings: Rows with the columns NAMES, shape (n, any).

    Returns: The grown roster, and a UInt32 series of n codes.
    """
    codes = _codes(roster, readings)
    if codes.null_count():
        fresh = readings.select(NAMES).filter(codes.is_null()).unique(maintain_order=True)
        roster = pl.concat([roster, fresh], how="diagonal")
        codes = _codes(roster, readings)
    return roster, codes


def _codes(roster: pl.DataFrame, readings: pl.DataFrame) -> pl.Series:
    known = roster.select(NAMES).with_row_index("_device")
    return readings.select(NAMES).join(known, on=NAMES, how="left", maintain_order="left")["_device"]

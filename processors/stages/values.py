"""Columns as they arrived to columns as the contract promises them: times, scales, sentinels, codes, plausible ranges.

Everything here looks at one row at a time, however many rows there are: a batch gives what its records give alone.
"""

import sys
from typing import Any, Final

import msgspec
import polars as pl

from processors.contracts.model import MEASURED_AT, Field, FieldPath, FieldType, TimeFormat, TimeSpec

ABSENT_CLOCK: Final = "clock_absent"
"""Flag of a reading without a time of its own, measured when it was received."""

TIME_MIN_US: Final = 0
TIME_MAX_US: Final = 2**32 * 1_000_000
"""Times from 1970 up to where an unsigned 32-bit clock of seconds ends, in 2106. Outside, a number was read in the
wrong unit or a register was empty; inside, a wrong clock is a matter for `processors.stages.clocks`."""

_EPOCH_TO_US: Final = {TimeFormat.EPOCH_S: 1e6, TimeFormat.EPOCH_MS: 1e3}
_NAIVE_FORMATS: Final = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f")


def time_texts(spec: TimeSpec, columns: dict[FieldPath, list[Any]]) -> pl.Series:
    """Return the time as it arrived: text, or the number; null where a part of it is missing."""
    if spec.format in {TimeFormat.EPOCH_S, TimeFormat.EPOCH_MS}:
        return pl.Series("measured_at", columns[spec.paths[0]], dtype=pl.Float64)
    if spec.format in {TimeFormat.EPOCH_US, TimeFormat.EPOCH_NS}:
        return pl.Series("measured_at", columns[spec.paths[0]], dtype=pl.Int64)
    parts = [pl.Series(f"t{i}", columns[path], dtype=pl.String) for i, path in enumerate(spec.paths)]
    if len(parts) == 1:
        return parts[0].rename("measured_at")
    return pl.select(pl.concat_str(parts, separator=" ").alias("measured_at")).to_series()


def to_times(spec: TimeSpec, arrived: pl.Series) -> pl.Series:
    """Return the times in UTC, microseconds; null where there is none, it cannot be read, or it is absurd.

    A time in the hour that clocks repeat in autumn is the earlier one; one they leave out in spring is none.
    """
    match spec.format:
        case TimeFormat.EPOCH_S | TimeFormat.EPOCH_MS:
            micros = (arrived * _EPOCH_TO_US[TimeFormat(spec.format)]).round()
            times = _cast(micros)
        case TimeFormat.EPOCH_US:
            times = _cast(arrived)
        case TimeFormat.EPOCH_NS:
            times = _cast(arrived // 1000)
        case TimeFormat.ISO8601:
            times = _iso8601(arrived, spec.zone)
        case _:
            # Python's %f is a fraction, Polars' a count of nanoseconds; its %.f is the fraction with the dot.
            written = spec.format.replace(".%f", "%.f")
            times = _to_utc(arrived.str.to_datetime(written, time_unit="us", strict=False), spec.zone)
    micros = times.to_physical()
    plausible = (micros >= TIME_MIN_US) & (micros < TIME_MAX_US)
    return (
        times if plausible.all(ignore_nulls=True) else times.zip_with(plausible.fill_null(value=False), _nulls(times))
    )


def _cast(micros: pl.Series) -> pl.Series:
    return micros.cast(pl.Int64, strict=False).cast(MEASURED_AT)


def _iso8601(arrived: pl.Series, zone: str) -> pl.Series:
    """Read RFC 3339, the common case, in one pass; what is left may lack a zone."""
    times = arrived.str.to_datetime("%+", time_unit="us", strict=False)
    if times.null_count() == arrived.null_count():
        return times
    for naive in _NAIVE_FORMATS:
        read = arrived.str.to_datetime(naive, time_unit="us", strict=False)
        times = times.zip_with(times.is_not_null(), _to_utc(read, zone))
    return times


def _to_utc(times: pl.Series, zone: str) -> pl.Series:
    if times.dtype == MEASURED_AT:
        return times
    local = times.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return local.dt.convert_time_zone("UTC")


def _nulls(like: pl.Series) -> pl.Series:
    return pl.Series(like.name, [None], dtype=like.dtype).new_from_index(0, len(like))


class Refined(msgspec.Struct, frozen=True):
    """Fields as promised.

    Attributes:
        columns: `flags`, then one per field in the contract's order.
        lacking: Field name -> rows (Boolean) in which a required field is missing after all.
        flagged: Code -> rows that carry it.
    """

    columns: list[pl.Series]
    lacking: dict[str, pl.Series]
    flagged: dict[str, int]


def refine(fields: tuple[Field, ...], arrived: dict[FieldPath, list[Any]]) -> Refined:
    """Return the fields as promised from the values as they arrived, equally many of each.

    Works on series, not on lazy expressions: those cost 0.1 to 0.2 ms a query, and most batches of a small fleet are
    small.
    """
    columns: list[pl.Series] = []
    lacking: dict[str, pl.Series] = {}
    faults: dict[str, pl.Series] = {}
    for field in fields:
        column, fault = _column(field, arrived[field.path])
        if field.required and field.missing and column.null_count():
            lacks = column.is_null() if fault is None else column.is_null() & ~fault
            if lacks.any():
                lacking[field.name] = lacks
        if fault is not None:
            column = column.zip_with(~fault, _nulls(column))
            faults[f"{'enum' if field.type is FieldType.ENUM else 'range'}:{field.name}"] = fault
        columns.append(column)
    rows = len(columns[0])
    flags = _flags(dict(sorted(faults.items())), rows)
    return Refined([flags, *columns], lacking, {code: int(fault.sum()) for code, fault in faults.items()})


def _column(field: Field, arrived: list[Any]) -> tuple[pl.Series, pl.Series | None]:
    """Return a field's values and the rows (Boolean) in which they are implausible, None if in no row."""
    if field.values is not None:
        return _enum_column(field, field.values, arrived)
    missing = frozenset(field.missing)
    if missing and not missing.isdisjoint(arrived):
        arrived = [None if value in missing else value for value in arrived]
    column = pl.Series(field.name, arrived, dtype=field.dtype, strict=True)
    if field.type is FieldType.FLOAT:
        column = _scaled(column, field)
    low, high = _bounds(field)
    if low is None or high is None:
        return column, None
    # NaN is greater than any number here, so it is above; infinity is above or below.
    fault = (column < low) | (column > high)
    return column, fault.fill_null(value=False) if fault.any() else None


def _scaled(column: pl.Series, field: Field) -> pl.Series:
    """Return `sign * (column * scale + offset)`, with the error of one rounding where the scale is 1/n.

    Operands are whole series, because Polars divides by a number by multiplying with its inverse (523 / 10 would be
    52.300000000000004 and not 52.3), and subtracts from 0 by changing the sign (an idle battery's current would be -0).
    """
    n = round(1 / field.scale)
    if field.scale != 1.0:
        column = column / _constant(n, len(column)) if n and field.scale == 1 / n else column * field.scale
    if field.offset:
        column = column + field.offset
    return (_constant(0, len(column)) - column).rename(field.name) if field.sign < 0 else column


def _constant(value: float, rows: int) -> pl.Series:
    return pl.Series([value], dtype=pl.Float64).new_from_index(0, rows)


def _enum_column(
    field: Field, names: dict[str, str] | dict[int, str], arrived: list[Any]
) -> tuple[pl.Series, pl.Series | None]:
    name_of: dict[Any, str] = {**names}
    column = pl.Series(field.name, list(map(name_of.get, arrived)), dtype=pl.String)
    known = {None, *name_of, *field.missing}
    if known.issuperset(arrived):
        return column, None
    return column, pl.Series([code not in known for code in arrived])


def _bounds(field: Field) -> tuple[float | None, float | None]:
    if field.low is None and field.type is FieldType.FLOAT:
        return -sys.float_info.max, sys.float_info.max
    return field.low, field.high


def _flags(faults: dict[str, pl.Series], rows: int) -> pl.Series:
    """Return the codes of each row, joined by commas in their order; null where there are none."""
    if not faults:
        return pl.Series("flags", [None], dtype=pl.String).new_from_index(0, rows)
    codes = [pl.when(fault).then(pl.lit(code)) for code, fault in faults.items()]
    joined = pl.concat_str(codes, separator=",", ignore_nulls=True)
    return pl.select(pl.when(joined != "").then(joined).alias("flags")).to_series()

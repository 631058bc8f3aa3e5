"""Columns as they arrived to columns as the contract promises them: times, scales, sentinels, codes, plausible ranges.

Everything here looks at one row at a time, however many rows there are: a batch gives what its records give alone.
"""

from typing import Any, Final

import msgspec
import polars as pl

from processors.contracts.model import MEASURED_AT, Contract, Field, FieldPath, FieldType, TimeFormat, TimeSpec

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
        frame: One column per field, and `flags`.
        lacking: Field name -> rows (Boolean) in which a required field is missing after all.
        flagged: Code -> rows that carry it.
    """

    frame: pl.DataFrame
    lacking: dict[str, pl.Series]
    flagged: dict[str, int]


class FieldRefiner:
    """The vectorised part of one contract."""

    def __init__(self, contract: Contract) -> None:
        """Build the contract's expressions."""
        self._fields = contract.fields
        self._raw_types = {field.name: _raw_dtype(field) for field in contract.fields}
        self._canonical = [expr for field in contract.fields if (expr := _canonical(field)) is not None]
        self._named = [_named(field) for field in contract.fields if field.type is FieldType.ENUM]
        # In the order of the codes, so that joining them gives sorted flags.
        self._faulty = dict(sorted(_faulty(field) for field in contract.fields if _can_be_faulty(field)))
        self._field_of = {_flag(field): field.name for field in contract.fields}
        self._required = [field.name for field in contract.fields if field.required and field.missing]

    def refine(self, columns: dict[FieldPath, list[Any]]) -> Refined:
        """Return the fields as promised from the values as they arrived."""
        frame = pl.DataFrame(
            [
                pl.Series(field.name, columns[field.path], dtype=self._raw_types[field.name], strict=True)
                for field in self._fields
            ]
        )
        if self._canonical:
            frame = frame.with_columns(self._canonical)
        lacking = {name: lacks for name in self._required if (lacks := frame[name].is_null()).any()}
        flagged = self._count(frame)
        if flagged:
            masks = {code: self._faulty[code] for code in flagged}
            codes = [pl.when(mask).then(pl.lit(code)) for code, mask in masks.items()]
            joined = pl.concat_str(codes, separator=",", ignore_nulls=True)
            cleared = [
                pl.when(~mask).then(self._field_of[code]).alias(self._field_of[code]) for code, mask in masks.items()
            ]
            flags = pl.when(joined != "").then(joined).alias("flags")
            frame = frame.with_columns(*cleared, flags)
        else:
            frame = frame.with_columns(flags=pl.lit(None, dtype=pl.String))
        return Refined(frame.with_columns(self._named) if self._named else frame, lacking, flagged)

    def _count(self, frame: pl.DataFrame) -> dict[str, int]:
        if not self._faulty or not frame.height:
            return {}
        sums = frame.select(mask.sum().alias(code) for code, mask in self._faulty.items())
        return {code: rows for code, rows in sums.row(0, named=True).items() if rows}


def _raw_dtype(field: Field) -> pl.DataType:
    if field.type is FieldType.ENUM:
        return pl.String() if any(isinstance(code, str) for code in field.values or {}) else pl.Int64()
    return field.dtype


def _canonical(field: Field) -> pl.Expr | None:
    """Return the field without sentinels, scaled, with its canonical sign; None where that is how it arrives."""
    value = pl.col(field.name)
    if field.missing:
        sentinels = pl.Series(field.missing, dtype=_raw_dtype(field), strict=False)
        value = pl.when(~value.is_in(sentinels.implode())).then(value)
    if field.scale != 1.0:
        value = value * field.scale
    if field.offset:
        value = value + field.offset
    if field.sign < 0:
        value = 0.0 - value  # not -value, which makes -0.0 of an idle battery's current
    changes = field.missing or field.scale != 1.0 or field.offset or field.sign < 0
    return value.alias(field.name) if changes else None


def _can_be_faulty(field: Field) -> bool:
    return field.type in {FieldType.FLOAT, FieldType.ENUM} or field.low is not None


def _flag(field: Field) -> str:
    return f"{'enum' if field.type is FieldType.ENUM else 'range'}:{field.name}"


def _faulty(field: Field) -> tuple[str, pl.Expr]:
    """Return the code and the rows in which the field is not null and not plausible; NaN and infinity never are."""
    value = pl.col(field.name)
    if field.type is FieldType.ENUM:
        plausible = value.is_in(pl.Series(list(field.values or {}), dtype=_raw_dtype(field)).implode())
    elif field.low is not None and field.high is not None:
        plausible = value.is_between(field.low, field.high)
    else:
        plausible = value.is_finite()
    return _flag(field), ~plausible


def _named(field: Field) -> pl.Expr:
    assert field.values
    codes, names = list(field.values), list(field.values.values())
    return pl.col(field.name).replace_strict(codes, names, default=None, return_dtype=pl.String)

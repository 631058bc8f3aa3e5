"""What a detector of anomalies found, before names are put to it, and the row that it becomes."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import polars as pl

from processors.stages.anomaly_samples import shown
from processors.stages.findings import BEGINS, ENDS, FINDINGS_SCHEMA, NO_FINDINGS

_ORDER: Final = ("offset", "record", "stream", "rule", "part")
_TIMES: Final = [name for name, dtype in FINDINGS_SCHEMA.items() if isinstance(dtype, pl.Datetime)]
_RAW_SCHEMA: Final = {**FINDINGS_SCHEMA, **dict.fromkeys(_TIMES, pl.Int64())}


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One beginning or end.

    Attributes:
        code: Device.
        begins: Whether it begins.
        at_us: Time of the sample that decided.
        since_us, since_offset: Time and message of the sample with which it began.
        value, limit: What was measured and what it was held against; None where that is no number.
        evidence: As in FINDINGS_SCHEMA, but for `history`: (seconds since 1970, value).
    """

    code: int
    begins: bool
    at_us: int
    since_us: int
    since_offset: int
    value: float | None
    limit: float | None
    evidence: Mapping[str, Any]


class Tick(msgspec.Struct, frozen=True):
    """The tick at which samples are looked at."""

    offset: int
    received_us: int


Row = tuple[Any, ...]


def to_row(found: Found, tick: Tick, owner: Sequence[str | None], *, stream: str, rule: str, unit: str) -> Row:
    """Return a row of FINDINGS_SCHEMA with its times in microseconds.

    Args:
        found: What was found.
        tick: What decided it: the samples are looked at together.
        owner: Tenant, device and where there are parts the part.
        stream: The rule's stream.
        rule: Its name.
        unit: Of value and limit.
    """
    evidence = dict(found.evidence)
    history = [[_iso(at), value] for at, value in evidence.pop("history", ())]
    part = owner[2] if len(owner) > 2 else None
    return (
        tick.offset,
        0,
        tick.received_us,
        owner[0],
        owner[1],
        part,
        stream,
        rule,
        BEGINS if found.begins else ENDS,
        found.at_us,
        found.since_us,
        found.since_offset,
        None if found.value is None else shown(found.value),
        None if found.limit is None else shown(found.limit),
        unit,
        msgspec.json.encode({**evidence, "history": history}).decode(),
    )


def to_findings(rows: Sequence[Row]) -> pl.DataFrame:
    """Return the rows as a frame, sorted."""
    if not rows:
        return NO_FINDINGS
    frame = pl.DataFrame(rows, schema=_RAW_SCHEMA, orient="row")
    frame = frame.with_columns(pl.col(_TIMES).cast(pl.Datetime("us", "UTC")))
    return frame.sort(*_ORDER, "tenant", "device_id", maintain_order=True)


def _iso(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

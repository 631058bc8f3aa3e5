"""What a detector says: that a rule began to hold somewhere, or ended. The one shape that all detectors share.

A finding is a row. An *episode* is one stay of one rule on one device (or part of it): a row that begins it and later
one that ends it, which repeat the same `since_offset`. Detectors are functions of the journal: the same entries give
the same findings however they are cut into batches, each caused by the entry at `offset`.
"""

from typing import Final

import polars as pl

TIME: Final = pl.Datetime("us", "UTC")
BEGINS: Final = "begins"
ENDS: Final = "ends"

FINDINGS_SCHEMA: Final[dict[str, pl.DataType]] = {
    "offset": pl.Int64(),
    "record": pl.Int32(),
    "received_at": TIME,
    "tenant": pl.String(),
    "device_id": pl.String(),
    "part": pl.String(),
    "stream": pl.String(),
    "rule": pl.String(),
    "event": pl.String(),
    "at": TIME,
    "since": TIME,
    "since_offset": pl.Int64(),
    "value": pl.Float64(),
    "limit": pl.Float64(),
    "unit": pl.String(),
    "evidence": pl.String(),
}
"""Columns of a findings frame, sorted by (offset, record, stream, rule, part).

offset, record, received_at: The entry that decided it, and which reading inside it; 0 where a tick decided.
part: Part of the device (a connector), null for the device itself.
event: BEGINS or ENDS.
at: Event time of the reading that decided it; of a tick when that was received.
since, since_offset: When the condition began to hold (the episode waited for its `for`), and the offset of that entry:
    with device, part, stream and rule it names the episode.
value, limit, unit: What was measured, what it was held against, and the unit of both; null where it is no number.
evidence: JSON object of what a person wants to see, at most EVIDENCE_BYTES_MAX bytes: `readings` {field: value},
    `limit` (the limit in words), `history` [[iso time, value], ...] (at most 20), and what else the detector knows.
"""

NO_FINDINGS: Final = pl.DataFrame(schema=FINDINGS_SCHEMA)

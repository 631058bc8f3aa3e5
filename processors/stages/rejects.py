"""Rejects that the chain itself makes, and the table of all."""

from collections.abc import Sequence
from typing import Final

import polars as pl

from gateway.core.ids import Offset
from gateway.core.records import EntryBatch
from gateway.core.text import peer_text
from processors.stages.faults import Rejection

ROUTE: Final = "route"
"""Stage that refuses entries on whose channel nobody may speak, or not the one who did."""

_TIME: Final = pl.Datetime("us", "UTC")
_REJECTS_SCHEMA: Final[dict[str, pl.DataType]] = {
    "offset": pl.Int64(),
    "record": pl.Int32(),
    "received_at": _TIME,
    "tenant": pl.String(),
    "device_id": pl.String(),
    "channel": pl.String(),
    "stage": pl.String(),
    "code": pl.String(),
    "path": pl.String(),
    "expected": pl.String(),
    "got": pl.String(),
    "payload": pl.Binary(),
}


def unknown_channel(batch: EntryBatch, place: int) -> Rejection:
    """Return the reject of the entry at `place`, whose channel no contract names."""
    channel = batch.routes[batch.route_index[place]].channel
    return _rejection(
        batch,
        place,
        stage=ROUTE,
        code="unknown_channel",
        expected="a channel that a contract names",
        got=peer_text(channel),
    )


def crashed(batch: EntryBatch, crash: BaseException) -> Rejection:
    """Return the reject of the only entry of a batch, which crashed the chain."""
    return _rejection(
        batch, 0, stage="chain", code="crash", expected="a message that processing survives", got=peer_text(repr(crash))
    )


def _rejection(batch: EntryBatch, place: int, *, stage: str, code: str, expected: str, got: str) -> Rejection:
    route = batch.routes[batch.route_index[place]]
    return Rejection(
        offset=Offset(batch.base_offset + place),
        record=0,
        tenant=route.tenant,
        device_id=route.device_id,
        channel=route.channel,
        stage=stage,
        code=code,
        path="$",
        expected=expected,
        got=got,
        payload=batch.payloads[place],
        received_at_ns=batch.received_at_ns[place],
    )


def to_rejects(rejections: Sequence[Rejection]) -> pl.DataFrame:
    """Return the rows of the table `rejects`, by offset and record."""
    frame = pl.DataFrame(
        [
            (
                r.offset,
                r.record,
                r.received_at_ns // 1000,
                r.tenant,
                r.device_id,
                r.channel,
                r.stage,
                r.code,
                r.path,
                r.expected,
                r.got,
                r.payload,
            )
            for r in sorted(rejections, key=lambda r: (r.offset, r.record))
        ],
        schema=pl.Schema(_REJECTS_SCHEMA | {"received_at": pl.Int64()}),
        orient="row",
    )
    return frame.with_columns(pl.col("received_at").cast(_TIME))

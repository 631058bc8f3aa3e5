"""Journal entries of one stream to its readings frame, and a rejection for every record that cannot become a reading.

Numbered as in the body: 1 bytes to records, 2 records to columns, 3 columns to fields, times and identity, 4 rows that
lack what makes a reading become rejections.

Rules: a record that is not of its contract's types is refused as a whole; so is one whose time, identity or required
field cannot be read. A value that has the right type and is implausible becomes null with a flag. Text is never taken
for a number. A payload without any record is refused, so every entry gives at least one reading or rejection. Unknown
keys are skipped and not counted: the decoder passes over them in C, and looking for them would double its cost.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import polars as pl

from gateway.core.limits import BATCH_RECORDS_MAX, REJECT_PAYLOAD_BYTES_MAX
from gateway.core.records import EntryBatch
from gateway.core.text import peer_text
from processors.contracts.model import MEASURED_AT, Contract, FieldPath
from processors.contracts.record_type import to_columns
from processors.stages.faults import STAGE, Fault, Rejection, shown_path
from processors.stages.records import RecordReader, Records
from processors.stages.values import ABSENT_CLOCK, refine, time_texts, to_times


class Decoded(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch held.

    Attributes:
        readings: Readings frame in the contract's columns, ordered by offset and record.
        rejections: Records refused, in the same order.
        records: Readings plus rejections; at least one for each entry.
        flagged: Flag code -> readings that carry it, those refused for another reason included.
    """

    readings: pl.DataFrame
    rejections: list[Rejection]
    records: int
    flagged: dict[str, int]


class StreamDecoder:
    """Decodes the entries of one stream; holds nothing but what it derived from the contract."""

    def __init__(self, contract: Contract, *, records_max: int = BATCH_RECORDS_MAX) -> None:
        """Derive the decoders from the contract, a few milliseconds; `records_max` holds for several entries."""
        self._contract = contract
        self._reader = RecordReader(contract, records_max=records_max)
        self._time_path = shown_path(contract.time.paths[0])
        self._time_expected = f"{contract.time.format} between 1970-01-01 and 2106-02-07"

    def decode(self, batch: EntryBatch, select: Sequence[int] | None = None) -> Decoded:
        """Return the readings in the entries of this stream.

        Args:
            batch: Journal entries.
            select: Places in the batch of the entries of this stream, ascending; None for all.

        Raises:
            BatchTooLarge: The entries hold too many records for one call; fewer entries give the same rows in parts.
        """
        payloads = batch.payloads if select is None else [batch.payloads[i] for i in select]
        # 1
        records = self._reader.read(payloads)
        # 2
        columns = to_columns(records.flat, self._reader.group)
        # 3
        refined = refine(self._contract.fields, columns)
        arrived = time_texts(self._contract.time, columns)
        measured_at = to_times(self._contract.time, arrived)
        tenant, device_id, *receipt = _senders(batch, select, records)
        readings = pl.DataFrame([tenant, device_id, measured_at, *receipt, *refined.columns])
        flagged = refined.flagged
        if self._contract.time.absent_is_received and arrived.null_count():
            absent = arrived.is_null()
            measured_at = measured_at.zip_with(~absent, readings["received_at"])
            readings = readings.with_columns(measured_at, flags=_with_absent_clock(absent))
            flagged = flagged | {ABSENT_CLOCK: int(absent.sum())}
        # 4
        lacking = self._identity_lacks(columns, readings)
        if measured_at.null_count():
            lacking.append(_Lack("time", self._time_path, self._time_expected, measured_at.is_null(), arrived))
        for name, rows in refined.lacking.items():
            path = shown_path(self._contract.field(name).path)
            lacking.append(_Lack("required", path, "a value", rows, None))
        faults = records.faults
        if lacking:
            good, refused = self._refuse(lacking, readings, payloads, records)
            readings = readings.filter(good)
            faults = [*faults, *refused]
        if not readings["offset"].is_sorted():
            # Records of one payload were read in their order.
            readings = readings.sort("offset", maintain_order=True)
        rejections = [self._rejection(batch, select, fault) for fault in faults]
        rejections.sort(key=lambda rejection: (rejection.offset, rejection.record))
        return Decoded(
            readings=readings,
            rejections=rejections,
            records=len(records.entries) + len(records.faults),
            flagged=flagged,
        )

    def _identity_lacks(self, columns: dict[FieldPath, list[Any]], readings: pl.DataFrame) -> "list[_Lack]":
        identity = self._contract.identity
        if identity is None or columns[identity].count(None) == readings.height:
            return []
        named = pl.Series("identity", columns[identity], dtype=pl.String)
        wrong = (named != readings["device_id"]).fill_null(value=False)
        return [_Lack("identity", shown_path(identity), "the sending device", wrong, named)] if wrong.any() else []

    def _refuse(
        self, lacking: "list[_Lack]", readings: pl.DataFrame, payloads: list[bytes], records: Records
    ) -> tuple[pl.Series, list[Fault]]:
        """Return the rows to keep and the faults of the others, each with the first thing it lacks."""
        good = pl.Series("good", [True]).new_from_index(0, readings.height)
        faults: list[Fault] = []
        split: tuple[int, list[bytes]] = (-1, [])
        for lack in lacking:
            for row in (lack.rows & good).arg_true():
                entry, place = records.entries[row], records.places[row]
                if split[0] != entry:
                    payload = payloads[entry]
                    split = (entry, [payload] if records.is_one_each else self._reader.record_bytes(payload))
                payload = split[1][place]
                got = "a value that stands for missing" if lack.arrived is None else _shown(lack.arrived[row])
                payload = payload[:REJECT_PAYLOAD_BYTES_MAX]
                faults.append(Fault(entry, place, lack.code, lack.path, lack.expected, got, payload))
            good = good & ~lack.rows
        return good, faults

    def _rejection(self, batch: EntryBatch, select: Sequence[int] | None, fault: Fault) -> Rejection:
        at = fault.entry if select is None else select[fault.entry]
        route = batch.routes[batch.route_index[at]]
        return Rejection(
            offset=batch.base_offset + at,
            record=fault.record,
            tenant=route.tenant,
            device_id=route.device_id,
            channel=route.channel,
            stage=STAGE,
            code=fault.code,
            path=fault.path,
            expected=fault.expected,
            got=fault.got,
            payload=fault.payload,
            received_at_ns=batch.received_at_ns[at],
        )


class _Lack(msgspec.Struct, frozen=True):
    """Rows that lack what makes a reading; `arrived` is what came instead, None if that goes without saying."""

    code: str
    path: str
    expected: str
    rows: pl.Series
    arrived: pl.Series | None


def decode(contract: Contract, batch: EntryBatch, select: Sequence[int] | None = None) -> Decoded:
    """Decode one batch; who decodes many keeps a `StreamDecoder`."""
    return StreamDecoder(contract).decode(batch, select)


def _senders(batch: EntryBatch, select: Sequence[int] | None, records: Records) -> list[pl.Series]:
    """Return tenant, device_id, received_at, offset and record: who sent each record, when it came, and where it is."""
    at = pl.int_range(len(batch), dtype=pl.Int64, eager=True)
    route = pl.Series(batch.route_index, dtype=pl.UInt32)
    received_at = pl.Series("received_at", batch.received_at_ns, dtype=pl.Int64).cast(pl.Datetime("ns", "UTC"))
    place = pl.Series("record", [0], dtype=pl.Int32).new_from_index(0, len(records.entries))
    if select is not None:
        at = pl.Series(select, dtype=pl.Int64)
    if not records.is_one_each:
        at = at[pl.Series(records.entries, dtype=pl.UInt32)]
        place = pl.Series("record", records.places, dtype=pl.Int32)
    if select is not None or not records.is_one_each:
        route, received_at = route[at], received_at[at]
    return [
        pl.Series("tenant", [route.tenant for route in batch.routes], dtype=pl.String)[route],
        pl.Series("device_id", [route.device_id for route in batch.routes], dtype=pl.String)[route],
        received_at.cast(MEASURED_AT),
        (at + batch.base_offset).rename("offset"),
        place,
    ]


def _with_absent_clock(absent: pl.Series) -> pl.Expr:
    # Flags are sorted, and the codes of fields begin with later letters.
    flags = pl.concat_str([pl.lit(ABSENT_CLOCK), "flags"], separator=",", ignore_nulls=True)
    return pl.when(absent).then(flags).otherwise("flags")


def _shown(value: object) -> str:
    return peer_text("nothing" if value is None else str(value))

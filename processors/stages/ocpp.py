"""Journal entries of chargers to readings frames: OCPP frames, and what the gateway saw of connections.

One entry may give rows of several streams (a StopTransaction ends a transaction and has meter values), so one decoder
serves all three at once. What a frame means is known to `gateway.wire.ocpp`; here records become columns, times are
read, and what cannot be a row becomes a reject. Every entry gives at least one row or reject.

Flags beside those of decoding and of `gateway.wire.ocpp.records`: `no_zone`, a time that names no zone and is taken for
UTC; `clock_unset`, a clock that stands before 2000 because nobody has set it, which `set_unset_clocks` corrects.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import polars as pl

from gateway.core.limits import BATCH_RECORDS_MAX, REJECT_PAYLOAD_BYTES_MAX
from gateway.core.records import EntryBatch
from gateway.core.text import peer_text
from gateway.wire.ocpp import records_v2, records_v16
from gateway.wire.ocpp.records import METER, STATUS, STREAMS, Record, RecordFault, read_connection
from gateway.wire.ocpp.versions import Version
from processors.contracts.load import ContractSet
from processors.contracts.model import MEASURED_AT, Contract, Origin
from processors.stages.clocks import Clamped
from processors.stages.decode import Decoded
from processors.stages.faults import STAGE, FaultReader, Rejection
from processors.stages.payloads import DECODE_ERRORS, Unreadable
from processors.stages.records import BatchTooLarge
from processors.stages.values import refine, to_times

NO_ZONE: Final = "no_zone"
CLOCK_UNSET: Final = "clock_unset"
SET_FROM: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""No charger that speaks OCPP was made before; a clock that stands there has not been set since it had power."""

_CONNECTION: Final = "ocpp/"
_EVENTS: Final = frozenset({"connected", "disconnected", "security"})
_STREAM_OF: Final[dict[str, dict[str, str]]] = {
    Version.V16: records_v16.STREAM_OF,
    Version.V201: records_v2.STREAM_OF,
    Version.V21: records_v2.STREAM_OF,
}
_ZONE: Final = r"([Zz]|[+-]\d\d:?\d\d)$"
_BEFORE_1970: Final = r"^(0\d\d\d|1[0-8]\d\d|19[0-6]\d)-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d"
"""The zero of other systems' clocks, such as 0001-01-01T00:00:00Z; it says no more than that of 1970."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_EXPECTED: Final = "a time of RFC 3339 before 2106-02-07"

Reader = Callable[[bytes], list[Record]]


def stream_of(channel: str) -> str | None:
    """Return the stream whose rows an entry on this channel gives in the first place, None for no channel of OCPP."""
    level, _, action = channel.partition("/")
    if not action:
        return None
    if level == "ocpp":
        return STATUS if action in _EVENTS else None
    streams = _STREAM_OF.get(level)
    if streams is None:
        return None
    return METER if action == "MeterValues" else streams.get(action, STATUS)


class OcppDecoder:
    """Decodes the entries of chargers; holds nothing but what it derived from the contracts."""

    def __init__(self, contracts: ContractSet, *, records_max: int = BATCH_RECORDS_MAX) -> None:
        """Take the contracts of the three streams; `records_max` holds for several entries."""
        self._contracts = {
            contract.stream: contract
            for contract in contracts
            if contract.origin is Origin.OCPP and contract.stream in STREAMS
        }
        self._records_max = records_max
        self._read_16 = records_v16.read
        self._read_2 = {version: records_v2.FrameReader(version).read for version in (Version.V201, Version.V21)}
        self._faults = {stream: FaultReader(contract) for stream, contract in self._contracts.items()}

    @property
    def contracts(self) -> tuple[Contract, ...]:
        """Contracts of the streams that it serves: all three, or none where one of them is missing."""
        return tuple(self._contracts.values()) if len(self._contracts) == len(STREAMS) else ()

    def decode(self, batch: EntryBatch, select: Sequence[int]) -> dict[str, Decoded]:
        """Return what the entries of chargers hold, by stream; a stream of which they hold nothing is left out.

        Args:
            batch: Journal entries.
            select: Places in the batch of the entries whose channel `stream_of` knows, ascending.

        Raises:
            BatchTooLarge: The entries hold too many records for one call; fewer entries give the same rows in parts.
        """
        readers: dict[int, Reader] = {}
        found = {stream: _Found(contract) for stream, contract in self._contracts.items()}
        count = 0
        for place in select:
            index = batch.route_index[place]
            reader = readers.get(index)
            if reader is None:
                reader = readers[index] = self._reader(batch.routes[index].channel)
            payload = batch.payloads[place]
            try:
                records = reader(payload)
            except (*DECODE_ERRORS, RecordFault) as exc:
                stream = stream_of(batch.routes[index].channel)
                assert stream is not None
                found[stream].rejections.append(self._rejection(exc, stream, batch, place))
                count += 1
                continue
            for number, record in enumerate(records):
                found[record.stream].add(place, number, record)
            count += len(records)
            if count > self._records_max and len(select) > 1:
                raise BatchTooLarge(len(select), self._records_max)
        return {stream: one.decoded(batch) for stream, one in found.items() if one.rows or one.rejections}

    def _reader(self, channel: str) -> Reader:
        level, _, action = channel.partition("/")
        if channel.startswith(_CONNECTION):
            return lambda payload: read_connection(action, payload)
        if level == Version.V16:
            return lambda payload: self._read_16(action, payload)
        read = self._read_2[Version(level)]
        return lambda payload: read(action, payload)

    def _rejection(self, exc: Exception, stream: str, batch: EntryBatch, place: int) -> Rejection:
        if isinstance(exc, RecordFault):
            exc = Unreadable(exc.code, expected=exc.expected, got=exc.got, path=exc.path)
        payload = batch.payloads[place]
        fault = self._faults[stream].fault(exc, syntax="json", entry=place, record=0, payload=payload)
        return _rejection(batch, place, 0, code=fault.code, path=fault.path, expected=fault.expected, got=fault.got)


class _Found:
    """Rows of one stream while a batch is read."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._places: list[int] = []
        self._numbers: list[int] = []
        self._times: list[str | None] = []
        self._flags: dict[int, set[str]] = {}
        self.rows: list[dict[str, Any]] = []
        self.rejections: list[Rejection] = []

    def add(self, place: int, number: int, record: Record) -> None:
        self._places.append(place)
        self._numbers.append(number)
        self._times.append(record.measured_at)
        if record.flags:
            self._flags[len(self.rows)] = record.flags
        self.rows.append(record.fields)

    def decoded(self, batch: EntryBatch) -> Decoded:
        refined = refine(
            self._contract.fields, {field.path: self._column(field.name) for field in self._contract.fields}
        )
        arrived = pl.Series("measured_at", self._times, dtype=pl.String)
        times = to_times(self._contract.time, arrived)
        ancient = times.is_null() & arrived.str.contains(_BEFORE_1970)
        if ancient.any():
            times = times.zip_with(~ancient.fill_null(value=False), pl.Series([_EPOCH]).cast(MEASURED_AT))
        unreadable = times.is_null() & arrived.is_not_null()
        for row in (~arrived.str.contains(_ZONE) & times.is_not_null()).arg_true():
            self._flags.setdefault(row, set()).add(NO_ZONE)
        flags, *columns = refined.columns
        at = pl.Series("offset", self._places, dtype=pl.Int64)
        route = pl.Series(batch.route_index, dtype=pl.UInt32).gather(at)
        received = pl.Series("received_at", batch.received_at_ns, dtype=pl.Int64).gather(at)
        received = received.cast(pl.Datetime("ns", "UTC")).cast(MEASURED_AT)
        readings = pl.DataFrame(
            [
                pl.Series("tenant", [r.tenant for r in batch.routes], dtype=pl.String).gather(route),
                pl.Series("device_id", [r.device_id for r in batch.routes], dtype=pl.String).gather(route),
                times.zip_with(times.is_not_null(), received),
                received,
                at + batch.base_offset,
                pl.Series("record", self._numbers, dtype=pl.Int32),
                self._with_flags(flags),
                *columns,
            ]
        )
        if unreadable.any():
            for row in unreadable.arg_true():
                got = peer_text(str(arrived[row]))
                self.rejections.append(
                    _rejection(
                        batch,
                        self._places[row],
                        self._numbers[row],
                        code="time",
                        path="$[3]",
                        expected=_TIME_EXPECTED,
                        got=got,
                    )
                )
            readings = readings.filter(~unreadable)
            self.rejections.sort(key=lambda rejection: (rejection.offset, rejection.record))
        return Decoded(
            readings=readings,
            rejections=self.rejections,
            records=readings.height + len(self.rejections),
            flagged=refined.flagged | dict(Counter(flag for found in self._flags.values() for flag in found)),
        )

    def _column(self, name: str) -> list[Any]:
        return [row.get(name) for row in self.rows]

    def _with_flags(self, flags: pl.Series) -> pl.Series:
        """Return the flags of the columns and those of the records together, sorted and joined by commas."""
        if not self._flags:
            return flags
        joined: list[str | None] = flags.to_list()
        for row, found in self._flags.items():
            before = joined[row]
            joined[row] = ",".join(sorted(found if before is None else found.union(before.split(","))))
        return pl.Series("flags", joined, dtype=pl.String)


def _rejection(
    batch: EntryBatch, place: int, record: int, *, code: str, path: str, expected: str, got: str
) -> Rejection:
    route = batch.routes[batch.route_index[place]]
    return Rejection(
        offset=batch.base_offset + place,
        record=record,
        tenant=route.tenant,
        device_id=route.device_id,
        channel=route.channel,
        stage=STAGE,
        code=code,
        path=path,
        expected=expected,
        got=got,
        payload=batch.payloads[place][:REJECT_PAYLOAD_BYTES_MAX],
        received_at_ns=batch.received_at_ns[place],
    )


def set_unset_clocks(readings: pl.DataFrame) -> Clamped:
    """Set `measured_at` to `received_at` where it is before 2000, and flag the row.

    Chargers wake up in 1970 and are told the time by the answer to their BootNotification; what they queued before has
    no better time than its receipt. Done after duplicates are dropped: a resend has another receipt and the same clock.

    Args:
        readings: Readings frame of a stream of chargers.
    """
    unset = readings["measured_at"] < SET_FROM
    rows = int(unset.sum())
    if rows == 0:
        return Clamped(readings, 0)
    # Flags are sorted, and the other codes of a row with an unset clock begin with later letters.
    flags = pl.concat_str([pl.lit(CLOCK_UNSET), "flags"], separator=",", ignore_nulls=True)
    corrected = readings.with_columns(
        measured_at=pl.when(unset).then("received_at").otherwise("measured_at"),
        flags=pl.when(unset).then(flags).otherwise("flags"),
    )
    return Clamped(corrected, rows)

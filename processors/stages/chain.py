"""Journal entries to rows: the stages in order, and the state they share.

    1 split by contract   2 ticks   3 decode   4 duplicates   5 connectors   6 clocks   7 windows   8 newest values
    9 charging sessions   10 detectors and alerts   11 count

A pure function: `run` takes a batch and a state and returns frames and a new state, so a batch that fails leaves no
trace and the same journal gives the same rows however it is cut into batches. (Of windows the newest revision is the
same; of revisions that follow each other within one batch only the last is a row.)

Tables: `raw` (verbatim, without ticks), one per stream, `windows_<stream>`, `rejects`, `alert_revisions`, and where
there are chargers `charging_session_revisions`. Every row carries the `offset` of the entry that caused it and when
that was received, which is what makes writing them repeatable.
"""

from array import array
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import polars as pl

from gateway.core.ids import Channel, Offset
from gateway.core.records import START_TICK, TICK_SOURCE, EntryBatch
from gateway.wire.ocpp.records import METER, TRANSACTION
from processors.contracts.load import ContractSet
from processors.contracts.model import SOURCES, Contract, Origin
from processors.stages.alert_record import LifeEvent
from processors.stages.alerts import ALERTS
from processors.stages.chain_state import ChainState, StreamState, empty_stream, pack_state, unpack_state
from processors.stages.clocks import CLAMPED, clamp_clocks
from processors.stages.connectors import ConnectorState, fill_connectors
from processors.stages.decode import Decoded, StreamDecoder
from processors.stages.detection import Detection, DetectionState
from processors.stages.device_state import update_devices
from processors.stages.duplicates import (
    DuplicateState,
    RejectionState,
    drop_duplicate_rejections,
    drop_duplicates,
)
from processors.stages.faults import Rejection
from processors.stages.ledger import UNKNOWN, Ledger
from processors.stages.ocpp import CLOCK_UNSET, OcppDecoder, set_unset_clocks, stream_of
from processors.stages.rejects import ROUTE, crashed, to_rejects, unknown_channel
from processors.stages.sessions import SESSIONS, SessionState, fold_sessions
from processors.stages.windows import advance

__all__ = ["RAW", "REJECTS", "Chain", "ChainState", "Outputs", "windows_table"]

RAW: Final = "raw"
REJECTS: Final = "rejects"

_TIME: Final = pl.Datetime("us", "UTC")
_FIRST: Final = Offset(0)
_TICK: Final = -1
_NO_CONTRACT: Final = -2
_OCPP: Final = -3
_OCPP_SOURCES: Final = frozenset({"ocpp", "http"})


def windows_table(stream: str) -> str:
    """Return the name of the table with a stream's windows of all sizes."""
    return f"windows_{stream}"


class Outputs(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a batch gave.

    Attributes:
        tables: Table -> rows, each with `offset` and `received_at`; every table of the chain is there.
        events: What became of alerts, in order of the journal.
        counts: What became of the batch's entries and records.
        end_offset: Offset that follows the batch.
    """

    tables: dict[str, pl.DataFrame]
    events: tuple[LifeEvent, ...] = ()
    counts: Ledger
    end_offset: Offset


def merge_outputs(parts: Sequence[Outputs]) -> Outputs:
    """Return the outputs of consecutive batches as those of one."""
    if len(parts) == 1:
        return parts[0]
    counts = parts[0].counts
    for part in parts[1:]:
        counts = counts.plus(part.counts)
    tables = {}
    for name, first in parts[0].tables.items():
        frames = [frame for part in parts if (frame := part.tables[name]).height]
        tables[name] = pl.concat(frames) if frames else first
    events = tuple(event for part in parts for event in part.events)
    return Outputs(tables=tables, events=events, counts=counts, end_offset=parts[-1].end_offset)


class _Split(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A batch by what becomes of its entries; places are those of the batch.

    Attributes:
        ticks: `offset`, `received_at`, `is_start`.
        raw: Rows of the table `raw`.
        chosen: Places of the entries of each contract, in the order of the contracts; None for all.
        chargers: Places of the entries of chargers.
        strangers: Places of the entries that belong to nobody.
    """

    ticks: pl.DataFrame
    raw: pl.DataFrame
    chosen: list[list[int] | None]
    chargers: list[int]
    strangers: list[int]


class Chain:
    """The stages of all streams, made once per process.

    Args:
        contracts: Streams by channel; entries of any other channel are rejects with the code `unknown_channel`.
    """

    def __init__(self, contracts: ContractSet) -> None:
        self._contracts: tuple[Contract, ...] = tuple(contracts)
        self._by_channel = {contract.channel: i for i, contract in enumerate(self._contracts)}
        self._decoders = [StreamDecoder(contract) for contract in self._contracts]
        self._ocpp = OcppDecoder(contracts)
        self._detection = Detection(contracts)
        nothing = EntryBatch(
            base_offset=Offset(0), routes=[], route_index=array("I"), received_at_ns=array("q"), payloads=[]
        )
        self._nothing = [decoder.decode(nothing) for decoder in self._decoders]
        state = self.empty_state()
        ticks = self._split(nothing).ticks
        self._idle = [
            _finish(contract, _fresh(contract, decoded, state.streams[contract.stream]), ticks).tables
            for contract, decoded in zip(self._contracts, self._nothing, strict=True)
        ]
        outputs, _ = self.run(nothing, state)
        self._schemas = {name: dict(frame.schema) for name, frame in outputs.tables.items()}

    @property
    def schemas(self) -> Mapping[str, Mapping[str, pl.DataType]]:
        """Table -> columns of the frames that `run` returns under that name."""
        return self._schemas

    def empty_state(self, offset: Offset = _FIRST) -> ChainState:
        """Return the state before the entry at `offset`, as if the journal began there."""
        return ChainState(
            next_offset=offset,
            streams={contract.stream: empty_stream(contract) for contract in self._contracts},
            rejections=RejectionState.empty(),
            connectors=ConnectorState.empty(),
            sessions=SessionState.empty(),
            detection=DetectionState.empty(),
            ledger=Ledger(),
        )

    def run(self, batch: EntryBatch, state: ChainState) -> tuple[Outputs, ChainState]:
        """Return the rows that the batch causes, and the state after it.

        Args:
            batch: The entries from `state.next_offset` on; a gap in front of it is counted.
            state: The state after all earlier entries; it is left as it is.
        """
        split = self._split(batch)
        tables = {RAW: split.raw}
        counts = Ledger(
            first_offset=batch.base_offset if len(batch) else None,
            entries=split.raw.height,
            ticks=split.ticks.height,
            gap_entries=_gap(batch, state),
            records=len(split.strangers),
        )
        streams = dict(state.streams)
        refused = [unknown_channel(batch, place) for place in split.strangers]
        read, connectors = self._read(batch, split, state)
        for i, contract in enumerate(self._contracts):
            stream = contract.stream
            one = read.get(stream)
            if one is None:
                if not split.ticks.height or not _has_waiting(state.streams[stream]):
                    tables |= self._idle[i]
                    continue
                one = _fresh(contract, self._nothing[i], state.streams[stream])
            ran = _finish(contract, one, split.ticks)
            tables |= ran.tables
            streams[stream] = ran.state
            refused += one.decoded.rejections
            counts = counts.plus(ran.counts)
        sessions = state.sessions
        if self._ocpp.contracts:
            tables[SESSIONS], sessions = fold_sessions(sessions, tables, split.ticks)
        detected, detection = self._detection.run(state.detection, tables, split.ticks)
        tables[ALERTS] = detected.rows
        counts = counts.plus(Ledger(alerts=detected.counts))
        # In journal order, so that what is remembered of them does not depend on the cut either.
        refused.sort(key=lambda rejection: (rejection.offset, rejection.record))
        fresh, _, rejections = drop_duplicate_rejections(refused, state.rejections)
        tables[REJECTS] = to_rejects(fresh)
        counts = counts.plus(self._count_rejections(refused, fresh))
        assert counts.balance == 0, f"{counts.records} records became {counts}"
        return (
            Outputs(tables=tables, events=detected.events, counts=counts, end_offset=batch.end_offset),
            ChainState(
                next_offset=batch.end_offset,
                streams=streams,
                rejections=rejections,
                connectors=connectors,
                sessions=sessions,
                detection=detection,
                ledger=state.ledger.plus(counts),
            ),
        )

    def _read(self, batch: EntryBatch, split: _Split, state: ChainState) -> tuple[dict[str, "_Fresh"], ConnectorState]:
        """Return the new readings of each stream that has entries, and where transactions are."""
        fresh: dict[str, _Fresh] = {}
        for contract, decoder, select in zip(self._contracts, self._decoders, split.chosen, strict=True):
            if select is None or select:
                decoded = decoder.decode(batch, select)
                fresh[contract.stream] = _fresh(contract, decoded, state.streams[contract.stream])
        if not split.chargers:
            return fresh, state.connectors
        found = self._ocpp.decode(batch, split.chargers)
        for i, contract in enumerate(self._contracts):
            if contract.origin is Origin.OCPP:
                decoded = found.get(contract.stream, self._nothing[i])
                fresh[contract.stream] = _fresh(contract, decoded, state.streams[contract.stream])
        events, meters = fresh[TRANSACTION], fresh[METER]
        filled_events, filled_meters, connectors = fill_connectors(state.connectors, events.readings, meters.readings)
        fresh[TRANSACTION] = msgspec.structs.replace(events, readings=filled_events)
        fresh[METER] = msgspec.structs.replace(meters, readings=filled_meters)
        return fresh, connectors

    def quarantine(self, batch: EntryBatch, state: ChainState, crash: BaseException) -> tuple[Outputs, ChainState]:
        """Return the outputs of one entry that `run` cannot survive: its raw row, and a reject with the code `crash`.

        Args:
            batch: The entry alone.
            state: The state before it; windows and duplicates stay as they are.
            crash: What `run` raised; its words go into the reject.
        """
        assert len(batch) == 1, "one entry at a time"
        split = self._split(batch)
        nothing = {name: pl.DataFrame(schema=pl.Schema(schema)) for name, schema in self._schemas.items()}
        rejected = [] if split.ticks.height else [crashed(batch, crash)]
        counts = Ledger(
            first_offset=batch.base_offset,
            entries=split.raw.height,
            ticks=split.ticks.height,
            gap_entries=_gap(batch, state),
            records=len(rejected),
        ).plus(self._count_rejections(rejected, rejected))
        return (
            Outputs(
                tables={**nothing, RAW: split.raw, REJECTS: to_rejects(rejected)},
                counts=counts,
                end_offset=batch.end_offset,
            ),
            msgspec.structs.replace(state, next_offset=batch.end_offset, ledger=state.ledger.plus(counts)),
        )

    def to_bytes(self, state: ChainState) -> bytes:
        """Return the state as bytes for a checkpoint."""
        return pack_state(state)

    def from_bytes(self, payload: bytes) -> ChainState:
        """Invert `to_bytes`, under the contracts of today; see `unpack_state`."""
        return unpack_state(payload, self._contracts)

    def _split(self, batch: EntryBatch) -> _Split:
        """Return the entries by what becomes of them."""
        kinds = pl.Series([self._kind(route.source, route.channel) for route in batch.routes], dtype=pl.Int32)
        there = frozenset(kinds)
        routes = pl.DataFrame(
            [(r.tenant, r.device_id, r.source, r.channel) for r in batch.routes],
            schema={"tenant": pl.String(), "device_id": pl.String(), "source": pl.String(), "channel": pl.String()},
            orient="row",
        )
        index = pl.Series(batch.route_index, dtype=pl.UInt32)
        kind = kinds.gather(index)
        frame = pl.DataFrame(
            [
                pl.int_range(batch.base_offset, batch.end_offset, dtype=pl.Int64, eager=True).alias("offset"),
                (pl.Series("received_at", batch.received_at_ns, dtype=pl.Int64) // 1000).cast(_TIME),
                *routes[index].get_columns(),
                pl.Series("payload", batch.payloads, dtype=pl.Binary),
            ]
        )
        ticking = kind == _TICK

        def places(wanted: int) -> list[int]:
            return (kind == wanted).arg_true().to_list() if wanted in there else []

        return _Split(
            ticks=frame.filter(ticking).select("offset", "received_at", is_start=pl.col("payload") == START_TICK),
            raw=frame.filter(~ticking),
            chosen=[None if there == {i} and len(batch) else places(i) for i in range(len(self._contracts))],
            chargers=places(_OCPP),
            strangers=places(_NO_CONTRACT),
        )

    def _count_rejections(self, refused: Sequence[Rejection], fresh: Sequence[Rejection]) -> Ledger:
        """Return the counts of `refused`, of which `fresh` are new and the others duplicates."""
        rejected: dict[str, int] = {}
        duplicates: dict[str, int] = {}
        for rejection in refused:
            stream = self._stream(rejection)
            duplicates[stream] = duplicates.get(stream, 0) + 1
        for rejection in fresh:
            stream = self._stream(rejection)
            duplicates[stream] -= 1
            key = f"{stream}/{rejection.code}"
            rejected[key] = rejected.get(key, 0) + 1
        return Ledger(rejected=rejected, duplicates=duplicates)

    def _stream(self, rejection: Rejection) -> str:
        if rejection.stage == ROUTE:
            return UNKNOWN
        place = self._by_channel.get(Channel(rejection.channel))
        if place is not None:
            return self._contracts[place].stream
        return stream_of(rejection.channel) or UNKNOWN

    def _kind(self, source: str, channel: str) -> int:
        if source == TICK_SOURCE:
            return _TICK
        if source in _OCPP_SOURCES and self._ocpp.contracts and stream_of(channel) is not None:
            return _OCPP
        place = self._by_channel.get(Channel(channel))
        if place is None or source not in SOURCES[self._contracts[place].origin]:
            return _NO_CONTRACT
        return place


class _Fresh(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """New readings of one stream.

    Attributes:
        decoded: What the batch held.
        readings: Of its readings those that repeat no earlier one.
        again: How many do.
        duplicates: Readings seen, these included.
        before: The stream's state before them.
    """

    decoded: Decoded
    readings: pl.DataFrame
    again: int
    duplicates: DuplicateState
    before: StreamState


def _fresh(contract: Contract, decoded: Decoded, before: StreamState) -> _Fresh:
    # Before clocks: a clamped time is the time of receipt: a resend has another, two readings in one packet the same.
    readings, again, duplicates = drop_duplicates(decoded.readings, contract.key, before.duplicates)
    return _Fresh(decoded=decoded, readings=readings, again=again, duplicates=duplicates, before=before)


class _Ran(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a batch was for one stream; `counts` is without its rejects, which may repeat earlier ones."""

    tables: dict[str, pl.DataFrame]
    state: StreamState
    counts: Ledger


def _finish(contract: Contract, fresh: _Fresh, ticks: pl.DataFrame) -> _Ran:
    """Set the clocks of new readings, and take them into windows and newest values."""
    stream, state = contract.stream, fresh.before
    readings, flagged = fresh.readings, dict(fresh.decoded.flagged)
    if contract.origin is Origin.OCPP:
        corrected = set_unset_clocks(readings)
        readings, flagged[CLOCK_UNSET] = corrected.readings, corrected.clamped_rows
    clamped = clamp_clocks(readings, skew_max_s=contract.time.skew_max_s)
    readings, flagged[CLAMPED] = clamped.readings, clamped.clamped_rows
    tables = {stream: readings}
    counts = Ledger(
        records=fresh.decoded.records,
        rows={stream: readings.height},
        duplicates={stream: fresh.again},
        flags={f"{stream}/{code}": n for code, n in flagged.items()},
    )
    windows = None
    if contract.windows is not None and state.windows is not None:
        advanced = advance(contract.windows, state.windows, readings, ticks)
        windows = advanced.state
        tables = {stream: advanced.readings, windows_table(stream): advanced.windows}
        counts = counts.plus(
            Ledger(
                late_revised={stream: advanced.late_revised},
                late_dropped={stream: advanced.late_dropped},
                pane_full={stream: advanced.pane_full},
            )
        )
    devices = update_devices(state.devices, readings, contract.part)
    return _Ran(
        tables=tables,
        state=StreamState(duplicates=fresh.duplicates, windows=windows, devices=devices),
        counts=counts,
    )


def _has_waiting(state: StreamState) -> bool:
    """Return whether a tick may end a window of the stream."""
    return state.windows is not None and bool(state.windows.open_windows["_dirty"].any())


def _gap(batch: EntryBatch, state: ChainState) -> int:
    assert batch.base_offset >= state.next_offset, f"{batch.base_offset} was asked for {state.next_offset}"
    return batch.base_offset - state.next_offset

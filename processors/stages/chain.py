"""Journal entries to rows: the stages in order, and the state they share.

    1 split by contract   2 ticks   3 decode   4 duplicates   5 clocks   6 windows   7 newest values   8 count

A pure function: `run` takes a batch and a state and returns frames and a new state, so a batch that fails leaves no
trace and the same journal gives the same rows however it is cut into batches. (Of windows the newest revision is the
same; of revisions that follow each other within one batch only the last is a row.)

Tables: `raw` (verbatim, without ticks), one per stream, `windows_<stream>`, `rejects`. Every row carries the `offset`
of the entry that caused it and when that was received, which is what makes writing them repeatable.
"""

from array import array
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import polars as pl

from gateway.core.errors import CheckpointError
from gateway.core.ids import Channel, Offset
from gateway.core.records import TICK_SOURCE, EntryBatch
from processors.contracts.load import ContractSet
from processors.contracts.model import Contract
from processors.stages.clocks import CLAMPED, clamp_clocks
from processors.stages.decode import StreamDecoder
from processors.stages.device_state import DeviceState, update_devices
from processors.stages.duplicates import (
    DuplicateState,
    RejectionState,
    drop_duplicate_rejections,
    drop_duplicates,
)
from processors.stages.faults import Rejection
from processors.stages.ledger import UNKNOWN, Ledger
from processors.stages.rejects import crashed, to_rejects, unknown_channel
from processors.stages.windows import WindowState, advance

RAW: Final = "raw"
REJECTS: Final = "rejects"

_TIME: Final = pl.Datetime("us", "UTC")
_STATE_VERSION: Final = 1
_FIRST: Final = Offset(0)
_TICK: Final = -1
_NO_CONTRACT: Final = -2


def windows_table(stream: str) -> str:
    """Return the name of the table with a stream's windows of all sizes."""
    return f"windows_{stream}"


class Outputs(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a batch gave.

    Attributes:
        tables: Table -> rows, each with `offset` and `received_at`; every table of the chain is there.
        counts: What became of the batch's entries and records.
        end_offset: Offset that follows the batch.
    """

    tables: dict[str, pl.DataFrame]
    counts: Ledger
    end_offset: Offset


class StreamState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What one stream remembers.

    Attributes:
        duplicates: Readings seen.
        windows: Open and revisable windows; None for a stream without.
        devices: The newest value of every field of every device.
    """

    duplicates: DuplicateState
    windows: WindowState | None
    devices: DeviceState


class ChainState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Everything that the rows of the next batch depend on besides its entries. A value: nothing changes it.

    Attributes:
        next_offset: Offset of the next entry.
        streams: Stream -> its memory.
        rejections: Rejects seen, so that poison sent again is one reject and counted duplicates.
        ledger: Counts so far.
    """

    next_offset: Offset
    streams: dict[str, StreamState]
    rejections: RejectionState
    ledger: Ledger


class _PackedState(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    next_offset: int
    duplicates: dict[str, bytes]
    windows: dict[str, bytes]
    devices: dict[str, bytes]
    rejections: bytes
    ledger: Ledger


class Chain:
    """The stages of all streams, made once per process.

    Args:
        contracts: Streams by channel; entries of any other channel are rejects with the code `unknown_channel`.
    """

    def __init__(self, contracts: ContractSet) -> None:
        self._contracts: tuple[Contract, ...] = tuple(contracts)
        self._by_channel = {contract.channel: i for i, contract in enumerate(self._contracts)}
        self._decoders = [StreamDecoder(contract) for contract in self._contracts]
        nothing = EntryBatch(
            base_offset=Offset(0), routes=[], route_index=array("I"), received_at_ns=array("q"), payloads=[]
        )
        outputs, _ = self.run(nothing, self.empty_state())
        self._schemas = {name: dict(frame.schema) for name, frame in outputs.tables.items()}

    @property
    def schemas(self) -> Mapping[str, Mapping[str, pl.DataType]]:
        """Table -> columns of the frames that `run` returns under that name."""
        return self._schemas

    def empty_state(self, offset: Offset = _FIRST) -> ChainState:
        """Return the state before the entry at `offset`, as if the journal began there."""
        return ChainState(
            next_offset=offset,
            streams={contract.stream: _empty_stream(contract) for contract in self._contracts},
            rejections=RejectionState.empty(),
            ledger=Ledger(),
        )

    def run(self, batch: EntryBatch, state: ChainState) -> tuple[Outputs, ChainState]:
        """Return the rows that the batch causes, and the state after it.

        Args:
            batch: The entries from `state.next_offset` on; a gap in front of it is counted.
            state: The state after all earlier entries; it is left as it is.
        """
        ticks, entries, chosen, strangers = self._split(batch)
        tables = {RAW: entries}
        counts = Ledger(
            first_offset=batch.base_offset if len(batch) else None,
            entries=entries.height,
            ticks=ticks.height,
            gap_entries=_gap(batch, state),
            records=len(strangers),
        )
        streams: dict[str, StreamState] = {}
        refused = [unknown_channel(batch, place) for place in strangers]
        for contract, decoder, select in zip(self._contracts, self._decoders, chosen, strict=True):
            ran = _run_stream(contract, decoder, batch, select, ticks, state.streams[contract.stream])
            tables |= ran.tables
            streams[contract.stream] = ran.state
            refused += ran.rejections
            counts = counts.plus(ran.counts)
        # In journal order, so that what is remembered of them does not depend on the cut either.
        refused.sort(key=lambda rejection: (rejection.offset, rejection.record))
        fresh, _, rejections = drop_duplicate_rejections(refused, state.rejections)
        tables[REJECTS] = to_rejects(fresh)
        counts = counts.plus(self._count_rejections(refused, fresh))
        assert counts.balance == 0, f"{counts.records} records became {counts}"
        return (
            Outputs(tables=tables, counts=counts, end_offset=batch.end_offset),
            ChainState(
                next_offset=batch.end_offset,
                streams=streams,
                rejections=rejections,
                ledger=state.ledger.plus(counts),
            ),
        )

    def quarantine(self, batch: EntryBatch, state: ChainState, crash: BaseException) -> tuple[Outputs, ChainState]:
        """Return the outputs of one entry that `run` cannot survive: its raw row, and a reject with the code `crash`.

        Args:
            batch: The entry alone.
            state: The state before it; windows and duplicates stay as they are.
            crash: What `run` raised; its words go into the reject.
        """
        assert len(batch) == 1, "one entry at a time"
        ticks, entries, _, _ = self._split(batch)
        nothing = {name: pl.DataFrame(schema=pl.Schema(schema)) for name, schema in self._schemas.items()}
        rejected = [] if ticks.height else [crashed(batch, crash)]
        counts = Ledger(
            first_offset=batch.base_offset,
            entries=entries.height,
            ticks=ticks.height,
            gap_entries=_gap(batch, state),
            records=len(rejected),
        ).plus(self._count_rejections(rejected, rejected))
        return (
            Outputs(
                tables={**nothing, RAW: entries, REJECTS: to_rejects(rejected)},
                counts=counts,
                end_offset=batch.end_offset,
            ),
            msgspec.structs.replace(state, next_offset=batch.end_offset, ledger=state.ledger.plus(counts)),
        )

    def to_bytes(self, state: ChainState) -> bytes:
        """Return the state as bytes for a checkpoint."""
        return msgspec.msgpack.encode(
            _PackedState(
                version=_STATE_VERSION,
                next_offset=state.next_offset,
                duplicates={name: stream.duplicates.to_bytes() for name, stream in state.streams.items()},
                windows={name: stream.windows.to_bytes() for name, stream in state.streams.items() if stream.windows},
                devices={name: stream.devices.to_bytes() for name, stream in state.streams.items()},
                rejections=state.rejections.to_bytes(),
                ledger=state.ledger,
            )
        )

    def from_bytes(self, payload: bytes) -> ChainState:
        """Invert `to_bytes`, under the contracts of today.

        A stream that is new begins empty. One whose window plan changed begins its windows anew, which
        `ledger.restarted` counts: windows that were open then hold what came after. One whose fields changed their type
        forgets its devices' newest values until these report again. What a removed stream remembered is dropped, its
        counts stay.

        Raises: CheckpointError: The bytes are no state, or one of another version; go on from the journal's start.
        """
        try:
            packed = msgspec.msgpack.decode(payload, type=_PackedState)
        except msgspec.DecodeError as exc:
            raise CheckpointError(f"state of the processors is unreadable: {exc}") from exc
        if packed.version != _STATE_VERSION:
            raise CheckpointError(f"state has version {packed.version}, this program reads {_STATE_VERSION}")
        streams: dict[str, StreamState] = {}
        restarted: dict[str, int] = {}
        for contract in self._contracts:
            stream = _empty_stream(contract)
            name = contract.stream
            if name in packed.duplicates:
                stream = msgspec.structs.replace(stream, duplicates=DuplicateState.from_bytes(packed.duplicates[name]))
            if name in packed.devices:
                devices = DeviceState.from_bytes(packed.devices[name])
                if _is_of(devices, contract):
                    stream = msgspec.structs.replace(stream, devices=devices)
            if contract.windows and name in packed.windows:
                try:
                    windows = WindowState.from_bytes(contract.windows, packed.windows[name])
                    stream = msgspec.structs.replace(stream, windows=windows)
                except CheckpointError:
                    restarted[name] = 1
            streams[name] = stream
        return ChainState(
            next_offset=Offset(packed.next_offset),
            streams=streams,
            rejections=RejectionState.from_bytes(packed.rejections),
            ledger=packed.ledger.plus(Ledger(restarted=restarted)),
        )

    def _split(self, batch: EntryBatch) -> tuple[pl.DataFrame, pl.DataFrame, list[list[int] | None], list[int]]:
        """Return the ticks, the raw rows, the places of each contract's entries (None: all), and of the others."""
        kinds = pl.Series([self._kind(route.source, route.channel) for route in batch.routes], dtype=pl.Int32)
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
        ticks = frame.filter(ticking).select("offset", "received_at")
        places = [
            None if (chosen := kind == i).all() and len(batch) else chosen.arg_true().to_list()
            for i in range(len(self._contracts))
        ]
        return ticks, frame.filter(~ticking), places, (kind == _NO_CONTRACT).arg_true().to_list()

    def _count_rejections(self, refused: Sequence[Rejection], fresh: Sequence[Rejection]) -> Ledger:
        """Return the counts of `refused`, of which `fresh` are new and the others duplicates."""
        rejected: dict[str, int] = {}
        duplicates: dict[str, int] = {}
        for rejection in refused:
            stream = self._stream(rejection.channel)
            duplicates[stream] = duplicates.get(stream, 0) + 1
        for rejection in fresh:
            stream = self._stream(rejection.channel)
            duplicates[stream] -= 1
            key = f"{stream}/{rejection.code}"
            rejected[key] = rejected.get(key, 0) + 1
        return Ledger(rejected=rejected, duplicates=duplicates)

    def _stream(self, channel: str) -> str:
        place = self._by_channel.get(Channel(channel))
        return UNKNOWN if place is None else self._contracts[place].stream

    def _kind(self, source: str, channel: str) -> int:
        return _TICK if source == TICK_SOURCE else self._by_channel.get(Channel(channel), _NO_CONTRACT)


class _Ran(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a batch was for one stream; `rejections` may repeat earlier ones, `counts` is without them."""

    tables: dict[str, pl.DataFrame]
    state: StreamState
    rejections: list[Rejection]
    counts: Ledger


def _run_stream(
    contract: Contract,
    decoder: StreamDecoder,
    batch: EntryBatch,
    select: list[int] | None,
    ticks: pl.DataFrame,
    state: StreamState,
) -> _Ran:
    stream = contract.stream
    decoded = decoder.decode(batch, select)
    # Before clocks: a clamped time is the time of receipt: a resend has another, two readings in one packet the same.
    fresh, again, duplicates = drop_duplicates(decoded.readings, contract.key, state.duplicates)
    clamped = clamp_clocks(fresh, skew_max_s=contract.time.skew_max_s)
    readings = clamped.readings
    tables = {stream: readings}
    counts = Ledger(
        records=decoded.records,
        rows={stream: readings.height},
        duplicates={stream: again},
        flags={
            **{f"{stream}/{code}": n for code, n in decoded.flagged.items()},
            f"{stream}/{CLAMPED}": clamped.clamped_rows,
        },
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
    return _Ran(
        tables=tables,
        state=StreamState(duplicates=duplicates, windows=windows, devices=update_devices(state.devices, readings)),
        rejections=decoded.rejections,
        counts=counts,
    )


def _is_of(devices: DeviceState, contract: Contract) -> bool:
    """Return whether every value kept is of the type that the contract gives its field today."""
    kept = {} if devices.frame is None else devices.frame.schema
    return all(kept.get(field.name, field.dtype) == field.dtype for field in contract.fields)


def _empty_stream(contract: Contract) -> StreamState:
    windows = WindowState.empty(contract.windows) if contract.windows else None
    return StreamState(duplicates=DuplicateState.empty(), windows=windows, devices=DeviceState.empty())


def _gap(batch: EntryBatch, state: ChainState) -> int:
    assert batch.base_offset >= state.next_offset, f"{batch.base_offset} was asked for {state.next_offset}"
    return batch.base_offset - state.next_offset

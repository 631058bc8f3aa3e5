"""What the chain remembers between batches, and its bytes in a checkpoint."""

from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.core.errors import CheckpointError
from gateway.core.ids import Offset
from processors.contracts.model import Contract
from processors.stages.connectors import ConnectorState
from processors.stages.detection import DetectionState
from processors.stages.device_state import DeviceState
from processors.stages.duplicates import DuplicateState, RejectionState
from processors.stages.ledger import Ledger
from processors.stages.roster import owner_of
from processors.stages.sessions import SessionState
from processors.stages.windows import WindowState

_STATE_VERSION: Final = 3
_STATE_VERSIONS: Final = frozenset({1, 2, _STATE_VERSION})
"""Version 1 knew no chargers, version 2 no alerts: theirs begins empty, as that of any stream that is new."""


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
        connectors: Which connector a transaction is on.
        sessions: Charging sessions.
        detection: Detectors, and open alerts.
        ledger: Counts so far.
    """

    next_offset: Offset
    streams: dict[str, StreamState]
    rejections: RejectionState
    connectors: ConnectorState
    sessions: SessionState
    detection: DetectionState
    ledger: Ledger


class _PackedState(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    next_offset: int
    duplicates: dict[str, bytes]
    windows: dict[str, bytes]
    devices: dict[str, bytes]
    rejections: bytes
    ledger: Ledger
    connectors: bytes = b""
    sessions: bytes = b""
    detection: bytes = b""


def pack_state(state: ChainState) -> bytes:
    """Return the state as one MessagePack map."""
    return msgspec.msgpack.encode(
        _PackedState(
            version=_STATE_VERSION,
            next_offset=state.next_offset,
            duplicates={name: stream.duplicates.to_bytes() for name, stream in state.streams.items()},
            windows={name: stream.windows.to_bytes() for name, stream in state.streams.items() if stream.windows},
            devices={name: stream.devices.to_bytes() for name, stream in state.streams.items()},
            rejections=state.rejections.to_bytes(),
            ledger=state.ledger,
            connectors=state.connectors.to_bytes(),
            sessions=state.sessions.to_bytes(),
            detection=state.detection.to_bytes(),
        )
    )


def unpack_state(payload: bytes, contracts: Sequence[Contract]) -> ChainState:
    """Invert `pack_state`, under the contracts of today.

    A stream that is new begins empty. One whose window plan changed begins its windows anew, which `ledger.restarted`
    counts: windows that were open then hold what came after. One whose fields changed their type forgets its devices'
    newest values until these report again. What a removed stream remembered is dropped, its counts stay.

    Raises: CheckpointError: The bytes are no state, or one of another version; go on from the journal's start.
    """
    try:
        packed = msgspec.msgpack.decode(payload, type=_PackedState)
    except msgspec.DecodeError as exc:
        raise CheckpointError(f"state of the processors is unreadable: {exc}") from exc
    if packed.version not in _STATE_VERSIONS:
        raise CheckpointError(f"state has version {packed.version}, this program reads {_STATE_VERSION}")
    streams: dict[str, StreamState] = {}
    restarted: dict[str, int] = {}
    for contract in contracts:
        stream = empty_stream(contract)
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
    detection = DetectionState.empty()
    if packed.detection:
        detection, begun_anew = DetectionState.from_bytes(packed.detection)
        restarted |= begun_anew
    return ChainState(
        next_offset=Offset(packed.next_offset),
        streams=streams,
        rejections=RejectionState.from_bytes(packed.rejections),
        connectors=ConnectorState.from_bytes(packed.connectors) if packed.connectors else ConnectorState.empty(),
        sessions=SessionState.from_bytes(packed.sessions) if packed.sessions else SessionState.empty(),
        detection=detection,
        ledger=packed.ledger.plus(Ledger(restarted=restarted)),
    )


def _is_of(devices: DeviceState, contract: Contract) -> bool:
    """Return whether every value kept is of the type that the contract gives its field today, and of the same parts."""
    if devices.frame is None:
        return True
    kept, owner = devices.frame.schema, (*owner_of(contract.part), "measured_at")
    is_split_alike = tuple(devices.frame.columns[: len(owner)]) == owner
    return is_split_alike and all(kept.get(field.name, field.dtype) == field.dtype for field in contract.fields)


def empty_stream(contract: Contract) -> StreamState:
    """Return the memory of a stream before the journal's first entry."""
    windows = WindowState.empty(contract.windows) if contract.windows else None
    return StreamState(duplicates=DuplicateState.empty(), windows=windows, devices=DeviceState.empty())

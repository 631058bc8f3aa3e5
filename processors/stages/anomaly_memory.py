"""What the detectors of anomalies remember, and its bytes in a checkpoint."""

from collections.abc import Mapping
from typing import Final, Self

import msgspec
import numpy as np

from gateway.core.errors import CheckpointError
from gateway.core.limits import ANOMALY_DEVICES_MAX
from processors.stages import anomaly_drift, anomaly_peers, anomaly_stuck
from processors.stages.anomaly_peers import Bins
from processors.stages.anomaly_roster import Roster
from processors.stages.anomaly_samples import BUCKET_BLANK, Samples, join_samples
from processors.stages.anomaly_table import Column, Ints, Table
from processors.stages.runs import from_ipc, to_ipc

_VERSION: Final = 1
_NOBODY: Final = np.empty(0, np.int64)
LAYOUTS: Final[Mapping[str, Mapping[str, Column]]] = {
    "drift": anomaly_drift.LAYOUT,
    "peers": anomaly_peers.LAYOUT,
    "stuck": anomaly_stuck.LAYOUT,
}


class RuleMemory(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What one rule remembers. A value: nothing changes it.

    Attributes:
        fingerprint: Of the rule.
        detector: One of LAYOUTS.
        buckets: Device code -> bucket of its last sample; devices that came later have none.
        table: Device code -> what the detector knows; devices that came after the last look are not in it.
        waiting: Samples since the last look, in order of the journal.
        bins: Of the rule `peers` what is known of like conditions.
    """

    fingerprint: str
    detector: str
    buckets: Ints
    table: Table
    waiting: tuple[Samples, ...] = ()
    bins: Bins = Bins()

    @classmethod
    def empty(cls, fingerprint: str, detector: str) -> Self:
        """Return the memory before the journal's first entry."""
        return cls(fingerprint=fingerprint, detector=detector, buckets=_NOBODY, table=Table(LAYOUTS[detector]))

    def buckets_of(self, height: int) -> Ints:
        """Return the buckets of so many devices, at least as many as are known."""
        missing = height - len(self.buckets)
        return np.pad(self.buckets, (0, missing), constant_values=BUCKET_BLANK) if missing else self.buckets

    def of_devices(self, codes: Ints, height: int) -> Self:
        """Return the memory of these of `height` devices, in their order; their code is then their place."""
        places = np.full(height, -1, np.int64)
        places[codes] = np.arange(len(codes))
        waiting: tuple[Samples, ...] = ()
        if self.waiting:
            samples = join_samples(self.waiting)
            samples = msgspec.structs.replace(samples, codes=places[samples.codes])
            waiting = (samples.take(samples.codes >= 0),)
        return msgspec.structs.replace(
            self,
            buckets=self.buckets_of(height)[codes],
            table=self.table.copy(height).take(codes),
            waiting=waiting,
            bins=self.bins.with_codes(places),
        )


class StreamMemory(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What the rules of one stream remember: whose row is which, and by the rule's name the rest."""

    roster: Roster
    rules: dict[str, RuleMemory]

    @classmethod
    def empty(cls, owner: tuple[str, ...]) -> Self:
        """Return the memory before the journal's first entry; `owner` says whose a reading is."""
        return cls(roster=Roster.empty(owner), rules={})

    def within_limit(self, devices_max: int = ANOMALY_DEVICES_MAX) -> Self:
        """Return the memory of at most so many devices: those with an open finding, then those sampled last."""
        height = self.roster.height
        if height <= devices_max:
            return self
        newest, is_open = np.full(height, BUCKET_BLANK), np.zeros(height, np.bool_)
        for rule in self.rules.values():
            newest = np.maximum(newest, rule.buckets_of(height))
            is_open |= rule.table.copy(height)["open"]
        kept = np.sort(np.lexsort((np.arange(height), newest, is_open))[height - devices_max :])
        rules = {name: rule.of_devices(kept, height) for name, rule in self.rules.items()}
        return type(self)(roster=self.roster.take(kept), rules=rules)


class AnomalyState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What the detectors remember. A value: nothing changes it.

    Attributes:
        minute: Minute of receipt of the last tick, -1 before the first.
        streams: Stream -> what its rules remember.
    """

    minute: int = -1
    streams: dict[str, StreamMemory] = {}

    @classmethod
    def empty(cls) -> Self:
        """Return the state before the journal's first entry."""
        return cls()

    @property
    def nbytes(self) -> int:
        """Bytes of all that is remembered of devices."""
        rules = [rule for stream in self.streams.values() for rule in stream.rules.values()]
        return sum(rule.table.nbytes + rule.buckets.nbytes + rule.bins.table.nbytes for rule in rules)

    def to_bytes(self) -> bytes:
        """Return the state as one MessagePack map."""
        streams = {
            name: _PackedStream(
                names=to_ipc(stream.roster.names),
                rules={rule: _pack(memory) for rule, memory in stream.rules.items()},
            )
            for name, stream in self.streams.items()
        }
        return msgspec.msgpack.encode(_Packed(version=_VERSION, minute=self.minute, streams=streams))

    @classmethod
    def from_bytes(cls, payload: bytes) -> Self:
        """Invert `to_bytes`.

        Raises: CheckpointError: The bytes are no state, or one of another version.
        """
        try:
            packed = msgspec.msgpack.decode(payload, type=_Packed)
        except msgspec.DecodeError as exc:
            raise CheckpointError(f"state of the anomaly detectors is unreadable: {exc}") from exc
        if packed.version != _VERSION:
            raise CheckpointError(f"state of the anomaly detectors is version {packed.version}, not {_VERSION}")
        streams = {}
        for name, stream in packed.streams.items():
            names = from_ipc(stream.names)
            assert names is not None, name
            rules = {rule: _unpack(memory) for rule, memory in stream.rules.items()}
            streams[name] = StreamMemory(roster=Roster(names), rules=rules)
        return cls(minute=packed.minute, streams=streams)


class _PackedRule(msgspec.Struct, frozen=True, kw_only=True):
    fingerprint: str
    detector: str
    buckets: bytes
    table: bytes
    waiting: dict[str, bytes]
    bins: bytes


class _PackedStream(msgspec.Struct, frozen=True, kw_only=True):
    names: bytes
    rules: dict[str, _PackedRule]


class _Packed(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    minute: int
    streams: dict[str, _PackedStream]


def _pack(memory: RuleMemory) -> _PackedRule:
    waiting = {}
    if memory.waiting:
        samples = join_samples(memory.waiting)
        waiting = {name: np.ascontiguousarray(getattr(samples, name)).tobytes() for name in samples.__struct_fields__}
    return _PackedRule(
        fingerprint=memory.fingerprint,
        detector=memory.detector,
        buckets=memory.buckets.tobytes(),
        table=memory.table.to_bytes(),
        waiting=waiting,
        bins=memory.bins.to_bytes(),
    )


def _unpack(packed: _PackedRule) -> RuleMemory:
    if packed.detector not in LAYOUTS:
        raise CheckpointError(f"detector '{packed.detector}' of a checkpoint is unknown")
    return RuleMemory(
        fingerprint=packed.fingerprint,
        detector=packed.detector,
        buckets=np.frombuffer(packed.buckets, np.int64),
        table=Table.from_bytes(LAYOUTS[packed.detector], packed.table),
        waiting=(_unpack_samples(packed.waiting),) if packed.waiting else (),
        bins=Bins.from_bytes(packed.bins),
    )


def _unpack_samples(packed: Mapping[str, bytes]) -> Samples:
    codes = np.frombuffer(packed["codes"], np.int64)
    return Samples(
        codes=codes,
        at_us=np.frombuffer(packed["at_us"], np.int64),
        offset=np.frombuffer(packed["offset"], np.int64),
        values=np.frombuffer(packed["values"], np.float64).reshape(len(codes), -1),
    )

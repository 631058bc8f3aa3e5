"""Readings and rejects that a device sends again, because its acknowledgement was lost, are dropped and counted.

Two readings are the same if they are of one device, were measured at the same microsecond, and agree in the contract's
key columns, or in all field columns if it names none. A reading newer than all earlier ones of its device cannot be a
repetition, so only the others are looked up.

**Horizon.** Of each device at least the last `max(64, DUPLICATE_KEYS_MAX / devices)` readings are remembered per
stream. With 2,000 devices at 1 Hz that is 500 s, with 100 devices 2.7 h. What is repeated later than that is not
recognised. Within the horizon the outcome depends on the journal alone, not on how it is cut into batches.

Hashes are computed here from defined bytes (IEEE 754, two's complement, MessagePack), because they outlive the process
and Polars' own hash may change with its version.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec
import polars as pl

from gateway.core.errors import CheckpointError
from gateway.core.limits import DUPLICATE_KEYS_MAX, REJECT_KEYS_MAX
from processors.stages.faults import Rejection
from processors.stages.roster import EMPTY, with_devices
from processors.stages.runs import Runs, from_ipc, to_ipc, to_runs
from processors.stages.watermarks import with_newest

_VERSION: Final = 1
_DEVICE_KEYS_MIN: Final = 64
_REJECT_HASH_BYTES: Final = 16
_KEY: Final = ("_device", "_at", "_hash")
_NOT_CONTENT: Final = frozenset(
    {"tenant", "device_id", "measured_at", "received_at", "offset", "record", "flags", "late"}
)


class DuplicateState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Keys of the last readings of each device of one stream. A value: nothing changes it.

    Attributes:
        devices: Row = device code; names and `_newest` measured_at, Int64 us.
        keys: `_device`, `_at`, `_hash` UInt64 of the columns besides, in order of arrival.
    """

    devices: pl.DataFrame = EMPTY.with_columns(_newest=pl.lit(None, pl.Int64()))
    keys: Runs = Runs()

    @classmethod
    def empty(cls) -> "DuplicateState":
        """Return the state before the journal's first entry."""
        return cls()

    def to_bytes(self) -> bytes:
        """Return the state as one MessagePack map of Arrow IPC files, cut to the horizon."""
        keys = self.keys.to_frame(lambda frame: _last_keys(frame, self.devices.height))
        return msgspec.msgpack.encode({"version": _VERSION, "devices": to_ipc(self.devices), "keys": to_ipc(keys)})

    @classmethod
    def from_bytes(cls, payload: bytes) -> "DuplicateState":
        """Invert `to_bytes`.

        Raises:
            CheckpointError: If the bytes are of another version.
        """
        packed = _unpack(payload, "duplicate")
        devices = from_ipc(packed["devices"])
        assert devices is not None
        return cls(devices=devices, keys=to_runs(from_ipc(packed["keys"])))


def _unpack(payload: bytes, what: str) -> dict[str, Any]:
    packed: dict[str, Any] = msgspec.msgpack.decode(payload)
    if packed["version"] != _VERSION:
        raise CheckpointError(
            f"{what} state is version {packed['version']}, not {_VERSION}; rebuild it from the journal"
        )
    return packed


def _last_keys(keys: pl.DataFrame, devices: int) -> pl.DataFrame:
    """Return each device's keys within the horizon, in order; all of them while they are few enough."""
    share = max(_DEVICE_KEYS_MIN, DUPLICATE_KEYS_MAX // max(devices, 1))
    if keys.height <= share * devices:
        return keys
    age = pl.int_range(pl.len()).reverse().over("_device")
    return keys.filter(age < share)


def drop_duplicates(
    readings: pl.DataFrame, key: tuple[str, ...] | None, state: DuplicateState
) -> tuple[pl.DataFrame, int, DuplicateState]:
    """Drop the readings that repeat an earlier one.

    Args:
        readings: New readings sorted by (offset, record).
        key: The contract's key columns; device and time belong to every key, named or not. None: all field columns.
        state: Keys of all earlier readings within the horizon.

    Returns: The readings kept, in order; how many were dropped; the new state.
    """
    if readings.is_empty():
        return readings, 0, state
    devices, codes = with_devices(state.devices, readings)
    names = [name for name in (readings.columns if key is None else key) if name not in _NOT_CONTENT]
    rows = (
        readings.select(
            codes.alias("_device"), pl.col("measured_at").dt.epoch("us").alias("_at"), hash_rows(readings, names)
        )
        .with_row_index("_row")
        .sort("_device", maintain_order=True)
    )
    rows = with_newest(rows, devices["_newest"])
    repeated = _find_repeated(rows, state.keys)
    last = (pl.col("_device") != pl.col("_device").shift(-1)).fill_null(value=True)
    newest = rows.filter(last).select("_device", "_newest_after")
    devices = (
        devices.with_row_index("_device")
        .join(newest, on="_device", how="left", maintain_order="left")
        .select("tenant", "device_id", pl.coalesce("_newest_after", "_newest").alias("_newest"))
    )
    if repeated.len():
        rows = rows.filter(~pl.col("_row").is_in(repeated.implode()))
        readings = readings.select(pl.all().gather(rows["_row"].sort()))
    keys = state.keys.with_rows(rows.select(_KEY), lambda frame: _last_keys(frame, devices.height))
    return readings, repeated.len(), DuplicateState(devices=devices, keys=keys)


def _find_repeated(rows: pl.DataFrame, known: Runs) -> pl.Series:
    """Return `_row` of the rows that repeat a known one or an earlier one of these."""
    asked = rows.filter(pl.col("_at") <= pl.col("_newest_before")).select(_KEY).unique()
    if asked.is_empty():
        return pl.Series("_row", [], pl.UInt32())
    found = list(known.matching(asked, "_at"))
    same = rows.join(asked, on=_KEY, how="semi", maintain_order="left")
    seen = ~same.select(pl.struct(_KEY).is_first_distinct()).to_series()
    if found:
        seen |= same.select(pl.struct(_KEY).is_in(pl.concat(found).unique().to_struct().implode())).to_series()
    return same.filter(seen)["_row"]


# ---- hashes ----


def hash_rows(frame: pl.DataFrame, names: Sequence[str]) -> pl.Series:
    """Return `_hash`, 64 bits over the named columns that only depends on names and values.

    Order and nulls do not count, so a field added by a later contract leaves older readings' hashes alone. Not for
    adversaries: a device that finds a collision drops a reading of its own.
    """
    total: pl.Expr = pl.lit(0, pl.UInt64())
    for name in names:
        salt = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
        total = total + _mix(_bits(frame[name]) ^ pl.lit(salt, pl.UInt64())).fill_null(0)
    return frame.select(pl.repeat(0, frame.height, dtype=pl.UInt64()) + total).to_series().alias("_hash")


def _bits(values: pl.Series) -> pl.Expr:
    """Return the values as UInt64, equal for equal values; null for null."""
    dtype = values.dtype
    if dtype.is_float():
        # The two zeros are one value with two patterns of bits; adding 0.0 does not mend that, Polars skips it.
        plain = values.cast(pl.Float64())
        return pl.lit(plain.zip_with(plain.ne_missing(0.0), pl.Series([0.0])).reinterpret(dtype=pl.UInt64()))
    if dtype.is_integer() or dtype.is_temporal() or dtype == pl.Boolean():
        return pl.lit(values.to_physical().cast(pl.Int64()).reinterpret(dtype=pl.UInt64()))
    if dtype.is_nested() or dtype == pl.Binary():
        return pl.lit(pl.Series(values.name, [_digest(value) for value in values.to_list()], pl.UInt64()))
    distinct = values.unique().drop_nulls()
    digests = pl.Series([_digest(value) for value in distinct.to_list()], dtype=pl.UInt64())
    return pl.lit(values.replace_strict(distinct, digests, default=None, return_dtype=pl.UInt64()))


def _digest(value: object) -> int | None:
    """Return 64 bits of the value's MessagePack, which is defined to the byte; None for None."""
    if value is None:
        return None
    return int.from_bytes(blake2b(msgspec.msgpack.encode(value), digest_size=8).digest(), "little")


def _mix(value: pl.Expr) -> pl.Expr:
    """Return splitmix64's finaliser (Steele, Lea, Flood 2014) of a UInt64; products wrap."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value = (value ^ value // pl.lit(2**shift, pl.UInt64())) * pl.lit(factor, pl.UInt64())
    return value ^ value // pl.lit(2**31, pl.UInt64())


# ---- rejects ----


class RejectionState(msgspec.Struct, frozen=True, kw_only=True):
    """Hashes of the last rejects of all devices. A value: nothing changes it.

    Attributes:
        young: Hashes since the last change of generation.
        old: Hashes of the generation before; with it at least the last REJECT_KEYS_MAX / 2 distinct rejects are known.
    """

    young: frozenset[bytes] = frozenset()
    old: frozenset[bytes] = frozenset()

    @classmethod
    def empty(cls) -> "RejectionState":
        """Return the state before the journal's first entry."""
        return cls()

    def to_bytes(self) -> bytes:
        """Return the state as one MessagePack map."""
        young, old = b"".join(sorted(self.young)), b"".join(sorted(self.old))
        return msgspec.msgpack.encode({"version": _VERSION, "young": young, "old": old})

    @classmethod
    def from_bytes(cls, payload: bytes) -> "RejectionState":
        """Invert `to_bytes`.

        Raises:
            CheckpointError: If the bytes are of another version.
        """
        packed = _unpack(payload, "reject")
        return cls(young=_split(packed["young"]), old=_split(packed["old"]))


def _split(hashes: bytes) -> frozenset[bytes]:
    return frozenset(hashes[at : at + _REJECT_HASH_BYTES] for at in range(0, len(hashes), _REJECT_HASH_BYTES))


def drop_duplicate_rejections(
    rejections: Sequence[Rejection], state: RejectionState
) -> tuple[list[Rejection], int, RejectionState]:
    """Drop the rejects that repeat an earlier one: a device that resends what was refused is refused once.

    Two rejects are the same if device, channel, place in the message, code and payload are.

    Args:
        rejections: New rejects in journal order.
        state: Hashes of earlier ones.

    Returns: The rejects kept, in order; how many were dropped; the new state.
    """
    if not rejections:
        return [], 0, state
    young, old = set(state.young), state.old
    kept = []
    for rejection in rejections:
        key = _reject_hash(rejection)
        if key in young or key in old:
            continue
        kept.append(rejection)
        young.add(key)
        if len(young) >= REJECT_KEYS_MAX // 2:
            young, old = set(), frozenset(young)
    return kept, len(rejections) - len(kept), RejectionState(young=frozenset(young), old=old)


def _reject_hash(one: Rejection) -> bytes:
    place = msgspec.msgpack.encode((one.tenant, one.device_id, one.channel, one.record, one.code, one.payload))
    return blake2b(place, digest_size=_REJECT_HASH_BYTES).digest()

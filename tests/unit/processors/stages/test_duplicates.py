"""Repetitions are dropped within a bounded memory, and told by bytes that no library version changes."""

import struct
from hashlib import blake2b

import msgspec
import polars as pl
import pytest

from gateway.core.errors import CheckpointError
from gateway.core.limits import DUPLICATE_KEYS_MAX, REJECT_KEYS_MAX
from processors.stages.duplicates import (
    DuplicateState,
    RejectionState,
    drop_duplicate_rejections,
    drop_duplicates,
    hash_rows,
)
from processors.stages.faults import Rejection
from tests.unit.processors.stages.window_frames import TIME, readings_of

KEY = ("device_id", "measured_at")


def test_reading_sent_again_is_dropped_and_counted() -> None:
    """The same reading in a later message leaves the first one alone."""
    kept, dropped, state = drop_duplicates(
        readings_of((1, "a", 10, 1.0), (2, "a", 11, 1.0)), KEY, DuplicateState.empty()
    )
    assert (kept["offset"].to_list(), dropped) == ([1, 2], 0)
    kept, dropped, _ = drop_duplicates(readings_of((3, "a", 10, 1.0), (4, "a", 12, 1.0)), KEY, state)
    assert (kept["offset"].to_list(), dropped) == ([4], 1)


def test_reading_of_another_device_or_tenant_is_no_repetition() -> None:
    """Identity is part of every key."""
    readings = readings_of((1, "a", 10, 1.0), (2, "b", 10, 1.0), (3, "a", 10, 1.0))
    kept, dropped, _ = drop_duplicates(
        readings.with_columns(tenant=pl.Series(["x", "x", "y"])), KEY, DuplicateState.empty()
    )
    assert (kept.height, dropped) == (3, 0)


def test_without_key_the_content_decides() -> None:
    """Two readings of one instant are two if a field differs, and one if only the transport does."""
    readings = readings_of((1, "a", 10, 1.0), (2, "a", 10, 2.0), (3, "a", 10, 1.0), received={3: 99})
    readings = readings.with_columns(flags=pl.Series([None, None, "clock_clamped"]))
    assert drop_duplicates(readings, None, DuplicateState.empty())[0]["offset"].to_list() == [1, 2]
    assert drop_duplicates(readings, KEY, DuplicateState.empty())[0]["offset"].to_list() == [1]


def test_older_reading_that_is_new_is_kept() -> None:
    """Disorder alone makes no repetition."""
    kept, dropped, _ = drop_duplicates(readings_of((1, "a", 10, 1.0), (2, "a", 5, 1.0)), KEY, DuplicateState.empty())
    assert (kept.height, dropped) == (2, 0)


def flood(device: str, start: int, count: int) -> pl.DataFrame:
    """Return `count` readings a microsecond apart."""
    at = pl.int_range(start, start + count, eager=True)
    return pl.DataFrame({"measured_at": at, "received_at": at, "offset": at}).select(
        pl.lit("acme").alias("tenant"),
        pl.lit(device).alias("device_id"),
        pl.col("measured_at", "received_at").cast(TIME),
        "offset",
    )


def test_flooding_device_is_bounded_and_takes_no_memory_from_others() -> None:
    """A device's keys are cut to its share; the other's few are still known."""
    _, _, state = drop_duplicates(flood("quiet", 0, 3), KEY, DuplicateState.empty())
    for start in range(0, 3 * DUPLICATE_KEYS_MAX, DUPLICATE_KEYS_MAX // 4):
        _, _, state = drop_duplicates(flood("loud", start, DUPLICATE_KEYS_MAX // 4), KEY, state)
        assert state.keys.height <= 3 * DUPLICATE_KEYS_MAX
    state = DuplicateState.from_bytes(state.to_bytes())
    assert state.keys.height == DUPLICATE_KEYS_MAX // 2 + 3
    share = DUPLICATE_KEYS_MAX // 2
    recent = flood("loud", 3 * DUPLICATE_KEYS_MAX - share, share)
    assert (0, share) == _kept_and_dropped(recent, state)
    assert _kept_and_dropped(flood("quiet", 0, 3), state) == (0, 3)


def _kept_and_dropped(readings: pl.DataFrame, state: DuplicateState) -> tuple[int, int]:
    kept, dropped, _ = drop_duplicates(readings, KEY, state)
    return kept.height, dropped


def defined_hash(bits_by_name: dict[str, int]) -> int:
    """The oracle: the definition in integers of any size."""
    total = 0
    for name, bits in bits_by_name.items():
        value = bits ^ digest(name.encode())
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            value = (value ^ value >> shift) * factor % 2**64
        total += value ^ value >> 31
    return total % 2**64


def digest(payload: bytes) -> int:
    return int.from_bytes(blake2b(payload, digest_size=8).digest(), "little")


def test_hash_is_of_defined_bytes() -> None:
    """Checkpoints outlive the process and the library, so the hash is that of the definition, and of one number."""
    frame = pl.DataFrame(
        {
            "power_kw": [1.5, -0.0, 0.0, None],
            "sequence": [-7, None, None, None],
            "mode": ["drive", None, None, None],
            "open": [True, None, None, None],
            "cells_v": [[3.5, None], None, None, None],
        },
        schema_overrides={"sequence": pl.Int32()},
    )
    full = {
        "power_kw": struct.unpack("<Q", struct.pack("<d", 1.5))[0],
        "sequence": 2**64 - 7,
        "mode": digest(msgspec.msgpack.encode("drive")),
        "open": 1,
        "cells_v": digest(msgspec.msgpack.encode([3.5, None])),
    }
    zero = defined_hash({"power_kw": 0})
    expected = [defined_hash(full), zero, zero, 0]
    assert expected == hash_rows(frame, frame.columns).to_list()
    assert zero == 3567716404791562863


def test_hash_does_not_change_with_column_order_width_or_a_new_empty_field() -> None:
    """A contract may reorder, widen and add fields without making old readings new."""
    frame = pl.DataFrame({"a": [1, 2], "b": [0.5, None]}, schema={"a": pl.Int32(), "b": pl.Float64()})
    other = frame.select("b", pl.col("a").cast(pl.Int64()), pl.lit(None, pl.String()).alias("c"))
    assert hash_rows(frame, frame.columns).to_list() == hash_rows(other, other.columns).to_list()


def rejection(offset: int, payload: bytes = b"\xff", **changes: object) -> Rejection:
    """Return a reject of device "a"."""
    given = {
        "offset": offset,
        "record": 0,
        "tenant": "acme",
        "device_id": "a",
        "channel": "telemetry",
        "stage": "decode",
    }
    given |= {"code": "malformed", "path": "$", "expected": "object", "got": "bytes", "received_at_ns": offset}
    return Rejection(**(given | {"payload": payload} | changes))  # type: ignore[arg-type]


def test_poison_sent_again_is_one_reject() -> None:
    """A resent payload is refused once, another device's, place's or payload's counts by itself."""
    first = [rejection(1), rejection(2), rejection(3, b"\xfe"), rejection(4, record=1), rejection(5, device_id="b")]
    kept, dropped, state = drop_duplicate_rejections(first, RejectionState.empty())
    assert ([one.offset for one in kept], dropped) == ([1, 3, 4, 5], 1)
    again = drop_duplicate_rejections([rejection(9)], RejectionState.from_bytes(state.to_bytes()))
    assert again[:2] == ([], 1)


def test_rejects_remembered_are_bounded() -> None:
    """The last half of the limit is always known, and never more than the limit is held."""
    many = [rejection(n, n.to_bytes(4, "big")) for n in range(REJECT_KEYS_MAX + 10)]
    kept, _, state = drop_duplicate_rejections(many, RejectionState.empty())
    assert len(many) == len(kept)
    assert len(state.young) + len(state.old) <= REJECT_KEYS_MAX
    assert len(many) // 2 - 5 == drop_duplicate_rejections(many[-(len(many) // 2 - 5) :], state)[1]


def test_state_of_another_version_is_refused() -> None:
    """Bytes of another layout are an error with its mend, not a guess."""
    for kind in (DuplicateState, RejectionState):
        other = kind.empty().to_bytes().replace(b"\xa7version\x01", b"\xa7version\x02")
        with pytest.raises(CheckpointError, match="is version 2, not 1; rebuild it from the journal"):
            kind.from_bytes(other)

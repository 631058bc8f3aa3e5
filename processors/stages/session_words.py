"""Rows of the charger streams as sessions read them, in the order of the journal."""

from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from math import nan
from typing import Any, Final, TypeVar

import msgspec
import polars as pl

V16: Final = "1.6"
_NO_TRANSACTIONS: Final = frozenset({"-1", "0", str(2**31 - 1), str(2**63 - 1)})
"""What 1.6 chargers send as a transaction id when they have none."""


class _Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What every row says: whose, where, when by the charger's clock, when received, and flags."""

    tenant: str
    charger_id: str
    at_us: int
    received_us: int
    flags: frozenset[str]
    version: str | None
    connector: str | None
    evse_id: int | None
    connector_id: int | None


class TransactionRow(_Row, frozen=True, kw_only=True, gc=False):
    """A row of `charger_transaction`; `message_id` is that of the 1.6 start, also in its answer."""

    event: str
    message_id: str | None
    transaction_id: str | None
    seq_no: int | None
    charging_state: str | None
    stop_reason: str | None
    id_token: str | None
    id_token_type: str | None
    meter_start_wh: float | None
    meter_stop_wh: float | None
    vin: str | None


class MeterRow(_Row, frozen=True, kw_only=True, gc=False):
    """A row of `charger_meter`; `values` as a `Sample` has them, NaN for none."""

    transaction_id: str | None
    values: tuple[float, float, float, float]


class StatusRow(_Row, frozen=True, kw_only=True, gc=False):
    """A row of `charger_status` of the kind `status`."""

    status: str | None


Word = TransactionRow | MeterRow | StatusRow
R = TypeVar("R", bound=_Row)

_COMMON: Final = ("tenant", "device_id", "flags", "ocpp_version", "connector", "evse_id", "connector_id")
_TRANSACTION: Final = (
    *("event", "start_message_id", "transaction_id", "seq_no", "charging_state", "stop_reason"),
    *("id_token", "id_token_type", "meter_start_wh", "meter_stop_wh", "vin"),
)
_METER: Final = ("transaction_id", "energy_import_wh", "power_import_kw", "soc_pct", "energy_import_interval_wh")
_PlacedWord = tuple[int, int, int, Word]
_NO_FLAGS: Final[frozenset[str]] = frozenset()


def words_of(frames: Mapping[str, pl.DataFrame]) -> list[tuple[int, Word]]:
    """Return the rows that sessions are made of, with their offsets, by offset.

    Of one offset transactions come first, then meter values, then states; each in the order of their records.
    """
    streams: list[Iterator[_PlacedWord]] = []
    if (frame := frames.get("charger_transaction")) is not None and frame.height:
        streams.append(_rows(frame, 0, _TRANSACTION, _transaction))
    if (frame := frames.get("charger_meter")) is not None and frame.height:
        streams.append(_rows(frame, 1, _METER, _meter))
    if (frame := frames.get("charger_status")) is not None and frame.height:
        streams.append(_rows(frame.filter(pl.col("kind") == "status"), 2, ("status",), _status))
    return [(offset, word) for offset, _, _, word in merge(*streams, key=lambda placed: placed[:3])]


def named_transaction(row: TransactionRow | MeterRow) -> str | None:
    """Return the transaction id, None where it is one of those that chargers send for want of one."""
    if not row.transaction_id or "no_transaction" in row.flags:
        return None
    return None if row.version == V16 and row.transaction_id in _NO_TRANSACTIONS else row.transaction_id


def _rows(frame: pl.DataFrame, rank: int, names: Sequence[str], make: Any) -> Iterator[_PlacedWord]:
    times = (pl.col("measured_at").dt.epoch("us"), pl.col("received_at").dt.epoch("us"))
    rows = frame.select("offset", "record", *times, *_COMMON, *names).rows()
    for offset, record, at_us, received_us, tenant, device, flags, version, connector, evse, plug, *rest in rows:
        common = {
            "tenant": tenant,
            "charger_id": device,
            "at_us": at_us,
            "received_us": received_us,
            "flags": frozenset(flags.split(",")) if flags else _NO_FLAGS,
            "version": version,
            "connector": connector,
            "evse_id": evse,
            "connector_id": plug,
        }
        yield offset, rank, record, make(common, rest)


def _transaction(common: dict[str, Any], rest: Sequence[Any]) -> TransactionRow:
    names = ("event", "message_id", *_TRANSACTION[2:])
    return TransactionRow(**common, **dict(zip(names, rest, strict=True)))


def _meter(common: dict[str, Any], rest: Sequence[Any]) -> MeterRow:
    transaction, *values = rest
    register, power, soc, interval = (nan if value is None else value for value in values)
    return MeterRow(**common, transaction_id=transaction, values=(register, power, soc, interval))


def _status(common: dict[str, Any], rest: Sequence[Any]) -> StatusRow:
    return StatusRow(**common, status=rest[0])

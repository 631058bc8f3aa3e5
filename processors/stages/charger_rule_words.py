"""What chargers said, and what else the charger rules go by, row by row in the order of the journal."""

from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from typing import Any, Final

import msgspec
import polars as pl


class _Word(msgspec.Struct, frozen=True, gc=False):
    """What every row says: its place in the journal, whose it is, when by the charger's clock and when received."""

    offset: int
    record: int
    tenant: str
    device_id: str
    at_us: int
    received_us: int


class EventWord(_Word, frozen=True, gc=False):
    """A row of `charger_transaction`."""

    flags: str | None
    connector: str | None
    event: str
    transaction_id: str | None
    charging_state: str | None
    offline: bool | None


class MeterWord(_Word, frozen=True, gc=False):
    """A row of `charger_meter`."""

    connector: str | None
    energy_wh: float | None
    power_kw: float | None
    offered_kw: float | None
    soc_pct: float | None


class StatusWord(_Word, frozen=True, gc=False):
    """A row of `charger_status`."""

    flags: str | None
    connector: str | None
    kind: str
    action: str | None
    status: str | None
    reason: str | None
    security_event: str | None
    info: str | None
    generation: int | None


class SessionWord(_Word, frozen=True, gc=False):
    """A row of `charging_session_revisions`; `at_us` is its receipt, because passed time causes some of them."""

    connector: str | None
    session_id: str
    transaction_id: str | None
    status: str
    started_at_us: int
    ended_at_us: int | None
    energy_wh: float | None
    meter_start_wh: float | None
    meter_stop_wh: float | None
    flags: str | None
    evidence: str | None


class AssetWord(_Word, frozen=True, gc=False):
    """A row of `asset` about a charger."""

    rated_kw: float | None
    connectors: int | None


class OrderWord(_Word, frozen=True, gc=False):
    """A row of `device_command` about charging."""

    request_id: str
    event: str
    action: str
    payload: str | None


Word = EventWord | MeterWord | StatusWord | SessionWord | AssetWord | OrderWord
PlacedWord = tuple[int, int, int, Word]
"""Offset, rank of the stream, place in its frame, word; no two share the first three."""

SESSIONS: Final = "charging_session_revisions"
CHARGER_STREAMS: Final = ("charger_transaction", "charger_meter", "charger_status")
WORD_STREAMS: Final = (*CHARGER_STREAMS, SESSIONS, "asset", "device_command")
PROFILE_SET: Final = "SetChargingProfile"
PROFILE_CLEARED: Final = "ClearChargingProfile"
STARTS: Final = frozenset({"RemoteStartTransaction", "RequestStartTransaction"})
_ORDERS: Final = frozenset({PROFILE_SET, PROFILE_CLEARED, *STARTS})

_BASE: Final = ("offset", "record", "tenant", "device_id", "measured_at", "received_at")


def words_of(frames: Mapping[str, pl.DataFrame]) -> list[PlacedWord]:
    """Return the rows in order of the journal.

    Of one offset transactions come first, then meter values, states, sessions, and what people stated and ordered;
    each in the order of their frame.
    """
    found: list[PlacedWord] = []
    for rank, name in enumerate(WORD_STREAMS):
        frame = frames.get(name)
        if frame is None or frame.is_empty():
            continue
        make, columns, chosen = _READERS[name]
        if chosen is not None:
            frame = frame.filter(chosen)
        values = zip(*(_values(frame, column) for column in columns), strict=True)
        found += [(row[0], rank, place, make(*row)) for place, row in enumerate(values)]
    # Each stream is in order already, and sorting finds such runs.
    found.sort()
    return found


def _values(frame: pl.DataFrame, name: str) -> Iterable[Any]:
    """Return a column as Python values, times in us."""
    if name == _NO_RECORD:
        return repeat(0, frame.height)
    column = frame.get_column(name)
    # As expressions of one `select`, the same takes twice as long.
    return (column.cast(pl.Int64()) if isinstance(column.dtype, pl.Datetime) else column).to_list()


_NO_RECORD: Final = ""
_Reader = tuple[Callable[..., Word], tuple[str, ...], pl.Expr | None]
_READERS: Final[dict[str, _Reader]] = {
    "charger_transaction": (
        EventWord,
        (*_BASE, "flags", "connector", "event", "transaction_id", "charging_state", "offline"),
        None,
    ),
    "charger_meter": (
        MeterWord,
        (*_BASE, "connector", "energy_import_wh", "power_import_kw", "power_offered_kw", "soc_pct"),
        None,
    ),
    "charger_status": (
        StatusWord,
        (*_BASE, "flags", "connector", "kind", "action", "status", "reason", "security_event", "info", "generation"),
        None,
    ),
    SESSIONS: (
        SessionWord,
        (
            *("offset", _NO_RECORD, "tenant", "charger_id", "received_at", "received_at"),
            *("connector", "session_id", "transaction_id", "status", "started_at", "ended_at"),
            *("energy_wh", "meter_start_wh", "meter_stop_wh", "flags", "evidence"),
        ),
        None,
    ),
    "asset": (AssetWord, (*_BASE, "rated_power_kw", "connectors"), pl.col("kind") == "charger"),
    "device_command": (
        OrderWord,
        (*_BASE, "request_id", "event", "action", "payload"),
        pl.col("action").is_in(_ORDERS),
    ),
}
"""Stream -> the word of a row, its columns in the order of the word, and which rows are words."""

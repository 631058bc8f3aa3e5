"""What console and API ask of the past and of now, whoever answers: the lake or an index.

Equal questions get equal answers from every implementation, in the same order, as far as each has come: an index shows
what the lake holds some seconds later. Every question is of one tenant, and what belongs to another does not exist.

Times in questions count in whole milliseconds, because an index knows no finer ones; times in answers are exact.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

import msgspec

from gateway.core.errors import QueryError
from gateway.core.limits import KEYWORD_CHARS_MAX, QUERY_DEVICES_MAX, QUERY_FILTER_VALUES_MAX, QUERY_PAGE_ROWS_MAX
from gateway.core.text import peer_text

T = TypeVar("T")

Scalar = str | int | float | bool | datetime | None
"""A value of a field. Not a number and infinities are None."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """Some rows, in order.

    Attributes:
        rows: At most as many as asked for.
        next_cursor: What to ask the same question with for the rows that follow; None after the last. A row that
            changes its place in the order between two questions may be seen twice or not at all; others are seen once.
    """

    rows: tuple[T, ...]
    next_cursor: str | None


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """A value and when it was measured."""

    value: Scalar
    measured_at: datetime


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """What a device, or a part of it, last said in one stream.

    Attributes:
        stream: The stream.
        part: Part of the device, such as a connector; None for the device itself.
        measured_at: Of its newest reading.
        values: Field -> newest known value, of the fields that have one; in the order of the contract.
    """

    stream: str
    part: str | None
    measured_at: datetime
    values: dict[str, Value]


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One device with the newest it said in each stream, by stream and part."""

    device_id: str
    measured_at: datetime
    states: tuple[StreamState, ...]


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The newest revision of one window.

    Attributes:
        window_start: First moment of it.
        window_s: Its length.
        part: Part of the device, None for the device itself.
        revision: 0, and more when late readings were merged.
        values: Aggregate -> value, such as `soc_pct_last`; aggregates without one are None.
    """

    window_start: datetime
    window_s: int
    part: str | None
    revision: int
    values: dict[str, Scalar]


class SessionRow(msgspec.Struct, frozen=True, kw_only=True):
    """The newest revision of one charging session; `docs/reference/lake.md` says what its fields mean."""

    session_id: str
    charger_id: str
    connector: str | None
    status: str
    started_at: datetime
    ended_at: datetime | None
    duration_s: float | None
    energy_wh: float | None
    energy_source: str | None
    peak_power_kw: float | None
    mean_power_kw: float | None
    soc_start_pct: float | None
    soc_end_pct: float | None
    stop_reason: str | None
    vehicle_id: str | None
    vehicle_confidence: float | None
    flags: tuple[str, ...]
    revision: int


class AlertRow(msgspec.Struct, frozen=True, kw_only=True):
    """The newest revision of one alert; `docs/reference/lake.md` says what its fields mean."""

    alert_id: str
    device_id: str
    part: str | None
    site: str | None
    stream: str
    rule: str
    severity: str
    state: str
    title: str
    since: datetime
    fired_at: datetime
    acknowledged_at: datetime | None
    resolved_at: datetime | None
    value: float | None
    limit: float | None
    unit: str
    by: str | None
    revision: int


class RejectCount(msgspec.Struct, frozen=True, kw_only=True):
    """How often a stage refused something for one reason, and when it last did."""

    stage: str
    code: str
    rejects: int
    newest_received_at: datetime


class SessionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which sessions; what is None does not matter.

    Attributes:
        charger_id: Of this charger.
        vehicle_id: Of this vehicle.
        status: In this state, such as `active`.
        begin: Started then or later.
        end: Started before.
    """

    charger_id: str | None = None
    vehicle_id: str | None = None
    status: str | None = None
    begin: datetime | None = None
    end: datetime | None = None


class AlertFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which alerts; what is None or empty does not matter.

    Attributes:
        states: In one of these states, such as `firing`.
        severities: Of one of these, such as `critical`.
        device_id: Of this device.
        site: Of this site.
        begin: Fired then or later.
        end: Fired before.
    """

    states: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()
    device_id: str | None = None
    site: str | None = None
    begin: datetime | None = None
    end: datetime | None = None


class Queries(Protocol):
    """The reads of console and API. Calls block, for at most the implementation's time-out; any thread may make them.

    Text in questions is compared as it is, byte by byte: it has no wildcards and no syntax. All calls raise QueryError
    for a question that cannot be asked (a limit, an unknown stream, a foreign cursor), and StoreError when the store
    cannot answer.
    """

    def fleet(
        self,
        tenant: str,
        *,
        since: datetime,
        device_id: str | None = None,
        rows_max: int = QUERY_DEVICES_MAX,
        cursor: str | None = None,
    ) -> Page[Device]:
        """Return the devices that measured something since then and what they last said, by device id.

        Args:
            tenant: Whose devices.
            since: Values measured before are not looked for; what bounds the cost of the question.
            device_id: Only this one.
            rows_max: Devices, 1 to QUERY_DEVICES_MAX.
            cursor: From the page before.
        """
        ...

    def windows(
        self,
        tenant: str,
        device_id: str,
        stream: str,
        *,
        window_s: int,
        begin: datetime,
        end: datetime,
        rows_max: int = QUERY_PAGE_ROWS_MAX,
        cursor: str | None = None,
    ) -> Page[Window]:
        """Return a device's windows of one size that start in [begin, end), by start and part (None first)."""
        ...

    def sessions(
        self,
        tenant: str,
        wanted: SessionFilter = SessionFilter(),  # noqa: B008 - frozen
        *,
        rows_max: int = QUERY_PAGE_ROWS_MAX,
        cursor: str | None = None,
    ) -> Page[SessionRow]:
        """Return charging sessions, newest start first, of equal milliseconds by session id; without merged ones."""
        ...

    def alerts(
        self,
        tenant: str,
        wanted: AlertFilter = AlertFilter(),  # noqa: B008 - frozen
        *,
        rows_max: int = QUERY_PAGE_ROWS_MAX,
        cursor: str | None = None,
    ) -> Page[AlertRow]:
        """Return alerts, newest first by when they fired, of equal milliseconds by alert id."""
        ...

    def rejects(self, tenant: str, *, begin: datetime, end: datetime) -> tuple[RejectCount, ...]:
        """Count the rejects received in [begin, end), most frequent first, then by stage and code."""
        ...

    def close(self) -> None:
        """Give up what is held open."""
        ...


# ---- what implementations share --------------------------------------------------------------------------------------


def milliseconds(at: datetime) -> int:
    """Return a time as whole milliseconds since 1970, rounded down. Raises: QueryError: It has no time zone."""
    if at.tzinfo is None:
        raise QueryError(f"time {at.isoformat()} has no zone; give one, such as {at.isoformat()}Z")
    return (at - _EPOCH) // _MILLISECOND


def at_millisecond(at_ms: int) -> datetime:
    """Invert `milliseconds`."""
    return _EPOCH + at_ms * _MILLISECOND


def checked_rows(rows_max: int, most: int) -> int:
    """Return the limit. Raises: QueryError: It is out of bounds."""
    if not 1 <= rows_max <= most:
        raise QueryError(f"{rows_max} rows asked for; ask for 1 to {most}, and page on with the cursor")
    return rows_max


def checked_text(name: str, text: str) -> str:
    """Return the text of a filter. Raises: QueryError: No stored value can be equal to it."""
    if len(text) > KEYWORD_CHARS_MAX:
        raise QueryError(f"{name} has {len(text)} characters, limit is {KEYWORD_CHARS_MAX}; shorten it")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise QueryError(f"{name} '{peer_text(text)}' is no Unicode text; remove lone surrogates") from exc
    return text


def checked_texts(name: str, texts: Sequence[str]) -> list[str]:
    """Return the texts of a filter. Raises: QueryError: They are too many, or one cannot be used."""
    if len(texts) > QUERY_FILTER_VALUES_MAX:
        raise QueryError(f"{len(texts)} values for {name}, limit is {QUERY_FILTER_VALUES_MAX}; ask several times")
    return [checked_text(name, text) for text in texts]


def checked_stream(stream: str, known: Mapping[str, object]) -> str:
    """Return the stream. Raises: QueryError: Nobody knows it."""
    if stream not in known:
        raise QueryError(f"there is no stream '{peer_text(stream)}' with windows; there are {', '.join(known)}")
    return stream


def to_cursor(question: Literal["fleet", "windows", "sessions", "alerts"], place: Sequence[Any]) -> str:
    """Return the cursor behind a place in the order of a question's rows: text that is safe in a URL."""
    return base64.urlsafe_b64encode(msgspec.json.encode([question, *place])).decode().rstrip("=")


def from_cursor(question: str, cursor: str | None, kinds: Sequence[type | object]) -> list[Any] | None:
    """Return the place that a cursor stands for, None without one.

    Args:
        question: What is asked now.
        cursor: What `to_cursor` made.
        kinds: Types of the place's values.

    Raises: QueryError: It is none, or of another question.
    """
    if cursor is None:
        return None
    error = QueryError(f"'{peer_text(cursor)}' is no cursor of {question}; begin again without one")
    if len(cursor) > 4 * KEYWORD_CHARS_MAX:
        raise error
    try:
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        named, *place = msgspec.json.decode(packed, type=list[Any])
        if named != question or len(place) != len(kinds):
            raise error
        return [msgspec.convert(value, kind) for value, kind in zip(place, kinds, strict=True)]
    except (binascii.Error, ValueError, msgspec.MsgspecError) as exc:
        raise error from exc

"""Orders of operators about alerts: each becomes an event, or one of the reasons why it changes nothing."""

from typing import Final, NamedTuple

import msgspec
import polars as pl

from gateway.core.limits import IDENTITY_BYTES_MAX, NOTE_CHARS_MAX, SILENCE_S_MAX
from gateway.core.text import peer_text
from processors.stages.alert_record import (
    AlertEvent,
    LifeEvent,
    MatcherError,
    SilenceEvent,
    SilenceKind,
    TestOrder,
    read_matchers,
    silence_id_of,
)
from processors.stages.alert_store import AlertStore, Live

ORDERS: Final = "alert_order"
"""Stream, and channel, of the orders."""

MALFORMED: Final = "order_malformed"
UNKNOWN_ALERT: Final = "order_unknown_alert"
ALREADY_RESOLVED: Final = "order_already_resolved"
CHANGES_NOTHING: Final = "order_changes_nothing"
UNKNOWN_SILENCE: Final = "order_unknown_silence"
TOO_MANY_SILENCES: Final = "order_too_many_silences"


class Order(NamedTuple):
    """A row of the stream `alert_order`; times in microseconds since 1970."""

    offset: int
    record: int
    received_at: int
    tenant: str
    kind: str
    by: str
    alert_id: str | None
    note: str | None
    matchers: str | None
    starts_at_us: int | None
    ends_at_us: int | None
    why: str | None
    silence_kind: SilenceKind | None
    silence_id: str | None
    receiver: str | None


def read_orders(frame: pl.DataFrame) -> list[Order]:
    """Return the rows of the stream."""
    return [Order(*row) for row in frame.select(pl.col(Order._fields).to_physical()).iter_rows()]


def take_order(order: Order, store: AlertStore) -> LifeEvent | str:
    """Carry out an order; return what became of it, or the reason why nothing did."""
    match order.kind:
        case "ack" | "unack" | "resolve":
            return _change_alert(order, store)
        case "silence":
            return _begin_silence(order, store)
        case "unsilence":
            return _end_silence(order, store)
        case "test" if order.receiver:
            receiver = peer_text(order.receiver, chars_max=IDENTITY_BYTES_MAX)
            return TestOrder(
                offset=order.offset,
                received_at_us=order.received_at,
                tenant=order.tenant,
                receiver=receiver,
                by=_by(order),
            )
        case _:
            return MALFORMED


def _change_alert(order: Order, store: AlertStore) -> AlertEvent | str:
    if not order.alert_id:
        return MALFORMED
    alert = store.find(order.tenant, order.alert_id)
    if alert is None:
        return UNKNOWN_ALERT
    if not isinstance(alert, Live) or not alert.event.is_open:
        return ALREADY_RESOLVED
    before, now_us = alert.event, order.received_at
    event = msgspec.structs.replace(
        before,
        offset=order.offset,
        received_at_us=now_us,
        revision=before.revision + 1,
        site=store.site(alert.device),
        at_us=now_us,
        by=_by(order),
        note=_text(order.note) or None,
    )
    match order.kind, before.state:
        case "ack", "firing":
            event = msgspec.structs.replace(event, state="acknowledged", acknowledged_at_us=now_us)
        case "unack", "acknowledged":
            event = msgspec.structs.replace(event, state="firing", acknowledged_at_us=None)
        case "resolve", _:
            event = msgspec.structs.replace(event, state="resolved", resolved_at_us=now_us, resolved_by="operator")
        case _:
            return CHANGES_NOTHING
    store.put(msgspec.structs.replace(alert, event=event))
    return event


def _begin_silence(order: Order, store: AlertStore) -> SilenceEvent | str:
    now_us, why = order.received_at, _text(order.why)
    starts_us = now_us if order.starts_at_us is None else order.starts_at_us
    ends_us = order.ends_at_us
    latest_us = now_us + SILENCE_S_MAX * 1_000_000
    if not why or ends_us is None or not max(now_us, starts_us) < ends_us <= latest_us:
        return MALFORMED
    try:
        matchers = read_matchers((order.matchers or "").splitlines())
    except MatcherError:
        return MALFORMED
    silence = SilenceEvent(
        offset=order.offset,
        received_at_us=now_us,
        silence_id=silence_id_of(order.offset, order.record),
        tenant=order.tenant,
        matchers=matchers,
        starts_at_us=starts_us,
        ends_at_us=ends_us,
        by=_by(order),
        why=why,
        kind=order.silence_kind or "silence",
    )
    return silence if store.add_silence(silence) else TOO_MANY_SILENCES


def _end_silence(order: Order, store: AlertStore) -> SilenceEvent | str:
    if not order.silence_id:
        return MALFORMED
    silence = store.silence(order.silence_id, order.received_at)
    if silence is None or silence.tenant != order.tenant:
        return UNKNOWN_SILENCE
    store.remove_silence(silence.silence_id)
    return msgspec.structs.replace(
        silence, offset=order.offset, received_at_us=order.received_at, by=_by(order), removed=True
    )


def _by(order: Order) -> str:
    return peer_text(order.by, chars_max=IDENTITY_BYTES_MAX)


def _text(text: str | None) -> str:
    return peer_text((text or "").strip(), chars_max=NOTE_CHARS_MAX)

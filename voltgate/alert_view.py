"""How alerts, silences and notices are shown to people. Pure: records in, rows and lines out.

Names of devices and parts, readings and notes come from outside: every text goes through `cell` or `peer_text`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from gateway.core.limits import NOTE_CHARS_MAX
from gateway.core.text import peer_text
from processors.sinks.outbox_schema import Delivery
from processors.stages.alert_record import AlertEvent, SilenceEvent
from voltgate.output import cell

SHORT_CHARS: Final = 10
"""Characters of an alert's id in a table: 40 bits, which tell a million alerts apart."""

ALERT_COLUMNS: Final = (
    *("alert_id", "severity", "state", "since", "device", "part", "site", "rule", "title", "value", "limit", "unit"),
    "by",
)
SILENCE_COLUMNS: Final = ("silence_id", "kind", "state", "starts_at", "ends_at", "matchers", "by", "why")
NOTICE_COLUMNS: Final = (
    *("notice", "receiver", "kind", "reason", "state", "attempts", "created_at", "title", "last_error"),
)
_HISTORY_SHOWN: Final = 5
"""Readings of the past on one line."""


def when(at_us: int | None) -> str | None:
    """Return a time as people and machines read it, in UTC; None for none."""
    return None if at_us is None else datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="seconds")


def age(span_us: int) -> str:
    """Return how long something is ago, in its largest unit."""
    span_s = max(0, span_us) // 1_000_000
    for unit, seconds in (("d", 86_400), ("h", 3600), ("min", 60)):
        if span_s >= 2 * seconds:
            return f"{span_s // seconds} {unit}"
    return f"{span_s} s"


def alert_row(event: AlertEvent, *, is_short: bool) -> tuple[object, ...]:
    """Return an alert as a row of ALERT_COLUMNS."""
    return (
        event.alert_id[:SHORT_CHARS] if is_short else event.alert_id,
        event.severity,
        event.state,
        when(event.since_us),
        event.device_id,
        event.part,
        event.site,
        event.rule_id,
        event.title,
        event.value,
        event.limit,
        event.unit or None,
        event.by,
    )


def silence_row(event: SilenceEvent, now_us: int) -> tuple[object, ...]:
    """Return a silence as a row of SILENCE_COLUMNS."""
    return (
        event.silence_id,
        event.kind,
        silence_state(event, now_us),
        when(event.starts_at_us),
        when(event.ends_at_us),
        " and ".join(map(str, event.matchers)),
        event.by,
        event.why,
    )


def silence_state(event: SilenceEvent, now_us: int) -> str:
    """Return whether a silence counts now: `active`, `pending`, `ended` or `removed`."""
    if event.removed:
        return "removed"
    if now_us >= event.ends_at_us:
        return "ended"
    return "active" if now_us >= event.starts_at_us else "pending"


def notice_row(delivery: Delivery) -> tuple[object, ...]:
    """Return a notice as a row of NOTICE_COLUMNS."""
    return (
        delivery.delivery_id,
        delivery.receiver,
        delivery.kind,
        delivery.reason,
        delivery.state,
        delivery.attempts,
        when(delivery.created_at_us),
        delivery.title,
        delivery.last_error,
    )


def notice_json(delivery: Delivery) -> dict[str, object]:
    """Return a notice as an object for machines."""
    return dict(zip(NOTICE_COLUMNS, notice_row(delivery), strict=True))


def alert_lines(
    event: AlertEvent, history: Sequence[AlertEvent], notices: Sequence[Delivery], now_us: int
) -> Iterable[str]:
    """Yield the lines that explain an alert.

    Args:
        event: Its newest revision.
        history: All known revisions, oldest first.
        notices: What receivers were sent about it, newest first.
        now_us: The time, UTC microseconds.
    """
    yield f"{event.severity}: {peer_text(event.title)}"
    yield ""
    for name, text in _facts(event, now_us):
        yield f"{name.ljust(10)}  {text}"
    yield ""
    yield "what became of it"
    for revision in history:
        yield f"  {when(revision.received_at_us)}  {revision.state.ljust(12)}  {_why(revision)}".rstrip()
    yield ""
    yield "notices" if notices else "notices: none was sent"
    for notice in reversed(notices):
        words = [cell(notice.receiver), cell(notice.reason), notice.state]
        words += [f"({cell(notice.last_error)})"] if notice.last_error else []
        yield f"  {when(notice.created_at_us)}  {' '.join(words)}"


def _facts(event: AlertEvent, now_us: int) -> Iterable[tuple[str, str]]:
    evidence = event.evidence
    yield "alert", event.alert_id
    since = f"{event.state} since {when(event.received_at_us)}"
    yield "state", f"{since}, {age(now_us - event.received_at_us)} ago{_flaps(evidence)}"
    part, site = event.part, event.site
    yield (
        "device",
        cell(event.device_id) + (f", part {cell(part)}" if part else "") + (f", at {cell(site)}" if site else ""),
    )
    yield "rule", cell(event.rule_id)
    if event.value is not None:
        yield "measured", _quantity(event.value, event.unit)
    if event.limit is not None:
        yield "limit", _quantity(event.limit, event.unit)
    if evidence.get("limit"):
        yield "condition", peer_text(str(evidence["limit"]))
    yield "began", f"{when(event.since_us)} by the device's clock; fired {when(event.fired_at_us)}"
    if event.source:
        yield "limit from", peer_text(event.source, chars_max=NOTE_CHARS_MAX)
    yield from _readings(evidence)
    if event.check:
        yield "check", peer_text(event.check, chars_max=NOTE_CHARS_MAX)
    if event.inhibits:
        yield "meanwhile", f"no notices about {', '.join(map(cell, event.inhibits))} of this device"


def _readings(evidence: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    readings, past = evidence.get("readings"), evidence.get("history")
    if isinstance(readings, dict) and readings:
        yield "readings", ", ".join(f"{cell(name)} {cell(value)}" for name, value in readings.items())
    if isinstance(past, list) and past:
        points = [point for point in past[-_HISTORY_SHOWN:] if isinstance(point, list) and len(point) == 2]
        yield "before", ", ".join(f"{cell(value)} at {cell(at)}" for at, value in points)
    members = evidence.get("members")
    if isinstance(members, list):
        yield "together", ", ".join(cell(member.get("rule")) for member in members if isinstance(member, dict))
    known = {"readings", "history", "members", "limit", "flaps", "ended"}
    for name, value in evidence.items():
        if name not in known and value is not None:
            yield cell(name)[:10], peer_text(_plain(value), chars_max=NOTE_CHARS_MAX)
    ended = evidence.get("ended")
    if isinstance(ended, dict):
        yield "ended at", cell(ended.get("value"))


def _plain(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _flaps(evidence: Mapping[str, Any]) -> str:
    flaps = evidence.get("flaps")
    return f"; it came back {cell(flaps)} times" if flaps else ""


def _quantity(value: float, unit: str) -> str:
    return f"{cell(value)} {cell(unit)}" if unit else cell(value)


def _why(event: AlertEvent) -> str:
    note = f": {peer_text(event.note, chars_max=NOTE_CHARS_MAX)}" if event.note else ""
    if event.by:
        return f"by {cell(event.by)}{note}"
    match event.resolved_by:
        case "condition":
            return "the condition ended"
        case "rule":
            return "the rule is gone or was changed"
        case _:
            return "came back" if event.revision > 1 else ""

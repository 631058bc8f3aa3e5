"""What a notice says, in words: every alert explains itself, and no text of a device does anything but be read.

Labels, lines and headlines are plain text on one line each. Whoever puts them into a language with markup escapes
them; see `bodies`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gateway.core.limits import NOTICE_READINGS_MAX, NOTICE_TEXT_CHARS_MAX
from gateway.core.text import peer_text
from processors.notices.notice import Notice
from processors.stages.alert_record import SEVERITIES, AlertEvent

HEADLINE_CHARS_MAX: Final = 150
"""A header block of Slack takes so many characters; a subject line should not be longer."""
TEST: Final = "This is a test. Nothing is wrong."

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ENDED_BY: Final = {
    "condition": "the condition ended",
    "operator": "an operator resolved it",
    "rule": "its rule is switched off or changed",
}

Line = tuple[str, str]
"""Label and text."""


def explained(event: AlertEvent) -> dict[str, object]:
    """Return an alert for programs: everything that a person would ask, under stable names; absent is null."""
    evidence = dict(event.evidence)
    return {
        "alert_id": event.alert_id,
        "revision": event.revision,
        "state": event.state,
        "severity": event.severity,
        "title": event.title,
        "tenant": event.tenant,
        "device": event.device_id,
        "part": event.part,
        "site": event.site,
        "rule": event.rule_id,
        "since": iso(event.since_us),
        "fired_at": iso(event.fired_at_us),
        "measured_at": iso(event.at_us),
        "acknowledged_at": _iso_or_none(event.acknowledged_at_us),
        "resolved_at": _iso_or_none(event.resolved_at_us),
        "resolved_by": event.resolved_by,
        "by": event.by,
        "note": event.note,
        "value": event.value,
        "limit": event.limit,
        "unit": event.unit,
        "limit_text": evidence.pop("limit", None),
        "source": event.source,
        "check": event.check,
        "readings": evidence.pop("readings", {}),
        "history": evidence.pop("history", []),
        "evidence": evidence,
    }


def headline(notice: Notice) -> str:
    """Return one line: what happens, how bad it is, and where."""
    if notice.reason == "test":
        return f"TEST: {TEST}"
    words = {"repeat": "STILL OPEN", "escalation": "NOBODY ACKNOWLEDGED", "resolved": "RESOLVED"}
    open_now = [event for event in notice.alerts if event.is_open]
    acknowledged = bool(open_now) and all(event.state == "acknowledged" for event in open_now)
    word = words.get(notice.reason) or ("RESOLVED" if not open_now else "ACKNOWLEDGED" if acknowledged else "FIRING")
    shown = open_now or list(notice.alerts)
    worst = max(shown, key=lambda event: SEVERITIES.index(event.severity))
    more = f" and {len(shown) - 1} more" if len(shown) > 1 else ""
    return _line(f"{word} ({worst.severity}): {worst.title}, {where(worst)}{more}", HEADLINE_CHARS_MAX)


def where(event: AlertEvent) -> str:
    """Return the device with its part and site."""
    part = f" {event.part}" if event.part else ""
    site = f" at {event.site}" if event.site else ""
    return f"{event.device_id}{part}{site}"


def lines(event: AlertEvent, *, chars_max: int = NOTICE_TEXT_CHARS_MAX) -> list[Line]:
    """Return what a person needs to know of one alert, in the order of asking; what is not known is left out."""
    evidence = event.evidence
    told = [
        ("Alert", f"{event.title} ({event.severity})"),
        ("State", _state(event)),
        ("Device", where(event)),
        ("Measured", _measured(event)),
        ("Limit", str(evidence.get("limit") or "")),
        ("Source", event.source),
        ("Readings", _readings(evidence.get("readings"))),
        ("Check first", event.check),
        ("Rule", f"{event.rule_id}, tenant {event.tenant}, alert {event.alert_id}"),
    ]
    return [(label, _line(text, chars_max)) for label, text in told if text]


def iso(at_us: int) -> str:
    """Return a moment as RFC 3339 has it, in UTC."""
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _state(event: AlertEvent) -> str:
    note = f": {event.note}" if event.note else ""
    by = f" by {event.by}" if event.by else ""
    if event.state == "acknowledged":
        return f"acknowledged{by}{note}, since {_clock(event.since_us)}"
    if event.state == "resolved":
        why = _ENDED_BY.get(event.resolved_by or "", "over")
        at = "" if event.resolved_at_us is None else f" {_clock(event.resolved_at_us)}"
        return f"resolved{at}, {why}{by if event.resolved_by == 'operator' else ''}{note}"
    return f"firing, since {_clock(event.since_us)}"


def _measured(event: AlertEvent) -> str:
    if event.value is None:
        return ""
    limit = "" if event.limit is None else f", limit {_number(event.limit)} {event.unit}".rstrip()
    return f"{_number(event.value)} {event.unit}".rstrip() + limit


def _readings(readings: object) -> str:
    if not isinstance(readings, Mapping):
        return ""
    shown = [f"{name} {_value(value)}" for name, value in list(readings.items())[:NOTICE_READINGS_MAX]]
    left_out = len(readings) - len(shown)
    return ", ".join(shown) + (f" and {left_out} more" if left_out > 0 else "")


def _value(value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return _number(value) if is_number else "none" if value is None else str(value)


def _number(value: float) -> str:
    return f"{value:.6g}"


def _clock(at_us: int) -> str:
    return f"{_EPOCH + timedelta(microseconds=at_us):%Y-%m-%d %H:%M:%S} UTC"


def _iso_or_none(at_us: int | None) -> str | None:
    return None if at_us is None else iso(at_us)


def _line(text: str, chars_max: int) -> str:
    """Return the text on one line, without anything that controls a terminal, a mail or an eye, and not longer."""
    shown = peer_text(text, chars_max=chars_max)
    return shown if len(shown) <= chars_max else f"{shown[: chars_max - 3]}..."

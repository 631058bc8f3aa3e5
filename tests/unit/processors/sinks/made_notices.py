"""Alerts, notices and drafts for tests of what becomes of them."""

from typing import Any

from processors.notices.notice import Notice, Reason
from processors.sinks.outbox_schema import Draft
from processors.stages.alert_record import AlertEvent

AT_US = 1_795_000_000_000_000
"""2026-11-18, the time of everything here."""
HOSTILE = "<!channel> <script>alert(1)</script> & [x](http://evil.example) *b* \x1b[31m\r\nBcc: a@evil.example"


def alert(number: int = 1, **changes: Any) -> AlertEvent:
    """Return one revision of an alert of a battery."""
    values: dict[str, Any] = {
        "offset": number,
        "received_at_us": AT_US,
        "alert_id": f"{number:020x}",
        "revision": 1,
        "tenant": "default",
        "device_id": f"bus-{number}",
        "part": None,
        "site": "depot-north",
        "stream": "battery_pack",
        "rule": "cell_deviation",
        "severity": "critical",
        "state": "firing",
        "title": "Cell voltage deviates",
        "at_us": AT_US - 100_000,
        "since_us": AT_US - 5_000_000,
        "fired_at_us": AT_US,
        "value": 41.5,
        "limit": 30.0,
        "unit": "mV",
        "evidence": {"readings": {"cell_voltage_max_v": 4.1, "hvil": "closed"}, "limit": "30 mV, when rested"},
        "source": "OVMS BMS defaults",
        "check": "Look at the cell's connector first",
        "inhibits": (),
    }
    return AlertEvent(**(values | changes))


def notice(*alerts: AlertEvent, reason: Reason = "firing", notice_id: str = "n1", **changes: Any) -> Notice:
    """Return a notice of these alerts."""
    values: dict[str, Any] = {
        "notice_id": notice_id,
        "receiver": "ops",
        "reason": reason,
        "group": {"tenant": "default", "site": "depot-north"},
        "group_id": "g1",
        "alerts": alerts,
        "created_at_us": AT_US,
    }
    return Notice(**(values | changes))


def draft(number: int = 1, **changes: Any) -> Draft:
    """Return a message that is not stored yet."""
    values: dict[str, Any] = {
        "delivery_id": f"d{number}",
        "notice_id": f"n{number}",
        "receiver": "ops",
        "kind": "webhook",
        "order_key": f"g{number}",
        "reason": "firing",
        "title": f"title {number}",
        "body": b'{"a":1}',
        "headers": {"Content-Type": "application/json"},
        "event_at_us": AT_US,
        "created_at_us": AT_US,
    }
    return Draft(**(values | changes))

"""What the columns of the alerts' table mean, for the lake's catalogue."""

from typing import Final

ALERT_DESCRIPTION: Final = (
    "What was known of each alert after each entry that changed it; the newest revision is the alert"
)
ALERT_COMMENTS: Final[dict[str, str]] = {
    "alert_id": "Derived from device, part, rule and the entry with which the condition began to hold",
    "revision": "From 1, without gaps",
    "part": "Part of the device, such as a connector; null for the device itself",
    "site": "Where the device belonged, as `voltgate asset set` stated it",
    "stream": "Stream whose contract has the rule",
    "rule": "Name of the rule within the stream",
    "severity": "info, warning or critical",
    "state": "firing, acknowledged or resolved",
    "title": "What the rule is about, in words",
    "at": "Event time of what caused the revision; of an order when it was received",
    "since": "When the condition began to hold, in event time",
    "fired_at": "When the alert fired for the first time, as received",
    "acknowledged_at": "When it was acknowledged; null while it is not",
    "resolved_at": "When it was resolved; null while it is not",
    "value": "What was measured, in `unit`",
    "limit": "What it was held against, in `unit`",
    "unit": "Unit of value and limit",
    "evidence": "JSON: the readings, the limit in words, history, and what else the detector knows",
    "source": "Where the limit comes from",
    "check": "What a person looks at first",
    "inhibits": "Rules that nobody is told of while this alert is open, joined by commas",
    "by": "Who ordered the state, class personal; null where the condition did it",
    "note": "What they said",
    "resolved_by": "condition, operator or rule (it is gone or was changed)",
}

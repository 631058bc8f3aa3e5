"""What is sent for a notice: one function for each kind of receiver, from the same words.

A notice becomes one message or several, each with an id of its own that is derived from the notice's. Nothing in a body
is secret: routing keys and tokens are added when it is sent. No text of a device is ever markup: Slack's three special
characters are escaped, Teams gets text runs (which know no Markdown), HTML is escaped, JSON quotes by itself.
"""

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, assert_never

import msgspec

from gateway.core.limits import (
    NOTICE_ALERTS_MAX,
    NOTICE_ALERTS_SHOWN_MAX,
    NOTICE_ALERTS_SHOWN_TEAMS_MAX,
    NOTICE_TEXT_CHARS_MAX,
)
from gateway.core.text import peer_text
from processors.notices.config import Receiver
from processors.notices.notice import Notice
from processors.notices.wording import TEST, Line, explained, headline, iso, lines
from processors.stages.alert_record import AlertEvent

EVENT_SOURCE: Final = "/voltgate"
"""`source` of our CloudEvents unless the installation has a name; with `id` it is unique."""
CLOUDEVENTS: Final = "application/cloudevents+json"
JSON: Final = "application/json"
RECIPIENT: Final = "recipient"
"""Key of a mail's recipient among the stored headers: each has a delivery of its own, so that one that is refused
neither hides nor repeats the others."""
TEAMS_BYTES_MAX: Final = 27_000
"""Teams refuses messages of 28 KiB and more."""
_SLACK_SECTION_CHARS_MAX: Final = 2_900
_SLACK_LINE_CHARS_MAX: Final = 400
_PAGERDUTY_SUMMARY_CHARS_MAX: Final = 1_024
_PAGERDUTY_ACTION: Final = {"firing": "trigger", "acknowledged": "acknowledge", "resolved": "resolve"}

_encode = msgspec.json.Encoder().encode


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One rendered message.

    Attributes:
        message_id: The notice's id, with a suffix where a notice is more than one message.
        order_key: Messages to one receiver with the same key must arrive in order.
        title: One line for people.
        body: What is sent, without secrets.
        headers: What goes with it, without secrets.
    """

    message_id: str
    order_key: str
    title: str
    body: bytes
    headers: dict[str, str]


def messages(notice: Notice, receiver: Receiver, *, source: str = EVENT_SOURCE) -> list[Message]:
    """Return what a receiver is sent for a notice, at least one message, in the order of sending."""
    match receiver.kind:
        case "webhook":
            return list(_generic(notice, source))
        case "slack":
            return [_only(notice, _slack(notice), JSON)]
        case "teams":
            return [_only(notice, _teams(notice), JSON)]
        case "pagerduty":
            return list(_pagerduty(notice))
        case "email":
            return list(_mail(notice, receiver.to))
        case _:
            assert_never(receiver.kind)


def _generic(notice: Notice, source: str) -> Iterator[Message]:
    """CloudEvents 1.0 in structured mode; a notice of many alerts in parts."""
    parts = [notice.alerts[i : i + NOTICE_ALERTS_MAX] for i in range(0, len(notice.alerts), NOTICE_ALERTS_MAX)] or [()]
    for number, alerts in enumerate(parts, start=1):
        message_id = notice.notice_id if number == 1 else f"{notice.notice_id}-{number}"
        event = {
            "specversion": "1.0",
            "id": message_id,
            "source": source,
            "type": f"voltgate.alert.{notice.reason}.v1",
            "subject": _subject(notice),
            "time": iso(notice.created_at_us),
            "datacontenttype": JSON,
            "data": {
                "notice_id": notice.notice_id,
                "reason": notice.reason,
                "title": headline(notice),
                "group": notice.group,
                "others": notice.others,
                "by": notice.by,
                "alerts": [explained(alert) for alert in alerts],
                "part": number,
                "parts": len(parts),
            },
        }
        yield _message(notice, message_id, notice.group_id, event, CLOUDEVENTS)


# ---- for people ------------------------------------------------------------------------------------------------------
def _slack(notice: Notice) -> dict[str, object]:
    """Return a message for an incoming webhook: `text` for notifications, blocks for the channel."""
    title = headline(notice)
    blocks: list[dict[str, object]] = [
        {"type": "header", "text": {"type": "plain_text", "text": title, "emoji": False}},
    ]
    for told in _told(notice, NOTICE_ALERTS_SHOWN_MAX, _SLACK_LINE_CHARS_MAX):
        shown, left = [], _SLACK_SECTION_CHARS_MAX
        for label, text in told:
            line = f"*{label}:* {_slack_text(text)}"
            left -= len(line) + 1
            if left < 0:
                break
            shown.append(line)
        # `verbatim`: neither addresses nor names of channels and people become links.
        text_object = {"type": "mrkdwn", "text": "\n".join(shown), "verbatim": True}
        blocks.append({"type": "section", "text": text_object})
    return {"text": _slack_text(title), "blocks": blocks, "unfurl_links": False, "unfurl_media": False}


def _slack_text(text: str) -> str:
    """Escape the three characters that begin links, mentions and entities (Slack, "Escaping text")."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _teams(notice: Notice) -> dict[str, object]:
    """Return a message with one Adaptive Card; the more text there is, the fewer alerts are told in full."""
    fewer = ((NOTICE_ALERTS_SHOWN_TEAMS_MAX, NOTICE_TEXT_CHARS_MAX), (3, 300), (1, 200))
    for shown_max, chars_max in fewer:
        card = _card(notice, shown_max, chars_max)
        if len(_encode(card)) <= TEAMS_BYTES_MAX:
            break
    return card


def _card(notice: Notice, shown_max: int, chars_max: int) -> dict[str, object]:
    body: list[dict[str, object]] = [_runs([{"text": headline(notice), "weight": "Bolder", "size": "Medium"}])]
    for told in _told(notice, shown_max, chars_max):
        for place, (label, text) in enumerate(told):
            runs: list[dict[str, object]] = [{"text": f"{label}: ", "weight": "Bolder"}, {"text": text}]
            body.append(_runs(runs, separator=place == 0, spacing="Medium" if place == 0 else "None"))
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": body,
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def _runs(runs: Sequence[Mapping[str, object]], **layout: object) -> dict[str, object]:
    """Return a block of text runs, which unlike a TextBlock take their text as it is."""
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", **run} for run in runs], **layout}


def _mail(notice: Notice, recipients: Sequence[str]) -> Iterator[Message]:
    """One message for each recipient, with equal content; `processors.sinks.mail` makes mail of it."""
    title = headline(notice)
    told = list(_told(notice, NOTICE_ALERTS_SHOWN_MAX, NOTICE_TEXT_CHARS_MAX))
    text = "\n\n".join("\n".join(f"{label}: {line}" for label, line in alert) for alert in told)
    tables = "".join(f"<table>{''.join(map(_html_row, alert))}</table><hr>" for alert in told)
    body = {
        "subject": title,
        "text": f"{title}\n\n{text}\n",
        "html": f"<!doctype html><html><body><h3>{html.escape(title)}</h3>{tables}</body></html>\n",
    }
    for place, recipient in enumerate(recipients, start=1):
        message_id = notice.notice_id if place == 1 else f"{notice.notice_id}-{place}"
        # Order is a matter of each recipient: one whose server is slow does not hold up the others.
        order_key = f"{notice.group_id} {recipient}"
        yield Message(
            message_id=message_id, order_key=order_key, title=title, body=_encode(body), headers={RECIPIENT: recipient}
        )


def _html_row(line: Line) -> str:
    label, text = line
    return f"<tr><th align=left valign=top>{html.escape(label)}</th><td>{html.escape(text)}</td></tr>"


def _told(notice: Notice, shown_max: int, chars_max: int) -> Iterator[list[Line]]:
    """Yield the lines of each alert that is told in full, and a last one of how many are not."""
    if not notice.alerts:
        by = f" {peer_text(notice.by)} asked for it." if notice.by else ""
        yield [("Test", f"{TEST} Receiver {notice.receiver} is reached.{by}")]
    for event in notice.alerts[:shown_max]:
        yield lines(event, chars_max=chars_max)
    if left_out := max(0, len(notice.alerts) - shown_max):
        yield [("And", f"{left_out} more alerts; `voltgate alerts ls` shows all")]
    if notice.others:
        yield [("Still open", f"{notice.others} more alerts of this group, told before")]


# ---- PagerDuty -------------------------------------------------------------------------------------------------------
def _pagerduty(notice: Notice) -> Iterator[Message]:
    """Events API v2, without `routing_key`: one event for each alert, which is PagerDuty's unit of deduplication."""
    if not notice.alerts:
        # A test opens an incident and closes it again.
        for action, suffix in (("trigger", ""), ("resolve", "-resolve")):
            payload = {"summary": headline(notice), "source": EVENT_SOURCE, "severity": "info"}
            event = {"event_action": action, "dedup_key": notice.notice_id, "payload": payload}
            yield _message(notice, f"{notice.notice_id}{suffix}", notice.notice_id, event, JSON)
        return
    for alert in notice.alerts:
        event = {
            "event_action": _PAGERDUTY_ACTION[alert.state],
            "dedup_key": alert.alert_id,
            "client": "Voltgate",
            "payload": _pagerduty_payload(alert),
        }
        yield _message(notice, f"{notice.notice_id}-{alert.alert_id}", alert.alert_id, event, JSON)


def _pagerduty_payload(alert: AlertEvent) -> dict[str, object]:
    told = dict(lines(alert))
    summary = f"{told['Alert']}: {told['Device']}"
    return {
        "summary": summary[:_PAGERDUTY_SUMMARY_CHARS_MAX],
        "source": alert.device_id,
        "severity": alert.severity,
        "timestamp": iso(alert.fired_at_us),
        "component": alert.part or alert.device_id,
        "group": alert.site or alert.tenant,
        "class": alert.rule_id,
        "custom_details": told | {"readings": explained(alert)["readings"]},
    }


# ---- shared ----------------------------------------------------------------------------------------------------------
def _only(notice: Notice, body: object, content_type: str) -> Message:
    return _message(notice, notice.notice_id, notice.group_id, body, content_type)


def _message(notice: Notice, message_id: str, order_key: str, body: object, content_type: str) -> Message:
    return Message(
        message_id=message_id,
        order_key=order_key,
        title=headline(notice),
        body=_encode(body),
        headers={"Content-Type": content_type},
    )


def _subject(notice: Notice) -> str:
    """Return what the event is about: the device where it is one, else the group."""
    devices = {(event.tenant, event.device_id) for event in notice.alerts}
    if len(devices) == 1:
        return "/".join(devices.pop())
    return ",".join(f"{label}={value}" for label, value in sorted(notice.group.items())) or "test"

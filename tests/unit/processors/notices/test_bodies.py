"""What each kind of receiver is sent: complete, explained, and with no text of a device that does anything."""

import json
from html.parser import HTMLParser

import msgspec
import pytest

from gateway.core.limits import NOTICE_ALERTS_MAX, NOTICE_ALERTS_SHOWN_MAX
from processors.notices.bodies import RECIPIENT, TEAMS_BYTES_MAX, Message, messages
from processors.notices.config import Kind, Receiver
from processors.notices.notice import Notice
from processors.notices.wording import HEADLINE_CHARS_MAX, explained, headline, iso, lines
from tests.unit.processors.sinks.made_notices import AT_US, HOSTILE, alert, notice


def rendered(kind: Kind, of: Notice, *, to: tuple[str, ...] = ()) -> list[Message]:
    return messages(of, Receiver(name="ops", kind=kind, to=to))


def body(kind: Kind, of: Notice) -> dict[str, object]:
    [message] = rendered(kind, of, to=("a@example.org",))
    return json.loads(message.body)


def hostile_notice() -> Notice:
    evil = alert(
        device_id=HOSTILE, site=HOSTILE, part=HOSTILE, note=HOSTILE, by=HOSTILE, state="acknowledged",
        evidence={"readings": {HOSTILE: HOSTILE}, "limit": HOSTILE},
    )  # fmt: skip
    return notice(evil)


# ---- words -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("reason", "changes", "expected"),
    [
        ("firing", {}, "FIRING (critical): Cell voltage deviates, bus-1 at depot-north"),
        ("changed", {"state": "acknowledged"}, "ACKNOWLEDGED (critical): Cell voltage deviates, bus-1 at depot-north"),
        ("changed", {"part": "1", "site": None}, "FIRING (critical): Cell voltage deviates, bus-1 1"),
        ("repeat", {}, "STILL OPEN (critical): Cell voltage deviates, bus-1 at depot-north"),
        ("escalation", {}, "NOBODY ACKNOWLEDGED (critical): Cell voltage deviates, bus-1 at depot-north"),
        ("resolved", {"state": "resolved"}, "RESOLVED (critical): Cell voltage deviates, bus-1 at depot-north"),
    ],
)
def test_headline_says_what_happens_and_where(reason, changes, expected):
    """One line that is enough to get up, or not."""
    assert expected == headline(notice(alert(**changes), reason=reason))


def test_headline_of_several_tells_the_worst():
    """And how many more there are."""
    told = headline(notice(alert(1, severity="info"), alert(2, severity="critical"), alert(3, severity="warning")))
    assert "FIRING (critical): Cell voltage deviates, bus-2 at depot-north and 2 more" == told


def test_alert_explains_itself_in_lines():
    """What, since when, where, measured, limit, its source, readings, what to look at first."""
    assert [
        ("Alert", "Cell voltage deviates (critical)"),
        ("State", "firing, since 2026-11-18 11:06:35 UTC"),
        ("Device", "bus-1 at depot-north"),
        ("Measured", "41.5 mV, limit 30 mV"),
        ("Limit", "30 mV, when rested"),
        ("Source", "OVMS BMS defaults"),
        ("Readings", "cell_voltage_max_v 4.1, hvil closed"),
        ("Check first", "Look at the cell's connector first"),
        ("Rule", "battery_pack/cell_deviation, tenant default, alert 00000000000000000001"),
    ] == lines(alert())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"state": "acknowledged", "by": "anna", "note": "on my way"}, "acknowledged by anna: on my way, since "),
        ({"state": "resolved", "resolved_by": "condition"}, "resolved, the condition ended"),
        ({"state": "resolved", "resolved_by": "operator", "by": "anna"}, "resolved, an operator resolved it by anna"),
        ({"state": "resolved", "resolved_by": "rule"}, "resolved, its rule is switched off or changed"),
    ],
)
def test_state_says_who_and_why(changes, expected):
    """An end without a reason would be distrusted."""
    assert dict(lines(alert(**changes)))["State"].startswith(expected)


def test_unknown_is_left_out_and_never_zero():
    """No value, no limit, no evidence: fewer lines."""
    told = dict(lines(alert(value=None, limit=None, evidence={}, check="")))
    assert ["Alert", "State", "Device", "Source", "Rule"] == list(told)


def test_program_gets_all_that_is_known():
    """Under stable names, absent as null."""
    told = explained(alert(evidence={"readings": {"a": 1}, "limit": "x", "history": [["t", 1]], "flaps": 2}))
    assert ("x", {"a": 1}, [["t", 1]], {"flaps": 2}) == (
        told["limit_text"],
        told["readings"],
        told["history"],
        told["evidence"],
    )
    assert None is told["resolved_at"]
    assert "battery_pack/cell_deviation" == told["rule"]


# ---- generic ---------------------------------------------------------------------------------------------------------
def test_generic_body_is_a_cloudevent():
    """With the notice's id, and the alert explained."""
    [message] = rendered("webhook", notice(alert(), others=3))
    told = json.loads(message.body)
    assert "application/cloudevents+json" == message.headers["Content-Type"]
    assert ("1.0", "n1", "/voltgate", "voltgate.alert.firing.v1", "default/bus-1", iso(AT_US)) == tuple(
        told[name] for name in ("specversion", "id", "source", "type", "subject", "time")
    )
    data = told["data"]
    assert ({"tenant": "default", "site": "depot-north"}, 3, 1, 1) == (
        data["group"],
        data["others"],
        data["part"],
        data["parts"],
    )
    assert [msgspec.to_builtins(explained(alert()))] == data["alerts"]


def test_large_notice_is_sent_in_parts():
    """Every alert is in exactly one part; each has an id of its own, without the full stop that is forbidden."""
    count = 2 * NOTICE_ALERTS_MAX + 1
    parts = rendered("webhook", notice(*(alert(n) for n in range(count))))
    assert ["n1", "n1-2", "n1-3"] == [message.message_id for message in parts]
    devices = [told["device"] for message in parts for told in json.loads(message.body)["data"]["alerts"]]
    assert [f"bus-{n}" for n in range(count)] == devices
    assert {"g1"} == {message.order_key for message in parts}


# ---- people ----------------------------------------------------------------------------------------------------------
def test_slack_escapes_what_begins_links_and_mentions():
    """Nobody's channel is called by a device."""
    told = body("slack", hostile_notice())
    texts = [told["text"], *(block["text"]["text"] for block in told["blocks"][1:])]
    assert all("<" not in text and ">" not in text for text in texts)
    assert "&lt;!channel&gt;" in texts[0]
    assert all(block["text"]["verbatim"] for block in told["blocks"][1:])
    assert "plain_text" == told["blocks"][0]["text"]["type"]


def test_slack_keeps_to_its_bounds():
    """50 blocks, 3000 characters a section, 150 a header, however much there is to tell."""
    long = "&" * 5000
    alerts = [alert(n, device_id=long, title=long, check=long, source=long) for n in range(100)]
    told = body("slack", notice(*alerts))
    assert len(told["blocks"]) == 1 + NOTICE_ALERTS_SHOWN_MAX + 1
    assert len(told["blocks"][0]["text"]["text"]) <= 150
    assert all(len(block["text"]["text"]) <= 3000 for block in told["blocks"][1:])
    assert "90 more alerts" in told["blocks"][-1]["text"]["text"]


def test_teams_knows_no_markdown_of_a_device():
    """Only text runs, which are shown as they are."""
    card = body("teams", hostile_notice())["attachments"][0]["content"]
    assert ("AdaptiveCard", "1.4") == (card["type"], card["version"])
    assert {"RichTextBlock"} == {block["type"] for block in card["body"]}
    assert {"TextRun"} == {run["type"] for block in card["body"] for run in block["inlines"]}


def test_teams_message_fits_however_much_there_is():
    """Fewer alerts in full rather than a message that is refused."""
    long = "\u4e2d" * 5000
    alerts = [alert(n, device_id=long, title=long, check=long, source=long) for n in range(100)]
    [message] = rendered("teams", notice(*alerts))
    assert len(message.body) <= TEAMS_BYTES_MAX + 500
    assert b"more alerts" in message.body


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        assert all(name in {"align", "valign"} for name, _ in attrs)


def test_mail_has_only_our_own_markup():
    """A script in a device's text is text."""
    told = body("email", hostile_notice())
    parser = _Tags()
    parser.feed(told["html"])
    assert {"html", "body", "h3", "table", "tr", "th", "td", "hr"} == parser.seen
    assert "\x1b" not in told["text"]
    assert "Bcc: a@evil.example" not in told["text"].splitlines()
    assert 1 == len(told["subject"].splitlines())


def test_each_recipient_has_a_delivery_of_its_own():
    """One that is refused neither hides nor repeats the others."""
    sent = rendered("email", notice(alert()), to=("a@example.org", "b@example.org"))
    assert [("n1", "a@example.org"), ("n1-2", "b@example.org")] == [(m.message_id, m.headers[RECIPIENT]) for m in sent]
    assert 2 == len({message.order_key for message in sent})
    assert 1 == len({message.body for message in sent})


@pytest.mark.parametrize("kind", ["slack", "teams", "email"])
def test_no_control_character_reaches_people(kind):
    """Neither a terminal nor a reader's eye is controlled."""
    [message] = rendered(kind, hostile_notice(), to=("a@example.org",))
    text = message.body.decode()
    assert "\\u001b" not in text
    assert "\x1b" not in text
    assert len(message.title) <= HEADLINE_CHARS_MAX


# ---- PagerDuty -------------------------------------------------------------------------------------------------------
REQUIRED = {"event_action", "dedup_key", "payload"}
"""And `routing_key`, which is added when it is sent. Events API v2, "Send an event"."""


@pytest.mark.parametrize(
    ("state", "action"), [("firing", "trigger"), ("acknowledged", "acknowledge"), ("resolved", "resolve")]
)
def test_pagerduty_follows_the_alert(state, action):
    """One incident for one alert through all its states, in order."""
    [message] = rendered("pagerduty", notice(alert(state=state)))
    told = json.loads(message.body)
    assert REQUIRED <= told.keys()
    assert (action, alert().alert_id, alert().alert_id) == (told["event_action"], told["dedup_key"], message.order_key)
    payload = told["payload"]
    assert {"summary", "source", "severity"} <= payload.keys()
    assert payload["severity"] in {"critical", "error", "warning", "info"}
    assert 1 <= len(payload["summary"]) <= 1024
    assert len(told["dedup_key"]) <= 255
    assert b"routing_key" not in message.body


def test_pagerduty_gets_an_event_for_each_alert():
    """Ids are derived from notice and alert, so that a second notice of the same alert is another message."""
    sent = rendered("pagerduty", notice(alert(1), alert(2)))
    assert [f"n1-{alert(n).alert_id}" for n in (1, 2)] == [message.message_id for message in sent]


# ---- tests of receivers ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["webhook", "slack", "teams", "email"])
def test_test_notice_says_that_it_is_one(kind):
    """Nobody gets up for a test."""
    [message] = rendered(kind, notice(reason="test", group={}, by="anna"), to=("a@example.org",))
    assert message.title.startswith("TEST")
    assert b"anna" in message.body


def test_pagerduty_test_closes_what_it_opens():
    """Trigger and resolve of one incident, in order."""
    sent = rendered("pagerduty", notice(reason="test", group={}))
    assert ["trigger", "resolve"] == [json.loads(message.body)["event_action"] for message in sent]
    assert 1 == len({message.order_key for message in sent})
    assert 2 == len({message.message_id for message in sent})

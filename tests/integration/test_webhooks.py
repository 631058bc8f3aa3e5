"""Webhooks against real receivers: signature, body, what answers mean, and addresses that must not be reached."""

import asyncio
import gc
import json
import re
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured
from cloudevents.core.formats.json import JSONFormat
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.core.limits import NOTICE_RETRY_AFTER_S_MAX
from processors.notices.bodies import messages
from processors.notices.config import Receiver
from processors.notices.wording import explained
from processors.sinks.outbox_schema import Delivery
from processors.sinks.outcome import Outcome
from processors.sinks.webhook_guard import Lookups
from processors.sinks.webhooks import WebhookSender
from tests.integration.certificates import Authority
from tests.integration.receivers import OTHER_SECRET, SECRET, HttpReceiver, Trouble, answer, delivery, webhook
from tests.unit.processors.sinks.made_notices import alert, notice

pytestmark = pytest.mark.integration
METADATA = "169.254.169.254"


class Names:
    """A name server that answers as told, once for each question, the last answer again and again."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if not found:
            raise OSError(-2, "Name or service not known")
        return found


def send(
    receiver: Receiver, sent: Delivery | None = None, *, names: Names | None = None, tls: ssl.SSLContext | None = None
) -> Outcome:
    """Try once."""

    async def attempt() -> Outcome:
        sender = WebhookSender(lookups=Lookups(names), now_s=time.time, tls=tls)
        return await sender.send(sent or delivery(), receiver)

    return asyncio.run(attempt())


# ---- signature and body ----------------------------------------------------------------------------------------------
def test_public_package_verifies_the_signature():
    """Whoever follows Standard Webhooks needs nothing of ours."""
    with HttpReceiver() as http:
        assert Outcome(verdict="done", status=200) == send(webhook(http.url()))
        request = http.next()
    assert {"specversion": "1.0"} == Webhook(SECRET).verify(request.body, request.headers)
    assert "n1" == request.headers["webhook-id"]
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER_SECRET).verify(request.body, request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(request.body + b" ", request.headers)


@pytest.mark.parametrize("verifier", [SECRET, OTHER_SECRET], ids=["old", "new"])
def test_both_secrets_verify_while_they_change(verifier):
    """A receiver switches whenever it likes between the two reloads of the operator."""
    secrets = (SecretStr(OTHER_SECRET), SecretStr(SECRET))
    with HttpReceiver() as http:
        send(webhook(http.url(), secrets=secrets))
        request = http.next()
    assert 2 == len(request.headers["webhook-signature"].split(" "))
    Webhook(verifier).verify(request.body, request.headers)


def test_secret_without_prefix_is_the_same_secret():
    """`whsec_` is a mark for people and secret scanners."""
    with HttpReceiver() as http:
        send(webhook(http.url(), secrets=(SecretStr(SECRET.removeprefix("whsec_")),)))
        request = http.next()
    Webhook(SECRET).verify(request.body, request.headers)


def test_public_package_reads_the_body():
    """Structured CloudEvents 1.0, with everything that explains the alert."""
    with HttpReceiver() as http:
        receiver = webhook(http.url(), headers={"Authorization": SecretStr("Bearer abc")})
        [message] = messages(notice(alert()), receiver)
        send(receiver, delivery(body=message.body, headers=message.headers))
        request = http.next()
    event = from_structured(HTTPMessage(headers=request.headers, body=request.body), JSONFormat())
    assert ("n1", "/voltgate", "voltgate.alert.firing.v1") == (event.get_id(), event.get_source(), event.get_type())
    [told] = event.get_data()["alerts"]
    assert ("bus-1", 41.5, 30.0, "OVMS BMS defaults") == (
        told["device"],
        told["value"],
        told["limit"],
        told["source"],
    )
    assert "Bearer abc" == request.headers["authorization"]


def test_routing_key_is_added_when_it_is_sent():
    """PagerDuty's body has all required fields, and the outbox none of its secret."""
    with HttpReceiver(then=answer(202, b'{"status":"success"}')) as http:
        receiver = Receiver(
            name="duty", kind="pagerduty", url=SecretStr(http.url()), routing_key=SecretStr("R" * 32),
            allow_private=webhook("").allow_private,
        )  # fmt: skip
        [message] = messages(notice(alert()), receiver)
        assert b"R" * 32 not in message.body
        assert "done" == send(receiver, delivery(body=message.body, headers=message.headers)).verdict
        request = http.next()
    told = json.loads(request.body)
    assert "R" * 32 == told["routing_key"]
    assert "trigger" == told["event_action"]
    assert {"summary", "source", "severity"} <= told["payload"].keys()
    assert "webhook-signature" not in request.headers


# ---- answers ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        *((200, "done"), (201, "done"), (202, "done"), (204, "done")),
        *((301, "refused"), (302, "refused"), (307, "refused"), (308, "refused")),
        *((400, "doubt"), (401, "doubt"), (403, "doubt"), (404, "doubt"), (413, "doubt")),
        *((408, "retry"), (425, "retry"), (429, "retry"), (500, "retry"), (502, "retry"), (503, "retry")),
        (410, "gone"),
    ],
)
def test_status_means_what_is_documented(status, verdict):
    """See docs/reference/webhooks.md."""
    with HttpReceiver(then=answer(status)) as http:
        outcome = send(webhook(http.url()))
    assert (verdict, status) == (outcome.verdict, outcome.status)


def test_reason_of_a_refusal_is_kept_and_harmless():
    """The beginning of the body, without control characters."""
    with HttpReceiver(then=answer(400, b"invalid_payload \x1b[31m" + b"x" * 9000)) as http:
        outcome = send(webhook(http.url()))
    assert outcome.why is not None
    assert outcome.why.startswith("answered 400: invalid_payload \\x1b[31mxxx")
    assert len(outcome.why) < 300


@pytest.mark.parametrize(
    ("text", "expected"),
    [("7", 7.0), ("999999999", NOTICE_RETRY_AFTER_S_MAX), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("soon", None)],
)
def test_retry_after_is_read_and_bounded(text, expected):
    """Seconds or a date; what says nothing is ignored."""
    with HttpReceiver(then=answer(429, Retry_After=text)) as http:
        assert expected == send(webhook(http.url())).after_s


def test_redirect_is_not_followed():
    """Least of all to the metadata service of a cloud."""
    with HttpReceiver() as target, HttpReceiver(then=answer(302, Location=target.url())) as http:
        outcome = send(webhook(http.url()))
        assert "refused" == outcome.verdict
        assert target.url() in (outcome.why or "")
        assert [] == target.seen
    with HttpReceiver(then=answer(307, Location=f"http://{METADATA}/latest/")) as http:
        assert METADATA in (send(webhook(http.url())).why or "")


@pytest.mark.parametrize("trouble", [Trouble.HANG, Trouble.SLOW_HEADERS], ids=lambda trouble: trouble.name)
def test_receiver_that_does_not_answer_in_time_is_tried_again(trouble):
    """The time is for all of it, so that a byte now and then does not stretch it."""
    with HttpReceiver(trouble) as http:
        begun_s = time.monotonic()
        outcome = send(webhook(http.url(), timeout_s=0.4))
        assert time.monotonic() - begun_s < 2.0
    assert Outcome(verdict="retry", why="no answer within 0.4 s") == outcome


def test_huge_answer_is_not_read():
    """Some KiB for the reason, and the connection is closed."""
    with HttpReceiver(Trouble.HUGE) as http:
        outcome = send(webhook(http.url()))
    assert ("retry", 500) == (outcome.verdict, outcome.status)
    assert "\x1b" not in (outcome.why or "")
    assert http.sent_bytes < 64 * 1024 * 1024


@pytest.mark.parametrize("trouble", [Trouble.RESET, Trouble.GARBAGE], ids=lambda trouble: trouble.name)
def test_broken_connection_is_tried_again(trouble):
    """And told in words of ours."""
    with HttpReceiver(trouble) as http:
        outcome = send(webhook(http.url()))
    assert ("retry", None) == (outcome.verdict, outcome.status)
    assert "/hook" not in (outcome.why or "")


def test_refused_connection_is_tried_again():
    """Nobody listens: down for now."""
    with HttpReceiver() as http:
        url = http.url()
    outcome = send(webhook(url))
    assert "retry" == outcome.verdict
    assert "cannot connect" in (outcome.why or "")


def test_huge_header_is_not_kept():
    """A header line of a megabyte is an answer that is not HTTP."""
    with HttpReceiver(then=answer(200, X_Long="y" * 1_000_000)) as http:
        assert "retry" == send(webhook(http.url())).verdict


def test_proxy_of_the_environment_is_not_used(monkeypatch):
    """It would reach what the guard refuses."""
    with HttpReceiver() as proxy, HttpReceiver() as http:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url())
        assert "done" == send(webhook(http.url())).verdict
        assert [] == proxy.seen


# ---- addresses -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"),
        *("0.0.0.0", "[::]", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", METADATA),
    ],
)
def test_address_of_this_network_is_refused_for_ever(host):
    """In every spelling, and nothing arrives."""
    with HttpReceiver(host="127.0.0.1") as http:
        outcome = send(webhook(http.url(host), allow_private=(), insecure=True))
        assert ("refused", []) == (outcome.verdict, http.seen)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1"])
def test_unusual_spelling_is_refused_even_where_the_address_is_allowed(host):
    """Programs disagree about what it means."""
    with HttpReceiver() as http:
        assert ("refused", []) == (send(webhook(http.url(host))).verdict, http.seen)


@pytest.mark.parametrize(
    "found",
    [
        *(["127.0.0.1"], ["10.0.0.7"], [METADATA], ["::1"], ["fe80::1"], ["fd00::1"], ["::ffff:127.0.0.1"]),
        *(["64:ff9b::7f00:1"], ["2002:7f00:1::"], ["0.0.0.0"], ["224.0.0.1"], ["100.64.0.1"], ["1.1.1.1", "127.0.0.1"]),
    ],
    ids=" ".join,
)
def test_name_of_a_private_address_is_refused(found):
    """For now: the name may point elsewhere tomorrow, so the notice has a few more tries."""
    with HttpReceiver() as http:
        outcome = send(webhook(http.url("hook.example.org"), allow_private=(), insecure=True), names=Names(found))
        assert ("doubt", []) == (outcome.verdict, http.seen)
    assert "hook.example.org" in (outcome.why or "")


def test_name_is_looked_up_once_and_the_answer_pinned():
    """A name server that changes its mind between check and connection reaches nothing."""
    names = Names(["127.0.0.1"], [METADATA])
    with HttpReceiver() as http:
        receiver = webhook(http.url("hook.example.org"))
        assert "done" == send(receiver, names=names).verdict
        assert ["hook.example.org"] == names.asked
        assert http.next().headers["host"].startswith("hook.example.org:")
        outcome = send(receiver, names=names)
        assert "doubt" == outcome.verdict
        assert METADATA in (outcome.why or "")
        assert 1 == len(http.seen)


def test_own_network_is_reached_where_it_is_named():
    """And no other."""
    with HttpReceiver() as http:
        allowed = webhook(http.url("hook.local"), allow_private=(ip_network("127.0.0.0/16"),))
        assert "done" == send(allowed, names=Names(["127.0.0.1"])).verdict
        assert "doubt" == send(allowed, names=Names(["127.1.0.1"])).verdict


def test_unknown_name_is_tried_again():
    """A name server has bad days."""
    outcome = send(webhook("https://hook.example.org/"), names=Names([]))
    assert "retry" == outcome.verdict
    assert "Name or service not known" in (outcome.why or "")


# ---- TLS -------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Return an authority that signs for localhost."""
    return Authority(tmp_path_factory.mktemp("authority"))


def server_tls(authority: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.server())
    return context


def test_certificate_is_checked_against_the_name_not_the_address(authority):
    """The pinned address is where we connect; who answers there must be whom the URL names."""
    trusting = ssl.create_default_context(cafile=authority.file)
    with HttpReceiver(tls=server_tls(authority)) as http:
        assert "done" == send(webhook(http.url("localhost")), names=Names(["127.0.0.1"]), tls=trusting).verdict
        other = send(webhook(http.url("hook.example.org")), names=Names(["127.0.0.1"]), tls=trusting)
    assert "retry" == other.verdict
    assert "certificate" in (other.why or "")


def test_unknown_authority_is_not_trusted(authority):
    """By default the system's authorities decide."""
    with HttpReceiver(tls=server_tls(authority)) as http:
        outcome = send(webhook(http.url("localhost")), names=Names(["127.0.0.1"]))
        assert ("retry", []) == (outcome.verdict, http.seen)


def test_peer_that_never_says_goodbye_costs_no_socket(authority):
    """TLS ends when both sides say so; a receiver that answers and hangs would collect open connections."""
    trusting = ssl.create_default_context(cafile=authority.file)
    with warnings.catch_warnings(record=True) as seen, socket.create_server(("127.0.0.1", 0)) as listener:
        warnings.simplefilter("always")
        held: list[ssl.SSLSocket] = []

        def answer_and_hang() -> None:
            held.append(server_tls(authority).wrap_socket(listener.accept()[0], server_side=True))
            held[0].recv(65_536)
            held[0].sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        server = threading.Thread(target=answer_and_hang)
        server.start()
        url = f"https://localhost:{listener.getsockname()[1]}/"
        assert "done" == send(webhook(url), names=Names(["127.0.0.1"]), tls=trusting).verdict
        gc.collect()
        server.join()
        held[0].close()
    assert [] == [str(warning.message) for warning in seen]


# ---- the page --------------------------------------------------------------------------------------------------------
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "webhooks.md"


def test_example_of_the_page_verifies_what_is_sent():
    """What people copy works: genuine once, known the second time, forged never."""
    [source] = re.findall(r"<!-- example: verify -->\n```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    example: dict[str, Any] = {}
    exec(source, example)
    seen: set[str] = set()
    with HttpReceiver() as http:
        receiver = webhook(http.url())
        [message] = messages(notice(alert()), receiver)
        send(receiver, delivery(body=message.body, headers=message.headers))
        request = http.next()
    [told] = example["take"](SECRET, request.headers, request.body, seen)
    assert "bus-1" == told["device"]
    assert [] == example["take"](SECRET, request.headers, request.body, seen)
    with pytest.raises(WebhookVerificationError):
        example["take"](SECRET, request.headers, request.body + b"\n", seen)


def test_page_tells_every_field_of_an_alert():
    """A field that nobody documents is one that nobody may rely on."""
    table = PAGE.read_text("utf-8").partition("Of each alert;")[2].partition("## What an answer means")[0]
    told = set(re.findall(r"`([a-z_]+)`", "\n".join(line.split("|")[1] for line in table.splitlines() if "|" in line)))
    assert set(explained(alert())) == told

"""Mail through a real SMTP server: content, encryption, log-in, and what replies mean."""

import asyncio
import email
import socket
import ssl
import threading
import time
from email.message import EmailMessage
from email.policy import default as email_policy
from typing import Any

import msgspec
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from pydantic import SecretStr

from processors.notices.bodies import messages
from processors.notices.config import Receiver, Smtp
from processors.sinks.mail import MailSender
from processors.sinks.outbox_schema import Delivery
from processors.sinks.outcome import Outcome
from processors.sinks.webhook_guard import Lookups
from tests.integration.certificates import Authority
from tests.integration.receivers import LOOPBACK, HttpReceiver, Trouble, delivery
from tests.unit.processors.sinks.made_notices import HOSTILE, alert, notice

pytestmark = pytest.mark.integration


class Mailbox:
    """Keeps what comes, and answers as told."""

    def __init__(self, *, on_recipient: str = "250 OK", on_data: str = "250 kept as 7") -> None:
        self.mails: list[tuple[Envelope, EmailMessage]] = []
        self._on_recipient, self._on_data = on_recipient, on_data

    async def handle_RCPT(  # noqa: N802 - aiosmtpd calls it so
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if self._on_recipient.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self._on_recipient

    async def handle_DATA(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        mail = email.message_from_bytes(content, policy=email_policy)
        assert isinstance(mail, EmailMessage)
        self.mails.append((envelope, mail))
        return self._on_data


class Server:
    """An SMTP server on the loopback while inside."""

    def __init__(self, mailbox: Mailbox, **options: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._controller = Controller(mailbox, hostname="127.0.0.1", port=self.port, **options)

    def __enter__(self) -> "Server":
        self._controller.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._controller.stop()


def receiver(port: int, *, tls: str = "none", host: str = "localhost", **changes: Any) -> Receiver:
    smtp = Smtp(host=host, port=port, tls=tls, sender="voltgate@example.org", **changes)
    return Receiver(
        name="mail", kind="email", to=("anna@example.org", "ben@example.org"), smtp=smtp, allow_private=LOOPBACK,
        timeout_s=3.0,
    )  # fmt: skip


def rendered(to: Receiver, *, part: int = 0, **changes: Any) -> Delivery:
    message = messages(notice(alert(**changes)), to)[part]
    return delivery(delivery_id=message.message_id, kind="email", body=message.body, headers=message.headers)


def send(
    to: Receiver,
    sent: Delivery | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    found: tuple[str, ...] = ("127.0.0.1",),
) -> Outcome:
    async def attempt() -> Outcome:
        sender = MailSender(lookups=Lookups(lambda _host, _port: found), host_name="voltgate.example.org", tls=tls)
        return await sender.send(sent or rendered(to), to)

    return asyncio.run(attempt())


def test_mail_arrives_whole():
    """Plain text and HTML, stable id and date, to one recipient, naming all."""
    mailbox = Mailbox()
    with Server(mailbox) as server:
        outcome = send(receiver(server.port))
    assert ("done", 250, "accepted: kept as 7") == (outcome.verdict, outcome.status, outcome.why)
    [(envelope, mail)] = mailbox.mails
    assert ("voltgate@example.org", ["anna@example.org"]) == (envelope.mail_from, envelope.rcpt_tos)
    assert "FIRING (critical): Cell voltage deviates, bus-1 at depot-north" == mail["Subject"]
    assert "Voltgate <voltgate@example.org>" == mail["From"]
    assert "anna@example.org, ben@example.org" == mail["To"]
    assert "<n1@example.org>" == mail["Message-ID"]
    assert "Wed, 18 Nov 2026 11:06:40 +0000" == mail["Date"]
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert html is not None
    assert "Check first: Look at the cell's connector first" in text.get_content()
    assert "<th align=left valign=top>Check first</th>" in html.get_content()


def test_every_try_is_the_same_mail():
    """A mail program that gets it twice shows it once."""
    mailbox = Mailbox()
    with Server(mailbox) as server:
        to = receiver(server.port)
        for part in (0, 0, 1):
            send(to, rendered(to, part=part))
    first, second, other = [envelope.content for envelope, _ in mailbox.mails]
    assert first == second == other
    assert ["anna@example.org", "ben@example.org"] == [e.rcpt_tos[0] for e, _ in mailbox.mails[1:]]


def test_text_of_a_device_makes_no_header():
    """A line break in a name neither adds a recipient nor ends the headers."""
    mailbox = Mailbox()
    with Server(mailbox) as server:
        to = receiver(server.port)
        assert "done" == send(to, rendered(to, device_id=HOSTILE, title=HOSTILE)).verdict
    [(envelope, mail)] = mailbox.mails
    assert ["anna@example.org"] == envelope.rcpt_tos
    assert mail["Bcc"] is None
    assert "\\r\\nBcc" in mail["Subject"]


@pytest.mark.parametrize("address", ["a..b@example.org", "\u00fc@example.org", "a:b@example.org"])
def test_address_that_no_mail_can_carry_is_refused(address):
    """A typing error of an operator is a dead letter that says so."""
    mailbox = Mailbox()
    with Server(mailbox) as server:
        outcome = send(msgspec.structs.replace(receiver(server.port), to=(address,)))
    assert ("refused", []) == (outcome.verdict, mailbox.mails)
    assert "an address cannot be used" in (outcome.why or "")


@pytest.mark.parametrize(
    ("answers", "verdict", "status"),
    [
        ({"on_recipient": "550 no such user"}, "doubt", 550),
        ({"on_recipient": "451 try later"}, "retry", 451),
        ({"on_data": "552 too large"}, "doubt", 552),
        ({"on_data": "421 busy"}, "retry", 421),
    ],
)
def test_reply_code_says_whether_to_try_again(answers, verdict, status):
    """4xx passes, 5xx does not (RFC 5321)."""
    with Server(Mailbox(**answers)) as server:
        outcome = send(receiver(server.port))
    assert (verdict, status) == (outcome.verdict, outcome.status)


# ---- encryption ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Return an authority that signs for localhost."""
    return Authority(tmp_path_factory.mktemp("authority"))


def server_tls(authority: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.server())
    return context


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.file)


def test_starttls_encrypts_and_logs_in(authority):
    """User and password go over the encrypted connection alone."""
    mailbox = Mailbox()
    logins: list[tuple[bytes, bytes]] = []

    def check(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
        logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"right", handled=False)

    options = {"tls_context": server_tls(authority), "require_starttls": True, "authenticator": check}
    with Server(mailbox, auth_required=True, **options) as server:
        to = receiver(server.port, tls="starttls", username="bot", password=SecretStr("right"))
        assert "done" == send(to, tls=trusting(authority)).verdict
        wrong = receiver(server.port, tls="starttls", username="bot", password=SecretStr("hunter2"))
        outcome = send(wrong, tls=trusting(authority))
    assert ("doubt", 535) == (outcome.verdict, outcome.status)
    assert "hunter2" not in (outcome.why or "")
    assert {(b"bot", b"right"), (b"bot", b"hunter2")} == set(logins)
    assert 1 == len(mailbox.mails)


def test_server_without_starttls_gets_nothing():
    """Who takes the offer away reads no mail."""
    mailbox = Mailbox()
    with Server(mailbox) as server:
        outcome = send(receiver(server.port, tls="starttls"))
    assert ("retry", []) == (outcome.verdict, mailbox.mails)


def test_certificate_must_be_for_the_servers_name(authority):
    """The name of the configuration, not the address that was connected to."""
    mailbox = Mailbox()
    with Server(mailbox, tls_context=server_tls(authority)) as server:
        other = receiver(server.port, tls="starttls", host="mail.example.org")
        assert ("retry", []) == (send(other, tls=trusting(authority)).verdict, mailbox.mails)
        untrusted = receiver(server.port, tls="starttls")
        assert ("retry", []) == (send(untrusted).verdict, mailbox.mails)


def test_tls_from_the_first_byte(authority):
    """Port 465."""
    mailbox = Mailbox()
    with Server(mailbox, ssl_context=server_tls(authority)) as server:
        # The controller's own probe of the port speaks TLS, too.
        assert "done" == send(receiver(server.port, tls="tls"), tls=trusting(authority)).verdict
    assert 1 == len(mailbox.mails)


def test_clear_text_stays_on_this_machine():
    """`none` to any other machine is refused before anything is said."""
    to = receiver(25, host="mail.example.org")
    elsewhere = send(to, found=("1.1.1.1",))
    assert "refused" == elsewhere.verdict
    assert "encrypted" in (elsewhere.why or "")


def test_private_server_must_be_named():
    """The guard of webhooks counts for mail as well."""
    to = Receiver(name="mail", kind="email", to=("a@example.org",), smtp=receiver(25, tls="tls").smtp)
    assert "doubt" == send(to).verdict


# ---- trouble ---------------------------------------------------------------------------------------------------------
def test_server_that_does_not_talk_is_tried_again():
    """Within the time that a try has, altogether."""
    with HttpReceiver(Trouble.HANG) as silent:
        quick = msgspec.structs.replace(receiver(silent.port), timeout_s=0.4)
        begun_s = time.monotonic()
        assert "retry" == send(quick).verdict
        assert time.monotonic() - begun_s < 2.0


def _accept_and_close(server: socket.socket) -> None:
    server.accept()[0].close()


def test_connection_that_breaks_is_tried_again():
    """A proxy in front of a dead server takes the connection and ends it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_accept_and_close, args=(server,))
        thread.start()
        assert "retry" == send(receiver(server.getsockname()[1])).verdict
        thread.join()


def test_server_that_is_down_is_tried_again():
    """Nobody listens."""
    with Server(Mailbox()) as server:
        to = receiver(server.port)
    outcome = send(to)
    assert "retry" == outcome.verdict
    assert "cannot reach localhost" in (outcome.why or "")

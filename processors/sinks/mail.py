"""Sends messages as mail: plain text with an HTML twin, through the operator's SMTP server.

One recipient a delivery, all with the same Message-ID, which follows from the notice: a mail program that gets one
twice shows it once. Headers are made by `email`, which refuses line breaks, from text that has none.
"""

import asyncio
import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime
from typing import Final

import aiosmtplib
import msgspec
from yarl import URL

from gateway.core.text import peer_text
from processors.notices.bodies import RECIPIENT
from processors.notices.config import Receiver, Smtp
from processors.sinks.outbox_schema import Delivery
from processors.sinks.outcome import Outcome, doubt, retry
from processors.sinks.webhook_guard import Lookups, Refusal, check_addresses, is_loopback

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PERMANENT: Final = 500
"""Reply codes from here on will not go better by themselves (RFC 5321 section 4.2.1)."""
_IMPLICIT_TLS_SCHEME: Final = "https"


class MailText(msgspec.Struct, frozen=True, kw_only=True):
    """Stored body of a mail."""

    subject: str
    text: str
    html: str


class MailSender:
    """Sends one mail at a time over a connection of its own. All calls on one event loop.

    Args:
        lookups: Resolves names.
        host_name: What we call ourselves in EHLO.
        tls: How servers are verified; by default against the system's authorities, by the server's name.
    """

    def __init__(self, *, lookups: Lookups, host_name: str = "localhost", tls: ssl.SSLContext | None = None) -> None:
        self._lookups, self._host_name = lookups, host_name
        self._tls = tls or ssl.create_default_context()

    async def send(self, delivery: Delivery, receiver: Receiver) -> Outcome:
        """Try once, within the receiver's `timeout_s` altogether. Never raises for anything that a server does."""
        smtp = receiver.smtp
        assert smtp is not None, f"receiver {receiver.name} of kind {receiver.kind} has no mail server"
        try:
            async with asyncio.timeout(receiver.timeout_s):
                connected = await self._connect(receiver, smtp)
                if isinstance(connected, Outcome):
                    return connected
                return await self._deliver(connected, delivery, receiver, smtp)
        except TimeoutError:
            return retry(f"{smtp.host} did not take it within {receiver.timeout_s:g} s")
        except aiosmtplib.SMTPRecipientsRefused as exc:
            return _refused(smtp, exc.recipients[0])  # there was one
        except aiosmtplib.SMTPResponseException as exc:
            return _refused(smtp, exc)
        except aiosmtplib.SMTPException as exc:
            return retry(f"{smtp.host}: {peer_text(exc.message)}")
        except OSError as exc:  # before ValueError: a certificate that is not good is both
            return retry(f"cannot reach {smtp.host}: {peer_text(exc.strerror or str(exc))}")
        except ValueError as exc:
            # `email` and `aiosmtplib` refuse addresses that a header or a command cannot carry.
            return Outcome(verdict="refused", why=f"an address cannot be used: {peer_text(str(exc))}")

    async def _connect(self, receiver: Receiver, smtp: Smtp) -> socket.socket | Outcome:
        """Return a connection to a checked address of the server, or why there is none."""
        url = URL.build(scheme=_IMPLICIT_TLS_SCHEME, host=smtp.host.strip("[]"), port=smtp.port)
        found = await self._lookups.find(receiver.name, url)
        checked = check_addresses(url, found, receiver.allow_private)
        if isinstance(checked, Refusal):
            return Outcome(verdict="refused", why=checked.why) if checked.is_final else doubt(checked.why)
        if smtp.tls == "none" and not all(map(is_loopback, checked.addresses)):
            what = f"{smtp.host} is not this machine, and mail to it would not be encrypted"
            return Outcome(verdict="refused", why=f"{what}; write tls: starttls or tls")
        loop = asyncio.get_running_loop()
        failure: OSError | None = None
        for address in checked.addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            connection = socket.socket(family, socket.SOCK_STREAM)
            connection.setblocking(False)  # noqa: FBT003 - the standard library takes it by position
            try:
                await loop.sock_connect(connection, (address, smtp.port))
            except OSError as exc:
                connection.close()
                failure = exc
            except BaseException:
                connection.close()
                raise
            else:
                return connection
        assert failure is not None, "no addresses"
        raise failure

    async def _deliver(self, connection: socket.socket, delivery: Delivery, receiver: Receiver, smtp: Smtp) -> Outcome:
        recipient = delivery.headers[RECIPIENT]
        client = aiosmtplib.SMTP(
            hostname=smtp.host,
            sock=connection,
            local_hostname=self._host_name,
            timeout=receiver.timeout_s,
            use_tls=smtp.tls == "tls",
            start_tls=False,  # in its time, below
            tls_context=self._tls,
        )
        transport: asyncio.BaseTransport | None = None
        try:
            async with client:
                transport = client.transport
                if smtp.tls == "starttls":
                    await client.starttls()
                    transport = client.transport
                if smtp.username is not None:
                    await client.login(smtp.username, smtp.password.get_secret_value() if smtp.password else "")
                message = to_mail(delivery, receiver, smtp)
                _, answer = await client.sendmail(smtp.sender, [recipient], message.as_bytes())
        finally:
            if isinstance(transport, asyncio.Transport):
                transport.abort()  # after QUIT there is nothing that a server's slow end of TLS could still tell us
        return Outcome(verdict="done", why=f"accepted: {peer_text(answer)}", status=250)


def _refused(smtp: Smtp, error: aiosmtplib.SMTPResponseException) -> Outcome:
    why = f"{smtp.host} answered {error.code}: {peer_text(error.message)}"
    return doubt(why, status=error.code) if error.code >= _PERMANENT else retry(why, status=error.code)


def to_mail(delivery: Delivery, receiver: Receiver, smtp: Smtp) -> EmailMessage:
    """Return the mail of a delivery, equal on every try."""
    told = msgspec.json.decode(delivery.body, type=MailText)
    domain = smtp.sender.rpartition("@")[2]
    mail = EmailMessage(policy=SMTP_POLICY)
    mail["From"] = Address(display_name="Voltgate", addr_spec=smtp.sender)
    mail["To"] = tuple(Address(addr_spec=address) for address in receiver.to or (delivery.headers[RECIPIENT],))
    mail["Subject"] = peer_text(told.subject)
    mail["Date"] = format_datetime(_EPOCH + timedelta(microseconds=delivery.created_at_us))
    mail["Message-ID"] = f"<{delivery.notice_id}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no automatic answers, please
    mail.set_content(told.text)
    mail.add_alternative(told.html, subtype="html")
    mail.set_boundary(f"={delivery.notice_id}")
    return mail

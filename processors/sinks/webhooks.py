"""Sends messages over HTTP: Standard Webhooks 1.0.0 for receivers that verify, plain posts for chats and PagerDuty.

Owns the request, its signature, and what an answer means; refuses to know when to try again. Nothing of an answer is
trusted: redirects are not followed, little of the body is read and made inert, and the addresses are checked before
(`webhook_guard`). Proxies of the environment are not used: they would reach what the guard refuses.
"""

import asyncio
import base64
import hashlib
import hmac
import socket
import ssl
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from pydantic import SecretStr
from yarl import URL

from gateway.core.limits import NOTICE_RETRY_AFTER_S_MAX, WEBHOOK_ANSWER_BYTES_MAX
from gateway.core.text import peer_text
from processors.notices.config import Receiver
from processors.sinks.outbox_schema import Delivery
from processors.sinks.outcome import Outcome, doubt, retry
from processors.sinks.webhook_guard import Checked, Lookups, Refusal, check_addresses, check_url

USER_AGENT: Final = "Voltgate"
_PREFIX: Final = "whsec_"
_PASSING: Final = frozenset({408, 425, 429})
"""Refusals that say themselves that a later try may be taken: time-out, too early, too many."""
_GONE: Final = 410


class WebhookSender:
    """Posts one message at a time to one receiver each; any number may be under way. All calls on one event loop.

    Args:
        lookups: Resolves names.
        now_s: UTC seconds, for the signature.
        tls: How servers are verified; by default against the system's authorities, by the URL's host.
        user_agent: What we call ourselves.
    """

    def __init__(
        self,
        *,
        lookups: Lookups,
        now_s: Callable[[], float],
        tls: ssl.SSLContext | None = None,
        user_agent: str = USER_AGENT,
    ) -> None:
        self._lookups, self._now_s, self._user_agent = lookups, now_s, user_agent
        self._tls = tls or ssl.create_default_context()

    async def send(self, delivery: Delivery, receiver: Receiver) -> Outcome:
        """Try once, within the receiver's `timeout_s` altogether. Never raises for anything that a receiver does."""
        assert receiver.url is not None, f"receiver {receiver.name} of kind {receiver.kind} has no URL"
        url = check_url(receiver.url.get_secret_value(), receiver.allow_private, insecure=receiver.insecure)
        if isinstance(url, Refusal):
            return Outcome(verdict="refused", why=url.why)
        try:
            async with asyncio.timeout(receiver.timeout_s):
                checked = await self._check(url, receiver)
                if isinstance(checked, Outcome):
                    return checked
                return await self._post(url, checked, delivery, receiver)
        except TimeoutError:
            return retry(f"no answer within {receiver.timeout_s:g} s")
        except (aiohttp.ClientError, OSError) as exc:
            return retry(_why(exc))

    async def _check(self, url: URL, receiver: Receiver) -> Checked | Outcome:
        try:
            found = await self._lookups.find(receiver.name, url)
        except OSError as exc:
            return retry(f"host {peer_text(url.host or '')} cannot be looked up: {peer_text(exc.strerror or str(exc))}")
        checked = check_addresses(url, found, receiver.allow_private, insecure=receiver.insecure)
        if not isinstance(checked, Refusal):
            return checked
        return Outcome(verdict="refused", why=checked.why) if checked.is_final else doubt(checked.why)

    async def _post(self, url: URL, checked: Checked, delivery: Delivery, receiver: Receiver) -> Outcome:
        body = body_with_secrets(delivery, receiver)
        # A connection for each message: notices are few, and each is sent to addresses that were checked for it.
        connector = _Aborting(resolver=_Pinned(checked), use_dns_cache=False, force_close=True, ssl=self._tls, limit=1)
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),  # the one around all of it counts
            ) as session,
            session.post(
                url, data=body, headers=self._headers(delivery, receiver, body), allow_redirects=False
            ) as response,
        ):
            return await _outcome(response, now_s=self._now_s())

    def _headers(self, delivery: Delivery, receiver: Receiver, body: bytes) -> dict[str, str]:
        headers = {"User-Agent": self._user_agent, "Accept-Encoding": "identity", **delivery.headers}
        if receiver.kind == "webhook":
            timestamp = int(self._now_s())
            headers |= {
                "webhook-id": delivery.delivery_id,
                "webhook-timestamp": str(timestamp),
                "webhook-signature": signatures(receiver.secrets, delivery.delivery_id, timestamp, body),
            }
        return headers | {name: value.get_secret_value() for name, value in receiver.headers.items()}


def signatures(secrets: Sequence[SecretStr], message_id: str, timestamp: int, body: bytes) -> str:
    """Return the header `webhook-signature`: one signature for each secret, so that either verifies while they change.

    Standard Webhooks 1.0.0: HMAC-SHA256 of `id.timestamp.body`, with the secret's base64 decoded.
    """
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    keys = (base64.b64decode(secret.get_secret_value().removeprefix(_PREFIX)) for secret in secrets)
    digests = (hmac.new(key, signed, hashlib.sha256).digest() for key in keys)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def body_with_secrets(delivery: Delivery, receiver: Receiver) -> bytes:
    """Return the body as it is sent: PagerDuty's routing key is kept out of the outbox and added here."""
    if receiver.routing_key is None:
        return delivery.body
    event = msgspec.json.decode(delivery.body, type=dict[str, msgspec.Raw])
    key = msgspec.Raw(msgspec.json.encode(receiver.routing_key.get_secret_value()))
    return msgspec.json.encode({"routing_key": key, **event})


def retry_after_s(text: str | None, *, now_s: float) -> float | None:
    """Return what the header Retry-After asks for, bounded; None where it says nothing that can be read."""
    if text is None:
        return None
    try:
        asked_s = float(text) if text.strip().isdigit() else parsedate_to_datetime(text).timestamp() - now_s
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, asked_s), NOTICE_RETRY_AFTER_S_MAX)


async def _outcome(response: aiohttp.ClientResponse, *, now_s: float) -> Outcome:
    """Return what an answer means; see docs/reference/webhooks.md."""
    status = response.status
    if 200 <= status < 300:
        return Outcome(verdict="done", status=status)
    if 300 <= status < 400:
        target = peer_text(response.headers.get("Location", "nowhere"))
        why = f"answered {status} and points to {target}; redirects are not followed, write the final address"
        return Outcome(verdict="refused", why=why, status=status)
    why = f"answered {status}{await _reason(response)}"
    if status == _GONE:
        return Outcome(
            verdict="gone", why=f"{why}; nothing more is sent there until a retry or a reload", status=status
        )
    if status in _PASSING or status >= 500:
        return retry(why, status=status, after_s=retry_after_s(response.headers.get("Retry-After"), now_s=now_s))
    return doubt(why, status=status)


async def _reason(response: aiohttp.ClientResponse) -> str:
    """Return the beginning of a body; what comes after it is not read."""
    text = peer_text(await response.content.read(WEBHOOK_ANSWER_BYTES_MAX))
    return f": {text}" if text else ""


def _why(exc: Exception) -> str:
    """Return what broke in words of ours: texts of the library may hold the URL, which may be a secret."""
    match exc:
        case aiohttp.ClientConnectorCertificateError():
            return f"the certificate is not good for {peer_text(exc.host)}: {peer_text(str(exc.certificate_error))}"
        case aiohttp.ClientConnectorError():
            return f"cannot connect: {peer_text(exc.os_error.strerror or type(exc.os_error).__name__)}"
        case aiohttp.ServerDisconnectedError():
            return "the connection was closed before an answer"
        case OSError():
            return f"the connection broke: {peer_text(exc.strerror or type(exc).__name__)}"
        case aiohttp.ClientResponseError():
            return f"the answer is not HTTP: {peer_text(exc.message)}"
        case _:
            return f"no answer: {type(exc).__name__}"


class _Aborting(aiohttp.TCPConnector):
    """Has nothing open once it is closed.

    Its parent leaves a released TLS connection open until the peer has said goodbye too, which it may never do.
    """

    _transport: asyncio.Transport | None = None

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  # as the parent has it
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        self._transport = connection.transport
        return connection

    async def close(self, *, abort_ssl: bool = False) -> None:
        await super().close(abort_ssl=abort_ssl)
        if self._transport is not None:
            self._transport.abort()


class _Pinned(AbstractResolver):
    """Gives a connection the addresses that were checked and no others."""

    def __init__(self, checked: Checked) -> None:
        self._checked = checked

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        assert host == self._checked.host, f"asked for {host}, checked was {self._checked.host}"
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in self._checked.addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""

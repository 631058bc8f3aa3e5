"""HTTP to a search cluster: one session for all of its hosts, TLS, who we are, and answers of bounded size.

Every status is an answer; only what is none raises. Refuses to know what a request means.
"""

import asyncio
import base64
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from weakref import WeakSet

import aiohttp
import msgspec
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from gateway.core.errors import SinkError
from gateway.core.limits import INDEX_ANSWER_BYTES_MAX, INDEX_CONNECT_TIMEOUT_S, INDEX_RETRY_AFTER_S_MAX
from gateway.core.text import peer_text

Sign = Callable[[str, str, bytes | None, dict[str, str]], dict[str, str]]
"""Returns the headers of a request (method, URL, body, headers) with its signature among them. May block."""
SINK: Final = "opensearch"
_CHUNK_BYTES: Final = 256 * 1024


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a server said.

    Attributes:
        status: HTTP status.
        body: As it came, decompressed.
        after_s: What Retry-After asks for, bounded; None where it says nothing.
    """

    status: int
    body: bytes
    after_s: float | None = None

    @property
    def is_good(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


class Unanswered(Exception):
    """No answer came, or none that can be used: what was asked may have been done all the same.

    Args:
        why: What broke, for people.
        mend: What a person can do, empty where it passes by itself.
    """

    def __init__(self, why: str, mend: str = "") -> None:
        super().__init__(why, mend)
        self.why, self.mend = why, mend

    def __str__(self) -> str:
        return self.why


class Http:
    """Requests to the hosts of one cluster. All calls on one event loop.

    Args:
        tls: How servers are verified, and our certificate.
        headers: Sent with every request.
        sign: Signs every request, None where nobody asks for that.
        timeout_s: How long a request may take altogether.
        connections_max: Connections at once; a request past it waits for one.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext,
        headers: Mapping[str, str],
        sign: Sign | None = None,
        timeout_s: float,
        connections_max: int,
    ) -> None:
        self._tls, self._headers, self._sign = tls, dict(headers), sign
        self._timeout_s, self._connections_max = timeout_s, connections_max
        self._session: aiohttp.ClientSession | None = None
        self._connector: _Aborting | None = None

    async def request(
        self, method: str, url: URL, body: bytes | None, headers: Mapping[str, str], *, within_s: float | None = None
    ) -> Answer:
        """Return the answer.

        Args:
            method: GET, PUT, POST or DELETE.
            url: Path and query encoded.
            body: Sent as it is.
            headers: Of this request.
            within_s: How long it may take, by default as all others.

        Raises: Unanswered: The connection broke or could not be made, time ran out, or what came is too large.
        """
        within_s = self._timeout_s if within_s is None else within_s
        sent = {**self._headers, **headers}
        try:
            async with asyncio.timeout(within_s):
                if self._sign is not None:
                    # Hashing megabytes, and asking a metadata service for a new key, are nothing for the loop.
                    sent = await asyncio.to_thread(self._sign, method, str(url), body, sent)
                async with self._opened().request(
                    method, url, data=body, headers=sent, allow_redirects=False
                ) as response:
                    return Answer(
                        status=response.status,
                        body=await _body(response),
                        after_s=_after_s(response.headers.get("Retry-After")),
                    )
        except TimeoutError as exc:
            raise Unanswered(f"no answer within {within_s:g} s") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise _unanswered(exc) from exc

    async def close(self) -> None:
        """Close every connection. Safe to repeat."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        if self._connector is not None:
            self._connector.abort()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._connector = _Aborting(limit=self._connections_max, ssl=self._tls)
            self._session = aiohttp.ClientSession(
                connector=self._connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=INDEX_CONNECT_TIMEOUT_S),
            )
        return self._session


def basic_auth(user: str, password: str) -> str:
    """Return the header Authorization of RFC 7617."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def tls_context(
    *, ca_file: Path | None, certificate: Path | None, key: Path | None, verify: bool = True
) -> ssl.SSLContext:
    """Return how servers are verified and what we show them.

    Args:
        ca_file: The only authorities that count, PEM; None for those of the system.
        certificate: Our certificate, PEM, or None.
        key: Its key, PEM; None where it is in the certificate's file.
        verify: False takes every server for the right one.

    Raises: SinkError: A file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as exc:  # ssl.SSLError is one
        what = f"ca_file {ca_file} cannot be used: {exc.strerror or exc}"
        raise SinkError(SINK, what, mend="write the path of a PEM file of certificates") from exc
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key)
        except OSError as exc:
            what = f"client certificate {certificate} with key {key} cannot be used: {exc.strerror or exc}"
            raise SinkError(SINK, what, mend="write the paths of a PEM certificate and of its own key") from exc
    return context


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """Return what came. Raises: Unanswered: It is more than an answer may be."""
    chunks: list[bytes] = []
    size_bytes = 0
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        size_bytes += len(chunk)
        if size_bytes > INDEX_ANSWER_BYTES_MAX:
            raise Unanswered(f"the answer is larger than {INDEX_ANSWER_BYTES_MAX} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _after_s(text: str | None) -> float | None:
    """Return what Retry-After asks for in seconds; a date, which no such server sends, is not read."""
    if text is None or not text.isascii() or not text.strip().isdigit():
        return None
    return min(float(text), INDEX_RETRY_AFTER_S_MAX)


def _unanswered(exc: Exception) -> Unanswered:
    match exc:
        case aiohttp.ClientConnectorCertificateError():
            error = peer_text(str(exc.certificate_error))
            return Unanswered(
                f"the certificate is not good for {peer_text(exc.host)}: {error}",
                "write the authority that signed it as opensearch.ca_file, or the name it is for as opensearch.url",
            )
        case aiohttp.ClientConnectorSSLError():
            why = f"no TLS with {peer_text(exc.host)}: {peer_text(exc.os_error.strerror or str(exc.os_error))}"
            return Unanswered(why, "is it a TLS port, and does it ask for a client certificate?")
        case aiohttp.ClientConnectorError():
            said = peer_text(exc.os_error.strerror or type(exc.os_error).__name__)
            return Unanswered(f"cannot connect to {peer_text(exc.host)}:{exc.port}: {said}")
        case aiohttp.ServerDisconnectedError():
            return Unanswered("the connection was closed before an answer")
        case aiohttp.ClientResponseError():
            return Unanswered(f"the answer is not HTTP: {peer_text(exc.message)}", "is there a search cluster?")
        case aiohttp.ClientPayloadError():
            return Unanswered("the connection was closed in the middle of an answer")
        case OSError():
            return Unanswered(f"the connection broke: {peer_text(exc.strerror or type(exc).__name__)}")
        case _:
            return Unanswered(f"no answer: {type(exc).__name__}")


class _Aborting(aiohttp.TCPConnector):
    """Leaves nothing open when told so; its parent waits for a peer's goodbye, which may never come."""

    _known: WeakSet[asyncio.Transport]

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  # as the parent has it
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        if connection.transport is not None:
            self._transports().add(connection.transport)
        return connection

    def abort(self) -> None:
        """End every connection that is still there."""
        for transport in list(self._transports()):
            transport.abort()

    def _transports(self) -> "WeakSet[asyncio.Transport]":
        if not hasattr(self, "_known"):
            self._known = WeakSet()
        return self._known

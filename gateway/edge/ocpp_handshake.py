"""From a charger's HTTP request to who it says it is: path, sub-protocol, credentials, compression.

Owns what a handshake must look like (RFC 6455 section 4.2, OCPP-J 1.6 section 3, OCPP 2.0.1 part 4 section 3). Refuses
to know sockets and whether the credentials are right. The request comes whole, so that a socket that sends half of one
costs its bytes and nothing else.
"""

import binascii
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec
from websockets.exceptions import NegotiationError
from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from gateway.core.credentials import identity_problem
from gateway.core.errors import IdentityRefused, PeerError, ProtocolViolation
from gateway.core.text import peer_text
from gateway.edge.ocpp_frames import SILENT_LOGGER
from gateway.wire.ocpp.versions import Version, choose

HEAD_END: Final = b"\r\n\r\n"
_REALM: Final = "ocpp"
_RETRY_AFTER_S: Final = 10
_DEFLATE: Final = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True,
    client_no_context_takeover=True,
    server_max_window_bits=12,
    client_max_window_bits=12,
    compress_settings={"memLevel": 5},
)
"""OCPP 2.0.1 part 4 section 3.3 asks for compression. Without context takeover an idle connection keeps no window."""


class Upgrade(msgspec.Struct, frozen=True, kw_only=True):
    """A request that may become a connection once its sender has proved who it is.

    Attributes:
        identity: The station's identity, from the path.
        version: The first version of the charger's own order that we speak.
        username: From Basic authorization, None without.
        password: The bytes behind the first colon of Basic authorization; OCPP 1.6 sends binary ones. None without.
        answer: The response that opens the connection.
        extensions: What was negotiated, to decode and encode frames with.
    """

    identity: str
    version: Version
    username: str | None
    password: bytes | None
    answer: bytes
    extensions: list[Extension]


def read_handshake(head: bytes, *, path: str) -> Upgrade:
    """Return what a whole request, up to and with its empty line, asks for.

    Args:
        head: Request line and headers.
        path: What stands before `/{identity}`, such as `/ocpp`.

    Raises:
        PeerError: It must be refused, with the HTTP status as `reason_code`: 400 (no HTTP request, no WebSocket, no
            version we speak), 401 (unreadable authorization), 404, 405, 414, 426, 431, 505.
    """
    versions: list[Version] = []
    offers: list[str] = []

    def select(_protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol:
        offers.extend(offered)
        version = choose(offered)
        if version is None:
            raise NegotiationError("no sub-protocol that we speak")
        versions.append(version)
        return Subprotocol(version.value)

    protocol = ServerProtocol(extensions=[_DEFLATE], select_subprotocol=select, logger=SILENT_LOGGER)
    request = _request(protocol, head)
    identity = _identity(request.path, path)
    response = protocol.accept(request)
    if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
        if isinstance(protocol.handshake_exc, NegotiationError):
            known = ", ".join(Version)
            detail = (
                f"offers {peer_text(', '.join(offers)) or 'no sub-protocol'}, we speak {known}; configure one of them"
            )
            raise ProtocolViolation("subprotocol", detail, response.status_code)
        raise ProtocolViolation("no_websocket", peer_text(str(protocol.handshake_exc)), response.status_code)
    username, password = _credentials(request)
    return Upgrade(
        identity=identity,
        version=versions[0],
        username=username,
        password=password,
        answer=response.serialize(),
        extensions=list(protocol.extensions),
    )


def refusal_response(refusal: PeerError) -> bytes:
    """Return the HTTP response of a refusal. It says no more than the status does: who asks has proved nothing yet."""
    status = HTTPStatus(refusal.reason_code) if refusal.reason_code in _STATUSES else HTTPStatus.FORBIDDEN
    body = f"{status.phrase}\n".encode("ascii")
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Connection: close",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
    ]
    match status:
        case HTTPStatus.UNAUTHORIZED:
            lines.append(f'WWW-Authenticate: Basic realm="{_REALM}", charset="UTF-8"')
        case HTTPStatus.TOO_MANY_REQUESTS | HTTPStatus.SERVICE_UNAVAILABLE:
            lines.append(f"Retry-After: {_RETRY_AFTER_S}")
        case HTTPStatus.METHOD_NOT_ALLOWED:
            lines.append("Allow: GET")
        case HTTPStatus.UPGRADE_REQUIRED:
            lines.append("Upgrade: websocket")
        case _:
            pass
    return "\r\n".join(lines).encode("ascii") + HEAD_END + body


_STATUSES: Final = frozenset(status.value for status in HTTPStatus if status.value >= HTTPStatus.BAD_REQUEST)


def _request(protocol: ServerProtocol, head: bytes) -> Request:
    protocol.receive_data(head)
    for event in protocol.events_received():
        if isinstance(event, Request):
            return event
    problem = protocol.handshake_exc
    written = b"".join(protocol.data_to_send())
    # A response is only there where a line is too long or there are too many.
    status = int(written[9:12]) if written.startswith(b"HTTP/1.1 ") else HTTPStatus.BAD_REQUEST
    cause = problem.__cause__ if problem is not None and problem.__cause__ is not None else problem
    raise ProtocolViolation("bad_request", peer_text(str(cause)), status)


def _identity(target: str, path: str) -> str:
    """Return the identity of a request target. Raises: ProtocolViolation: It has none, or one nobody can have."""
    # Some chargers write a slash behind their identity.
    prefix, _, last = target.partition("?")[0].removesuffix("/").rpartition("/")
    if prefix != path or not last:
        detail = f"path {peer_text(target)!r} is not {path}/ and a station's identity"
        raise ProtocolViolation("path", detail, HTTPStatus.NOT_FOUND)
    try:
        identity = unquote_to_bytes(last).decode()
    except UnicodeDecodeError:
        detail = f"path {peer_text(target)!r} is not UTF-8 behind its percent signs"
        raise ProtocolViolation("path", detail, HTTPStatus.NOT_FOUND) from None
    if problem := identity_problem(identity):
        raise ProtocolViolation("path", f"identity {peer_text(identity)!r} {problem}", HTTPStatus.NOT_FOUND)
    return identity


def _credentials(request: Request) -> tuple[str | None, bytes | None]:
    """Return user name and password of Basic authorization (RFC 7617). Raises: IdentityRefused: It is unreadable."""
    values = request.headers.get_all("Authorization")
    if not values:
        return None, None
    scheme, _, token = values[0].strip().partition(" ")
    if len(values) > 1 or scheme.lower() != "basic":
        detail = f"{len(values)} authorization headers, scheme {peer_text(scheme)!r}; send one, of scheme Basic"
        raise IdentityRefused("authorization", detail, HTTPStatus.UNAUTHORIZED)
    try:
        raw = binascii.a2b_base64(token.strip().encode("iso-8859-1"), strict_mode=True)
        name, colon, password = raw.partition(b":")
        username = name.decode()
    except (binascii.Error, UnicodeDecodeError):
        colon = b""
    if not colon:
        detail = "its Basic authorization is not base64 of user name, colon, password"
        raise IdentityRefused("authorization", detail, HTTPStatus.UNAUTHORIZED)
    return username, password

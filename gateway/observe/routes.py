"""The POST routes of the gateway's local port: bodies in, calls out, errors as problems that say what to do."""

import base64
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, TypeVar

import msgspec

from gateway.core.credentials import identity_problem
from gateway.core.errors import JournalFull, PeerError, StoreError
from gateway.core.limits import (
    COMMAND_BYTES_MAX,
    COMMAND_EXPIRY_S,
    COMMAND_EXPIRY_S_MAX,
    PAYLOAD_BYTES_MAX,
    TOPIC_BYTES_MAX,
)
from gateway.observe.http import Answer, Route


class CommandRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /commands.

    Attributes:
        tenant: Owner of the device.
        device_id: Who gets the command.
        payload: Text, sent as UTF-8; or
        payload_base64: bytes. One of both.
        expiry_s: Seconds after which it is not delivered any more.
    """

    tenant: str = "default"
    device_id: Annotated[str, msgspec.Meta(min_length=1)]
    payload: str | None = None
    payload_base64: str | None = None
    expiry_s: Annotated[float, msgspec.Meta(gt=0, le=COMMAND_EXPIRY_S_MAX)] = COMMAND_EXPIRY_S


class IngestRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /ingest: a message as if its device had sent it now.

    Attributes:
        tenant: Owner of the device.
        device_id: Whom it is from.
        channel: What it is about.
        payload: Text, stored as UTF-8; or
        payload_base64: bytes. One of both.
    """

    tenant: str = "default"
    device_id: Annotated[str, msgspec.Meta(min_length=1)]
    channel: Annotated[str, msgspec.Meta(min_length=1, max_length=TOPIC_BYTES_MAX)]
    payload: str | None = None
    payload_base64: str | None = None


Request = TypeVar("Request", CommandRequest, IngestRequest)


def command_route(submit: Callable[[CommandRequest, bytes], str]) -> Route:
    """Return the route POST /commands, which answers {"request_id": ...} once the command is durable.

    Args:
        submit: Makes the command durable and returns its request id; blocks; raises `PeerError`, `StoreError` or
            `TimeoutError`.
    """
    return _route(CommandRequest, COMMAND_BYTES_MAX, lambda request, payload: {"request_id": submit(request, payload)})


def ingest_route(append: Callable[[IngestRequest, bytes], int]) -> Route:
    """Return the route POST /ingest, which answers {"offset": ...} once the message is in the journal.

    Args:
        append: Makes the message durable and returns its offset; blocks; raises as `submit` of `command_route`.
    """
    return _route(IngestRequest, PAYLOAD_BYTES_MAX, lambda request, payload: {"offset": append(request, payload)})


def _route(kind: type[Request], payload_bytes_max: int, take: Callable[[Request, bytes], dict[str, object]]) -> Route:
    decoder = msgspec.json.Decoder(kind)

    def route(body: bytes) -> Answer:
        try:
            request = decoder.decode(body)
            payload = _payload_bytes(request, payload_bytes_max)
            _check_identity(request)
        except ValueError as exc:  # msgspec's errors are ValueErrors and name the path
            return problem(HTTPStatus.BAD_REQUEST, "bad_request", str(exc))
        return answer_of(lambda: (HTTPStatus.ACCEPTED, take(request, payload)))

    return route


def answer_of(take: Callable[[], Answer]) -> Answer:
    """Return what a call answers, or the problem that its error is for the client."""
    try:
        return take()
    except PeerError as exc:
        return problem(HTTPStatus.CONFLICT, exc.reason, exc.detail)
    except JournalFull as exc:
        return problem(HTTPStatus.INSUFFICIENT_STORAGE, exc.code, str(exc))
    except StoreError as exc:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, exc.code, str(exc))
    except TimeoutError:
        return problem(HTTPStatus.GATEWAY_TIMEOUT, "timeout", "it may or may not have been taken; look for it")


def _payload_bytes(request: CommandRequest | IngestRequest, bytes_max: int) -> bytes:
    """Return the payload. Raises: ValueError: Not exactly one is given, it is no base64, or too long."""
    if (request.payload is None) is (request.payload_base64 is None):
        raise ValueError("send either payload (text) or payload_base64")
    if request.payload_base64 is not None:
        try:
            payload = base64.b64decode(request.payload_base64, validate=True)
        except ValueError as exc:  # also what binascii raises
            raise ValueError(f"payload_base64 is no base64: {exc}") from exc
    else:
        payload = (request.payload or "").encode()
    if len(payload) > bytes_max:
        raise ValueError(f"the payload has {len(payload)} bytes, limit is {bytes_max}")
    return payload


def _check_identity(request: CommandRequest | IngestRequest) -> None:
    for name, text in (("tenant", request.tenant), ("device_id", request.device_id)):
        if why := identity_problem(text):
            raise ValueError(f"{name} {why}")


def problem(status: HTTPStatus, error: str, detail: str) -> Answer:
    """Return the answer to a request that was not done."""
    return status, {"error": error, "detail": detail}

"""The POST routes of the gateway's local port: bodies in, calls out, errors as problems that say what to do."""

import base64
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Final

import msgspec

from gateway.core.errors import JournalFull, PeerError, StoreError
from gateway.core.limits import COMMAND_BYTES_MAX, COMMAND_EXPIRY_S, COMMAND_EXPIRY_S_MAX
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

    def payload_bytes(self) -> bytes:
        """Return the bytes that the device gets.

        Raises:
            ValueError: Not exactly one payload, no base64, or too long.
        """
        if (self.payload is None) is (self.payload_base64 is None):
            raise ValueError("send either payload (text) or payload_base64")
        if self.payload_base64 is not None:
            try:
                payload = base64.b64decode(self.payload_base64, validate=True)
            except ValueError as exc:  # also what binascii raises
                raise ValueError(f"payload_base64 is no base64: {exc}") from exc
        else:
            payload = (self.payload or "").encode()
        if len(payload) > COMMAND_BYTES_MAX:
            raise ValueError(f"the payload has {len(payload)} bytes, limit is {COMMAND_BYTES_MAX}")
        return payload


_DECODER: Final = msgspec.json.Decoder(CommandRequest)


def command_route(submit: Callable[[CommandRequest, bytes], str]) -> Route:
    """Return the route POST /commands, which answers {"request_id": ...} once the command is durable.

    Args:
        submit: Makes the command durable and returns its request id; blocks; raises `PeerError`, `StoreError` or
            `TimeoutError`.
    """

    def route(body: bytes) -> Answer:
        try:
            request = _DECODER.decode(body)
            payload = request.payload_bytes()
        except ValueError as exc:  # msgspec's errors are ValueErrors and name the path
            return _problem(HTTPStatus.BAD_REQUEST, "bad_request", str(exc))
        try:
            return HTTPStatus.ACCEPTED, {"request_id": submit(request, payload)}
        except PeerError as exc:
            return _problem(HTTPStatus.CONFLICT, exc.reason, exc.detail)
        except JournalFull as exc:
            return _problem(HTTPStatus.INSUFFICIENT_STORAGE, exc.code, str(exc))
        except StoreError as exc:
            return _problem(HTTPStatus.SERVICE_UNAVAILABLE, exc.code, str(exc))
        except TimeoutError:
            return _problem(
                HTTPStatus.GATEWAY_TIMEOUT, "timeout", "the command may or may not have been taken; look for it"
            )

    return route


def _problem(status: HTTPStatus, error: str, detail: str) -> Answer:
    return status, {"error": error, "detail": detail}

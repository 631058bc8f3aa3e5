"""POST /commands: what is taken, what is refused, which status an error becomes."""

import base64
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gateway.core.errors import JournalBroken, JournalFull, LimitExceeded, PeerError, RegistryError
from gateway.core.limits import COMMAND_BYTES_MAX, COMMAND_EXPIRY_S
from gateway.observe.routes import CommandRequest, command_route


class Submissions(list[tuple[CommandRequest, bytes]]):
    """Takes every command."""

    def __call__(self, request: CommandRequest, payload: bytes) -> str:
        self.append((request, payload))
        return "id-1"


def post(body: object, submit: Callable[[CommandRequest, bytes], str] | None = None) -> tuple[int, dict[str, Any]]:
    status, answer = command_route(Submissions() if submit is None else submit)(
        body if isinstance(body, bytes) else msgspec.json.encode(body)
    )
    return int(status), dict(answer)


def test_a_command_is_handed_over_and_its_id_returned() -> None:
    """Defaults are the default tenant and one hour."""
    submissions = Submissions()
    assert post({"device_id": "ev-1", "payload": "é"}, submissions) == (202, {"request_id": "id-1"})
    ((request, payload),) = submissions
    assert (request.tenant, request.device_id, request.expiry_s) == ("default", "ev-1", COMMAND_EXPIRY_S)
    assert payload == "é".encode()


def test_bytes_come_in_base64() -> None:
    """Any bytes can be sent, also the largest command."""
    submissions = Submissions()
    payload = bytes(range(256)) * (COMMAND_BYTES_MAX // 256)
    post({"device_id": "ev-1", "payload_base64": base64.b64encode(payload).decode(), "expiry_s": 5}, submissions)
    assert (submissions[0][1], submissions[0][0].expiry_s) == (payload, 5.0)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "truncated"),
        (b"\xff", "malformed"),
        ([], "array"),
        ({"payload": "x"}, "device_id"),
        ({"device_id": "", "payload": "x"}, "device_id"),
        ({"device_id": "ev-1"}, "either payload"),
        ({"device_id": "ev-1", "payload": "x", "payload_base64": "eA=="}, "either payload"),
        ({"device_id": "ev-1", "payload_base64": "x y"}, "base64"),
        ({"device_id": "ev-1", "payload_base64": "é"}, "base64"),
        ({"device_id": "ev-1", "payload": "x", "expiry_s": 0}, "expiry_s"),
        ({"device_id": "ev-1", "payload": "x", "expiry_s": 1e9}, "expiry_s"),
        ({"device_id": "ev-1", "payload": "x", "expires": 1}, "expires"),
        ({"device_id": "ev-1", "payload": "x" * (COMMAND_BYTES_MAX + 1)}, "limit"),
    ],
)
def test_a_bad_body_is_named_and_not_handed_over(body: object, word: str) -> None:
    """The answer says which field and what is expected."""
    submissions = Submissions()
    status, answer = post(body, submissions)
    assert (status, list(submissions)) == (400, [])
    assert word in answer["detail"]


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (PeerError("unknown_device", "nobody"), 409, "unknown_device"),
        (LimitExceeded("full", "too many"), 409, "full"),
        (JournalFull("no space"), 507, "journal_full"),
        (JournalBroken("fdatasync"), 503, "journal_broken"),
        (RegistryError("no answer"), 503, "registry"),
        (TimeoutError(), 504, "timeout"),
    ],
)
def test_each_failure_has_its_status(error: Exception, status: int, name: str) -> None:
    """A program beside us can tell "wrong" from "later"."""

    def submit(_request: CommandRequest, _payload: bytes) -> str:
        raise error

    found, answer = post({"device_id": "ev-1", "payload": "x"}, submit)
    assert (found, answer["error"]) == (status, name)
    assert answer["detail"]

"""Handshakes: which station they name, which version they get, which are refused and how."""

import base64

import pytest

from gateway.core.errors import PeerError
from gateway.edge.ocpp_handshake import Upgrade, read_handshake, refusal_response
from gateway.wire.ocpp.versions import Version
from tests.unit.gateway.edge.ocpp_bytes import basic, request


def read(head: bytes) -> Upgrade:
    """Read a handshake on the usual path."""
    return read_handshake(head, path="/ocpp")


def refused(head: bytes) -> tuple[str, int]:
    """Return reason and status of a refusal."""
    with pytest.raises(PeerError) as caught:
        read(head)
    return caught.value.reason, caught.value.reason_code


def test_credentials_are_taken_as_bytes() -> None:
    """OCPP 1.6 passwords are binary, and a colon may be one of their bytes."""
    upgrade = read(request("cp-1", authorization=basic("cp-1", b"a:\x00\xff")))
    assert ("cp-1", "cp-1", b"a:\x00\xff") == (upgrade.identity, upgrade.username, upgrade.password)


def test_no_credentials_are_none() -> None:
    """Whether that will do is the station's security profile."""
    upgrade = read(request(authorization=None))
    assert (None, None) == (upgrade.username, upgrade.password)


@pytest.mark.parametrize(
    ("protocols", "version"),
    [
        (["ocpp1.6"], Version.V16),
        (["ocpp2.1, ocpp2.0.1 , ocpp1.6"], Version.V21),
        (["ocpp1.6,ocpp2.0.1"], Version.V16),
        (["ocpp1.5", "ocpp2.0.1,ocpp2.1"], Version.V201),
        (["ocpp2.0", "soap", "ocpp2.1"], Version.V21),
    ],
)
def test_charger_chooses_the_version(protocols: list[str], version: Version) -> None:
    """The first of its own order that we speak, over lists and repeated headers."""
    upgrade = read(request(protocols=protocols))
    assert version is upgrade.version
    assert f"\r\nSec-WebSocket-Protocol: {version.value}\r\n".encode() in upgrade.answer


@pytest.mark.parametrize("protocols", [[], ["ocpp1.5"], ["ocpp2.0", "OCPP1.6"]])
def test_no_version_of_ours_is_a_bad_request(protocols: list[str]) -> None:
    """And the detail says what was offered."""
    assert ("subprotocol", 400) == refused(request(protocols=protocols))


def test_refused_version_is_named() -> None:
    """The log line tells the operator what to configure."""
    with pytest.raises(PeerError, match=r"offers ocpp1\.5, ocpp2\.0, we speak ocpp1\.6, ocpp2\.0\.1, ocpp2\.1"):
        read(request(protocols=["ocpp1.5, ocpp2.0"]))


@pytest.mark.parametrize(
    ("path", "identity"),
    [
        ("/ocpp/CP%201", "CP 1"),
        ("/ocpp/%C3%A9", "é"),
        ("/ocpp/a.b-c:d", "a.b-c:d"),
        ("/ocpp/cp-1?x=/y", "cp-1"),
        ("/ocpp/cp-1/", "cp-1"),
    ],
)
def test_identity_is_percent_decoded(path: str, identity: str) -> None:
    """A query is not part of it, and no slash that some chargers write behind it."""
    assert identity == read(request(path=path)).identity


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/ocpp", "/ocpp/", "/ocpp/a/b", "/ocpp/a//", "/ocpp//cp-1", "/other/cp-1", "/OCPP/cp-1", "cp-1"),
        *("/ocpp/%FF", "/ocpp/a%2Fb", "/ocpp/a%00", "/ocpp/%23", "/ocpp/" + "x" * 129),
    ],
)
def test_path_that_names_no_station_is_not_found(path: str) -> None:
    """Slash, sign or length that no identity may have, too."""
    assert ("path", 404) == refused(request(path=path))


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer abc",
        "Basic",
        "Basic !!!!",
        "Basic " + base64.b64encode(b"nocolon").decode(),
        "Basic " + base64.b64encode(b"\xff:x").decode(),
        "Basic " + base64.b64encode(b"cp-1:pass word").decode()[:-3],
    ],
)
def test_unreadable_authorization_is_unauthorized(authorization: str) -> None:
    """It is not the same as none."""
    assert ("authorization", 401) == refused(request(authorization=authorization))


def test_two_authorizations_are_refused() -> None:
    """Which of them counts would be anybody's guess."""
    assert ("authorization", 401) == refused(request(extra=f"Authorization: {basic('cp-1')}\r\n"))


@pytest.mark.parametrize(
    ("old", "new", "reason", "status"),
    [
        (b"GET ", b"POST ", "no_websocket", 405),
        (b"Upgrade: websocket\r\n", b"", "no_websocket", 426),
        (b"HTTP/1.1", b"HTTP/1.0", "no_websocket", 505),
        (b"Version: 13", b"Version: 8", "no_websocket", 400),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"short", "no_websocket", 400),
        (b"HTTP/1.1", b"SIP/2.0", "bad_request", 400),
        (b"Host: localhost", b"Host localhost", "bad_request", 400),
        (b"Host: localhost", b"Content-Length: 5", "bad_request", 400),
        (b"Host: localhost", b"Host: " + b"x" * 9000, "bad_request", 431),
        (b"/ocpp/cp-1", b"/ocpp/" + b"x" * 9000, "bad_request", 414),
    ],
)
def test_request_that_is_no_handshake_has_its_status(old: bytes, new: bytes, reason: str, status: int) -> None:
    """The standard's own code."""
    assert (reason, status) == refused(request().replace(old, new))


def test_deflate_is_agreed_without_context_takeover() -> None:
    """So that an idle connection keeps no window, whatever the charger asked for."""
    upgrade = read(request(extra="Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"))
    (line,) = [line for line in upgrade.answer.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Extensions")]
    assert {b"server_no_context_takeover", b"client_no_context_takeover"} < set(line.replace(b" ", b"").split(b";"))
    assert len(upgrade.extensions) == 1


def test_charger_without_deflate_gets_none() -> None:
    """It is an offer of the charger's."""
    upgrade = read(request())
    assert (False, []) == (b"Extensions" in upgrade.answer, upgrade.extensions)


@pytest.mark.parametrize(
    ("status", "header"),
    [
        (401, b'WWW-Authenticate: Basic realm="ocpp"'),
        (429, b"Retry-After: "),
        (503, b"Retry-After: "),
        (404, b"Connection: close"),
        (403, b"Connection: close"),
    ],
)
def test_refusal_says_its_status_and_nothing_of_ours(status: int, header: bytes) -> None:
    """Whether the station exists or the password was wrong is for the log."""
    said = refusal_response(PeerError("wrong_password", "wrong password of 'cp-1'", status))
    assert said.startswith(f"HTTP/1.1 {status} ".encode())
    assert (True, True, False) == (header in said, b"Connection: close" in said, b"cp-1" in said)


def test_status_that_refuses_nothing_is_forbidden() -> None:
    """A refusal never becomes a success by a wrong number."""
    assert refusal_response(PeerError("busy", "", 0x89)).startswith(b"HTTP/1.1 403 ")

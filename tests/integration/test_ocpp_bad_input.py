"""What chargers and others send wrong: the standard's answer, a count, a line, and a neighbour that notices nothing."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.core.limits import (
    CHARGER_FRAME_BYTES_MAX,
    CHARGER_FRAMES_BURST,
    CHARGER_FRAMES_PER_S,
    CHARGER_HANDSHAKE_BYTES_MAX,
    CHARGERS_UNAUTHENTICATED_MAX,
    REFUSAL_LINES_BURST,
    WRITE_BUFFER_BYTES_MAX,
)
from gateway.edge import ocpp_server, sockets
from tests.integration.mqtt_server import wait_until
from tests.integration.ocpp_live_server import LiveServer, live_server
from tests.integration.ocpp_socket import Charger
from tests.unit.gateway.edge.ocpp_bytes import BINARY, BOOT_16, PING, TEXT, basic, deflate, frame, request

pytestmark = pytest.mark.integration
METER = {
    "connectorId": 1,
    "meterValue": [{"timestamp": "2026-11-23T08:00:00Z", "sampledValue": [{"value": "1000"}]}],
}
ANSWER_S_MAX = 2.0
"""How long the neighbour may wait for an answer, on a machine that has other work as well."""


class Neighbour(threading.Thread):
    """A charger that goes on with its calls, each of which must be answered, on one connection."""

    def __init__(self, server: LiveServer) -> None:
        super().__init__(name="neighbour", daemon=True)
        self.charger = Charger(server).connect("neighbour")
        self.answered = 0
        self.slowest_s = 0.0
        self.failure: BaseException | None = None
        self.is_done = False

    def run(self) -> None:
        """Call until told to stop."""
        try:
            while not self.is_done:
                begin_s = time.monotonic()
                answer = self.charger.call("MeterValues", METER)
                assert answer[0] == 3, answer
                self.slowest_s = max(self.slowest_s, time.monotonic() - begin_s)
                self.answered += 1
                time.sleep(0.01)
        except BaseException as error:  # noqa: BLE001 - raised in the test's thread
            self.failure = error

    def stop(self) -> None:
        """See that it was answered all the while, the last time after all that happened."""
        before = self.answered
        wait_until(lambda: self.answered > before or self.failure is not None, "the neighbour's next answer")
        self.is_done = True
        self.join()
        if self.failure is not None:
            raise self.failure
        assert self.slowest_s < ANSWER_S_MAX


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """A running server with a neighbour that must not be disturbed."""
    with live_server(tmp_path) as live:
        neighbour = Neighbour(live)
        neighbour.start()
        wait_until(lambda: neighbour.answered > 0)
        yield live
        neighbour.stop()
        assert neighbour.answered == len(live.payloads("neighbour", "ocpp1.6/MeterValues"))
        assert live.server.connections >= 1


def line_of(server: LiveServer, event: str, reason: str) -> dict[str, Any]:
    """Return the one line of an event with a reason."""
    (line,) = [fields for fields in server.log.of(event) if fields["reason"] == reason]
    return line


# ---- frames that are no messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "text", "answer", "reason"),
    [
        ("ocpp1.6", '[2,"a","MeterValues",{"connectorId":1,}]', [4, "a", "FormationViolation"], "bad_json"),
        ("ocpp2.0.1", '[2,"a","MeterValues",{"evseId":1,}]', [4, "a", "FormatViolation"], "bad_json"),
        ("ocpp2.0.1", "nonsense{", [4, "-1", "RpcFrameworkError"], "bad_json"),
        ("ocpp2.1", "", [4, "-1", "RpcFrameworkError"], "bad_json"),
        ("ocpp1.6", '[2,"a","MeterValues"]', [4, "a", "ProtocolError"], "frame_shape"),
        ("ocpp1.6", '[2,"a","MeterValues",[]]', [4, "a", "ProtocolError"], "payload_type"),
        ("ocpp2.0.1", '{"a":1}', [4, "-1", "RpcFrameworkError"], "frame_shape"),
        ("ocpp2.0.1", '[9,"a","Heartbeat",{}]', [4, "a", "MessageTypeNotSupported"], "message_type"),
        ("ocpp2.0.1", '[2,7,"Heartbeat",{}]', [4, 7, "ProtocolError"], "message_id"),
        ("ocpp1.6", '[2,"a","FlyToTheMoon",{}]', [4, "a", "NotImplemented"], "not_implemented"),
        ("ocpp2.0.1", '[2,"a","ClearCache",{}]', [4, "a", "NotSupported"], "not_supported"),
        ("ocpp1.6", "[" * 100_000, None, "nested_too_deep"),
    ],
)
def test_frame_that_is_no_message_is_answered_as_the_standard_says(
    server: LiveServer, version: str, text: str, answer: list[Any] | None, reason: str
) -> None:
    """Nothing of it is kept, the line names station and fault, and the connection goes on."""
    charger = Charger(server).connect(protocols=[version])
    charger.say(text)
    if answer is not None:
        assert answer == charger.read_json()[: len(answer)]
    assert 3 == charger.call("Heartbeat", {})[0]
    assert 1 == server.counts[reason]
    line = line_of(server, "charger_frame_refused", reason)
    assert ("acme/cp-1", version, True) == (line["station"], line["version"], bool(line["detail"]))
    assert {"ocpp/connected"} == {e.route.channel for e in server.messages() if e.route.device_id == "cp-1"}


@pytest.mark.parametrize("text", ["nonsense{", '{"a":1}', "[]", '[2,{},"Heartbeat",{}]', "null"])
def test_frame_of_1_6_without_an_id_has_no_answer(server: LiveServer, text: str) -> None:
    """1.6 has no id to answer to; it is counted and in the log all the same."""
    charger = Charger(server).connect()
    charger.say(text)
    assert 3 == charger.call("Heartbeat", {}, "next")[0]
    assert 1 == len(server.log.of("charger_frame_refused"))


def test_trailing_comma_is_not_json_in_any_strictness(server: LiveServer) -> None:
    """Lenient is for dirt that can be read."""
    for strictness in ("strict", "lenient", "audit"):
        server.admission.strictness[strictness] = strictness
        charger = Charger(server).connect(strictness)
        charger.say('[2,"a","StatusNotification",{"connectorId":1,"errorCode":"NoError","status":"Available",}]')
        assert [4, "a", "FormationViolation"] == charger.read_json()[:3]
    assert 3 == server.counts["bad_json"]


@pytest.mark.parametrize(
    ("strictness", "payload", "code"),
    [
        # A number where text belongs is known dirt; no connectorId at all is not; the audit takes both.
        ("strict", {"connectorId": "1"}, "TypeConstraintViolation"),
        ("lenient", {"connectorId": "1"}, None),
        ("audit", {"connectorId": "1"}, None),
        ("strict", {"connectorId": None}, "TypeConstraintViolation"),
        ("lenient", {}, "OccurenceConstraintViolation"),
        ("audit", {}, None),
    ],
)
def test_schema_violation_is_the_stations_strictness(
    server: LiveServer, strictness: str, payload: dict[str, Any], code: str | None
) -> None:
    """Refused with the place in it, or kept verbatim; counted either way."""
    server.admission.strictness["cp-1"] = strictness
    charger = Charger(server).connect()
    text = json.dumps([2, "a", "StatusNotification", {"errorCode": "NoError", "status": "Available", **payload}])
    charger.say(text)
    answer = charger.read_json()
    kept = server.payloads("cp-1", "ocpp1.6/StatusNotification")
    if code is None:
        assert ([3, "a", {}], [text.encode()], []) == (answer, kept, server.log.of("charger_frame_refused"))
        assert server.counts.total() >= 1
    else:
        assert ([4, "a", code], []) == (answer[:3], kept)
        (line,) = server.log.of("charger_frame_refused")
        assert "acme/cp-1" == line["station"]
        assert "StatusNotification" in str(line["detail"])
        assert "connectorId" in str(line["detail"])


def test_replayed_message_id_has_the_first_answer_and_no_second_row(server: LiveServer) -> None:
    """Never an error."""
    charger = Charger(server).connect()
    start = {"connectorId": 1, "idTag": "TAG", "meterStart": 0, "timestamp": "2026-11-23T08:00:00Z"}
    first = charger.call("StartTransaction", start, "same")
    assert [first, first] == [charger.call("StartTransaction", start, "same") for _ in range(2)]
    assert 1 == len(server.payloads("cp-1", "ocpp1.6/StartTransaction"))
    assert 2 == server.counts["repeated_call"]


def test_flood_of_bad_frames_does_not_flood_the_log(server: LiveServer) -> None:
    """All are counted, few are lines, and another station's first line still comes."""
    charger = Charger(server).connect()
    for _ in range(200):
        charger.say("nonsense{")
    server.wait_for("bad_json", 200)
    other = Charger(server).connect("cp-2")
    other.say("nonsense{")
    server.wait_for("bad_json", 201)
    lines = server.log.of("charger_frame_refused")
    assert (REFUSAL_LINES_BURST, 1) == (
        sum(line["station"] == "acme/cp-1" for line in lines),
        sum(line["station"] == "acme/cp-2" for line in lines),
    )


def test_unmatched_results_are_counted_and_never_a_close(server: LiveServer) -> None:
    """Results and errors of calls that nobody made."""
    charger = Charger(server).connect()
    charger.say('[3,"nobody",{}]')
    charger.say('[4,"nobody","GenericError","",{}]')
    assert 3 == charger.call("Heartbeat", {})[0]
    assert (1, 1) == (server.counts["unmatched_result"], server.counts["unmatched_error"])


# ---- WebSocket -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wire", "code", "reason"),
    [
        (frame(BINARY, b'[2,"a","Heartbeat",{}]'), 1003, "binary_frame"),
        (frame(TEXT, b'[2,"a","\xff",{}]'), 1007, "utf8"),
        (frame(TEXT, b'[2,"a","Heartbeat",{}]', masked=False), 1002, "websocket_violation"),
        (frame(TEXT, b"x" * (1 << 20)), 1009, "frame_too_big"),
        (b"\x81\xff" + b"\xff" * 8, 1009, "frame_too_big"),
        (frame(TEXT, b"x" * CHARGER_FRAME_BYTES_MAX, fin=False) + frame(0, b"x"), 1009, "frame_too_big"),
        (b"GET / HTTP/1.1\r\n\r\n", 1002, "websocket_violation"),
    ],
    ids=["binary", "utf8", "unmasked", "too big", "announced too big", "grown too big", "no websocket"],
)
def test_websocket_violation_closes_with_its_code(server: LiveServer, wire: bytes, code: int, reason: str) -> None:
    """What came before it is answered, and the charger may come again at once."""
    charger = Charger(server).connect()
    charger.send(frame(TEXT, b'[2,"before","Heartbeat",{}]') + wire)
    assert [3, "before"] == charger.read_json()[:2]
    assert code == charger.close_code()
    server.wait_for(reason)
    assert "acme/cp-1" == line_of(server, "charger_frame_refused", reason)["station"]
    assert 3 == Charger(server).connect().call("BootNotification", BOOT_16)[0]


def test_deflate_bomb_is_too_big(server: LiveServer) -> None:
    """64 MiB in 64 KiB."""
    charger = Charger(server).connect(extra="Sec-WebSocket-Extensions: permessage-deflate\r\n")
    charger.send(frame(TEXT, deflate(b'[2,"a","Heartbeat",{}]'), rsv1=True))
    assert [3, "a"] == charger.read_json()[:2]
    charger.send(frame(TEXT, deflate(bytes(64 << 20)), rsv1=True))
    assert 1009 == charger.close_code()
    server.wait_for("frame_too_big")


def test_half_a_frame_is_waited_for(server: LiveServer) -> None:
    """Byte by byte, in fragments, with a ping in between."""
    charger = Charger(server).connect()
    text = b'[2,"a","Heartbeat",{}]'
    wire = frame(TEXT, text[:5], fin=False) + frame(PING, b"") + frame(0, text[5:9], fin=False) + frame(0, text[9:])
    for i in range(len(wire)):
        charger.send(wire[i : i + 1])
        time.sleep(0.001)
    assert (10, b"") == charger.read()
    assert [3, "a"] == charger.read_json()[:2]


def test_half_a_frame_and_gone_is_a_lost_connection(server: LiveServer) -> None:
    """Nothing of it is kept."""
    charger = Charger(server).connect()
    charger.send(frame(TEXT, json.dumps([2, "a", "MeterValues", METER]).encode())[:40])
    charger.close()
    server.wait_for("lost")
    assert [] == server.payloads("cp-1", "ocpp1.6/MeterValues")


def test_unfinished_messages_of_all_are_bounded(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that goes past the bound is closed."""
    monkeypatch.setattr(ocpp_server, "PARTIAL_BYTES_MAX", 200_000)
    one, two = Charger(server).connect("cp-1"), Charger(server).connect("cp-2")
    one.send(frame(TEXT, b"x" * 150_000)[:-1])
    wait_until(lambda: server.server._held_bytes > 140_000)
    two.send(frame(TEXT, b"x" * 150_000)[:-1])
    assert 1008 == two.close_code()
    assert 1 == server.counts["partial_bytes"]
    one.close()
    two.close()
    wait_until(lambda: server.server._held_bytes < 1000)


# ---- floods ----------------------------------------------------------------------------------------------------------


def test_message_flood_is_slowed_down_and_loses_nothing(server: LiveServer) -> None:
    """Not closed: an offline queue may look like one."""
    charger = Charger(server).connect()
    n = CHARGER_FRAMES_BURST + 2 * CHARGER_FRAMES_PER_S
    wire = b"".join(frame(TEXT, json.dumps([2, str(i), "MeterValues", METER]).encode()) for i in range(n))
    threading.Thread(target=charger.send, args=(wire,), daemon=True).start()
    begin_s = time.monotonic()
    assert [str(i) for i in range(n)] == [charger.read_json()[1] for _ in range(n)]
    assert time.monotonic() - begin_s > 0.8
    assert n == len(server.payloads("cp-1", "ocpp1.6/MeterValues"))
    assert server.counts["flood"] >= 1
    assert charger.call("Heartbeat", {}, "after")[0] == 3


def test_ping_flood_is_slowed_down(server: LiveServer) -> None:
    """A frame is a frame."""
    charger = Charger(server).connect()
    with suppress(OSError):
        charger.send(frame(PING, b"") * (2 * CHARGER_FRAMES_BURST))
    server.wait_for("flood")


def test_charger_that_does_not_read_is_closed(server: LiveServer) -> None:
    """Past the bound on what waits for it."""
    charger = Charger(server).connect()
    charger.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wait_until(lambda: "cp-1" in server.commands.stations)
    station = server.commands.stations["cp-1"]
    payload = json.dumps({"vendorId": "x", "data": "x" * WRITE_BUFFER_BYTES_MAX}).encode()
    for i in range(40):
        if server.counts["slow_reader"]:
            break
        server.do(lambda i=i: (station.abandon_call(), station.call(f"c{i}", "DataTransfer", payload)))  # type: ignore[misc]
    server.wait_for("slow_reader")


# ---- handshakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handshake", "status", "reason"),
    [
        (request("cp-1", protocols=["ocpp1.5"]), 400, "subprotocol"),
        (request("cp-1", protocols=[]), 400, "subprotocol"),
        (request("unknown-1"), 404, "unknown_device"),
        (request("cp-1", authorization=basic("cp-1", b"wrong")), 401, "wrong_password"),
        (request("cp-1", authorization=None), 401, "wrong_password"),
        (request("cp-1", authorization="Basic !"), 401, "authorization"),
        (request("cp-1", authorization=basic("cp-2")), 401, "wrong_password"),
        (request("cp-1", path="/cp-1"), 404, "path"),
        (request("cp-1", path="/ocpp/%00"), 404, "path"),
        (request("cp-1").replace(b"GET", b"PUT"), 405, "no_websocket"),
        (b"GET /ocpp/cp-1 HTTP/1.1\r\nHost: x\r\n\r\n", 426, "no_websocket"),
        (b"\x16\x03\x01\x02\x00\x01" + b"\r\n\r\n", 400, "bad_request"),
        (request("cp-1", extra="X: " + "x" * CHARGER_HANDSHAKE_BYTES_MAX + "\r\n"), 431, "request_too_big"),
        (b"x" * (CHARGER_HANDSHAKE_BYTES_MAX + 1), 431, "request_too_big"),
    ],
)
def test_handshake_is_refused_with_its_status(server: LiveServer, handshake: bytes, status: int, reason: str) -> None:
    """Counted, a line with the station's name, and the socket closed."""
    charger = Charger(server)
    said, headers = charger.shake(handshake)
    assert (status, "close") == (said, headers["connection"])
    assert (status == 401) == headers.get("www-authenticate", "").startswith("Basic ")
    charger.rest = charger.rest[int(headers["content-length"]) :]
    assert (None, b"") == (charger.read(), charger.rest)
    server.wait_for(reason)
    line = line_of(server, "charger_refused", reason)
    assert ("127.0.0.1", True) == (line["address"], bool(line["detail"]))
    assert {"neighbour"} == {e.route.device_id for e in server.messages()}


def test_refused_station_is_named_in_the_log(server: LiveServer) -> None:
    """By its identity, or what stands in its path."""
    Charger(server).shake(request("unknown-1"))
    assert "unknown-1" == line_of(server, "charger_refused", "unknown_device")["station"]


def test_guessing_does_not_flood_the_log(server: LiveServer) -> None:
    """All are counted."""
    for _ in range(REFUSAL_LINES_BURST + 10):
        assert 401 == Charger(server).shake(request("cp-1", authorization=basic("cp-1", b"wrong")))[0]
    assert (REFUSAL_LINES_BURST + 10, REFUSAL_LINES_BURST) == (
        server.counts["wrong_password"],
        len(server.log.of("charger_refused")),
    )


def test_connect_and_never_speak_is_closed(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is a handshake that comes a byte at a time: the whole of it has to be there in time."""
    monkeypatch.setattr(sockets, "CONNECT_TIMEOUT_S", 0.5)
    silent, slow = Charger(server), Charger(server)
    handshake = request("slow")

    def drip() -> None:
        with suppress(OSError):
            for i in range(len(handshake)):
                slow.send(handshake[i : i + 1])
                time.sleep(0.05)

    threading.Thread(target=drip, daemon=True).start()
    assert (True, True) == (silent.is_closed(), slow.is_closed())
    assert 2 == server.counts["connect_timeout"]


def test_silent_sockets_do_not_keep_a_charger_out(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest silent makes room."""
    monkeypatch.setattr(server.server._sockets, "unauthenticated_max", 20)
    silent = [Charger(server) for _ in range(30)]
    assert 3 == Charger(server).connect().call("Heartbeat", {})[0]
    server.wait_for("unauthenticated_max", 10)
    assert silent[0].is_closed()
    assert CHARGERS_UNAUTHENTICATED_MAX > 5000


def test_frames_behind_the_handshake_wait_for_its_answer(server: LiveServer) -> None:
    """A hurried charger loses nothing, and nothing is taken of one that is refused."""
    server.admission.delay_s = 0.2
    charger = Charger(server)
    status, _ = charger.shake(request("cp-1") + frame(TEXT, json.dumps([2, "a", "MeterValues", METER]).encode()))
    assert (101, [3, "a", {}]) == (status, charger.read_json())
    other = Charger(server)
    assert 404 == other.shake(request("unknown-1") + frame(TEXT, b'[2,"a","Heartbeat",{}]'))[0]
    assert other.is_closed()


def test_charger_that_leaves_during_its_login_leaves_nothing(server: LiveServer) -> None:
    """Neither a connection nor an entry that says so."""
    server.admission.delay_s = 0.3
    charger = Charger(server)
    charger.send(request("cp-1"))
    wait_until(lambda: server.server.unauthenticated == 1)
    charger.close()
    wait_until(lambda: server.server.unauthenticated == 0)
    wait_until(lambda: server.counts["lost"] == 1)
    assert 1 == server.server.connections

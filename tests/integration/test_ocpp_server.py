"""The chargers' server on real sockets: who is let in, what is kept, who is pinged, who must go."""

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets

from gateway.core.errors import JournalBroken, JournalFull
from gateway.core.ids import DeviceId
from gateway.core.limits import CHARGER_LINGER_S, DUPLICATES_MAX, JOURNAL_IN_FLIGHT_BYTES_MAX
from gateway.edge import ocpp_server
from gateway.edge.tls import server_context
from gateway.journal.memory import MemoryJournal
from tests.integration.certificates import Authority
from tests.integration.mqtt_server import wait_until
from tests.integration.ocpp_live_server import TENANT, LiveServer, live_server
from tests.integration.ocpp_socket import Charger
from tests.unit.gateway.edge.ocpp_bytes import BOOT_16, CLOSE, PING, PONG, basic, frame, request

pytestmark = pytest.mark.integration
METER = {
    "connectorId": 1,
    "meterValue": [{"timestamp": "2026-11-23T08:00:00Z", "sampledValue": [{"value": "1000"}]}],
}
START = {"connectorId": 1, "idTag": "TAG", "meterStart": 0, "timestamp": "2026-11-23T08:00:00Z"}
BOOT_2 = {"reason": "PowerUp", "chargingStation": {"model": "One", "vendorName": "Acme"}}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """A running server."""
    with live_server(tmp_path) as live:
        yield live


def events(server: LiveServer, identity: str, channel: str) -> list[dict[str, Any]]:
    """Return the entries about a charger's connections."""
    return [json.loads(payload) for payload in server.payloads(identity, channel)]


# ---- what is said ----------------------------------------------------------------------------------------------------


def test_answered_calls_are_in_the_journal_verbatim(server: LiveServer) -> None:
    """In order, on the channel of version and action, the allocated transaction id right behind its start."""
    charger = Charger(server).connect()
    boot, start = json.dumps([2, "1", "BootNotification", BOOT_16]), json.dumps([2, "2", "StartTransaction", START])
    charger.say(boot)
    assert "Accepted" == charger.read_json()[2]["status"]
    charger.say(start)
    answer = charger.read()
    assert answer is not None
    assert [3, "h"] == charger.call("Heartbeat", {}, "h")[:2]
    kept = [(e.route.source, e.route.channel, e.payload) for e in server.messages()]
    assert ("ocpp", "ocpp/connected") == kept[0][:2]
    assert [
        ("ocpp", "ocpp1.6/BootNotification", boot.encode()),
        ("ocpp", "ocpp1.6/StartTransaction", start.encode()),
        ("ocpp", "ocpp1.6/StartTransaction.conf", answer[1]),
    ] == kept[1:]
    assert (2, 2) == (server.server.received, server.server.acknowledged)


@pytest.mark.parametrize(
    ("protocols", "version", "boot"),
    [(["ocpp1.6"], "ocpp1.6", BOOT_16), (["ocpp2.0.1"], "ocpp2.0.1", BOOT_2), (["ocpp2.1", "x"], "ocpp2.1", BOOT_2)],
)
def test_library_client_speaks_each_version(
    server: LiveServer, protocols: list[str], version: str, boot: dict[str, Any]
) -> None:
    """With compression as its library offers it, and a message long enough to be compressed both ways."""

    async def talk() -> tuple[str | None, Any, Any]:
        url = f"ws://127.0.0.1:{server.port}/ocpp/cp-1"
        headers = {"Authorization": basic("cp-1")}
        async with websockets.connect(url, subprotocols=protocols, additional_headers=headers) as socket:  # type: ignore[arg-type]
            await socket.send(json.dumps([2, "1", "BootNotification", boot]))
            answer = json.loads(await socket.recv())
            server.do(lambda: server.commands.stations["cp-1"].call("c1", "DataTransfer", payload))
            return socket.subprotocol, answer, json.loads(await socket.recv())

    payload = json.dumps({"vendorId": "acme", "data": "x" * 5000}).encode()
    subprotocol, answer, command = asyncio.run(talk())
    assert (version, "Accepted") == (subprotocol, answer[2]["status"])
    assert [2, "c1", "DataTransfer", json.loads(payload)] == command
    server.wait_for("disconnect")


def test_version_is_chosen_anew_on_every_connection(server: LiveServer) -> None:
    """A charger whose firmware was updated speaks something else tomorrow."""
    first = Charger(server).connect(protocols=["ocpp2.0.1"])
    first.send(frame(CLOSE, b"\x03\xe8"))
    assert first.close_code() == 1000
    assert "Accepted" == Charger(server).connect(protocols=["ocpp1.6"]).call("BootNotification", BOOT_16)[2]["status"]
    versions = [event["version"] for event in events(server, "cp-1", "ocpp/connected")]
    assert ["ocpp2.0.1", "ocpp1.6"] == versions


def test_resend_after_a_reconnect_is_one_row_and_one_answer(server: LiveServer) -> None:
    """The charger lost the connection before it read its answer, and sends the same call again."""
    first = Charger(server).connect()
    answer = first.call("StartTransaction", START, "s1")
    first.close()
    server.wait_for("lost")
    second = Charger(server).connect()
    assert answer == second.call("StartTransaction", START, "s1")
    assert 1 == len(server.payloads("cp-1", "ocpp1.6/StartTransaction"))


def test_messages_of_one_chunk_are_answered_in_order(server: LiveServer) -> None:
    """Those that wait for nothing wait behind those that wait for the disk."""
    charger = Charger(server).connect()
    calls = [[2, str(i), "Heartbeat" if i % 3 else "MeterValues", {} if i % 3 else METER] for i in range(60)]
    charger.send(b"".join(frame(1, json.dumps(call).encode()) for call in calls))
    assert [str(i) for i in range(60)] == [charger.read_json()[1] for _ in calls]


# ---- the disk --------------------------------------------------------------------------------------------------------


def test_charger_is_told_that_nothing_was_stored(tmp_path: Path) -> None:
    """InternalError, and the same call succeeds once the disk has room."""
    journals: list[MemoryJournal] = []

    def make(loop: asyncio.AbstractEventLoop) -> MemoryJournal:
        journals.append(MemoryJournal(loop=loop))
        return journals[0]

    with live_server(tmp_path, journal=make) as server:
        charger = Charger(server).connect()
        server.do(lambda: journals[0].fail(JournalFull("disk full")))
        assert [4, "s1", "InternalError"] == charger.call("StartTransaction", START, "s1")[:3]
        assert [3, "h"] == charger.call("Heartbeat", {}, "h")[:2]
        server.do(lambda: journals[0].fail(None))
        assert 3 == charger.call("StartTransaction", START, "s1")[0]
        server.do(lambda: journals[0].fail(JournalBroken("fdatasync failed")))
        assert [4, "s2", "InternalError"] == charger.call("MeterValues", METER, "s2")[:3]
        assert (3, 1, 2) == (server.server.received, server.server.acknowledged, server.counts["not_durable"])


class SlowJournal(MemoryJournal):
    """Commits when told to, and says that it is full of bytes when told to."""

    is_loaded = False

    @property
    def in_flight_bytes(self) -> int:
        """See JournalWriter."""
        return JOURNAL_IN_FLIGHT_BYTES_MAX + 1 if self.is_loaded else 0


def test_full_journal_stops_reading_and_loses_nothing(tmp_path: Path) -> None:
    """The charger waits; nothing is refused and nobody is closed."""
    journal = SlowJournal()
    with live_server(tmp_path, journal=lambda _: journal) as server:
        charger = Charger(server).connect()
        assert 3 == charger.call("Heartbeat", {})[0]
        journal.is_loaded = True
        charger.say(json.dumps([2, "1", "MeterValues", METER]))
        wait_until(lambda: server.server.received == 1)
        charger.say(json.dumps([2, "2", "MeterValues", METER]))
        time.sleep(0.1)
        assert (1, 1) == (server.server.received, len(server.server.paused))
        journal.is_loaded = False
        server.do(journal.commit)
        wait_until(lambda: server.server.received == 2)
        server.do(journal.commit)
        assert ["1", "2"] == [charger.read_json()[1], charger.read_json()[1]]


def test_stop_answers_what_waits_for_the_disk(tmp_path: Path) -> None:
    """And says goodbye with 1001; a call whose answer is late is not half-answered."""
    journal = MemoryJournal()
    with live_server(tmp_path, journal=lambda _: journal) as server:
        charger = Charger(server).connect()
        charger.say(json.dumps([2, "1", "MeterValues", METER]))
        wait_until(lambda: server.server.received == 1)
        committing = threading.Timer(0.2, lambda: server.do(journal.commit))
        committing.start()
        server.close()
        committing.join()
        assert [3, "1", {}] == charger.read_json()
        assert 1001 == charger.close_code()


def test_answer_to_a_call_of_a_dead_connection_goes_to_its_successor(tmp_path: Path) -> None:
    """The charger came back and repeated its call while the first still waited for the disk."""
    journal = MemoryJournal()
    with live_server(tmp_path, journal=lambda _: journal) as server:
        first = Charger(server).connect()
        first.say(json.dumps([2, "s1", "StartTransaction", START]))
        wait_until(lambda: server.server.received == 1)
        first.close()
        server.wait_for("lost")
        second = Charger(server).connect()
        second.say(json.dumps([2, "s1", "StartTransaction", START]))
        assert 3 == second.call("Heartbeat", {}, "h")[0]
        server.wait_for("repeated_call")
        server.do(journal.commit)
        assert [3, "s1"] == second.read_json()[:2]
        assert 1 == server.server.received


# ---- pings -----------------------------------------------------------------------------------------------------------


def test_quiet_charger_that_answers_pings_stays(tmp_path: Path) -> None:
    """And one that does not is gone after interval and timeout."""
    with live_server(tmp_path, ping_interval_s=1, pong_timeout_s=1) as server:
        alive, dead = Charger(server).connect("alive"), Charger(server).connect("dead")
        until_s = time.monotonic() + 5
        pings = 0
        while time.monotonic() < until_s:
            taken = alive.read()
            assert taken is not None
            assert PING == taken[0]
            alive.send(frame(PONG, taken[1]))
            pings += 1
        server.wait_for("keep_alive")
        assert (True, True) == (pings >= 3, dead.is_closed())
        assert ["keep_alive"] == [event["reason"] for event in events(server, "dead", "ocpp/disconnected")]
        assert [] == events(server, "alive", "ocpp/disconnected")


def test_ping_of_a_charger_is_answered(server: LiveServer) -> None:
    """With its own bytes."""
    charger = Charger(server).connect()
    charger.send(frame(PING, b"are you there"))
    assert (PONG, b"are you there") == charger.read()


# ---- one identity, two connections -----------------------------------------------------------------------------------


@pytest.fixture
def fast_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait 5 s for the dead."""
    monkeypatch.setattr(ocpp_server, "DUPLICATE_PROBE_S", 0.5)


def answer_ping(charger: Charger) -> None:
    """Read a ping and answer it."""
    taken = charger.read()
    assert taken is not None
    assert PING == taken[0]
    charger.send(frame(PONG, taken[1]))


@pytest.mark.usefixtures("fast_probe")
def test_connection_that_died_silently_is_replaced(server: LiveServer) -> None:
    """It answers no ping, so the charger is in again; the journal has who came and went, in order."""
    old = Charger(server).connect()
    wait_until(lambda: server.server.connections == 1)
    new = Charger(server).connect()
    assert "Accepted" == new.call("BootNotification", BOOT_16)[2]["status"]
    came, went = events(server, "cp-1", "ocpp/connected"), events(server, "cp-1", "ocpp/disconnected")
    assert [came[0]["generation"]] == [event["generation"] for event in went]
    assert came[0]["generation"] < came[1]["generation"]
    assert ["ocpp/connected", "ocpp/disconnected", "ocpp/connected"] == [
        e.route.channel for e in server.messages() if e.route.channel.startswith("ocpp/")
    ]
    assert (1, [], True) == (server.server.connections, events(server, "cp-1", "ocpp/security"), old.is_closed())
    told = [(event, generation) for event, _, generation, _ in server.commands.events]
    assert [
        ("connected", came[0]["generation"]),
        ("disconnected", came[0]["generation"]),
        ("connected", came[1]["generation"]),
    ] == told


def test_second_connection_with_a_password_is_refused_while_the_first_lives(server: LiveServer) -> None:
    """1008, a security event that is critical, and the first notices nothing but a ping."""
    old = Charger(server).connect()
    wait_until(lambda: server.server.connections == 1)
    new = Charger(server).connect()
    new.say(json.dumps([2, "1", "StartTransaction", START]))
    answer_ping(old)
    assert 1008 == new.close_code()
    assert 3 == old.call("Heartbeat", {})[0]
    (event,) = events(server, "cp-1", "ocpp/security")
    assert ("duplicate_identity", "old_stays") == (event["event"], event["reason"])
    assert [] == server.payloads("cp-1", "ocpp1.6/StartTransaction")
    assert [("old_stays", "acme/cp-1")] == [(it["verdict"], it["station"]) for it in server.log.of("charger_duplicate")]
    assert 1 == server.counts["duplicate"]


def test_operator_may_let_the_newest_win(tmp_path: Path) -> None:
    """The old one is told why."""
    with live_server(tmp_path, newest_wins=True) as server:
        old = Charger(server).connect()
        wait_until(lambda: server.server.connections == 1)
        new = Charger(server).connect()
        answer_ping(old)
        assert 1008 == old.close_code()
        assert 3 == new.call("Heartbeat", {})[0]
        assert ["newest_wins"] == [event["reason"] for event in events(server, "cp-1", "ocpp/security")]
        assert ["taken_over"] == [event["reason"] for event in events(server, "cp-1", "ocpp/disconnected")]


def test_identity_that_meets_itself_again_and_again_is_quarantined(tmp_path: Path) -> None:
    """Then the old one stays whatever was chosen, and the journal is told once."""
    with live_server(tmp_path, newest_wins=True) as server:
        holder = Charger(server).connect()
        wait_until(lambda: server.server.connections == 1)
        for _ in range(DUPLICATES_MAX):
            new = Charger(server).connect()
            answer_ping(holder)
            assert 1008 == holder.close_code()
            assert 3 == new.call("Heartbeat", {})[0]
            holder = new
        for _ in range(3):
            new = Charger(server).connect()
            answer_ping(holder)
            assert 1008 == new.close_code()
        assert 3 == holder.call("Heartbeat", {})[0]
        reasons = [event["reason"] for event in events(server, "cp-1", "ocpp/security")]
        assert ["newest_wins"] * DUPLICATES_MAX + ["quarantine_begins"] == reasons


@pytest.mark.usefixtures("fast_probe")
def test_many_newcomers_of_one_identity_leave_one(server: LiveServer) -> None:
    """All of them are silent to pings but the last, as after a network that flaps."""
    chargers = [Charger(server).connect() for _ in range(4)]
    until_s = time.monotonic() + 10
    while server.counts["keep_alive"] + server.counts["duplicate"] < 3:
        assert time.monotonic() < until_s
        time.sleep(0.01)
    assert 1 == server.server.connections
    assert 3 == len(events(server, "cp-1", "ocpp/disconnected"))
    assert 4 == len(chargers)


def test_certificate_lets_the_newest_win_over_tls(server: LiveServer, tmp_path: Path) -> None:
    """One charger with one certificate; on a second listener of the server, whose closes and refusals arrive too."""
    authority = Authority(tmp_path / "ca")
    context = server_context(chains=[authority.server()], client_ca=authority.file)
    port = server.on_loop(server.server.start("127.0.0.1", 0, ssl=context))
    tls = ssl.create_default_context(cafile=str(authority.file))
    assert 404 == Charger(server, port=port, tls=tls).shake(request("unknown-1"))[0]
    tls.load_cert_chain(*authority.client("cp-1"))
    old = Charger(server, port=port, tls=tls).connect()
    assert "Accepted" == old.call("BootNotification", BOOT_16)[2]["status"]
    new = Charger(server, port=port, tls=tls).connect()
    answer_ping(old)
    assert 1008 == old.close_code()
    assert 3 == new.call("Heartbeat", {})[0]
    assert [(True, None), (True, "cp-1"), (True, "cp-1")] == [
        (is_tls, certificate and certificate.common_name) for is_tls, certificate in server.admission.seen
    ]
    assert ["newest_wins"] == [event["reason"] for event in events(server, "cp-1", "ocpp/security")]
    plain = Charger(server).connect()
    answer_ping(new)
    assert 1008 == plain.close_code()
    assert 3 == new.call("Heartbeat", {})[0]


# ---- commands --------------------------------------------------------------------------------------------------------


def test_command_is_answered_by_the_connection_it_went_to(server: LiveServer) -> None:
    """While calls cross in the other direction; the answer of a later connection belongs to nobody."""
    charger = Charger(server).connect()
    wait_until(lambda: "cp-1" in server.commands.stations)
    station = server.commands.stations["cp-1"]
    server.do(lambda: station.call("c1", "ClearCache", b"{}"))
    assert [2, "c1", "ClearCache", {}] == charger.read_json()
    assert 3 == charger.call("Heartbeat", {})[0]
    assert station.is_calling
    charger.say('[3,"c1",{"status":"Accepted"}]')
    wait_until(lambda: server.commands.events[-1][0] == "answered c1")
    (_, _, generation, outcome) = server.commands.events[-1]
    assert (station.generation, False) == (generation, station.is_calling)
    assert outcome is not None
    assert "accepted" == outcome.status

    server.do(lambda: station.call("c2", "ClearCache", b"{}"))
    charger.read_json()
    charger.close()
    server.wait_for("lost")
    again = Charger(server).connect()
    again.say('[3,"c2",{"status":"Accepted"}]')
    server.wait_for("unmatched_result")
    assert 3 == again.call("Heartbeat", {})[0]
    server.do(lambda: station.call("c3", "ClearCache", b"{}"))
    assert 3 == again.call("Heartbeat", {})[0]
    assert ["connected", "answered c1", "disconnected", "connected"] == [event[0] for event in server.commands.events]


# ---- the end ---------------------------------------------------------------------------------------------------------


def test_revoked_charger_is_closed(server: LiveServer) -> None:
    """And its neighbour is not."""
    charger, neighbour = Charger(server).connect("cp-1"), Charger(server).connect("cp-2")
    assert 3 == neighbour.call("Heartbeat", {})[0]
    wait_until(lambda: server.server.connections == 2)
    server.do(lambda: server.server.disconnect_device(TENANT, DeviceId("cp-1")))
    server.do(lambda: server.server.disconnect_device(TENANT, DeviceId("nobody")))
    assert 1008 == charger.close_code()
    assert 3 == neighbour.call("Heartbeat", {})[0]
    assert ["revoked"] == [event["reason"] for event in events(server, "cp-1", "ocpp/disconnected")]


def test_stop_closes_everybody(tmp_path: Path) -> None:
    """With going away; sockets that never spoke, and logins under way, do not hold it up."""
    with live_server(tmp_path) as server:
        chargers = [Charger(server).connect(f"cp-{i}") for i in range(3)]
        silent = Charger(server)
        server.admission.delay_s = 60.0
        slow = Charger(server)
        slow.send(request("slow"))
        wait_until(lambda: server.server.unauthenticated == 2)
        begin_s = time.monotonic()
        for charger in chargers:
            threading.Thread(target=charger.is_closed).start()
        server.close()
        assert time.monotonic() - begin_s < 8
        assert (True, True) == (silent.is_closed(), slow.is_closed())
    assert 5 == server.counts["shutdown"]


def test_charger_that_never_closes_its_side_is_cut_off(server: LiveServer) -> None:
    """It was told; the socket is not kept for it."""
    charger = Charger(server).connect()
    wait_until(lambda: server.server.connections == 1)
    server.do(lambda: server.server.disconnect_device(TENANT, DeviceId("cp-1")))
    assert charger.is_closed()
    until_s = time.monotonic() + CHARGER_LINGER_S + 5
    with pytest.raises(OSError):
        while time.monotonic() < until_s:
            charger.send(frame(PING, b""))
            time.sleep(0.1)


def test_generation_rises_over_a_restart(tmp_path: Path) -> None:
    """So that nothing meant for a connection before is taken for one after."""
    generations = []
    for _ in range(2):
        with live_server(tmp_path) as server:
            Charger(server).connect().call("Heartbeat", {})
            generations.append(events(server, "cp-1", "ocpp/connected")[-1]["generation"])
    assert generations[0] < generations[1]


def test_reconnecting_fleet_comes_in_at_once(server: LiveServer) -> None:
    """Nobody's handshake waits for another's."""

    async def reconnect() -> list[int]:
        async def one(i: int) -> int:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(request(f"cp-{i}"))
            status = int((await reader.readuntil(b"\r\n\r\n")).split()[1])
            writer.write(frame(1, json.dumps([2, "1", "BootNotification", BOOT_16]).encode()))
            await reader.readexactly(2)
            writer.close()
            return status

        return await asyncio.gather(*(one(i) for i in range(400)))

    server.admission.delay_s = 0.2
    begin_s = time.monotonic()
    statuses = asyncio.run(reconnect())
    assert ({101}, 400) == (set(statuses), [event[0] for event in server.commands.events].count("connected"))
    assert time.monotonic() - begin_s < 10

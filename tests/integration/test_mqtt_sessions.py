"""Sessions over reconnects, wills, takeover, commands and a journal that fails, on real sockets."""

import asyncio
import threading
from pathlib import Path

import pytest

from gateway.core.errors import JournalBroken, JournalFull
from gateway.core.limits import RECEIVE_MAX
from gateway.journal.memory import MemoryJournal
from gateway.wire.mqtt.packets import Ack, Disconnect, PacketType, Property, Publish, Reason, Suback, Will
from tests.integration.mqtt_server import TENANT, LiveServer, live_server, wait_until
from tests.integration.mqtt_socket import Device
from tests.unit.gateway.wire.mqtt.device import ack_bytes, publish_bytes, subscribe_bytes

pytestmark = pytest.mark.integration
COMMANDS = "v1/acme/bus-1/cmd/#"
WILL = Will(topic="v1/acme/bus-1/connectivity", payload=b"gone", qos=1, retain=False, properties={})


def subscribed(device: Device) -> Device:
    """Ask for commands."""
    device.send(subscribe_bytes(COMMANDS, level=device.level))
    assert isinstance(device.read(), Suback)
    return device


def test_same_identity_takes_over(tmp_path: Path) -> None:
    """The newest wins; the old one is told 0x8E and its will is published."""
    with live_server(tmp_path) as server:
        old, new = Device(server), Device(server)
        old.connect(will=WILL)
        assert new.connect().code == 0
        said = old.read()
        assert isinstance(said, Disconnect)
        assert said.code == Reason.SESSION_TAKEN_OVER
        assert old.is_closed()
        server.wait_for("taken_over")
        assert server.listener.connections == 1
        wait_until(lambda: server.payloads("bus-1", "connectivity") == [b"gone"])


def test_will_is_published_unless_the_device_says_goodbye(tmp_path: Path) -> None:
    """A lost socket publishes it; DISCONNECT does not."""
    with live_server(tmp_path) as server:
        polite, rude = Device(server), Device(server)
        polite.connect(will=WILL)
        polite.send(b"\xe0\x00")
        server.wait_for("disconnect")
        rude.connect(will=WILL)
        rude.close()
        server.wait_for("will")
        wait_until(lambda: len(server.messages()) == 1)
    assert server.payloads("bus-1", "connectivity") == [b"gone"]


def test_delayed_will_is_dropped_when_the_device_comes_back(tmp_path: Path) -> None:
    """[MQTT-3.1.3-9]; without a return it is published after its delay."""
    delayed = Will(topic=WILL.topic, payload=b"late", qos=1, retain=False, properties={Property.WILL_DELAY_S: 1})
    keep = {Property.SESSION_EXPIRY_S: 60}
    with live_server(tmp_path) as server:
        first = Device(server)
        first.connect(will=delayed, properties=keep)
        first.close()
        server.wait_for("lost")
        again = Device(server)
        assert again.connect(will=delayed, clean_start=False, properties=keep).session_present
        assert server.messages() == []
        again.close()
        server.wait_for("will")
        wait_until(lambda: server.payloads("bus-1", "connectivity") == [b"late"])


def test_will_on_a_foreign_topic_is_refused(tmp_path: Path) -> None:
    """At CONNECT already."""
    foreign = Will(topic="v1/acme/bus-2/connectivity", payload=b"x", qos=0, retain=False, properties={})
    with live_server(tmp_path) as server:
        five, four = Device(server), Device(server, level=4)
        assert (five.connect(will=foreign).code, four.connect(will=foreign).code) == (Reason.NOT_AUTHORIZED, 5)


@pytest.mark.parametrize("level", [4, 5])
def test_qos_2_is_not_taken_twice_over_a_reconnect(level: int, tmp_path: Path) -> None:
    """The session keeps the identifier until PUBREL."""
    keep = {Property.SESSION_EXPIRY_S: 60} if level == 5 else {}
    packet = publish_bytes(b"once", topic="v1/acme/bus-1/telemetry", qos=2, packet_id=7, level=level)
    again = bytes([packet[0] | 8]) + packet[1:]
    with live_server(tmp_path) as server:
        first = Device(server, level=level)
        assert not first.connect(clean_start=False, properties=keep).session_present
        first.send(packet)
        assert isinstance(first.read(), Ack)
        first.close()
        server.wait_for("lost")
        second = Device(server, level=level)
        assert second.connect(clean_start=False, properties=keep).session_present
        second.send(again)
        assert isinstance(second.read(), Ack)
        second.send(ack_bytes(PacketType.PUBREL, 7, level=level))
        done = second.read()
        assert isinstance(done, Ack)
        assert (done.type, done.code) == (PacketType.PUBCOMP, 0)
        second.close()
    assert server.payloads("bus-1") == [b"once"]


def test_unacknowledged_command_comes_again_with_dup(tmp_path: Path) -> None:
    """After a reconnect, same identifier; once acknowledged it does not come back, not even after a restart."""
    with live_server(tmp_path) as server:
        request_id = server.submit("bus-1", b"go")
        first = Device(server)
        first.connect()
        subscribed(first)
        sent = first.read()
        assert isinstance(sent, Publish)
        assert (f"v1/acme/bus-1/cmd/{request_id}", b"go", False) == (sent.topic, sent.payload, sent.dup)
        first.close()
        server.wait_for("lost")
        second = Device(server)
        second.connect()
        subscribed(second)
        again = second.read()
        assert isinstance(again, Publish)
        assert (sent.packet_id, True) == (again.packet_id, again.dup)
        later = server.submit("bus-1", b"and this")
        assert isinstance(second.read(), Publish)
        second.send(ack_bytes(PacketType.PUBACK, again.packet_id, level=5))
        server.wait_for("acknowledged")
        second.close()
    with live_server(tmp_path) as restarted:
        assert restarted.commands.waiting_commands == 1
        third = Device(restarted)
        third.connect()
        left = subscribed(third).read()
        assert isinstance(left, Publish)
        assert f"v1/acme/bus-1/cmd/{later}" == left.topic
        third.close()


def test_journal_failure_is_told_in_version_5_and_closes_3_1_1(tmp_path: Path) -> None:
    """Not acknowledged, counted, and the next message after the disk is back is."""
    journal = MemoryJournal()

    async def commit() -> None:
        journal.commit()

    async def fail(*, is_full: bool) -> None:
        journal.fail(JournalFull("no space") if is_full else None)

    def committed(server: LiveServer, n: int) -> None:
        wait_until(lambda: server.listener.received >= n)
        server.on_loop(commit())

    with live_server(tmp_path, journal=journal) as server:
        five, four = Device(server), Device(server, level=4)
        five.connect("bus-1")
        four.connect("bus-2")
        server.on_loop(fail(is_full=True))
        five.send(
            publish_bytes(b"1", topic="v1/acme/bus-1/t", level=5)
            + publish_bytes(b"2", topic="v1/acme/bus-1/t", qos=2, packet_id=2, level=5)
        )
        four.send(publish_bytes(b"3", topic="v1/acme/bus-2/t"))
        committed(server, 3)
        answers = [five.read(), five.read()]
        assert [(one.type, one.code) for one in answers if isinstance(one, Ack)] == [
            (PacketType.PUBACK, 0x97),
            (PacketType.PUBREC, 0x97),
        ]
        assert four.is_closed()
        assert server.counts["not_durable"] == 3
        server.on_loop(fail(is_full=False))
        five.send(publish_bytes(b"4", topic="v1/acme/bus-1/t", packet_id=3, level=5))
        committed(server, 4)
        answer = five.read()
        assert isinstance(answer, Ack)
        assert (answer.packet_id, answer.code) == (3, 0)
        assert [
            entry.envelope.payload
            for entry in journal.read(journal.start_offset(), rows_max=9, bytes_max=999).entries()
        ] == [b"4"]


def test_journal_that_takes_nothing_is_told_at_once(tmp_path: Path) -> None:
    """A refused append: 0x97 in version 5, a close in 3.1.1; received = acknowledged + not durable."""
    journal = MemoryJournal()
    will = Will(topic="v1/acme/bus-2/connectivity", payload=b"gone", qos=1, retain=False, properties={})

    async def break_it() -> None:
        journal.fail(JournalBroken("fdatasync failed"))

    with live_server(tmp_path, journal=journal) as server:
        five, four = Device(server), Device(server, level=4)
        five.connect("bus-1")
        four.connect("bus-2", will=will)
        server.on_loop(break_it())
        five.send(publish_bytes(topic="v1/acme/bus-1/t", level=5) * 2)
        answers = [five.read(), five.read()]
        assert [0x97, 0x97] == [one.code for one in answers if isinstance(one, Ack)]
        four.send(publish_bytes(topic="v1/acme/bus-2/t"))
        assert four.is_closed()
        server.wait_for("not_durable", 4)
        assert (4, 0, 4) == (server.listener.received, server.listener.acknowledged, server.counts["not_durable"])
        assert 1 == server.listener.connections


def test_nothing_is_acknowledged_before_it_is_durable(tmp_path: Path) -> None:
    """The PUBACK comes with the commit, not before."""
    journal = MemoryJournal()

    async def commit() -> None:
        journal.commit()

    with live_server(tmp_path, journal=journal) as server:
        device = Device(server)
        device.connect()
        device.send(publish_bytes(topic="v1/acme/bus-1/t", level=5) + b"\xc0\x00")
        answer = device.read()
        assert type(answer).__name__ == "Ping"
        device.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            device.read()
        server.on_loop(commit())
        device.socket.settimeout(10)
        assert isinstance(device.read(), Ack)


def test_messages_of_a_lost_connection_come_before_those_of_the_next(tmp_path: Path) -> None:
    """A takeover waits for what the old connection sent to meet its fate."""
    journal = MemoryJournal()

    async def commit() -> None:
        journal.commit()

    with live_server(tmp_path, journal=journal) as server:
        old = Device(server)
        old.connect()
        old.send(publish_bytes(b"old", topic="v1/acme/bus-1/t", qos=2, level=5))
        wait_until(lambda: server.listener.received == 1)
        new = Device(server)
        new.send(b"")
        new.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            new.connect()
        server.on_loop(commit())
        new.socket.settimeout(10)
        assert type(new.read()).__name__ == "Connack"


def test_refusals_wait_for_earlier_acknowledgements(tmp_path: Path) -> None:
    """PUBACKs leave in the order of the publishes, also when the later one waits for no disk [MQTT-4.6.0-2]."""
    journal = MemoryJournal()

    async def commit() -> None:
        journal.commit()

    with live_server(tmp_path, journal=journal) as server:
        device = Device(server)
        device.connect()
        device.send(publish_bytes(topic="v1/acme/bus-1/t", packet_id=1, level=5))
        wait_until(lambda: server.listener.received == 1)
        device.send(publish_bytes(topic="v1/acme/bus-2/t", packet_id=2, level=5))
        server.wait_for("topic_not_own")
        server.on_loop(commit())
        answers = [device.read(), device.read()]
        assert [(one.packet_id, one.code) for one in answers if isinstance(one, Ack)] == [(1, 0), (2, 0x87)]


def test_device_is_not_read_while_too_much_of_it_waits_for_the_disk(tmp_path: Path) -> None:
    """With a disk that stands still memory stays bounded; when it moves, everything arrives."""
    n = 50_000
    journal = MemoryJournal()

    async def commit() -> None:
        journal.commit()

    with live_server(tmp_path, journal=journal) as server:
        device = Device(server, level=4)
        device.connect()
        chunk = b"".join(publish_bytes(b"x" * 200, topic="v1/acme/bus-1/t", packet_id=i + 1) for i in range(n))
        sender = threading.Thread(target=device.send, args=(chunk,))
        sender.start()
        wait_until(lambda: len(server.listener.paused) == 1)
        # The run that crossed the bound is whole; it came from one read of the socket, 256 KiB at most.
        assert RECEIVE_MAX <= server.listener.received <= RECEIVE_MAX + 256 * 1024 // 200

        def is_all_acknowledged() -> bool:
            server.on_loop(commit())
            return server.listener.acknowledged == n

        wait_until(is_all_acknowledged)
        sender.join()
        assert n == journal.end_offset()


def test_close_acknowledges_what_was_read_and_says_goodbye(tmp_path: Path) -> None:
    """0x8B after the last PUBACK; wills stay unpublished: the server goes, not the device."""
    with live_server(tmp_path) as server:
        device = Device(server)
        device.connect(will=WILL)
        device.send(
            b"".join(publish_bytes(bytes([i]), topic="v1/acme/bus-1/t", packet_id=i + 1, level=5) for i in range(100))
        )
        wait_until(lambda: server.listener.received == 100)
        server.close()
        packets = [device.read() for _ in range(101)]
        assert list(range(1, 101)) == [one.packet_id for one in packets if isinstance(one, Ack)]
        last = packets[-1]
        assert isinstance(last, Disconnect)
        assert last.code == Reason.SERVER_SHUTTING_DOWN
        assert server.payloads("bus-1", "connectivity") == []


def test_revoked_device_is_disconnected(tmp_path: Path) -> None:
    """0x98, and its session ends."""

    async def revoke(server: LiveServer) -> None:
        await asyncio.sleep(0)
        server.listener.disconnect_device(TENANT, "bus-1")  # type: ignore[arg-type]

    with live_server(tmp_path) as server:
        device = Device(server)
        device.connect(properties={Property.SESSION_EXPIRY_S: 60})
        server.on_loop(revoke(server))
        said = device.read()
        assert isinstance(said, Disconnect)
        assert said.code == Reason.ADMINISTRATIVE_ACTION
        assert server.listener.parked_sessions == 0


def test_3_1_1_device_may_send_ahead_without_bound(tmp_path: Path) -> None:
    """It knows no receive maximum: its socket is paused, and everything arrives, in order."""
    n = 20_000
    with live_server(tmp_path) as server:
        device = Device(server, level=4)
        device.connect()
        chunk = b"".join(
            publish_bytes(b"%06d" % i + b"x" * 200, topic="v1/acme/bus-1/t", packet_id=i % 65_535 + 1) for i in range(n)
        )
        device.send(chunk)
        acks = [device.read() for _ in range(n)]
        assert [i % 65_535 + 1 for i in range(n)] == [ack.packet_id for ack in acks if isinstance(ack, Ack)]
        assert [b"%06d" % i for i in range(n)] == [payload[:6] for payload in server.payloads("bus-1", "t")]

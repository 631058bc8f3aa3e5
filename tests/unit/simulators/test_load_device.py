"""One load device against a transport and a loop that only remember: what it writes, what it makes of answers."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

import pytest

from simulators import packets
from simulators.latency import LatencyHistogram
from simulators.load_device import LoadDevice

CONNACK = b"\x20\x02\x00\x00"
TOPIC = "v1/default/50%off/telemetry"
PAYLOAD_AT = 1 + 2 + 2 + len(TOPIC) + 2


class Transport:
    """Remembers what was written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.aborted = True


def device(*, window: int = 8, refill: int | None = 1, on_acknowledged: Any = None) -> LoadDevice:
    return LoadDevice(
        device_id="50%off",
        topic=TOPIC,
        window=window,
        connect=b"CONNECT",
        refill=refill,
        latency=LatencyHistogram(),
        on_acknowledged=on_acknowledged,
    )


def connected(made: LoadDevice, then: Callable[[Transport], None]) -> None:
    """Run `then` with the transport of a device that was accepted."""

    async def run() -> None:
        transport = Transport()

        async def connector(factory: Callable[[], asyncio.Protocol]) -> None:
            factory().connection_made(cast("asyncio.BaseTransport", transport))
            made.data_received(CONNACK)

        await made.open(connector)
        then(transport)

    asyncio.run(run())


def puback(n: int) -> bytes:
    """The acknowledgement of a connection's message `n`, from 0."""
    return b"\x40\x02" + (n % packets.PACKET_IDS + 1).to_bytes(2, "big")


def published(data: bytes) -> list[bytes]:
    """Split what was written into packets, which all have the length of the first."""
    size = 3 + (data[1] & 0x7F) + (data[2] << 7)
    assert len(data) % size == 0
    return [data[i : i + size] for i in range(0, len(data), size)]


def test_started_device_fills_its_window_with_valid_distinct_readings():
    """Every payload is JSON with its own number and time, and packet identifiers count from 1."""

    def check(transport: Transport) -> None:
        made.start()
        sent = published(transport.written[-1])
        readings = [json.loads(packet[PAYLOAD_AT:]) for packet in sent]
        assert list(range(8)) == [reading["seq"] for reading in readings]
        assert len({reading["ts"] for reading in readings}) == 8
        assert {"50%off"} == {reading["device_id"] for reading in readings}
        assert [i.to_bytes(2, "big") for i in range(1, 9)] == [p[PAYLOAD_AT - 2 : PAYLOAD_AT] for p in sent]
        assert 290 <= len(sent[0]) - PAYLOAD_AT <= 320

    made = device()
    connected(made, check)


def test_closed_loop_sends_one_message_for_each_acknowledgement():
    """The window stays full and is never exceeded."""

    def check(transport: Transport) -> None:
        made.start()
        made.data_received(puback(0) + puback(1) + puback(2))
        assert len(published(transport.written[-1])) == 3
        assert (made.sent, made.acknowledged, made.room) == (11, 3, 0)

    made = device()
    connected(made, check)


def test_window_is_topped_up_only_when_a_refill_is_worth_it():
    """With refill 4, three acknowledgements send nothing and the fourth sends four."""

    def check(transport: Transport) -> None:
        made.start()
        for n in range(3):
            made.data_received(puback(n))
        assert made.sent == 8
        made.data_received(puback(3))
        assert made.sent == 12

    made = device(refill=4)
    connected(made, check)


@pytest.mark.parametrize("cut", range(1, 8))
def test_acknowledgements_count_however_they_are_cut(cut: int):
    """Two PUBACKs in two pieces are two acknowledgements."""

    def check(_transport: Transport) -> None:
        made.start()
        both = puback(0) + puback(1)
        made.data_received(both[:cut])
        made.data_received(both[cut:])
        assert made.acknowledged == 2

    made = device()
    connected(made, check)


@pytest.mark.parametrize("answer", [puback(1), puback(0) + puback(2), puback(0) * 2, b"\x40\x80\x01"])
def test_server_that_breaks_the_order_is_named_and_left(answer: bytes):
    """A witness that tolerated it would not be one."""

    def check(transport: Transport) -> None:
        made.start()
        made.data_received(answer)
        assert transport.aborted
        assert made.failure is not None

    made = device()
    connected(made, check)


def test_acknowledgement_without_a_message_is_a_fault_of_the_server():
    """Nothing was sent, so nothing can be acknowledged."""

    def check(transport: Transport) -> None:
        made.data_received(puback(0))
        assert transport.aborted

    made = device(refill=None)
    connected(made, check)


def test_reconnected_device_resends_the_unacknowledged_with_dup():
    """Same bytes but for the flag, in order, before anything new; and they are acknowledged like the first time."""
    noted: list[tuple[int, list[bytes]]] = []
    made = device(window=4, on_acknowledged=lambda seq, payloads: noted.append((seq, payloads)))
    first: list[bytes] = []

    def lose(transport: Transport) -> None:
        made.start()
        first.extend(published(transport.written[-1]))
        made.data_received(puback(0))
        first.extend(published(transport.written[-1]))
        made.connection_lost(None)

    def resend(transport: Transport) -> None:
        assert [packets.as_resent(p) for p in first[1:]] == published(transport.written[-1])
        made.data_received(b"".join(map(puback, range(1, 5))))

    connected(made, lose)
    connected(made, resend)
    assert [(0, [first[0][PAYLOAD_AT:]]), (1, [p[PAYLOAD_AT:] for p in first[1:]])] == noted
    assert (made.sent, made.acknowledged, made.resent) == (9, 5, 4)


def test_packet_identifiers_begin_again_after_the_last():
    """65,535 messages later the first identifier is free again."""

    def check(transport: Transport) -> None:
        made.publish(packets.PACKET_IDS)
        made.data_received(packets.pubacks()[: packets.PACKET_IDS * 4])
        made.publish(2)
        assert [p[PAYLOAD_AT - 2 : PAYLOAD_AT] for p in published(transport.written[-1])] == [b"\x00\x01", b"\x00\x02"]
        made.data_received(puback(packets.PACKET_IDS) + puback(packets.PACKET_IDS + 1))
        assert made.acknowledged == packets.PACKET_IDS + 2

    made = device(window=packets.PACKET_IDS, refill=None)
    connected(made, check)


def test_silent_device_pings_and_a_busy_one_does_not():
    """Keep alive counts from the last packet of any kind."""

    def check(transport: Transport) -> None:
        made.publish(1)
        made.ping()
        assert transport.written[-1] != packets.PINGREQ
        made.ping()
        assert transport.written[-1] == packets.PINGREQ

    made = device(refill=None)
    connected(made, check)

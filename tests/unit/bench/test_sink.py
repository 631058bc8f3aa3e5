"""The counting sink acknowledges what is whole and keeps the rest."""

from simulators import packets
from tests.bench.sink import CONNACK, answer


def publish(packet_id: int, payload: bytes) -> bytes:
    """Return a QoS 1 PUBLISH."""
    return packets.publish_head("v1/t/d/telemetry", len(payload)) + packet_id.to_bytes(2, "big") + payload


def test_each_message_is_acknowledged_in_order_at_any_cut() -> None:
    """Wherever the bytes are cut, the answers are the same and nothing is left."""
    stream = packets.connect("d", None) + publish(1, b"x" * 300) + publish(65_535, b"") + packets.PINGREQ
    expected = CONNACK + b"\x40\x02\x00\x01" + b"\x40\x02\xff\xff" + b"\xd0\x00"
    for cut in range(len(stream) + 1):
        first, rest = answer(stream[:cut])
        second, left = answer(rest + stream[cut:])
        assert (expected, b"") == (first + second, left)

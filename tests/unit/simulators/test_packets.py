"""The load generator's packets are those of MQTT 3.1.1."""

import pytest

from simulators import packets


def test_connect_with_credentials_has_the_bytes_of_section_3_1():
    """Protocol name and level, flags for name, password and clean session, keep alive, then the three texts."""
    body = b"\x00\x04MQTT\x04\xc2\x00\x3c\x00\x03bus\x00\x01u\x00\x02pw"
    assert b"\x10" + bytes([len(body)]) + body == packets.connect("bus", ("u", "pw"))


def test_connect_without_credentials_keeps_the_session_when_asked():
    """No flag is set, and nothing follows the client id."""
    body = b"\x00\x04MQTT\x04\x00\x00\x0a\x00\x03bus"
    assert b"\x10" + bytes([len(body)]) + body == packets.connect("bus", None, keep_alive_s=10, clean_session=False)


def test_publish_head_counts_identifier_and_payload():
    """The remaining length is topic + 2 for the identifier + payload, in as many digits as it takes."""
    head = packets.publish_head("a/b", 300)
    assert head == b"\x32\xb3\x02\x00\x03a/b"


@pytest.mark.parametrize(
    ("length", "digits"),
    [(127, b"\x7f"), (128, b"\x80\x01"), (16_383, b"\xff\x7f"), (16_384, b"\x80\x80\x01")],
)
def test_remaining_length_is_coded_as_in_table_2_4(length: int, digits: bytes):
    """The borders of the standard's table."""
    head = packets.publish_head("t", length - 5)
    assert digits == head[1 : 1 + len(digits)]
    assert head[1 + len(digits) :] == b"\x00\x01t"


def test_acknowledgements_run_over_the_end_of_the_identifiers():
    """After 65535 comes 1, and the two are neighbours in the table."""
    at = (packets.PACKET_IDS - 1) * 4
    assert packets.pubacks()[at : at + 8] == b"\x40\x02\xff\xff\x40\x02\x00\x01"


def test_resent_packet_differs_in_its_flag_alone():
    """DUP is bit 3 of the first byte."""
    assert packets.as_resent(b"\x32\x05rest") == b"\x3a\x05rest"


@pytest.mark.parametrize("cut", range(9))
def test_any_cut_of_the_answers_gives_the_same_packets(cut: int):
    """CONNACK, PUBACK and PINGRESP, in two pieces."""
    stream = b"\x20\x02\x00\x00\x40\x02\x00\x07\xd0\x00"
    first, rest = packets.split(stream[:cut])
    second, left = packets.split(rest + stream[cut:])
    assert first + second == [(2, b"\x00\x00"), (4, b"\x00\x07"), (13, b"")]
    assert left == b""


def test_long_answer_is_refused():
    """No server says anything of 128 bytes to this client, so its length is a sign of another protocol."""
    with pytest.raises(ValueError, match="longer than any answer"):
        packets.split(b"\x40\x80\x01")

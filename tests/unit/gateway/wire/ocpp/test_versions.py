"""Which version a handshake ends with."""

from gateway.wire.ocpp.versions import Version, choose


def test_the_stations_order_of_preference_counts() -> None:
    """A station that offers an older version first gets it."""
    assert Version.V16 is choose(["ocpp1.6", "ocpp2.1", "ocpp2.0.1"])
    assert Version.V21 is choose(["ocpp2.1", "ocpp1.6"])


def test_what_nobody_here_speaks_is_passed_over() -> None:
    """Unknown names come first, and a known one is taken all the same."""
    assert Version.V201 is choose(["ocpp2.2", "ocpp2.0", "OCPP1.6", "ocpp2.0.1"])


def test_nothing_known_gives_nothing() -> None:
    """No sub-protocol, and none of ours, are both no choice."""
    assert None is choose([])
    assert None is choose(["ocpp1.5", "ws-chat", ""])

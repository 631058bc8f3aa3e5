"""A lost call is found, and stations that knock at a closed port do not answer themselves."""

from pathlib import Path

from tests.bench.ocpp_reconnect import listen_overflows, lost_calls, steady_port


def test_a_call_that_was_acknowledged_and_is_not_there_is_lost() -> None:
    """A call in the journal that nobody acknowledged is no loss; its station will resend it."""
    found = {"CP-00000": {1, 2, 3}, "CP-00001": {1, 3}, "CP-00002": set[int]()}
    assert [("CP-00001", 2)] == lost_calls(found, [2, 3, 0])


def test_the_port_of_an_outage_is_none_that_a_client_is_given() -> None:
    """A client on the very port it connects to is connected to itself, and keeps the server from coming back."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert 1024 < steady_port() < lowest


def test_the_overflows_of_listen_queues_are_read() -> None:
    """The kernel writes a line of names and a line of values for each group."""
    text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 44 13866 13867\nIpExt: InOctets\nIpExt: 5\n"
    assert 13866 == listen_overflows(text)

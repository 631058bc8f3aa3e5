"""Which call an id meant."""

from gateway.core.limits import OCPP_CALLS_REMEMBERED_MAX, OCPP_STATIONS_REMEMBERED_MAX
from gateway.wire.ocpp.answered import AnsweredCalls, AnsweredStations, FirstCall


def is_durable(calls: AnsweredCalls, message_id: str, fingerprint: int) -> bool:
    """Return whether a resend of a call would get its answer."""
    first = calls.find(message_id, fingerprint)
    return isinstance(first, FirstCall) and first.is_durable


def test_the_same_id_with_the_same_content_is_the_first_call() -> None:
    """And has its answer once it is durable."""
    calls = AnsweredCalls()
    calls.remember("m", 1, b"answer", connection=1)
    first = calls.find("m", 1)
    assert first is not None
    assert (b"answer", False) == (first.answer, first.is_durable)
    calls.settled("m")
    assert first.is_durable


def test_the_same_id_with_other_content_is_a_new_call() -> None:
    """Counters restart when a station boots, and 2.1 allows it anyway."""
    calls = AnsweredCalls()
    calls.remember("m", 1, b"one", connection=1)
    calls.settled("m")
    assert None is calls.find("m", 2)
    calls.remember("m", 2, b"two", connection=1)
    assert None is calls.find("m", 1)
    calls.settled("m")
    assert is_durable(calls, "m", 2)


def test_a_call_that_failed_is_forgotten() -> None:
    """Its resend is processed."""
    calls = AnsweredCalls()
    calls.remember("m", 1, b"answer", connection=1)
    calls.failed("m")
    assert None is calls.find("m", 1)
    assert 0 == len(calls)


def test_two_calls_under_way_with_one_id_are_never_mistaken() -> None:
    """Whichever of both the disk takes, neither's answer is given for the other."""
    for first_settles in (True, False):
        calls = AnsweredCalls()
        calls.remember("m", 1, b"one", connection=1)
        calls.remember("m", 2, b"two", connection=1)
        (calls.settled if first_settles else calls.failed)("m")
        assert not is_durable(calls, "m", 1)
        assert not is_durable(calls, "m", 2)
        calls.remember("m", 3, b"three", connection=1)
        calls.settled("m")
        assert not is_durable(calls, "m", 3)
        calls.settled("m")
        assert 0 == len(calls)


def test_the_oldest_answered_call_is_forgotten_past_the_bound() -> None:
    """And the newest are all there."""
    calls = AnsweredCalls()
    for i in range(OCPP_CALLS_REMEMBERED_MAX + 3):
        calls.remember(f"m{i}", i, b"", connection=1)
        calls.settled(f"m{i}")
    assert OCPP_CALLS_REMEMBERED_MAX == len(calls)
    remembered = [i for i in range(OCPP_CALLS_REMEMBERED_MAX + 3) if is_durable(calls, f"m{i}", i)]
    assert list(range(3, OCPP_CALLS_REMEMBERED_MAX + 3)) == remembered


def test_a_call_that_waits_for_the_disk_is_not_forgotten_for_others() -> None:
    """Else a later call with its id would be taken for durable when the first one is."""
    calls = AnsweredCalls()
    calls.remember("waiting", 0, b"", connection=1)
    for i in range(OCPP_CALLS_REMEMBERED_MAX * 2):
        calls.remember(f"m{i}", i, b"", connection=1)
        calls.settled(f"m{i}")
    assert None is not calls.find("waiting", 0)
    assert OCPP_CALLS_REMEMBERED_MAX == len(calls)


def test_a_word_about_an_unknown_call_changes_nothing() -> None:
    """The disk may speak of a call whose station was forgotten."""
    calls = AnsweredCalls()
    calls.settled("m")
    calls.failed("m")
    calls.remember("m", 1, b"", connection=1)
    calls.settled("m")
    calls.settled("m")
    calls.failed("m")
    assert is_durable(calls, "m", 1)


def test_a_station_finds_its_calls_again() -> None:
    """Over connections, and not those of another tenant's station of the same name."""
    stations = AnsweredStations()
    calls = stations.of("t", "d")
    assert calls is stations.of("t", "d")
    assert calls is not stations.of("u", "d")
    assert (1, 2) == (calls.connect(), calls.connect())


def test_the_station_that_connected_longest_ago_is_forgotten_past_the_bound() -> None:
    """One that came back stays."""
    stations = AnsweredStations()
    first, second = stations.of("t", "0"), stations.of("t", "1")
    for i in range(2, OCPP_STATIONS_REMEMBERED_MAX):
        stations.of("t", str(i))
    assert first is stations.of("t", "0")
    stations.of("t", "one more")
    assert OCPP_STATIONS_REMEMBERED_MAX == len(stations)
    assert first is stations.of("t", "0")
    assert second is not stations.of("t", "1")

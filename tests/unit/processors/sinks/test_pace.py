"""Rate, circuit and pauses, with time and chance as arguments."""

import pytest

from gateway.core.limits import (
    CIRCUIT_FAILURES,
    CIRCUIT_OPEN_FIRST_S,
    CIRCUIT_OPEN_S_MAX,
    NOTICE_RETRY_AFTER_S_MAX,
    NOTICE_RETRY_FIRST_S,
    NOTICE_RETRY_S_MAX,
)
from processors.sinks.pace import Circuit, Rate, retry_pause_s


@pytest.mark.parametrize(("attempts", "bound_s"), [(1, 2.0), (2, 4.0), (3, 8.0), (8, 256.0), (9, 300.0), (9999, 300.0)])
def test_pause_doubles_up_to_its_bound(attempts, bound_s):
    """Full jitter draws evenly from zero to the bound."""
    assert (2.0, 300.0) == (NOTICE_RETRY_FIRST_S, NOTICE_RETRY_S_MAX)
    assert 0.0 == retry_pause_s(attempts, None, lambda: 0.0)
    assert bound_s / 2 == retry_pause_s(attempts, None, lambda: 0.5)


def test_asked_pause_is_kept_and_bounded():
    """Retry-After is a minimum, and no receiver can ask for a year."""
    assert 60.0 == retry_pause_s(1, 60.0, lambda: 0.9)
    assert NOTICE_RETRY_AFTER_S_MAX == retry_pause_s(1, 1e9, lambda: 0.9)


def test_rate_lets_a_burst_go_and_then_its_share():
    """60 a minute: ten at once, then one a second."""
    rate = Rate(per_minute=60, now_s=0.0)
    assert 10 == rate.available(0.0)
    for _ in range(10):
        assert 0.0 == rate.wait_s(0.0)
        rate.take(0.0)
    assert 1.0 == pytest.approx(rate.wait_s(0.0))
    assert 0.5 == pytest.approx(rate.wait_s(0.5))
    assert 0.0 == pytest.approx(rate.wait_s(1.0))


def test_slow_rate_still_lets_one_go():
    """One a minute has a burst of one."""
    rate = Rate(per_minute=1, now_s=0.0)
    rate.take(0.0)
    assert 60.0 == pytest.approx(rate.wait_s(0.0))
    assert 1 == rate.available(1000.0)


def opened(now_s: float = 0.0) -> Circuit:
    circuit = Circuit()
    for _ in range(CIRCUIT_FAILURES):
        circuit.failed(now_s)
    return circuit


def test_circuit_opens_after_failures_in_a_row():
    """A success in between begins the count anew."""
    circuit = Circuit()
    for _ in range(CIRCUIT_FAILURES - 1):
        assert not circuit.failed(0.0)
    assert not circuit.succeeded()
    for _ in range(CIRCUIT_FAILURES - 1):
        assert not circuit.failed(0.0)
    assert "closed" == circuit.state(0.0)
    assert circuit.failed(0.0)
    assert "open" == circuit.state(0.0)


def test_open_circuit_asks_with_one_and_stays_open_longer():
    """Each probe that fails doubles the time, up to a bound."""
    circuit = opened()
    spans, now_s = [], 0.0
    for _ in range(6):
        wait_s = circuit.wait_s(now_s)
        spans.append(wait_s)
        now_s += wait_s
        assert "half-open" == circuit.state(now_s)
        assert not circuit.failed(now_s)
    assert [5.0, 10.0, 20.0, 40.0, 60.0, 60.0] == spans
    assert (5.0, 60.0) == (CIRCUIT_OPEN_FIRST_S, CIRCUIT_OPEN_S_MAX)


def test_probe_that_succeeds_closes_the_circuit():
    """And the next opening is short again."""
    circuit = opened()
    assert circuit.succeeded()
    assert "closed" == circuit.state(CIRCUIT_OPEN_FIRST_S)
    for _ in range(CIRCUIT_FAILURES):
        circuit.failed(100.0)
    assert CIRCUIT_OPEN_FIRST_S == circuit.wait_s(100.0)


def test_failure_of_a_try_from_before_does_not_lengthen_it():
    """Several are under way when a receiver dies; they are one failure of it."""
    circuit = opened()
    circuit.failed(0.1)
    assert CIRCUIT_OPEN_FIRST_S == circuit.wait_s(0.0)


def test_asked_for_pause_stops_everything_and_then_asks_with_one():
    """Retry-After is about the receiver, not about one message."""
    circuit = Circuit()
    circuit.pause(30.0)
    circuit.pause(10.0)
    assert 30.0 == circuit.wait_s(0.0)
    assert "half-open" == circuit.state(30.0)

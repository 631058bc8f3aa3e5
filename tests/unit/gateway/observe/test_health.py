"""Health: named checks and the loop's heartbeat."""

from gateway.observe.health import Heartbeat, failures


def test_a_loop_that_turns_is_healthy_until_it_does_not() -> None:
    """The check fails after two seconds without a beat and names the loop and the time."""
    now_s = [100.0]
    heartbeat = Heartbeat(now_s=lambda: now_s[0], name="pump")
    now_s[0] += 2.0
    assert heartbeat.check() is None
    now_s[0] += 0.5
    assert heartbeat.check() == "pump has not turned for 2.5 s"
    heartbeat.beat()
    assert (heartbeat.age_s, heartbeat.check()) == (0.0, None)


def test_only_failing_checks_are_named() -> None:
    """An empty answer means healthy."""
    assert failures({"a": lambda: None, "b": lambda: "is full", "c": lambda: None}) == {"b": "is full"}
    assert failures({}) == {}

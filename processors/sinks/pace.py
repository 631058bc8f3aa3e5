"""How fast and how often a receiver is tried: rate, circuit, pauses. Pure: time and chance are arguments."""

from collections.abc import Callable
from typing import Final, Literal

from gateway.core.limits import (
    CIRCUIT_FAILURES,
    CIRCUIT_OPEN_FIRST_S,
    CIRCUIT_OPEN_S_MAX,
    NOTICE_RETRY_AFTER_S_MAX,
    NOTICE_RETRY_FIRST_S,
    NOTICE_RETRY_S_MAX,
)

CircuitState = Literal["closed", "open", "half-open"]
_DOUBLINGS_MAX: Final = 32
_BURST_S: Final = 10.0
"""A receiver may get at once what its rate allows in this time: a fault on one site makes a few notices together."""


def retry_pause_s(attempts: int, asked_s: float | None, chance: Callable[[], float]) -> float:
    """Return how long to wait before the next try: exponential with full jitter, and never less than asked.

    Full jitter (evenly from zero to the bound) spreads the tries of many senders best and does the least work:
    Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    Args:
        attempts: Tries so far, at least 1.
        asked_s: What the receiver asked for with Retry-After, or None.
        chance: Returns a number in [0, 1).
    """
    bound_s = min(NOTICE_RETRY_S_MAX, NOTICE_RETRY_FIRST_S * 2.0 ** min(attempts - 1, _DOUBLINGS_MAX))
    return max(chance() * bound_s, min(asked_s or 0.0, NOTICE_RETRY_AFTER_S_MAX))


class Rate:
    """A token bucket.

    Args:
        per_minute: Tokens that come back in a minute, positive.
        now_s: Monotonic seconds; the bucket begins full.
    """

    def __init__(self, *, per_minute: float, now_s: float) -> None:
        self._per_s = per_minute / 60
        self._burst = max(1.0, self._per_s * _BURST_S)
        self._tokens, self._at_s = self._burst, now_s

    def wait_s(self, now_s: float) -> float:
        """Return how long until a token is there; 0.0 for now."""
        self._fill(now_s)
        return max(0.0, (1.0 - self._tokens) / self._per_s)

    def available(self, now_s: float) -> int:
        """Return how many tokens are there."""
        self._fill(now_s)
        return int(self._tokens)

    def take(self, now_s: float) -> None:
        """Take one."""
        self._fill(now_s)
        self._tokens -= 1.0

    def _fill(self, now_s: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s


class Circuit:
    """Leaves a receiver alone that fails again and again, and then asks with one message at a time.

    closed --`CIRCUIT_FAILURES` in a row--> open --time--> half-open --success--> closed, --failure--> open for longer
    """

    def __init__(self) -> None:
        self._failures = 0
        self._open_s = CIRCUIT_OPEN_FIRST_S
        self._until_s: float | None = None

    def state(self, now_s: float) -> CircuitState:
        """Return whether messages may go: all of them, none, or one."""
        if self._until_s is None:
            return "closed"
        return "open" if now_s < self._until_s else "half-open"

    def wait_s(self, now_s: float) -> float:
        """Return how long nothing may be sent; 0.0 where something may."""
        return 0.0 if self._until_s is None else max(0.0, self._until_s - now_s)

    def succeeded(self) -> bool:
        """Note that the receiver answered; return whether that closed the circuit."""
        was_open = self._until_s is not None
        self._failures, self._until_s, self._open_s = 0, None, CIRCUIT_OPEN_FIRST_S
        return was_open

    def failed(self, now_s: float) -> bool:
        """Note that it did not; return whether that opened a closed circuit."""
        self._failures += 1
        if self._until_s is not None:
            if now_s < self._until_s:
                return False  # sent before it opened
            self._open_s = min(self._open_s * 2, CIRCUIT_OPEN_S_MAX)
            self._until_s = now_s + self._open_s
            return False
        if self._failures < CIRCUIT_FAILURES:
            return False
        self._until_s = now_s + self._open_s
        return True

    def pause(self, until_s: float) -> None:
        """Send nothing before a moment: the receiver asked for it. Then one message asks whether it answers."""
        if self._until_s is None or until_s > self._until_s:
            self._until_s = until_s

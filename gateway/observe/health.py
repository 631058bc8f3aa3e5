"""Health as named checks that say why they fail.

A check takes nothing and returns None, or one line for the operator. It must not block and never asks a remote store: a
restart of this process would mend neither.
"""

from collections.abc import Callable, Mapping
from typing import Final

Check = Callable[[], str | None]

HEARTBEAT_AGE_MAX_S: Final = 2.0
"""A loop that has not turned for so long is stuck: an honest step of the gateway takes 10 ms."""


class Heartbeat:
    """Knows when a loop turned last. Written by the loop's thread, read by any.

    Args:
        now_s: Monotonic seconds.
        name: What the failing check calls the loop.
        age_max_s: Age from which the loop counts as stuck.
    """

    def __init__(self, *, now_s: Callable[[], float], name: str = "event loop", age_max_s: float = HEARTBEAT_AGE_MAX_S):
        self._now_s, self._name, self._age_max_s = now_s, name, age_max_s
        self._at_s = now_s()

    def beat(self) -> None:
        """Say that the loop turned."""
        self._at_s = self._now_s()

    @property
    def age_s(self) -> float:
        """Seconds since the loop turned last."""
        return self._now_s() - self._at_s

    def check(self) -> str | None:
        """Return None while the loop turns."""
        age_s = self.age_s
        return None if age_s <= self._age_max_s else f"{self._name} has not turned for {age_s:.1f} s"


def failures(checks: Mapping[str, Check]) -> dict[str, str]:
    """Return name and reason of every check that fails now."""
    return {name: reason for name, check in checks.items() if (reason := check()) is not None}

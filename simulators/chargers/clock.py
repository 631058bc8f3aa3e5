"""Simulated time, and how long it takes in real time."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

from simulators.chargers.meter import US_PER_S


class Clock:
    """Runs `pace` times as fast as the computer's.

    Args:
        began_us: First moment, UTC microseconds since 1970.
        pace: Simulated seconds per real second.
        monotonic_s: The computer's clock.
    """

    def __init__(self, *, began_us: int, pace: float, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._began_us, self._pace, self._monotonic_s = began_us, pace, monotonic_s
        self._began_s = monotonic_s()

    def now_us(self) -> int:
        """Return the simulated time."""
        return self._began_us + int((self._monotonic_s() - self._began_s) * self._pace * US_PER_S)

    def real_s(self, until_us: int) -> float:
        """Return the real seconds until a simulated time, negative when it is over."""
        return (until_us - self._began_us) / US_PER_S / self._pace + self._began_s - self._monotonic_s()

    async def wait(self, until_us: int, event: asyncio.Event) -> bool:
        """Wait until a simulated time, or until the event is set; return whether it was, and clear it."""
        try:
            async with asyncio.timeout(max(self.real_s(until_us), 0.0)):
                await event.wait()
        except TimeoutError:
            return False
        event.clear()
        return True


def iso(at_us: int) -> str:
    """Return UTC microseconds since 1970 as ISO 8601 with milliseconds, as chargers have them."""
    second, us = divmod(at_us, US_PER_S)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{us // 1000:03d}Z"

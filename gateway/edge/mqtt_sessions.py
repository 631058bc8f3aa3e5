"""Sessions and wills of devices that are not connected: kept for a while, bounded, in memory.

A restart of the gateway ends every session, which the standard allows and every client survives: it is told "no session
present" and starts again. What was acknowledged is in the journal; what was not is sent again.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

import msgspec

from gateway.core.limits import SESSIONS_MAX
from gateway.core.records import Route
from gateway.wire.mqtt.events import Session

Key = TypeVar("Key", bound=Hashable)


class PendingWill(msgspec.Struct, frozen=True):
    """A will on its way to the journal: at once, or when `delay_s` has passed without the device."""

    route: Route
    payload: bytes
    delay_s: int


class SessionStore(Generic[Key]):
    """Parked sessions by identity. Times are seconds on any clock that does not jump back.

    Args:
        sessions_max: Sessions kept; past that the one parked longest is forgotten.
    """

    def __init__(self, *, sessions_max: int = SESSIONS_MAX) -> None:
        self._sessions_max = sessions_max
        self._parked: OrderedDict[Key, tuple[Session, float]] = OrderedDict()
        self._wills: dict[Key, tuple[PendingWill, float]] = {}

    def __len__(self) -> int:
        return len(self._parked)

    def park(self, key: Key, session: Session, will: PendingWill | None, *, now_s: float) -> list[PendingWill]:
        """Keep a session whose connection has ended; return the wills that are due now.

        The will is due at once, after its delay, or when the session ends, whichever is first [MQTT-3.1.3-9 and section
        3.1.3.2.2].
        """
        due: list[PendingWill] = []
        if session.expiry_s > 0:
            self._parked[key] = (session, now_s + session.expiry_s)
            while len(self._parked) > self._sessions_max:
                due += self._end(next(iter(self._parked)))
        if will is not None:
            delay_s = min(will.delay_s, session.expiry_s)
            if delay_s > 0 and key in self._parked:
                self._wills[key] = (will, now_s + delay_s)
            else:
                due.append(will)
        return due

    def resume(
        self, key: Key, *, client_id: str, clean_start: bool, now_s: float
    ) -> tuple[Session | None, list[PendingWill]]:
        """Return the session to go on with, or None for a new one, and the wills due because an old one ended.

        Going on with a session drops its waiting will: the device was not away long enough [MQTT-3.1.3-9].
        """
        parked = self._parked.get(key)
        if parked is None:
            return None, []
        session, until_s = parked
        if clean_start or session.client_id != client_id or now_s >= until_s:
            return None, self._end(key)
        del self._parked[key]
        self._wills.pop(key, None)
        return session, []

    def forget(self, key: Key) -> list[PendingWill]:
        """End a parked session, if there is one; return its will if that waits."""
        return self._end(key) if key in self._parked else []

    def sweep(self, *, now_s: float) -> list[PendingWill]:
        """Forget sessions that are over and return the wills whose delay has passed."""
        due = [key for key, (_, at_s) in self._wills.items() if now_s >= at_s]
        wills = [self._wills.pop(key)[0] for key in due]
        # Only the front is looked at: sessions of one expiry, the common case, end in the order they were parked, and
        # the others are found by `resume` or pushed out by the bound.
        while self._parked and now_s >= next(iter(self._parked.values()))[1]:
            wills += self._end(next(iter(self._parked)))
        return wills

    def _end(self, key: Key) -> list[PendingWill]:
        del self._parked[key]
        will = self._wills.pop(key, None)
        return [] if will is None else [will[0]]

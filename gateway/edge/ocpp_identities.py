"""Who holds an identity, and what happens when a second connection proves the same one.

Two connections of one identity are two chargers with one configuration, a thief, or, most often, one charger whose old
connection died without a word. Owns the choice between them; refuses to know sockets: whether the old one lives is
found out by who asks. A connection that ends late never takes the place of its successor with it.
"""

from collections import OrderedDict
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

from gateway.core.ids import DeviceId, TenantId
from gateway.core.limits import (
    DUPLICATES_IDENTITIES_MAX,
    DUPLICATES_MAX,
    DUPLICATES_QUARANTINE_S,
    DUPLICATES_WINDOW_S,
)

Key: TypeAlias = tuple[TenantId, DeviceId]
"""Whom a connection speaks for."""
ConnectionT = TypeVar("ConnectionT")


class Verdict(StrEnum):
    """What becomes of two live connections of one identity; the value is the reason in counters and journal entries."""

    NEWEST_WINS = "newest_wins"
    """The old one is closed."""
    OLD_STAYS = "old_stays"
    """The new one is closed."""
    QUARANTINE_BEGINS = "quarantine_begins"
    """The new one is closed, and so are all that follow for some time while the old one lives."""
    QUARANTINED = "quarantined"
    """The new one is closed; it has been said why."""


class Identities(Generic[ConnectionT]):
    """The connection that each identity has, at most one.

    Args:
        newest_wins: Operator's choice: a newer connection wins even where nothing but a password proves it.
    """

    def __init__(self, *, newest_wins: bool = False) -> None:
        self._newest_wins = newest_wins
        self._holders: dict[Key, ConnectionT] = {}
        # When two met within the window, oldest first. A quarantine is a debt: more of them than allowed.
        self._meetings: OrderedDict[Key, list[float]] = OrderedDict()
        self._quarantined_until_s: dict[Key, float] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def holder(self, key: Key) -> ConnectionT | None:
        """Return the connection that holds the identity."""
        return self._holders.get(key)

    def enter(self, key: Key, connection: ConnectionT) -> None:
        """Give the identity, which nobody holds, to a connection."""
        assert key not in self._holders
        self._holders[key] = connection

    def leave(self, key: Key, connection: ConnectionT) -> None:
        """Take the identity from a connection that ended. Safe to repeat; nothing happens to a successor."""
        if self._holders.get(key) is connection:
            del self._holders[key]

    def meet(self, key: Key, *, is_same_certificate: bool, now_s: float) -> Verdict:
        """Return what becomes of the holder and a newer connection that are both alive.

        Args:
            key: The identity that both have proved.
            is_same_certificate: Both showed one and the same certificate, so they are one charger and not a guess.
            now_s: Monotonic seconds.
        """
        if now_s < self._quarantined_until_s.get(key, now_s):
            return Verdict.QUARANTINED
        self._quarantined_until_s.pop(key, None)
        meetings = [at_s for at_s in self._meetings.pop(key, []) if now_s - at_s < DUPLICATES_WINDOW_S]
        meetings.append(now_s)
        if len(meetings) > DUPLICATES_MAX:
            self._quarantined_until_s[key] = now_s + DUPLICATES_QUARANTINE_S
            self._bound(self._quarantined_until_s)
            return Verdict.QUARANTINE_BEGINS
        self._meetings[key] = meetings
        self._bound(self._meetings)
        return Verdict.NEWEST_WINS if is_same_certificate or self._newest_wins else Verdict.OLD_STAYS

    @staticmethod
    def _bound(remembered: dict[Key, float] | OrderedDict[Key, list[float]]) -> None:
        if len(remembered) > DUPLICATES_IDENTITIES_MAX:
            del remembered[next(iter(remembered))]

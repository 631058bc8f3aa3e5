"""Which kills a round makes, decided by a seed alone, so that a failure can be made again."""

import random
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from gateway.core.failpoints import Failpoint


class Target(StrEnum):
    """What is killed."""

    GATEWAY = "gateway"
    PROCESSORS = "processors"
    EVERYTHING = "everything"
    """Supervisor, gateway and processors at once."""


HITS: Final[Mapping[Failpoint, tuple[int, int]]] = {
    # Commits come about a hundred a second, the rest a few times a second. A killed gateway is back before its
    # chargers, which wait up to two seconds between their tries, so its hits are a few seconds away.
    Failpoint.JOURNAL_BEFORE_WRITE: (400, 800),
    Failpoint.JOURNAL_BEFORE_SYNC: (400, 800),
    Failpoint.JOURNAL_BEFORE_ACK: (400, 800),
    Failpoint.JOURNAL_ROLLED: (4, 7),
    Failpoint.JOURNAL_BEFORE_UNLINK: (5, 8),
    Failpoint.PUMP_AFTER_READ: (1, 5),
    Failpoint.PUMP_AFTER_CHAIN: (1, 5),
    Failpoint.LAKE_BETWEEN_TABLES: (1, 8),
    Failpoint.PUMP_AFTER_WRITE: (1, 5),
    Failpoint.CURSOR_BEFORE_RENAME: (1, 2),
    Failpoint.CURSOR_AFTER_RENAME: (1, 2),
    Failpoint.LAKE_BEFORE_COMPACT: (1, 2),
    Failpoint.LAKE_AFTER_COMPACT: (1, 2),
}
"""Failpoint -> between which hits of it the process dies."""
COMPACTION: Final = (Failpoint.LAKE_BEFORE_COMPACT, Failpoint.LAKE_AFTER_COMPACT)
"""Need a table of many small files, so they come last and before that nothing is compacted."""
DELAY_S_MAX: Final = 0.3
UNLOADED: Final = 0.3
"""Part of the random moments that do not wait for load."""
TWICE: Final = 0.6
"""Part of the kills of everything that come twice."""
START_S: Final = (0.3, 1.5)
"""About how long a start takes."""
KILLS_PER_ROUND: Final = 20
"""A round keeps its whole journal in memory to compare it, so a long run is several of them."""


class Kill(msgspec.Struct, frozen=True, kw_only=True):
    """One kill.

    Attributes:
        target: What dies.
        failpoint: Where, or None for a random moment.
        nth: At which hit of the failpoint.
        delay_s: Random moment: how long after the system is ready.
        loaded: Whether acknowledgements must flow again before it. Without, a random moment comes in the middle of
            recovery and reconnects; failpoints are always visited under load.
        again_after_s: Everything: killed a second time so long after the start, before it is ready; None for once.
    """

    target: Target
    failpoint: Failpoint | None = None
    nth: int = 1
    delay_s: float = 0.0
    loaded: bool = True
    again_after_s: float | None = None


def target_of(failpoint: Failpoint) -> Target:
    """Return the program that passes a failpoint."""
    return Target.GATEWAY if failpoint.startswith("journal.") else Target.PROCESSORS


def plan_round(seed: int, kills: int, *, failpoints: bool = True) -> list[Kill]:
    """Return the kills of one round: every failpoint once, program by program, then random moments.

    Args:
        seed: Same seed, same plan.
        kills: How many, at least the number of failpoints if those are wanted.
        failpoints: Whether to visit the failpoints at all.
    """
    chance = random.Random(seed)
    planned: list[Kill] = []
    if failpoints:
        names = [name for name in Failpoint if name not in COMPACTION]
        chance.shuffle(names)
        names.sort(key=target_of)  # stable: the order within a program stays random
        planned = [
            Kill(target=target_of(name), failpoint=name, nth=chance.randint(*HITS[name]))
            for name in (*names, *COMPACTION)
        ]
    assert kills >= len(planned), f"{kills} kills are not enough for {len(planned)} failpoints"
    # In turns, because a supervisor waits longer each time the same child dies young.
    turns: list[Target] = []
    while len(planned) + len(turns) < kills:
        turns += chance.sample(list(Target), len(Target))
    del turns[kills - len(planned) :]
    unloaded = set(chance.sample(range(len(turns)), int(UNLOADED * len(turns))))
    return planned + [_at_random(target, chance, loaded=i not in unloaded) for i, target in enumerate(turns)]


def _at_random(target: Target, chance: random.Random, *, loaded: bool) -> Kill:
    twice = target is Target.EVERYTHING and chance.random() < TWICE
    return Kill(
        target=target,
        delay_s=chance.uniform(0.0, DELAY_S_MAX),
        loaded=loaded,
        again_after_s=chance.uniform(*START_S) if twice else None,
    )


def plan(seed: int, kills: int, *, failpoints: bool = True) -> list[list[Kill]]:
    """Return the rounds of a run of `kills` kills; each visits every failpoint once if those are wanted.

    Raises: ValueError: Too few kills to visit every failpoint.
    """
    least = len(Failpoint) if failpoints else 1
    if kills < least:
        raise ValueError(f"{kills} kills; give at least {least}")
    rounds = max(1, min(round(kills / KILLS_PER_ROUND), kills // least))
    share, rest = divmod(kills, rounds)
    return [plan_round(seed + i, share + (i < rest), failpoints=failpoints) for i in range(rounds)]

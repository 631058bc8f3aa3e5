"""The plan of kills: complete, repeatable, as long as asked."""

import pytest

from gateway.core.failpoints import Failpoint
from tests.fault.plan import HITS, Target, plan


@pytest.mark.parametrize("kills", [13, 20, 33, 200])
def test_every_round_visits_every_failpoint_once(kills: int) -> None:
    """However many rounds there are, they add up to the kills asked for."""
    rounds = plan(7, kills)
    assert kills == sum(map(len, rounds))
    for one in rounds:
        visited = [kill.failpoint for kill in one if kill.failpoint is not None]
        assert sorted(Failpoint) == sorted(visited)


def test_the_same_seed_gives_the_same_plan() -> None:
    """And another seed another one, also between the rounds of a run."""
    assert plan(7, 40) == plan(7, 40)
    assert plan(7, 40) != plan(8, 40)
    first, second = plan(7, 40)
    assert first != second


def test_random_moments_take_their_targets_in_turns() -> None:
    """Each of three kills in a row has another target."""
    (kills,) = plan(7, 9, failpoints=False)
    for i in (0, 3, 6):
        assert set(Target) == {kill.target for kill in kills[i : i + 3]}


def test_every_failpoint_has_hits() -> None:
    """A new failpoint without a number of hits would never be visited."""
    assert set(HITS) == set(Failpoint)


def test_too_few_kills_are_refused() -> None:
    """They could not visit every failpoint."""
    with pytest.raises(ValueError, match="give at least 13"):
        plan(7, 12)

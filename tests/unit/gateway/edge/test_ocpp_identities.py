"""Two connections of one identity: who stays."""

import pytest

from gateway.core.ids import DeviceId, TenantId
from gateway.core.limits import (
    DUPLICATES_IDENTITIES_MAX,
    DUPLICATES_MAX,
    DUPLICATES_QUARANTINE_S,
    DUPLICATES_WINDOW_S,
)
from gateway.edge.ocpp_identities import Identities, Key, Verdict

KEY: Key = (TenantId("acme"), DeviceId("cp-1"))


def test_late_finaliser_does_not_remove_the_successor() -> None:
    """The old connection may end after the new one came in, and more than once."""
    identities: Identities[object] = Identities()
    old, new = object(), object()
    identities.enter(KEY, old)
    identities.leave(KEY, old)
    identities.enter(KEY, new)
    identities.leave(KEY, old)
    assert new is identities.holder(KEY)
    assert len(identities) == 1


@pytest.mark.parametrize(
    ("newest_wins", "is_same_certificate", "verdict"),
    [
        (False, False, Verdict.OLD_STAYS),
        (False, True, Verdict.NEWEST_WINS),
        (True, False, Verdict.NEWEST_WINS),
        (True, True, Verdict.NEWEST_WINS),
    ],
)
def test_certificate_or_operator_lets_the_newest_win(
    newest_wins: bool, is_same_certificate: bool, verdict: Verdict
) -> None:
    """A password may have been copied."""
    identities: Identities[object] = Identities(newest_wins=newest_wins)
    assert verdict is identities.meet(KEY, is_same_certificate=is_same_certificate, now_s=0.0)


def test_many_meetings_end_in_quarantine() -> None:
    """Whatever they show, for a time; then the count begins anew."""
    identities: Identities[object] = Identities(newest_wins=True)
    times_s = [10.0 * i for i in range(DUPLICATES_MAX + 2)]
    verdicts = [identities.meet(KEY, is_same_certificate=True, now_s=at_s) for at_s in times_s]
    assert [Verdict.NEWEST_WINS] * DUPLICATES_MAX + [Verdict.QUARANTINE_BEGINS, Verdict.QUARANTINED] == verdicts
    begun_s = times_s[DUPLICATES_MAX]
    later = [
        identities.meet(KEY, is_same_certificate=True, now_s=begun_s + wait_s)
        for wait_s in (DUPLICATES_QUARANTINE_S - 1, DUPLICATES_QUARANTINE_S)
    ]
    assert [Verdict.QUARANTINED, Verdict.NEWEST_WINS] == later


def test_rare_meetings_are_forgotten() -> None:
    """Three in ten minutes are allowed, and so are three in the next ten."""
    identities: Identities[object] = Identities()
    step_s = DUPLICATES_WINDOW_S / DUPLICATES_MAX
    verdicts = {identities.meet(KEY, is_same_certificate=False, now_s=step_s * i) for i in range(20)}
    assert {Verdict.OLD_STAYS} == verdicts


def test_quarantine_of_one_is_no_quarantine_of_another() -> None:
    """Identities are counted apart."""
    identities: Identities[object] = Identities()
    for _ in range(DUPLICATES_MAX + 1):
        identities.meet(KEY, is_same_certificate=False, now_s=0.0)
    other = (KEY[0], DeviceId("cp-2"))
    assert Verdict.OLD_STAYS is identities.meet(other, is_same_certificate=False, now_s=0.0)


def test_memory_of_meetings_is_bounded() -> None:
    """The identity that met longest ago is forgotten first."""
    identities: Identities[object] = Identities()
    for i in range(DUPLICATES_IDENTITIES_MAX + 10):
        identities.meet((KEY[0], DeviceId(f"cp-{i}")), is_same_certificate=False, now_s=0.0)
    assert DUPLICATES_IDENTITIES_MAX == len(identities._meetings)
    assert (KEY[0], DeviceId("cp-9")) not in identities._meetings

"""Power is shared fairly, and no cabinet gives more than it has."""

from hypothesis import given
from hypothesis import strategies as st

from simulators.chargers.hardware import HARDWARE, VERSIONS, share_w
from simulators.chargers.outlet import places


def test_who_wants_less_than_an_even_share_gets_it_and_others_share_the_rest():
    """240 kW among one that wants 20 and two that want 150."""
    assert [20, 110, 110] == share_w([20, 150, 150], 240)


def test_everybody_gets_what_they_want_when_there_is_enough():
    """And nothing more."""
    assert [50, 0, 70] == share_w([50, 0, 70], 240)


@given(st.lists(st.integers(0, 400_000), max_size=8), st.integers(0, 500_000))
def test_sharing_wastes_nothing_and_makes_nothing(wanted: list[int], total: int):
    """The sum is what is wanted or what there is, less what whole watts cannot split; nobody gets more than wanted."""
    granted = share_w(wanted, total)
    assert all(0 <= given_ <= asked for given_, asked in zip(granted, wanted, strict=True))
    assert min(sum(wanted), total) - len(wanted) <= sum(granted) <= min(sum(wanted), total)


def test_connectors_are_numbered_as_each_version_does():
    """1.6 counts through; 2.x counts inside each EVSE."""
    two_plugs = next(kind for kind in HARDWARE if kind.name == "dc-two")
    assert [(1, 1), (2, 2)] == [(place.number, place.where) for place in places(two_plugs, "1.6")]
    assert [(1, 1, 1), (1, 1, 2)] == [(p.where, p.evse, p.connector) for p in places(two_plugs, "2.0.1")]


def test_every_kind_is_there():
    """AC and DC with one and two outlets, and a cabinet that several share."""
    assert {"ac-one", "ac-two", "dc-one", "dc-two", "cabinet"} == {kind.name for kind in HARDWARE}
    cabinet = next(kind for kind in HARDWARE if kind.cabinet_w is not None)
    assert 240.0 == cabinet.rated_kw
    assert len(places(cabinet, "2.1")) * cabinet.outlet_w > 240_000
    assert ("1.6", "2.0.1", "2.1") == VERSIONS

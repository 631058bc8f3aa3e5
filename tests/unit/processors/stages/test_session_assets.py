"""Facts about vehicles and chargers, as they add up."""

import pytest

from processors.stages import session_assets
from processors.stages.session_assets import Asset, Assets, first_placed
from tests.unit.processors.stages.session_frames import Said, asset, frames_of


def stated(*facts: Said) -> Assets:
    """Return the assets after these statements."""
    frames, _ = frames_of(list(enumerate(facts)))
    return Assets().with_rows(frames["asset"])


def test_what_a_statement_leaves_out_stays_as_it_was() -> None:
    """The position comes in one statement, the rated power in another."""
    assets = stated(
        asset("charger", "cp-1", latitude_deg=1.0, longitude_deg=2.0), asset("charger", "cp-1", rated_power_kw=50.0)
    )
    found = assets.get("acme", "cp-1")
    assert found is not None
    assert ((1.0, 2.0), 50.0) == (found.position, found.rated_kw)


def test_a_token_belongs_to_the_vehicle_it_was_last_stated_of() -> None:
    """A card that moves from one vehicle to another is the other's."""
    assets = stated(asset("vehicle", "ev-1", id_tokens="A, B"), asset("vehicle", "ev-2", id_tokens="b"))
    assert ("ev-1", "ev-2", None) == tuple(assets.vehicle_of_token("acme", token) for token in ("a", "B", "C"))


def test_tokens_of_a_charger_are_no_vehicle_s() -> None:
    """Only vehicles charge."""
    assert stated(asset("charger", "cp-1", id_tokens="A")).vehicle_of_token("acme", "A") is None


def test_facts_survive_as_a_list() -> None:
    """That is how a checkpoint holds them."""
    assets = stated(asset("vehicle", "ev-1", vin="X"), asset("vehicle", "ev-2", vin="x"))
    assert "ev-2" == Assets(assets.facts()).vehicle_of_vin("acme", "X")


def test_too_many_facts_forget_those_stated_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement about a known device makes it young again."""
    monkeypatch.setattr(session_assets, "ASSETS_MAX", 2)
    assets = stated(*[asset("vehicle", name) for name in ("ev-1", "ev-2", "ev-1", "ev-3")])
    assert ["ev-1", "ev-3"] == [fact.device_id for fact in assets.facts()]


def test_the_first_charger_with_a_position_is_found() -> None:
    """Vehicles' positions are noted from there on."""
    facts = [asset("vehicle", "ev-1", latitude_deg=1.0), asset("charger", "a"), asset("charger", "b", latitude_deg=1.0)]
    frames, _ = frames_of(list(enumerate(facts)))
    assert (2, None) == (first_placed(frames["asset"]), first_placed(frames["asset"].head(2)))


def test_a_half_stated_position_is_none() -> None:
    """Latitude without longitude is a line around the world."""
    assert Asset("acme", "cp-1", "charger", 1.0, None, None, None, None).position is None

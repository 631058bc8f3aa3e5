"""Which vehicle a session charged, how sure that is, and what went into its battery."""

import json
from typing import Any

import pytest

from processors.stages import session_track
from processors.stages.session_matching import distance_m
from tests.unit.processors.stages.session_frames import (
    START_S,
    Said,
    answer,
    asset,
    battery,
    event,
    meter,
    newest,
    only,
    run,
    standing,
    start,
    status,
    stop,
    tick,
)

Entries = list[Said | list[Said]]
KW = 60.0
END = 1200
HERE = (48.1, 11.5)


def charged(transaction: str = "1", *, connector: str = "1", token: str = "TAG", device: str = "cp-1") -> Entries:
    """Return 20 min at 60 kW, with a sample a minute, told as they happen."""
    names: dict[str, Any] = {"device": device}
    message = f"m{transaction}"
    samples = [
        meter(60 * i, 1000.0 + 1000 * i, KW, transaction=transaction, connector=connector, **names)
        for i in range(1, 20)
    ]
    return [
        start(0, message=message, token=token, **names),
        answer(0, transaction, message=message, **names),
        *samples,
        stop(END, 21_000, transaction, id_token=token, device=device),
    ]


def took(
    kw: float, *, device: str = "ev-1", every_s: int = 5, first: int = 0, last: int = END, **columns: Any
) -> Entries:
    """Return the readings of a pack that takes this power."""
    return [battery(at, kw, device=device, soc=20 + at / 60, **columns) for at in range(first, last + 1, every_s)]


def journal(*parts: Entries) -> Entries:
    """Return the entries behind the first word of a charger, in order of receipt, and ticks after them."""
    rows = [row for part in parts for row in part if isinstance(row, Said)]
    ordered = sorted(rows, key=lambda row: row["received"])
    last = max(END, *(row["received"] for row in rows))
    return [status(-100, "Available"), *ordered, tick(last + 60), tick(last + 120)]


def vehicle(session: dict[str, Any]) -> tuple[object, object, object]:
    """Return vehicle, how it was matched, and confidence."""
    return session.get("vehicle_id"), session.get("vehicle_match"), session.get("vehicle_confidence")


def test_a_stated_token_names_the_vehicle_in_any_case() -> None:
    """Id tokens do not know case."""
    facts: Entries = [asset("vehicle", "ev-1", id_tokens="other, tag")]
    session = only([*facts, *journal(charged(), took(56.0))])
    assert ("ev-1", "id_token", 0.95) == vehicle(session)


def test_a_token_that_is_a_vehicle_s_name_names_it() -> None:
    """Autocharge and depots use the device id as the token."""
    assert ("ev-1", "id_token", 0.95) == vehicle(only(journal(charged(token="ev-1"), took(56.0, device="ev-1"))))


def test_a_stated_vin_comes_before_the_token() -> None:
    """What the vehicle says of itself is worth more than a card."""
    facts: Entries = [asset("vehicle", "ev-1", vin="WVW1"), asset("vehicle", "ev-2", id_tokens="TAG")]
    named = {"transaction": "t", "version": "2.0.1"}
    words: Entries = [
        event("start", 0, seq_no=0, token="TAG", vin="wvw1", **named),
        event("end", END, seq_no=1, token="TAG", **named),
    ]
    assert ("ev-1", "vin", 1.0) == vehicle(only([*facts, *words, tick(END + 60)]))


def test_energy_into_the_battery_is_the_area_under_its_power_within_the_session() -> None:
    """56 kW from 10 min before to 10 min after: 20 min of it count; loss is the rest of the charger's 20 kWh."""
    facts: Entries = [asset("vehicle", "ev-1", id_tokens="TAG")]
    session = only([*facts, *journal(charged(), took(56.0, first=-90, last=END + 600))])
    assert pytest.approx(56_000 / 3, rel=1e-6) == session["vehicle_energy_wh"]
    assert pytest.approx(6.667, abs=0.001) == session["loss_pct"]
    assert (20.0, 40.0, 20.0, 25.0) == (
        session["vehicle_soc_start_pct"],
        session["vehicle_soc_end_pct"],
        session["battery_temp_min_c"],
        session["battery_temp_max_c"],
    )


@pytest.mark.parametrize("every_s", [1, 5, 10, 30])
def test_energy_does_not_depend_on_how_often_a_pack_reports(every_s: int) -> None:
    """From once a second to every 30 s, as GB/T 32960 asks."""
    facts: Entries = [asset("vehicle", "ev-1", id_tokens="TAG")]
    session = only([*facts, *journal(charged(), took(56.0, every_s=every_s))])
    assert pytest.approx(56_000 / 3, rel=0.02) == session["vehicle_energy_wh"]


def test_the_vehicle_s_curve_has_power_charge_and_temperature() -> None:
    """At most 32 points, seconds since the start first."""
    facts: Entries = [asset("vehicle", "ev-1", id_tokens="TAG")]
    curve = json.loads(only([*facts, *journal(charged(), took(56.0))])["vehicle_curve"])
    assert (32, [5.0, 56.0, 20.08, 25.0]) == (len(curve), curve[0])


def test_what_a_pack_takes_while_it_drives_is_not_charging() -> None:
    """Braking puts power into the pack, too."""
    facts: Entries = [asset("vehicle", "ev-1", id_tokens="TAG")]
    session = only([*facts, *journal(charged(), took(56.0, bms_state="drive"))])
    assert ("ev-1", None) == (session["vehicle_id"], session.get("vehicle_energy_wh"))


def test_power_alone_finds_the_vehicle_with_less_confidence() -> None:
    """0.9 for power, 0.7 for a place that is not known, all of the time and of the power agreeing."""
    assert ("ev-1", "power", pytest.approx(0.63, abs=0.005)) == vehicle(only(journal(charged(), took(56.0))))


def test_a_place_known_to_be_the_charger_s_makes_it_surer() -> None:
    """It stood within 150 m in that hour."""
    facts: Entries = [asset("charger", "cp-1", latitude_deg=HERE[0], longitude_deg=HERE[1])]
    near: Entries = [standing(-50, HERE[0] + 0.001, HERE[1])]
    assert ("ev-1", "power", pytest.approx(0.9, abs=0.01)) == vehicle(
        only([*facts, *journal(charged(), took(56.0), near)])
    )


def test_a_vehicle_that_stood_elsewhere_is_not_the_one() -> None:
    """300 m away its power may fit as well as it likes."""
    facts: Entries = [asset("charger", "cp-1", latitude_deg=HERE[0], longitude_deg=HERE[1])]
    far: Entries = [standing(-50, HERE[0] + 0.003, HERE[1])]
    assert (None, None, None) == vehicle(only([*facts, *journal(charged(), took(56.0), far)]))


@pytest.mark.parametrize("kw", [70.0, 40.0])
def test_a_power_that_does_not_fit_is_no_match(kw: float) -> None:
    """More than the charger gave, or two thirds of it, is another charger's power."""
    assert (None, None, None) == vehicle(only(journal(charged(), took(kw))))


@pytest.mark.parametrize(("first", "last"), [(-90, END + 4000), (600, END)])
def test_a_vehicle_that_charged_longer_or_shorter_is_no_match(first: int, last: int) -> None:
    """Power that goes on after the session, or begins in its middle, is another session's."""
    assert (None, None, None) == vehicle(only(journal(charged(), took(56.0, first=first, last=last))))


def test_two_that_look_alike_are_ambiguous() -> None:
    """Better none than the wrong one."""
    session = only(journal(charged(), took(56.0), took(56.2, device="ev-2")))
    assert ((None, None, None), "vehicle_ambiguous") == (vehicle(session), session["flags"])


def test_a_token_that_contradicts_the_power_is_flagged() -> None:
    """The card of ev-1 was used, and ev-2 charged."""
    facts: Entries = [asset("vehicle", "ev-1", id_tokens="TAG")]
    session = only([*facts, *journal(charged(), took(56.0, device="ev-2"))])
    assert (("ev-2", "power"), "vehicle_mismatch") == (vehicle(session)[:2], session["flags"])


def test_a_vehicle_has_one_session_at_a_time_and_the_surest_gets_it() -> None:
    """Its token at one charger outweighs a like power at another."""
    facts: Entries = [asset("vehicle", "ev-1", id_tokens="TAG")]
    two = journal(charged(), charged("2", token="GUEST", device="cp-2"), took(56.0))
    sessions = {one["charger_id"]: one for one in newest(run([*facts, *two])[0])}
    assert {"cp-1": "ev-1", "cp-2": None} == {name: one.get("vehicle_id") for name, one in sessions.items()}


def test_a_vehicle_that_tells_later_is_joined_later() -> None:
    """An hour after the session, out of an offline buffer; the ended session gets another revision."""
    facts: Entries = [asset("vehicle", "ev-1", id_tokens="TAG")]
    late = [Said(row | {"received": 4800}) for row in took(56.0) if isinstance(row, Said)]
    rows, _ = run([*facts, *journal(charged()), *late, tick(4860), tick(4920)])
    ended = rows.filter(rows["status"] == "completed").select("received_at", "vehicle_id", "vehicle_energy_wh")
    expected = [(END, None, None), (END + 60, "ev-1", None), (4860, "ev-1", pytest.approx(18_666.667, abs=0.01))]
    assert expected == [(round(at.timestamp()) - START_S, name, wh) for at, name, wh in ended.rows()]


def test_no_loss_is_told_before_both_sides_cover_the_session() -> None:
    """At the end the vehicle was compared up to the last tick; the difference to the whole would be no loss."""
    facts: Entries = [asset("vehicle", "ev-1", id_tokens="TAG")]
    words = [row for row in journal(charged(), took(56.0)) if isinstance(row, Said)]
    rows, _ = run([*facts, *sorted([*words, tick(600)], key=lambda row: row["received"])])
    ended = rows.filter(rows["status"] == "completed").select("vehicle_energy_wh", "loss_pct").rows()
    assert (True, None) == (ended[0][0] is not None and ended[0][0] < 10_000, ended[0][1])
    assert pytest.approx(6.667, abs=0.001) == ended[-1][1]


def test_a_vehicle_of_another_tenant_is_a_stranger() -> None:
    """Power that fits across tenants is a coincidence."""
    foreign = [Said(row | {"tenant": "other"}) for row in took(56.0) if isinstance(row, Said)]
    assert (None, None, None) == vehicle(only(journal(charged(), list(foreign))))


def test_the_track_is_bounded_and_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for 60 buckets the session's second half is left of its 120."""
    monkeypatch.setattr(session_track, "VEHICLE_TRACK_ROWS_MAX", 60)
    facts: Entries = [asset("vehicle", "ev-1", id_tokens="TAG")]
    rows, state = run([*facts, *journal(charged(), took(56.0))])
    assert sum(frame.height for frame in state.track.charging.frames) <= 60
    assert pytest.approx(9_300, abs=300) == newest(rows)[0]["vehicle_energy_wh"]


def test_distance_is_that_on_a_sphere() -> None:
    """A degree of latitude is 111.2 km; at 60 degrees north one of longitude is half of it."""
    assert pytest.approx(111_195, abs=1) == distance_m((0, 0), (1, 0))
    assert pytest.approx(55_598, abs=5) == distance_m((60, 0), (60, 1))

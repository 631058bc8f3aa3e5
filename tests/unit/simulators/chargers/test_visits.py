"""Vehicles take what the data set says, and a damaged data set is refused in words."""

import random
from pathlib import Path

import pytest

from simulators.chargers.meter import US_PER_HOUR, US_PER_S
from simulators.chargers.visits import Car, Visit, Visitors, read_sessions
from simulators.target import SimulationError

HEADER = "Session,CCS,Arrival,Departure,Energy (Wh),Pmax (W),SOC arrival,SOC departure,Energy capacity (Wh)"
FIRST = "7,CCS1,2022-08-11T23:33:00.000,2022-08-11T23:37:00.000,9632.0,168393,26,36,91504.0"
VISIT = Visit(energy_wh=20_000, capacity_wh=50_000, soc_from=0.5, power_max_w=100_000, idle_s=60.0)


def sessions_file(tmp_path: Path, *rows: str) -> Path:
    file = tmp_path / "sessions.csv"
    file.write_text("\n".join((HEADER, *rows)) + "\n")
    return file


def test_session_is_read_with_its_own_times_as_utc(tmp_path: Path):
    """Microseconds since 1970, energy with its fraction."""
    (session,) = read_sessions(sessions_file(tmp_path, FIRST.replace("9632.0", "9632.5")))
    assert (7, "CCS1", 9632.5, 168_393) == (session.number, session.plug, session.energy_wh, session.power_max_w)
    assert 1_660_260_780 * US_PER_S == session.arrival_us
    assert 240 * US_PER_S == session.departure_us - session.arrival_us


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ((), "no sessions"),
        ((FIRST, FIRST.replace("CCS1", "CCS2")), "a session number comes twice"),
        ((FIRST, FIRST.replace("7,CCS1", "8,CCS1").replace("23:33", "23:36")), "sessions 7 and 8 overlap on CCS1"),
        ((FIRST.replace("23:37", "23:33"),), "session 7 takes no time or no energy"),
        ((FIRST.replace("9632.0", "-1"),), "session 7 takes no time or no energy"),
        ((FIRST.replace("9632.0", "much"),), "sessions.csv:2: ValueError"),
        ((FIRST.split(",26", maxsplit=1)[0],), "sessions.csv:2: TypeError"),
    ],
)
def test_damaged_file_is_refused_with_its_place(tmp_path: Path, rows: tuple[str, ...], words: str):
    """No row is repaired or left out in silence."""
    with pytest.raises(SimulationError, match=words):
        read_sessions(sessions_file(tmp_path, *rows))


def test_sessions_that_touch_on_one_plug_do_not_overlap(tmp_path: Path):
    """One leaves in the minute in which the next arrives."""
    second = FIRST.replace("7,CCS1", "8,CCS1").replace("23:37", "23:59").replace("23:33", "23:37")
    assert [7, 8] == [session.number for session in read_sessions(sessions_file(tmp_path, second, FIRST))]


def test_car_takes_exactly_what_it_came_for():
    """Whatever the steps and limits are."""
    random_, car, at_us, taken_wus = random.Random(3), Car(VISIT, 0), 0, 0
    while car.wanted_w:
        car.limit_w = random_.choice((0, 11_000, 150_000))
        at_us += random_.randrange(300 * US_PER_S)
        taken_wus += car.draw(at_us)
    assert VISIT.energy_wh * US_PER_HOUR == taken_wus
    assert 0.9 == pytest.approx(car.soc)


def test_car_slows_down_when_it_fills():
    """Full power to 80 %, less above."""
    car = Car(VISIT, 0)
    car.limit_w = 150_000
    full_w, at_us = car.wanted_w, 0
    while car.soc < 0.88:
        at_us += 10 * US_PER_S
        car.draw(at_us)
    assert 100_000 == full_w
    assert 50_000 < car.wanted_w < 70_000


def test_limit_of_the_charger_holds():
    """A tenth of an hour at 11 kW is 1.1 kWh."""
    car = Car(VISIT, 0)
    car.limit_w = 11_000
    assert 1_100 * US_PER_HOUR == car.draw(360 * US_PER_S)


def test_full_car_stays_as_long_as_its_driver():
    """Then it wants to leave."""
    car = Car(VISIT, 0)
    car.limit_w = 150_000
    car.draw(3_600 * US_PER_S)
    assert (0, False) == (car.wanted_w, car.is_leaving)
    car.draw(3_660 * US_PER_S)
    assert car.is_leaving


def test_built_in_visits_look_like_the_data_set():
    """Mean energy of the 1,878 sessions is 32.2 kWh; nights are quiet."""
    visitors = Visitors(random.Random(1), [], mean_gap_s=300.0)
    energies = [visitors.next().energy_wh for _ in range(4_000)]
    assert 32_184 == pytest.approx(sum(energies) / len(energies), rel=0.05)
    at_four = sum(visitors.gap_s(4 * US_PER_HOUR) for _ in range(2_000))
    at_noon = sum(visitors.gap_s(12 * US_PER_HOUR) for _ in range(2_000))
    assert at_four > 20 * at_noon

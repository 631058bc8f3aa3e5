"""A vehicle's day: duty, night, sleep, holes in coverage, and everything arrives once or is a known repeat."""

import json
import random
from collections import Counter
from datetime import datetime
from typing import Any

import msgpack
import msgspec
import pytest

from simulators.moments import US_PER_S, iso
from simulators.vehicles.life import DAY_S, QUIET_S, WAKE_S, Delivery, Habits, Life
from simulators.vehicles.physics import CAR
from simulators.vehicles.routes import ROUTES

BEGAN_US = 1_790_035_200 * US_PER_S
HABITS = Habits(duty_s=((8 * 3_600, 13 * 3_600),), sample_s=10, mean_temp_c=3.0, encoding="json")


def live(seed: int, *, blocks: int = 24, **given: Any) -> tuple[list[Delivery], Life]:
    life = Life(
        "car-1",
        model=CAR,
        route=ROUTES["munich"][2],
        habits=given.pop("habits", HABITS),
        began_us=BEGAN_US,
        random_=random.Random(seed),
        **given,
    )
    return [one for block in range(1, blocks + 1) for one in life.live(block * DAY_S // blocks)], life


@pytest.fixture(scope="module")
def day() -> tuple[list[Delivery], Life]:
    """One day of a car that is out from 8 to 13."""
    return live(7)


def said(deliveries: list[Delivery], channel: str) -> list[dict[str, Any]]:
    return [json.loads(one.payload) for one in deliveries if one.channel == channel]


def test_same_seed_lives_the_same_day_however_it_is_cut(day: tuple[list[Delivery], Life]):
    """Blocks of an hour or of a day."""
    assert day[0] == live(7, blocks=1)[0]


def test_vehicle_drives_on_duty_only_and_charges_at_night(day: tuple[list[Delivery], Life]):
    """Out from 8; home by two hours after its duty, because it ends its round first."""
    for reading in said(day[0], "telemetry"):
        hour = int(reading["ts"][11:13])
        if not 8 <= hour < 15:
            assert (0.0, False) == (reading["speed_kmh"], reading["ignition"])
    assert any(reading["charging"] for reading in said(day[0], "telemetry"))
    assert max(reading["speed_kmh"] for reading in said(day[0], "telemetry")) > 50


def test_sleep_is_announced_and_interrupted_every_quarter_of_an_hour(day: tuple[list[Delivery], Life]):
    """Two sleeps: before and after the duty; between readings asleep the vehicle is silent as it said."""
    words = [reading for reading in said(day[0], "event") if reading.get("code") == "sleep"]
    assert [True, False, True] == [word["active"] for word in words][:3]
    asleep = [reading["ts"] for reading in said(day[0], "battery") if words[0]["ts"] < reading["ts"] < words[1]["ts"]]
    assert 0 < len(asleep) <= 8 * 3_600 / WAKE_S
    assert "08:" == words[1]["ts"][11:14]


def test_readings_keep_their_interval_while_awake(day: tuple[list[Delivery], Life]):
    """Ten seconds, but for the moments that ignition changes."""
    times = sorted(reading["ts"] for reading in said(day[0], "battery") if "10:" <= reading["ts"][11:] < "11:")
    assert len(set(times)) == pytest.approx(360, abs=3)


def test_hole_in_coverage_delays_and_loses_nothing():
    """Sequence numbers have no gap, what was stored comes late, long holes are in the truth, and a will tells them."""
    deliveries, life = live(3, habits=msgspec.structs.replace(HABITS, holes_per_hour=3.0))
    numbers = {reading["seq"] for channel in ("telemetry", "battery") for reading in said(deliveries, channel)}
    numbers |= {reading["seq"] for reading in said(deliveries, "event") if "seq" in reading}
    assert set(range(1, max(numbers) + 1)) == numbers
    late = [
        one
        for one in deliveries
        if one.channel == "battery" and json.loads(one.payload)["ts"] < iso(one.received_us - QUIET_S * US_PER_S)
    ]
    wills = [word for word in said(deliveries, "event") if word.get("code") == "offline"]
    assert late
    assert len(wills) >= len(life.holes) > 0
    for hole in life.holes:
        assert hole.ended_at is not None
        assert to_us(hole.ended_at) - to_us(hole.began_at) > QUIET_S * US_PER_S


def to_us(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * US_PER_S)


def test_repeats_are_the_same_bytes(day: tuple[list[Delivery], Life]):
    """As a device does whose acknowledgement was lost; rare."""
    counts = Counter((one.channel, one.payload) for one in day[0] if one.channel != "event")
    assert {1, 2} == set(counts.values())


def test_cells_are_cold_in_the_morning():
    """A winter's night at -12 degC on average: the pack follows the air, slowly."""
    cold = Habits(duty_s=((8 * 3_600, 9 * 3_600),), sample_s=60, mean_temp_c=-12.0, encoding="msgpack")
    deliveries, _ = live(1, habits=cold)
    readings = [msgpack.unpackb(one.payload) for one in deliveries if one.channel == "battery"]
    morning = [reading["cell_temp_mean_c"] for reading in readings if reading["ts"][11:13] == "07"]
    assert -17.5 < min(morning) < -8.0
    outside = [msgpack.unpackb(one.payload)["ambient_temp_c"] for one in deliveries if one.channel == "telemetry"]
    assert (-17.1 < min(outside) < -16.0) and (-8.0 < max(outside) < -6.9)

"""Days in the life of a vehicle without a network: duty and nights, holes in coverage, and what arrives when. Pure.

Made for weeks at the speed of the computer: readings at the interval that a fleet pays for, a sleeping vehicle that
says so and then only wakes now and then, stored readings that come after a hole in coverage, and repeated ones.
"""

import random
from collections.abc import Iterator, Sequence
from math import pi, sin
from typing import Final

import msgspec

from simulators.message import Encoding, Reading, encode
from simulators.moments import US_PER_S, iso
from simulators.scenarios.vehicle_faults import VehicleFault
from simulators.truth import FaultTruth
from simulators.vehicles.drive import NIGHT_UNTIL_SOC, STEP_S, Drive, Snapshot
from simulators.vehicles.physics import Ailment, Model
from simulators.vehicles.readings import Character, aged, battery, character, event, telemetry
from simulators.vehicles.routes import Route
from simulators.vehicles.sensors import Sensors, sensors

DAY_S: Final = 86_400
WAKE_S: Final = 900
"""A sleeping vehicle wakes so often to say how its battery does."""
AWAKE_S: Final = 300
"""So long it stays awake when its duty and its charge are over."""
WILL_S: Final = 90
"""One and a half times the usual keep-alive of MQTT: then the gateway tells that a connection is lost."""
QUIET_S: Final = 120
"""A hole in coverage that lasts longer is noted in the truth: whoever calls it a silence is right."""
_SILENCES: Final = ("vehicle_telemetry/silent", "battery_pack/silent")
_STORED_PER_S: Final = 20
_DUPLICATE: Final = 0.0005
_DAILY_SWING_K: Final = 5.0
_HOLES_S: Final = ((0.70, 15, 90), (0.25, 90, 400), (0.05, 600, 1_500))
"""How probable a hole in coverage is, and its shortest and longest length: bridges, garages, a dead cell."""


class Delivery(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """A message as it reaches the gateway; they sort by time."""

    received_us: int
    device_id: str
    channel: str
    payload: bytes


class Habits(msgspec.Struct, frozen=True, kw_only=True):
    """What a vehicle does with its days.

    Attributes:
        duty_s: Beginning and end of each turn of duty, seconds after midnight, rising.
        sample_s: Between two readings while awake.
        mean_temp_c: Of the air, over the day.
        encoding: Of its messages.
        holes_per_hour: Holes in coverage, while it drives.
    """

    duty_s: tuple[tuple[int, int], ...]
    sample_s: int
    mean_temp_c: float
    encoding: Encoding
    holes_per_hour: float = 0.12


def habits(model: Model, random_: random.Random, *, sample_s: int, mean_temp_c: float) -> Habits:
    """Return the habits of one vehicle of many: a bus is out in the morning and till late, a car for a few rounds."""
    jitter_s = random_.randrange(-2_400, 2_400)
    turns = ((5, 12), (15, 21)) if model.name == "bus" else ((7, 8), (12, 13), (16, 18))
    return Habits(
        duty_s=tuple((begin * 3_600 + jitter_s, end * 3_600 + jitter_s) for begin, end in turns),
        sample_s=sample_s,
        mean_temp_c=mean_temp_c,
        encoding=random_.choice(("json", "msgpack")),
    )


class Life:
    """One vehicle.

    Args:
        device_id: Its name.
        model: Its type.
        route: Its loop.
        habits: What it does with its days.
        began_us: Its first moment, UTC microseconds since 1970, a midnight; it stands in its depot then.
        random_: Source of all chance.
        faults: That befall it, with the moments they begin at.
        fine_us: Spans in which it sends every second.
    """

    def __init__(
        self,
        device_id: str,
        *,
        model: Model,
        route: Route,
        habits: Habits,
        began_us: int,
        random_: random.Random,
        faults: Sequence[tuple[int, VehicleFault]] = (),
        fine_us: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.device_id, self.model, self._habits = device_id, model, habits
        self._random, self._began_us = random_, began_us
        self._faults, self._fine_us = faults, fine_us
        self._character: Character = aged(character(model, random_), random_)
        self._sensors: Sensors = sensors(random_)
        self._drive = Drive(
            model,
            route,
            random_=random_,
            soc=random_.uniform(0.55, NIGHT_UNTIL_SOC),
            odometer_km=random_.uniform(2_000, 240_000),
            ambient_temp_c=self._air_c(0.0),
            start_m=route.length_m,
            is_charging=True,
        )
        self._drive.charge_until_soc = NIGHT_UNTIL_SOC
        self._ignition_on, self._asleep, self._awake_until_s = False, False, 0.0
        self._second, self._due_s = 0.0, float(random_.randrange(habits.sample_s))
        self._seq = 0
        self._hole_us = (0, 0)
        self._stored: list[tuple[str, bytes]] = []
        self.holes: list[FaultTruth] = []
        """Holes in coverage that somebody may call a silence, as they came."""

    def live(self, until_s: int) -> list[Delivery]:
        """Live until so many seconds after the beginning; return what arrives of what is said, some of it later."""
        arriving: list[Delivery] = []
        while self._second < until_s:
            second, at_us = self._second, self._began_us + round(self._second * US_PER_S)
            self._drive.on_duty = self._is_on_duty(second)
            self._drive.ambient_temp_c = self._air_c(second)
            is_fine = self._is_fine(at_us)
            step_s = STEP_S if is_fine or not self._drive.is_off else min(10.0, float(self._habits.sample_s))
            now = self._drive.advance(step_s)
            self._fail(now, at_us)
            if is_fine or second >= self._due_s or now.ignition_on is not self._ignition_on:
                arriving += self._arrive(now, second, at_us)
                self._due_s = second + (WAKE_S if self._asleep else self._habits.sample_s)
            self._second += step_s
        return arriving

    # ---- days --------------------------------------------------------------------------------------------------------

    def _is_on_duty(self, second: float) -> bool:
        of_day_s = second % DAY_S
        return any(begin <= of_day_s < end for begin, end in self._habits.duty_s)

    def _air_c(self, second: float) -> float:
        """Coldest at four in the morning."""
        return self._habits.mean_temp_c + _DAILY_SWING_K * sin(2 * pi * (second % DAY_S / DAY_S - 10 / 24))

    def _is_fine(self, at_us: int) -> bool:
        return any(begin <= at_us < end for begin, end in self._fine_us)

    def _fail(self, now: Snapshot, at_us: int) -> None:
        for began_us, fault in self._faults:
            if at_us >= began_us:
                fault.pass_time(now, at_us)

    # ---- what it says ------------------------------------------------------------------------------------------------

    def _arrive(self, now: Snapshot, second: float, at_us: int) -> Iterator[Delivery]:
        """Yield what arrives now: what is said, unless there is no coverage, and what was stored before."""
        said = [(channel, self._encode(channel, reading)) for channel, reading in self._say(now, second, at_us)]
        received_us = at_us + self._random.randrange(60_000, 400_000)
        if self._is_covered(now, at_us):
            if self._stored:
                said = self._stored + said
                self._stored = []
            for place, (channel, payload) in enumerate(said):
                yield Delivery(received_us + place // _STORED_PER_S * US_PER_S, self.device_id, channel, payload)
                if self._random.random() < _DUPLICATE:
                    yield Delivery(received_us + 2 * US_PER_S, self.device_id, channel, payload)
            return
        if not self._stored and self._hole_us[1] - self._hole_us[0] > WILL_S * US_PER_S:
            will = event(self.device_id, None, "connectivity", code="offline", active=False)
            yield Delivery(at_us + WILL_S * US_PER_S, self.device_id, "event", encode(will, "json"))
        self._stored += said

    def _is_covered(self, now: Snapshot, at_us: int) -> bool:
        """Whether what is said now arrives now; on the road a hole may begin."""
        begin_us, end_us = self._hole_us
        if begin_us <= at_us < end_us:
            return False
        interval_s = STEP_S if self._is_fine(at_us) else self._habits.sample_s
        if (
            now.speed_mps
            and self._random.random() < self._habits.holes_per_hour * interval_s / 3_600
            and not self._fine_us
        ):
            kinds = [share for share, _, _ in _HOLES_S]
            _, shortest, longest = self._random.choices(_HOLES_S, kinds)[0]
            length_s = self._random.randint(shortest, longest)
            self._hole_us = (at_us, at_us + length_s * US_PER_S)
            if length_s > QUIET_S:
                self._note_hole()
            return False
        return True

    def _note_hole(self) -> None:
        began_at, ended_at = (iso(at_us) for at_us in self._hole_us)
        truth = FaultTruth(
            device_id=self.device_id, kind="coverage-hole", began_at=began_at, ended_at=ended_at, rules=_SILENCES
        )
        self.holes.append(truth)

    def _say(self, now: Snapshot, second: float, at_us: int) -> list[tuple[str, Reading]]:
        """Return what the vehicle says, as its sensors and its faults have it."""
        ts = iso(at_us)
        said: list[tuple[str, Reading]] = []
        if now.ignition_on is not self._ignition_on:
            self._ignition_on = now.ignition_on
            said.append(("event", event(self.device_id, ts, "ignition", active=now.ignition_on)))
        if not now.parked or now.charging:
            self._awake_until_s = second + AWAKE_S
        asleep = second >= self._awake_until_s
        if asleep is not self._asleep:
            self._asleep = asleep
            said.append(("event", event(self.device_id, ts, "connectivity", code="sleep", active=asleep)))
        readings = (
            ("telemetry", telemetry(self.device_id, ts, self.model, now)),
            ("battery", battery(self.device_id, ts, self.model, self._character, now, self._ailment(at_us))),
        )
        said += [(channel, self._sensors.read(reading, self._random)) for channel, reading in readings]
        for began_us, fault in self._faults:
            if at_us >= began_us:
                altered = [(channel, fault.said(channel, reading)) for channel, reading in said]
                said = [(channel, reading) for channel, reading in altered if reading is not None]
        return said

    def _ailment(self, at_us: int) -> Ailment:
        return next((fault.ailment for began_us, fault in self._faults if at_us >= began_us), Ailment())

    def _encode(self, channel: str, reading: Reading) -> bytes:
        self._seq += 1
        return encode(reading | {"seq": self._seq}, self._habits.encoding)

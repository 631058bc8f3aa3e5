"""Who comes to charge: parameters of real DC sessions, and a vehicle that charges as they did. Pure but for reading.

Source: Level 3 EV charging dataset, EPFL DESL, github.com/DESL-EPFL/Level-3-EV-charging-dataset, MIT licence; 1,878
sessions on two CCS plugs in western Switzerland, April 2022 to July 2023.
"""

import csv
import random
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import msgspec

from simulators.chargers.meter import US_PER_HOUR, US_PER_S
from simulators.target import SimulationError

_HOURS = (
    *(0.15, 0.20, 0.09, 0.06, 0.05, 0.17, 0.38, 0.45, 0.83, 1.34, 1.27, 1.80),
    *(1.70, 1.58, 1.64, 1.96, 1.85, 1.90, 1.99, 1.46, 1.01, 1.15, 0.61, 0.35),
)
"""Arrivals by hour of day over their mean, counted in the data set: few at night, most in the afternoon."""
_TAPER_SOC = 0.8
"""Vehicles slow down above; the recorded requests fall from there on."""
_POWER_LEAST = 0.06
"""Part of its full power that a nearly full vehicle still takes."""


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """What one vehicle wants.

    Attributes:
        energy_wh: Taken in all.
        capacity_wh: Of its battery.
        soc_from: On arrival, 0 .. 1.
        power_max_w: Most it takes.
        idle_s: How long it stays when it has enough.
    """

    energy_wh: int
    capacity_wh: int
    soc_from: float
    power_max_w: int
    idle_s: float


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """One session of the data set.

    Attributes:
        number: Of the session, unique.
        plug: `CCS1` or `CCS2`.
        arrival_us: UTC microseconds since 1970; the file has no zone and is taken as UTC.
        departure_us: The same, later.
        energy_wh: As the file has it, with fractions in a few rows.
        power_max_w: Highest measured.
        soc_arrival_pct: 0 .. 100.
        soc_departure_pct: 0 .. 100.
        capacity_wh: Energy capacity that the authors derived.
    """

    number: int
    plug: str
    arrival_us: int
    departure_us: int
    energy_wh: float
    power_max_w: int
    soc_arrival_pct: float
    soc_departure_pct: float
    capacity_wh: float

    @property
    def energy_exponent(self) -> float:
        """Exponent k of energy(x) = energy * (1 - (1 - x)^k) over the part x of the stay.

        Then power begins at its maximum and falls to nothing, as it does when a battery fills: the derivative at x = 0
        is k * mean power, so k is peak over mean. A stay whose mean is above its peak (times have minutes only) is
        taken as even.
        """
        mean_w = self.energy_wh * US_PER_HOUR / (self.departure_us - self.arrival_us)
        return max(self.power_max_w / mean_w, 1.0) if mean_w else 1.0


def read_sessions(file: Path) -> list[Recorded]:
    """Return the sessions in order of arrival.

    The columns `Stay (min)` (rounded up) and `TotalCapacity` (of the station's own battery) are not used.
    Raises: SimulationError: The file cannot be read, a row is not of this format, a session ends before it begins, a
        number comes twice, or two sessions of one plug overlap; no row is repaired or left out in silence.
    """
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            sessions = [_recorded(file, line, row) for line, row in enumerate(csv.DictReader(lines), 2)]
    except OSError as exc:
        raise SimulationError(f"{file}: {exc.strerror}; give the sessions.csv of the DESL data set") from exc
    if not sessions:
        raise SimulationError(f"{file}: no sessions; give the sessions.csv of the DESL data set")
    if len({session.number for session in sessions}) < len(sessions):
        raise SimulationError(f"{file}: a session number comes twice; number the sessions anew")
    sessions.sort(key=lambda session: (session.arrival_us, session.plug))
    for plug in sorted({session.plug for session in sessions}):
        for before, after in pairwise(session for session in sessions if session.plug == plug):
            if after.arrival_us < before.departure_us:
                raise SimulationError(
                    f"{file}: sessions {before.number} and {after.number} overlap on {plug}; mend their times"
                )
    return sessions


def _recorded(file: Path, line: int, row: dict[str, str]) -> Recorded:
    try:
        session = Recorded(
            number=int(row["Session"]),
            plug=row["CCS"],
            arrival_us=_us(row["Arrival"]),
            departure_us=_us(row["Departure"]),
            energy_wh=float(row["Energy (Wh)"]),
            power_max_w=int(row["Pmax (W)"]),
            soc_arrival_pct=float(row["SOC arrival"]),
            soc_departure_pct=float(row["SOC departure"]),
            capacity_wh=float(row["Energy capacity (Wh)"]),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise SimulationError(f"{file}:{line}: {exc!r}; give the sessions.csv of the DESL data set") from exc
    if session.departure_us <= session.arrival_us or session.energy_wh < 0:
        raise SimulationError(f"{file}:{line}: session {session.number} takes no time or no energy; mend the row")
    return session


def _us(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * US_PER_S


BUILT_IN: tuple[tuple[int, int, float, float], ...] = (
    (4096, 22287, 64, 100),
    (6303, 73908, 8, 18),
    (8032, 103716, 30, 38),
    (9349, 141990, 20, 34),
    (10716, 61800, 72, 82),
    (11712, 55896, 47, 73),
    (12780, 96597, 6, 21),
    (13763, 63366, 64, 81),
    (14733, 150195, 17, 33),
    (15877, 65097, 55, 75),
    (16777, 55434, 46, 97),
    (17654, 84057, 56, 80),
    (18495, 53946, 23, 69),
    (19697, 88533, 74, 100),
    (20517, 73485, 17, 64),
    (21706, 94791, 53, 79),
    (22672, 69795, 37, 79),
    (23492, 53625, 25, 99),
    (24398, 169431, 51, 80),
    (25076, 53193, 19, 100),
    (26038, 155859, 32, 65),
    (26937, 60705, 26, 58),
    (27852, 64905, 49, 79),
    (28968, 88155, 62, 94),
    (29884, 145113, 22, 55),
    (31522, 51171, 7, 73),
    (32569, 104166, 34, 80),
    (33422, 73140, 43, 90),
    (34329, 150024, 26, 70),
    (35650, 152937, 40, 80),
    (37194, 131547, 37, 95),
    (38035, 114345, 28, 72),
    (39226, 114438, 40, 91),
    (40555, 100365, 38, 83),
    (41385, 170127, 31, 80),
    (42558, 170298, 6, 56),
    (43602, 169206, 29, 80),
    (45316, 160167, 14, 77),
    (46932, 159801, 16, 77),
    (48482, 111291, 39, 95),
    (49876, 139059, 16, 80),
    (51245, 124035, 17, 89),
    (53141, 156357, 11, 80),
    (55797, 159693, 23, 94),
    (57954, 112791, 11, 84),
    (60341, 174153, 27, 79),
    (64542, 161751, 16, 97),
    (75312, 169086, 15, 100),
)
"""Every 39th session by energy: (energy in Wh, most power in W, state of charge on arrival and on departure in
percent). What fleets draw from when no file is given."""


class Visitors:
    """Draws visits.

    Args:
        random_: Source of chance.
        sessions: Recorded ones to draw from; empty for the built-in table.
        mean_gap_s: Between two vehicles at one outlet, over the day.
    """

    def __init__(self, random_: random.Random, sessions: list[Recorded], *, mean_gap_s: float) -> None:
        self._random, self._mean_gap_s = random_, mean_gap_s
        self._rows = [
            (round(s.energy_wh), s.power_max_w, s.soc_arrival_pct, s.soc_departure_pct) for s in sessions
        ] or list(BUILT_IN)

    def gap_s(self, at_us: int) -> float:
        """Return how long the outlet stays free, drawn from an exponential distribution that knows the hour."""
        hour = at_us // US_PER_HOUR % 24
        return self._random.expovariate(_HOURS[hour]) * self._mean_gap_s

    def next(self) -> Visit:
        """Return what the next vehicle wants."""
        energy_wh, power_max_w, soc_from_pct, soc_to_pct = self._random.choice(self._rows)
        energy_wh = max(energy_wh, 100)
        charged = max(soc_to_pct - soc_from_pct, 1.0) / 100
        return Visit(
            energy_wh=energy_wh,
            capacity_wh=round(energy_wh / charged),
            soc_from=soc_from_pct / 100,
            power_max_w=max(power_max_w, 3_700),
            idle_s=self._random.choice((0.0, 0.0, self._random.expovariate(1 / 300))),
        )


class Load(Protocol):
    """What hangs on an outlet.

    Attributes:
        limit_w: The most it may draw; the charger sets it, and it holds until the charger sets another.
    """

    limit_w: int

    def draw(self, to_us: int) -> int:
        """Return the watt-microseconds drawn since the last call, or since it was plugged in."""
        ...

    @property
    def measured_us(self) -> int:
        """Up to when the energy of `draw` reaches."""
        ...

    @property
    def wanted_w(self) -> int:
        """What it would draw if it were let, 0 when it has enough."""
        ...

    @property
    def soc(self) -> float:
        """State of charge, 0 .. 1."""
        ...

    @property
    def voltage_v(self) -> float:
        """Of its battery."""
        ...

    @property
    def is_leaving(self) -> bool:
        """Whether it wants the session to end."""
        ...

    @property
    def battery_wh(self) -> float | None:
        """What went into its battery since it was plugged in, None when nobody measures it."""
        ...


class Car:
    """A vehicle of which nothing is known but what it takes.

    Args:
        visit: What it wants.
        at_us: When it was plugged in.
    """

    def __init__(self, visit: Visit, at_us: int) -> None:
        self.limit_w = 0
        self._visit, self._at_us = visit, at_us
        self._left_wus = visit.energy_wh * US_PER_HOUR
        self._full_at_us: int | None = None

    def draw(self, to_us: int) -> int:
        """Take power since the last call: constant in between, less when that is more than it still wants."""
        us, self._at_us = max(to_us - self._at_us, 0), max(to_us, self._at_us)
        drawn_wus = min(min(self.limit_w, self.wanted_w) * us, self._left_wus)
        self._left_wus -= drawn_wus
        if not self._left_wus and self._full_at_us is None:
            self._full_at_us = self._at_us
        return drawn_wus

    @property
    def measured_us(self) -> int:
        """Up to when the energy of `draw` reaches."""
        return self._at_us

    @property
    def wanted_w(self) -> int:
        """Full power, less over 80 %."""
        if not self._left_wus:
            return 0
        room = (1.0 - self.soc) / (1.0 - _TAPER_SOC)
        return round(self._visit.power_max_w * min(max(room, _POWER_LEAST), 1.0))

    @property
    def soc(self) -> float:
        """State of charge, 0 .. 1."""
        taken_wh = self._visit.energy_wh - self._left_wus / US_PER_HOUR
        return min(self._visit.soc_from + taken_wh / self._visit.capacity_wh, 1.0)

    @property
    def voltage_v(self) -> float:
        """Of a 400 V battery."""
        return 330.0 + 75.0 * self.soc

    @property
    def is_leaving(self) -> bool:
        """When it has been full for as long as its driver stays."""
        if self._full_at_us is None:
            return False
        return self._at_us >= self._full_at_us + int(self._visit.idle_s * US_PER_S)

    @property
    def battery_wh(self) -> float | None:
        """Nobody measures it."""
        return None

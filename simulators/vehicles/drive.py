"""One vehicle driving its route for ever, a second at a time. Pure: the same seed gives the same journey."""

import random
from collections.abc import Callable
from math import exp
from typing import Protocol

import msgspec

from simulators.vehicles.physics import (
    COMFORT_TEMP_C,
    Flows,
    Model,
    Motion,
    PackState,
    climate_kw,
    step,
    wheel_kw,
)
from simulators.vehicles.routes import Position, Route, SpeedProfile

STEP_S = 1.0
PARKED_KW = 0.15
"""Battery management and telematics while the vehicle is off."""
CHARGE_BELOW_SOC, CHARGE_UNTIL_SOC = 0.25, 0.85
NIGHT_UNTIL_SOC = 0.95
"""Where a vehicle that is off duty leaves the charger; it does not leave the depot before its duty begins."""
HARD_BRAKING = 2.0
"""Times the planned deceleration: what a driver does who was a little late."""
ARRIVED_M = 1.0
"""Nobody stops nearer to the sign than that."""
_BISECTIONS = 16
"""Leaves 2 m/s over 2^16: far under what a speedometer shows."""


class Plug(Protocol):
    """The cable to a charger, as the vehicle sees it."""

    def offer_kw(self, *, wanted_kw: float, auxiliary_kw: float) -> float:
        """Return the most that may go into the battery's terminals during the next second, 0 for nothing.

        Args:
            wanted_kw: What the battery would take.
            auxiliary_kw: What the vehicle needs besides; the charger feeds it as well.
        """
        ...

    def took(self, flows: Flows, *, soc: float, voltage_v: float) -> None:
        """Take note of what flowed during a second, and of the battery after it."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether the charger has ended the session."""
        ...

    def leave(self) -> None:
        """End the session."""
        ...


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A vehicle at the end of one second.

    Attributes:
        position: Where it is.
        speed_mps: How fast, >= 0.
        odometer_m: Driven in its life.
        pack: Its battery.
        flows: Mean powers of the second, and voltage and current.
        cabin_temp_c: Inside.
        ambient_temp_c: Outside.
        ignition_on: Ready to drive.
        doors_open: Any.
        charging: Power comes from a charger.
        parked: Off duty at its depot; it may charge there.
    """

    position: Position
    speed_mps: float
    odometer_m: float
    pack: PackState
    flows: Flows
    cabin_temp_c: float
    ambient_temp_c: float
    ignition_on: bool
    doors_open: bool
    charging: bool
    parked: bool = False


class Drive:
    """The state of one vehicle.

    Args:
        model: Its type.
        route: Its loop.
        random_: Source of dwell times, of nothing else.
        soc: State of charge at the start, 0 .. 1.
        odometer_km: At the start.
        ambient_temp_c: Outside; the battery and the cabin begin there.
        start_m: Where on the route it begins, at a standstill.
        connect: Plugs in at the depot, or returns None while no charger is free, and is asked again a second later.
            Without it every depot has a charger of the battery's full power, which nobody else hears of.
        is_charging: Whether it begins at the depot's charger; `start_m` must be the depot.
    """

    def __init__(
        self,
        model: Model,
        route: Route,
        *,
        random_: random.Random,
        soc: float,
        odometer_km: float,
        ambient_temp_c: float,
        start_m: float = 0.0,
        connect: Callable[[], Plug | None] | None = None,
        is_charging: bool = False,
    ) -> None:
        self.model, self.route = model, route
        self._random = random_
        self._profile = SpeedProfile(route, model.braking_mps2)
        self._pack = PackState(soc=soc, temp_c=ambient_temp_c)
        self._odometer_m, self.ambient_temp_c = odometer_km * 1000, ambient_temp_c
        self._cabin_temp_c = ambient_temp_c
        self._at_m, self._speed_mps = start_m, 0.0
        self._dwell_s = 0.0
        self._connect, self._charging = connect, is_charging
        self._plug: Plug | None = None
        self.charge_until_soc = CHARGE_UNTIL_SOC
        """When it leaves a charger; whoever plugs it in may change that."""
        self.on_duty = True
        """Whether it goes round; a vehicle that is off duty parks when it comes to its depot, and charges there."""
        self._parked = False

    @property
    def soc(self) -> float:
        """State of charge, 0 .. 1."""
        return self._pack.soc

    @property
    def position(self) -> Position:
        """Where it is."""
        return self.route.position(self._at_m)

    @property
    def is_off(self) -> bool:
        """Whether its ignition is off: it charges or is parked."""
        return self._charging or self._parked

    def advance(self, step_s: float = STEP_S) -> Snapshot:
        """Let time pass and return how things stand: a second, or more while the ignition is off."""
        assert step_s == STEP_S or self.is_off
        standing = self.is_off or self._dwell_s > 0
        motion = Motion() if standing else self._drive()
        ignition_on = not self.is_off
        doors_open = standing and ignition_on and self.model.name == "bus"
        auxiliary_kw = PARKED_KW
        if ignition_on:
            auxiliary_kw = self.model.auxiliary_kw + climate_kw(self.model, ambient_temp_c=self.ambient_temp_c)
        self._pack, flows = step(
            self.model,
            self._pack,
            motion,
            auxiliary_kw=auxiliary_kw,
            ambient_temp_c=self.ambient_temp_c,
            charger_kw=self._charger_kw(auxiliary_kw) if self._charging else 0.0,
            step_s=step_s,
        )
        if self._plug is not None:
            self._plug.took(flows, soc=self._pack.soc, voltage_v=flows.voltage_v)
        wanted_c = COMFORT_TEMP_C if ignition_on else self.ambient_temp_c
        self._cabin_temp_c += (wanted_c - self._cabin_temp_c) * (1 - exp(-step_s / self.model.cabin_s))
        snapshot = Snapshot(
            position=self.route.position(self._at_m),
            speed_mps=self._speed_mps,
            odometer_m=self._odometer_m,
            pack=self._pack,
            flows=flows,
            cabin_temp_c=self._cabin_temp_c,
            ambient_temp_c=self.ambient_temp_c,
            ignition_on=ignition_on,
            doors_open=doors_open,
            charging=flows.charger_kw > 0,
            parked=self._parked,
        )
        if standing:
            self._stand()
        return snapshot

    def _charger_kw(self, auxiliary_kw: float) -> float:
        """Return what the charger gives, before auxiliaries."""
        wanted_kw = self.model.battery.charge_max_kw * self._taper()
        if self._connect is None:
            return wanted_kw
        if self._plug is None:
            self._plug = self._connect()
        if self._plug is None:
            return 0.0
        offered_kw = self._plug.offer_kw(wanted_kw=wanted_kw, auxiliary_kw=auxiliary_kw)
        return min(wanted_kw, offered_kw) + auxiliary_kw if offered_kw > 0 else 0.0

    def _taper(self) -> float:
        """Chargers slow down over 80 %."""
        return min(1.0, max(0.1, (1.0 - self._pack.soc) / 0.2))

    def _stand(self) -> None:
        """Pass a second at a stop or a charger."""
        if self._charging:
            is_over = self._plug is not None and self._plug.is_over
            self._charging = self._pack.soc < self.charge_until_soc and not is_over
            if not self._charging:
                self.charge_until_soc, self._parked = CHARGE_UNTIL_SOC, not self.on_duty
                if self._plug is not None:
                    self._plug.leave()
                    self._plug = None
        elif self._parked:
            self._parked = not self.on_duty
        else:
            self._dwell_s = max(self._dwell_s - STEP_S, 0.0)

    def _drive(self) -> Motion:
        """Move for a second as fast as limits, stops, comfort and the motor allow."""
        if self._at_m >= self.route.length_m:
            self._at_m = 0.0
        stop_m = self._profile.next_stop_m(self._at_m)
        motion = self._fastest(stop_m)
        is_slow = self._speed_mps <= HARD_BRAKING * self.model.braking_mps2 * STEP_S
        if is_slow and stop_m - self._at_m - motion.distance_m < ARRIVED_M:
            motion = self._motion(0.0, stop_m - self._at_m)
            self._arrive(stop_m)
        self._at_m += motion.distance_m
        self._odometer_m += motion.distance_m
        self._speed_mps = motion.speed_to_mps
        return motion

    def _arrive(self, stop_m: float) -> None:
        self._dwell_s = round(self.route.dwell_s(stop_m) * self._random.uniform(0.7, 1.5))
        if stop_m < self.route.length_m:
            return
        self._parked = not self.on_duty
        if self._parked:
            self.charge_until_soc = NIGHT_UNTIL_SOC
        self._charging = self._pack.soc < (NIGHT_UNTIL_SOC if self._parked else CHARGE_BELOW_SOC)

    def _fastest(self, stop_m: float) -> Motion:
        """Return the motion with the highest end speed that is allowed, by bisection; braking hard always is."""
        model, speed = self.model, self._speed_mps
        low, high = (
            max(speed - HARD_BRAKING * model.braking_mps2 * STEP_S, 0.0),
            speed + model.acceleration_mps2 * STEP_S,
        )
        best = self._mean_motion(low)
        for i in range(_BISECTIONS):
            tried = self._mean_motion(high if i == 0 else (low + high) / 2)
            if self._is_allowed(tried, stop_m):
                best, low = tried, tried.speed_to_mps
                if i == 0:
                    break
            else:
                high = tried.speed_to_mps
        return best

    def _is_allowed(self, motion: Motion, stop_m: float) -> bool:
        to_m = self._at_m + motion.distance_m
        return (
            to_m <= stop_m
            and motion.speed_to_mps <= self._profile.allowed_mps(to_m, stop_m)
            and wheel_kw(self.model, motion, STEP_S) <= self.model.traction_max_kw
        )

    def _mean_motion(self, speed_to_mps: float) -> Motion:
        return self._motion(speed_to_mps, (self._speed_mps + speed_to_mps) / 2 * STEP_S)

    def _motion(self, speed_to_mps: float, distance_m: float) -> Motion:
        to_m = min(self._at_m + distance_m, self.route.length_m)
        climb_m = self.route.altitude_m(to_m) - self.route.altitude_m(self._at_m)
        return Motion(speed_from_mps=self._speed_mps, speed_to_mps=speed_to_mps, distance_m=distance_m, climb_m=climb_m)

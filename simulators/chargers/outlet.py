"""An outlet of a charger: its plug, meter, reservation and the session on it. No network, no clock."""

import asyncio

import msgspec

from simulators.chargers.hardware import AC_PHASE_V, Hardware, Version
from simulators.chargers.meter import Register, Sample, mean_w
from simulators.chargers.session import Place, Session, Token
from simulators.chargers.visits import Load

_AMBIENT_C = 14.0
_WARMING_C_PER_KW = 0.16
"""A plug at 150 kW is as warm as one may touch."""


class Guest(msgspec.Struct, frozen=True, kw_only=True):
    """Who plugs in.

    Attributes:
        load: What draws.
        token: What the driver shows.
        vehicle: Device id, None for a vehicle that nobody else hears of.
        remote_start_id: Of the command that asks for it, None without; 1.6 has none, so there it is 0.
    """

    load: Load
    token: Token
    vehicle: str | None = None
    remote_start_id: int | None = None


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """Who may plug in until when."""

    number: int
    token: str
    until_us: int


class Outlet:
    """One outlet.

    Args:
        place: Which.
        hardware: Of the charger.
        start_wh: What its meter has counted before.
        has_temperature: Whether the version has a measurand for it: 1.6 has, 2.x has not.
    """

    def __init__(self, place: Place, hardware: Hardware, *, start_wh: int, has_temperature: bool) -> None:
        self.place, self.hardware, self._has_temperature = place, hardware, has_temperature
        self.register = Register(start_wh)
        self.status = "Available"
        self.is_operative = True
        self.reservation: Reservation | None = None
        self.guest: Guest | None = None
        """Who is plugged in or on the way."""
        self.session: Session | None = None
        self.woken = asyncio.Event()
        """Set when there is something to do before the next tick."""
        self.able = 1.0
        """Part of its rated power that its electronics can give."""
        self.hangs = False
        """Whether it has forgotten to end a session, and lets nobody begin another one."""
        self._sampled_wus = 0
        self._sampled_us = 0
        self._power_w = 0

    @property
    def is_free(self) -> bool:
        """Whether somebody could plug in."""
        return self.guest is None and self.is_operative and not self.hangs

    @property
    def most_w(self) -> int:
        """What it can give now."""
        return round(self.hardware.outlet_w * self.able)

    def reserved_at(self, at_us: int) -> Reservation | None:
        """Return the reservation that holds now; one that is over is forgotten."""
        if self.reservation is not None and self.reservation.until_us <= at_us:
            self.reservation = None
        return self.reservation

    def wake(self) -> None:
        """Make the outlet look at what changed."""
        self.woken.set()

    def plug_in(self, guest: Guest, at_us: int) -> None:
        """Let somebody plug in. The outlet must be free."""
        assert self.guest is None
        self.guest = guest
        guest.load.limit_w = 0
        self._sampled_wus, self._sampled_us = self.register.delivered_wus, at_us
        self.wake()

    def unplug(self) -> None:
        """Let them go."""
        if self.guest is not None:
            self.guest.load.limit_w = 0
        self.guest = self.session = None

    def settle(self, to_us: int) -> None:
        """Count what was drawn up to now under the old limit."""
        if self.guest is not None:
            self.register.add(self.guest.load.draw(to_us))

    def wanted_w(self, limit_w: int | None) -> int:
        """Return what a vehicle with a session could use, given the profiles' limit."""
        if self.guest is None or self.session is None or self.session.stop_reason is not None:
            return 0
        most_w = self.most_w if limit_w is None else min(limit_w, self.most_w)
        return min(self.guest.load.wanted_w, most_w)

    def sample(self) -> Sample:
        """Read the meter; the power is the mean since it was read last, so that power adds up to energy.

        The time is that of the energy: a vehicle that reports once a second is up to a second behind the charger.
        """
        assert self.guest is not None
        load = self.guest.load
        us = load.measured_us - self._sampled_us
        if us > 0:
            self._power_w = mean_w(self.register.delivered_wus - self._sampled_wus, us)
            self._sampled_wus, self._sampled_us = self.register.delivered_wus, load.measured_us
        is_dc = self.hardware.is_dc
        return Sample(
            at_us=self._sampled_us,
            energy_wh=self.register.wh,
            power_w=self._power_w,
            offered_w=load.limit_w,
            is_dc=is_dc,
            voltage_v=load.voltage_v if is_dc else AC_PHASE_V,
            soc_pct=load.soc * 100 if is_dc else None,
            temp_c=_AMBIENT_C + self._power_w / 1000 * _WARMING_C_PER_KW if self._has_temperature else None,
        )

    @property
    def charging_state(self) -> str:
        """In 2.x's words: who of the two holds back."""
        assert self.guest is not None
        if self.guest.load.wanted_w == 0:
            return "SuspendedEV"
        return "Charging" if self.guest.load.limit_w else "SuspendedEVSE"


def places(hardware: Hardware, version: Version) -> list[Place]:
    """Return the connectors of a charger."""
    found: list[Place] = []
    for evse, connectors in enumerate(hardware.evses, 1):
        for connector in range(1, connectors + 1):
            number = len(found) + 1
            where = number if version == "1.6" else evse
            found.append(Place(number=number, where=where, evse=evse, connector=connector))
    return found

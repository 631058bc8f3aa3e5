"""What chargers are made of: outlets, power, cabinets that several outlets share. Pure."""

from collections.abc import Sequence
from typing import Literal

import msgspec

Version = Literal["1.6", "2.0.1", "2.1"]
VERSIONS: tuple[Version, ...] = ("1.6", "2.0.1", "2.1")

AC_PHASE_V = 230.0
AC_PHASES = 3


class Hardware(msgspec.Struct, frozen=True, kw_only=True):
    """A type of charger.

    Attributes:
        name: Of the type.
        vendor: As BootNotification says it.
        model: As BootNotification says it.
        is_dc: Whether it rectifies, and so knows the vehicle's state of charge.
        evses: Connectors of each EVSE. An EVSE serves one of its connectors at a time; in 1.6, which knows no EVSE, its
            connectors are numbered through.
        outlet_w: Most power of one outlet.
        cabinet_w: Most power of all together, or None for a full supply of each.
        efficiency: Battery terminals over outlet, of vehicles that charge here: cable, contactors and, on AC, the
            vehicle's rectifier.
    """

    name: str
    vendor: str
    model: str
    is_dc: bool
    evses: tuple[int, ...]
    outlet_w: int
    cabinet_w: int | None = None
    efficiency: float

    @property
    def rated_kw(self) -> float:
        """Most power of the whole charger."""
        full_w = self.outlet_w * len(self.evses)
        return (full_w if self.cabinet_w is None else min(full_w, self.cabinet_w)) / 1000


HARDWARE: tuple[Hardware, ...] = (
    Hardware(
        name="ac-one", vendor="Nordlys", model="AC22-S", is_dc=False, evses=(1,), outlet_w=22_000, efficiency=0.92
    ),
    Hardware(
        name="dc-one", vendor="Ohmwerk", model="DC150-S", is_dc=True, evses=(1,), outlet_w=150_000, efficiency=0.96
    ),
    Hardware(
        name="cabinet",
        vendor="Ampera Grid",
        model="C240-4",
        is_dc=True,
        evses=(1, 1, 1, 1),
        outlet_w=120_000,
        cabinet_w=240_000,
        efficiency=0.95,
    ),
    Hardware(
        name="ac-two", vendor="Nordlys", model="AC22-D", is_dc=False, evses=(1, 1), outlet_w=22_000, efficiency=0.93
    ),
    Hardware(
        name="dc-two", vendor="Ohmwerk", model="DC150-D", is_dc=True, evses=(2,), outlet_w=150_000, efficiency=0.97
    ),
)
"""The types that fleets have in turn. The vendors do not exist."""


def share_w(wanted_w: Sequence[int], total_w: int) -> list[int]:
    """Split a cabinet's power: who wants less than an even share gets it, the others share what is left evenly.

    Args:
        wanted_w: What each outlet could use, >= 0.
        total_w: What there is.
    Returns: The power of each outlet, in the same order; the sum is at most `total_w`.
    """
    granted, left_w = [0] * len(wanted_w), total_w
    order = sorted(range(len(wanted_w)), key=lambda i: wanted_w[i])
    for place, i in enumerate(order):
        granted[i] = min(wanted_w[i], left_w // (len(order) - place))
        left_w -= granted[i]
    return granted

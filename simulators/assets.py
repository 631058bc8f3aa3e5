"""Facts about simulated devices that an operator keeps: where a charger stands, whose token a bus shows."""

from functools import cache
from hashlib import sha256

import msgspec

from simulators.chargers.session import Token
from simulators.vehicles.routes import ROUTES, Position


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """A depot: where lines begin and end, and chargers stand."""

    name: str
    latitude_deg: float
    longitude_deg: float


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a device.

    Attributes:
        device_id: Its name.
        kind: `vehicle` or `charger`.
        site: Name of its depot.
        latitude_deg: Of a charger; None for what moves.
        longitude_deg: Of a charger.
        rated_power_kw: Most of a charger, or most that a vehicle's battery takes.
        vin: Of a vehicle.
        id_tokens: What its driver shows at chargers.
        connectors: Of a charger.
    """

    device_id: str
    kind: str
    site: str
    latitude_deg: float | None = None
    longitude_deg: float | None = None
    rated_power_kw: float | None = None
    vin: str | None = None
    id_tokens: tuple[str, ...] = ()
    connectors: int | None = None


@cache
def sites() -> tuple[Site, ...]:
    """Return the depots: every place where some line begins, a city's first one under the city's name."""
    found: dict[tuple[float, float], Site] = {}
    for city, routes in ROUTES.items():
        number = 0
        for route in routes:
            point = route.waypoints[0]
            if (point.latitude_deg, point.longitude_deg) not in found:
                number += 1
                found[point.latitude_deg, point.longitude_deg] = Site(
                    name=city if number == 1 else f"{city}-{number}",
                    latitude_deg=point.latitude_deg,
                    longitude_deg=point.longitude_deg,
                )
    return tuple(found.values())


def site_at(position: Position) -> Site:
    """Return the depot that a vehicle stands in. Raises: StopIteration: It stands in none."""
    return next(
        site
        for site in sites()
        if abs(site.latitude_deg - position.latitude_deg) + abs(site.longitude_deg - position.longitude_deg) < 1e-6
    )


def vin(device_id: str) -> str:
    """Return a vehicle identification number that no maker gives out: 17 characters, none of I, O, Q."""
    return f"XVG{int(sha256(device_id.encode()).hexdigest(), 16) % 10**14:014d}"


def token(device_id: str) -> str:
    """Return the token of a vehicle's driver, at most 20 characters."""
    return f"VG-{device_id.upper()}"[:20]


def vehicle_token(device_id: str, *, with_vin: bool) -> Token:
    """Return what a vehicle shows; 2.x chargers may learn its VIN over the cable."""
    return Token(text=token(device_id), vin=vin(device_id) if with_vin else None)

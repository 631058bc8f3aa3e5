"""Where vehicles drive: closed loops through three cities, with heights, speed limits, stops and dwell.

The points follow streets roughly; between two of them a vehicle drives straight. Pure, no network.
"""

from bisect import bisect_right
from itertools import accumulate, pairwise
from math import asin, atan2, cos, degrees, hypot, radians, sin, sqrt

import msgspec

EARTH_RADIUS_M = 6_371_008.8
GRID_M = 5.0
"""Resolution of the speed profile: a vehicle at 50 km/h passes one grid point in 0.36 s."""
KMH_PER_MPS = 3.6


class Waypoint(msgspec.Struct, frozen=True, array_like=True):
    """A point of a route.

    Attributes:
        latitude_deg: North is positive.
        longitude_deg: East is positive.
        altitude_m: Above sea level.
        limit_kmh: Speed limit from here to the next point.
        dwell_s: How long a vehicle stops here, 0 for not at all.
    """

    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    limit_kmh: float
    dwell_s: float = 0.0


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """A place on a route."""

    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    heading_deg: float


def haversine_m(a: Waypoint, b: Waypoint) -> float:
    """Return the distance over ground between two points, on a sphere."""
    lat_a, lat_b = radians(a.latitude_deg), radians(b.latitude_deg)
    half_lat, half_lon = (lat_b - lat_a) / 2, radians(b.longitude_deg - a.longitude_deg) / 2
    return 2 * EARTH_RADIUS_M * asin(sqrt(sin(half_lat) ** 2 + cos(lat_a) * cos(lat_b) * sin(half_lon) ** 2))


def heading_deg(a: Waypoint, b: Waypoint) -> float:
    """Return the direction from `a` to `b`, 0 north, 90 east."""
    lat_a, lat_b = radians(a.latitude_deg), radians(b.latitude_deg)
    d_lon = radians(b.longitude_deg - a.longitude_deg)
    east = sin(d_lon) * cos(lat_b)
    north = cos(lat_a) * sin(lat_b) - sin(lat_a) * cos(lat_b) * cos(d_lon)
    return degrees(atan2(east, north)) % 360


class Route:
    """A closed loop that begins and ends at its depot, where vehicles always stop.

    Args:
        name: Depot and line, such as `gothenburg-bus-16`.
        waypoints: At least three, the first with a dwell; the way from the last to the first is part of the loop.
    """

    def __init__(self, name: str, waypoints: tuple[Waypoint, ...]) -> None:
        assert len(waypoints) >= 3
        assert waypoints[0].dwell_s
        self.name, self.waypoints = name, waypoints
        self._closed = (*waypoints, waypoints[0])
        lengths = [haversine_m(a, b) for a, b in pairwise(self._closed)]
        self._starts_m = [0.0, *accumulate(lengths)]
        self._headings_deg = [heading_deg(a, b) for a, b in pairwise(self._closed)]
        self.length_m = self._starts_m[-1]
        """Of the whole loop."""
        stops_m = [at_m for at_m, point in zip(self._starts_m, waypoints, strict=False) if point.dwell_s]
        self.stops_m = (*stops_m[1:], self.length_m)
        """Distances from the depot at which vehicles stop, rising; the last is the depot."""

    def _segment(self, at_m: float) -> int:
        return min(max(bisect_right(self._starts_m, at_m) - 1, 0), len(self.waypoints) - 1)

    def position(self, at_m: float) -> Position:
        """Return the place `at_m` metres from the depot, 0 .. `length_m`."""
        i = self._segment(at_m)
        a, b = self._closed[i], self._closed[i + 1]
        part = (at_m - self._starts_m[i]) / (self._starts_m[i + 1] - self._starts_m[i])
        return Position(
            latitude_deg=a.latitude_deg + (b.latitude_deg - a.latitude_deg) * part,
            longitude_deg=a.longitude_deg + (b.longitude_deg - a.longitude_deg) * part,
            altitude_m=a.altitude_m + (b.altitude_m - a.altitude_m) * part,
            heading_deg=self._headings_deg[i],
        )

    def altitude_m(self, at_m: float) -> float:
        """Return the height `at_m` metres from the depot: what `position` says, at a fraction of the price."""
        i = self._segment(at_m)
        a, b, start_m = self._closed[i].altitude_m, self._closed[i + 1].altitude_m, self._starts_m[i]
        return a + (b - a) * ((at_m - start_m) / (self._starts_m[i + 1] - start_m))

    def limit_mps(self, at_m: float) -> float:
        """Return the speed limit at a place."""
        return self.waypoints[self._segment(at_m)].limit_kmh / KMH_PER_MPS

    def dwell_s(self, stop_m: float) -> float:
        """Return how long vehicles stop at the stop at `stop_m`."""
        if stop_m >= self.length_m:
            return self.waypoints[0].dwell_s
        return self.waypoints[self._starts_m.index(stop_m)].dwell_s


class SpeedProfile:
    """The fastest a driver goes at each place: limits, braking in time for lower ones, standing at stops.

    Args:
        route: The loop.
        braking_mps2: Deceleration that the driver plans with.
    """

    def __init__(self, route: Route, braking_mps2: float) -> None:
        points = int(route.length_m / GRID_M) + 1
        self._braking = braking_mps2
        self._route = route
        allowed = [route.limit_mps(i * GRID_M) for i in range(points)]
        for i in range(points - 2, -1, -1):
            allowed[i] = min(allowed[i], hypot(allowed[i + 1], sqrt(2 * braking_mps2 * GRID_M)))
        self._allowed = allowed

    def next_stop_m(self, at_m: float) -> float:
        """Return the first stop beyond `at_m`."""
        stops = self._route.stops_m
        return stops[min(bisect_right(stops, at_m), len(stops) - 1)]

    def allowed_mps(self, at_m: float, stop_m: float) -> float:
        """Return the fastest at `at_m` for a driver who will stop at `stop_m`."""
        to_stop = sqrt(2 * self._braking * max(stop_m - at_m, 0.0))
        return min(self._allowed[min(int(at_m / GRID_M), len(self._allowed) - 1)], to_stop)


def _line(*points: tuple[float, float, float, float, float]) -> tuple[Waypoint, ...]:
    """Return a line driven to its end and back: the points and, in reverse, all but both ends."""
    there = [Waypoint(*point) for point in points]
    back = [
        Waypoint(p.latitude_deg, p.longitude_deg, p.altitude_m, before.limit_kmh, p.dwell_s)
        for before, p in zip(reversed(there[:-1]), reversed(there[1:]), strict=True)
    ]
    # The last point turns: its limit on the way back is that of the segment before it.
    return (*there[:-1], *back)


def _loop(*points: tuple[float, float, float, float, float]) -> tuple[Waypoint, ...]:
    return tuple(Waypoint(*point) for point in points)


ROUTES: dict[str, tuple[Route, ...]] = {
    "gothenburg": (
        Route(
            "gothenburg-bus-16",
            _line(
                (57.7207, 11.9343, 6.0, 30.0, 90.0),  # Eketragatan
                (57.7164, 11.9424, 8.0, 50.0, 18.0),
                (57.7118, 11.9462, 4.0, 50.0, 20.0),  # Lindholmen
                (57.7098, 11.9560, 3.0, 50.0, 0.0),
                (57.7139, 11.9667, 5.0, 50.0, 22.0),  # Hjalmar Brantingsplatsen
                (57.7114, 11.9700, 12.0, 40.0, 0.0),  # Hisingsbron
                (57.7089, 11.9731, 4.0, 30.0, 30.0),  # Nordstan
                (57.7044, 11.9667, 4.0, 30.0, 20.0),  # Brunnsparken to Kungsportsplatsen
                (57.6999, 11.9748, 10.0, 40.0, 15.0),  # Valand
                (57.6966, 11.9868, 16.0, 40.0, 25.0),  # Korsvägen
                (57.6902, 11.9760, 52.0, 50.0, 20.0),  # Chalmers
                (57.6829, 11.9592, 70.0, 50.0, 18.0),
                (57.6781, 11.9383, 60.0, 40.0, 120.0),
            ),
        ),
        Route(
            "gothenburg-bus-55",
            _line(
                (57.7062, 11.9366, 4.0, 30.0, 90.0),  # Lindholmen science park
                (57.7098, 11.9480, 4.0, 40.0, 20.0),
                (57.7139, 11.9667, 5.0, 50.0, 20.0),
                (57.7089, 11.9731, 4.0, 30.0, 30.0),
                (57.7008, 11.9829, 6.0, 40.0, 15.0),
                (57.6966, 11.9868, 16.0, 40.0, 20.0),
                (57.6873, 11.9795, 80.0, 40.0, 90.0),  # Johanneberg
            ),
        ),
        Route(
            "gothenburg-car",
            _loop(
                (57.7207, 11.9343, 6.0, 40.0, 120.0),
                (57.7240, 11.9120, 12.0, 60.0, 0.0),
                (57.7060, 11.8850, 20.0, 70.0, 0.0),  # Älvsborgsbron
                (57.6890, 11.9010, 30.0, 70.0, 0.0),
                (57.6740, 11.9230, 25.0, 80.0, 0.0),
                (57.6510, 11.9420, 30.0, 50.0, 60.0),  # Frölunda
                (57.6560, 12.0020, 40.0, 80.0, 0.0),
                (57.6780, 12.0080, 20.0, 70.0, 0.0),  # Mölndal
                (57.7020, 11.9960, 8.0, 50.0, 45.0),
                (57.7160, 11.9880, 5.0, 60.0, 0.0),
            ),
        ),
    ),
    "rotterdam": (
        Route(
            "rotterdam-bus-33",
            _line(
                (51.9249, 4.4690, 1.0, 30.0, 100.0),  # Centraal
                (51.9298, 4.4655, 0.0, 40.0, 18.0),
                (51.9371, 4.4602, -1.0, 50.0, 20.0),  # Blijdorp
                (51.9447, 4.4521, -2.0, 50.0, 15.0),
                (51.9513, 4.4420, -4.0, 50.0, 18.0),
                (51.9560, 4.4385, -4.5, 60.0, 120.0),  # The Hague Airport
            ),
        ),
        Route(
            "rotterdam-bus-38",
            _line(
                (51.9249, 4.4690, 1.0, 30.0, 90.0),
                (51.9190, 4.4790, 0.0, 40.0, 20.0),  # Beurs
                (51.9135, 4.4880, 1.0, 40.0, 20.0),
                (51.9090, 4.4870, 13.0, 50.0, 0.0),  # Erasmusbrug
                (51.9050, 4.4930, 1.0, 50.0, 25.0),  # Wilhelminaplein
                (51.8960, 4.5060, -1.0, 50.0, 18.0),
                (51.8880, 4.5120, -1.5, 50.0, 20.0),  # Zuidplein
                (51.8790, 4.5220, -1.5, 50.0, 110.0),
            ),
        ),
        Route(
            "rotterdam-car",
            _loop(
                (51.9249, 4.4690, 1.0, 30.0, 120.0),
                (51.9320, 4.4280, -2.0, 70.0, 0.0),
                (51.9150, 4.4010, -1.0, 100.0, 0.0),
                (51.8810, 4.3970, -8.0, 100.0, 0.0),  # Beneluxtunnel
                (51.8650, 4.4700, -1.0, 100.0, 0.0),
                (51.8760, 4.5420, 0.0, 80.0, 60.0),
                (51.9060, 4.5560, 14.0, 80.0, 0.0),  # Van Brienenoordbrug
                (51.9330, 4.5330, -2.0, 50.0, 40.0),
                (51.9400, 4.4930, -3.0, 50.0, 0.0),
            ),
        ),
    ),
    "munich": (
        Route(
            "munich-bus-100",
            _line(
                (48.1402, 11.5610, 521.0, 30.0, 90.0),  # Hauptbahnhof
                (48.1459, 11.5652, 519.0, 40.0, 20.0),  # Königsplatz
                (48.1481, 11.5706, 516.0, 50.0, 18.0),  # Pinakotheken
                (48.1470, 11.5790, 515.0, 30.0, 20.0),  # Odeonsplatz side
                (48.1435, 11.5860, 512.0, 50.0, 15.0),
                (48.1411, 11.5975, 508.0, 50.0, 18.0),  # Friedensengel, before the bridge
                (48.1399, 11.6040, 527.0, 50.0, 20.0),
                (48.1277, 11.6050, 530.0, 40.0, 110.0),  # Ostbahnhof
            ),
        ),
        Route(
            "munich-bus-53",
            _line(
                (48.1665, 11.5865, 507.0, 30.0, 90.0),  # Münchner Freiheit
                (48.1640, 11.5680, 509.0, 50.0, 20.0),
                (48.1600, 11.5520, 512.0, 50.0, 18.0),
                (48.1530, 11.5330, 516.0, 50.0, 22.0),  # Rotkreuzplatz
                (48.1420, 11.5280, 521.0, 50.0, 18.0),
                (48.1330, 11.5310, 527.0, 40.0, 100.0),
            ),
        ),
        Route(
            "munich-car",
            _loop(
                (48.1402, 11.5610, 521.0, 40.0, 120.0),
                (48.1510, 11.5350, 516.0, 60.0, 0.0),
                (48.1790, 11.5250, 508.0, 60.0, 0.0),
                (48.2140, 11.5270, 495.0, 100.0, 0.0),
                (48.2200, 11.6010, 486.0, 120.0, 60.0),
                (48.2150, 11.6650, 488.0, 100.0, 0.0),
                (48.1700, 11.6500, 512.0, 80.0, 0.0),
                (48.1350, 11.6450, 528.0, 60.0, 45.0),
                (48.1260, 11.5980, 529.0, 50.0, 0.0),
                (48.1280, 11.5650, 519.0, 50.0, 0.0),
            ),
        ),
    ),
}
"""Depot -> its lines; a name with `-bus-` is a bus line, the others are for cars. Points carry (latitude, longitude,
metres above the sea, km/h to the next point, seconds of dwell)."""

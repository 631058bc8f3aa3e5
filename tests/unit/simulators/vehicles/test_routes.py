"""Routes are closed, plausible, and can be driven."""

from itertools import pairwise

import pytest

from simulators.vehicles.routes import ROUTES, Route, SpeedProfile, Waypoint, haversine_m, heading_deg

ALL = [route for routes in ROUTES.values() for route in routes]


def test_there_are_three_depots_with_lines_for_buses_and_cars():
    """The default fleet spreads over them."""
    assert list(ROUTES) == ["gothenburg", "rotterdam", "munich"]
    for routes in ROUTES.values():
        assert {"-bus-" in route.name for route in routes} == {True, False}


def test_distance_is_that_of_the_sphere():
    """A degree of latitude is 111.2 km; a degree of longitude at 60 degrees half of that."""
    assert haversine_m(Waypoint(0, 0, 0, 1), Waypoint(1, 0, 0, 1)) == pytest.approx(111_195, rel=1e-4)
    assert haversine_m(Waypoint(60, 0, 0, 1), Waypoint(60, 1, 0, 1)) == pytest.approx(111_195 / 2, rel=1e-3)


@pytest.mark.parametrize(("lat", "lon", "heading"), [(1, 0, 0), (0, 1, 90), (-1, 0, 180), (0, -1, 270)])
def test_heading_counts_clockwise_from_north(lat: float, lon: float, heading: float):
    """The four winds."""
    assert heading_deg(Waypoint(0, 0, 0, 1), Waypoint(lat, lon, 0, 1)) == pytest.approx(heading)


@pytest.mark.parametrize("route", ALL, ids=lambda route: route.name)
def test_loop_ends_where_it_begins(route: Route):
    """Positions at both ends agree, so a vehicle never jumps."""
    start, end = route.position(0.0), route.position(route.length_m)
    assert (end.latitude_deg, end.longitude_deg) == pytest.approx((start.latitude_deg, start.longitude_deg))
    assert end.altitude_m == pytest.approx(start.altitude_m)


@pytest.mark.parametrize("route", ALL, ids=lambda route: route.name)
def test_route_is_one_that_streets_could_have(route: Route):
    """Between 5 and 50 km, no steeper than 8 %, limits of towns and motorways, stops in order."""
    assert 5_000 < route.length_m < 50_000
    for a, b in pairwise((*route.waypoints, route.waypoints[0])):
        assert abs(b.altitude_m - a.altitude_m) < 0.08 * haversine_m(a, b)
        assert 20 <= a.limit_kmh <= 130
    assert list(route.stops_m) == sorted(set(route.stops_m))
    assert route.stops_m[-1] == route.length_m


def test_bus_line_is_driven_to_its_end_and_back():
    """The way back has the same points, limits and length."""
    route = ROUTES["munich"][0]
    half = route.length_m / 2
    for at_m in (10.0, 500.0, half - 10):
        there, back = route.position(at_m), route.position(route.length_m - at_m)
        assert (there.latitude_deg, there.longitude_deg) == pytest.approx((back.latitude_deg, back.longitude_deg))
        assert route.limit_mps(at_m) == route.limit_mps(route.length_m - at_m)


def test_driver_brakes_in_time_for_a_lower_limit():
    """Nowhere does the profile fall faster than the braking it was made for."""
    route, braking_mps2 = ROUTES["rotterdam"][2], 1.4
    profile = SpeedProfile(route, braking_mps2)
    speeds = [profile.allowed_mps(at_m, route.length_m) for at_m in range(0, int(route.length_m), 5)]
    for before, after in pairwise(speeds):
        assert before**2 - after**2 <= 2 * braking_mps2 * 5 * 1.001
    assert all(speed <= route.limit_mps(i * 5) for i, speed in enumerate(speeds))
    assert max(speeds) == pytest.approx(100 / 3.6)


def test_next_stop_lies_ahead():
    """At a stop the next one is meant."""
    route = ROUTES["gothenburg"][0]
    profile = SpeedProfile(route, 1.0)
    assert profile.next_stop_m(0.0) == route.stops_m[0]
    assert profile.next_stop_m(route.stops_m[0]) == route.stops_m[1]
    assert profile.next_stop_m(route.length_m) == route.length_m

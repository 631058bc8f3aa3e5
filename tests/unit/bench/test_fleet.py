"""The fleet that both sides of a benchmark are fed with."""

import json
from datetime import UTC, datetime

from tests.bench.fleet import VARIANTS, Fleet

BEGAN_AT = datetime(2026, 11, 23, 23, 59, 30, tzinfo=UTC)


def fleet() -> Fleet:
    """Return three vehicles with two hundred messages."""
    return Fleet(devices=3, messages=200, began_at=BEGAN_AT)


def test_every_payload_has_the_same_length() -> None:
    """The feed writes one packet head per device."""
    some = fleet()
    assert {some.payload_bytes} == {len(some.payload(device, n)) for device in range(3) for n in range(200)}


def test_every_payload_is_json_of_about_300_bytes() -> None:
    """The size that the benchmarks speak of, whitespace included."""
    some = fleet()
    assert 280 <= some.payload_bytes <= 330
    assert all(json.loads(some.payload(2, n))["seq"] == n for n in range(200))


def test_the_clock_advances_one_second_per_message() -> None:
    """Over midnight too."""
    payload = json.loads(fleet().payload(0, 31))
    assert datetime(2026, 11, 24, 0, 0, 1, tzinfo=UTC) == datetime.fromisoformat(payload["ts"])


def test_no_two_payloads_are_equal() -> None:
    """A duplicate would be dropped and make the pipeline look cheap."""
    some = fleet()
    assert len({some.payload(device, n) for device in range(3) for n in range(200)}) == 600


def test_values_vary() -> None:
    """Constant columns would compress to nothing."""
    some = fleet()
    assert len({json.loads(some.payload(0, n))["speed_kmh"] for n in range(200)}) == VARIANTS

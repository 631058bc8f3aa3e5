"""A fleet whose clock the benchmarks own: each message of a device is one second after the one before.

That makes windows close as they do in the field, sixty readings each, however fast the messages are sent. Pure: the
start of the clock is an argument, and message n of device d is always the same bytes. All payloads have one length.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Final

VARIANTS: Final = 61
"""Distinct readings, a prime: minutes of sixty messages do not repeat each other's values."""


def device_ids(devices: int) -> list[str]:
    """Return the ids of a fleet."""
    return [f"bus-{index:05d}" for index in range(devices)]


def reading(variant: int) -> dict[str, object]:
    """Return the values of one variant; each has as many characters in every variant."""
    return {
        "latitude_deg": round(57.700001 + variant * 0.001, 6),
        "longitude_deg": round(11.900001 + variant * 0.0007, 6),
        "speed_kmh": round(20.01 + variant * 0.5, 2),
        "odometer_km": round(182331.1 + variant * 0.2, 1),
        "soc_pct": round(71.25 - variant * 0.02, 2),
        "power_kw": round(-34.11 + variant * 0.1, 2),
        "ambient_temp_c": 17.5,
        "range_km": round(231.1 - variant * 0.2, 1),
        "ignition": True,
        "doors_open": False,
        "charging": False,
        "heading_deg": round(100.1 + variant * 0.5, 1),
    }


class Fleet:
    """Payloads of a fleet.

    Args:
        devices: How many.
        messages: Messages per device, from 0.
        began_at: Measured time of message 0, whole seconds, UTC.
    """

    def __init__(self, *, devices: int, messages: int, began_at: datetime) -> None:
        self.ids = device_ids(devices)
        self._heads = [b'{"device_id":"%s","seq":' % name.encode() for name in self.ids]
        seconds = (began_at.astimezone(UTC) + timedelta(seconds=n) for n in range(messages))
        self._times = [b'%10d,"ts":"%sZ",' % (n, f"{at:%Y-%m-%dT%H:%M:%S}".encode()) for n, at in enumerate(seconds)]
        self._tails = [_fixed(reading(variant))[1:] for variant in range(VARIANTS)]
        assert len({len(tail) for tail in self._tails}) == 1

    def payload(self, device: int, number: int) -> bytes:
        """Return message `number` of a device."""
        return self._heads[device] + self._times[number] + self._tails[(number + device) % VARIANTS]

    @property
    def payload_bytes(self) -> int:
        """Length of every payload."""
        return len(self.payload(0, 0))


def _fixed(values: dict[str, object]) -> bytes:
    """Return the values as JSON in which numbers keep their zeros: 57.701 is 57.701000 beside 57.701001."""
    digits = {"latitude_deg": 6, "longitude_deg": 6, "speed_kmh": 2, "soc_pct": 2, "power_kw": 2}
    texts = (
        f'"{name}":' + (f"{value:.{digits.get(name, 1)}f}" if isinstance(value, float) else json.dumps(value))
        for name, value in values.items()
    )
    return ("{" + ",".join(texts) + "}").encode()

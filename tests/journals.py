"""Made-up journals for tests of the processors: a small fleet that does everything that devices do."""

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.core.ids import Channel, DeviceId, TenantId
from gateway.core.records import TICK_ROUTE, Envelope, Route
from gateway.journal.memory import MemoryJournal

START: Final = datetime(2026, 11, 22, 23, 50, tzinfo=UTC)
"""Ten minutes before a day ends, so that every journal of an hour has two partitions."""


def reading(device: str, at: datetime, *, received: datetime | None = None, **fields: object) -> Envelope:
    """Return a telemetry message measured at `at`."""
    payload = {"ts": at.isoformat().replace("+00:00", "Z"), "speed_kmh": 36.0, "soc_pct": 50.0, **fields}
    return message(
        device, "telemetry", json.dumps(payload).encode(), received=received or at + timedelta(milliseconds=80)
    )


def message(device: str, channel: str, payload: bytes, *, received: datetime) -> Envelope:
    """Return any message."""
    route = Route(TenantId("default"), DeviceId(device), "mqtt", Channel(channel))
    return Envelope(received_at_ns=to_ns(received), route=route, payload=payload)


def tick(at: datetime) -> Envelope:
    """Return an entry of the gateway's own."""
    return Envelope(received_at_ns=to_ns(at), route=TICK_ROUTE, payload=b"")


def to_ns(at: datetime) -> int:
    """Return nanoseconds since 1970, exactly."""
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def fleet(*, seed: int, seconds: int, devices: int = 4) -> list[Envelope]:
    """Return what a fleet sends: readings with duplicates, disorder, lateness and silence, garbage, ticks.

    Every run with the same arguments gives the same journal.
    """
    chance = random.Random(seed)
    sent: list[Envelope] = []
    for second in range(seconds):
        now = START + timedelta(seconds=second)
        for device in range(devices):
            name = f"ev-{device}"
            if device == 0 and 120 < second < 400:
                continue  # out of coverage
            late_s = chance.choice([0] * 20 + [2, 90, 1200])
            sent.append(
                reading(
                    name,
                    now - timedelta(seconds=late_s),
                    received=now + timedelta(milliseconds=80 + device),
                    speed_kmh=round(chance.uniform(0, 90), 2),
                    soc_pct=round(90 - second / 100, 2) if chance.random() > 0.01 else 900.0,
                )
            )
            if chance.random() < 0.05:
                again = chance.choice(sent[-50:])
                sent.append(
                    message(name, again.route.channel, again.payload, received=now + timedelta(milliseconds=95))
                )
            if chance.random() < 0.02:
                garbage = chance.choice([b"", b"{", b"[]", b"\xff\xfe", b'{"ts": 5, "speed_kmh": "fast"}', b"nonsense"])
                channel = chance.choice(["telemetry", "battery", "not/a/stream"])
                sent.append(message(name, channel, garbage, received=now + timedelta(milliseconds=97)))
        if second % 5 == 4:
            sent.append(tick(now + timedelta(milliseconds=500)))
    return sent


def to_journal(envelopes: list[Envelope]) -> MemoryJournal:
    """Return a journal that holds them, durable."""
    journal = MemoryJournal()
    for one in envelopes:
        journal.append_nowait(one.received_at_ns, [one.route], [one.payload], None)
    journal.commit()
    return journal

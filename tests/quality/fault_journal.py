"""From what devices say to alerts: deliveries become journal entries, the real chain makes events of them."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import msgspec

from gateway.core.ids import Channel, DeviceId, Offset, TenantId
from gateway.core.records import TICK_ROUTE, Envelope, Route, to_batch
from processors.contracts.load import ContractSet
from processors.stages.alert_record import AlertEvent
from processors.stages.chain import Chain
from simulators.vehicles.life import Delivery

US_PER_S = 1_000_000
TENANT = TenantId("default")


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert at the moment it began to fire.

    Attributes:
        alert_id: As made.
        device_id: Whose.
        rule: `stream/rule`.
        severity: As the rule has it.
        fired_us: When the entry was received that made it fire.
    """

    alert_id: str
    device_id: str
    rule: str
    severity: str
    fired_us: int


class Journal:
    """Feeds a chain and keeps the alerts that fire.

    Args:
        contracts: With the rules.
        tick_s: How often time is written.
    """

    def __init__(self, contracts: ContractSet, *, tick_s: float = 5.0) -> None:
        self._chain = Chain(contracts)
        self._state = self._chain.empty_state()
        self._tick_us = round(tick_s * US_PER_S)
        self._routes: dict[tuple[str, str, str], Route] = {}
        self._waiting: list[Delivery] = []
        self._next_tick_us: int | None = None
        self.alerts: list[Alert] = []
        self.messages = 0
        self.rejected = 0

    def put(self, deliveries: Iterable[Delivery]) -> None:
        """Take what will arrive."""
        self._waiting += deliveries

    def run_until(self, until_us: int) -> list[Alert]:
        """Process everything that arrives before a moment, ticks in between, and return what fires."""
        now = [one for one in self._waiting if one.received_us < until_us]
        self._waiting = [one for one in self._waiting if one.received_us >= until_us]
        now.sort()
        envelopes = [self._envelope(one) for one in now]
        envelopes += self._ticks(now, until_us)
        envelopes.sort(key=lambda envelope: envelope.received_at_ns)
        if not envelopes:
            return []
        outputs, self._state = self._chain.run(to_batch(Offset(self._state.next_offset), envelopes), self._state)
        self.messages += len(now)
        self.rejected += outputs.tables["rejects"].height
        fired = [
            Alert(
                alert_id=event.alert_id,
                device_id=event.device_id,
                rule=f"{event.stream}/{event.rule}",
                severity=event.severity,
                fired_us=event.received_at_us,
            )
            for event in outputs.events
            if isinstance(event, AlertEvent) and event.state == "firing" and event.revision == 1
        ]
        self.alerts += fired
        return fired

    def _ticks(self, now: Sequence[Delivery], until_us: int) -> list[Envelope]:
        if self._next_tick_us is None:
            if not now:
                return []
            self._next_tick_us = now[0].received_us
        ticks = [
            Envelope(received_at_ns=at_us * 1000, route=TICK_ROUTE, payload=b"")
            for at_us in range(self._next_tick_us, until_us, self._tick_us)
        ]
        self._next_tick_us += len(ticks) * self._tick_us
        return ticks

    def _envelope(self, one: Delivery) -> Envelope:
        level = one.channel.partition("/")[0]
        source = "ocpp" if level.startswith("ocpp") else "gateway" if one.channel == "asset" else "mqtt"
        key = (one.device_id, source, one.channel)
        route = self._routes.get(key)
        if route is None:
            route = self._routes[key] = Route(TENANT, DeviceId(one.device_id), source, Channel(one.channel))
        return Envelope(received_at_ns=one.received_us * 1000, route=route, payload=one.payload)


def to_us(text: str) -> int:
    """Return an ISO 8601 time as UTC microseconds since 1970."""
    at = datetime.fromisoformat(text)
    return int(at.timestamp()) * US_PER_S + at.microsecond


MIDNIGHT_US = int(datetime(2026, 11, 16, tzinfo=UTC).timestamp()) * US_PER_S
"""A Monday in autumn: where simulated days begin."""

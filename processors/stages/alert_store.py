"""What the life cycle remembers: live alerts, those that are over, silences, where devices are; all bounded."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from gateway.core.errors import CheckpointError
from gateway.core.limits import (
    ALERTS_CRITICAL_RESERVE,
    ALERTS_OPEN_MAX,
    ALERTS_PER_DEVICE_MAX,
    ALERTS_RESOLVED_MAX,
    ASSETS_MAX,
    SILENCES_MAX,
)
from processors.stages.alert_record import AlertEvent, ResolvedBy, SilenceEvent

_VERSION: Final = 1

Device = tuple[str, str]
"""Tenant and device id."""


class Place(NamedTuple):
    """Where on a device what holds: a device has one live alert per place."""

    part: str | None
    stream: str
    rule: str


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """An alert whose condition holds. One that an operator resolved meanwhile lives on in silence until it ends.

    Attributes:
        event: Its newest revision.
        since_offset: Episode that is under way, as its detector names it.
        fingerprint: Rule that began it, as it was then.
        flaps: How often it came back after its end.
    """

    event: AlertEvent
    since_offset: int
    fingerprint: str
    flaps: int = 0

    @property
    def device(self) -> Device:
        """Whose it is."""
        return self.event.tenant, self.event.device_id

    @property
    def place(self) -> Place:
        """Where on the device it is."""
        return Place(self.event.part, self.event.stream, self.event.rule)


class Past(msgspec.Struct, frozen=True, array_like=True):
    """The newest alert of a place that is over: enough to open it again, and to know it when an order names it."""

    tenant: str
    device_id: str
    part: str | None
    stream: str
    rule: str
    alert_id: str
    revision: int
    fired_at_us: int
    flaps: int
    ended_at_us: int
    resolved_by: ResolvedBy | None


class _Packed(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    rules: str
    live: list[Live]
    past: list[Past]
    sites: list[tuple[str, str, str]]
    silences: list[SilenceEvent]


class AlertState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What the life cycle remembers between batches. A value: nothing changes it.

    Attributes:
        rules: Digest of the rules that `live` was last held against.
        live: Device -> place -> alert, no device without one.
        live_count: How many there are.
        past: The newest alert of each place that is over, the one over for longest first.
        sites: Device -> where it belongs, the one stated longest ago first.
        silences: Those that had not ended when the newest was ordered, and that nobody removed.
    """

    rules: str = ""
    live: dict[Device, dict[Place, Live]] = {}
    live_count: int = 0
    past: dict[tuple[Device, Place], Past] = {}
    sites: dict[Device, str] = {}
    silences: dict[str, SilenceEvent] = {}

    @classmethod
    def empty(cls) -> "AlertState":
        """Return the state before the first entry."""
        return cls()

    def alerts(self) -> Iterator[Live]:
        """Yield the live alerts."""
        for places in self.live.values():
            yield from places.values()

    def to_bytes(self) -> bytes:
        """Return the state as one MessagePack map."""
        packed = _Packed(
            version=_VERSION,
            rules=self.rules,
            live=list(self.alerts()),
            past=list(self.past.values()),
            sites=[(*device, site) for device, site in self.sites.items()],
            silences=list(self.silences.values()),
        )
        return msgspec.msgpack.encode(packed)

    @classmethod
    def from_bytes(cls, payload: bytes) -> "AlertState":
        """Invert `to_bytes`. What became of the rules meanwhile is looked at with the next tick.

        Raises: CheckpointError: The bytes are no state of this version.
        """
        try:
            packed = msgspec.msgpack.decode(payload, type=_Packed)
        except msgspec.DecodeError as exc:
            raise CheckpointError(f"state of alerts is unreadable: {exc}; rebuild it from the journal") from exc
        if packed.version != _VERSION:
            raise CheckpointError(f"state of alerts is version {packed.version}, not {_VERSION}; rebuild it")
        live: dict[Device, dict[Place, Live]] = {}
        for alert in packed.live:
            live.setdefault(alert.device, {})[alert.place] = alert
        return cls(
            rules=packed.rules,
            live=live,
            live_count=len(packed.live),
            past={((p.tenant, p.device_id), Place(p.part, p.stream, p.rule)): p for p in packed.past},
            sites={(tenant, device_id): site for tenant, device_id, site in packed.sites},
            silences={silence.silence_id: silence for silence in packed.silences},
        )


class AlertStore:
    """A state that a batch changes: a copy of what is touched, so that the state it came from stays as it is."""

    def __init__(self, state: AlertState) -> None:
        self._live, self._live_count = dict(state.live), state.live_count
        self._past = dict(state.past)
        self._silences = state.silences
        self._sites, self._are_sites_ours = state.sites, False
        self._places_of_ids: dict[str, tuple[Device, Place]] | None = None

    def to_state(self, rules: str) -> AlertState:
        """Return the state after the batch."""
        return AlertState(
            rules=rules,
            live=self._live,
            live_count=self._live_count,
            past=self._past,
            sites=self._sites,
            silences=self._silences,
        )

    # ---- alerts ------------------------------------------------------------------------------------------------------
    @property
    def devices(self) -> list[Device]:
        """Devices with a live alert."""
        return list(self._live)

    def of_device(self, device: Device) -> list[Live]:
        """Return the live alerts of a device."""
        return list(self._live.get(device, {}).values())

    def get(self, device: Device, place: Place) -> Live | None:
        """Return the live alert of a place."""
        return self._live.get(device, {}).get(place)

    def past(self, device: Device, place: Place) -> Past | None:
        """Return the newest alert of a place that is over."""
        return self._past.get((device, place))

    def has_room(self, device: Device) -> bool:
        """Return whether a device may have another live alert."""
        return len(self._live.get(device, {})) < ALERTS_PER_DEVICE_MAX

    def has_room_for_all(self, severity: str) -> bool:
        """Return whether there may be another live alert of this severity."""
        reserved = 0 if severity == "critical" else ALERTS_CRITICAL_RESERVE
        return self._live_count < ALERTS_OPEN_MAX - reserved

    def put(self, alert: Live) -> None:
        """Note a live alert, as it is now."""
        places = dict(self._live.get(alert.device, {}))
        self._live_count += alert.place not in places
        places[alert.place] = alert
        self._live[alert.device] = places
        if self._places_of_ids is not None:
            self._places_of_ids[alert.event.alert_id] = alert.device, alert.place

    def end(self, alert: Live, ended_at_us: int) -> None:
        """Move an alert to those that are over."""
        device, place, event = alert.device, alert.place, alert.event
        places = dict(self._live[device])
        del places[place]
        self._live_count -= 1
        if places:
            self._live[device] = places
        else:
            del self._live[device]
        self._past.pop((device, place), None)
        self._past[device, place] = Past(
            *(*device, *place),
            alert_id=event.alert_id,
            revision=event.revision,
            fired_at_us=event.fired_at_us,
            flaps=alert.flaps,
            ended_at_us=ended_at_us,
            resolved_by=event.resolved_by,
        )
        while len(self._past) > ALERTS_RESOLVED_MAX:
            del self._past[next(iter(self._past))]

    def find(self, tenant: str, alert_id: str) -> Live | Past | None:
        """Return what a tenant's alert id names, None where it is not remembered."""
        if self._places_of_ids is None:
            # Most batches have no order, and one with thousands must not search through all alerts for each.
            self._places_of_ids = {past.alert_id: at for at, past in self._past.items()}
            for device, places in self._live.items():
                self._places_of_ids |= {live.event.alert_id: (device, at) for at, live in places.items()}
        at = self._places_of_ids.get(alert_id)
        if at is None or at[0][0] != tenant:
            return None
        live = self.get(*at)
        if live is not None and live.event.alert_id == alert_id:
            return live
        past = self.past(*at)
        return past if past is not None and past.alert_id == alert_id else None

    # ---- silences and sites ------------------------------------------------------------------------------------------
    def silence(self, silence_id: str, now_us: int) -> SilenceEvent | None:
        """Return a silence that has not ended."""
        found = self._silences.get(silence_id)
        return found if found is not None and now_us < found.ends_at_us else None

    def add_silence(self, silence: SilenceEvent) -> bool:
        """Note a silence; return whether there was room."""
        kept = {at: one for at, one in self._silences.items() if one.ends_at_us > silence.received_at_us}
        if len(kept) >= SILENCES_MAX:
            return False
        self._silences = {**kept, silence.silence_id: silence}
        return True

    def remove_silence(self, silence_id: str) -> None:
        """Forget a silence."""
        self._silences = {at: one for at, one in self._silences.items() if at != silence_id}

    def site(self, device: Device) -> str | None:
        """Return where a device belongs."""
        return self._sites.get(device)

    def set_site(self, device: Device, site: str) -> None:
        """Note where a device belongs."""
        if not self._are_sites_ours:
            self._sites, self._are_sites_ours = dict(self._sites), True
        self._sites.pop(device, None)
        self._sites[device] = site
        if len(self._sites) > ASSETS_MAX:
            del self._sites[next(iter(self._sites))]

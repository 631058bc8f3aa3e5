"""What a charger does when it is told to, in all versions; the answers are in `commands_v16` and `commands_v2`."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Any

from simulators.chargers.meter import US_PER_S
from simulators.chargers.outlet import Guest, Outlet, Reservation
from simulators.chargers.session import Token
from simulators.chargers.station import Station
from simulators.chargers.truth import Payload
from simulators.chargers.visits import Car, Visit

STEP_S = 0.4
"""Between two states of a download or an upload, real seconds."""
FIRMWARE = ("Downloading", "Downloaded", "Installing", "Installed")
UPLOAD = ("Uploading", "Uploaded")
_REMOTE_VISIT = Visit(energy_wh=18_000, capacity_wh=64_000, soc_from=0.3, power_max_w=75_000, idle_s=0.0)
"""Who plugs in when somebody is let start from afar."""


class Doing:
    """The acts behind the answers.

    Args:
        station: Whose.
    """

    def __init__(self, station: Station) -> None:
        self.station = station
        self.list_version = 0
        self.local_list: dict[str, dict[str, Any]] = {}
        self.certificates: dict[str, tuple[str, str]] = {}
        """Serial number -> (type, PEM)."""

    def outlets(self, number: int | None) -> list[Outlet]:
        """Return the outlet of a 1.6 connector or a 2.x EVSE; 0 and None stand for all."""
        found = self.station.outlets
        if not number:
            return found
        return [outlet for outlet in found if outlet.place.where == number]

    def start(self, number: int | None, token: Token, remote_start_id: int) -> Outlet | None:
        """Let somebody plug in and start; return where, None when nothing is free for them."""
        station, at_us = self.station, self.station.clock.now_us()
        for outlet in self.outlets(number):
            reservation = outlet.reserved_at(at_us)
            if station.is_usable(outlet) and (reservation is None or reservation.token == token.text):
                guest = Guest(load=Car(_REMOTE_VISIT, at_us), token=token, remote_start_id=remote_start_id)
                station.after_answer(partial(self._plug_in, outlet, guest))
                return outlet
        return None

    def _plug_in(self, outlet: Outlet, guest: Guest) -> None:
        if outlet.is_free:
            outlet.plug_in(guest, self.station.clock.now_us())

    def stop(self, transaction_id: int | str) -> bool:
        """End the session with this id; return whether there is one."""
        for outlet in self.station.outlets:
            session = outlet.session
            if session is not None and session.transaction_id == transaction_id and session.stop_reason is None:
                self.station.after_answer(partial(self._stop, outlet, "Remote"))
                return True
        return False

    def unlock(self, outlet: Outlet) -> None:
        """Open the lock, which ends a session."""
        self.station.after_answer(partial(self._stop, outlet, "UnlockCommand"))

    def _stop(self, outlet: Outlet, reason: str) -> None:
        if outlet.session is not None:
            outlet.session.stop_reason = outlet.session.stop_reason or reason
            outlet.wake()

    def change_availability(self, outlets: Sequence[Outlet], *, is_operative: bool) -> str:
        """Take outlets in or out of service. Returns: Accepted, or Scheduled while somebody charges."""
        status = "Accepted"
        for outlet in outlets:
            outlet.is_operative = is_operative
            if outlet.guest is not None:
                status = "Scheduled"  # what follows the session says it
            else:
                word = "Available" if is_operative else "Unavailable"
                self.station.after_answer(partial(self.station.say_status, outlet, word))
        return status

    def reserve(self, number: int | None, reservation: Reservation) -> str:
        """Keep an outlet for somebody. Returns: Accepted, Occupied or Unavailable."""
        outlets = self.outlets(number)
        for outlet in outlets:
            held = outlet.reserved_at(self.station.clock.now_us())
            if self.station.is_usable(outlet) and (held is None or held.number == reservation.number):
                outlet.reservation = reservation
                self.station.after_answer(partial(self.station.say_status, outlet, "Reserved"))
                return "Accepted"
        return "Occupied" if any(outlet.is_operative for outlet in outlets) else "Unavailable"

    def cancel_reservation(self, number: int) -> bool:
        """Give an outlet free again; return whether there was such a reservation."""
        for outlet in self.station.outlets:
            if outlet.reservation is not None and outlet.reservation.number == number:
                outlet.reservation = None
                self.station.after_answer(partial(self.station.say_status, outlet, "Available"))
                return True
        return False

    def send_local_list(self, version: int, entries: dict[str, dict[str, Any]], *, is_full: bool) -> str:
        """Take over a local list. Returns: Accepted or VersionMismatch."""
        if not is_full and version <= self.list_version:
            return "VersionMismatch"
        self.local_list = entries if is_full else self.local_list | entries
        self.list_version = version
        return "Accepted"

    def put_profile(self, number: int, profile: dict[str, Any]) -> bool:
        """Take over a charging profile, which holds from now on; return whether it makes sense here."""
        station = self.station
        outlets = self.outlets(number)
        if not outlets:
            return False
        is_tx = profile["charging_profile_purpose"] == "TxProfile"
        if is_tx and (number == 0 or all(outlet.session is None for outlet in outlets)):
            return False
        station.after_answer(self.rebalance)
        return station.profiles.put(number, profile)

    def rebalance(self) -> None:
        """Share the power anew and make the outlets look."""
        self.station.balance(self.station.clock.now_us())
        for outlet in self.station.outlets:
            if outlet.session is not None:
                outlet.wake()

    def schedule(self, number: int) -> tuple[str, int] | None:
        """Return (start as text, limit in W now) of an outlet or, as 0, the station; None for one that is not there."""
        outlets = self.outlets(number)
        if not outlets:
            return None
        station, at_us = self.station, self.station.clock.now_us()
        full_w = station.hardware.outlet_w if number else round(station.hardware.rated_kw * 1000)
        outlet = outlets[0]
        began_us = outlet.session.began_us if outlet.session is not None else at_us
        limit_w = station.profiles.limit_w(outlet.place.where, at_us=at_us, began_us=began_us)
        return station.stamp(at_us), full_w if limit_w is None else min(limit_w, full_w)

    def reportable(self, evse: int | None, wanted: dict[str, Any]) -> list[tuple[int, Any]]:
        """Return (EVSE, profile in the standard's words) of the 2.x profiles that match what is asked for."""
        names, ids = ("charging_profile_purpose", "stack_level"), wanted.get("charging_profile_id")
        return [
            (where, to_camel(profile))
            for where, profile in self.station.profiles.found()
            if evse in (None, where)
            and (not ids or profile["id"] in ids)
            and all(wanted.get(name) in (None, profile[name]) for name in names)
        ]

    def sequence(self, action: str, payloads: Sequence[Payload]) -> None:
        """Say several states of something that takes a while."""

        def begin() -> None:
            for i, payload in enumerate(payloads):
                self.station.later(i * STEP_S, partial(self.station.say, action, payload))

        self.station.after_answer(begin)

    def trigger(self, act: Callable[[], None]) -> None:
        """Say something that was asked for, after the answer."""
        self.station.after_answer(act)

    def say_statuses(self, outlets: Sequence[Outlet]) -> None:
        """Say how outlets are, changed or not."""
        station = self.station
        for outlet in outlets:
            payload = station.words.status(outlet.place, outlet.status, station.clock.now_us())
            station.say("StatusNotification", payload)

    def say_meters(self, outlets: Sequence[Outlet]) -> None:
        """Say the meter values of outlets: inside their sessions where there are any."""
        station = self.station
        station.balance(station.clock.now_us())
        for outlet in outlets:
            if outlet.session is not None:
                station.telling.meter(outlet, outlet.session, "Trigger")
            elif outlet.guest is not None:
                station.say("MeterValues", station.words.meter_values(outlet.place, outlet.sample()))

    def install(self, kind: str, certificate: str) -> None:
        """Keep a certificate. Nobody checks with it."""
        self.certificates[sha256(certificate.encode()).hexdigest()[:40]] = (kind, certificate)

    def installed(self, kinds: Sequence[str] | None) -> list[tuple[str, dict[str, str]]]:
        """Return (type, hash data) of the certificates of these types, None for all."""
        return [
            (kind, _hash_data(serial)) for serial, (kind, _) in self.certificates.items() if not kinds or kind in kinds
        ]

    def delete_certificate(self, serial: str) -> bool:
        """Forget one; return whether it was there."""
        return self.certificates.pop(serial, None) is not None


def _hash_data(serial: str) -> dict[str, str]:
    return {
        "hashAlgorithm": "SHA256",
        "issuerNameHash": sha256(b"name" + serial.encode()).hexdigest(),
        "issuerKeyHash": sha256(b"key" + serial.encode()).hexdigest(),
        "serialNumber": serial,
    }


def to_camel(value: Any) -> Any:
    """Return the standard's JSON of what the `ocpp` package made snake case."""
    if isinstance(value, dict):
        return {_camel(name): to_camel(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [to_camel(inner) for inner in value]
    return value


def _camel(name: str) -> str:
    first, *more = name.split("_")
    return first + "".join(word.capitalize() for word in more)


def us(text: str) -> int:
    """Return ISO 8601 as UTC microseconds since 1970. Raises: ValueError: It is none."""
    return int(datetime.fromisoformat(text).timestamp() * US_PER_S)

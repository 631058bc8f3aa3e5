"""Answers of an OCPP 1.6 charger, core, all profiles and the security whitepaper, by action.

Payloads are in the snake case of the `ocpp` package; what is not here is refused by `refusals`.
"""

from collections.abc import Mapping
from typing import Any

from simulators.chargers.commands import FIRMWARE, UPLOAD, Doing, us
from simulators.chargers.outlet import Reservation
from simulators.chargers.routes import Handler
from simulators.chargers.session import Token
from simulators.chargers.station import Station

Fields = dict[str, Any]
_CSR = "-----BEGIN CERTIFICATE REQUEST-----\nc2ltdWxhdGVk\n-----END CERTIFICATE REQUEST-----\n"
KNOWN_VENDOR = "voltgate"
"""DataTransfer of this vendor is echoed."""


def handlers_v16(station: Station) -> Mapping[str, Handler]:
    """Return action -> handler."""
    commands = CommandsV16(Doing(station))
    return {
        "RemoteStartTransaction": commands.remote_start,
        "RemoteStopTransaction": commands.remote_stop,
        "Reset": commands.reset,
        "UnlockConnector": commands.unlock,
        "ChangeAvailability": commands.change_availability,
        "GetConfiguration": commands.get_configuration,
        "ChangeConfiguration": commands.change_configuration,
        "ClearCache": _accepted,
        "TriggerMessage": commands.trigger,
        "ExtendedTriggerMessage": commands.trigger,
        "ReserveNow": commands.reserve,
        "CancelReservation": commands.cancel_reservation,
        "SendLocalList": commands.send_local_list,
        "GetLocalListVersion": commands.local_list_version,
        "SetChargingProfile": commands.set_profile,
        "ClearChargingProfile": commands.clear_profile,
        "GetCompositeSchedule": commands.composite_schedule,
        "UpdateFirmware": commands.update_firmware,
        "SignedUpdateFirmware": commands.signed_update_firmware,
        "GetDiagnostics": commands.diagnostics,
        "GetLog": commands.get_log,
        "DataTransfer": data_transfer,
        "InstallCertificate": commands.install_certificate,
        "DeleteCertificate": commands.delete_certificate,
        "GetInstalledCertificateIds": commands.certificate_ids,
        "CertificateSigned": _accepted,
    }


def _accepted(_payload: Fields) -> Fields:
    return {"status": "Accepted"}


def yes(*, is_yes: bool, otherwise: str = "Rejected") -> Fields:
    """Return a status."""
    return {"status": "Accepted" if is_yes else otherwise}


def data_transfer(payload: Fields) -> Fields:
    """Echo what our own vendor says, know no other."""
    if payload["vendor_id"] != KNOWN_VENDOR:
        return {"status": "UnknownVendorId"}
    answer: Fields = {"status": "Accepted"}
    if "data" in payload:
        answer["data"] = payload["data"]
    return answer


class CommandsV16:
    """The handlers that need the charger.

    Args:
        doing: What they do.
    """

    def __init__(self, doing: Doing) -> None:
        self._doing, self._station = doing, doing.station

    def remote_start(self, payload: Fields) -> Fields:
        """Start where asked, or on the first free connector."""
        outlet = self._doing.start(payload.get("connector_id"), Token(text=payload["id_tag"]), 0)
        if outlet is not None and (profile := payload.get("charging_profile")) is not None:
            self._station.profiles.put(outlet.place.where, profile)
        return yes(is_yes=outlet is not None)

    def remote_stop(self, payload: Fields) -> Fields:
        """End the transaction."""
        return yes(is_yes=self._doing.stop(payload["transaction_id"]))

    def reset(self, payload: Fields) -> Fields:
        """Restart; both kinds end the transactions first."""
        self._station.after_answer(lambda: self._station.reset(f"{payload['type']}Reset"))
        return {"status": "Accepted"}

    def unlock(self, payload: Fields) -> Fields:
        """Open the lock."""
        outlets = self._doing.outlets(payload["connector_id"]) if payload["connector_id"] else []
        if not outlets:
            return {"status": "UnlockFailed"}
        self._doing.unlock(outlets[0])
        return {"status": "Unlocked"}

    def change_availability(self, payload: Fields) -> Fields:
        """Take a connector, or all, in or out of service."""
        outlets = self._doing.outlets(payload["connector_id"])
        if not outlets:
            return {"status": "Rejected"}
        return {"status": self._doing.change_availability(outlets, is_operative=payload["type"] == "Operative")}

    def get_configuration(self, payload: Fields) -> Fields:
        """Return the keys asked for, all without any."""
        known, asked = self._station.settings.all(), payload.get("key") or []
        answer: Fields = {
            "configuration_key": [
                {"key": name, "readonly": setting.is_readonly, "value": setting.value}
                for name, setting in known.items()
                if not asked or name in asked
            ]
        }
        if unknown := [name for name in asked if name not in known]:
            answer["unknown_key"] = unknown
        return answer

    def change_configuration(self, payload: Fields) -> Fields:
        """Change a key."""
        return {"status": self._station.settings.change(payload["key"], payload["value"])}

    def trigger(self, payload: Fields) -> Fields:
        """Say something now."""
        station, doing = self._station, self._doing
        outlets = doing.outlets(payload.get("connector_id"))
        says = {
            "BootNotification": lambda: station.say("BootNotification", station.boot_payload("Triggered")),
            "Heartbeat": lambda: station.say("Heartbeat", {}),
            "StatusNotification": lambda: doing.say_statuses(outlets),
            "MeterValues": lambda: doing.say_meters(outlets),
            "FirmwareStatusNotification": lambda: station.say("FirmwareStatusNotification", {"status": "Idle"}),
            "DiagnosticsStatusNotification": lambda: station.say("DiagnosticsStatusNotification", {"status": "Idle"}),
            "LogStatusNotification": lambda: station.say("LogStatusNotification", {"status": "Idle", "requestId": 0}),
            "SignChargePointCertificate": lambda: station.say("SignCertificate", {"csr": _CSR}),
        }
        say = says.get(payload["requested_message"])
        if say is None or not outlets:
            return yes(is_yes=False, otherwise="NotImplemented" if say is None else "Rejected")
        doing.trigger(say)
        return {"status": "Accepted"}

    def reserve(self, payload: Fields) -> Fields:
        """Keep a connector."""
        reservation = Reservation(
            number=payload["reservation_id"], token=payload["id_tag"], until_us=us(payload["expiry_date"])
        )
        return {"status": self._doing.reserve(payload["connector_id"], reservation)}

    def cancel_reservation(self, payload: Fields) -> Fields:
        """Give it free."""
        return yes(is_yes=self._doing.cancel_reservation(payload["reservation_id"]))

    def send_local_list(self, payload: Fields) -> Fields:
        """Take over the list."""
        entries = {entry["id_tag"]: entry for entry in payload.get("local_authorization_list") or []}
        is_full = payload["update_type"] == "Full"
        return {"status": self._doing.send_local_list(payload["list_version"], entries, is_full=is_full)}

    def local_list_version(self, _payload: Fields) -> Fields:
        """Return its version."""
        return {"list_version": self._doing.list_version}

    def set_profile(self, payload: Fields) -> Fields:
        """Limit power."""
        return yes(is_yes=self._doing.put_profile(payload["connector_id"], payload["cs_charging_profiles"]))

    def clear_profile(self, payload: Fields) -> Fields:
        """Lift limits."""
        cleared = self._station.profiles.clear(
            number=payload.get("id"),
            outlet=payload.get("connector_id"),
            purpose=payload.get("charging_profile_purpose"),
            stack_level=payload.get("stack_level"),
        )
        self._doing.trigger(self._doing.rebalance)
        return yes(is_yes=cleared > 0, otherwise="Unknown")

    def composite_schedule(self, payload: Fields) -> Fields:
        """Return the limit that holds now, for the whole time asked for."""
        schedule = self._doing.schedule(payload["connector_id"])
        if schedule is None:
            return {"status": "Rejected"}
        start, limit_w = schedule
        return {
            "status": "Accepted",
            "connector_id": payload["connector_id"],
            "schedule_start": start,
            "charging_schedule": {
                "duration": payload["duration"],
                "charging_rate_unit": "W",
                "charging_schedule_period": [{"start_period": 0, "limit": limit_w}],
            },
        }

    def update_firmware(self, _payload: Fields) -> Fields:
        """Say the states of an update."""
        self._doing.sequence("FirmwareStatusNotification", [{"status": status} for status in FIRMWARE])
        return {}

    def signed_update_firmware(self, payload: Fields) -> Fields:
        """Say the states of a signed update."""
        states = ("Downloading", "Downloaded", "SignatureVerified", "Installing", "Installed")
        self._doing.sequence(
            "SignedFirmwareStatusNotification",
            [{"status": status, "requestId": payload["request_id"]} for status in states],
        )
        return {"status": "Accepted"}

    def diagnostics(self, _payload: Fields) -> Fields:
        """Say the states of an upload."""
        self._doing.sequence("DiagnosticsStatusNotification", [{"status": status} for status in UPLOAD])
        return {"file_name": f"{self._station.charger_id}.zip"}

    def get_log(self, payload: Fields) -> Fields:
        """Say the states of an upload."""
        self._doing.sequence(
            "LogStatusNotification", [{"status": status, "requestId": payload["request_id"]} for status in UPLOAD]
        )
        return {"status": "Accepted", "filename": f"{self._station.charger_id}.log"}

    def install_certificate(self, payload: Fields) -> Fields:
        """Keep a certificate."""
        self._doing.install(payload["certificate_type"], payload["certificate"])
        return {"status": "Accepted"}

    def delete_certificate(self, payload: Fields) -> Fields:
        """Forget one."""
        is_there = self._doing.delete_certificate(payload["certificate_hash_data"]["serial_number"])
        return yes(is_yes=is_there, otherwise="NotFound")

    def certificate_ids(self, payload: Fields) -> Fields:
        """Return those of a type."""
        found = [data for _, data in self._doing.installed([payload["certificate_type"]])]
        return {"status": "Accepted", "certificate_hash_data": found} if found else {"status": "NotFound"}

"""Answers of an OCPP 2.0.1 or 2.1 charging station, by action.

Payloads are in the snake case of the `ocpp` package; what is not here, most of what 2.1 adds, is refused by `refusals`.
"""

from collections.abc import Mapping
from typing import Any

from simulators.chargers.commands import FIRMWARE, UPLOAD, Doing, us
from simulators.chargers.commands_v16 import data_transfer, yes
from simulators.chargers.outlet import Reservation
from simulators.chargers.routes import Handler
from simulators.chargers.session import Token
from simulators.chargers.station import Station

Fields = dict[str, Any]
_CSR = "-----BEGIN CERTIFICATE REQUEST-----\nc2ltdWxhdGVk\n-----END CERTIFICATE REQUEST-----\n"
REPORT_PAGE = 6
"""Variables in one NotifyReport."""
NETWORK_SLOTS = 3


def handlers_v2(station: Station) -> Mapping[str, Handler]:
    """Return action -> handler."""
    commands = CommandsV2(Doing(station))
    return {
        "RequestStartTransaction": commands.request_start,
        "RequestStopTransaction": commands.request_stop,
        "GetTransactionStatus": commands.transaction_status,
        "Reset": commands.reset,
        "UnlockConnector": commands.unlock,
        "ChangeAvailability": commands.change_availability,
        "GetVariables": commands.get_variables,
        "SetVariables": commands.set_variables,
        "GetBaseReport": commands.base_report,
        "GetReport": commands.report,
        "GetMonitoringReport": _nothing_found,
        "SetVariableMonitoring": commands.set_monitoring,
        "ClearVariableMonitoring": commands.clear_monitoring,
        "SetMonitoringBase": _accepted,
        "SetMonitoringLevel": commands.monitoring_level,
        "TriggerMessage": commands.trigger,
        "ReserveNow": commands.reserve,
        "CancelReservation": commands.cancel_reservation,
        "SendLocalList": commands.send_local_list,
        "GetLocalListVersion": commands.local_list_version,
        "ClearCache": _accepted,
        "SetChargingProfile": commands.set_profile,
        "ClearChargingProfile": commands.clear_profile,
        "GetChargingProfiles": commands.get_profiles,
        "GetCompositeSchedule": commands.composite_schedule,
        "UpdateFirmware": commands.update_firmware,
        "GetLog": commands.get_log,
        "SetNetworkProfile": commands.network_profile,
        "CustomerInformation": commands.customer_information,
        "InstallCertificate": commands.install_certificate,
        "DeleteCertificate": commands.delete_certificate,
        "GetInstalledCertificateIds": commands.certificate_ids,
        "CertificateSigned": _accepted,
        "CostUpdated": _nothing,
        "DataTransfer": data_transfer,
    }


def _accepted(_payload: Fields) -> Fields:
    return {"status": "Accepted"}


def _nothing(_payload: Fields) -> Fields:
    return {}


def _nothing_found(_payload: Fields) -> Fields:
    return {"status": "EmptyResultSet"}


def _token(said: Fields) -> Token:
    return Token(text=said["id_token"], kind=said["type"])


class CommandsV2:
    """The handlers that need the station.

    Args:
        doing: What they do.
    """

    def __init__(self, doing: Doing) -> None:
        self._doing, self._station = doing, doing.station

    def request_start(self, payload: Fields) -> Fields:
        """Start where asked, or on the first free EVSE."""
        token = _token(payload["id_token"])
        outlet = self._doing.start(payload.get("evse_id"), token, payload["remote_start_id"])
        if outlet is not None and (profile := payload.get("charging_profile")) is not None:
            self._station.profiles.put(outlet.place.where, profile)
        return yes(is_yes=outlet is not None)

    def request_stop(self, payload: Fields) -> Fields:
        """End the transaction."""
        return yes(is_yes=self._doing.stop(payload["transaction_id"]))

    def transaction_status(self, payload: Fields) -> Fields:
        """Say whether it goes on, and whether something waits to be sent."""
        answer: Fields = {"messages_in_queue": self._station.link.pending > 0}
        if (number := payload.get("transaction_id")) is not None:
            answer["ongoing_indicator"] = any(
                outlet.session is not None and outlet.session.transaction_id == number
                for outlet in self._station.outlets
            )
        return answer

    def reset(self, payload: Fields) -> Fields:
        """Restart at once, or when nobody charges."""
        when_idle = payload["type"] == "OnIdle"
        is_busy = any(outlet.session is not None for outlet in self._station.outlets)
        self._station.after_answer(lambda: self._station.reset("HardReset", when_idle=when_idle))
        return {"status": "Scheduled" if when_idle and is_busy else "Accepted"}

    def unlock(self, payload: Fields) -> Fields:
        """Open the lock, unless somebody charges."""
        for outlet in self._doing.outlets(payload["evse_id"]):
            if outlet.place.connector == payload["connector_id"]:
                return {"status": "Unlocked" if outlet.session is None else "OngoingAuthorizedTransaction"}
        return {"status": "UnknownConnector"}

    def change_availability(self, payload: Fields) -> Fields:
        """Take an EVSE, or all, in or out of service."""
        outlets = self._doing.outlets((payload.get("evse") or {}).get("id"))
        if not outlets:
            return {"status": "Rejected"}
        is_operative = payload["operational_status"] == "Operative"
        return {"status": self._doing.change_availability(outlets, is_operative=is_operative)}

    def get_variables(self, payload: Fields) -> Fields:
        """Return values, or why not."""
        results = []
        for asked in payload["get_variable_data"]:
            status, value = self._variable(asked)
            result = _named(asked) | {"attribute_status": status}
            if value is not None:
                result["attribute_value"] = value
            results.append(result)
        return {"get_variable_result": results}

    def _variable(self, asked: Fields) -> tuple[str, str | None]:
        component, variable = asked["component"]["name"], asked["variable"]["name"]
        if asked.get("attribute_type", "Actual") != "Actual":
            return "NotSupportedAttributeType", None
        setting = self._station.settings.get(f"{component}.{variable}")
        if setting is not None:
            return "Accepted", setting.value
        known = self._station.settings.has_component(component)
        return "UnknownVariable" if known else "UnknownComponent", None

    def set_variables(self, payload: Fields) -> Fields:
        """Change values, or say why not."""
        results = []
        for asked in payload["set_variable_data"]:
            status, _ = self._variable(asked)
            if status == "Accepted":
                name = f"{asked['component']['name']}.{asked['variable']['name']}"
                status = self._station.settings.change(name, asked["attribute_value"])
            results.append(_named(asked) | {"attribute_status": status})
        return {"set_variable_result": results}

    def base_report(self, payload: Fields) -> Fields:
        """Report all variables, a page at a time."""
        return self._report(payload["request_id"], None)

    def report(self, payload: Fields) -> Fields:
        """Report the variables asked for."""
        asked = payload.get("component_variable")
        wanted = None
        if asked:
            wanted = {(one["component"]["name"], (one.get("variable") or {}).get("name")) for one in asked}
        return self._report(payload["request_id"], wanted)

    def _report(self, request_id: int, wanted: set[tuple[str, str | None]] | None) -> Fields:
        rows = []
        for name, setting in self._station.settings.all().items():
            component, variable = name.split(".")
            if wanted is not None and not wanted & {(component, variable), (component, None)}:
                continue
            mutability = "ReadOnly" if setting.is_readonly else "ReadWrite"
            rows.append(
                {
                    "component": {"name": component},
                    "variable": {"name": variable},
                    "variableAttribute": [{"type": "Actual", "value": setting.value, "mutability": mutability}],
                }
            )
        if not rows:
            return {"status": "EmptyResultSet"}
        pages = [rows[i : i + REPORT_PAGE] for i in range(0, len(rows), REPORT_PAGE)]
        self._doing.sequence(
            "NotifyReport",
            [
                {
                    "requestId": request_id,
                    "generatedAt": self._station.stamp(self._station.clock.now_us()),
                    "seqNo": i,
                    "tbc": i < len(pages) - 1,
                    "reportData": page,
                }
                for i, page in enumerate(pages)
            ],
        )
        return {"status": "Accepted"}

    def set_monitoring(self, payload: Fields) -> Fields:
        """Refuse each monitor by name: this station watches nothing."""
        results = [
            {"status": "UnsupportedMonitorType", "type": asked["type"], "severity": asked["severity"]}
            | {"component": asked["component"], "variable": asked["variable"]}
            for asked in payload["set_monitoring_data"]
        ]
        return {"set_monitoring_result": results}

    def clear_monitoring(self, payload: Fields) -> Fields:
        """Know none of them."""
        return {"clear_monitoring_result": [{"id": number, "status": "NotFound"} for number in payload["id"]]}

    def monitoring_level(self, payload: Fields) -> Fields:
        """Take a severity that exists."""
        return yes(is_yes=0 <= payload["severity"] <= 9)

    def trigger(self, payload: Fields) -> Fields:
        """Say something now."""
        station, doing = self._station, self._doing
        outlets = doing.outlets((payload.get("evse") or {}).get("id"))
        says = {
            "BootNotification": lambda: station.say("BootNotification", station.boot_payload("Triggered")),
            "Heartbeat": lambda: station.say("Heartbeat", {}),
            "StatusNotification": lambda: doing.say_statuses(outlets),
            "MeterValues": lambda: doing.say_meters(outlets),
            "TransactionEvent": lambda: doing.say_meters([o for o in outlets if o.session is not None]),
            "FirmwareStatusNotification": lambda: station.say("FirmwareStatusNotification", {"status": "Idle"}),
            "LogStatusNotification": lambda: station.say("LogStatusNotification", {"status": "Idle"}),
            "SignChargingStationCertificate": lambda: station.say("SignCertificate", {"csr": _CSR}),
        }
        say = says.get(payload["requested_message"])
        if say is None or not outlets:
            return yes(is_yes=False, otherwise="NotImplemented" if say is None else "Rejected")
        doing.trigger(say)
        return {"status": "Accepted"}

    def reserve(self, payload: Fields) -> Fields:
        """Keep an EVSE."""
        token = payload["id_token"]["id_token"]
        reservation = Reservation(number=payload["id"], token=token, until_us=us(payload["expiry_date_time"]))
        return {"status": self._doing.reserve(payload.get("evse_id"), reservation)}

    def cancel_reservation(self, payload: Fields) -> Fields:
        """Give it free."""
        return yes(is_yes=self._doing.cancel_reservation(payload["reservation_id"]))

    def send_local_list(self, payload: Fields) -> Fields:
        """Take over the list."""
        entries = {entry["id_token"]["id_token"]: entry for entry in payload.get("local_authorization_list") or []}
        is_full = payload["update_type"] == "Full"
        return {"status": self._doing.send_local_list(payload["version_number"], entries, is_full=is_full)}

    def local_list_version(self, _payload: Fields) -> Fields:
        """Return its version."""
        return {"version_number": self._doing.list_version}

    def set_profile(self, payload: Fields) -> Fields:
        """Limit power."""
        return yes(is_yes=self._doing.put_profile(payload["evse_id"], payload["charging_profile"]))

    def clear_profile(self, payload: Fields) -> Fields:
        """Lift limits."""
        criteria = payload.get("charging_profile_criteria") or {}
        cleared = self._station.profiles.clear(
            number=payload.get("charging_profile_id"),
            outlet=criteria.get("evse_id"),
            purpose=criteria.get("charging_profile_purpose"),
            stack_level=criteria.get("stack_level"),
        )
        self._doing.trigger(self._doing.rebalance)
        return yes(is_yes=cleared > 0, otherwise="Unknown")

    def get_profiles(self, payload: Fields) -> Fields:
        """Report the profiles, each in a message of its own."""
        found = self._doing.reportable(payload.get("evse_id"), payload["charging_profile"])
        reports = [
            {
                "requestId": payload["request_id"],
                "chargingLimitSource": "CSO",
                "evseId": evse,
                "chargingProfile": [profile],
                "tbc": i < len(found) - 1,
            }
            for i, (evse, profile) in enumerate(found)
        ]
        self._doing.sequence("ReportChargingProfiles", reports)
        return yes(is_yes=bool(found), otherwise="NoProfiles")

    def composite_schedule(self, payload: Fields) -> Fields:
        """Return the limit that holds now, for the whole time asked for."""
        schedule = self._doing.schedule(payload["evse_id"])
        if schedule is None:
            return {"status": "Rejected"}
        start, limit_w = schedule
        return {
            "status": "Accepted",
            "schedule": {
                "evseId": payload["evse_id"],
                "duration": payload["duration"],
                "scheduleStart": start,
                "chargingRateUnit": "W",
                "chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit_w}],
            },
        }

    def update_firmware(self, payload: Fields) -> Fields:
        """Say the states of an update."""
        number = payload["request_id"]
        self._doing.sequence(
            "FirmwareStatusNotification", [{"status": status, "requestId": number} for status in FIRMWARE]
        )
        return {"status": "Accepted"}

    def get_log(self, payload: Fields) -> Fields:
        """Say the states of an upload."""
        number = payload["request_id"]
        self._doing.sequence("LogStatusNotification", [{"status": status, "requestId": number} for status in UPLOAD])
        return {"status": "Accepted", "filename": f"{self._station.charger_id}.log"}

    def network_profile(self, payload: Fields) -> Fields:
        """Keep a slot; the connection stays what it is until somebody changes the priority."""
        return yes(is_yes=1 <= payload["configuration_slot"] <= NETWORK_SLOTS)

    def customer_information(self, payload: Fields) -> Fields:
        """Say that nothing is kept of any customer."""
        if payload["report"]:
            report = {
                "data": "",
                "seqNo": 0,
                "generatedAt": self._station.stamp(self._station.clock.now_us()),
                "requestId": payload["request_id"],
            }
            self._doing.sequence("NotifyCustomerInformation", [report])
        return {"status": "Accepted"}

    def install_certificate(self, payload: Fields) -> Fields:
        """Keep a certificate."""
        self._doing.install(payload["certificate_type"], payload["certificate"])
        return {"status": "Accepted"}

    def delete_certificate(self, payload: Fields) -> Fields:
        """Forget one."""
        is_there = self._doing.delete_certificate(payload["certificate_hash_data"]["serial_number"])
        return yes(is_yes=is_there, otherwise="NotFound")

    def certificate_ids(self, payload: Fields) -> Fields:
        """Return those of some types, or all."""
        found = [
            {"certificateType": kind, "certificateHashData": data}
            for kind, data in self._doing.installed(payload.get("certificate_type"))
        ]
        return {"status": "Accepted", "certificate_hash_data_chain": found} if found else {"status": "NotFound"}


def _named(asked: Fields) -> Fields:
    named = {"component": asked["component"], "variable": asked["variable"]}
    if "attribute_type" in asked:
        named["attribute_type"] = asked["attribute_type"]
    return named

"""What an OCPP 2.0.1 or 2.1 charging station says. Pure: payloads as the standard's JSON has them.

Source: OCPP 2.0.1 edition 3 part 2, sections E and J; 2.1 changes none of it.
"""

from collections.abc import Callable, Iterable

from simulators.chargers import samples
from simulators.chargers.hardware import Hardware
from simulators.chargers.messages_v16 import Stamp
from simulators.chargers.meter import Sample
from simulators.chargers.session import Place, Session, Token
from simulators.chargers.truth import Payload

_REASONS = {
    "EVDeparted": "EVDisconnected",
    "StopAuthorized": "Local",
    "Deauthorized": "DeAuthorized",
    "SoftReset": "ImmediateReset",
    "HardReset": "ImmediateReset",
    "UnlockCommand": "Other",
}
_TRIGGERS = {
    "Remote": "RemoteStop",
    "Deauthorized": "Deauthorized",
    "EVDeparted": "EVDeparted",
    "StopAuthorized": "StopAuthorized",
    "UnlockCommand": "UnlockCommand",
    "SoftReset": "ResetCommand",
    "HardReset": "ResetCommand",
    "PowerLoss": "AbnormalCondition",
}
_STATUS = {"Available": "Available", "Unavailable": "Unavailable", "Reserved": "Reserved", "Faulted": "Faulted"}


class MessagesV2:
    """Builds payloads.

    Args:
        stamp: The charger's clock.
        with_data: Whether the event that starts carries the register; the one that ends must.
    """

    start_action = update_action = stop_action = "TransactionEvent"

    def __init__(self, stamp: Stamp, *, with_data: bool) -> None:
        self._stamp, self._with_data = stamp, with_data

    def connector(self, place: Place) -> str:
        """Return the connector as the streams have it."""
        return f"{place.evse}/{place.connector}"

    def boot(self, hardware: Hardware, serial: str, reason: str) -> Payload:
        """Return a BootNotification."""
        station = {
            "model": hardware.model,
            "vendorName": hardware.vendor,
            "serialNumber": serial,
            "firmwareVersion": "4.2.1",
        }
        return {"chargingStation": station, "reason": reason}

    def status(self, place: Place | None, status: str, at_us: int) -> Payload:
        """Return a StatusNotification; 2.x says of a used connector only that it is."""
        place = place or Place(number=0, where=0, evse=0, connector=0)
        return {
            "timestamp": self._stamp(at_us),
            "connectorStatus": _STATUS.get(status, "Occupied"),
            "evseId": place.evse,
            "connectorId": place.connector,
        }

    def authorize(self, token: Token) -> Payload:
        """Return an Authorize."""
        return {"idToken": _id_token(token)}

    def start(self, session: Session, sample: Sample, *, offline: bool, trigger: str) -> Callable[[], Payload]:
        """Return the event that starts; after CablePluggedIn the driver is not known yet."""
        payload = self._event(session, sample, "Started", trigger=trigger, offline=offline)
        if self._with_data:
            payload["meterValue"] = [self._meter_value(sample, samples.register(sample), "Transaction.Begin")]
        if session.remote_start_id is not None:
            payload["transactionInfo"]["remoteStartId"] = session.remote_start_id
        if session.reservation_id is not None:
            payload["reservationId"] = session.reservation_id
        if trigger != "CablePluggedIn":
            payload["idToken"] = _id_token(session.token)
        return lambda: payload

    def update(
        self, session: Session, sample: Sample, *, offline: bool, trigger: str, values: Iterable[samples.Value]
    ) -> Callable[[], Payload]:
        """Return an event in between."""
        contexts = {"Trigger": "Trigger", "MeterValuePeriodic": "Sample.Periodic"}
        payload = self._event(session, sample, "Updated", trigger=trigger, offline=offline)
        payload["meterValue"] = [self._meter_value(sample, values, contexts.get(trigger, "Other"))]
        if trigger == "Authorized":
            payload["idToken"] = _id_token(session.token)
        return lambda: payload

    def stop(self, session: Session, sample: Sample, *, offline: bool, trigger: str) -> Callable[[], Payload]:
        """Return the event that ends; the reason decides what triggered it."""
        reason = session.stop_reason or "EVDeparted"
        payload = self._event(session, sample, "Ended", trigger=_TRIGGERS.get(reason, trigger), offline=offline)
        payload["transactionInfo"]["stoppedReason"] = _REASONS.get(reason, reason)
        payload["meterValue"] = [self._meter_value(sample, samples.register(sample), "Transaction.End")]
        payload["idToken"] = _id_token(session.token)
        return lambda: payload

    def meter_values(self, place: Place, sample: Sample) -> Payload:
        """Return MeterValues outside of any transaction."""
        return {"evseId": place.evse, "meterValue": [self._meter_value(sample, samples.values(sample), "Trigger")]}

    def _event(self, session: Session, sample: Sample, kind: str, *, trigger: str, offline: bool) -> Payload:
        """Return what all events have; the sequence number counts on, so each is made once and in order."""
        return {
            "eventType": kind,
            "timestamp": self._stamp(sample.at_us),
            "triggerReason": trigger,
            "seqNo": session.next_seq_no(),
            "transactionInfo": {"transactionId": session.transaction_id, "chargingState": session.charging_state},
            "evse": {"id": session.place.evse, "connectorId": session.place.connector},
            "offline": offline,
        }

    def _meter_value(self, sample: Sample, values: Iterable[samples.Value], context: str) -> Payload:
        sampled = []
        for measurand, number, unit, phase in values:
            value: Payload = {"value": number, "context": context, "measurand": measurand}
            value["unitOfMeasure"] = {"unit": unit}
            if phase is not None:
                value["phase"] = phase
            if measurand not in ("Temperature", "SoC"):
                value["location"] = "Outlet"
            sampled.append(value)
        return {"timestamp": self._stamp(sample.at_us), "sampledValue": sampled}


def _id_token(token: Token) -> Payload:
    said: Payload = {"idToken": token.text, "type": token.kind}
    if token.vin is not None:
        said["additionalInfo"] = [{"additionalIdToken": token.vin, "type": "VIN"}]
    return said

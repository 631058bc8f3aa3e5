"""What an OCPP 1.6 charger says. Pure: payloads as the standard's JSON has them.

Source: OCPP 1.6 edition 2, section 6.
"""

from collections.abc import Callable, Iterable

from simulators.chargers import samples
from simulators.chargers.hardware import Hardware
from simulators.chargers.meter import Sample
from simulators.chargers.session import OFFLINE_TRANSACTION, Place, Session, Token
from simulators.chargers.truth import Payload

Stamp = Callable[[int], str]
"""True time in UTC microseconds -> the text that this charger's clock makes of it."""

_REASONS = {"EVDeparted": "EVDisconnected", "StopAuthorized": "Local", "Deauthorized": "DeAuthorized"}
"""Why it ends, in the simulator's words -> in the standard's, where they differ."""


class MessagesV16:
    """Builds payloads.

    Args:
        stamp: The charger's clock.
        with_data: Whether StopTransaction repeats the register in transactionData.
    """

    start_action, update_action, stop_action = "StartTransaction", "MeterValues", "StopTransaction"

    def __init__(self, stamp: Stamp, *, with_data: bool) -> None:
        self._stamp, self._with_data = stamp, with_data

    def connector(self, place: Place) -> str:
        """Return the connector as the streams have it."""
        return str(place.number)

    def boot(self, hardware: Hardware, serial: str, reason: str) -> Payload:
        """Return a BootNotification; 1.6 has no reason."""
        return {
            "chargePointVendor": hardware.vendor,
            "chargePointModel": hardware.model,
            "chargePointSerialNumber": serial,
            "firmwareVersion": "4.2.1",
            "meterType": "DIN 43863-5",
        }

    def status(self, place: Place | None, status: str, at_us: int) -> Payload:
        """Return a StatusNotification; None is the charger itself."""
        return {
            "connectorId": place.number if place else 0,
            "errorCode": "NoError",
            "status": status,
            "timestamp": self._stamp(at_us),
        }

    def authorize(self, token: Token) -> Payload:
        """Return an Authorize."""
        return {"idTag": token.text}

    def start(self, session: Session, sample: Sample, *, offline: bool, trigger: str) -> Callable[[], Payload]:
        """Return the StartTransaction; the register is a whole number there."""
        payload: Payload = {
            "connectorId": session.place.number,
            "idTag": session.token.text,
            "meterStart": sample.energy_wh,
            "timestamp": self._stamp(sample.at_us),
        }
        if session.reservation_id is not None:
            payload["reservationId"] = session.reservation_id
        return lambda: payload

    def update(
        self, session: Session, sample: Sample, *, offline: bool, trigger: str, values: Iterable[samples.Value]
    ) -> Callable[[], Payload]:
        """Return MeterValues; the transaction's id is looked up when it leaves: an offline start has none before."""
        context = (
            "Sample.Periodic" if trigger == "MeterValuePeriodic" else "Trigger" if trigger == "Trigger" else "Other"
        )
        meter_value = [self._meter_value(sample, values, context)]
        return lambda: {
            "connectorId": session.place.number,
            "transactionId": _known(session),
            "meterValue": meter_value,
        }

    def stop(self, session: Session, sample: Sample, *, offline: bool, trigger: str) -> Callable[[], Payload]:
        """Return the StopTransaction."""
        payload: Payload = {"meterStop": sample.energy_wh, "timestamp": self._stamp(sample.at_us)}
        payload["reason"] = _REASONS.get(session.stop_reason or "", session.stop_reason or "Local")
        payload["idTag"] = session.token.text
        if self._with_data:
            payload["transactionData"] = [self._meter_value(sample, samples.register(sample), "Transaction.End")]
        return lambda: {"transactionId": _known(session)} | payload

    def meter_values(self, place: Place, sample: Sample) -> Payload:
        """Return MeterValues outside of any transaction."""
        return {
            "connectorId": place.number,
            "meterValue": [self._meter_value(sample, samples.values(sample), "Trigger")],
        }

    def _meter_value(self, sample: Sample, values: Iterable[samples.Value], context: str) -> Payload:
        sampled = []
        for measurand, number, unit, phase in values:
            value = {"value": samples.text(number), "context": context, "measurand": measurand, "unit": unit}
            if phase is not None:
                value["phase"] = phase
            if measurand not in ("Temperature", "SoC"):
                value["location"] = "Outlet"
            sampled.append(value)
        return {"timestamp": self._stamp(sample.at_us), "sampledValue": sampled}


def _known(session: Session) -> int:
    """Return the transaction's id, or what a charger says that was never told one."""
    return session.transaction_id if isinstance(session.transaction_id, int) else OFFLINE_TRANSACTION

"""The `ocpp` package as a station of each version: a whole session, and the commands of a session."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import ocpp.v16
import ocpp.v21
import ocpp.v201
import pytest
from ocpp.exceptions import NotSupportedError
from ocpp.routing import on
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.integration.ocpp_live_central import (
    FIRST_TRANSACTION_ID,
    GOOD_TOKEN,
    HEARTBEAT_INTERVAL_S,
    PASSWORD,
    LiveCentral,
    live_central,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]
AT = "2026-11-23T10:00:00Z"


class Station16(ocpp.v16.ChargePoint):  # type: ignore[misc]  # the package has no types
    """Answers commands of 1.6."""

    @on("RemoteStartTransaction")  # type: ignore[untyped-decorator]  # the package has no types
    def start_transaction(self, **_: Any) -> Any:
        """Say yes."""
        return ocpp.v16.call_result.RemoteStartTransaction(status="Accepted")

    @on("ChangeConfiguration")  # type: ignore[untyped-decorator]  # the package has no types
    def change_configuration(self, **_: Any) -> Any:
        """Say yes, in its way."""
        return ocpp.v16.call_result.ChangeConfiguration(status="RebootRequired")

    @on("Reset")  # type: ignore[untyped-decorator]  # the package has no types
    def reset(self, **_: Any) -> Any:
        """Say no."""
        return ocpp.v16.call_result.Reset(status="Rejected")

    @on("UnlockConnector")  # type: ignore[untyped-decorator]  # the package has no types
    def unlock(self, **_: Any) -> Any:
        """Have no lock."""
        raise NotSupportedError


class _Commands2:
    """Answers commands of 2.x."""

    @on("RequestStartTransaction")  # type: ignore[untyped-decorator]  # the package has no types
    def start_transaction(self, **_: Any) -> Any:
        """Say yes."""
        return ocpp.v201.call_result.RequestStartTransaction(status="Accepted", transaction_id="tx-1")

    @on("GetVariables")  # type: ignore[untyped-decorator]  # the package has no types
    def get_variables(self, get_variable_data: list[dict[str, Any]], **_: Any) -> Any:
        """Say the value of each."""
        found = [{"attribute_status": "Accepted", "attribute_value": "60", **asked} for asked in get_variable_data]
        return ocpp.v201.call_result.GetVariables(get_variable_result=found)

    @on("Reset")  # type: ignore[untyped-decorator]  # the package has no types
    def reset(self, **_: Any) -> Any:
        """Say no."""
        return ocpp.v201.call_result.Reset(status="Rejected")

    @on("UnlockConnector")  # type: ignore[untyped-decorator]  # the package has no types
    def unlock(self, **_: Any) -> Any:
        """Have no lock."""
        raise NotSupportedError


class Station201(_Commands2, ocpp.v201.ChargePoint):  # type: ignore[misc]  # the package has no types
    """A station of 2.0.1."""


class Station21(_Commands2, ocpp.v21.ChargePoint):  # type: ignore[misc]  # the package has no types
    """A station of 2.1."""


TOKEN = {"id_token": GOOD_TOKEN, "type": "ISO14443"}
SAMPLE_16 = {"value": "1500", "measurand": "Energy.Active.Import.Register", "unit": "Wh"}
SAMPLE_2 = {"value": 1500.0, "measurand": "Energy.Active.Import.Register", "unit_of_measure": {"unit": "Wh"}}
SCHEDULE = {
    "id": 1,
    "charging_rate_unit": "W",
    "charging_schedule_period": [{"start_period": 0, "limit": 11000.0}],
}


def session_16() -> list[Any]:
    """Return the calls of a session of 1.6."""
    call = ocpp.v16.call
    meter = [{"timestamp": AT, "sampled_value": [SAMPLE_16]}]
    return [
        call.BootNotification(charge_point_vendor="Acme", charge_point_model="One"),
        call.Heartbeat(),
        call.StatusNotification(connector_id=1, error_code="NoError", status="Preparing", timestamp=AT),
        call.Authorize(id_tag=GOOD_TOKEN),
        call.StartTransaction(connector_id=1, id_tag=GOOD_TOKEN, meter_start=1000, timestamp=AT),
        call.MeterValues(connector_id=1, transaction_id=FIRST_TRANSACTION_ID, meter_value=meter),
        call.StopTransaction(
            transaction_id=FIRST_TRANSACTION_ID, meter_stop=2000, timestamp=AT, reason="EVDisconnected"
        ),
        call.FirmwareStatusNotification(status="Installed"),
        call.DiagnosticsStatusNotification(status="Uploaded"),
        call.SecurityEventNotification(type="SettingSystemTime", timestamp=AT, tech_info=""),
        call.DataTransfer(vendor_id="Acme"),
    ]


def transaction(call: Any, event: str, number: int, trigger: str, **more: Any) -> Any:
    """Return an event of the one transaction."""
    return call.TransactionEvent(
        event_type=event,
        timestamp=AT,
        trigger_reason=trigger,
        seq_no=number,
        transaction_info={"transaction_id": "tx-1", "charging_state": "Charging"},
        evse={"id": 1, "connector_id": 1},
        **more,
    )


def session_2(call: Any) -> list[Any]:
    """Return the calls of a session that 2.0.1 and 2.1 have."""
    meter = [{"timestamp": AT, "sampled_value": [SAMPLE_2]}]
    needs = {
        "requested_energy_transfer": "DC",
        "dc_charging_parameters": {"ev_max_current": 200, "ev_max_voltage": 900},
    }
    return [
        call.BootNotification(reason="PowerUp", charging_station={"vendor_name": "Acme", "model": "Two"}),
        call.Heartbeat(),
        call.StatusNotification(timestamp=AT, connector_status="Occupied", evse_id=1, connector_id=1),
        call.Authorize(id_token=TOKEN),
        transaction(call, "Started", 0, "Authorized", id_token=TOKEN),
        call.NotifyEVChargingNeeds(evse_id=1, charging_needs=needs),
        call.NotifyEVChargingSchedule(time_base=AT, evse_id=1, charging_schedule=SCHEDULE),
        call.NotifyChargingLimit(charging_limit={"charging_limit_source": "EMS"}, evse_id=1),
        transaction(call, "Updated", 1, "MeterValuePeriodic", meter_value=meter),
        call.MeterValues(evse_id=1, meter_value=meter),
        call.ClearedChargingLimit(charging_limit_source="EMS", evse_id=1),
        transaction(call, "Ended", 2, "StopAuthorized", id_token=TOKEN),
        call.ReservationStatusUpdate(reservation_id=1, reservation_update_status="Expired"),
        call.NotifyEvent(
            generated_at=AT,
            seq_no=0,
            event_data=[
                {
                    "event_id": 1,
                    "timestamp": AT,
                    "trigger": "Alerting",
                    "actual_value": "90",
                    "event_notification_type": "HardWiredMonitor",
                    "component": {"name": "Connector"},
                    "variable": {"name": "Temperature"},
                }
            ],
        ),
        call.FirmwareStatusNotification(status="Installed", request_id=1),
        call.LogStatusNotification(status="Uploaded", request_id=1),
        call.SecurityEventNotification(type="SettingSystemTime", timestamp=AT),
        call.DataTransfer(vendor_id="Acme"),
    ]


def session_21(call: Any) -> list[Any]:
    """Return what 2.1 adds to a session."""
    return [
        call.NotifyPriorityCharging(transaction_id="tx-1", activated=True),
        call.NotifySettlement(psp_ref="psp-1", status="Settled", settlement_amount=12.5, settlement_time=AT),
        call.PullDynamicScheduleUpdate(charging_profile_id=1),
        call.NotifyDERAlarm(control_type="FreqDroop", timestamp=AT),
        call.NotifyDERStartStop(control_id="c-1", started=True, timestamp=AT),
        call.VatNumberValidation(vat_number="SE556000000001"),
    ]


STATIONS: dict[str, tuple[Any, list[Any]]] = {
    "ocpp1.6": (Station16, session_16()),
    "ocpp2.0.1": (Station201, session_2(ocpp.v201.call)),
    "ocpp2.1": (Station21, session_2(ocpp.v21.call) + session_21(ocpp.v21.call)),
}
COMMANDS_2: list[tuple[str, dict[str, object], str]] = [
    (
        "RequestStartTransaction",
        {"remoteStartId": 1, "idToken": {"idToken": GOOD_TOKEN, "type": "Central"}},
        "accepted",
    ),
    (
        "GetVariables",
        {"getVariableData": [{"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": "HeartbeatInterval"}}]},
        "accepted",
    ),
    ("Reset", {"type": "Immediate"}, "rejected"),
    ("UnlockConnector", {"evseId": 1, "connectorId": 1}, "error NotSupported"),
]
COMMANDS: dict[str, list[tuple[str, dict[str, object], str]]] = {
    "ocpp1.6": [
        ("RemoteStartTransaction", {"idTag": GOOD_TOKEN}, "accepted"),
        ("ChangeConfiguration", {"key": "HeartbeatInterval", "value": "60"}, "accepted"),
        ("Reset", {"type": "Hard"}, "rejected"),
        ("UnlockConnector", {"connectorId": 1}, "error NotSupported"),
    ],
    "ocpp2.0.1": COMMANDS_2,
    "ocpp2.1": COMMANDS_2,
}
"""Action, payload, and how it ends."""


@pytest.fixture(scope="module")
def central(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCentral]:
    """A server for all tests of this module."""
    with live_central(tmp_path_factory.mktemp("central")) as central:
        yield central


@contextlib.asynccontextmanager
async def station_of(central: LiveCentral, identity: str, version: str) -> Any:
    """Connect a station; it answers commands while the context is open."""
    url = f"ws://{identity}:{PASSWORD}@127.0.0.1:{central.port}/ocpp/{identity}"
    async with connect(url, subprotocols=[Subprotocol(version)]) as connection:
        assert version == connection.subprotocol
        station = STATIONS[version][0](identity, connection)
        listening = asyncio.ensure_future(station.start())
        try:
            yield station
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening


@pytest.mark.parametrize("version", STATIONS)
def test_a_whole_session(version: str, central: LiveCentral) -> None:
    """The package finds every answer valid, and every call but heartbeats is in the journal in its order."""
    identity, calls = f"package-{version}", STATIONS[version][1]

    async def play() -> list[Any]:
        async with station_of(central, identity, version) as station:
            # An answer that its schema forbids, and a CALLERROR, raise.
            return [await station.call(call, suppress=False) for call in calls]

    answers = asyncio.run(play())
    assert ("Accepted", HEARTBEAT_INTERVAL_S) == (answers[0].status, answers[0].interval)
    central.wait_gone(identity)
    names = [type(call).__name__ for call in calls if type(call).__name__ != "Heartbeat"]
    if version == "ocpp1.6":
        names.insert(names.index("StartTransaction") + 1, "StartTransaction.conf")
    assert [f"{version}/{name}" for name in names] == [channel for channel, _ in central.said(identity)]


@pytest.mark.parametrize("version", STATIONS)
def test_the_commands_of_a_session(version: str, central: LiveCentral) -> None:
    """Each command ends as the station answered it, and its steps are in the journal with what was sent."""
    identity = f"package-commands-{version}"

    async def play() -> list[str]:
        ends = []
        async with station_of(central, identity, version) as station:
            # Commands may be sent once it is known; a heartbeat says so.
            await station.call(STATIONS[version][1][1], suppress=False)
            for action, payload, _ in COMMANDS[version]:
                event = (await central.command(identity, action, payload)).event
                ends.append(f"{event.step} {event.error_code}".strip())
        return ends

    assert [expected for _, _, expected in COMMANDS[version]] == asyncio.run(play())
    central.wait_gone(identity)
    steps = central.steps(identity)
    assert [
        (action, step) for action, _, end in COMMANDS[version] for step in ("submitted", "sent", end.partition(" ")[0])
    ] == steps

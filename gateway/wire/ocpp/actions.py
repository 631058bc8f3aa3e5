"""Which actions each version has and who may ask for them, as data.

From the message tables of OCPP 1.6 edition 2 (with the security whitepaper, edition 3), OCPP 2.0.1 part 2 edition 3 and
OCPP 2.1 part 2. A test compares them with the schemas that exist.
"""

from collections.abc import Mapping
from typing import Final

from gateway.wire.ocpp.versions import Version

_STATION_16: Final = (
    "Authorize BootNotification DataTransfer DiagnosticsStatusNotification FirmwareStatusNotification Heartbeat "
    "LogStatusNotification MeterValues SecurityEventNotification SignCertificate SignedFirmwareStatusNotification "
    "StartTransaction StatusNotification StopTransaction"
)
_CENTRAL_16: Final = (
    "CancelReservation CertificateSigned ChangeAvailability ChangeConfiguration ClearCache ClearChargingProfile "
    "DataTransfer DeleteCertificate ExtendedTriggerMessage GetCompositeSchedule GetConfiguration GetDiagnostics "
    "GetInstalledCertificateIds GetLocalListVersion GetLog InstallCertificate RemoteStartTransaction "
    "RemoteStopTransaction ReserveNow Reset SendLocalList SetChargingProfile SignedUpdateFirmware TriggerMessage "
    "UnlockConnector UpdateFirmware"
)
_STATION_201: Final = (
    "Authorize BootNotification ClearedChargingLimit DataTransfer FirmwareStatusNotification Get15118EVCertificate "
    "GetCertificateStatus Heartbeat LogStatusNotification MeterValues NotifyChargingLimit NotifyCustomerInformation "
    "NotifyDisplayMessages NotifyEVChargingNeeds NotifyEVChargingSchedule NotifyEvent NotifyMonitoringReport "
    "NotifyReport PublishFirmwareStatusNotification ReportChargingProfiles ReservationStatusUpdate "
    "SecurityEventNotification SignCertificate StatusNotification TransactionEvent"
)
_CENTRAL_201: Final = (
    "CancelReservation CertificateSigned ChangeAvailability ClearCache ClearChargingProfile ClearDisplayMessage "
    "ClearVariableMonitoring CostUpdated CustomerInformation DataTransfer DeleteCertificate GetBaseReport "
    "GetChargingProfiles GetCompositeSchedule GetDisplayMessages GetInstalledCertificateIds GetLocalListVersion GetLog "
    "GetMonitoringReport GetReport GetTransactionStatus GetVariables InstallCertificate PublishFirmware "
    "RequestStartTransaction RequestStopTransaction ReserveNow Reset SendLocalList SetChargingProfile "
    "SetDisplayMessage SetMonitoringBase SetMonitoringLevel SetNetworkProfile SetVariableMonitoring SetVariables "
    "TriggerMessage UnlockConnector UnpublishFirmware UpdateFirmware"
)
_STATION_21: Final = (
    "BatterySwap ClosePeriodicEventStream GetCertificateChainStatus NotifyDERAlarm NotifyDERStartStop "
    "NotifyPriorityCharging NotifySettlement OpenPeriodicEventStream PullDynamicScheduleUpdate ReportDERControl "
    "VatNumberValidation"
)
_CENTRAL_21: Final = (
    "AFRRSignal AdjustPeriodicEventStream ChangeTransactionTariff ClearDERControl ClearTariffs GetDERControl "
    "GetPeriodicEventStream GetTariffs NotifyAllowedEnergyTransfer NotifyWebPaymentStarted RequestBatterySwap "
    "SetDERControl SetDefaultTariff UpdateDynamicSchedule UsePriorityCharging"
)

FROM_STATION: Final[Mapping[Version, frozenset[str]]] = {
    Version.V16: frozenset(_STATION_16.split()),
    Version.V201: frozenset(_STATION_201.split()),
    Version.V21: frozenset((_STATION_201 + " " + _STATION_21).split()),
}
"""Actions a station may CALL."""

FROM_CENTRAL: Final[Mapping[Version, frozenset[str]]] = {
    Version.V16: frozenset(_CENTRAL_16.split()),
    Version.V201: frozenset(_CENTRAL_201.split()),
    Version.V21: frozenset((_CENTRAL_201 + " " + _CENTRAL_21).split()),
}
"""Actions a central system may CALL; DataTransfer goes both ways."""

SENT_BY_STATION: Final[Mapping[Version, frozenset[str]]] = {
    Version.V16: frozenset(),
    Version.V201: frozenset(),
    Version.V21: frozenset({"NotifyPeriodicEventStream"}),
}
"""Actions a station sends with SEND, which nobody answers."""

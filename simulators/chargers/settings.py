"""A charger's settings: 1.6's configuration keys and 2.x's variables, in one store. Pure."""

import msgspec


class Setting(msgspec.Struct, kw_only=True):
    """One setting.

    Attributes:
        value: As text, as both versions have it.
        is_readonly: Whether a central system may change it.
        needs_reboot: Whether a change waits for the next start.
        is_number: Whether only whole numbers >= 0 make sense.
    """

    value: str
    is_readonly: bool = False
    needs_reboot: bool = False
    is_number: bool = False


HEARTBEAT, METER = "heartbeat", "meter"
_NAMES_V16 = {HEARTBEAT: "HeartbeatInterval", METER: "MeterValueSampleInterval"}
_NAMES_V2 = {HEARTBEAT: "OCPPCommCtrlr.HeartbeatInterval", METER: "SampledDataCtrlr.TxUpdatedInterval"}


class Settings:
    """The store. Names are keys in 1.6 and `Component.Variable` in 2.x.

    Args:
        is_v16: Which names.
        connectors: Of the charger.
        meter_interval_s: Between two meter values.
    """

    def __init__(self, *, is_v16: bool, connectors: int, meter_interval_s: int) -> None:
        names = _NAMES_V16 if is_v16 else _NAMES_V2
        self._names = names
        self._settings = _settings_v16(connectors) if is_v16 else _settings_v2(connectors)
        self._settings[names[HEARTBEAT]] = Setting(value="300", is_number=True)
        self._settings[names[METER]] = Setting(value=str(meter_interval_s), is_number=True)

    def number(self, which: str) -> int:
        """Return one of the numbers that the charger itself goes by."""
        return int(self._settings[self._names[which]].value)

    def heartbeat(self, interval_s: int) -> None:
        """Take over the interval that BootNotification was answered with; 0 leaves it to the charger."""
        if interval_s > 0:
            self._settings[self._names[HEARTBEAT]].value = str(interval_s)

    def get(self, name: str) -> Setting | None:
        """Return a setting, None for one the charger does not know."""
        return self._settings.get(name)

    def has_component(self, component: str) -> bool:
        """Return whether some name begins so."""
        return any(name.startswith(component + ".") for name in self._settings)

    def all(self) -> dict[str, Setting]:
        """Return all, by name."""
        return dict(self._settings)

    def change(self, name: str, value: str) -> str:
        """Change one. Returns: Accepted, RebootRequired, Rejected, or NotSupported for an unknown name."""
        setting = self._settings.get(name)
        if setting is None:
            return "NotSupported"
        if setting.is_readonly or (setting.is_number and not (value.isascii() and value.isdigit())):
            return "Rejected"
        setting.value = value
        return "RebootRequired" if setting.needs_reboot else "Accepted"


def _settings_v16(connectors: int) -> dict[str, Setting]:
    return {
        "AuthorizeRemoteTxRequests": Setting(value="false"),
        "ConnectionTimeOut": Setting(value="60", is_number=True),
        "GetConfigurationMaxKeys": Setting(value="50", is_readonly=True),
        "LocalPreAuthorize": Setting(value="false"),
        "MeterValuesSampledData": Setting(value="Energy.Active.Import.Register,Power.Active.Import,SoC"),
        "NumberOfConnectors": Setting(value=str(connectors), is_readonly=True),
        "ResetRetries": Setting(value="1", is_number=True),
        "StopTransactionOnEVSideDisconnect": Setting(value="true"),
        "SupportedFeatureProfiles": Setting(
            value="Core,FirmwareManagement,LocalAuthListManagement,Reservation,SmartCharging,RemoteTrigger",
            is_readonly=True,
        ),
        "TransactionMessageAttempts": Setting(value="10", is_number=True),
        "WebSocketPingInterval": Setting(value="0", is_number=True, needs_reboot=True),
    }


def _settings_v2(connectors: int) -> dict[str, Setting]:
    return {
        "AuthCtrlr.AuthorizeRemoteStart": Setting(value="false"),
        "ChargingStation.Available": Setting(value="true", is_readonly=True),
        "DeviceDataCtrlr.ItemsPerMessage": Setting(value="10", is_readonly=True),
        "EVSE.Count": Setting(value=str(connectors), is_readonly=True),
        "OCPPCommCtrlr.OfflineThreshold": Setting(value="60", is_number=True),
        "OCPPCommCtrlr.WebSocketPingInterval": Setting(value="0", is_number=True, needs_reboot=True),
        "SampledDataCtrlr.TxUpdatedMeasurands": Setting(value="Energy.Active.Import.Register,Power.Active.Import,SoC"),
        "SmartChargingCtrlr.Enabled": Setting(value="true", is_readonly=True),
        "TxCtrlr.EVConnectionTimeOut": Setting(value="60", is_number=True),
        "TxCtrlr.StopTxOnEVSideDisconnect": Setting(value="true"),
    }

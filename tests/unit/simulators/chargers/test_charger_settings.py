"""Settings can be read and changed as far as they may."""

import pytest

from simulators.chargers.settings import HEARTBEAT, METER, Settings


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("HeartbeatInterval", "60", "Accepted"),
        ("HeartbeatInterval", "often", "Rejected"),
        ("NumberOfConnectors", "9", "Rejected"),
        ("WebSocketPingInterval", "30", "RebootRequired"),
        ("Nonsense", "1", "NotSupported"),
    ],
)
def test_change_is_answered_by_what_it_does(name: str, value: str, status: str):
    """And a refused one changes nothing."""
    settings = Settings(is_v16=True, connectors=2, meter_interval_s=10)
    before = settings.get(name)
    unchanged = before.value if before is not None else None
    assert status == settings.change(name, value)
    after = settings.get(name)
    assert (value if status in ("Accepted", "RebootRequired") else unchanged) == (after.value if after else None)


@pytest.mark.parametrize("is_v16", [True, False])
def test_charger_goes_by_its_settings(is_v16: bool):
    """The interval of Boot's answer is a heartbeat's; 0 leaves it alone."""
    settings = Settings(is_v16=is_v16, connectors=1, meter_interval_s=7)
    settings.heartbeat(0)
    assert (300, 7) == (settings.number(HEARTBEAT), settings.number(METER))
    settings.heartbeat(42)
    assert 42 == settings.number(HEARTBEAT)


def test_2x_names_have_components():
    """So that an unknown variable differs from an unknown component."""
    settings = Settings(is_v16=False, connectors=1, meter_interval_s=7)
    assert settings.has_component("TxCtrlr")
    assert not settings.has_component("Tx")
    assert settings.get("TxCtrlr.Nonsense") is None

"""Numbers that no document has and every document gives: scripted fields of index patterns, in Painless."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from processors.indexing.plan import DEVICES
from processors.stages.alerts import ALERTS
from processors.stages.chain import windows_table
from processors.stages.sessions import SESSIONS

DURATION_FORMAT: Final[dict[str, Any]] = {
    "id": "duration",
    "params": {"inputFormat": "seconds", "outputFormat": "humanize"},
}
"""How Dashboards shows a span that is stored in seconds."""


class Script(msgspec.Struct, frozen=True):
    """A scripted field: its name and the Painless that gives it; null where a field it needs is missing."""

    name: str
    source: str


def _if_there(fields: tuple[str, ...], value: str) -> str:
    """Return a script that is null unless all fields have values."""
    missing = " || ".join(f"doc['{field}'].size() == 0" for field in fields)
    return f"if ({missing}) {{ return null; }} return {value};"


def _span_s(name: str, begin: str, end: str) -> Script:
    value = (
        f"(doc['{end}'].value.toInstant().toEpochMilli() - doc['{begin}'].value.toInstant().toEpochMilli()) / 1000.0"
    )
    return Script(name, _if_there((begin, end), value))


def _difference(name: str, high: str, low: str) -> Script:
    return Script(name, _if_there((high, low), f"doc['{high}'].value - doc['{low}'].value"))


_LAG: Final = _span_s("lag_s", "measured_at", "received_at")
_PACK: Final = "value.battery_pack."

SCRIPTS: Final[Mapping[str, tuple[Script, ...]]] = {
    DEVICES: (
        _LAG,
        _difference("cell_voltage_spread_v", f"{_PACK}cell_voltage_max_v", f"{_PACK}cell_voltage_min_v"),
        _difference("cell_temp_spread_c", f"{_PACK}cell_temp_max_c", f"{_PACK}cell_temp_min_c"),
    ),
    SESSIONS: (Script("energy_kwh", _if_there(("energy_wh",), "doc['energy_wh'].value / 1000.0")),),
    ALERTS: (
        _span_s("time_to_acknowledge_s", "fired_at", "acknowledged_at"),
        _span_s("time_to_resolve_s", "fired_at", "resolved_at"),
    ),
    "charger_status": (_LAG,),
    "vehicle_event": (_LAG,),
    **{
        windows_table(stream): (_span_s("lag_s", "window_start", "received_at"),)
        for stream in ("vehicle_telemetry", "battery_pack", "charger_meter")
    },
}
"""Table -> its scripted fields. Of a window, the lag is counted from its start, so it holds the window's own length."""

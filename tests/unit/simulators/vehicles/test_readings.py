"""What vehicles say agrees with the built-in contracts, which they may not import."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from simulators.load_device import _templates
from simulators.message import Reading
from simulators.vehicles.drive import Drive
from simulators.vehicles.physics import BUS
from simulators.vehicles.readings import battery, character, event, sample_telemetry, telemetry
from simulators.vehicles.routes import ROUTES

CONTRACTS = Path(__file__).parents[4] / "processors" / "contracts"
TYPES: dict[str, type | tuple[type, ...]] = {"float": (int, float), "int": int, "bool": bool, "str": str, "enum": str}
TS = "2026-11-22T10:00:00.000000Z"


def contract(stream: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CONTRACTS / f"{stream}.yaml").read_text())
    return loaded


def readings(seconds: int = 900) -> list[tuple[str, Reading]]:
    random_ = random.Random(5)
    pack = character(BUS, random_)
    drive = Drive(BUS, ROUTES["munich"][0], random_=random_, soc=0.7, odometer_km=100.0, ambient_temp_c=3.0)
    said: list[tuple[str, Reading]] = []
    for _ in range(seconds):
        now = drive.advance()
        said.append(("vehicle_telemetry", telemetry("bus-1", TS, BUS, now)))
        said.append(("battery_pack", battery("bus-1", TS, BUS, pack, now)))
    return said


SAID = [
    *readings(),
    ("vehicle_telemetry", {"ts": TS} | sample_telemetry("load-1")),
    ("vehicle_event", event("bus-1", TS, "ignition", active=True)),
    ("vehicle_event", event("bus-1", TS, "dtc", code="P0A7F", active=True)),
    ("vehicle_event", event("bus-1", None, "connectivity", code="offline", active=False)),
]


@pytest.mark.parametrize("stream", ["vehicle_telemetry", "battery_pack", "vehicle_event"])
def test_every_key_is_a_field_of_the_contract_with_its_type_and_in_its_range(stream: str):
    """A key that the contract does not name would be lost in silence; `ts` and `device_id` are time and identity."""
    fields = contract(stream)["fields"]
    for _, reading in (said for said in SAID if said[0] == stream):
        for key, value in reading.items():
            if key in {"ts", "device_id"}:
                continue
            field = fields[key]
            assert isinstance(value, TYPES[field["type"]]), key
            assert isinstance(value, bool) == (field["type"] == "bool"), key
            if "range" in field:
                assert field["range"][0] <= float(str(value)) <= field["range"][1], key
            if "values" in field:
                assert value in field["values"], key


def test_time_is_under_the_contracts_path():
    """All three read `ts` in ISO 8601; only events may come without it, as a will must."""
    for stream in ("vehicle_telemetry", "battery_pack", "vehicle_event"):
        time = contract(stream)["time"]["measured_at"]
        assert (time["path"], time["format"]) == ("ts", "iso8601")
    assert contract("vehicle_event")["time"]["measured_at"]["absent"] == "received_at"


def test_event_without_its_kind_would_be_refused():
    """Which is what the fault `no_kind` relies on."""
    assert contract("vehicle_event")["fields"]["kind"]["required"] is True


def test_published_power_is_voltage_times_current():
    """After rounding, within a thousandth or a few watts."""
    for stream, reading in SAID:
        if stream == "battery_pack":
            volts, amperes, kw = (
                float(str(reading[key])) for key in ("pack_voltage_v", "pack_current_a", "pack_power_kw")
            )
            assert volts * amperes / 1000 == pytest.approx(kw, rel=1e-3, abs=0.002)


def test_cells_lie_around_their_mean_and_add_up_to_the_pack():
    """Minimum, mean, maximum in order; mean times cells is the pack's voltage."""
    for stream, reading in SAID:
        if stream == "battery_pack":
            low, mean, high = (float(str(reading[f"cell_voltage_{name}_v"])) for name in ("min", "mean", "max"))
            assert low < mean < high < low + 0.05
            assert mean * BUS.battery.cells == pytest.approx(float(str(reading["pack_voltage_v"])), rel=1e-4)
            temps = [float(str(reading[f"cell_temp_{name}_c"])) for name in ("min", "mean", "max")]
            assert temps == sorted(temps)


def test_load_payload_is_a_reading_of_about_300_bytes():
    """The benchmarks say 300 B, so it must be."""
    head, tail, payload_at = _templates("load-00001", "v1/default/load-00001/telemetry")
    payload = ((head + b"2026-11-22T10:00:00" + tail) % (b"\0\1", 7, 123_456))[payload_at:]
    reading = json.loads(payload)
    assert 280 <= len(payload) <= 320
    assert reading["seq"] == 7
    assert re.fullmatch(r"2026-11-22T10:00:00\.123456Z", reading["ts"])
    assert reading | sample_telemetry("load-00001") == reading

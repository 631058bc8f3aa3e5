"""What a vehicle says, under the field names and in the units of the built-in streams. Pure.

Current and power are positive into the battery. A value the vehicle does not know is left out, never 0.
"""

import random

import msgspec

from simulators.message import Reading
from simulators.vehicles.drive import Snapshot
from simulators.vehicles.physics import HEALTHY, Ailment, Model

_KMH_PER_MPS = 3.6
_SPREAD_V_PER_A = 1.5e-5
"""How much more cells differ per ampere: one percent of a cell's milliohm or two."""
_SPREAD_K_PER_KW = 0.15


class Character(msgspec.Struct, frozen=True, kw_only=True):
    """What makes one pack different from another of its model.

    Attributes:
        soh_pct: State of health.
        weak_cell: Group that is lowest in voltage, from 1.
        strong_cell: Group that is highest.
        spread: Times the model's rest spread between the cells that this pack has.
        isolation_kohm: Between pack and chassis.
        warmer_k: By which cells in the middle are warmer than the mean, and those at the edge colder, at rest.
    """

    soh_pct: float
    weak_cell: int
    strong_cell: int
    spread: float
    isolation_kohm: float
    warmer_k: float = 0.4


def character(model: Model, random_: random.Random) -> Character:
    """Return a pack as good as most."""
    weak, strong = random_.sample(range(1, model.battery.cells + 1), 2)
    return Character(
        soh_pct=round(random_.uniform(88.0, 99.5), 1),
        weak_cell=weak,
        strong_cell=strong,
        spread=random_.uniform(0.3, 1.0),
        isolation_kohm=random_.uniform(1_500.0, 6_000.0),
    )


def aged(pack: Character, random_: random.Random) -> Character:
    """Return the pack after some years in a fleet that is looked after: further apart, and nothing wrong with it."""
    return msgspec.structs.replace(
        pack,
        soh_pct=round(random_.uniform(78.0, 96.0), 1),
        spread=random_.uniform(0.4, 1.8),
        isolation_kohm=random_.uniform(900.0, 6_000.0),
        warmer_k=random_.uniform(0.3, 1.4),
    )


def telemetry(device_id: str, ts: str, model: Model, now: Snapshot) -> Reading:
    """Return a `vehicle_telemetry` reading."""
    stored_kwh = model.battery.stored_kwh(now.pack.soc)
    return {
        "ts": ts,
        "device_id": device_id,
        "latitude_deg": round(now.position.latitude_deg, 6),
        "longitude_deg": round(now.position.longitude_deg, 6),
        "altitude_m": round(now.position.altitude_m, 1),
        "heading_deg": round(now.position.heading_deg, 1),
        "speed_kmh": round(now.speed_mps * _KMH_PER_MPS, 2),
        "odometer_km": round(now.odometer_m / 1000, 4),
        "soc_pct": round(now.pack.soc * 100, 3),
        "range_km": round(stored_kwh / TYPICAL_KWH_PER_KM[model.name], 1),
        "power_kw": round(now.flows.terminal_kw, 3),
        "ambient_temp_c": round(now.ambient_temp_c, 1),
        "cabin_temp_c": round(now.cabin_temp_c, 1),
        "ignition": now.ignition_on,
        "doors_open": now.doors_open,
        "charging": now.charging,
    }


def battery(
    device_id: str, ts: str, model: Model, pack: Character, now: Snapshot, ailment: Ailment = HEALTHY
) -> Reading:
    """Return a `battery_pack` reading.

    Cells differ at rest by the pack's own spread, and under load by a little more, as their resistances differ; those
    in the middle are warmer than those at the edge, the more so the more heat there is. A sick cell is one of the
    groups in series, so the pack's voltage and power lack what it lacks.
    """
    cells, current_a = model.battery.cells, now.flows.current_a
    healthy_v = now.flows.voltage_v / cells
    half_v = (model.battery.cell_spread_v * pack.spread + abs(current_a) * _SPREAD_V_PER_A) / 2
    low, high = (healthy_v - half_v, pack.weak_cell), (healthy_v + half_v, pack.strong_cell)
    pack_v, warmer_k = now.flows.voltage_v, pack.warmer_k + now.flows.cell_loss_kw * _SPREAD_K_PER_KW
    temp_mean_c, temp_max_c = now.pack.temp_c, now.pack.temp_c + warmer_k
    if ailment.cell is not None:
        sick_v = ailment.cell_v(healthy_v, current_a)
        pack_v += sick_v - healthy_v
        low, high = min(low, (sick_v, ailment.cell)), max(high, (sick_v, ailment.cell))
    if ailment.temp_c is not None:
        temp_mean_c += (ailment.temp_c - temp_mean_c) / cells
        temp_max_c = max(temp_max_c, ailment.temp_c)
    state = "charge" if now.charging else "drive" if now.ignition_on else "standby"
    return {
        "ts": ts,
        "device_id": device_id,
        "pack_voltage_v": round(pack_v, 3),
        "pack_current_a": round(current_a, 3),
        "pack_power_kw": round(pack_v * current_a / 1000, 3),
        "soc_pct": round(now.pack.soc * 100, 3),
        "soh_pct": pack.soh_pct,
        "cell_voltage_min_v": round(low[0], 4),
        "cell_voltage_max_v": round(high[0], 4),
        "cell_voltage_mean_v": round(pack_v / cells, 4),
        "cell_voltage_min_id": low[1],
        "cell_voltage_max_id": high[1],
        "cell_temp_min_c": round(now.pack.temp_c - warmer_k, 2),
        "cell_temp_max_c": round(temp_max_c, 2),
        "cell_temp_mean_c": round(temp_mean_c, 2),
        "isolation_kohm": round(ailment.isolation_kohm(pack.isolation_kohm), 0),
        "contactor": "closed",
        "hvil_closed": True,
        "bms_state": state,
        "fault_codes": "",
    }


def event(device_id: str, ts: str | None, kind: str, *, code: str | None = None, active: bool | None = None) -> Reading:
    """Return a `vehicle_event` reading; `ts` None leaves the time to whoever receives it, as a last will must."""
    said: Reading = {} if ts is None else {"ts": ts}
    said |= {"device_id": device_id, "kind": kind}
    if code is not None:
        said["code"] = code
    if active is not None:
        said["active"] = active
    return said


TYPICAL_KWH_PER_KM = {"bus": 1.05, "car": 0.16}
"""What the range display reckons with."""


def sample_telemetry(device_id: str) -> Reading:
    """Return a plausible `vehicle_telemetry` reading without its `ts`, for who needs bytes and no vehicle."""
    return {
        "device_id": device_id,
        "latitude_deg": 57.706412,
        "longitude_deg": 11.967512,
        "heading_deg": 87.5,
        "speed_kmh": 42.31,
        "odometer_km": 182331.4,
        "soc_pct": 71.25,
        "range_km": 231.5,
        "power_kw": -34.12,
        "ambient_temp_c": 7.5,
        "ignition": True,
        "doors_open": False,
    }

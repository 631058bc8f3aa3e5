"""Forty minutes of a small depot in which everything happens that a dashboard shows; each run gives the same rows."""

import json
import math
from datetime import datetime, timedelta
from typing import Any, Final

import polars as pl

from gateway.core.ids import Channel, DeviceId, Offset, TenantId
from gateway.core.records import Envelope, Route, to_batch
from processors.contracts.load import ContractSet
from processors.indexing.plan import DEVICES, device_rows
from processors.stages.alert_orders import ORDERS
from processors.stages.alerts import ALERTS
from processors.stages.chain import Chain
from tests.journals import START, message, reading, tick, to_ns

END: Final = START + timedelta(minutes=40)
_STEP_S: Final = 5
_CHARGING_S: Final = range(300, 1800)
"""When ev-0 charges at cp-1."""
_HOT_S: Final = range(300, 900)
"""When a cell of ev-1 is hot."""
_POWER_KW: Final = 48.0


def showcase(contracts: ContractSet) -> dict[str, pl.DataFrame]:
    """Return the rows of every table after those minutes, and those of DEVICES."""
    chain = Chain(contracts)
    outputs, state = chain.run(to_batch(Offset(0), showcase_journal(contracts)), chain.empty_state())
    frames = [
        device_rows(contract, frame)
        for contract in contracts
        if (frame := state.streams[contract.stream].devices.frame) is not None
    ]
    return outputs.tables | {DEVICES: pl.concat(frames, how="diagonal").sort("offset")}


def showcase_journal(contracts: ContractSet) -> list[Envelope]:
    """Return what was received in those minutes."""
    sent = sorted([*_vehicles(), *_chargers(), *_dirt()], key=lambda envelope: envelope.received_at_ns)
    acknowledged = START + timedelta(seconds=600)
    early = [one for one in sent if one.received_at_ns < to_ns(acknowledged)]
    chain = Chain(contracts)
    first, _ = chain.run(to_batch(Offset(0), early), chain.empty_state())
    # Only the alerts themselves tell the ids that somebody acknowledges.
    orders = [
        _gateway(ORDERS, {"kind": "ack", "by": "ada", "alert_id": id_}, acknowledged, device="")
        for id_ in first.tables[ALERTS]["alert_id"].unique().sort()
    ]
    return [*early, *orders, *sent[len(early) :]]


def _vehicles() -> list[Envelope]:
    sent = [_gateway("asset", {"kind": "vehicle", "site": "depot", "id_tokens": "TAG"}, START, device="ev-0")]
    for second in range(0, int((END - START).total_seconds()), _STEP_S):
        at = START + timedelta(seconds=second)
        sent.append(tick(at + timedelta(milliseconds=500)))
        for number in range(3):
            is_charging = number == 0 and second in _CHARGING_S
            power_kw = 0.95 * _POWER_KW if is_charging else -12.0 - number
            driven_km = 0.0 if number == 0 else second * 0.01
            soc_pct = 40.0 + 15 * number + (second / 120 if is_charging else -second / 600)
            place = {"latitude_deg": 52.5 + number / 100 + driven_km / 1000, "longitude_deg": 13.4 + driven_km / 1000}
            moved = {
                "speed_kmh": 0.0 if number == 0 else 36.0,
                "odometer_km": 1000.0 + driven_km,
                "range_km": 3 * soc_pct,
            }
            said = {"soc_pct": round(soc_pct, 2), "power_kw": power_kw, "ambient_temp_c": 7.0, "charging": is_charging}
            # A reading in a hundred comes minutes late, after its window was closed.
            late_s = 240 if number == 2 and second % 500 == 400 else 0
            received = at + timedelta(seconds=late_s, milliseconds=80)
            sent.append(reading(f"ev-{number}", at, received=received, **place, **moved, **said))
            sent.append(_battery(number, at, second, round(soc_pct, 2), power_kw))
    return sent


def _battery(number: int, at: datetime, second: int, soc_pct: float, power_kw: float) -> Envelope:
    hot_c = 57.0 if number == 1 and second in _HOT_S else 28.0 + number
    pack = {
        "ts": _text(at),
        "pack_voltage_v": 400.0,
        "pack_current_a": round(power_kw * 1000 / 400, 2),
        "pack_power_kw": power_kw,
        "soc_pct": soc_pct,
        "soh_pct": 97.5 - number,
        "cell_voltage_min_v": 3.70,
        "cell_voltage_max_v": round(3.71 + number / 100 + 0.002 * math.sin(second / 60), 4),
        "cell_voltage_mean_v": 3.705,
        "cell_temp_min_c": 25.0,
        "cell_temp_max_c": hot_c,
        "cell_temp_mean_c": (hot_c + 25) / 2,
        # Below 500 ohm/V is an alert that nothing ends.
        "isolation_kohm": 150.0 if number == 2 else 2000.0,
        "contactor": "closed",
        "bms_state": "charge" if power_kw > 0 else "drive",
    }
    return message(f"ev-{number}", "battery", json.dumps(pack).encode(), received=at + timedelta(milliseconds=90))


def _chargers() -> list[Envelope]:
    place = {"latitude_deg": 52.5, "longitude_deg": 13.4, "site": "depot", "rated_power_kw": 50.0, "connectors": 2}
    sent = []
    for device in ("cp-1", "cp-2"):
        sent.append(_gateway("asset", {"kind": "charger", **place}, START, device=device))
        hello = b'{"event":"connected","version":"ocpp1.6","generation":1}'
        sent.append(_ocpp("connected", hello, START, device=device, prefix="ocpp"))
        boot = {"chargePointVendor": "Ampere", "chargePointModel": "A50", "firmwareVersion": "1.2.3"}
        sent.append(_call("BootNotification", START, device=device, mid="boot", **boot))
        for connector, status, error in ((1, "Available", "NoError"), (2, "Faulted", "GroundFailure")):
            at = START + timedelta(seconds=10 * connector)
            sent.append(_status(device, connector, at, status=status, error=error))
    # A clock that is two hours ahead is set aside.
    early = START + timedelta(seconds=60)
    sent.append(_status("cp-2", 1, early + timedelta(hours=2), received=early, status="Preparing", error="NoError"))
    begin, end = (START + timedelta(seconds=second) for second in (_CHARGING_S.start, _CHARGING_S.stop))
    sent += _transaction("cp-1", 7, begin, end, reason="EVDisconnected")
    sent += _transaction("cp-2", 8, begin + timedelta(seconds=60), None)
    return sent


def _transaction(device: str, number: int, begin: datetime, end: datetime | None, **stop: Any) -> list[Envelope]:
    """Return a transaction of 1.6 with a meter value in ten seconds; without an end it goes on."""
    answer = json.dumps([3, f"start-{number}", {"transactionId": number, "idTagInfo": {"status": "Accepted"}}])
    started = {"connectorId": 1, "idTag": "TAG" if end else "VISITOR", "meterStart": 0, "timestamp": _text(begin)}
    sent = [
        _status(device, 1, begin, status="Charging", error="NoError"),
        _call("StartTransaction", begin, device=device, mid=f"start-{number}", **started),
        _ocpp("StartTransaction.conf", answer.encode(), begin, device=device),
    ]
    for second in range(10, int(((end or END) - begin).total_seconds()), 10):
        at = begin + timedelta(seconds=second)
        values = [
            {"value": str(round(second * _POWER_KW / 3.6, 1)), "unit": "Wh"},
            {"value": str(_POWER_KW), "measurand": "Power.Active.Import", "unit": "kW"},
        ]
        meter = [{"timestamp": _text(at), "sampledValue": values}]
        about = {"connectorId": 1, "transactionId": number, "meterValue": meter}
        sent.append(_call("MeterValues", at, device=device, mid=f"m-{number}-{second}", **about))
    if end is not None:
        wh = round((end - begin).total_seconds() * _POWER_KW / 3.6)
        ended = {"transactionId": number, "meterStop": wh, "timestamp": _text(end), **stop}
        sent.append(_call("StopTransaction", end, device=device, mid=f"stop-{number}", **ended))
        sent.append(_status(device, 1, end, status="Available", error="NoError"))
    return sent


def _dirt() -> list[Envelope]:
    """Return events, some with values that cannot be, and payloads that are no readings."""
    sent = []
    for number in range(12):
        at = START + timedelta(seconds=150 * number + 7)
        event = {"ts": _text(at), "kind": ("dtc", "geofence", "door")[number % 3], "code": "P0A1F", "active": True}
        event |= {"severity": "info", "odometer_km": -5.0 if number % 4 == 0 else 1000.0}
        received = at + timedelta(milliseconds=400 + 100 * number)
        sent.append(message(f"ev-{number % 3}", "event", json.dumps(event).encode(), received=received))
        payload = (b"{", b"\xff\xfe", b'{"ts": 5, "speed_kmh": "fast"}', b"nonsense")[number % 4]
        channel = ("telemetry", "battery", "not/a/stream")[number % 3]
        sent.append(message(f"ev-{number % 3}", channel, payload + b" " * number, received=at))
    return sent


def _status(
    device: str, connector: int, at: datetime, *, status: str, error: str, received: datetime | None = None
) -> Envelope:
    said = {"connectorId": connector, "errorCode": error, "status": status, "timestamp": _text(at)}
    mid = f"s-{connector}-{status}-{at.timestamp():.0f}"
    return _call("StatusNotification", received or at + timedelta(milliseconds=300), device=device, mid=mid, **said)


def _call(action: str, at: datetime, *, device: str, mid: str, **payload: Any) -> Envelope:
    return _ocpp(action, json.dumps([2, mid, action, payload]).encode(), at, device=device)


def _ocpp(channel: str, payload: bytes, at: datetime, *, device: str, prefix: str = "ocpp1.6") -> Envelope:
    return _entry("ocpp", f"{prefix}/{channel}", payload, at, device)


def _gateway(channel: str, fields: dict[str, Any], at: datetime, *, device: str) -> Envelope:
    return _entry("gateway", channel, json.dumps({"at": _text(at), **fields}).encode(), at, device)


def _entry(source: str, channel: str, payload: bytes, at: datetime, device: str) -> Envelope:
    route = Route(TenantId("default"), DeviceId(device), source, Channel(channel))
    return Envelope(received_at_ns=to_ns(at), route=route, payload=payload)


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")

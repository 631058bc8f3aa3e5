"""Frames of chargers as journal entries, for the tests of the stages that read them."""

import json
from datetime import datetime, timedelta
from typing import Any

from gateway.core.ids import Channel, DeviceId, TenantId
from gateway.core.records import Envelope, Route
from tests.journals import START, to_ns


def text(at: datetime) -> str:
    """Return a time as chargers write it."""
    return at.isoformat().replace("+00:00", "Z")


def entry(
    channel: str, payload: bytes, *, device: str = "cp-1", at: datetime = START, source: str = "ocpp"
) -> Envelope:
    """Return an entry received at `at`."""
    route = Route(TenantId("default"), DeviceId(device), source, Channel(channel))
    return Envelope(received_at_ns=to_ns(at), route=route, payload=payload)


def call(
    action: str, *, version: str = "ocpp1.6", device: str = "cp-1", at: datetime = START, mid: str = "m", **payload: Any
) -> Envelope:
    """Return the entry of a CALL received at `at`."""
    return entry(f"{version}/{action}", json.dumps([2, mid, action, payload]).encode(), device=device, at=at)


def meter(
    at: datetime,
    wh: float,
    *,
    connector: int = 1,
    device: str = "cp-1",
    mid: str = "m",
    received: datetime | None = None,
    timestamp: str | None = None,
    **payload: Any,
) -> Envelope:
    """Return MeterValues of 1.6 with one register, measured at `at`."""
    values = [{"timestamp": timestamp or text(at), "sampledValue": [{"value": str(wh)}]}]
    return call(
        "MeterValues", device=device, at=received or at, mid=mid, connectorId=connector, meterValue=values, **payload
    )


def transaction(
    start: datetime, *, device: str, number: int, connector: int, minutes: int, mid: str = "t"
) -> list[Envelope]:
    """Return a whole transaction of 1.6 with a meter value a minute, each received when it happened."""
    answer = json.dumps([3, f"{mid}-start", {"transactionId": number, "idTagInfo": {"status": "Accepted"}}]).encode()
    end = start + timedelta(minutes=minutes)
    begun: dict[str, Any] = {"connectorId": connector, "idTag": "TAG", "meterStart": 0, "timestamp": text(start)}
    data = [{"timestamp": text(end), "sampledValue": [{"value": str(minutes * 100), "context": "Transaction.End"}]}]
    ended: dict[str, Any] = {
        "transactionId": number,
        "meterStop": minutes * 100,
        "timestamp": text(end),
        "transactionData": data,
    }
    return [
        call("StartTransaction", device=device, at=start, mid=f"{mid}-start", **begun),
        entry("ocpp1.6/StartTransaction.conf", answer, device=device, at=start),
        *(
            meter(
                start + timedelta(minutes=minute),
                minute * 100.0,
                device=device,
                connector=connector,
                mid=f"{mid}-{minute}",
                transactionId=number,
            )
            for minute in range(1, minutes)
        ),
        call("StopTransaction", device=device, at=end, mid=f"{mid}-stop", **ended),
    ]

"""What the simulators say must come out is what the processors make of it: both sides in one process, no network."""

import random
from collections import Counter

import polars as pl
import pytest

from gateway.core.ids import Channel, DeviceId, Offset, TenantId
from gateway.core.records import Envelope, Route, to_batch
from processors.contracts.load import load_contracts
from processors.stages.chain import REJECTS, Chain, Outputs
from simulators.faults import FaultRates, Faults
from simulators.message import Message, message
from simulators.moments import iso
from simulators.vehicles.drive import Drive
from simulators.vehicles.physics import BUS
from simulators.vehicles.readings import battery, character, event, telemetry
from simulators.vehicles.routes import ROUTES

BEGAN_US = 1_790_000_000_000_000
CHUNK = 5
"""Messages that reach the gateway in one read have one time of receipt."""
STREAMS = ("vehicle_telemetry", "battery_pack", "vehicle_event")


def said(rates: FaultRates, encoding: str, *, seconds: int = 600) -> list[Message]:
    """Everything one bus sends, in order."""
    random_ = random.Random(11)
    pack = character(BUS, random_)
    drive = Drive(BUS, ROUTES["rotterdam"][0], random_=random_, soc=0.6, odometer_km=10.0, ambient_temp_c=8.0)
    faults = Faults(rates, seed=11)
    out: list[Message] = []
    for second in range(seconds):
        ts, now = iso(BEGAN_US + second * 1_000_000 + 250_000), drive.advance()
        honest = [
            message("telemetry", telemetry("bus-1", ts, BUS, now), encoding),
            message("battery", battery("bus-1", ts, BUS, pack, now), encoding),
        ]
        if second % 20 == 0:
            honest.append(message("event", event("bus-1", ts, "dtc", code=f"P{second:04d}", active=True), encoding))
        out += [ruined for each in honest for ruined in faults.apply(each)]
    return out + faults.flush()


def processed(messages: list[Message]) -> Outputs:
    """What the processors make of them."""
    envelopes = [
        Envelope(
            received_at_ns=(BEGAN_US + 1_000_000 + i // CHUNK * CHUNK * 400_000) * 1000,
            route=Route(TenantId("default"), DeviceId("bus-1"), "mqtt", Channel(each.channel)),
            payload=each.payload,
        )
        for i, each in enumerate(messages)
    ]
    chain = Chain(load_contracts([]))
    return chain.run(to_batch(Offset(0), envelopes), chain.empty_state())[0]


def flags(outputs: Outputs) -> Counter[str]:
    """Flag code -> readings that carry it."""
    columns = [outputs.tables[stream]["flags"].drop_nulls().str.split(",").explode() for stream in STREAMS]
    return Counter(pl.concat(columns).to_list())


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize(
    "rates",
    [
        FaultRates(),
        FaultRates(garbage=0.3),
        FaultRates(skew=0.2),
        FaultRates(duplicate=0.2),
        FaultRates(disorder=0.2, late=0.1),
        FaultRates(garbage=0.1, skew=0.1, duplicate=0.1, disorder=0.1, late=0.05),
    ],
    ids=["none", "garbage", "skew", "duplicate", "order", "all"],
)
def test_rows_rejects_duplicates_and_flags_are_those_foretold(rates: FaultRates, encoding: str):
    """To the message, by reject code and by flag."""
    messages = said(rates, encoding)
    outputs = processed(messages)
    rejects: Counter[str] = Counter()
    for each in messages:
        rejects.update(each.outcome.rejects)
    assert sum(outputs.tables[stream].height for stream in STREAMS) == sum(m.outcome.rows for m in messages)
    assert Counter(outputs.tables[REJECTS]["code"].to_list()) == rejects
    assert sum(outputs.counts.duplicates.values()) == sum(m.outcome.duplicates for m in messages)
    assert flags(outputs) == Counter(flag for m in messages for flag in m.outcome.flags)

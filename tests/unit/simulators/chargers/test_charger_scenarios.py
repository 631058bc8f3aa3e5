"""A charger that fails does what broken chargers do, and says so to nobody but the truth."""

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from simulators.chargers.clock import Clock
from simulators.chargers.fleet import ChargersConfig, make_stations
from simulators.chargers.records import Records
from simulators.chargers.truth import read_sessions_truth
from simulators.scenarios.charger_faults import CHARGER_FAULTS
from simulators.scenarios.orders import CHARGER_KINDS, FaultOrder
from simulators.truth import FaultTruth, read_faults
from simulators.vehicles.life import Delivery
from tests.quality.fault_chargers import FaultRecords, JournalLink, in_simulated_time
from tests.quality.fault_journal import MIDNIGHT_US, US_PER_S, to_us

AT_S = 4 * 3_600.0
CONFIG = ChargersConfig(count=1, version="1.6", meter_interval_s=60, gap_s=120.0)


def lived(config: ChargersConfig, records: Records, hours: float = 10.0) -> list[tuple[int, str, Any]]:
    """What a charger said, with the simulated second of each call."""
    said: list[Delivery] = []

    async def live(clock: Clock) -> None:
        link = partial(JournalLink, put=said.append, clock=clock, seed="1")
        (station,) = make_stations(config, clock=clock, records=records, has_visitors=True, make_link=link)
        async with asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(station.connect(), name="link"), tasks.create_task(station.live(), name="life")]
            await asyncio.sleep(hours * 3_600)
            for task in work:
                task.cancel()
        station.close()

    in_simulated_time(live)
    return [
        ((one.received_us - MIDNIGHT_US) // US_PER_S, one.channel.partition("/")[2], json.loads(one.payload)[3])
        for one in said
        if one.channel.startswith("ocpp1.6/") and not one.channel.endswith(".conf")
    ]


def with_fault(kind: str) -> ChargersConfig:
    return msgspec.structs.replace(CONFIG, scenarios=(FaultOrder(kind=kind, device_id="cp-001", at_s=AT_S),))


def samples(calls: list[tuple[int, str, Any]], measurand: str) -> list[tuple[int, float]]:
    return [
        (second, float(value["value"]))
        for second, action, payload in calls
        if action == "MeterValues"
        for value in payload["meterValue"][0]["sampledValue"]
        if value["measurand"] == measurand
    ]


@pytest.mark.parametrize("kind", CHARGER_KINDS)
def test_truth_names_charger_connector_rules_and_deadline(kind: str):
    """One row, from the moment it began."""
    records = FaultRecords()
    lived(with_fault(kind), records)
    (truth,) = records.faults
    assert ("cp-001", kind, "1", CHARGER_FAULTS[kind].rules) == (truth.device_id, kind, truth.part, truth.rules)
    assert to_us(truth.began_at) >= MIDNIGHT_US + AT_S * US_PER_S
    assert to_us(str(truth.deadline_at)) - to_us(truth.began_at) == CHARGER_FAULTS[kind].deadline_s * US_PER_S


def test_derated_outlet_offers_and_gives_less_than_before():
    """55 % of the 22 kW, from the fault on."""
    calls = lived(with_fault("derating"), FaultRecords())
    offered = samples(calls, "Power.Offered")
    given = samples(calls, "Power.Active.Import")
    assert {22_000.0, 0.0} >= {watts for second, watts in offered if second < AT_S}
    assert {12_100.0, 0.0} >= {watts for second, watts in offered if second > AT_S + 120}
    assert max(watts for second, watts in given if second < AT_S) > 12_100
    assert 12_100 >= max(watts for second, watts in given if second > AT_S + 120) > 10_000


def test_zombie_is_available_with_a_transaction_that_nobody_ended():
    """One start more than ends; the outlet serves nobody for an hour and then goes on."""
    records = FaultRecords()
    calls = lived(with_fault("zombie"), records)
    began_s = (to_us(records.faults[0].began_at) - MIDNIGHT_US) // US_PER_S
    after = [(second - began_s, action, payload) for second, action, payload in calls if second >= began_s]
    starts = [second for second, action, _ in after if action == "StartTransaction"]
    assert "StopTransaction" not in [action for second, action, _ in after if second < 3_600]
    assert "Available" in [p["status"] for second, action, p in after if action == "StatusNotification" and second < 60]
    assert min(starts) >= 3_600


def test_stalled_session_goes_on_without_a_watt():
    """The vehicle waits, the charger says that it holds back, the register stands still."""
    calls = lived(with_fault("stalled"), FaultRecords())
    registers = {wh for second, wh in samples(calls, "Energy.Active.Import.Register") if second > AT_S + 3_600}
    powers = [watts for second, watts in samples(calls, "Power.Active.Import") if second > AT_S + 3_600]
    states = [p["status"] for second, action, p in calls if action == "StatusNotification" and second > AT_S]
    assert (1, 0.0) == (len(registers), max(powers))
    assert len(powers) > 100
    assert "SuspendedEVSE" in states


def test_truth_file_keeps_sessions_and_faults_apart(tmp_path: Path):
    """Each reader finds its own rows."""
    file = tmp_path / "truth"
    with Records(file, None) as records:
        lived(with_fault("zombie"), records)
    assert ["zombie"] == [fault.kind for fault in read_faults(file)]
    sessions = read_sessions_truth(file)
    assert 1 == sum("no_stop" in session.faults for session in sessions)
    assert len(sessions) > 3


def test_faults_of_a_file_are_as_last_noted(tmp_path: Path):
    """One row per device and kind, in the order in which they began; a torn row is left out."""
    file = tmp_path / "truth"
    first = FaultTruth(device_id="b", kind="silent", began_at="2026-01-02T", rules=("s/r",))
    other = msgspec.structs.replace(first, device_id="a", began_at="2026-01-01T")
    mended = msgspec.structs.replace(first, ended_at="2026-01-03T")
    with Records(file, None) as records:
        for truth in (first, other, mended):
            records.fault(truth)
    with file.open("ab") as lines:
        lines.write(b'{"fault":{"device_id"')
    assert [other, mended] == read_faults(file)

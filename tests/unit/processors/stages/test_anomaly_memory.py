"""What is remembered is bounded: devices, conditions, and the bytes of a table."""

import numpy as np
import pytest

from gateway.core.errors import CheckpointError
from gateway.core.limits import PEER_BINS_MAX, PEERS_KEPT
from processors.stages.anomaly_memory import AnomalyState
from processors.stages.anomaly_peers import Bins, with_samples
from processors.stages.anomaly_samples import Samples
from processors.stages.anomaly_table import Column, Table
from tests.unit.processors.stages.anomaly_frames import DRIFT, PEERS, Reading, run, stage, with_ticks

LAYOUT = {"a": Column("<f4", -1.0), "b": Column("<i8", 0, (2,))}


def at(codes: list[int], value: float) -> Samples:
    number = len(codes)
    return Samples(
        codes=np.array(codes),
        at_us=np.zeros(number, np.int64),
        offset=np.arange(number),
        values=np.full((number, 2), value),
    )


def test_table_comes_back_from_its_bytes() -> None:
    """Rows beyond what was set are blank, those that were set are as they were."""
    table = Table(LAYOUT, 2).copy(5)
    table["a"][:] = np.arange(5)
    table["b"][3] = (7, 8)
    back = Table.from_bytes(LAYOUT, table.copy(6).to_bytes())
    assert [0.0, 1.0, 2.0, 3.0, 4.0, -1.0] == back["a"].tolist()
    assert [[0, 0], [7, 8], [0, 0]] == back["b"][2:5].tolist()


def test_copy_of_a_table_is_its_own() -> None:
    """What is changed in the copy stays as it was in the original."""
    table = Table(LAYOUT, 3)
    table.copy()["a"][0] = 5.0
    assert -1.0 == table["a"][0]


def test_bytes_of_another_layout_are_refused() -> None:
    """A column that is missing or has another size is a CheckpointError."""
    with pytest.raises(CheckpointError, match="column 'b'"):
        Table.from_bytes({**LAYOUT, "b": Column("<i4", 0)}, Table(LAYOUT, 3).to_bytes())


def test_devices_past_the_limit_are_those_longest_quiet_without_a_finding() -> None:
    """The one with an open finding stays, the others by their last sample; the names follow the rows."""
    readings = [
        Reading(f"bus-{bus}", m * 60.0, heat_c=float(m % 3) + (30.0 if bus == 0 and m >= 25 else 0.0))
        for bus in range(5)
        for m in range(30 + 10 * bus if bus else 26)
    ]
    findings, state = run(stage(DRIFT), with_ticks(readings))
    memory = state.streams["probe"]
    kept = memory.within_limit(3)
    assert ["bus-0"] == findings["device_id"].to_list()
    assert ["bus-0", "bus-3", "bus-4"] == sorted(kept.roster.names["device_id"].to_list())
    for code, name in enumerate(kept.roster.names["device_id"]):
        old = memory.roster.names["device_id"].to_list().index(name)
        assert memory.rules["drifts"].table["seen"][old] == kept.rules["drifts"].table["seen"][code]


def test_forgotten_devices_are_no_peers() -> None:
    """Codes in the bins follow the devices that stay."""
    readings = [Reading(f"bus-{bus}", m * 60.0, heat_c=1.0, soc_pct=5.0) for m in range(5 + 4) for bus in range(4)]
    readings = [reading for reading in readings if reading.device != "bus-0" or reading.at_s < 200]
    _, state = run(stage(PEERS), with_ticks(readings))
    kept = state.streams["probe"].within_limit(3)
    codes = kept.rules["differs"].bins.table["codes"]
    assert [0, 1, 2] == sorted(codes[codes >= 0].tolist())
    restarted = AnomalyState.from_bytes(AnomalyState(minute=1, streams={"probe": kept}).to_bytes())
    assert restarted.to_bytes() == AnomalyState(minute=1, streams={"probe": kept}).to_bytes()


def test_condition_keeps_the_newest_devices() -> None:
    """Past PEERS_KEPT devices the oldest goes, a device that is met again is there once, with its newest value."""
    bins = with_samples(Bins(), at(list(range(PEERS_KEPT)), 1.0), [("t", 0)] * PEERS_KEPT)
    bins = with_samples(bins, at([5, PEERS_KEPT], 2.0), [("t", 0)] * 2)
    codes, values = bins.table["codes"][0].tolist(), bins.table["values"][0].tolist()
    assert PEERS_KEPT == len(set(codes))
    assert 0 not in codes
    assert {5, PEERS_KEPT} == {code for code, value in zip(codes, values, strict=True) if value == 2.0}


def test_conditions_past_the_limit_are_those_longest_not_met() -> None:
    """The first of them is forgotten, one that is met again stays."""
    where = [("t", place) for place in range(PEER_BINS_MAX)]
    bins = with_samples(Bins(), at([1] * PEER_BINS_MAX, 1.0), where)
    bins = with_samples(bins, at([1], 1.0), [("t", 0)])
    bins = with_samples(bins, at([1], 1.0), [("t", PEER_BINS_MAX)])
    assert PEER_BINS_MAX == len(bins.places) == bins.table.height
    assert ("t", 0) in bins.places
    assert ("t", PEER_BINS_MAX) in bins.places
    assert bins.places == Bins.from_bytes(bins.to_bytes()).places

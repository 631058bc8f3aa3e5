"""Faults are ordered in words, and a wrong order is refused with the mend."""

import pytest

from simulators.__main__ import main
from simulators.scenarios.orders import CHARGER_KINDS, VEHICLE_KINDS, FaultOrder, orders_of, read_order
from simulators.target import SimulationError

BUSES = ["bus-001", "bus-002"]


def order(kind: str, device_id: str | None = None, at_s: float = 5.0) -> FaultOrder:
    return FaultOrder(kind=kind, device_id=device_id, at_s=at_s)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("thermal-runaway@15", order("thermal-runaway", None, 15.0)),
        ("zombie:cp-007@0.5", order("zombie", "cp-007", 0.5)),
        (" silent : bus-1 @ 3 ", order("silent", "bus-1", 3.0)),
    ],
)
def test_order_is_read(text: str, expected: FaultOrder):
    """Kind, device, seconds."""
    assert expected == read_order(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("silent", "says no time; write KIND"),
        ("thermal-runway@3", "did you mean thermal-runaway"),
        ("meteor@3", "give one of thermal-runaway, "),
        ("silent:@3", "names no device after ':'"),
        ("silent@soon", "begins at no time; give seconds after the start, such as silent@15"),
        ("silent@-1", "begins at no time"),
        ("silent@inf", "begins at no time"),
        ("silent@nan", "begins at no time"),
        ("", "says no time"),
    ],
)
def test_wrong_order_is_refused_with_the_mend(text: str, words: str):
    """What is wrong, and what to write."""
    with pytest.raises(SimulationError, match=words):
        read_order(text)


def test_orders_without_a_device_are_dealt_to_those_that_have_none():
    """In turn, past the named ones."""
    dealt = orders_of([order("silent"), order("weak-cell", "bus-001")], BUSES, VEHICLE_KINDS)
    assert {"bus-002": [order("silent", "bus-002")], "bus-001": [order("weak-cell", "bus-001")]} == dealt


@pytest.mark.parametrize(
    ("orders", "words"),
    [
        ([order("zombie")], "no device of this run can have 'zombie'; give one of thermal-runaway, "),
        ([order("silent", "bus-01")], "there is no 'bus-01' in this run for 'silent'; did you mean bus-00"),
        ([order("silent"), order("silent"), order("silent")], "no device left for 'silent'"),
        ([order("silent", "bus-001"), order("silent", "bus-001")], "bus-001 is given 'silent' twice"),
    ],
)
def test_orders_that_no_device_can_have_are_refused(orders: list[FaultOrder], words: str):
    """Before anything connects."""
    with pytest.raises(SimulationError, match=words):
        orders_of(orders, BUSES, VEHICLE_KINDS)


@pytest.mark.parametrize("kind", ["vehicles", "chargers", "depot"])
def test_command_line_refuses_a_wrong_order(kind: str, capsys: pytest.CaptureFixture[str]):
    """Usage errors exit with 2 and say the mend."""
    with pytest.raises(SystemExit) as ended:
        main([kind, "--fault", "thermal-runaway"])
    assert 2 == ended.value.code
    assert "write KIND[:DEVICE]@SECONDS" in capsys.readouterr().err


def test_command_line_refuses_a_fault_that_no_device_of_the_run_can_have(capsys: pytest.CaptureFixture[str]):
    """A charger's fault in a fleet of vehicles, and a vehicle that is not there: exit 1."""
    assert 1 == main(["chargers", "--fault", "silent@3"])
    assert f"give one of {', '.join(CHARGER_KINDS)}" in capsys.readouterr().err
    assert 1 == main(["vehicles", "--buses", "1", "--cars", "0", "--fault", "silent:bus-002@3"])
    assert "did you mean bus-001" in capsys.readouterr().err

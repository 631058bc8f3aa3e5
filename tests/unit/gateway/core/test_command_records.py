"""The commands journal folded: which commands, in which order, and what became of each."""

import pytest

from gateway.core.command_records import (
    ACKNOWLEDGED_SOURCE,
    CHARGER_COMMAND_SOURCE,
    CHARGER_EVENT_SOURCE,
    COMMAND_SOURCE,
    OUTCOMES,
    CommandEvent,
    CommandRecord,
    CommandStep,
    Outcome,
    StoredChargerCommand,
    StoredCommand,
    encode_record,
    fold_commands,
    read_entries,
    read_outcomes,
)
from gateway.core.ids import Channel, DeviceId, Offset, TenantId
from gateway.core.records import TICK_ROUTE, Route
from gateway.journal.memory import MemoryJournal


class Journal(MemoryJournal):
    """A journal that is written one entry at a time."""

    def put(self, at_ns: int, source: str, request_id: str, payload: bytes, device_id: str = "cp-1") -> None:
        """Append one entry and make it durable."""
        route = Route(TenantId("acme"), DeviceId(device_id), source, Channel(request_id))
        self.append_nowait(at_ns, [route], [payload], None)
        self.commit()

    def order(self, at_ns: int, request_id: str, device_id: str = "cp-1") -> None:
        """Submit a command to a charger."""
        stored = StoredChargerCommand("Reset", b"{}", "ann", 30.0, at_ns + 30, False)
        self.put(at_ns, CHARGER_COMMAND_SOURCE, request_id, encode_record(stored), device_id)

    def step(self, at_ns: int, request_id: str, step: CommandStep) -> None:
        """Record a step."""
        self.put(at_ns, CHARGER_EVENT_SOURCE, request_id, encode_record(CommandEvent(step)))

    def fold(
        self, *, is_open: bool = False, records_max: int = 10, device_id: str | None = None
    ) -> list[CommandRecord]:
        """Return the commands."""

        def is_wanted(command: CommandRecord) -> bool:
            return device_id in (None, command.device_id)

        return fold_commands(self, is_wanted=is_wanted, is_open=is_open, records_max=records_max)


def ids(commands: list[CommandRecord]) -> list[str]:
    return [command.request_id for command in commands]


def test_command_has_its_outcome_and_when_it_ended() -> None:
    """Steps on the way, and a late answer, are no outcomes."""
    journal = Journal()
    journal.order(1, "a")
    for at_ns, step in enumerate((CommandStep.SENT, CommandStep.TIMEOUT, CommandStep.LATE), 2):
        journal.step(at_ns, "a", step)
    (command,) = journal.fold()
    assert command.outcome == Outcome(3, CommandEvent(CommandStep.TIMEOUT))
    assert (command.action, command.by, command.submitted_at_ns, command.timeout_s) == ("Reset", "ann", 1, 30.0)
    assert read_outcomes(journal, ["a", "b"]) == {"a": command.outcome}


def test_newest_are_kept_in_order_of_submission() -> None:
    """The fold's memory is bounded by what is asked for."""
    journal = Journal()
    for at_ns, name in enumerate("abcd"):
        journal.order(at_ns, name)
    journal.step(9, "a", CommandStep.ACCEPTED)
    assert ids(journal.fold(records_max=3)) == ["b", "c", "d"]


def test_open_ones_are_those_without_an_outcome() -> None:
    """The oldest as well, however many ended after it."""
    journal = Journal()
    for at_ns, name in enumerate("abcd"):
        journal.order(at_ns, name)
    for name in "bcd":
        journal.step(9, name, CommandStep.OFFLINE)
    assert ids(journal.fold(is_open=True, records_max=1)) == ["a"]


def test_one_device_is_chosen() -> None:
    """By what is known at submission."""
    journal = Journal()
    journal.order(1, "a")
    journal.order(2, "b", "cp-2")
    assert ids(journal.fold(device_id="cp-2")) == ["b"]


@pytest.mark.parametrize(
    ("payload", "step"), [(b"", "acknowledged"), (b"acknowledged", "acknowledged"), (b"oversize", "refused")]
)
def test_mqtt_commands_end_with_their_acknowledgement(payload: bytes, step: str) -> None:
    """An empty one says that the device has it."""
    journal = Journal()
    journal.put(1, COMMAND_SOURCE, "m", encode_record(StoredCommand(99, b"text")), "bus")
    journal.put(2, ACKNOWLEDGED_SOURCE, "m", payload, "bus")
    (command,) = journal.fold()
    assert command.outcome is not None
    assert (command.action, command.payload, str(command.outcome.event.step)) == (None, b"text", step)


def test_entries_of_other_kinds_and_gaps_are_passed_over() -> None:
    """An event whose command retention has deleted, an entry that is none of ours."""
    journal = Journal()
    journal.order(1, "gone")
    journal.step(2, "gone", CommandStep.ACCEPTED)
    journal.append_nowait(3, [TICK_ROUTE], [b""], None)
    journal.commit()
    journal.order(4, "a")
    journal.drop_before(Offset(1))
    assert ids(journal.fold()) == ["a"]
    assert [entry.offset for entry in read_entries(journal)] == [1, 2, 3]


def test_every_step_but_three_is_an_outcome() -> None:
    """A new step must be one or the other on purpose."""
    assert {"submitted", "sent", "late"} == {str(step) for step in CommandStep} - {str(step) for step in OUTCOMES}

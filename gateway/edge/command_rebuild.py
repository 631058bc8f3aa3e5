"""What the commands journal says about commands to chargers when a gateway starts."""

from collections import deque

import msgspec

from gateway.core.command_records import (
    OUTCOMES,
    CommandEvent,
    CommandRecord,
    CommandStep,
    happened,
    read_entries,
    submitted,
)
from gateway.core.limits import AUDITED_AGAIN_MAX, AUDITED_AGAIN_S
from gateway.core.ports import JournalReader


class Step(msgspec.Struct, frozen=True):
    """A step that may be missing in the ingest journal."""

    command: CommandRecord
    at_ns: int
    event: CommandEvent


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """What a start begins with.

    Attributes:
        open: Commands to chargers without an outcome, in order of submission.
        audit_again: Steps of the last `AUDITED_AGAIN_S` seconds that the journal knows, in order.
    """

    open: list[CommandRecord]
    audit_again: list[Step]


def read_open(reader: JournalReader) -> Rebuilt:
    """Read the journal from its start; blocks. Entries of other kinds are passed over."""
    open_: dict[str, CommandRecord] = {}
    steps: deque[Step] = deque(maxlen=AUDITED_AGAIN_MAX)
    newest_at_ns = 0
    for entry in read_entries(reader):
        at_ns = entry.envelope.received_at_ns
        newest_at_ns = max(newest_at_ns, at_ns)
        command = submitted(entry)
        if command is not None and command.action is not None:
            open_[command.request_id] = command
            steps.append(Step(command, at_ns, CommandEvent(CommandStep.SUBMITTED)))
            continue
        command, event = open_.get(str(entry.envelope.route.channel)), happened(entry)
        if command is None or event is None:
            continue
        steps.append(Step(command, at_ns, event))
        if event.step in OUTCOMES:
            del open_[command.request_id]
    oldest_at_ns = newest_at_ns - int(AUDITED_AGAIN_S * 1e9)
    return Rebuilt(open=list(open_.values()), audit_again=[step for step in steps if step.at_ns >= oldest_at_ns])

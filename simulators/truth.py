"""What was sent, what was acknowledged, and what must come out of it: the oracle's side of a scenario.

A file of JSON lines, append-only. `{"sent": {...}}` is written before a message goes to the network,
`{"acknowledged": n}` when its acknowledgement arrives, `{"fault": {...}}` when a scenario begins, and again when more
of it becomes known: the last row of a device and kind holds. Writing and reading need memory for the messages in flight
only.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from simulators.acknowledged import payload_digest


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one message must become.

    Attributes:
        rows: Readings in the lake.
        rejects: Reject code -> number.
        duplicates: Records dropped because they were there before.
        flags: Codes that the rows must carry, such as `range:speed_kmh`.
    """

    rows: int = 0
    rejects: dict[str, int] = msgspec.field(default_factory=dict)
    duplicates: int = 0
    flags: tuple[str, ...] = ()


class FaultTruth(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that befell a device on purpose, and what must be noticed of it.

    Attributes:
        device_id: Whose.
        kind: Such as `thermal-runaway`.
        began_at: ISO 8601, true time.
        ended_at: The same, None while it goes on.
        critical_at: When harm is done or becomes inevitable; None where there is no such moment, or not yet.
        rules: Any of these (`stream/rule`) is the alert that has to come.
        deadline_at: By when at the latest, the same; None as long as that is not known.
        part: Of the device, such as a connector.
    """

    device_id: str
    kind: str
    began_at: str
    rules: tuple[str, ...]
    ended_at: str | None = None
    critical_at: str | None = None
    deadline_at: str | None = None
    part: str | None = None


ONE_ROW = Outcome(rows=1)
ONE_DUPLICATE = Outcome(duplicates=1)


def one_reject(code: str) -> Outcome:
    """Return the outcome of a message that is refused as a whole."""
    return Outcome(rejects={code: 1})


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """One message as it was given to the network.

    Attributes:
        number: Counts the messages of the file from 0.
        device_id: Who sent it.
        channel: On what.
        digest: `payload_digest` of the bytes, in hexadecimal.
        outcome: What it must become once it is acknowledged; without acknowledgement it may.
        faults: Names of the faults that made it, in order; empty for an honest message.
    """

    number: int
    device_id: str
    channel: str
    digest: str
    outcome: Outcome
    faults: tuple[str, ...] = ()


class Expected(msgspec.Struct, kw_only=True):
    """What one device's channel must have become: sums over its messages.

    Attributes:
        sent: Messages given to the network.
        acknowledged: Of those, acknowledged.
        rows: Readings due from acknowledged messages; the lake holds these exactly once.
        rejects: Code -> number due from acknowledged messages.
        duplicates: At least so many were dropped; a message resent after a lost acknowledgement adds one.
        rows_possible: Readings that unacknowledged messages may have added.
        rejects_possible: Code -> number that unacknowledged messages may have added.
    """

    sent: int = 0
    acknowledged: int = 0
    rows: int = 0
    rejects: Counter[str] = msgspec.field(default_factory=Counter)
    duplicates: int = 0
    rows_possible: int = 0
    rejects_possible: Counter[str] = msgspec.field(default_factory=Counter)


class TruthFile:
    """Writes the file.

    Args:
        path: File to create; an existing one is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._next = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def sent(
        self, *, device_id: str, channel: str, payload: bytes, outcome: Outcome, faults: tuple[str, ...] = ()
    ) -> int:
        """Note a message that is about to be sent, and return its number. A resent message is noted once."""
        number, self._next = self._next, self._next + 1
        line = {
            "number": number,
            "device_id": device_id,
            "channel": channel,
            "digest": payload_digest(payload).hex(),
            "outcome": {k: v for k, v in msgspec.structs.asdict(outcome).items() if v},
        }
        if faults:
            line["faults"] = faults
        self._write({"sent": line})
        return number

    def acknowledged(self, number: int) -> None:
        """Note that message `number` was acknowledged."""
        self._write({"acknowledged": number})

    def fault(self, truth: FaultTruth) -> None:
        """Note a fault, as far as it is known; it is with the kernel at once."""
        self._write(fault_line(truth))
        self.flush()

    def flush(self) -> None:
        """Hand everything to the kernel."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close; repeating it does nothing."""
        self._file.close()

    def _write(self, line: dict[str, object]) -> None:
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")


def fault_line(truth: FaultTruth) -> dict[str, object]:
    """Return a fault as a row of a truth file, of vehicles or of chargers."""
    return {"fault": {k: v for k, v in msgspec.structs.asdict(truth).items() if v is not None}}


def read_faults(path: Path) -> list[FaultTruth]:
    """Return the faults of a truth file of vehicles or chargers, each as last noted, in the order they began.

    A torn last line is left out. Raises: ValueError: A line that says it is a fault is none.
    """
    found: dict[tuple[str, str, str | None], FaultTruth] = {}
    with path.open("rb") as file:
        for line in file:
            if line.startswith(b'{"fault"') and line.endswith(b"\n"):
                truth = msgspec.json.decode(line, type=dict[str, FaultTruth])["fault"]
                found[truth.device_id, truth.kind, truth.part] = truth
    return sorted(found.values(), key=lambda truth: (truth.began_at, truth.device_id, truth.kind))


def read_truth(path: Path) -> Iterator[tuple[Sent, bool]]:
    """Yield every message with whether it was acknowledged: the acknowledged ones in that order, then the others.

    A torn last line is left out, which is what a kill of the simulator leaves.
    Raises: ValueError: A line is not of this format; the message names it.
    """
    waiting: dict[int, Sent] = {}
    with path.open(encoding="utf-8") as file:
        for line_number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                break
            try:
                entry: dict[str, Any] = json.loads(line)
                if "sent" in entry:
                    sent = msgspec.convert(entry["sent"], Sent)
                    waiting[sent.number] = sent
                elif "fault" in entry:
                    msgspec.convert(entry["fault"], FaultTruth)
                else:
                    yield waiting.pop(entry["acknowledged"]), True
            except (ValueError, KeyError, msgspec.ValidationError) as exc:
                raise ValueError(f"{path}:{line_number}: not a line of a truth file: {exc}") from exc
    for sent in waiting.values():
        yield sent, False


def expected(path: Path) -> dict[tuple[str, str], Expected]:
    """Return what must have come out, by (device id, channel)."""
    totals: dict[tuple[str, str], Expected] = {}
    for sent, acknowledged in read_truth(path):
        total = totals.setdefault((sent.device_id, sent.channel), Expected())
        total.sent += 1
        if acknowledged:
            total.acknowledged += 1
            total.rows += sent.outcome.rows
            total.rejects.update(sent.outcome.rejects)
            total.duplicates += sent.outcome.duplicates
        else:
            total.rows_possible += sent.outcome.rows
            total.rejects_possible.update(sent.outcome.rejects)
    return totals

"""What chargers really did: a line per session, and a line per call that was answered. JSON lines, append-only.

The first file says what must come out, and has the rows of faults too (`simulators.truth.read_faults`); the second what
a server answered for, so what it may never lose.
"""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from simulators.acknowledged import payload_digest


class SessionTruth(msgspec.Struct, kw_only=True):
    """One session, written when it is over and all its messages are answered, or when the run ends.

    Attributes:
        charger: Device id.
        version: Of OCPP.
        connector: As the streams have it: `1` in 1.6, `1/2` (EVSE/connector) in 2.x.
        transaction_ids: As the central system told them (1.6) or as the charger chose (2.x); a Start that was answered
            twice has two.
        id_token: As shown.
        vin: As said to the central system, None when not.
        vehicle: The device that was charged, None for a vehicle that nobody else hears of.
        started_at: True time, ISO 8601; the charger's own clock may have been wrong, see `faults`.
        ended_at: The same, None while it goes on.
        meter_start_wh: Register as sent at the start.
        meter_stop_wh: Register as sent at the end; without an end, in the last meter value.
        energy_wh: Their difference: negative after a register reset.
        delivered_wh: What really flowed, whole watt-hours.
        battery_wh: Of that, into the vehicle's battery terminals, None when nobody measures it.
        meter_values: Samples sent with a time of their own inside the session, those in Start and Stop not counted.
        stop_reason: As sent, None without an end.
        faults: Names of what was done to it, sorted.
        flags: Codes that some row of it must carry, sorted.
        calls: Of it, given to the network.
        answered: Of those, answered; a session with fewer may or may not be whole.
        started: Whether the start was answered.
        stopped: Whether the end was answered.
        is_over: Whether nothing more of it will be said.
        unsettled: Calls of it that wait for their answer; 0 unless the run ended before.
    """

    charger: str
    version: str
    connector: str
    id_token: str
    started_at: str
    transaction_ids: list[str] = msgspec.field(default_factory=list)
    vin: str | None = None
    vehicle: str | None = None
    ended_at: str | None = None
    meter_start_wh: int = 0
    meter_stop_wh: int = 0
    energy_wh: int = 0
    delivered_wh: int = 0
    battery_wh: float | None = None
    meter_values: int = 0
    stop_reason: str | None = None
    faults: set[str] = msgspec.field(default_factory=set)
    flags: set[str] = msgspec.field(default_factory=set)
    calls: int = 0
    answered: int = 0
    started: bool = False
    stopped: bool = False
    is_over: bool = False
    unsettled: int = 0


class AnsweredCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a charger that was answered.

    Attributes:
        charger: Device id.
        message_id: Of the call; a resent call keeps it.
        action: Such as `MeterValues`.
        digest: `payload_digest` of the whole frame as it was sent, in hexadecimal.
        answered_at: ISO 8601, the computer's clock.
        error: Code of the CALLERROR; None for a result, which alone is a promise.
        answer: Of StartTransaction: the transaction id.
    """

    charger: str
    message_id: str
    action: str
    digest: str
    answered_at: str
    error: str | None = None
    answer: int | None = None


class JsonLines:
    """Writes a file of JSON lines; each is with the kernel when `add` returns, so it survives a kill of the simulator.

    Args:
        path: File to create; an existing one is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._encoder = msgspec.json.Encoder(order="sorted")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def add(self, line: SessionTruth | AnsweredCall | dict[str, object]) -> None:
        """Write one line."""
        self._file.write(self._encoder.encode(line) + b"\n")

    def close(self) -> None:
        """Close; repeating it does nothing."""
        self._file.close()


def read_sessions_truth(path: Path) -> list[SessionTruth]:
    """Return the sessions in the order they were written; a torn last line and the rows of faults are left out."""
    lines = [line for line in _whole_lines(path) if not line.startswith(b'{"fault"')]
    return [msgspec.json.decode(line, type=SessionTruth) for line in lines]


def read_answered(path: Path) -> list[AnsweredCall]:
    """Return the answered calls in that order; a torn last line is left out."""
    return [msgspec.json.decode(line, type=AnsweredCall) for line in _whole_lines(path)]


def _whole_lines(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def frame_digest(frame: str) -> str:
    """Return what stands for a frame in the file of answered calls."""
    return payload_digest(frame.encode()).hex()


Payload = dict[str, Any]
"""Of a call, as JSON has it."""

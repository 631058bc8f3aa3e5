"""Where chargers note what is true: two files, or nowhere."""

from pathlib import Path
from typing import Self

from simulators.chargers.truth import AnsweredCall, JsonLines, SessionTruth
from simulators.truth import FaultTruth, fault_line


class Records:
    """Both files of a run, and the sums of what went into them.

    Args:
        truth_file: For sessions, or None.
        acknowledged_file: For answered calls, or None.
    """

    def __init__(self, truth_file: Path | None, acknowledged_file: Path | None) -> None:
        self._sessions = JsonLines(truth_file) if truth_file is not None else None
        self._answered = JsonLines(acknowledged_file) if acknowledged_file is not None else None
        self.sessions_ended = 0
        """Whose end was answered."""
        self.energy_wh = 0
        """Of those, as sent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def session(self, truth: SessionTruth) -> None:
        """Note a session."""
        if truth.stopped:
            self.sessions_ended += 1
            self.energy_wh += truth.energy_wh
        if self._sessions is not None:
            self._sessions.add(truth)

    def fault(self, truth: FaultTruth) -> None:
        """Note a fault, as far as it is known."""
        if self._sessions is not None:
            self._sessions.add(fault_line(truth))

    def answered(self, call: AnsweredCall) -> None:
        """Note an answered call."""
        if self._answered is not None:
            self._answered.add(call)

    def close(self) -> None:
        """Close both files; repeating it does nothing."""
        for file in (self._sessions, self._answered):
            if file is not None:
                file.close()

"""What became of every entry and record so far: the count that must balance."""

from collections.abc import Mapping

import msgspec

UNKNOWN: str = "-"
"""Stands for the stream where no contract claims the channel."""


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """Sums since `first_offset`, as part of the chain's state: what a replay repeats is counted once.

    entries = rows of `raw`; records = rows + rejected + duplicates, for each batch and so for the sum.

    Attributes:
        first_offset: Offset of the first entry counted; None before it.
        entries: Messages of devices.
        ticks: Entries that the gateway wrote itself.
        gap_entries: Offsets that the journal no longer had when they were asked for.
        records: Records found in messages; a message that cannot be taken apart is one.
        rows: Stream -> readings.
        rejected: `stream/code` -> rejects.
        duplicates: Stream -> records that came again.
        late_revised: Stream -> readings that revised a closed window.
        late_dropped: Stream -> readings too late for their window; they are rows all the same.
        pane_full: Stream -> readings past the samples that a pane may hold; they are rows all the same.
        flags: `stream/code` -> readings that decoding changed (`range`, `clock_clamped` ...).
        restarted: Stream -> times its windows began anew because its contract changed; likewise detectors.
        alerts: State of alerts -> revisions; and reason -> findings and orders that changed nothing.
    """

    first_offset: int | None = None
    entries: int = 0
    ticks: int = 0
    gap_entries: int = 0
    records: int = 0
    rows: dict[str, int] = {}
    rejected: dict[str, int] = {}
    duplicates: dict[str, int] = {}
    late_revised: dict[str, int] = {}
    late_dropped: dict[str, int] = {}
    pane_full: dict[str, int] = {}
    flags: dict[str, int] = {}
    restarted: dict[str, int] = {}
    alerts: dict[str, int] = {}

    @property
    def balance(self) -> int:
        """Records that are neither a row, a reject nor a duplicate: 0, or we lost or invented some."""
        found = sum(self.rows.values()) + sum(self.rejected.values()) + sum(self.duplicates.values())
        return self.records - found

    def plus(self, other: "Ledger") -> "Ledger":
        """Return the sums of both; `first_offset` is that of the one which has it, ours first."""
        sums: dict[str, int | dict[str, int] | None] = {}
        for name in self.__struct_fields__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if name == "first_offset":
                sums[name] = theirs if mine is None else mine
            else:
                sums[name] = _add(mine, theirs) if isinstance(mine, dict) else mine + theirs
        return msgspec.convert(sums, Ledger)


def _add(mine: Mapping[str, int], theirs: Mapping[str, int]) -> dict[str, int]:
    sums = dict(mine)
    for key, n in theirs.items():
        if n:
            sums[key] = sums.get(key, 0) + n
    return sums

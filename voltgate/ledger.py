"""The count that must come out even: what was received against what the lake holds, table by table.

It trusts nobody: what came in is counted in the journal, what went out in the Delta tables, and what the processors say
about themselves stands between the two. All three must agree to the message.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gateway.core.ids import Offset
from gateway.core.limits import BATCH_BYTES_MAX, BATCH_ROWS_MAX
from gateway.core.records import TICK_SOURCE
from gateway.core.settings import Settings

if TYPE_CHECKING:
    from gateway.journal.reader import SegmentReader
    from processors.stages.chain import ChainState


_DERIVED = frozenset({"raw", "rejects", "index_rejects", "trips", "battery_health"})
_DERIVED_PREFIXES = ("windows_", "kpi_")
_DERIVED_SUFFIX = "_revisions"
"""Tables whose rows are no readings, by name, and by how their names begin and end."""


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger of one installation, entries (messages) first, then records (readings) in them.

    Attributes:
        received: Messages in the journal's count since the first one processed.
        raw_rows: Messages in the lake, verbatim.
        in_flight: Messages received and not yet processed.
        records: Readings found in the processed messages.
        rows: Stream -> rows of its table.
        rejected: Reject code -> rows of `rejects`.
        duplicates: Readings that came again and were dropped.
        findings: What does not add up, one sentence each; empty when the ledger balances.
    """

    received: int
    raw_rows: int
    in_flight: int
    records: int
    rows: dict[str, int]
    rejected: dict[str, int]
    duplicates: int
    findings: tuple[str, ...]

    @property
    def balanced(self) -> bool:
        """Whether everything received is accounted for."""
        return not self.findings

    def lines(self) -> list[str]:
        """Return the ledger as text for people."""
        rows, rejected = sum(self.rows.values()), sum(self.rejected.values())
        text = [
            f"messages  {self.received} received = {self.raw_rows} in the lake + {self.in_flight} in flight",
            f"readings  {self.records} found = {rows} rows + {rejected} rejected + {self.duplicates} duplicates",
        ]
        text += [f"          {count:>9} {stream}" for stream, count in sorted(self.rows.items()) if count]
        text += [f"          {count:>9} rejected: {code}" for code, count in sorted(self.rejected.items())]
        text += [f"DOES NOT BALANCE: {finding}" for finding in self.findings]
        return text if self.findings else [*text, "the ledger balances"]


def table_counts(lake: Path) -> dict[str, int]:
    """Return table -> rows, from the tables' own files."""
    from dashboards.queries import history

    return {
        name: int(history.query(lake, f'select count(*) from "{name}"').rows[0][0])  # noqa: S608 - names come from the lake
        for name in history.tables(lake)
    }


def stream_tables(names: Iterable[str]) -> list[str]:
    """Return the tables that hold readings, sorted."""
    return sorted(
        name
        for name in names
        if name not in _DERIVED and not name.startswith(_DERIVED_PREFIXES) and not name.endswith(_DERIVED_SUFFIX)
    )


def read_state(settings: Settings) -> "ChainState":
    """Return what the processors knew at their last checkpoint; the empty state before the first.

    Raises: StoreError: The journal or the checkpoint is unreadable.
    """
    from gateway.journal.cursors import FileCursors
    from gateway.journal.reader import SegmentReader
    from processors.pump import CURSOR
    from processors.stages.chain import Chain
    from processors.stores import contracts_of

    chain = Chain(contracts_of(settings))
    checkpoint = FileCursors(settings.data / "cursors").load(CURSOR)
    if checkpoint is not None:
        return chain.from_bytes(checkpoint.state)
    return chain.empty_state(SegmentReader(settings.data / "ingest").start_offset())


def read_balance(settings: Settings) -> Balance:
    """Count journal, checkpoint and lake, and compare; the processors must have stopped, or two moments are compared.

    Raises: StoreError: The journal or a checkpoint is unreadable.
    """
    from dashboards.queries import history
    from gateway.journal.reader import SegmentReader

    lake = settings.lake_directory
    reader = SegmentReader(settings.data / "ingest")
    state = read_state(settings)
    ledger = state.ledger
    in_flight = _count_messages(reader, state.next_offset)
    counts = table_counts(lake)
    rows = {name: counts[name] for name in stream_tables(counts)}
    rejected: dict[str, int] = {}
    if counts.get("rejects"):
        answer = history.query(lake, "select code, count(*) from rejects group by 1")
        rejected = {str(code): int(count) for code, count in answer.rows}
    return Balance(
        received=ledger.entries + in_flight,
        raw_rows=counts.get("raw", 0),
        in_flight=in_flight,
        records=ledger.records,
        rows=rows,
        rejected=rejected,
        duplicates=sum(ledger.duplicates.values()),
        findings=tuple(
            _differences(
                ("messages processed", ledger.entries, "rows in table raw", counts.get("raw", 0)),
                ("readings counted", sum(ledger.rows.values()), "rows in the streams' tables", sum(rows.values())),
                ("rejects counted", sum(ledger.rejected.values()), "rows in table rejects", sum(rejected.values())),
                ("readings found", ledger.records, "rows, rejects and duplicates", ledger.records - ledger.balance),
                ("messages missing from the journal when they were due", ledger.gap_entries, "allowed", 0),
            )
        ),
    )


def _differences(*pairs: tuple[str, int, str, int]) -> list[str]:
    return [f"{left} {name}, {right} {other}" for name, left, other, right in pairs if left != right]


def _count_messages(reader: "SegmentReader", offset: Offset) -> int:
    """Return the number of devices' messages from `offset` to the durable end."""
    count = 0
    while True:
        batch = reader.read(offset, rows_max=BATCH_ROWS_MAX, bytes_max=BATCH_BYTES_MAX)
        if batch.end_offset == offset:
            return count
        ticks = {i for i, route in enumerate(batch.routes) if route.source == TICK_SOURCE}
        count += sum(i not in ticks for i in batch.route_index) if ticks else len(batch)
        offset = batch.end_offset

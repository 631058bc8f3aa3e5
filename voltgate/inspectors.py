"""`tail`, `query` and `journal`: look at what is stored, change nothing."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from gateway.core.ids import Offset
from gateway.core.limits import MIB
from gateway.core.records import TICK_SOURCE, Entry
from gateway.core.settings import Settings
from gateway.journal import inspect
from gateway.journal.reader import SegmentReader
from voltgate.output import Exit, print_json, print_pairs, print_rows, say

POLL_S = 0.1
"""How often `tail` looks for new entries: below what a person notices."""
ENTRY_COLUMNS = ["offset", "received_at", "tenant", "device_id", "source", "channel", "payload"]


def ingest(settings: Settings) -> Path:
    """Return the directory of the ingest journal."""
    return settings.data / "ingest"


def _row(entry: Entry) -> tuple[object, ...]:
    envelope, route = entry.envelope, entry.envelope.route
    received_at = datetime.fromtimestamp(envelope.received_at_ns / 1e9, UTC)
    return (
        entry.offset,
        received_at.isoformat(timespec="milliseconds"),
        route.tenant,
        route.device_id,
        route.source,
        route.channel,
        envelope.payload,
    )


def _print_entry(entry: Entry, *, as_json: bool) -> None:
    row = _row(entry)
    if as_json:
        print_json(dict(zip(ENTRY_COLUMNS, row, strict=True)))
    else:
        from voltgate.output import cell

        print("  ".join(cell(value) for value in row), flush=True)


def follow(settings: Settings, *, device_id: str | None, channel: str | None, count: int | None, as_json: bool) -> None:
    """Print messages as they become durable, until `count` of them or Ctrl-C."""
    shown = 0
    try:
        for entry in _arrivals(ingest(settings)):
            route = entry.envelope.route
            if route.source == TICK_SOURCE or (device_id or route.device_id) != route.device_id:
                continue
            if (channel or route.channel) != route.channel:
                continue
            _print_entry(entry, as_json=as_json)
            shown += 1
            if shown == count:
                return
    except KeyboardInterrupt:
        say("")


def _arrivals(directory: Path) -> Iterator[Entry]:
    reader = SegmentReader(directory)
    offset = reader.end_offset()
    while True:
        batch = reader.read(Offset(offset), rows_max=1000, bytes_max=MIB)
        if batch.end_offset == offset:
            time.sleep(POLL_S)
        yield from batch.entries()
        offset = batch.end_offset


def ask(settings: Settings, sql: str, *, rows_max: int, timeout_s: float, as_json: bool) -> None:
    """Print the answer of the lake to one question."""
    from dashboards.queries import history

    answer = history.query(settings.lake_directory, sql, rows_max=rows_max, timeout_s=timeout_s)
    print_rows(answer.columns, answer.rows, as_json=as_json)
    if answer.truncated:
        say(f"only the first {rows_max} rows are shown; --limit shows more")


def verify_journal(settings: Settings, *, as_json: bool) -> int:
    """Check every byte of the ingest journal; findings are damaged or missing entries, not a torn tail."""
    report = inspect.verify(ingest(settings))
    if as_json:
        import msgspec

        print_json({**msgspec.to_builtins(report), "ok": report.ok})
        return Exit.OK if report.ok else Exit.FINDINGS
    pairs = {
        "segments": report.segments,
        "frames": report.frames,
        "entries": report.entries,
        "offsets": f"{report.start_offset} to {report.end_offset}",
        "torn tail bytes": report.torn_bytes,
        "missing entries": report.missing,
    }
    print_pairs(pairs, as_json=False)
    for damage in report.corrupt:
        print(f"{damage.file}: bytes {damage.position} to {damage.end}: {damage.why}")
    print("clean" if report.ok else "damaged: see docs/how-to/recover-a-damaged-journal.md")
    return Exit.OK if report.ok else Exit.FINDINGS


def journal_statistics(settings: Settings, *, as_json: bool) -> None:
    """Print size, offsets, ages, and entries by channel."""
    import msgspec

    stats = inspect.stats(ingest(settings), by_channel=True)
    if as_json:
        plain = msgspec.structs.asdict(stats)
        plain["by_channel"] = [
            {"source": source, "channel": channel, "entries": n}
            for (source, channel), n in (stats.by_channel or {}).items()
        ]
        print_json(plain)
        return
    pairs: dict[str, object] = {
        "segments": stats.segments,
        "bytes": stats.bytes,
        "entries": stats.entries,
        "offsets": f"{stats.start_offset} to {stats.end_offset}",
        "oldest received": _when(stats.oldest_at_ns),
        "newest received": _when(stats.newest_at_ns),
    }
    print_pairs(pairs, as_json=False)
    rows = [(source, channel, n) for (source, channel), n in sorted((stats.by_channel or {}).items())]
    print_rows(["source", "channel", "entries"], rows, as_json=False)


def _when(at_ns: int | None) -> str | None:
    return None if at_ns is None else datetime.fromtimestamp(at_ns / 1e9, UTC).isoformat(timespec="seconds")


def dump_journal(settings: Settings, *, offset: int, limit: int, as_json: bool) -> None:
    """Print entries from `offset` on."""
    rows = (_row(entry) for entry in inspect.dump(ingest(settings), offset=Offset(offset), limit=limit))
    print_rows(ENTRY_COLUMNS, list(rows), as_json=as_json)

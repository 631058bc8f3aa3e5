"""What blocks in indexing, for one thread of its own: the lake, the cursors, rejects, and the making of documents."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import msgspec
import polars as pl

from gateway.core.errors import SinkError
from gateway.core.limits import INDEX_CHUNK_ROWS_MAX
from gateway.observe.logs import Logger
from processors.contracts.model import Contract
from processors.indexing.documents import Bulk, since, to_bulks
from processors.indexing.plan import DEVICES, IndexedTable, device_rows
from processors.sinks.index_lane import Refused
from processors.sinks.index_rejects import IndexReject, IndexRejects
from processors.sinks.index_store import SINK, Cursor, IndexDamaged, IndexStore
from processors.sinks.lake_rows import LakeChunk, LakeRows

T = TypeVar("T")


class Source(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Something with a cursor of its own.

    Attributes:
        name: Name of the cursor: the lake table, or `devices/<stream>`.
        table: Where its documents go.
        contract: The stream, of newest values of devices; None for a table of the lake.
    """

    name: str
    table: IndexedTable
    contract: Contract | None = None


class Devices(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The newest values of devices as of a commit: stream -> frame of its `DeviceState`."""

    offset: int
    frames: dict[str, pl.DataFrame]


class Work(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A chunk that is ready to be sent.

    Attributes:
        source: What it is of.
        cursor: The source's cursor when its rows were read.
        end: Where the cursor goes when all is done; equal to the cursor's where nothing is new.
        bulks: The requests; may be none.
    """

    source: Source
    cursor: Cursor
    end: int
    bulks: list[Bulk]


def sources_of(plan: Sequence[IndexedTable], contracts: Sequence[Contract]) -> list[Source]:
    """Return what has a cursor, in the order of its turn: alerts and sessions first, newest values of devices last."""
    tables = sorted((table for table in plan if table.table != DEVICES), key=lambda one: one.day_column is not None)
    devices = next((table for table in plan if table.table == DEVICES), None)
    found = [Source(name=table.table, table=table) for table in tables]
    if devices is not None:
        found += [Source(name=f"{DEVICES}/{one.stream}", table=devices, contract=one) for one in contracts]
    return found


class IndexDesk:
    """Reads chunks, and records what became of them. All calls from one thread; they raise `SinkError`.

    Args:
        path: File of the cursors.
        rows: The lake.
        rejects: Where refused documents go.
        retention_days: Rows of days that are older are passed over.
        now_us: UTC microseconds.
        log: Diagnostics.
        bytes_max: Bytes of a request.
        rows_max: Rows of a chunk.
    """

    def __init__(
        self,
        *,
        path: Path,
        rows: LakeRows,
        rejects: IndexRejects,
        retention_days: int,
        now_us: Callable[[], int],
        log: Logger,
        bytes_max: int,
        rows_max: int = INDEX_CHUNK_ROWS_MAX,
    ) -> None:
        self._path, self._rows, self._rejects, self._now_us, self._log = path, rows, rejects, now_us, log
        self._retention_days, self._rows_max, self._bytes_max = retention_days, rows_max, bytes_max
        self._store: IndexStore | None = None
        self.begun_anew = 0
        """Times the file of cursors was damaged and had to be made anew."""

    def run(self, call: Callable[[IndexStore], T]) -> T:
        """Return what a call on the cursors returns."""
        try:
            return call(self._opened())
        except IndexDamaged as damage:
            self.close()  # the next call opens it anew
            raise SinkError(SINK, f"{self._path}: {damage}") from damage

    def close(self) -> None:
        """Close the cursors; safe to repeat."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def versions(self, sources: Sequence[Source]) -> dict[str, int]:
        """Return table -> the end offset that the lake holds."""
        return {one.name: self._rows.version(one.name) for one in sources if one.contract is None}

    def next(self, source: Source, cursor: Cursor, devices: Devices | None) -> Work:
        """Return what comes next of a source."""
        if source.contract is None:
            chunk = self._rows.read(source.name, source.table.columns, cursor.offset, self._rows_max)
        else:
            chunk = _device_chunk(source.contract, devices, cursor.offset, self._rows_max)
        today = self._now().date()
        rows = since(source.table, chunk.rows, today - timedelta(days=self._retention_days))
        bulks = to_bulks(source.table, rows, bytes_max=self._bytes_max)
        return Work(source=source, cursor=cursor, end=chunk.end, bulks=bulks)

    def finish(self, work: Work, *, done: int, refused: Sequence[Refused]) -> bool:
        """Record what became of a chunk: rejects first, then the cursor.

        Returns: False where the table was set back meanwhile; then nothing moved.
        """
        rejects = [
            IndexReject(
                offset=one.item.offset,
                index=one.item.index_name,
                document_id=one.item.document_id,
                code=one.code,
                reason=one.reason,
                document=one.item.document,
            )
            for one in refused
        ]
        self._rejects.write(
            work.source.name, rejects, generation=work.cursor.generation, end=work.end, rejected_at=self._now()
        )
        return self.run(lambda store: store.advance(work.cursor, work.end, done=done, rejected=len(rejects)))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._now_us() / 1_000_000, UTC)

    def _opened(self) -> IndexStore:
        if self._store is None:
            self._store = IndexStore(self._path, now_us=self._now_us())
            if self._store.moved_aside is not None:
                self.begun_anew += 1
                self._log.error("index_cursors_begun_anew", detail=self._store.moved_aside, path=str(self._path))
        return self._store


def _device_chunk(contract: Contract, devices: Devices | None, begin: int, rows_max: int) -> LakeChunk:
    """Return the devices of a stream that reported since, oldest first, without cutting those of one offset."""
    if devices is None or devices.offset <= begin:
        return LakeChunk(rows=pl.DataFrame(), end=begin)
    frame = devices.frames.get(contract.stream)
    if frame is None:
        return LakeChunk(rows=pl.DataFrame(), end=devices.offset)
    fresh = frame.filter(pl.col("offset") >= begin).sort("offset")
    if fresh.height <= rows_max:
        return LakeChunk(rows=device_rows(contract, fresh), end=devices.offset)
    end: int = fresh["offset"][rows_max]
    if end == fresh["offset"][0]:
        end += 1
    return LakeChunk(rows=device_rows(contract, fresh.filter(pl.col("offset") < end)), end=end)


def frames_of(states: Mapping[str, pl.DataFrame | None], offset: int) -> Devices:
    """Return the newest values of devices, of the streams that have any."""
    return Devices(offset=offset, frames={stream: frame for stream, frame in states.items() if frame is not None})

"""Reads the rows of a lake table by the journal entries that caused them, while the table is written and looked after.

Every row carries `offset`, the entry that caused it, and a table's transaction version is the end (exclusive) of what
it holds. Later commits only add rows at or after that version. So the rows with `begin <= offset < version` are the
same in every snapshot from now on, whatever compaction did to the files; what retention deleted is simply gone.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import msgspec
import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from gateway.core.errors import SinkError
from gateway.core.limits import INDEX_CUTS_MAX
from gateway.core.text import peer_text
from processors.sinks.lake import APP_ID

_TRIES: Final = 3
"""Snapshots that a read may take: a file may be vacuumed between the look at the log and the read."""
_RETRIES: Final = 1
"""How often the client of an object store tries a request again. Its own choice of 8 to 10 takes seconds, for which
a stop would have to wait; whoever reads comes again anyway."""


class LakeChunk(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Some rows of a table.

    Attributes:
        rows: The columns asked for, sorted by offset; may be empty.
        end: Exclusive end: every row of the table from the begin asked for to here is in `rows`. Equal to the begin
            where the table holds nothing that is newer.
    """

    rows: pl.DataFrame
    end: int


class LakeRows:
    """The lake, read by offset. One thread at a time; every call blocks.

    Keeps one handle a table, and for each table where the next chunks end, so that a long catching up does not look at
    all offsets again for each chunk.

    Args:
        location: Directory, or address such as `s3://bucket/prefix`.
        schemas: Table -> columns, as the chain has them; a file without one of the columns reads as nulls.
        storage_options: Passed to the object store as they are.
    """

    def __init__(
        self,
        location: str | Path,
        schemas: Mapping[str, Mapping[str, pl.DataType]],
        storage_options: Mapping[str, str] | None = None,
    ) -> None:
        self._location = str(location).rstrip("/")
        self._schemas = schemas
        options = dict(storage_options or {})
        # One client reads the log and another one the files; each wants the number in its own type.
        self._log_options = options | {"max_retries": str(_RETRIES)} if options else {}
        self._file_options: dict[str, Any] = options | {"max_retries": _RETRIES} if options else {}
        self._handles: dict[str, DeltaTable] = {}
        self._cuts: dict[str, list[int]] = {}

    def version(self, table: str) -> int:
        """Return the end offset (exclusive) that the table holds, 0 when it was never written or is not there.

        Raises: SinkError: The store cannot be reached.
        """
        try:
            handle = self._refreshed(table)
        except (DeltaError, OSError) as exc:
            raise _refused(table, exc) from exc
        return 0 if handle is None else handle.transaction_version(APP_ID) or 0

    def read(self, table: str, columns: Sequence[str], begin: int, rows_max: int) -> LakeChunk:
        """Return the rows from an offset on, as many as `rows_max` allows without cutting the rows of one offset.

        Only a single offset with more rows than that gives more.

        Args:
            table: Which table.
            columns: Columns wanted; `offset` is among them.
            begin: First offset wanted.
            rows_max: Rows wanted at most, positive.

        Raises: SinkError: The store cannot be read now; nothing was changed.
        """
        error: Exception | None = None
        for _ in range(_TRIES):
            try:
                return self._read(table, columns, begin, rows_max)
            except (DeltaError, OSError, pl.exceptions.PolarsError) as exc:
                error = exc
                self._handles.pop(table, None)
        raise _refused(table, error) from error

    def _read(self, table: str, columns: Sequence[str], begin: int, rows_max: int) -> LakeChunk:
        version = self.version(table)
        schema = self._schemas[table]
        if version <= begin:
            return LakeChunk(rows=pl.DataFrame(schema={name: schema[name] for name in columns}), end=begin)
        files = _files(self._handles[table])
        end = self._cut(table, files, begin, version, rows_max)
        inside = files.filter((pl.col("last") >= begin) & (pl.col("first") < end))
        rows = (
            self._scan(table, inside)
            .filter(pl.col("offset") >= begin, pl.col("offset") < end)
            .select(columns)
            .collect()
        )
        return LakeChunk(rows=rows.sort("offset", maintain_order=True), end=end)

    def _cut(self, table: str, files: pl.DataFrame, begin: int, version: int, rows_max: int) -> int:
        """Return where the chunk that begins at `begin` ends. A cut found once stays right: rows before it stay."""
        cuts = self._cuts.get(table, [])
        place = bisect_right(cuts, begin)
        if place == 0 or cuts[place - 1] != begin or place == len(cuts):
            cuts = self._cuts[table] = self._cuts_from(table, files, begin, version, rows_max)
            place = 1
        return cuts[place]

    def _cuts_from(self, table: str, files: pl.DataFrame, begin: int, version: int, rows_max: int) -> list[int]:
        """Return the begin and the ends of the next chunks, at least one and at most INDEX_CUTS_MAX."""
        most = rows_max * INDEX_CUTS_MAX
        known = pl.Series("offset", [], pl.Int64())
        for batch in _batches(files.filter(pl.col("last") >= begin), most):
            if known.len() > most and batch["first"][0] > known[most]:
                break
            offsets = self._scan(table, batch).select("offset")
            more = offsets.filter(pl.col("offset") >= begin, pl.col("offset") < version).collect()
            known = known.append(more["offset"]).sort().head(most + 1)
        cuts = [begin]
        place = 0
        while known.len() - place > rows_max and len(cuts) <= INDEX_CUTS_MAX:
            end: int = known[place + rows_max]
            if end == known[place]:  # one entry with more rows than a chunk should have: all of them together
                end += 1
            cuts.append(end)
            place = int(known.search_sorted(end))
            if place == known.len():
                return cuts  # what comes after is not known
        if len(cuts) <= INDEX_CUTS_MAX and known.len() <= most:
            cuts.append(version)
        return cuts

    def _scan(self, table: str, files: pl.DataFrame) -> pl.LazyFrame:
        schema = self._schemas[table]
        if files.is_empty():
            return pl.LazyFrame(schema=dict(schema))
        return pl.scan_parquet(
            [f"{self._location}/{table}/{unquote(path)}" for path in files["path"]],
            schema=dict(schema),
            missing_columns="insert",
            extra_columns="ignore",
            hive_partitioning=False,
            glob=False,
            storage_options=self._file_options or None,
        )

    def _refreshed(self, table: str) -> DeltaTable | None:
        handle = self._handles.get(table)
        if handle is not None:
            handle.update_incremental()
            return handle
        address = f"{self._location}/{table}"
        if not DeltaTable.is_deltatable(address, self._log_options):
            return None
        handle = self._handles[table] = DeltaTable(address, storage_options=self._log_options)
        return handle


def _files(handle: DeltaTable) -> pl.DataFrame:
    """Return the files of a snapshot by their first offset: path, rows, and first and last offset."""
    actions = pl.DataFrame(handle.get_add_actions(flatten=True))
    if not {"min.offset", "max.offset"} <= set(actions.columns):  # no file, or none with statistics
        actions = actions.with_columns(pl.lit(None, pl.Int64()).alias(name) for name in ("min.offset", "max.offset"))
    return actions.select(
        "path",
        rows=pl.col("num_records").cast(pl.Int64()).fill_null(0),
        first=pl.col("min.offset").cast(pl.Int64()).fill_null(0),
        last=pl.col("max.offset").cast(pl.Int64()).fill_null(2**63 - 1),
    ).sort("first")


def _batches(files: pl.DataFrame, rows: int) -> list[pl.DataFrame]:
    """Return the files in order, some at a time: so many that they hold about `rows` rows, and at least one."""
    groups = (files["rows"].cum_sum() - 1) // max(rows, 1)
    return [
        part.drop("_group") for part in files.with_columns(_group=groups).partition_by("_group", maintain_order=True)
    ]


def _refused(table: str, error: Exception | None) -> SinkError:
    return SinkError(f"lake table {table}", peer_text(str(error)))

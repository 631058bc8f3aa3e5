"""What the index refused, as a table of the lake: which row, why, and the document as it was sent.

One commit for the rejects of a chunk, before the table's cursor moves. The commit carries the chunk's end as the
version of a transaction of its own for each table and generation, so a chunk that is sent again after a crash adds no
reject twice.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
import polars as pl
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import DeltaError
from deltalake.schema import Field, PrimitiveType, Schema

from gateway.core.errors import SinkError
from gateway.core.limits import INDEX_REJECT_BYTES_MAX
from gateway.core.text import peer_text
from processors.sinks.lake import PARTITION, writer_properties

INDEX_REJECTS: Final = "index_rejects"
"""Name of the table."""
SCHEMA: Final[dict[str, pl.DataType]] = {
    "offset": pl.Int64(),
    "table": pl.String(),
    "index": pl.String(),
    "document_id": pl.String(),
    "code": pl.String(),
    "reason": pl.String(),
    "document": pl.String(),
    "rejected_at": pl.Datetime("us", "UTC"),
    "generation": pl.Int64(),
}
_FIELDS: Final = dict.fromkeys(SCHEMA, "string") | {
    "offset": "long",
    "rejected_at": "timestamp",
    "generation": "long",
    PARTITION: "date",
}
_DESCRIPTION: Final = "Documents that OpenSearch refused, with its reason; their rows are in the lake."
_NO_HOOKS: Final = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


class IndexReject(msgspec.Struct, frozen=True, kw_only=True):
    """A document that the index refused.

    Attributes:
        offset: Journal entry that caused its row.
        index: Where it should have gone.
        document_id: Its id there.
        code: Kind of the refusal, as OpenSearch names it.
        reason: What it said, bounded and made harmless.
        document: The document as it was sent.
    """

    offset: int
    index: str
    document_id: str
    code: str
    reason: str
    document: bytes


class IndexRejects:
    """The table of rejects, and its only writer. One thread at a time; every call blocks.

    Args:
        location: Directory of the lake, or address such as `s3://bucket/prefix`.
        storage_options: Passed to the object store as they are.
    """

    def __init__(self, location: str | Path, storage_options: Mapping[str, str] | None = None) -> None:
        self._address = f"{str(location).rstrip('/')}/{INDEX_REJECTS}"
        self._storage_options = dict(storage_options or {})
        self._handle: DeltaTable | None = None

    def write(
        self, table: str, rejects: Sequence[IndexReject], *, generation: int, end: int, rejected_at: datetime
    ) -> int:
        """Add the rejects of a chunk unless they are there; return how many were added.

        Raises: SinkError: The store did not take them; try again.
        """
        if not rejects:
            return 0
        try:
            return self._write(table, rejects, generation, end, rejected_at)
        except (DeltaError, OSError) as exc:
            self._handle = None
            raise SinkError(f"lake table {INDEX_REJECTS}", peer_text(str(exc))) from exc

    def open_handle(self) -> DeltaTable:
        """Return a handle of its own to the table, made if it is missing; for jobs in another thread.

        Raises: SinkError: The store cannot be reached.
        """
        try:
            return self._open()
        except (DeltaError, OSError) as exc:
            raise SinkError(f"lake table {INDEX_REJECTS}", peer_text(str(exc))) from exc

    @staticmethod
    def compacted_writer() -> WriterProperties:
        """Return the Parquet settings for files that are written once and read often."""
        return writer_properties(SCHEMA, compression="ZSTD")

    def _write(
        self, table: str, rejects: Sequence[IndexReject], generation: int, end: int, rejected_at: datetime
    ) -> int:
        if self._handle is None:
            self._handle = self._open()
        self._handle.update_incremental()
        app_id = f"opensearch/{table}/{generation}"
        held = self._handle.transaction_version(app_id) or 0
        # A chunk that is repeated may end later than it did before; what was before its old end is there.
        new = [reject for reject in rejects if reject.offset >= held]
        if held >= end or not new:
            return 0
        frame = pl.DataFrame([_row(reject) for reject in new], schema=_SENT, orient="row").select(
            "offset",
            pl.lit(table).alias("table"),
            *("index", "document_id", "code", "reason", "document"),
            pl.lit(rejected_at, SCHEMA["rejected_at"]).alias("rejected_at"),
            pl.lit(generation, pl.Int64()).alias("generation"),
            pl.lit(rejected_at.date(), pl.Date()).alias(PARTITION),
        )
        write_deltalake(
            self._handle,
            frame,
            mode="append",
            writer_properties=writer_properties(SCHEMA, compression="SNAPPY"),
            commit_properties=CommitProperties(app_transactions=[Transaction(app_id, end)]),
            post_commithook_properties=_NO_HOOKS,
        )
        return len(new)

    def _open(self) -> DeltaTable:
        if DeltaTable.is_deltatable(self._address, self._storage_options):
            return DeltaTable(self._address, storage_options=self._storage_options)
        if "://" not in self._address:
            Path(self._address).mkdir(parents=True, exist_ok=True)
        return DeltaTable.create(
            self._address,
            Schema([Field(name, PrimitiveType(kind), nullable=True) for name, kind in _FIELDS.items()]),
            mode="ignore",
            partition_by=[PARTITION],
            name=INDEX_REJECTS,
            description=_DESCRIPTION,
            configuration={
                "delta.logRetentionDuration": "interval 1 days",
                "delta.deletedFileRetentionDuration": "interval 1 days",
                "delta.dataSkippingStatsColumns": "offset,rejected_at",
            },
            storage_options=self._storage_options,
        )


_SENT: Final = ("offset", "index", "document_id", "code", "reason", "document")


def _row(reject: IndexReject) -> tuple[int, str, str, str, str, str | None]:
    document = reject.document.decode() if len(reject.document) <= INDEX_REJECT_BYTES_MAX else None
    return reject.offset, reject.index, reject.document_id, reject.code, reject.reason, document

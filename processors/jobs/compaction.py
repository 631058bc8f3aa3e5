"""Make few large files of many small ones.

The pump commits every few seconds, so a table gathers small files; a commit slows down with their number (measured:
10 ms at 60 files, 60 ms at 500) and so does every query.
"""

from typing import Final

import polars as pl
from deltalake import DeltaTable, PostCommitHookProperties, WriterProperties

from gateway.core.failpoints import Failpoint, FailpointHook, no_failpoint
from gateway.core.limits import MIB

SMALL_FILES_MIN: Final = 32
"""Small files a partition may gather before they are merged: keeps a commit near 10 ms."""
TARGET_BYTES: Final = 64 * MIB
"""Size of a merged file. A file this large is never written again, so each byte is rewritten a handful of times at
most."""


def small_file_partitions(
    table: DeltaTable, *, small_files_min: int = SMALL_FILES_MIN, target_bytes: int = TARGET_BYTES
) -> list[str]:
    """Return the `received_date` values whose partition has at least `small_files_min` files under half the target."""
    files = pl.DataFrame(table.get_add_actions(flatten=True))
    if not files.height:
        return []
    crowded = (
        files.filter(pl.col("size_bytes") < target_bytes // 2)
        .group_by(pl.col("partition.received_date").cast(pl.String).alias("day"))
        .len()
        .filter(pl.col("len") >= small_files_min)
    )
    return sorted(crowded["day"].to_list())


def compact(
    table: DeltaTable,
    *,
    writer: WriterProperties,
    small_files_min: int = SMALL_FILES_MIN,
    target_bytes: int = TARGET_BYTES,
    failpoint: FailpointHook = no_failpoint,
) -> int:
    """Merge the small files of each crowded partition; rows, columns and transaction versions stay as they are.

    Safe to interrupt and to repeat: new files count only from their commit on, what a crash leaves is vacuumed.

    Args:
        table: Handle of the table; refreshed here. Others may add to the table meanwhile, and nothing else.
        writer: Parquet settings of the merged files.
        small_files_min: See `SMALL_FILES_MIN`.
        target_bytes: See `TARGET_BYTES`.
        failpoint: Called before and after the merge of each partition.

    Returns: Files replaced.
    """
    table.update_incremental()
    replaced = 0
    for day in small_file_partitions(table, small_files_min=small_files_min, target_bytes=target_bytes):
        failpoint(Failpoint.LAKE_BEFORE_COMPACT)
        outcome = table.optimize.compact(
            partition_filters=[("received_date", "=", day)],
            target_size=target_bytes,
            max_concurrent_tasks=1,
            writer_properties=writer,
            post_commithook_properties=PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False),
        )
        failpoint(Failpoint.LAKE_AFTER_COMPACT)
        replaced += int(outcome["numFilesRemoved"])
    return replaced

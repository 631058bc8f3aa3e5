"""Keep a table's log short and its directory free of files that nobody reads any more."""

from typing import Final

from deltalake import DeltaTable, PostCommitHookProperties

VACUUM_AFTER_HOURS: Final = 24
"""A replaced file stays this long: a query that began before the replacement may still read it."""
CHECKPOINT_AFTER_COMMITS: Final = 50
"""Log entries a reader may have to replay on opening a table."""


def checkpoint(table: DeltaTable, *, since_version: int, commits_min: int = CHECKPOINT_AFTER_COMMITS) -> int:
    """Write a checkpoint of the log when enough commits have passed, and drop log files past their retention.

    Transaction versions are part of a checkpoint, so the exactly-once rule survives it.

    Args:
        table: Handle of the table; refreshed here.
        since_version: Table version of the last checkpoint, as returned by this function; 0 at first.
        commits_min: See `CHECKPOINT_AFTER_COMMITS`.

    Returns: Table version of the newest checkpoint.
    """
    table.update_incremental()
    if table.version() - since_version < commits_min:
        return since_version
    table.create_checkpoint()
    table.cleanup_metadata()
    return table.version()


def vacuum(table: DeltaTable, *, after_hours: int = VACUUM_AFTER_HOURS) -> int:
    """Delete the files that have been out of the table for `after_hours`; safe to repeat.

    Returns: Files deleted.
    """
    table.update_incremental()
    deleted = table.vacuum(
        retention_hours=after_hours,
        dry_run=False,
        enforce_retention_duration=False,
        # Files that a crash left without a commit are found only by listing the directory.
        full=True,
        post_commithook_properties=PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False),
    )
    return len(deleted)

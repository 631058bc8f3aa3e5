"""Delete whole days that a contract no longer wants kept."""

from datetime import date

from deltalake import DeltaTable, PostCommitHookProperties


def delete_before(table: DeltaTable, day: date) -> int:
    """Delete the partitions received before `day`; a change of the log alone, no file is rewritten. Safe to repeat.

    Files leave the disk with the next vacuum. Transaction versions stay, so a replay does not bring the rows back.

    Args:
        table: Handle of the table; refreshed here.
        day: First UTC date that is kept.

    Returns: Files taken out of the table.
    """
    table.update_incremental()
    old = [values for values in table.partitions() if date.fromisoformat(str(values["received_date"])) < day]
    if not old:
        return 0
    outcome = table.delete(
        f"received_date < '{day.isoformat()}'",
        post_commithook_properties=PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False),
    )
    return int(outcome["num_removed_files"])

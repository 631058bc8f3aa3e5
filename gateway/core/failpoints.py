"""Every place where the fault tests may end the process, by name.

Code calls `failpoint(Failpoint.X)` on the callable it was given; the default does nothing. Only a composition root
passes one that kills, and only when the environment says so.
"""

from collections.abc import Callable
from enum import StrEnum


class Failpoint(StrEnum):
    """A named moment between two steps whose order the promise depends on."""

    JOURNAL_BEFORE_WRITE = "journal.before_write"
    JOURNAL_BEFORE_SYNC = "journal.before_sync"
    JOURNAL_BEFORE_ACK = "journal.before_ack"
    JOURNAL_ROLLED = "journal.rolled"
    JOURNAL_BEFORE_UNLINK = "journal.before_unlink"
    PUMP_AFTER_READ = "pump.after_read"
    PUMP_AFTER_CHAIN = "pump.after_chain"
    LAKE_BETWEEN_TABLES = "lake.between_tables"
    PUMP_AFTER_WRITE = "pump.after_write"
    CURSOR_BEFORE_RENAME = "cursor.before_rename"
    CURSOR_AFTER_RENAME = "cursor.after_rename"
    LAKE_BEFORE_COMPACT = "lake.before_compact"
    LAKE_AFTER_COMPACT = "lake.after_compact"


FailpointHook = Callable[[Failpoint], None]


def no_failpoint(_name: Failpoint) -> None:
    """Do nothing: what every run but a fault test passes."""

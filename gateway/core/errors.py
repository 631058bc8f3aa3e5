"""What can go wrong, by whose fault it is.

VoltgateError
├── ConfigError            the user's file or environment; file:line, what is wrong, what to write
├── PeerError              a device or charger broke a rule; carries the protocol's code
│   ├── ProtocolViolation  bytes that its standard forbids
│   ├── IdentityRefused    wrong or missing credentials, or an identity that may not do this
│   └── LimitExceeded      larger, faster or more than limits.py allows
├── QueryError             a question to the lake that cannot be answered as it was asked
└── StoreError             a disk or a server of ours failed
    ├── JournalError       the journal cannot make bytes durable now
    │   ├── JournalFull    out of disk, or over the bytes in flight; later is worth a try
    │   └── JournalBroken  fdatasync failed: this writer never acknowledges again
    ├── JournalLocked      another process owns the directory
    ├── CheckpointError    a cursor file is unreadable
    ├── RegistryError      the device registry is out of reach, of another version, or refuses a change
    ├── OutboxDamaged      the database of notices is unreadable, or none of ours
    └── SinkError          a store did not take a batch; may carry retry_after_s

Expected things (a bad reading, a late row, a full sink) are values and counters, never exceptions.
"""


class VoltgateError(Exception):
    """Base of all errors of ours."""

    code = "voltgate"


class ConfigError(VoltgateError):
    """A setting or contract that cannot be used.

    Args:
        file: File that holds it, or the environment variable's name.
        line: Line from 1, or 0 where there is none.
        what: What is wrong, with the value.
        mend: What to write instead.
    """

    code = "config"

    def __init__(self, file: str, line: int, what: str, mend: str) -> None:
        super().__init__(file, line, what, mend)
        self.file, self.line, self.what, self.mend = file, line, what, mend

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.what}; {self.mend}"


class PeerError(VoltgateError):
    """A peer broke a rule.

    Args:
        reason: Short snake_case word, the label under which it is counted.
        detail: What happened, with numbers and names.
        reason_code: The protocol's own code (MQTT 5 reason code, close code), 0 where it has none.
    """

    code = "peer"

    def __init__(self, reason: str, detail: str, reason_code: int = 0) -> None:
        super().__init__(reason, detail, reason_code)
        self.reason, self.detail, self.reason_code = reason, detail, reason_code

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class ProtocolViolation(PeerError):
    """Bytes that the peer's standard forbids."""

    code = "protocol_violation"


class IdentityRefused(PeerError):
    """Credentials are wrong or missing, or this identity may not do this."""

    code = "identity_refused"


class LimitExceeded(PeerError):
    """Larger, faster or more than the limits allow."""

    code = "limit_exceeded"


class QueryError(VoltgateError):
    """A question to the lake that cannot be answered as it was asked; the message says what to ask instead."""

    code = "query"


class StoreError(VoltgateError):
    """A disk or a server of ours failed."""

    code = "store"


class JournalError(StoreError):
    """The journal cannot make bytes durable now; nothing was acknowledged."""

    code = "journal"


class JournalFull(JournalError):
    """The disk, or the bound on bytes in flight, is full; worth a later try."""

    code = "journal_full"


class JournalBroken(JournalError):
    """An fdatasync failed. The kernel may have dropped the pages, so this writer never acknowledges again."""

    code = "journal_broken"


class JournalLocked(StoreError):
    """Another process writes this journal."""

    code = "journal_locked"


class CheckpointError(StoreError):
    """A cursor file is unreadable."""

    code = "checkpoint"


class RegistryError(StoreError):
    """The device registry is out of reach, of another version, or refuses a change."""

    code = "registry"


class OutboxDamaged(StoreError):
    """The database of notices is unreadable, or none of ours; it is moved aside and made anew from the results journal.

    Args:
        path: The file.
        why: What SQLite says of it.
    """

    code = "outbox_damaged"

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path, self.why = path, why

    def __str__(self) -> str:
        return f"{self.path}: {self.why}; a running notifier makes it anew, else move it away"


class SinkError(StoreError):
    """A store did not take a batch.

    Args:
        sink: Name of the store.
        detail: What it said.
        retry_after_s: Seconds to wait before the next try.
        mend: What a person can do, empty where it passes by itself.
        status: Its protocol's code, None where no answer came.
    """

    code = "sink"

    def __init__(
        self, sink: str, detail: str, retry_after_s: float = 1.0, *, mend: str = "", status: int | None = None
    ) -> None:
        super().__init__(sink, detail, retry_after_s)
        self.sink, self.detail, self.retry_after_s = sink, detail, retry_after_s
        self.mend, self.status = mend, status

    def __str__(self) -> str:
        mend = f"; {self.mend}" if self.mend else ""
        return f"{self.sink}: {self.detail}{mend}; next try in {self.retry_after_s:g} s"

"""The outbox's tables, the records of their rows, and how the file is opened or, where it is damaged, made anew."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from gateway.core.errors import OutboxDamaged, SinkError
from gateway.core.limits import OUTBOX_BUSY_S, OUTBOX_DAMAGED_KEPT

DeliveryState = Literal["queued", "sent", "dead"]

SINK: Final = "outbox"
SCHEMA_VERSION: Final = 1
APPLICATION_ID: Final = 0x56474E4F
"""`VGNO` in the header of the file: what tells ours from any other SQLite database."""
DAMAGED: Final = ".damaged-"
_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_BESIDE: Final = ("", "-wal", "-shm")

SCHEMA: Final = (
    "create table progress (id integer primary key check (id = 1), cursor integer not null, engine blob not null)",
    """create table deliveries (
        seq integer primary key autoincrement, delivery_id text not null unique, notice_id text not null,
        receiver text not null, kind text not null, order_key text not null, reason text not null, title text not null,
        body blob not null, headers text not null, event_at_us integer not null, created_at_us integer not null,
        expires_at_us integer not null, state text not null default 'queued', attempts integer not null default 0,
        doubts integer not null default 0, next_at_us integer not null, done_at_us integer, last_error text,
        last_status integer)""",
    "create index deliveries_queued on deliveries (receiver, order_key, seq) where state = 'queued'",
    "create index deliveries_state on deliveries (state, seq)",
    """create table alerts (
        alert_id text primary key, is_open integer not null, offset integer not null, event blob not null)""",
    "create index alerts_order on alerts (is_open, offset)",
    "create table silences (silence_id text primary key, offset integer not null, event blob not null)",
    "create table disabled (receiver text primary key, at_us integer not null, why text not null)",
)


_COLUMNS: Final = (
    *("seq", "delivery_id", "notice_id", "receiver", "kind", "order_key", "reason", "title", "body", "headers"),
    *("event_at_us", "created_at_us", "expires_at_us", "state", "attempts", "doubts", "next_at_us"),
    *("done_at_us", "last_error", "last_status"),
)
"""Of the table `deliveries`, in its order."""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery before it is stored: one message to one receiver, rendered, without secrets.

    Attributes:
        delivery_id: What the receiver sees as the message's id, the same on every try; never with a full stop.
        notice_id: The notice it is (a part of).
        receiver: Name of the receiver.
        kind: Kind of the receiver, as it was when this was rendered.
        order_key: Deliveries to one receiver with the same key arrive in the order of storing.
        reason: Why the notice was made.
        title: One line for people.
        body: What is sent, apart from secrets.
        headers: What goes with it, apart from secrets; for mail the recipient.
        event_at_us: When what the notice tells was received, for the latency.
        created_at_us: When the notice was made.
    """

    delivery_id: str
    notice_id: str
    receiver: str
    kind: str
    order_key: str
    reason: str
    title: str
    body: bytes
    headers: dict[str, str]
    event_at_us: int
    created_at_us: int


class Delivery(Draft, frozen=True, kw_only=True):
    """A stored delivery.

    Attributes:
        seq: Order of storing.
        expires_at_us: When it becomes a dead letter if it is still queued.
        state: `queued`, `sent` (a 2xx came), or `dead` (given up; kept to be seen and retried).
        attempts: Tries so far.
        doubts: How many of them the receiver refused.
        next_at_us: Earliest time of the next try.
        done_at_us: When it was sent or given up.
        last_error: Why the newest try failed, or what a person should know of a success.
        last_status: Status code of the newest answer; None where none came.
    """

    seq: int
    expires_at_us: int
    state: DeliveryState
    attempts: int
    doubts: int
    next_at_us: int
    done_at_us: int | None
    last_error: str | None
    last_status: int | None


def to_delivery(row: tuple[Any, ...]) -> Delivery:
    """Return the record of a row with all columns of the table."""
    values = dict(zip(_COLUMNS, row, strict=True))
    values["headers"] = msgspec.json.decode(values["headers"], type=dict[str, str])
    return Delivery(**values)


@contextlib.contextmanager
def on_store(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into ours.

    Raises:
        OutboxDamaged: The file is no database, or a damaged one.
        SinkError: It cannot be read or written now: disk full, locked, no permission.
    """
    try:
        yield
    except sqlite3.DatabaseError as exc:
        # The low byte is the primary code; the rest says where it happened.
        if getattr(exc, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
            raise OutboxDamaged(str(path), str(exc)) from exc
        raise SinkError(SINK, f"{path}: {exc}") from exc
    except (sqlite3.Error, OSError) as exc:
        raise SinkError(SINK, f"{path}: {exc}") from exc


def connect(path: Path, *, make: bool) -> sqlite3.Connection:
    """Return a connection for one thread at a time, in autocommit mode.

    Args:
        path: The file.
        make: Whether to make and check it; without, it must be there and be ours.

    Raises:
        OutboxDamaged: It is damaged, or not ours.
        SinkError: It cannot be opened now.
    """
    with on_store(path):
        if make:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
        uri = f"{path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(
            uri, uri=True, timeout=OUTBOX_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(connection, path, make=make)
        except BaseException:
            connection.close()
            raise
    return connection


def open_or_make_anew(path: Path, *, now_us: int) -> tuple[sqlite3.Connection, str | None]:
    """Return a connection to a sound database, and why the one that was there had to be moved aside, if it had to.

    Raises: SinkError: It cannot be opened or made now.
    """
    try:
        return connect(path, make=True), None
    except OutboxDamaged as error:
        with on_store(path):
            _move_aside(path, now_us)
        return connect(path, make=True), error.why


def _prepare(connection: sqlite3.Connection, path: Path, *, make: bool) -> None:
    found = tuple(connection.execute(f"pragma {name}").fetchone()[0] for name in ("application_id", "user_version"))
    is_new = found == (0, 0) and connection.execute("select count(*) from sqlite_master").fetchone()[0] == 0
    if is_new and not make:
        raise SinkError(SINK, f"{path} is just being made")
    if not is_new and found != (APPLICATION_ID, SCHEMA_VERSION):
        what = (
            f"it is of application {found[0]:#x} version {found[1]}, not {APPLICATION_ID:#x} version {SCHEMA_VERSION}"
        )
        raise OutboxDamaged(str(path), what)
    if make:
        # WAL: command lines read while the notifier writes. FULL: a notice that goes out survives a power loss.
        connection.execute("pragma journal_mode=wal")
        connection.execute("pragma synchronous=full")
    if is_new:
        connection.execute("begin immediate")
        for statement in SCHEMA:
            connection.execute(statement)
        connection.execute(f"pragma application_id={APPLICATION_ID}")
        connection.execute(f"pragma user_version={SCHEMA_VERSION}")
        connection.execute("commit")
    elif make and (problem := connection.execute("pragma quick_check(1)").fetchone()[0]) != "ok":
        raise OutboxDamaged(str(path), problem)


def _move_aside(path: Path, now_us: int) -> None:
    """Rename the database and what belongs to it; keep the newest damaged ones."""
    for suffix in _BESIDE:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").replace(f"{path}{DAMAGED}{now_us:020}{suffix}")
    older = sorted(p for p in path.parent.glob(f"{path.name}{DAMAGED}*") if not p.name.endswith(_BESIDE[1:]))
    for gone in older[:-OUTBOX_DAMAGED_KEPT]:
        for suffix in _BESIDE:
            Path(f"{gone}{suffix}").unlink(missing_ok=True)

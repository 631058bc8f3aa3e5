"""How far every table is in the index: cursors, what command lines asked for, and which cluster it is.

One SQLite file, written by the indexer and by `voltgate opensearch reindex`. Who sets cursors back raises the table's
generation; an indexer moves a cursor only within the generation it read, so a chunk that was under way when somebody
asked for a reindex moves nothing. Losing the file costs time and nothing else: everything is indexed again, and what
the index has is left as it is.
"""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from gateway.core.errors import SinkError
from gateway.core.limits import OUTBOX_BUSY_S, OUTBOX_DAMAGED_KEPT

FILE: Final = "index.sqlite"
"""Name in the data directory."""
SINK: Final = "index cursors"
_APPLICATION_ID: Final = 0x56474958
"""`VGIX` in the header of the file: what tells ours from any other SQLite database."""
_VERSION: Final = 1
_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_BESIDE: Final = ("", "-wal", "-shm")
_DAMAGED: Final = ".damaged-"
_SCHEMA: Final = (
    """create table cursors (
        lake_table text primary key, cursor integer not null default 0, generation integer not null default 0,
        is_drop_due integer not null default 0, done integer not null default 0, rejected integer not null default 0)
        without rowid""",
    "create table cluster (id integer primary key check (id = 1), uuid text not null, is_other integer not null)",
)
_READ: Final = "select lake_table, cursor, generation, is_drop_due, done, rejected from cursors"


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """How far a table is.

    Attributes:
        table: Table of the lake.
        offset: Every row caused by an earlier entry is in the index, or a reject of it.
        generation: How often the cursor was set back.
        is_drop_due: Whether the table's indices are to be deleted before anything else is sent.
        done: Documents of this generation that the index has taken or had already.
        rejected: Documents of this generation that it refused.
    """

    table: str
    offset: int = 0
    generation: int = 0
    is_drop_due: bool = False
    done: int = 0
    rejected: int = 0


class IndexDamaged(Exception):
    """The file is no database of ours, or a damaged one."""


class IndexStore:
    """The database of the indexer.

    One thread at a time. Every call blocks, and raises `SinkError` where a disk or a lock refuses, having changed
    nothing.

    Args:
        path: The file; made, for its owner alone, when it is missing. One that is damaged is moved aside.
        now_us: UTC microseconds, part of the name of a damaged file.
    """

    def __init__(self, path: Path, *, now_us: int) -> None:
        self._path = path
        self.moved_aside: str | None = None
        """Why the file that was there had to be moved aside, if it had to."""
        try:
            self._db = _connect(path)
        except IndexDamaged as error:
            self.moved_aside = str(error)
            with _on_store(path):
                _move_aside(path, now_us)
            self._db = _connect(path)

    def close(self) -> None:
        """Close the file; safe to repeat."""
        self._db.close()

    def cursors(self) -> dict[str, Cursor]:
        """Return every table that was ever begun or set back."""
        with _on_store(self._path):
            rows = self._db.execute(_READ).fetchall()
        return {row[0]: _cursor(row) for row in rows}

    def advance(self, cursor: Cursor, end: int, *, done: int, rejected: int) -> bool:
        """Move a cursor, in one transaction that survives a power loss.

        Args:
            cursor: The table's cursor as it was when the rows were read.
            end: Its new offset, not lower.
            done: Documents that the index has now.
            rejected: Documents that it refused, which are in the lake as rejects.

        Returns: False, and nothing is changed, where the table was set back meanwhile.
        """
        with self._transaction() as db:
            db.execute("insert or ignore into cursors (lake_table) values (?)", (cursor.table,))
            moved = db.execute(
                "update cursors set cursor = max(cursor, ?), done = done + ?, rejected = rejected + ?"
                " where lake_table = ? and generation = ?",
                (end, done, rejected, cursor.table, cursor.generation),
            )
        return moved.rowcount == 1

    def set_back(self, tables: Iterable[str], *, drop: bool) -> None:
        """Index tables from the beginning again, under a new generation.

        Args:
            tables: Which; also ones never begun.
            drop: Whether their indices are to be deleted first.
        """
        with self._transaction() as db:
            db.executemany(
                "insert into cursors (lake_table, generation, is_drop_due) values (?, 1, ?) on conflict do update set"
                " cursor = 0, done = 0, rejected = 0, generation = generation + 1,"
                " is_drop_due = max(is_drop_due, excluded.is_drop_due)",
                [(table, drop) for table in tables],
            )

    def dropped(self, cursor: Cursor) -> bool:
        """Record that a table's indices were deleted; False where it was set back once more meanwhile."""
        with self._transaction() as db:
            done = db.execute(
                "update cursors set is_drop_due = 0 where lake_table = ? and generation = ?",
                (cursor.table, cursor.generation),
            )
        return done.rowcount == 1

    def cluster(self) -> tuple[str, bool] | None:
        """Return the UUID of the cluster that answers, and whether it took the place of one with more documents.

        None before the first connection.
        """
        with _on_store(self._path):
            row = self._db.execute("select uuid, is_other from cluster").fetchone()
        return None if row is None else (row[0], bool(row[1]))

    def meet_cluster(self, uuid: str) -> bool:
        """Record which cluster answers; return whether it is another one than before."""
        with self._transaction() as db:
            row = db.execute("select uuid, is_other from cluster").fetchone()
            is_other = row is not None and row[0] != uuid
            if row is None or is_other:
                db.execute("insert or replace into cluster values (1, ?, ?)", (uuid, is_other))
        return is_other

    def refilled(self) -> None:
        """Record that every table was set back since another cluster answered."""
        with self._transaction() as db:
            db.execute("update cluster set is_other = 0")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _on_store(self._path):
            self._db.execute("begin immediate")
            try:
                yield self._db
                self._db.execute("commit")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("rollback")
                raise


def read_counts(data: Path) -> dict[str, int]:
    """Return how many documents were taken and refused, of the generations of now; 0 where nothing can be read."""
    path = data / FILE
    counts = {"done": 0, "rejected": 0}
    if not path.exists():
        return counts
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path, timeout=OUTBOX_BUSY_S)) as db:
        for row in db.execute(_READ):
            counts["done"] += row[4]
            counts["rejected"] += row[5]
    return counts


def _cursor(row: tuple[str, int, int, int, int, int]) -> Cursor:
    table, offset, generation, is_drop_due, done, rejected = row
    return Cursor(
        table=table,
        offset=offset,
        generation=generation,
        is_drop_due=bool(is_drop_due),
        done=done,
        rejected=rejected,
    )


@contextlib.contextmanager
def _on_store(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as exc:
        # The low byte is the primary code; the rest says where it happened.
        if getattr(exc, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
            raise IndexDamaged(str(exc)) from exc
        raise SinkError(SINK, f"{path}: {exc}") from exc
    except (sqlite3.Error, OSError) as exc:
        raise SinkError(SINK, f"{path}: {exc}") from exc


def _connect(path: Path) -> sqlite3.Connection:
    """Return a connection to a sound database, made if need be.

    Raises:
        IndexDamaged: What is there is none, or not ours.
        SinkError: It cannot be opened now.
    """
    with _on_store(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        db = sqlite3.connect(path, timeout=OUTBOX_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            _prepare(db)
        except BaseException:
            db.close()
            raise
    return db


def _prepare(db: sqlite3.Connection) -> None:
    # WAL: command lines read while the indexer writes. FULL is not needed: what a power loss takes is indexed again,
    # but the default of a connection costs little at one commit a chunk.
    db.execute("pragma journal_mode=wal")
    db.execute("begin immediate")  # two programs may make it at once
    found = tuple(db.execute(f"pragma {name}").fetchone()[0] for name in ("application_id", "user_version"))
    if found == (0, 0) and db.execute("select count(*) from sqlite_master").fetchone()[0] == 0:
        for statement in _SCHEMA:
            db.execute(statement)
        db.execute(f"pragma application_id={_APPLICATION_ID}")
        db.execute(f"pragma user_version={_VERSION}")
    elif found != (_APPLICATION_ID, _VERSION):
        raise IndexDamaged(f"it is of application {found[0]:#x} version {found[1]}, not ours")
    db.execute("commit")
    if (problem := db.execute("pragma quick_check(1)").fetchone()[0]) != "ok":
        raise IndexDamaged(problem)


def _move_aside(path: Path, now_us: int) -> None:
    """Rename the database and what belongs to it; keep the newest damaged ones."""
    for suffix in _BESIDE:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").replace(f"{path}{_DAMAGED}{now_us:020}{suffix}")
    older = sorted(p for p in path.parent.glob(f"{path.name}{_DAMAGED}*") if not p.name.endswith(_BESIDE[1:]))
    for gone in older[:-OUTBOX_DAMAGED_KEPT]:
        for suffix in _BESIDE:
            Path(f"{gone}{suffix}").unlink(missing_ok=True)

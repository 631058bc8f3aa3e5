"""What the notifier must not forget: how far it has read, what it knows, and every message it owes somebody.

One SQLite file. A message is in it, with its id and body, before it is sent for the first time, in the transaction that
also moves the cursor: after a crash it is sent again under the same id, and never made again under another. Owns the
order of deliveries, their bounds, and what command lines see; refuses to know how a message travels.

    queued --2xx--> sent           queued --given up, expired, pushed out--> dead --retry--> queued
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from gateway.core.limits import (
    ALERT_ROWS_MAX,
    NOTICE_RETRY_AFTER_S_MAX,
    NOTICE_TTL_S,
    NOTICES_DEAD_KEPT,
    NOTICES_QUEUED_MAX,
    NOTICES_SENT_KEPT,
    SILENCE_ROWS_MAX,
)
from processors.sinks.outbox_schema import (
    Delivery,
    DeliveryState,
    Draft,
    connect,
    on_store,
    open_or_make_anew,
    to_delivery,
)
from processors.stages.alert_record import AlertEvent, SilenceEvent

PRUNE_EVERY: Final = 100
"""Changes between two looks at what is kept too long; the bounds may be exceeded by so many rows."""
_FARTHEST_US: Final = int(NOTICE_RETRY_AFTER_S_MAX * 1_000_000)
_PUSHED_OUT: Final = f"over {NOTICES_QUEUED_MAX} waited for this receiver, and newer ones pushed it out"

_encode = msgspec.json.Encoder().encode
_decode_alert = msgspec.json.Decoder(AlertEvent).decode


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What a commit did.

    Attributes:
        added: Deliveries that are new.
        pushed_out: Receiver -> older deliveries that became dead letters to make room.
    """

    added: int
    pushed_out: dict[str, int]


class Outbox:
    """The database of the notifier, which is its only writer but for `retry`. One thread at a time; every call blocks.

    All methods raise `SinkError` when the disk or a lock refuses (nothing was changed; try again), and `OutboxDamaged`
    when the file is not a sound database (open it anew).

    Args:
        path: The file; made, for its owner alone, when it is missing.
        now_us: The time, UTC microseconds, part of the name of a damaged file.
        queued_max: Deliveries waiting for one receiver.
        sent_kept: Sent ones kept.
        dead_kept: Dead ones kept.
    """

    def __init__(
        self,
        path: Path,
        *,
        now_us: int,
        queued_max: int = NOTICES_QUEUED_MAX,
        sent_kept: int = NOTICES_SENT_KEPT,
        dead_kept: int = NOTICES_DEAD_KEPT,
    ) -> None:
        self._path = path
        self._queued_max, self._kept = queued_max, {"sent": sent_kept, "dead": dead_kept}
        self._db, self.moved_aside = open_or_make_anew(path, now_us=now_us)
        self._changes = 0
        self._version = self._data_version()

    def close(self) -> None:
        """Close the file; safe to repeat."""
        self._db.close()

    # ---- progress ----------------------------------------------------------------------------------------------------
    def load(self) -> tuple[int, bytes] | None:
        """Return the results journal's cursor and the engine's state as of it; None for a new database."""
        with on_store(self._path):
            row: tuple[int, bytes] | None = self._db.execute("select cursor, engine from progress").fetchone()
        return row

    def commit(
        self,
        *,
        cursor: int,
        engine: bytes,
        drafts: Sequence[Draft] = (),
        alerts: Sequence[AlertEvent] = (),
        silences: Sequence[SilenceEvent] = (),
        now_us: int,
        ttl_s: float = NOTICE_TTL_S,
    ) -> Stored:
        """Move the cursor, with all that came of the entries before it, in one transaction that survives a power loss.

        A draft whose id is known already is left as it is: the same commit may be repeated.
        """
        expires_us = now_us + int(ttl_s * 1_000_000)
        with self._transaction() as db:
            db.execute("insert or replace into progress values (1, ?, ?)", (cursor, engine))
            before = db.total_changes
            db.executemany(_INSERT, (_row(draft, now_us=now_us, expires_us=expires_us) for draft in drafts))
            added = db.total_changes - before
            db.executemany(
                "insert or replace into alerts values (?, ?, ?, ?)",
                ((event.alert_id, event.is_open, event.offset, _encode(event)) for event in alerts),
            )
            db.executemany(
                "insert or replace into silences values (?, ?, ?)",
                ((event.silence_id, event.offset, _encode(event)) for event in silences),
            )
            pushed_out = {name: n for name in {d.receiver for d in drafts} if (n := self._push_out(name, now_us))}
            self._changes += len(drafts) + len(alerts) + len(silences)
            self._prune_sometimes()
        return Stored(added=added, pushed_out=pushed_out)

    def alerts(self) -> list[AlertEvent]:
        """Return the newest revision of every alert that is kept."""
        with on_store(self._path):
            rows = self._db.execute("select event from alerts").fetchall()
        return [_decode_alert(event) for (event,) in rows]

    # ---- deliveries --------------------------------------------------------------------------------------------------
    def due(self, receiver: str, now_us: int, *, limit: int) -> list[Delivery]:
        """Return what may be sent to a receiver now, oldest first: of each order key only the oldest that is queued."""
        with on_store(self._path):
            rows = self._db.execute(_DUE, (receiver, now_us, now_us + _FARTHEST_US, limit)).fetchall()
        return [to_delivery(row) for row in rows]

    def next_at_us(self, receiver: str) -> int | None:
        """Return the earliest time at which a delivery to a receiver is due; None where none is queued."""
        with on_store(self._path):
            row = self._db.execute(_NEXT, (receiver,)).fetchone()
        return None if row[0] is None else int(row[0])

    def sent(self, delivery_id: str, now_us: int, *, status: int | None, note: str | None = None) -> None:
        """Record that the receiver took it."""
        self._finish(delivery_id, "sent", now_us, error=note, status=status)

    def dead(self, delivery_id: str, now_us: int, *, error: str, status: int | None, disable: str = "") -> None:
        """Record that it is given up; with `disable` (a receiver's name) nothing more is sent there for now."""
        self._finish(delivery_id, "dead", now_us, error=error, status=status, disable=disable)

    def failed(
        self, delivery_id: str, *, next_at_us: int, error: str, status: int | None, is_doubt: bool = False
    ) -> None:
        """Record a try that failed, and when to try again; `is_doubt` if the receiver refused it."""
        with self._transaction() as db:
            db.execute(
                "update deliveries set attempts = attempts + 1, doubts = doubts + ?, next_at_us = ?, last_error = ?,"
                " last_status = ? where delivery_id = ?",
                (is_doubt, next_at_us, error, status, delivery_id),
            )

    def hasten(self, receiver: str, now_us: int) -> None:
        """Make everything that waits for its next try due: the receiver answers again."""
        with self._transaction() as db:
            db.execute(
                "update deliveries set next_at_us = ? where receiver = ? and state = 'queued' and next_at_us > ?",
                (now_us, receiver, now_us),
            )

    def expire(self, now_us: int) -> dict[str, int]:
        """Make dead letters of what could not be delivered in time; return receiver -> how many."""
        with on_store(self._path):
            rows = self._db.execute(
                "select receiver, count(*) from deliveries where state = 'queued' and expires_at_us <= ?"
                " group by receiver",
                (now_us,),
            ).fetchall()
        if not rows:
            return {}
        with self._transaction() as db:
            db.execute(
                "update deliveries set state = 'dead', done_at_us = ?,"
                " last_error = 'expired after ' || attempts || ' tries' || coalesce('; the last: ' || last_error, '')"
                " where state = 'queued' and expires_at_us <= ?",
                (now_us, now_us),
            )
            self._changes += PRUNE_EVERY
            self._prune_sometimes()
        return dict(rows)

    def disabled(self) -> dict[str, str]:
        """Return the receivers to which nothing is sent for now -> why."""
        with on_store(self._path):
            return dict(self._db.execute("select receiver, why from disabled").fetchall())

    def enable_all(self) -> None:
        """Send to every receiver again."""
        with self._transaction() as db:
            db.execute("delete from disabled")

    def counts(self) -> dict[tuple[str, str], int]:
        """Return (receiver, state) -> deliveries kept."""
        with on_store(self._path):
            rows = self._db.execute(
                "select receiver, state, count(*) from deliveries group by receiver, state"
            ).fetchall()
        return {(receiver, state): n for receiver, state, n in rows}

    def is_changed_elsewhere(self) -> bool:
        """Return whether another process wrote since the last call; cheap."""
        before, self._version = self._version, self._data_version()
        return before != self._version

    def _finish(
        self,
        delivery_id: str,
        state: DeliveryState,
        now_us: int,
        *,
        error: str | None,
        status: int | None,
        disable: str = "",
    ) -> None:
        with self._transaction() as db:
            db.execute(
                "update deliveries set state = ?, attempts = attempts + 1, done_at_us = ?, last_error = ?,"
                " last_status = ? where delivery_id = ?",
                (state, now_us, error, status, delivery_id),
            )
            if disable:
                db.execute("insert or replace into disabled values (?, ?, ?)", (disable, now_us, error))
            self._changes += 1
            self._prune_sometimes()

    def _push_out(self, receiver: str, now_us: int) -> int:
        """Make dead letters of the oldest of a receiver that has too many queued; return how many."""
        queued = self._db.execute(
            "select count(*) from deliveries where receiver = ? and state = 'queued'", (receiver,)
        ).fetchone()[0]
        over = queued - self._queued_max
        if over <= 0:
            return 0
        self._db.execute(
            "update deliveries set state = 'dead', done_at_us = ?, last_error = ?"
            " where seq in (select seq from deliveries where receiver = ? and state = 'queued' order by seq limit ?)",
            (now_us, _PUSHED_OUT, receiver, over),
        )
        return int(over)

    def _prune_sometimes(self) -> None:
        if self._changes < PRUNE_EVERY:
            return
        self._changes = 0
        for state, kept in self._kept.items():
            self._db.execute(
                "delete from deliveries where seq in (select seq from deliveries where state = ? order by seq desc"
                " limit -1 offset ?)",
                (state, kept),
            )
        self._db.execute(
            "delete from alerts where alert_id in (select alert_id from alerts order by is_open desc, offset desc"
            " limit -1 offset ?)",
            (ALERT_ROWS_MAX,),
        )
        self._db.execute(
            "delete from silences where silence_id in (select silence_id from silences order by offset desc"
            " limit -1 offset ?)",
            (SILENCE_ROWS_MAX,),
        )

    def _data_version(self) -> int:
        with on_store(self._path):
            return int(self._db.execute("pragma data_version").fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with on_store(self._path), transaction(self._db) as db:
            yield db


# ---- command lines ---------------------------------------------------------------------------------------------------
def read_alerts(path: Path, *, open_only: bool = False, limit: int = ALERT_ROWS_MAX) -> list[AlertEvent]:
    """Return the newest revision of each alert, open ones first, then the newest first; empty before the first.

    Raises: OutboxDamaged, SinkError: See Outbox.
    """
    query = "select event from alerts where is_open >= ? order by is_open desc, offset desc limit ?"
    return [_decode_alert(event) for (event,) in _read(path, query, open_only, limit)]


def read_silences(path: Path, *, limit: int = SILENCE_ROWS_MAX) -> list[SilenceEvent]:
    """Return each silence as it is now, ended and removed ones too, newest first. Raises: as `read_alerts`."""
    query = "select event from silences order by offset desc limit ?"
    return [msgspec.json.decode(event, type=SilenceEvent) for (event,) in _read(path, query, limit)]


def read_deliveries(
    path: Path, *, state: DeliveryState | None = None, receiver: str | None = None, limit: int = 100
) -> list[Delivery]:
    """Return deliveries, newest first. Raises: as `read_alerts`."""
    query = (
        "select * from deliveries where (?1 is null or state = ?1) and (?2 is null or receiver = ?2)"
        " order by seq desc limit ?3"
    )
    return [to_delivery(row) for row in _read(path, query, state, receiver, limit)]


def read_disabled(path: Path) -> dict[str, str]:
    """Return the receivers to which nothing is sent for now -> why. Raises: as `read_alerts`."""
    return {str(receiver): str(why) for receiver, why in _read(path, "select receiver, why from disabled")}


def retry(path: Path, ids: Sequence[str], *, now_us: int, ttl_s: float = NOTICE_TTL_S) -> list[str]:
    """Queue dead letters again and let their receivers be tried again; a running notifier sees it within a second.

    Args:
        path: The outbox.
        ids: Ids of deliveries or notices; none for all dead letters.
        now_us: The time, UTC microseconds.
        ttl_s: How long they may be tried now.

    Returns: Ids of the deliveries that are queued again.
    Raises: OutboxDamaged, SinkError: See Outbox.
    """
    if not path.exists():
        return []
    wanted = _encode(list(ids)).decode(), not ids
    with on_store(path), closing(connect(path, make=False)) as db:
        db.execute("pragma synchronous=full")
        with transaction(db):
            rows = db.execute(_DEAD, wanted).fetchall()
            db.executemany(
                "update deliveries set state = 'queued', attempts = 0, doubts = 0, next_at_us = ?, expires_at_us = ?,"
                " done_at_us = null where delivery_id = ?",
                ((now_us, now_us + int(ttl_s * 1_000_000), delivery_id) for delivery_id, _ in rows),
            )
            db.executemany("delete from disabled where receiver = ?", {(receiver,) for _, receiver in rows})
    return [delivery_id for delivery_id, _ in rows]


def _read(path: Path, query: str, *values: object) -> list[tuple[bytes, ...]]:
    """Run a query on a connection of its own; nothing where there is no file yet, or one that is just being made."""
    if not path.exists() or path.stat().st_size == 0:
        return []
    with on_store(path), closing(connect(path, make=False)) as db:
        db.execute("pragma query_only=on")
        rows: list[tuple[bytes, ...]] = db.execute(query, values).fetchall()
    return rows


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Commit what happens inside, or nothing of it."""
    db.execute("begin immediate")
    try:
        yield db
        db.execute("commit")
    except BaseException:
        if db.in_transaction:  # SQLite ends it itself where the disk is full
            db.execute("rollback")
        raise


def _row(draft: Draft, *, now_us: int, expires_us: int) -> dict[str, object]:
    times = {"expires_at_us": expires_us, "next_at_us": now_us}
    return msgspec.structs.asdict(draft) | times | {"headers": _encode(draft.headers).decode()}


_INSERT: Final = """
    insert into deliveries (delivery_id, notice_id, receiver, kind, order_key, reason, title, body, headers,
        event_at_us, created_at_us, expires_at_us, next_at_us)
    values (:delivery_id, :notice_id, :receiver, :kind, :order_key, :reason, :title, :body, :headers,
        :event_at_us, :created_at_us, :expires_at_us, :next_at_us)
    on conflict (delivery_id) do nothing"""
_DUE: Final = """
    select * from deliveries d where receiver = ? and state = 'queued' and (next_at_us <= ? or next_at_us > ?)
    and not exists (select 1 from deliveries e where e.receiver = d.receiver and e.order_key = d.order_key
        and e.state = 'queued' and e.seq < d.seq)
    order by seq limit ?"""
"""The second time: what is farther off than any pause was written before the clock jumped back."""
_NEXT: Final = """
    select min(next_at_us) from deliveries d where receiver = ? and state = 'queued'
    and not exists (select 1 from deliveries e where e.receiver = d.receiver and e.order_key = d.order_key
        and e.state = 'queued' and e.seq < d.seq)"""
_DEAD: Final = """
    select delivery_id, receiver from deliveries where state = 'dead'
    and (delivery_id in (select value from json_each(?1)) or notice_id in (select value from json_each(?1)) or ?2)
    order by seq"""

"""The sessions and connectors that are known, and the names that lead to them, changed by copying.

A session, connector or dictionary that a state holds is never changed: the first change of a batch makes a copy.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from processors.stages.session_record import SESSION_NAMES_MAX, Place, Session
from processors.stages.session_samples import Sample
from processors.stages.session_words import MeterRow, StatusRow, TransactionRow

_SESSIONS_OF_CONNECTOR_MAX: Final = 16


class Connector(msgspec.Struct, kw_only=True, eq=False):
    """What is known of a connector, or in 2.x of an EVSE; cloned before it is changed.

    In 2.x states are those of a connector ("1/2"), sessions and meter values those of its EVSE ("1"), which serves one
    vehicle at a time and may have other plugs, Available beside the one in use.

    Attributes:
        states: (time, status), sorted, the newest.
        status: Newest status by the charger's clock.
        status_at_us, status_received_us: When that was said last, and received.
        since_at_us, since_received_us: The same of when it was said first.
        loose: Meter values that named no transaction, sorted by time, the newest.
        sessions: Its sessions in order of their coming, the newest.
    """

    states: list[tuple[int, str]] = []
    status: str = ""
    status_at_us: int = 0
    status_received_us: int = 0
    since_at_us: int = 0
    since_received_us: int = 0
    loose: list[Sample] = []
    sessions: list[str] = []


class Memory(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is known; keys are names joined by line feeds.

    Attributes:
        sessions: Id -> session, in order of creation.
        connectors: Tenant, charger, connector -> what is known of it, longest quiet first.
        transactions: Tenant, charger, transaction -> ids of its sessions, in order of creation.
        starts: Tenant, charger, message id of a 1.6 start -> session.
        answers: The same -> transaction ids of answers that came before their start.
    """

    sessions: dict[str, Session] = {}
    connectors: dict[str, Connector] = {}
    transactions: dict[str, list[str]] = {}
    starts: dict[str, str] = {}
    answers: dict[str, list[str]] = {}


class Store:
    """One batch's copy of a memory.

    Attributes:
        sessions, connectors, transactions, starts, answers: As in `Memory`. The dictionaries may be changed; what they
            hold only where `open` or `connector` gave it.
    """

    def __init__(self, memory: Memory) -> None:
        """Copy the dictionaries; leave the memory as it is."""
        self.sessions = dict(memory.sessions)
        self.connectors = dict(memory.connectors)
        self.transactions = dict(memory.transactions)
        self.starts = dict(memory.starts)
        self.answers = dict(memory.answers)
        self._own: set[str] = set()
        self._own_connectors: set[str] = set()

    @property
    def memory(self) -> Memory:
        """Everything that is known now; the store must not be used after."""
        return Memory(
            sessions=self.sessions,
            connectors=self.connectors,
            transactions=self.transactions,
            starts=self.starts,
            answers=self.answers,
        )

    def open(self, session_id: str, row: TransactionRow | MeterRow | None = None) -> Session:
        """Return a session that may be changed, made anew if `row` is the first that says anything of it."""
        session = self.sessions.get(session_id)
        if session is None:
            assert row is not None, session_id
            session = Session(session_id=session_id, tenant=row.tenant, charger_id=row.charger_id)
        elif session_id in self._own:
            return session
        else:
            session = session.clone()
        self._own.add(session_id)
        self.sessions[session_id] = session
        return session

    def connector(self, key: str) -> Connector:
        """Return a connector that may be changed, now the least quiet of all."""
        connector = self.connectors.pop(key, None)
        if connector is None:
            connector = Connector()
        elif key not in self._own_connectors:
            connector = msgspec.structs.replace(
                connector, states=connector.states[:], loose=connector.loose[:], sessions=connector.sessions[:]
            )
        self._own_connectors.add(key)
        self.connectors[key] = connector
        return connector

    def connector_of(self, session: Session) -> Connector | None:
        """Return the connector of a session, for its states."""
        return self.connectors.get(key_of(session, session.place.connector)) if session.place else None

    def evse_of(self, session: Session) -> Connector | None:
        """Return the EVSE of a session, in 1.6 its connector, for its neighbours."""
        return self.connectors.get(key_of(session, _evse(session.place.connector))) if session.place else None

    def join_connector(self, session: Session) -> Connector | None:
        """Return a session's EVSE, with the session among its own; None where it is not known yet."""
        if session.place is None:
            return None
        key = key_of(session, _evse(session.place.connector))
        connector = self.connectors.get(key)
        if connector is None or session.session_id not in connector.sessions:
            connector = self.connector(key)
            connector.sessions = [*connector.sessions, session.session_id][-_SESSIONS_OF_CONNECTOR_MAX:]
        return connector

    def sessions_at(self, connector: Connector | None) -> list[Session]:
        """Return the sessions of a connector in order of their coming."""
        ids: Sequence[str] = connector.sessions if connector else ()
        return [self.sessions[one] for one in ids if one in self.sessions]

    def named(self, key: str) -> list[Session]:
        """Return the sessions of a transaction in order of their coming."""
        return [self.sessions[one] for one in self.transactions.get(key, ()) if one in self.sessions]

    def remember_start(self, key: str, session: Session) -> None:
        """Note which session the 1.6 start with this message id is; of one session the newest few."""
        self.starts[key] = session.session_id
        if key in session.messages:
            return
        for message in session.messages[: 1 - SESSION_NAMES_MAX]:
            if self.starts.get(message) == session.session_id:
                del self.starts[message]
        session.messages = [*session.messages, key][-SESSION_NAMES_MAX:]

    def drop(self, session_id: str) -> Session:
        """Take a session out, but for the names that lead to it; return it."""
        session = self.sessions.pop(session_id)
        known = self.evse_of(session)
        if session.place is not None and known is not None and session_id in known.sessions:
            connector = self.connector(key_of(session, _evse(session.place.connector)))
            connector.sessions = [one for one in connector.sessions if one != session_id]
        return session

    def forget(self, session_id: str) -> None:
        """Take a session out, and all its names."""
        session = self.drop(session_id)
        for transaction in session.transactions:
            key = key_of(session, transaction)
            left = [one for one in self.transactions.get(key, ()) if one != session_id]
            if left:
                self.transactions[key] = left
            else:
                self.transactions.pop(key, None)
        for message in session.messages:
            if self.starts.get(message) == session_id:
                del self.starts[message]


def key_of(whose: TransactionRow | MeterRow | StatusRow | Session, name: str) -> str:
    """Return the key of something of a charger."""
    return f"{whose.tenant}\n{whose.charger_id}\n{name}"


def evse_key(row: TransactionRow | MeterRow | StatusRow) -> str:
    """Return the key of the EVSE a row is about, in 1.6 of its connector."""
    return key_of(row, _evse(row.connector or ""))


def place_of(row: TransactionRow | MeterRow) -> Place | None:
    """Return which connector a row is about, None where it names none."""
    if row.connector in {None, "", "0"}:
        return None
    return Place(row.at_us, row.connector or "", row.evse_id, row.connector_id)


def _evse(connector: str) -> str:
    return connector.partition("/")[0]

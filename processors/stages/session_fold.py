"""What each word of a charger does to its sessions.

`Fold` works on copies: a session, connector or dictionary that a state holds is never changed. Everything is taken in
strictly by offset, and a session that must be told at once is told when all rows of the offset are in, so neither cuts
nor streams show. Names of transactions lead to sessions by `transactions`; what is said of a transaction that nobody
started makes a session without a start, which is merged into its own when the start or its answer comes.
"""

from collections.abc import Callable, Sequence
from typing import Final

from gateway.core.limits import (
    CHARGING_SESSIONS_MAX,
    CONNECTOR_SAMPLES_MAX,
    CONNECTORS_MAX,
    SESSION_AVAILABLE_S,
    SESSION_EVENTS_MAX,
    SESSION_HELD_S,
    SESSION_REMEMBERED_S,
    SESSION_REVISION_S,
    SESSION_REVISIONS_SHARE,
    SESSION_SILENT_S,
    SESSION_THINNED_S,
    START_ANSWERS_MAX,
)
from gateway.core.text import peer_text
from processors.stages.session_record import (
    CLOCK_JUMP_US,
    SESSION_NAMES_MAX,
    Abandoned,
    End,
    Session,
    Start,
    Token,
    session_id_of,
)
from processors.stages.session_samples import Sample
from processors.stages.session_store import Connector, Memory, Store, evse_key, key_of, place_of
from processors.stages.session_words import V16, MeterRow, StatusRow, TransactionRow, named_transaction

_US: Final = 1_000_000
_KEPT_FLAGS: Final = frozenset({"clock_absent", "clock_clamped", "clock_unset", "no_transaction", "no_zone"})
_CLOCK_FLAGS: Final = frozenset({"clock_absent", "clock_clamped", "clock_unset"})
_STATES: Final = frozenset({"Charging", "Faulted", "SuspendedEV", "SuspendedEVSE"})
AVAILABLE: Final = "Available"


Tell = Callable[[Session, Connector | None, int, int], None]
"""Emits a row: session, its connector, offset and receipt (us) of the entry that causes it."""


class Fold:
    """One batch's work on a memory.

    Args:
        memory: What is known; left as it is.
        tell: Called with a session that is due.
    """

    def __init__(self, memory: Memory, tell: Tell) -> None:
        self._store = Store(memory)
        self._urgent: dict[str, None] = {}
        self._merged: list[Session] = []
        self._tell = tell

    @property
    def memory(self) -> Memory:
        """Everything that is known now; the fold must not be used after."""
        return self._store.memory

    @property
    def store(self) -> Store:
        """What is known, for the match with vehicles."""
        return self._store

    # ---- words of a charger ----

    def transaction(self, row: TransactionRow) -> None:
        """Take in a row of `charger_transaction`."""
        if row.event == "start_answer":
            self._answered(row)
        elif row.event in {"start", "update", "end"}:
            session = self._session_of(row)
            self._told_of(session, row)
            self._take(session, row)
            self._settle(session)

    def meter(self, row: MeterRow) -> None:
        """Take in a row of `charger_meter`."""
        sample = Sample(row.at_us, *row.values)
        transaction = named_transaction(row)
        if transaction is None:
            self._loose(row, sample)
            return
        session = self._find(row, transaction)
        place = place_of(row)
        if row.version == V16 and place is not None:
            session.with_place(place)
            self._store.join_connector(session)
        self._told_of(session, row)
        session.with_sample(sample, row.received_us)

    def status(self, row: StatusRow) -> None:
        """Take in a row of `charger_status` of the kind `status`."""
        if not row.status or row.connector in {None, "", "0"}:
            return
        connector = self._store.connector(key_of(row, row.connector or ""))
        state = (row.at_us, peer_text(row.status, chars_max=32))
        if state not in connector.states:
            connector.states = sorted([*connector.states, state])[-SESSION_EVENTS_MAX:]
        if (row.at_us, row.received_us) >= (connector.status_at_us, connector.status_received_us):
            if connector.status != state[1]:
                connector.since_at_us, connector.since_received_us = row.at_us, row.received_us
            connector.status_at_us, connector.status = state
            connector.status_received_us = row.received_us
        if state[1] in _STATES:
            for known in self._store.sessions_at(self._store.connectors.get(evse_key(row))):
                if known.start and known.started_us <= row.at_us <= (known.ended_us or row.at_us):
                    self._store.open(known.session_id).has_news = True

    def settle_offset(self, offset: int, received_us: int) -> None:
        """Tell what must be told at once, now that all rows of the offset are in."""
        for session in self._merged:
            self._say(session, offset, received_us)
        self._merged.clear()
        for session_id in self._urgent:
            if session_id in self._store.sessions and self._store.sessions[session_id].start is not None:
                self._say(self._store.open(session_id), offset, received_us)
        self._urgent.clear()

    def tick(self, offset: int, now_us: int) -> None:
        """Take in that time has passed: give up, orphan, tell, thin and forget."""
        for session_id in list(self._store.sessions):
            session = self._store.sessions[session_id]
            if session.is_open and session.start is not None:
                self._give_up(session_id, now_us)
                session = self._store.sessions[session_id]
            if session.has_news and _is_due(session, now_us):
                self._say(self._store.open(session_id), offset, now_us)
            quiet_us = now_us - session.received_us
            if quiet_us > SESSION_REMEMBERED_S * _US:
                self._store.forget(session_id)
            elif quiet_us > SESSION_THINNED_S * _US and session.can_be_thinned:
                self._store.open(session_id).thin()
        self._bound(offset, now_us)

    # ---- finding the session ----

    def _session_of(self, row: TransactionRow) -> Session:
        if row.version == V16 and row.event == "start":
            return self._store.open(self._started_16(row), row)
        transaction = named_transaction(row)
        return self._find_nameless(row) if transaction is None else self._find(row, transaction)

    def _started_16(self, row: TransactionRow) -> str:
        """Return the id of the session that a StartTransaction means, the same for each of its repetitions."""
        if _CLOCK_FLAGS & row.flags:
            # Its time is that of receipt, another one in each repetition.
            for known in self._store.sessions_at(self._store.connectors.get(evse_key(row))):
                if known.is_open and known.start and _CLOCK_FLAGS & {*known.flags} and _is_same(known, row):
                    return known.session_id
        return session_id_of(row.tenant, row.charger_id, row.connector, row.at_us, row.id_token, row.meter_start_wh)

    def _find(self, row: TransactionRow | MeterRow, transaction: str) -> Session:
        """Return the session of a named transaction, a new one if nothing is known of it."""
        key = key_of(row, transaction)
        known = self._store.named(key)
        found = self._find_16(row, known) if row.version == V16 else _find_2(row, known)
        if found is None:
            number = "unknown" if row.version == V16 else len(known)
            found = session_id_of(row.tenant, row.charger_id, transaction, number)
            self._store.transactions[key] = [*(one.session_id for one in known), found]
        session = self._store.open(found, row)
        session.with_transaction(transaction)
        return session

    def _find_16(self, row: TransactionRow | MeterRow, known: Sequence[Session]) -> str | None:
        if not known:
            return None
        begun = [one for one in known if one.started_us <= row.at_us + CLOCK_JUMP_US]
        session = begun[-1] if begun else known[-1]
        if session.ends and row.at_us > session.ends[-1].at_us + CLOCK_JUMP_US:
            successor = self._successor(session, row)
            if successor is not None:
                self._store.open(successor).with_flags(["transaction_reused"])
                return successor
        return session.session_id

    def _successor(self, session: Session, row: TransactionRow | MeterRow) -> str | None:
        """Return the open session that a charger means which goes on using the id of its connector's last one."""
        for other in self._store.sessions_at(self._store.evse_of(session)):
            if other.is_open and session.ends[-1].at_us <= other.started_us <= row.at_us:
                token = row.id_token if isinstance(row, TransactionRow) else None
                if token is None or other.token is None or token == other.token.token:
                    return other.session_id
        return None

    def _find_nameless(self, row: TransactionRow) -> Session:
        """Return the only session of the charger that an event without transaction can mean, else one of its own."""
        candidates = [
            one
            for one in self._store.sessions.values()
            if (one.tenant, one.charger_id) == (row.tenant, row.charger_id)
            and one.start is not None
            and (one.is_open or (one.end is not None and one.end.at_us == row.at_us))
            and one.started_us <= row.at_us
            and (row.id_token is None or one.token is None or one.token.token == row.id_token)
        ]
        if len(candidates) == 1:
            return self._store.open(candidates[0].session_id, row)
        return self._store.open(
            session_id_of(row.tenant, row.charger_id, "nameless", row.at_us, row.meter_stop_wh), row
        )

    # ---- taking in ----

    def _told_of(self, session: Session, row: TransactionRow | MeterRow) -> None:
        """Note that the charger speaks of the session, which wakes one that was given up for its silence."""
        session.with_word(row.at_us, row.received_us, row.version)
        session.with_flags(_KEPT_FLAGS & row.flags)
        given_up = session.abandoned
        if given_up is not None and given_up.why != "new_start" and row.at_us > given_up.at_us:
            session.abandoned = None
            session.with_flags(["resumed"])
            self._urgent[session.session_id] = None

    def _take(self, session: Session, row: TransactionRow) -> None:
        """Take in what an event says of its session; tell it at once where that starts, names, ends or flags it."""
        had_gap, was_nameless = session.has_gap, session.token is None
        place = place_of(row)
        if place is not None:
            session.with_place(place)
        if row.id_token:
            session.with_token(Token(row.at_us, row.id_token, row.id_token_type))
        if row.vin:
            session.with_vin(row.at_us, row.vin)
        if row.charging_state:
            session.with_states([(row.at_us, peer_text(row.charging_state, chars_max=32))])
        if row.seq_no is not None:
            session.with_sequence(row.seq_no, row.seq_no)
        # Who charges is what operators look for first, and 2.x chargers may say it after the start.
        urgent = session.has_gap != had_gap or (was_nameless and session.token is not None and session.revision > 0)
        if row.event == "start":
            urgent |= self._start(session, row)
        if row.event == "end" and session.with_end(End(row.at_us, row.received_us, row.meter_stop_wh, row.stop_reason)):
            urgent = session.join_stale = True
            if session.abandoned is not None:
                session.abandoned = None
                session.with_flags(["late_stop"])
        if urgent:
            self._urgent[session.session_id] = None

    def _start(self, session: Session, row: TransactionRow) -> bool:
        """Take in a start; return whether the session can be told now."""
        is_new = session.with_start(Start(row.at_us, row.received_us, row.meter_start_wh))
        session.join_stale |= is_new
        if is_new and session.revision:
            session.with_flags(["late_start"])
        if row.version != V16:
            return is_new
        message = key_of(row, row.message_id or "")
        self._store.remember_start(message, session)
        answers = self._store.answers.pop(message, [])
        for transaction in answers:
            self._name(session, row, transaction)
        # The row right behind it is our answer, with the transaction id.
        return bool(answers)

    def _answered(self, row: TransactionRow) -> None:
        if not row.transaction_id:
            return
        message, answers = key_of(row, row.message_id or ""), self._store.answers
        session_id = self._store.starts.get(message)
        if session_id is None:
            answers[message] = [*answers.pop(message, ()), row.transaction_id][-SESSION_NAMES_MAX:]
            if len(answers) > START_ANSWERS_MAX:
                del answers[next(iter(answers))]
            return
        session = self._store.open(session_id)
        if self._name(session, row, row.transaction_id):
            self._settle(session)
            self._urgent[session_id] = None

    def _name(self, session: Session, row: TransactionRow, transaction: str) -> bool:
        """Note that the transaction is the session's; whatever was said of it before moves there."""
        key = key_of(row, transaction)
        known = self._store.named(key)
        if any(one.session_id == session.session_id for one in known) or not session.with_transaction(transaction):
            return False
        for other in known:
            if other.start is not None:
                continue
            session.merge(other)
            if other.revision:
                gone = self._store.open(other.session_id)
                gone.abandoned = Abandoned("merged", other.last_at_us, f"is session {session.session_id}")
                self._merged.append(gone)
            self._urgent.pop(other.session_id, None)
            self._store.drop(other.session_id)
        begun = [one.session_id for one in known if one.start is not None]
        self._store.transactions[key] = [*begun, session.session_id]
        session.has_news = True
        return True

    def _loose(self, row: MeterRow, sample: Sample) -> None:
        """Keep a meter value that names no transaction, and give it to the session that its connector had then."""
        if row.connector in {None, "", "0"}:
            return
        connector = self._store.connector(evse_key(row))
        if all(_sample_order(known) != _sample_order(sample) for known in connector.loose):
            connector.loose = sorted([*connector.loose, sample], key=_sample_order)[-CONNECTOR_SAMPLES_MAX:]
        begun = [
            one
            for one in self._store.sessions_at(connector)
            if one.start is not None and one.started_us <= row.at_us <= (one.ended_us or row.at_us)
        ]
        if begun:
            session = self._store.open(max(begun, key=lambda one: (one.started_us, one.session_id)).session_id)
            session.with_sample(sample, row.received_us)

    # ---- sessions of one connector ----

    def _settle(self, session: Session) -> None:
        """See to what a session that has a start now, or another one, means for its neighbours."""
        connector = self._store.join_connector(session)
        if connector is None or session.start is None:
            return
        ended_us = session.ended_us
        for sample in connector.loose:
            if session.started_us <= sample.at_us <= (sample.at_us if ended_us is None else ended_us):
                session.samples.add(sample)
        for other in self._store.sessions_at(connector):
            if other.start is None or other.session_id == session.session_id:
                continue
            if other.started_us < session.started_us:
                self._follow(other.session_id, session)
            elif other.started_us > session.started_us:
                self._follow(session.session_id, other)

    def _follow(self, earlier_id: str, later: Session) -> None:
        """Give up an open session because another one began on its connector."""
        earlier = self._store.sessions[earlier_id]
        if earlier.ends or (earlier.abandoned is not None and earlier.abandoned.at_us <= later.started_us):
            return
        earlier = self._store.open(earlier_id)
        earlier.abandoned = Abandoned(
            "new_start", later.started_us, f"session {later.session_id} began on the same connector"
        )
        earlier.has_news = earlier.join_stale = True
        self._urgent[earlier_id] = None

    # ---- time ----

    def _give_up(self, session_id: str, now_us: int) -> None:
        session = self._store.sessions[session_id]
        connector = self._store.connector_of(session)
        given_up: Abandoned | None = None
        if now_us - session.received_us >= SESSION_SILENT_S * _US:
            hours = (now_us - session.received_us) // (3600 * _US)
            given_up = Abandoned("silent", session.last_at_us, f"no word of it for {hours} h")
        elif (
            connector is not None
            and connector.status == AVAILABLE
            and session.word_us < connector.status_received_us
            and session.last_word_at_us <= connector.status_at_us
            and now_us - max(connector.since_received_us, session.word_us) >= SESSION_AVAILABLE_S * _US
        ):
            since_us = max(connector.since_at_us, session.last_word_at_us)
            minutes = SESSION_AVAILABLE_S // 60
            given_up = Abandoned("available", since_us, f"its connector was Available for {minutes} min")
        if given_up is not None:
            session = self._store.open(session_id)
            session.abandoned = given_up
            session.has_news = session.join_stale = True

    def _say(self, session: Session, offset: int, received_us: int) -> None:
        self._tell(session, self._store.connector_of(session), offset, received_us)
        session.revision += 1
        session.has_news = False
        session.told_us = received_us

    def _bound(self, offset: int, now_us: int) -> None:
        """Forget what is too much: ended sessions first, of equals those longest quiet."""
        excess = len(self._store.sessions) - CHARGING_SESSIONS_MAX
        if excess > 0:
            order = sorted(
                self._store.sessions.values(), key=lambda one: (one.is_open, one.received_us, one.session_id)
            )
            for session in order[:excess]:
                if session.is_open:
                    lost = self._store.open(session.session_id)
                    lost.abandoned = Abandoned(
                        "crowded", lost.last_at_us, f"more than {CHARGING_SESSIONS_MAX} sessions at once"
                    )
                    self._say(lost, offset, now_us)
                self._store.forget(session.session_id)
        while len(self._store.connectors) > CONNECTORS_MAX:
            del self._store.connectors[next(iter(self._store.connectors))]


def _find_2(row: TransactionRow | MeterRow, known: Sequence[Session]) -> str | None:
    """Return which of a 2.x transaction's occurrences is meant, None for one more.

    Chargers that count transactions from 1 again after a reset use an id twice. A start other than the known one, or a
    sequence number seen before at a time after the end, is a new occurrence.
    """
    if isinstance(row, TransactionRow) and row.event == "start":
        for one in known:
            if one.start is None:
                if not one.ends or one.ends[-1].at_us >= row.at_us:
                    return one.session_id
            elif one.start.at_us == row.at_us or (_CLOCK_FLAGS & row.flags and one.is_open):
                return one.session_id
        return None
    if not known:
        return None
    begun = [one for one in known if one.started_us <= row.at_us + CLOCK_JUMP_US]
    session = begun[-1] if begun else known[0]
    if isinstance(row, TransactionRow) and row.seq_no is not None and session.ends:
        is_after = row.at_us > session.ends[-1].at_us + CLOCK_JUMP_US
        if is_after and any(first <= row.seq_no <= last for first, last in session.sequence):
            return None
    return session.session_id


def _is_due(session: Session, now_us: int) -> bool:
    if session.start is None and now_us - session.first_received_us < SESSION_HELD_S * _US:
        return False
    if not session.is_open or session.revision == 0:
        return True
    pause_us = max(SESSION_REVISION_S * _US, (session.last_at_us - session.started_us) // SESSION_REVISIONS_SHARE)
    return now_us - session.told_us >= pause_us


def _is_same(known: Session, row: TransactionRow) -> bool:
    assert known.start is not None
    token = known.token.token if known.token else None
    connector = known.place.connector if known.place else None
    return (token, known.start.meter_wh, connector) == (row.id_token, row.meter_start_wh, row.connector)


def _sample_order(sample: Sample) -> tuple[int, str]:
    return sample.at_us, repr(sample)

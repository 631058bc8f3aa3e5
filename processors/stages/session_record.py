"""What is known of one session: facts that add up, whatever their order.

Every fact is a set, or the one of a set that a total order picks (the earliest start, the earliest end), so that
taking it in twice, or after another, leaves the same session. What is told of a session is computed from the facts
when it is told (session_rows.py); only abandonment and what was told before know an order.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

import msgspec

from gateway.core.limits import SESSION_EVENTS_MAX, SESSION_SAMPLES_ENDED_MAX
from processors.stages.session_samples import Sample, Samples

_ID_BYTES: Final = 10
SESSION_NAMES_MAX: Final = 8
"""Transaction and message ids of one session: a start that was sent again after so many crashes of ours."""
_ENDS_MAX: Final = 4
_US_PER_S: Final = 1_000_000
CLOCK_JUMP_US: Final = 60 * _US_PER_S
"""A time of a session this much before its start is the work of a clock that was set back."""
PAST_US: Final = 30 * 24 * 3600 * _US_PER_S
"""A start this long before all else that is said of a session was told by a clock that was wrong."""


def session_id_of(*parts: object) -> str:
    """Return 20 hexadecimal characters that depend on the parts alone."""
    return blake2b(msgspec.msgpack.encode(parts), digest_size=_ID_BYTES).hexdigest()


class Start(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """How a session began: when by the charger's clock, when that was received, the register (NaN: not said)."""

    at_us: int
    received_us: int
    meter_wh: float | None = None


class End(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a session ended, as `Start`; `reason` as the charger says it."""

    at_us: int
    received_us: int
    meter_wh: float | None = None
    reason: str | None = None


class Place(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Which connector, and since when that is known."""

    at_us: int
    connector: str
    evse_id: int | None
    connector_id: int | None


class Token(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who charges: an id token and its type, and when it was shown."""

    at_us: int
    token: str
    kind: str | None


class Abandoned(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Why a session without an end is taken for ended, and the latest time at which it can have been."""

    why: str
    at_us: int
    evidence: str


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """The vehicle of a session and what its battery says; see session_matching.py."""

    vehicle_id: str | None = None
    match: str | None = None
    confidence: float | None = None
    energy_wh: float | None = None
    soc_start_pct: float | None = None
    soc_end_pct: float | None = None
    temp_min_c: float | None = None
    temp_max_c: float | None = None
    curve: tuple[tuple[float | None, ...], ...] = ()
    flags: tuple[str, ...] = ()


class Session(msgspec.Struct, kw_only=True, eq=False):
    """All facts of one session. Whoever shares it clones it before changing it.

    Attributes:
        session_id, tenant, charger_id: Whose it is.
        ocpp_version: Dialect it was told in.
        is_told: Whether a row of it has been emitted, or would be but for `SESSION_HELD_S`.
        place, start, token, vin: The earliest said of each.
        ends: Ends said, at most a few, sorted by time.
        transactions: Transaction ids, sorted.
        messages: Message ids of its starts, to be forgotten with it.
        sequence: Ranges [first, last] of 2.x sequence numbers, sorted, apart.
        states: (time, state) of the connector as transaction events tell it, sorted.
        flags: Codes that stay, sorted.
        samples: Meter samples.
        first_at_us, last_word_at_us: Earliest and latest time, by the charger's clock, of what named its transaction.
        first_received_us, word_us: First and latest receipt of the same.
        received_us: Latest receipt, of meter values that named no transaction, too.
        abandoned: Set while it counts as abandoned.
        revision: Number of the next row.
        has_news: Whether something came since the last row.
        told_us: Tick or receipt time of the last row, 0 before the first.
        told_source, told_flags: Where its energy came from, and what was wrong with that.
        joined: The vehicle, as of the last comparison.
        join_due_us: Tick time from which an open one is compared again.
        join_stale: Whether an ended one must be compared again.
    """

    session_id: str
    tenant: str
    charger_id: str
    ocpp_version: str | None = None
    place: Place | None = None
    start: Start | None = None
    token: Token | None = None
    vin: tuple[int, str] | None = None
    ends: list[End] = []
    transactions: list[str] = []
    messages: list[str] = []
    sequence: list[tuple[int, int]] = []
    states: list[tuple[int, str]] = []
    flags: list[str] = []
    samples: Samples = msgspec.field(default_factory=Samples)
    first_at_us: int = 2**62
    last_word_at_us: int = 0
    first_received_us: int = 2**62
    word_us: int = 0
    received_us: int = 0
    abandoned: Abandoned | None = None
    revision: int = 0
    has_news: bool = True
    told_us: int = 0
    told_source: str | None = None
    told_flags: tuple[str, ...] = ()
    joined: Joined = Joined()
    join_due_us: int = 0
    join_stale: bool = True

    def clone(self) -> "Session":
        """Return a copy that may be changed."""
        return msgspec.structs.replace(
            self,
            ends=self.ends[:],
            transactions=self.transactions[:],
            messages=self.messages[:],
            sequence=self.sequence[:],
            states=self.states[:],
            flags=self.flags[:],
            samples=self.samples.clone(),
        )

    # ---- what is known ----

    @property
    def is_open(self) -> bool:
        """Whether nothing says that it has ended."""
        return not self.ends and self.abandoned is None

    @property
    def last_at_us(self) -> int:
        """Latest time said of it, by the charger's clock."""
        return max(self.last_word_at_us, self.samples.at_us[-1] if self.samples.at_us else 0)

    @property
    def is_clock_wrong_at_start(self) -> bool:
        """Whether the start's time is not to be believed: everything else is a month later, its receipt included."""
        if self.start is None:
            return False
        rest = self.ends[0].at_us if self.ends else self.last_at_us
        return min(rest, self.start.received_us) - self.start.at_us > PAST_US

    @property
    def started_us(self) -> int:
        """When it began; the first that is said of it where no start is known."""
        if self.start is None:
            return min(self.first_at_us, *(end.at_us for end in self.ends)) if self.ends else self.first_at_us
        return self.start.received_us if self.is_clock_wrong_at_start else self.start.at_us

    @property
    def end(self) -> End | None:
        """The earliest end that is not before the start; of ends of one time the one with the highest register."""
        started_us = self.started_us
        believed = [end for end in self.ends if end.at_us >= started_us]
        return believed[0] if believed else (self.ends[0] if self.ends else None)

    @property
    def ended_us(self) -> int | None:
        """When it ended, None while it goes on. An end before the start is taken to be at its receipt."""
        end = self.end
        if end is not None:
            return end.at_us if end.at_us >= self.started_us else max(end.received_us, self.started_us)
        if self.abandoned is None:
            return None
        at_us = (
            self.abandoned.at_us if self.abandoned.why == "available" else min(self.last_at_us, self.abandoned.at_us)
        )
        return max(at_us, self.started_us)

    @property
    def can_be_thinned(self) -> bool:
        """Whether it has ended, and more samples than must be kept of one whose register said its energy."""
        return not self.is_open and len(self.samples) > SESSION_SAMPLES_ENDED_MAX and self.told_source == "register"

    @property
    def has_gap(self) -> bool:
        """Whether sequence numbers are missing: between those seen, or before the first."""
        return bool(self.sequence) and (len(self.sequence) > 1 or self.sequence[0][0] > 0)

    @property
    def status(self) -> str:
        """`active`, `completed`, `abandoned`, or `orphan` while no start is known."""
        if self.start is None:
            return "orphan"
        if self.ends:
            return "completed"
        return "abandoned" if self.abandoned else "active"

    @property
    def events(self) -> int:
        """Distinct transaction events: by sequence number where there are any."""
        if self.sequence:
            return sum(last - first + 1 for first, last in self.sequence)
        return (self.start is not None) + len(self.ends)

    def thin(self) -> None:
        """Keep fewer samples, and what was found wrong with those that go."""
        self.with_flags(self.told_flags)
        self.samples.thin(SESSION_SAMPLES_ENDED_MAX)

    # ---- taking facts in; each may be repeated ----

    def with_word(self, at_us: int, received_us: int, version: str | None) -> None:
        """Take in that the charger said something of it."""
        self.first_at_us = min(self.first_at_us, at_us)
        self.last_word_at_us = max(self.last_word_at_us, at_us)
        self.first_received_us = min(self.first_received_us, received_us)
        self.word_us = max(self.word_us, received_us)
        self.received_us = max(self.received_us, received_us)
        self.ocpp_version = self.ocpp_version or version
        self.has_news = True

    def with_sample(self, sample: Sample, received_us: int) -> None:
        """Take in a meter value."""
        self.samples.add(sample)
        self.received_us = max(self.received_us, received_us)
        self.has_news = self.join_stale = True

    def with_start(self, start: Start) -> bool:
        """Take in a start; return whether it is news."""
        before = self.start
        if before is None or (start.at_us, start.received_us) < (before.at_us, before.received_us):
            self.start = start
        return before is None

    def with_end(self, end: End) -> bool:
        """Take in an end; return whether it is news."""
        same = [known for known in self.ends if (known.at_us, known.meter_wh) == (end.at_us, end.meter_wh)]
        if same:
            first = min(same[0], end, key=lambda one: (one.received_us, one.reason or ""))
            self.ends[self.ends.index(same[0])] = msgspec.structs.replace(first, reason=first.reason or end.reason)
            return False
        self.ends = sorted([*self.ends, end], key=_end_order)[:_ENDS_MAX]
        return True

    def with_place(self, place: Place) -> None:
        """Take in a connector; the earliest named counts."""
        key = (place.at_us, place.connector)
        if self.place is None or key < (self.place.at_us, self.place.connector):
            self.place = place

    def with_token(self, token: Token) -> None:
        """Take in an id token; the earliest shown counts."""
        if self.token is None or (token.at_us, token.token) < (self.token.at_us, self.token.token):
            self.token = token

    def with_vin(self, at_us: int, vin: str) -> None:
        """Take in a vehicle identification number; the earliest told counts."""
        self.vin = (at_us, vin) if self.vin is None else min(self.vin, (at_us, vin))

    def with_flags(self, codes: Iterable[str]) -> None:
        """Take in flags that stay."""
        merged = {*self.flags, *codes}
        if len(merged) > len(self.flags):
            self.flags = sorted(merged)

    def with_transaction(self, transaction_id: str) -> bool:
        """Take in a transaction id; return whether it is among the session's, which are few."""
        if transaction_id not in self.transactions and len(self.transactions) < SESSION_NAMES_MAX:
            self.transactions = sorted([*self.transactions, transaction_id])
        return transaction_id in self.transactions

    def with_sequence(self, first: int, last: int) -> None:
        """Take in a range of sequence numbers."""
        ranges: list[tuple[int, int]] = []
        for low, high in sorted([*self.sequence, (first, last)]):
            if ranges and low <= ranges[-1][1] + 1:
                ranges[-1] = ranges[-1][0], max(ranges[-1][1], high)
            else:
                ranges.append((low, high))
        self.sequence = ranges[-SESSION_EVENTS_MAX:]

    def with_states(self, states: Iterable[tuple[int, str]]) -> None:
        """Take in states of the connector."""
        merged = {*self.states, *states}
        if len(merged) > len(self.states):
            self.states = sorted(merged)[-SESSION_EVENTS_MAX:]

    def merge(self, other: "Session") -> None:
        """Take in all facts of another session, which is then this one."""
        if other.start is not None:
            self.with_start(other.start)
        for end in other.ends:
            self.with_end(end)
        if other.place is not None:
            self.with_place(other.place)
        if other.token is not None:
            self.with_token(other.token)
        if other.vin is not None:
            self.with_vin(*other.vin)
        for transaction in other.transactions:
            self.with_transaction(transaction)
        for first, last in other.sequence:
            self.with_sequence(first, last)
        self.with_states(other.states)
        self.with_flags(other.flags)
        self.samples.merge(other.samples)
        self.first_at_us = min(self.first_at_us, other.first_at_us)
        self.last_word_at_us = max(self.last_word_at_us, other.last_word_at_us)
        self.first_received_us = min(self.first_received_us, other.first_received_us)
        self.word_us = max(self.word_us, other.word_us)
        self.received_us = max(self.received_us, other.received_us)
        self.ocpp_version = self.ocpp_version or other.ocpp_version
        if self.ends and self.abandoned is not None:
            self.abandoned = None
            self.with_flags(["late_stop"])
        self.has_news = self.join_stale = True


def _end_order(end: End) -> tuple[int, float, int, str]:
    return end.at_us, -(end.meter_wh or 0.0), end.received_us, end.reason or ""

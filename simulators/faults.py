"""What goes wrong in the field, on purpose: composable, seeded, and each with the outcome it must have.

A fault turns one message into none, one or several. Faults that change content come before the ones that repeat or hold
messages back; `Faults` keeps that order. Reject codes are the public ones of `rejects`; no two refused payloads of one
device are the same bytes, because the second would rightly count as a duplicate.
"""

import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

import msgspec

from simulators.message import Message, encode
from simulators.truth import ONE_DUPLICATE, Outcome, one_reject

SKEW_MAX_S: Final = 300.0
"""Lead of a device's clock that the built-in contracts believe; beyond it times are clamped and flagged."""
_HELD_MAX: Final = 2_000
"""A fault never keeps more messages than that back, whatever its rates are."""


class Fault(Protocol):
    """One kind of mishap."""

    def apply(self, message: Message) -> list[Message]:
        """Return what is sent now instead of the message, in order."""
        ...

    def flush(self) -> list[Message]:
        """Return what is still kept back, because no further message will come."""
        ...


class FaultRates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often each fault strikes: probabilities per message, 0 .. 1.

    Attributes:
        garbage: Unreadable or wrong content, of all kinds alike.
        skew: A clock far ahead or behind.
        duplicate: Sent twice.
        disorder: Kept back for 1 to 5 messages.
        late: Kept back for 60 to 300 messages.
    """

    garbage: float = 0.0
    skew: float = 0.0
    duplicate: float = 0.0
    disorder: float = 0.0
    late: float = 0.0


class Duplicate:
    """Sends some messages twice, as a device does whose acknowledgement was lost."""

    def __init__(self, probability: float, random_: random.Random) -> None:
        self._probability, self._random = probability, random_

    def apply(self, message: Message) -> list[Message]:
        """Return the message once or twice."""
        if self._random.random() >= self._probability:
            return [message]
        again = msgspec.structs.replace(message, outcome=ONE_DUPLICATE, faults=(*message.faults, "duplicate"))
        return [message, again]

    def flush(self) -> list[Message]:
        """Nothing is kept back."""
        return []


class Hold:
    """Keeps some messages back until others have overtaken them: disorder when few, lateness when many.

    Args:
        name: What the truth calls it.
        probability: Of being kept back.
        behind_min: Messages that overtake it, at least.
        behind_max: At most.
        random_: Source of chance.
    """

    def __init__(
        self, name: str, probability: float, *, behind_min: int, behind_max: int, random_: random.Random
    ) -> None:
        self._name, self._probability = name, probability
        self._behind_min, self._behind_max, self._random = behind_min, behind_max, random_
        self._held: list[tuple[int, Message]] = []
        self._passed = 0

    def apply(self, message: Message) -> list[Message]:
        """Return the message, unless it is kept back, and those whose time has come."""
        self._passed += 1
        now: list[Message] = []
        if self._random.random() < self._probability and len(self._held) < _HELD_MAX:
            due = self._passed + self._random.randint(self._behind_min, self._behind_max)
            self._held.append((due, msgspec.structs.replace(message, faults=(*message.faults, self._name))))
        else:
            now.append(message)
        now += [held for due, held in self._held if due <= self._passed]
        self._held = [(due, held) for due, held in self._held if due > self._passed]
        return now

    def flush(self) -> list[Message]:
        """Return all that is kept back, oldest first."""
        held, self._held = [message for _, message in self._held], []
        return held


class ClockSkew:
    """Gives some messages a time far from now: a past one is believed, a future one clamped and flagged."""

    def __init__(self, probability: float, random_: random.Random) -> None:
        self._probability, self._random = probability, random_

    def apply(self, message: Message) -> list[Message]:
        """Return the message with its own or another time; one that is garbage already keeps it."""
        if message.faults or self._random.random() >= self._probability:
            return [message]
        # Odd microseconds, so that it never coincides with an honest reading of the same device.
        offset_s = self._random.choice((-7 * 86_400, -3_600, -900, 2 * SKEW_MAX_S, 86_400, 20 * 365 * 86_400))
        ahead = offset_s > SKEW_MAX_S
        ts = _time(message) + timedelta(seconds=offset_s, microseconds=self._random.randrange(1, 1_000_000, 2))
        reading = message.reading | {"ts": _iso(ts)}
        return [
            msgspec.structs.replace(
                message,
                reading=reading,
                payload=encode(reading, message.encoding),
                outcome=Outcome(rows=1, flags=("clock_clamped",) if ahead else ()),
                faults=("clock_ahead" if ahead else "clock_behind",),
            )
        ]

    def flush(self) -> list[Message]:
        """Nothing is kept back."""
        return []


class Garbage:
    """Ruins the content of some messages, each kind equally often among those that fit the message."""

    def __init__(self, probability: float, random_: random.Random) -> None:
        self._probability, self._random = probability, random_
        self._blanks = 0

    def apply(self, message: Message) -> list[Message]:
        """Return the message or what is left of it."""
        if self._random.random() >= self._probability:
            return [message]
        kinds: list[Callable[[Message], Message]] = [
            self._truncated,
            self._noise,
            self._blank,
            self._no_such_time,
            self._stranger,
            self._lost,
        ]
        if "soc_pct" in message.reading:  # events may come without a time and have no numbers
            kinds += [self._no_time, self._text_for_number, self._out_of_range]
        if "kind" in message.reading:
            kinds.append(self._no_kind)
        return [self._random.choice(kinds)(message)]

    def flush(self) -> list[Message]:
        """Nothing is kept back."""
        return []

    def _truncated(self, message: Message) -> Message:
        # The second half holds no time, so what is left still differs from every other message.
        cut = self._random.randrange(len(message.payload) // 2, len(message.payload))
        return _ruined(message, "truncated", message.payload[:cut], one_reject(message.encoding))

    def _noise(self, message: Message) -> Message:
        return _ruined(message, "noise", b"\xff" + self._random.randbytes(40), one_reject("json"))

    def _blank(self, message: Message) -> Message:
        self._blanks += 1
        return _ruined(message, "empty", b" " * (self._blanks - 1), one_reject("empty"))

    def _no_such_time(self, message: Message) -> Message:
        ts = "2032-02-90" + str(message.reading["ts"])[10:]
        return _rewritten(message, "no_such_time", {"ts": ts}, one_reject("time"))

    def _no_time(self, message: Message) -> Message:
        # Without its time it would be the same bytes whenever the vehicle stands still.
        reading = {"was": message.reading["ts"]} | {k: v for k, v in message.reading.items() if k != "ts"}
        return _ruined(message, "no_time", encode(reading, message.encoding), one_reject("time"))

    def _no_kind(self, message: Message) -> Message:
        return _rewritten(message, "no_kind", {"kind": None}, one_reject("required"))

    def _stranger(self, message: Message) -> Message:
        return _rewritten(message, "stranger", {"device_id": "somebody-else"}, one_reject("identity"))

    def _text_for_number(self, message: Message) -> Message:
        return _rewritten(message, "text_for_number", {"soc_pct": "half"}, one_reject("type"))

    def _out_of_range(self, message: Message) -> Message:
        outcome = Outcome(rows=1, flags=("range:soc_pct",))
        return _rewritten(message, "out_of_range", {"soc_pct": 131.0}, outcome)

    def _lost(self, message: Message) -> Message:
        lost = _ruined(message, "unknown_channel", message.payload, one_reject("unknown_channel"))
        return msgspec.structs.replace(lost, channel="nowhere")


class Faults:
    """All faults of one device.

    Args:
        rates: How often.
        seed: The same seed ruins the same messages.
    """

    def __init__(self, rates: FaultRates, *, seed: int | str) -> None:
        random_ = random.Random(seed)
        self._faults: Sequence[Fault] = (
            Garbage(rates.garbage, random_),
            ClockSkew(rates.skew, random_),
            Duplicate(rates.duplicate, random_),
            Hold("disorder", rates.disorder, behind_min=1, behind_max=5, random_=random_),
            Hold("late", rates.late, behind_min=60, behind_max=300, random_=random_),
        )

    def apply(self, message: Message) -> list[Message]:
        """Return what is sent instead of the message, in order."""
        return self._pass([message], 0)

    def flush(self) -> list[Message]:
        """Return what is still kept back; it passes the faults that come after the one that kept it."""
        left: list[Message] = []
        for i, fault in enumerate(self._faults):
            left += self._pass(fault.flush(), i + 1)
        return left

    def _pass(self, messages: list[Message], first: int) -> list[Message]:
        for fault in self._faults[first:]:
            messages = [out for message in messages for out in fault.apply(message)]
        return messages


def _ruined(message: Message, name: str, payload: bytes, outcome: Outcome) -> Message:
    return msgspec.structs.replace(message, payload=payload, outcome=outcome, faults=(name,))


def _rewritten(message: Message, name: str, changes: dict[str, object], outcome: Outcome) -> Message:
    reading = message.reading | changes
    ruined = _ruined(message, name, encode(reading, message.encoding), outcome)
    return msgspec.structs.replace(ruined, reading=reading)


def _time(message: Message) -> datetime:
    return datetime.fromisoformat(str(message.reading["ts"]))


def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

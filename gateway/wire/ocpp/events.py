"""What a session makes of a frame: records from `StationSession.receive` to the edge."""

from enum import StrEnum

import msgspec

from gateway.core.ids import Channel
from gateway.wire.ocpp.commands import CommandOutcome


class Strictness(StrEnum):
    """What happens to a payload that breaks its schema.

    STRICT: refused with a CALLERROR. LENIENT: accepted where all of it is what real stations are known to send
    (`loosen`). AUDIT: every JSON object of a known action is accepted. What is accepted all the same is counted, under
    the reason of its first violation.
    """

    STRICT = "strict"
    LENIENT = "lenient"
    AUDIT = "audit"


class Answer(msgspec.Struct, frozen=True, gc=False):
    """Send `frame` now; nothing is journalled (Heartbeat, refusals, the answer to a repeated call).

    Attributes:
        frame: What to send.
        reason: For a refusal the word it was counted under (the session counts), else "".
        detail: For a refusal the place and what is wrong, printable and cut: for the log line with the station's name.
    """

    frame: bytes
    reason: str = ""
    detail: str = ""


class Append(msgspec.Struct, frozen=True, gc=False):
    """Journal `payload` on `channel`, then, once durable, `settled(message_id)` and send `answer`.

    Not durable: send what `failed(message_id)` returns instead.

    Attributes:
        channel: Channel of the entry, `ocpp1.6/MeterValues`.
        payload: The frame, verbatim.
        answer: The answer's frame, or None: a SEND, which has none.
        answer_channel: Where set, journal `answer` on this channel in the same append, right behind `payload`.
        message_id: Id of the call.
    """

    channel: Channel
    payload: bytes
    answer: bytes | None
    answer_channel: Channel | None
    message_id: str


class Repeat(msgspec.Struct, frozen=True, gc=False):
    """A call that came before and waits for the disk. Nothing to do: the first one's answer serves both.

    Where the first came on an earlier connection, that answer is in this session's `take_owed()` once it is durable.
    """

    message_id: str


class CommandAnswered(msgspec.Struct, frozen=True, gc=False):
    """The station answered our CALL. `reply` is a CALLRESULTERROR to send back (2.1, a bad answer), usually None."""

    message_id: str
    outcome: CommandOutcome
    reply: bytes | None = None


class Ignored(msgspec.Struct, frozen=True, gc=False):
    """Nothing to do: counted under `reason`. `detail` for the log, printable and cut."""

    reason: str
    detail: str = ""


Received = Answer | Append | Repeat | CommandAnswered | Ignored

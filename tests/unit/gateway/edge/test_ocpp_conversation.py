"""Messages into the journal and answers out: nothing state-changing is answered before it is durable."""

import asyncio
from collections import Counter
from typing import cast

from gateway.core.errors import JournalBroken, JournalFull
from gateway.core.ids import Channel, DeviceId, Offset, TenantId
from gateway.core.limits import CHARGER_ROUTES_MAX
from gateway.edge.ocpp_connection import OcppConnection
from gateway.edge.ocpp_conversation import Conversation
from gateway.edge.ocpp_server import OcppServer
from gateway.journal.memory import MemoryJournal
from gateway.wire.ocpp.commands import CommandOutcome, CommandStatus
from gateway.wire.ocpp.session import Answer, Append, CommandAnswered, Ignored, Received, Repeat, StationSession

NO = CommandOutcome(status=CommandStatus.REJECTED, answer=b"{}")


class Session:
    """A state machine that does as it is told by the message: verb, then id."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def receive(self, frame: bytes, *, now_ns: int) -> Received:
        """See StationSession."""
        assert now_ns == 7
        verb, _, rest = frame.decode().partition(" ")
        answer = f"answer {rest}".encode()
        match verb:
            case "keep":
                return Append(Channel("ocpp1.6/MeterValues"), frame, answer, None, rest)
            case "start":
                conf = Channel("ocpp1.6/StartTransaction.conf")
                return Append(Channel("ocpp1.6/StartTransaction"), frame, answer, conf, rest)
            case "send":
                return Append(Channel("ocpp2.1/NotifyPeriodicEventStream"), frame, None, None, rest)
            case "now":
                return Answer(answer)
            case "bad":
                return Answer(answer, "bad_json", "at $.x")
            case "repeat":
                return Repeat(rest)
            case "command":
                return CommandAnswered(rest, NO, b"reply")
            case _:
                return Ignored("unmatched_result", "nobody asked")

    def settled(self, message_id: str) -> None:
        """See StationSession."""
        self.said.append(f"settled {message_id}")

    def failed(self, message_id: str) -> bytes:
        """See StationSession."""
        self.said.append(f"failed {message_id}")
        return f"error {message_id}".encode()

    def take_owed(self) -> list[bytes]:
        """See StationSession."""
        return [b"owed"]


class Place:
    """What a conversation sees of its server and its connection."""

    tenant, device_id = TenantId("acme"), DeviceId("cp-1")

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.received = self.acknowledged = self.settled_runs = 0
        self.sent: list[list[bytes]] = []
        self.lines: list[tuple[str, str]] = []
        self.outcomes: list[tuple[str, CommandOutcome]] = []
        self.counts: Counter[str] = Counter()
        self.commands = self
        self.session = Session()
        self.conversation = Conversation(
            cast("OcppServer", self), cast("OcppConnection", self), cast("StationSession", self.session)
        )

    def now_ns(self) -> int:
        """See OcppServer."""
        return 7

    def count(self, reason: str, n: int = 1) -> None:
        """See Counter."""
        self.counts[reason] += n

    def send(self, messages: list[bytes]) -> None:
        """See OcppConnection."""
        if messages:
            self.sent.append(messages)

    def settled(self, connection: object) -> None:
        """See OcppServer."""
        assert connection is self
        self.settled_runs += 1

    def log_frame(self, connection: object, reason: str, detail: str) -> None:
        """See OcppServer."""
        self.lines.append((reason, detail))

    def answered(self, station: object, message_id: str, outcome: CommandOutcome) -> None:
        """See ChargerCommands."""
        self.outcomes.append((message_id, outcome))

    def kept(self) -> list[tuple[str, bytes]]:
        """Return channel and payload of what is durable."""
        batch = self.journal.read(Offset(0), rows_max=100, bytes_max=1 << 20)
        return [(entry.envelope.route.channel, entry.envelope.payload) for entry in batch.entries()]


def test_answers_wait_for_the_disk_in_order_of_receipt() -> None:
    """One that waits for nothing waits behind those that do, and all of a chunk leave together."""
    place = Place()
    place.conversation.take([b"now 1", b"keep 2", b"bad 3", b"send 4", b"keep 5"])
    place.conversation.take([b"now 6"])
    assert ([], 3, True) == (place.sent, place.conversation.unanswered, place.conversation.has_runs)
    place.journal.commit()
    assert [[b"answer 1", b"answer 2", b"answer 3", b"answer 5", b"answer 6"]] == place.sent
    assert ["settled 2", "settled 5"] == place.session.said
    assert (3, 3, 0, 1) == (place.received, place.acknowledged, place.conversation.unanswered, place.settled_runs)
    assert [("bad_json", "at $.x")] == place.lines


def test_answer_that_waits_for_nothing_leaves_at_once() -> None:
    """A Heartbeat costs no disk."""
    place = Place()
    place.conversation.take([b"now 1", b"now 2"])
    assert [[b"answer 1", b"answer 2"]] == place.sent
    place.journal.commit()
    assert [] == place.kept()


def test_answer_that_carries_a_fact_is_kept_right_behind_its_call() -> None:
    """In one append, so that no crash comes between."""
    place = Place()
    place.conversation.take([b"start 1", b"keep 2"])
    place.journal.commit()
    assert [
        ("ocpp1.6/StartTransaction", b"start 1"),
        ("ocpp1.6/StartTransaction.conf", b"answer 1"),
        ("ocpp1.6/MeterValues", b"keep 2"),
    ] == place.kept()
    assert (2, 2) == (place.received, place.acknowledged)


def test_not_durable_is_an_error_for_each_call_and_nothing_for_a_send() -> None:
    """The charger keeps the message and sends it again."""
    place = Place()
    place.journal.fail(JournalFull("disk full"))
    place.conversation.take([b"keep 1", b"now 2", b"send 3", b"start 4"])
    place.journal.commit()
    assert [[b"error 1", b"answer 2", b"error 4"]] == place.sent
    assert (["failed 1", "failed 4"], 3) == (place.session.said, place.counts["not_durable"])
    assert (3, 0, 0) == (place.received, place.acknowledged, place.conversation.unanswered)


def test_refused_append_is_answered_behind_those_that_wait() -> None:
    """The journal broke between two chunks; order stands."""
    place = Place()
    place.conversation.take([b"keep 1"])
    place.journal.fail(JournalBroken("fdatasync failed"))
    place.conversation.take([b"keep 2", b"now 3"])
    assert ([], 1) == (place.sent, place.conversation.unanswered)
    place.journal.commit()
    assert [[b"error 1", b"error 2", b"answer 3"]] == place.sent


def test_refused_append_alone_is_answered_at_once() -> None:
    """Nothing is left waiting."""
    place = Place()
    place.journal.fail(JournalBroken("fdatasync failed"))
    place.conversation.take([b"keep 1"])
    assert ([[b"error 1"]], False) == (place.sent, place.conversation.has_runs)


def test_repeat_has_one_answer() -> None:
    """That of its first."""
    place = Place()
    place.conversation.take([b"keep 1", b"repeat 1"])
    place.journal.commit()
    assert [[b"answer 1"]] == place.sent


def test_command_result_goes_to_the_commands() -> None:
    """And what has to be said about it goes back."""
    place = Place()
    place.conversation.take([b"command c1"])
    assert ([("c1", NO)], [[b"reply"]]) == (place.outcomes, place.sent)


def test_unmatched_result_is_a_line_and_no_more() -> None:
    """Never a close."""
    place = Place()
    place.conversation.take([b"what"])
    assert ([("unmatched_result", "nobody asked")], []) == (place.lines, place.sent)


def test_answers_owed_to_an_earlier_connection_keep_the_order() -> None:
    """They wait behind what waits already."""
    place = Place()
    place.conversation.send_owed()
    place.conversation.take([b"keep 1"])
    place.conversation.send_owed()
    place.journal.commit()
    assert [[b"owed"], [b"answer 1", b"owed"]] == place.sent


def test_channel_has_one_route() -> None:
    """The journal compares routes by identity first; and there are not more than the bound."""
    conversation = Place().conversation
    first = conversation.route(Channel("ocpp1.6/MeterValues"))
    assert first is conversation.route(Channel("ocpp1.6/MeterValues"))
    assert ("acme", "cp-1", "ocpp") == (first.tenant, first.device_id, first.source)
    for i in range(2 * CHARGER_ROUTES_MAX):
        conversation.route(Channel(f"ocpp1.6/{i}"))
    assert CHARGER_ROUTES_MAX >= len(conversation._routes)


def test_drained_is_told_once_nothing_waits() -> None:
    """A stop waits for it."""

    async def drain() -> list[bool]:
        place = Place()
        place.conversation.take([b"keep 1"])
        drained = place.conversation.wait_drained()
        place.conversation.take([b"keep 2"])
        place.journal.commit()
        return [drained.done(), place.conversation.has_runs]

    assert [True, False] == asyncio.run(drain())

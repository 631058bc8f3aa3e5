"""What one charger says, into the journal, and the answers out, each once its message is on disk.

The order that the promise depends on, per chunk of bytes: 1 read the messages, 2 hand what must be kept to the journal,
3 wait for `on_durable`, 4 write the answers, in order of receipt. One call to the journal per chunk.
"""

import asyncio
from typing import TYPE_CHECKING, Final, assert_never

from gateway.core.errors import JournalError
from gateway.core.ids import Channel
from gateway.core.limits import CHARGER_ROUTES_MAX
from gateway.core.records import Route
from gateway.wire.ocpp.session import Answer, Append, CommandAnswered, Ignored, Received, Repeat, StationSession

if TYPE_CHECKING:
    from gateway.edge.ocpp_connection import OcppConnection
    from gateway.edge.ocpp_server import OcppServer

SOURCE: Final = "ocpp"
"""Source of all that chargers say, in the journal."""

_Run = list[tuple[bytes | None, str | None]]
"""Answers of one append in order of receipt: frame, and the id of the call that it waits for if it does."""


class Conversation:
    """One open connection's messages and answers. It outlives its socket until the disk has said what became of them.

    Args:
        server: Owner of everything that connections share.
        connection: Where answers go.
        session: What there is to say.

    Attributes:
        session: The state machine.
        unanswered: Calls that wait for the disk.
    """

    __slots__ = ("_connection", "_drained", "_routes", "_runs", "_server", "session", "unanswered")

    def __init__(self, server: "OcppServer", connection: "OcppConnection", session: StationSession) -> None:
        self._server = server
        self._connection = connection
        # A list: it holds a run or two, and an empty deque takes 600 bytes of every idle connection.
        self._runs: list[_Run] = []
        self._routes: dict[Channel, Route] = {}
        self._drained: asyncio.Future[None] | None = None
        self.session = session
        self.unanswered = 0

    def take(self, messages: list[bytes]) -> None:
        """Take messages in order of receipt."""
        server, receive = self._server, self.session.receive
        now_ns = server.now_ns()
        run: _Run = []
        routes: list[Route] = []
        payloads: list[bytes] = []
        appended = 0
        for message in messages:
            received = receive(message, now_ns=now_ns)
            if type(received) is not Append:
                self._take_other(received, run)
                continue
            appended += 1
            answer = received.answer
            routes.append(self.route(received.channel))
            payloads.append(received.payload)
            if received.answer_channel is not None and answer is not None:
                routes.append(self.route(received.answer_channel))
                payloads.append(answer)
            run.append((answer, received.message_id))
        if not routes:
            self._owe(run)
            return
        server.received += appended
        self.unanswered += appended
        try:
            server.journal.append_nowait(now_ns, routes, payloads, self._settle)
        except JournalError:
            self._owe([(frame, None) for frame in self._failed(run)])
            return
        self._runs.append(run)

    def _take_other(self, received: Received, run: _Run) -> None:
        """Take what is not journalled."""
        match received:
            case Answer():
                run.append((received.frame, None))
                if received.reason:
                    self._server.log_frame(self._connection, received.reason, received.detail)
            case CommandAnswered(message_id, outcome, reply):
                if reply is not None:
                    run.append((reply, None))
                self._server.commands.answered(self._connection, message_id, outcome)
            case Ignored(reason, detail):
                self._server.log_frame(self._connection, reason, detail)
            case Repeat():
                pass  # its first waits for the disk, and that answer serves both
            case Append():
                raise AssertionError
            case _:
                assert_never(received)

    def _owe(self, run: _Run) -> None:
        """Send answers that wait for nothing, but not before those of earlier messages."""
        if self._runs:
            self._runs[-1].extend(run)
        else:
            self._connection.send([frame for frame, _ in run if frame is not None])

    def _settle(self, error: JournalError | None) -> None:
        """Answer the oldest run that is not: its messages are on disk. Or say that they are not."""
        run = self._runs.pop(0)
        self._connection.send(self._settled(run) if error is None else self._failed(run))
        self._server.settled(self._connection)
        if self._drained is not None and not self._runs:
            self._drained.set_result(None)
            self._drained = None

    def _settled(self, run: _Run) -> list[bytes]:
        """Return what to send for a run that is durable."""
        frames = []
        for frame, message_id in run:
            if message_id is not None:
                self.unanswered -= 1
                self._server.acknowledged += 1
            if frame is not None:
                frames.append(frame)
                if message_id is not None:
                    self.session.settled(message_id)
        return frames

    def _failed(self, run: _Run) -> list[bytes]:
        """Return what to send for a run that is not: a CALLERROR for each call, and the answers that waited behind."""
        frames = []
        for frame, message_id in run:
            if message_id is not None:
                self.unanswered -= 1
                self._server.count("not_durable")
            if frame is not None:
                frames.append(frame if message_id is None else self.session.failed(message_id))
        return frames

    def send_owed(self) -> None:
        """Send the answers to calls that an earlier connection of this charger made and this one repeated."""
        self._owe([(frame, None) for frame in self.session.take_owed()])

    def route(self, channel: Channel) -> Route:
        """Return the route of a channel of this charger, one object per channel."""
        if (known := self._routes.get(channel)) is not None:
            return known
        if len(self._routes) >= CHARGER_ROUTES_MAX:
            self._routes.clear()
        connection = self._connection
        route = self._routes[channel] = Route(connection.tenant, connection.device_id, SOURCE, channel)
        return route

    @property
    def has_runs(self) -> bool:
        """Whether messages wait for the disk."""
        return bool(self._runs)

    def wait_drained(self) -> "asyncio.Future[None]":
        """Return a future that is done once nothing waits for the disk. Only while something does."""
        assert self._runs
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_future()
        return self._drained

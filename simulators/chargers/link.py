"""A charger's connection: a WebSocket, the `ocpp` package on it, and the queue that outlives it.

Owns the connection, the order of calls and the answers; knows nothing of sessions. One call is outstanding at a time,
as OCPP-J demands. Calls that must not be lost wait in order while the server is away and leave again after it, with the
message id, and so the bytes, of the first time. Only this module, `tap` and `routes` know `websockets` and `ocpp`.
"""

import asyncio
import json
import logging
import random
import ssl
import time
import uuid
from base64 import b64encode
from collections import Counter, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import ocpp.messages
from ocpp import v16, v21, v201
from ocpp.charge_point import (
    camel_to_snake_case,
    remove_nones,
    serialize_as_dict,
    snake_to_camel_case,
)
from ocpp.exceptions import OCPPError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from simulators.chargers.hardware import Version
from simulators.chargers.routes import Handler, Routes
from simulators.chargers.tap import Tap
from simulators.chargers.truth import AnsweredCall, Payload, frame_digest
from simulators.target import Credentials, SimulationError

RECONNECT_FIRST_S, RECONNECT_MAX_S = 0.2, 5.0
CLOSE_TIMEOUT_S = 1.0
QUEUE_MAX = 20_000
"""Calls a charger keeps while it is offline: a day of meter values at 5 s; past that it drops new ones."""
ERROR_TRIES = 10
"""How often a call that must not be lost is repeated after an error of the server's own making."""
_REFUSED = (400, 401, 403, 404)
"""HTTP status of a handshake that no later try mends."""
_SUBPROTOCOLS: dict[Version, str] = {"1.6": "ocpp1.6", "2.0.1": "ocpp2.0.1", "2.1": "ocpp2.1"}
_MODULES: dict[Version, ModuleType] = {"1.6": v16, "2.0.1": v201, "2.1": v21}
_QUIET = logging.getLogger("simulators.chargers.ocpp")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False

# Validation takes a tenth of a millisecond; a thread for it would cost as much again and let calls overtake each other.
ocpp.messages.ASYNC_VALIDATION = False


class CentralSystem(msgspec.Struct, frozen=True, kw_only=True):
    """An OCPP server and the identities it knows.

    Attributes:
        url: Such as `ws://127.0.0.1:9000/ocpp`; the charger's id is appended.
        credentials: Device id -> (username, password) for basic authentication.
        ca: Certificate that the server's must be signed with, PEM, or None for the system's.
        response_timeout_s: A call unanswered for so long means that the connection is dead.
    """

    url: str = "ws://127.0.0.1:9000/ocpp"
    credentials: Mapping[str, Credentials] = msgspec.field(default_factory=dict)
    ca: Path | None = None
    response_timeout_s: float = 30.0


class Outgoing(msgspec.Struct, kw_only=True, eq=False):
    """A call on its way.

    Attributes:
        action: Such as `MeterValues`.
        build: Makes the payload when the call leaves for the first time: an offline start has no transaction id before.
        keep: Whether it outlives a connection.
        on_answer: Called once, with the answer, or None for an error that no repetition mends.
        twist: Makes the payload what no schema allows; such a call leaves without the `ocpp` package.
        copies: How often it is written.
        message_id: The same for all tries.
        payload: Once it is made.
        is_sent: Whether it was ever given to the network.
    """

    action: str
    build: Callable[[], Payload]
    keep: bool
    on_answer: Callable[[Payload | None], None] | None = None
    twist: Callable[[Payload], Payload] | None = None
    copies: int = 1
    message_id: str = msgspec.field(default_factory=lambda: str(uuid.uuid4()))
    payload: Payload | None = None
    is_sent: bool = False


class LinkCounts(msgspec.Struct, kw_only=True):
    """What happened on a charger's connections.

    Attributes:
        sent: Calls given to the network, repeats not counted.
        answered: Of those, answered by a result.
        refused: Of those, answered by an error for good.
        errors: CALLERRORs received.
        resent: Repeated after a reconnect or an error.
        dropped: Never sent: the queue was full, or the connection went away and they do not outlive it.
        invalid_answers: Results that the `ocpp` package finds wrong: a mistake of the server's.
        connections: Made.
        connection_losses: Ended by the server, by a fault or by silence.
        commands: Of the central system, by action.
    """

    sent: int = 0
    answered: int = 0
    refused: int = 0
    errors: int = 0
    resent: int = 0
    dropped: int = 0
    invalid_answers: int = 0
    connections: int = 0
    connection_losses: int = 0
    commands: Counter[str] = msgspec.field(default_factory=Counter)


class _Broken(Exception):
    """The charger's side of the connection broke, on purpose."""


class Link:
    """One charger's calls on their way to the server, and the server's on their way to it.

    Args:
        charger_id: Also the last part of the URL.
        version: Of OCPP.
        server: Where to and who.
        random_: Source of the jitter.
        handlers: Action -> handler; every other command of the version is refused by a valid answer.
        after_answer: Called when the answer to a command has left.
        boot: Makes the BootNotification, or returns None for a charger that says none after a reconnect.
        on_ready: Called when the server has accepted the charger, before what waits leaves.
        on_answered: Called with each answered call.
    """

    def __init__(
        self,
        *,
        charger_id: str,
        version: Version,
        server: CentralSystem,
        random_: random.Random,
        handlers: Mapping[str, Handler],
        after_answer: Callable[[], None],
        boot: Callable[[], Outgoing | None],
        on_ready: Callable[[], None],
        on_answered: Callable[[AnsweredCall], None],
    ) -> None:
        self._charger_id, self._version, self._server, self._random = charger_id, version, server, random_
        self._boot, self._on_ready, self._on_answered = boot, on_ready, on_answered
        self._module = _MODULES[version]
        self._routes = Routes(version, self._module, handlers, after_answer, self._count_command)
        self.counts = LinkCounts()
        self.is_ready = False
        """Whether calls can leave now."""
        self._queue: deque[Outgoing] = deque()
        self._is_filled, self._is_empty, self._has_room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._is_empty.set()
        self._broken: asyncio.Future[float] | None = None
        self._half_open: set[ClientConnection] = set()

    @property
    def pending(self) -> int:
        """Calls unsent or unanswered."""
        return len(self._queue)

    def put_nowait(self, out: Outgoing) -> bool:
        """Take a call; return False for one that needs the connection that is not there, or for want of room."""
        if len(self._queue) >= QUEUE_MAX or not (out.keep or self.is_ready):
            self.counts.dropped += 1
            return False
        self._queue.append(out)
        self._is_filled.set()
        self._is_empty.clear()
        return True

    async def put(self, out: Outgoing, *, waiting_max: int) -> None:
        """Take a call as soon as no more than `waiting_max` wait."""
        while len(self._queue) >= waiting_max:
            self._has_room.clear()
            await self._has_room.wait()
        self.put_nowait(out)

    async def drained(self) -> None:
        """Wait until everything that was put is answered."""
        await self._is_empty.wait()

    def break_(self, *, half_open_s: float = 0.0) -> None:
        """Lose the connection: reset, or with `half_open_s` fall silent and leave it open for so long.

        A half-open connection is followed by a new one after half of the time, so that the server has two of them.
        """
        if self._broken is not None and not self._broken.done():
            self._broken.set_result(half_open_s)

    async def run(self) -> None:
        """Connect and send until cancelled; reconnect with jittered back-off.

        Raises: SimulationError: The server refuses this charger.
        """
        delay_s = RECONNECT_FIRST_S
        try:
            while True:
                socket = await self._connect()
                if socket is not None:
                    self.counts.connections += 1
                    delay_s = RECONNECT_FIRST_S
                    await self._serve(socket)
                    self.counts.connection_losses += 1
                await asyncio.sleep(self._random.uniform(delay_s / 2, delay_s))
                delay_s = min(delay_s * 2, RECONNECT_MAX_S)
        finally:
            for socket in list(self._half_open):
                self._abandon(socket)

    async def _connect(self) -> ClientConnection | None:
        """Return a connection, None where a later try may help. Raises: SimulationError."""
        headers = {}
        if (credentials := self._server.credentials.get(self._charger_id)) is not None:
            headers["Authorization"] = "Basic " + b64encode(":".join(credentials).encode()).decode()
        url = f"{self._server.url.rstrip('/')}/{self._charger_id}"
        tls = None
        if url.startswith("wss:"):
            tls = ssl.create_default_context(cafile=self._server.ca)
        try:
            return await connect(
                url,
                subprotocols=[Subprotocol(_SUBPROTOCOLS[self._version])],
                additional_headers=headers,
                ssl=tls,
                ping_interval=None,
                open_timeout=self._server.response_timeout_s,
                close_timeout=CLOSE_TIMEOUT_S,
                proxy=None,
            )
        except InvalidStatus as exc:
            if exc.response.status_code in _REFUSED:
                raise SimulationError(
                    f"{url} refuses {self._charger_id!r} with HTTP {exc.response.status_code}; give its credentials"
                ) from exc
            return None
        except (OSError, TimeoutError, InvalidHandshake, ConnectionClosed, EOFError):
            return None

    async def _serve(self, socket: ClientConnection) -> None:
        """Send and receive on one connection until it fails."""
        tap = Tap(socket)
        point = self._module.ChargePoint(
            self._charger_id, tap, response_timeout=self._server.response_timeout_s, logger=_QUIET
        )
        point.route_map = self._routes
        self._broken = asyncio.get_running_loop().create_future()
        # Not a task group: in Python 3.11 it forgets a cancellation that comes while a child fails, and a lost
        # connection is nothing else than a child that fails.
        name, create = self._charger_id, asyncio.create_task
        tasks = [
            create(point.start(), name=f"{name}-receive"),
            create(self._send(point, tap), name=f"{name}-send"),
            create(self._break(socket, self._broken), name=f"{name}-break"),
        ]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._close(socket)
            raise
        finally:
            self.is_ready = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._forget_unkept()
        if not self._broken.done():
            socket.transport.abort()
        for task in ended:
            exc = task.exception()
            if exc is not None and not isinstance(exc, (WebSocketException, OSError, TimeoutError, _Broken)):
                raise exc

    async def _close(self, socket: ClientConnection) -> None:
        """Go properly, as far as the server takes part in it."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await socket.close()
        except TimeoutError:
            socket.transport.abort()

    async def _break(self, socket: ClientConnection, broken: asyncio.Future[float]) -> None:
        half_open_s = await broken
        if half_open_s:
            socket.transport.pause_reading()
            self._half_open.add(socket)
            asyncio.get_running_loop().call_later(half_open_s, self._abandon, socket)
            await asyncio.sleep(half_open_s / 2)
        else:
            socket.transport.abort()
        raise _Broken

    def _abandon(self, socket: ClientConnection) -> None:
        socket.transport.abort()
        self._half_open.discard(socket)

    def _forget_unkept(self) -> None:
        kept = [out for out in self._queue if out.keep]
        self.counts.dropped += len(self._queue) - len(kept)
        for out in self._queue:
            if not out.keep and out.on_answer is not None:
                out.on_answer(None)
        self._queue = deque(kept)
        self._note_length()

    def _note_length(self) -> None:
        self._has_room.set()
        if not self._queue:
            self._is_filled.clear()
            self._is_empty.set()

    async def _send(self, point: Any, tap: Tap) -> None:
        await self._greet(point, tap)
        self.is_ready = True
        self._on_ready()
        while True:
            _end_if_cancelled()
            await self._is_filled.wait()
            await self._until_settled(point, tap, self._queue[0])
            self._queue.popleft()
            self._note_length()

    async def _greet(self, point: Any, tap: Tap) -> None:
        """Say BootNotification until the server accepts the charger."""
        while (out := self._boot()) is not None:
            answer = await self._until_settled(point, tap, out)
            if answer is None or answer.get("status") == "Accepted":
                return
            await asyncio.sleep(max(float(answer.get("interval", 0)), 1.0))

    async def _until_settled(self, point: Any, tap: Tap, out: Outgoing) -> Payload | None:
        """Send until a result or a final error, and pass it on."""
        for attempt in range(ERROR_TRIES):
            answer = await self._exchange(point, tap, out)
            if answer is not None or not out.keep or tap.error_code != "InternalError":
                break
            await asyncio.sleep(min(0.2 * 2**attempt, RECONNECT_MAX_S))
        if answer is None:
            self.counts.refused += 1
        if out.on_answer is not None:
            out.on_answer(answer)
        return answer

    async def _exchange(self, point: Any, tap: Tap, out: Outgoing) -> Payload | None:
        """Send once and return the answer, None for an error. Raises: TimeoutError: No answer."""
        if out.payload is None:
            out.payload = out.build()
            if out.twist is not None:
                out.payload = out.twist(out.payload)
        self.counts.sent += not out.is_sent
        self.counts.resent += out.is_sent
        tap.copies = 1 if out.is_sent else out.copies
        out.is_sent = True
        answer = await (self._raw(tap, out) if out.twist is not None else self._packaged(point, tap, out))
        self.counts.answered += answer is not None
        self.counts.errors += answer is None
        now = datetime.fromtimestamp(time.time(), UTC)
        transaction_id = (answer or {}).get("transactionId") if out.action == "StartTransaction" else None
        self._on_answered(
            AnsweredCall(
                charger=self._charger_id,
                message_id=out.message_id,
                action=out.action,
                digest=frame_digest(tap.frame),
                answered_at=now.isoformat(timespec="microseconds"),
                error=None if answer is not None else str(tap.error_code),
                answer=transaction_id,
            )
        )
        return answer

    async def _packaged(self, point: Any, tap: Tap, out: Outgoing) -> Payload | None:
        """Let the package write the call, check it, and check its answer."""
        assert out.payload is not None
        fields = {next(iter(camel_to_snake_case({name: None}))): value for name, value in out.payload.items()}
        call = getattr(self._module.call, out.action)(**fields)
        try:
            answer = await point.call(call, suppress=False, unique_id=out.message_id)
        except OCPPError:
            if not tap.frame.startswith(f'[2,"{out.message_id}"'):
                raise  # ours: the package found the call itself wrong before it left
            if tap.error_code is None:
                self.counts.invalid_answers += 1
                return {}
            return None
        except TypeError:  # a field in the answer that the standard does not know
            self.counts.invalid_answers += 1
            return {}
        result: Payload = snake_to_camel_case(remove_nones(serialize_as_dict(answer)))
        return result

    async def _raw(self, tap: Tap, out: Outgoing) -> Payload | None:
        """Write the call without the package, which refuses to say what no schema allows."""
        frame = json.dumps([2, out.message_id, out.action, out.payload], separators=(",", ":"), ensure_ascii=False)
        answer = await tap.exchange(out.message_id, frame, self._server.response_timeout_s)
        result: Payload | None = answer[2] if answer[0] == 3 else None
        return result

    def _count_command(self, action: str) -> None:
        self.counts.commands[action] += 1


def _end_if_cancelled() -> None:
    """Raise the cancellation that `asyncio.wait_for` forgets when what it waits for comes at the same moment.

    The `ocpp` package waits for answers so, and Python has it right from 3.12 on.
    """
    if (task := asyncio.current_task()) is not None and task.cancelling():
        raise asyncio.CancelledError

"""The sockets of one listener, from accept to the last byte: who has a place, who is silent, who is not read.

What MQTT and OCPP share about their connections. Refuses to know a protocol: a connection is something that can be
paused and resumed, and the listener says how one is ended.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, Protocol, TypeVar, cast

from gateway.core.limits import (
    CONNECT_TIMEOUT_S,
    CONNECTIONS_MAX,
    JOURNAL_IN_FLIGHT_BYTES_MAX,
    SHUTDOWN_DRAIN_S,
    SOCKET_RECEIVE_BYTES,
    SOCKET_SEND_BYTES,
)
from gateway.core.ports import JournalWriter

SWEEP_S: Final = 1.0
"""How often time-outs are looked at."""
BACKLOG: Final = 4096
"""Connections the kernel may hold that we have not accepted: after our restart a whole fleet connects at once."""


class Connected(Protocol):
    """What a connection must be able to do here."""

    accepted_at_s: float

    def pause(self) -> None:
        """Read nothing more."""
        ...

    def resume(self) -> bool:
        """Read again unless something else speaks against it; return whether nothing does."""
        ...


C = TypeVar("C", bound=Connected)


class Sockets(Generic[C]):
    """All connections of a listener. `listen` and `close` belong to one task.

    Args:
        journal: What is on its way to it decides whether paused connections are read again.
        unauthenticated_max: Sockets before their login; for the next one the longest silent is ended.
        end: Ends a connection for a reason, `connections_max`, `unauthenticated_max`, `connect_timeout` or `shutdown`;
            the last argument says whether at once, without letting it say goodbye.
        sweep: Called every SWEEP_S with the loop's time, after silent sockets were ended.

    Attributes:
        open: Every socket that is not gone.
        paused: Those that are not read because of the journal.
        unauthenticated_max: As given.
    """

    def __init__(
        self,
        *,
        journal: JournalWriter,
        unauthenticated_max: int,
        end: Callable[[C, str, bool], None],
        sweep: Callable[[float], None],
    ) -> None:
        self.open: set[C] = set()
        self.paused: set[C] = set()
        self.unauthenticated_max = unauthenticated_max
        self._journal, self._end, self._on_sweep = journal, end, sweep
        # Sockets before their login, in order of accept.
        self._silent: dict[C, None] = {}
        self._logins: dict[C, asyncio.Task[None]] = {}
        self._is_resume_due = False
        self._is_closing = False
        self._all_left: asyncio.Future[None] | None = None
        self._servers: list[asyncio.Server] = []
        self._tasks = asyncio.TaskGroup()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def unauthenticated(self) -> int:
        """Sockets whose login has not come or not been answered."""
        return len(self._silent) + len(self._logins)

    # ---- life --------------------------------------------------------------------------------------------------------
    async def listen(
        self, connect: Callable[[], asyncio.Protocol], host: str, port: int, *, tls: ssl.SSLContext | None = None
    ) -> int:
        """Listen; return the port, which the system chooses for 0. May be called for several ports.

        Raises: OSError: The address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            connect,
            host,
            port,
            backlog=BACKLOG,
            ssl=tls,
            ssl_handshake_timeout=None if tls is None else CONNECT_TIMEOUT_S,
        )
        for listening in server.sockets:
            # Accepted sockets inherit these. Keep alive finds peers that are gone without a word.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_SEND_BYTES)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_RECEIVE_BYTES)
        if not self._servers:
            await self._tasks.__aenter__()
            self._timer = loop.call_later(SWEEP_S, self._sweep)
        self._servers.append(server)
        return cast("int", server.sockets[0].getsockname()[1])

    async def close(self, drained: Callable[[C], "asyncio.Future[None] | None"]) -> None:
        """Stop accepting and reading, let what was read become durable and be answered, end everybody.

        Args:
            drained: What to wait for before a connection may be ended; None where nothing is on its way.
        """
        assert self._timer is not None, "it listens"
        self._is_closing = True
        for server in self._servers:
            server.close()
        self._timer.cancel()
        for login in self._logins.values():
            login.cancel()
        await self._tasks.__aexit__(None, None, None)
        for connection in self.open:
            connection.pause()
        waiting = [one for connection in self.open if (one := drained(connection)) is not None]
        if waiting:
            await asyncio.wait(waiting, timeout=SHUTDOWN_DRAIN_S)
        self._end_all(abort=False)
        if self.open:
            self._all_left = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._all_left], timeout=SHUTDOWN_DRAIN_S)
        self._end_all(abort=True)
        for server in self._servers:
            await server.wait_closed()

    def _end_all(self, *, abort: bool) -> None:
        for connection in list(self.open):
            self._end(connection, "shutdown", abort)

    # ---- one connection ----------------------------------------------------------------------------------------------
    def arrived(self, connection: C) -> None:
        """Give a new socket a place, if need be that of the socket that has been silent longest."""
        connection.accepted_at_s = asyncio.get_running_loop().time()
        self.open.add(connection)
        self._silent[connection] = None
        if self._is_closing or len(self.open) > CONNECTIONS_MAX:
            self._end(connection, "connections_max", True)  # noqa: FBT003 - a callback takes no keywords
        elif self.unauthenticated > self.unauthenticated_max:
            self._end(next(iter(self._silent)), "unauthenticated_max", True)  # noqa: FBT003

    def log_in(self, connection: C, login: Coroutine[Any, Any, None], *, name: str) -> None:
        """Find out who it is; it is not silent any more, and `left` cancels that."""
        self._silent.pop(connection, None)
        task = self._tasks.create_task(login, name=name)
        self._logins[connection] = task
        task.add_done_callback(lambda _: self._logins.pop(connection, None))

    def ended(self, connection: C) -> None:
        """Note that a connection takes nothing more; its socket may linger."""
        self._silent.pop(connection, None)
        self.paused.discard(connection)

    def left(self, connection: C) -> None:
        """Forget a socket that is gone."""
        self.open.discard(connection)
        if self._all_left is not None and not self.open and not self._all_left.done():
            self._all_left.set_result(None)
        login = self._logins.get(connection)
        if login is not None:
            login.cancel()

    # ---- all ---------------------------------------------------------------------------------------------------------
    def resume_soon(self) -> None:
        """Look at paused connections once, after all calls of this commit."""
        if not self._is_resume_due:
            self._is_resume_due = True
            asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self) -> None:
        self._is_resume_due = False
        if self._is_closing or self._journal.in_flight_bytes > JOURNAL_IN_FLIGHT_BYTES_MAX // 2:
            return
        for connection in list(self.paused):
            if connection.resume():
                self.paused.discard(connection)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        self._timer = loop.call_later(SWEEP_S, self._sweep)
        for connection in list(self._silent):
            if now_s - connection.accepted_at_s < CONNECT_TIMEOUT_S:
                break
            self._end(connection, "connect_timeout", True)  # noqa: FBT003
        self._on_sweep(now_s)
        if self.paused:
            self.resume_soon()

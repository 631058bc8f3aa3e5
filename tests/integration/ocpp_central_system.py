"""A central system on the `ocpp` package that accepts everything and records it: the charger simulator's test peer.

It validates every call and answer against the standard's schemas, unless a test wants to see what no schema allows.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import ocpp.messages
from ocpp import v16, v21, v201
from ocpp.charge_point import camel_to_snake_case, remove_nones, serialize_as_dict, snake_to_camel_case
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

ocpp.messages.ASYNC_VALIDATION = False
MODULES = {"ocpp1.6": v16, "ocpp2.0.1": v201, "ocpp2.1": v21}


class Call:
    """One call as it came in."""

    def __init__(self, charger: str, version: str, frame: str) -> None:
        self.charger, self.version, self.frame = charger, version, frame
        _, self.message_id, self.action, self.payload = json.loads(frame)


class Station:
    """One connected charger."""

    def __init__(self, system: "CentralSystem", socket: ServerConnection, charger: str) -> None:
        self.system, self.socket, self.charger = system, socket, charger
        self.version = str(socket.subprotocol)
        self.module = MODULES[self.version]
        self.point = self.module.ChargePoint(charger, self, response_timeout=10)
        self.point.route_map = {}
        for action in vars(self.module.call):
            if isinstance(getattr(self.module.call, action), type) and hasattr(self.module.call_result, action):
                self.point.route_map[action] = {
                    "_on_action": self._answer(action),
                    "_skip_schema_validation": not system.strict,
                }

    async def recv(self) -> str:
        text = await self.socket.recv()
        assert isinstance(text, str)
        if text.startswith("[2,"):
            call = Call(self.charger, self.version, text)
            self.system.calls.append(call)
            if self.system.swallows(call):
                self.system.swallowed += 1
                return await self.recv()
        self.system.changed.set()
        return text

    async def send(self, text: str) -> None:
        if text.startswith("[4"):
            self.system.errors.append(text)
        await self.socket.send(text)

    async def command(self, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Send a command and return its answer; both are validated."""
        fields = {next(iter(camel_to_snake_case({name: None}))): value for name, value in payload.items()}
        answer = await self.point.call(getattr(self.module.call, action)(**fields), suppress=False)
        result: dict[str, Any] = snake_to_camel_case(remove_nones(serialize_as_dict(answer)))
        return result

    def _answer(self, action: str) -> Callable[..., Any]:
        result = getattr(self.module.call_result, action)

        def on(**payload: Any) -> Any:
            return result(**self.system.answer(self.version, action, payload))

        return on


class CentralSystem:
    """What it has heard.

    Attributes:
        calls: In the order they came, repeats too.
        errors: CALLERRORs that it sent.
        stations: Connected now.
        strict: Whether calls are validated.
        refuses_all: Whether nobody may charge.
        handshake_status: HTTP status that connections are refused with, or None.
        swallows: Which calls are neither answered nor looked at.
    """

    def __init__(self, *, strict: bool = True) -> None:
        self.strict = strict
        self.calls: list[Call] = []
        self.errors: list[str] = []
        self.stations: dict[str, Station] = {}
        self.connections: Counter[str] = Counter()
        self.changed = asyncio.Event()
        self.refuses_all = False
        self.handshake_status: int | None = None
        self.swallows: Callable[[Call], bool] = lambda call: False
        self.swallowed = 0
        self.port = 0
        self._transaction_id = 1000
        self._server: Server | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ocpp"

    def of(self, action: str, charger: str | None = None) -> list[Call]:
        """Return the calls of an action."""
        return [c for c in self.calls if c.action == action and charger in (None, c.charger)]

    async def until(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Return when something has become true; fail after a while."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def answer(self, version: str, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Return what is said to a call, in snake case."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        if action == "BootNotification":
            return {"current_time": now, "interval": 60, "status": "Accepted"}
        if action == "Heartbeat":
            return {"current_time": now}
        if action == "DataTransfer":
            return {"status": "Accepted"}
        if action == "SignCertificate":
            return {"status": "Accepted"}
        if action == "Authorize":
            name = "id_tag_info" if version == "ocpp1.6" else "id_token_info"
            return {name: {"status": self._status}}
        if action == "StartTransaction":
            self._transaction_id += 1
            return {"transaction_id": self._transaction_id, "id_tag_info": {"status": self._status}}
        if action == "TransactionEvent" and "id_token" in payload:
            return {"id_token_info": {"status": self._status}}
        return {}

    @property
    def _status(self) -> str:
        return "Invalid" if self.refuses_all else "Accepted"

    def _judge(self, connection: ServerConnection, _request: Request) -> Response | None:
        if self.handshake_status is None:
            return None
        return connection.respond(HTTPStatus(self.handshake_status), "no\n")

    async def start(self) -> None:
        """Listen; after a `stop`, on the same port again."""
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self.port,
            subprotocols=[Subprotocol(name) for name in MODULES],
            process_request=self._judge,
            ping_interval=None,
            close_timeout=0.5,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Drop every connection and stop listening."""
        assert self._server is not None
        self._server.close()
        for station in list(self.stations.values()):
            station.socket.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        charger = socket.request.path.rsplit("/", 1)[-1]
        station = Station(self, socket, charger)
        self.stations[charger] = station
        self.connections[charger] += 1
        self.changed.set()
        try:
            await station.point.start()
        except ConnectionClosed:
            pass
        finally:
            if self.stations.get(charger) is station:
                del self.stations[charger]


@asynccontextmanager
async def central_system(*, strict: bool = True) -> AsyncIterator[CentralSystem]:
    """A central system on a free port."""
    system = CentralSystem(strict=strict)
    await system.start()
    try:
        yield system
    finally:
        await system.stop()

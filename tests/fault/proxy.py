"""A proxy on the loopback between Voltgate and a real OpenSearch node that behaves as networks and full disks do.

It speaks just enough HTTP/1.1 to know where a request ends and what a bulk request holds. Every request goes to the
node over a connection of its own, and the fault that is in force when it is complete decides what happens to it.
Answers are plain: the proxy asks the node for no compression.
"""

import asyncio
import gzip
import json
import socket
import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Final, Self

import msgspec

HEAD_BYTES_MAX: Final = 2**16
JOIN_TIMEOUT_S: Final = 10.0
FOREVER_S: Final = 3600.0
SLICE_S: Final = 0.05
"""How often a slow line passes on a few bytes."""


# ---- faults ----------------------------------------------------------------------------------------------------------


class Pass(msgspec.Struct, frozen=True):
    """No fault."""


class Refuse(msgspec.Struct, frozen=True):
    """Nobody listens, and what was connected is reset: a node that is down."""


class HalfOpen(msgspec.Struct, frozen=True):
    """Connections are taken, requests are read and nothing is ever said: a machine that hangs."""


class Slow(msgspec.Struct, frozen=True):
    """Everything arrives, a few bytes at a time, in both directions."""

    bytes_per_s: int


class CutAnswer(msgspec.Struct, frozen=True):
    """The node does as it is told, and its answer breaks off after so many bytes."""

    after_bytes: int


class LoseAnswer(msgspec.Struct, frozen=True):
    """The node does as it is told and its answer to bulk requests never arrives: silence, or a reset."""

    reset: bool = False


class BulkStatus(msgspec.Struct, frozen=True):
    """Bulk requests are answered with this status, whether the node applied them or never saw them."""

    status: int
    applied: bool = False
    retry_after_s: int | None = None


class ItemStatus(msgspec.Struct, frozen=True):
    """Every n-th document of a bulk request is answered with this status, applied by the node or withheld from it."""

    status: int
    every: int = 2
    applied: bool = False
    kind: str = "rejected_execution_exception"


Fault = Pass | Refuse | HalfOpen | Slow | CutAnswer | LoseAnswer | BulkStatus | ItemStatus


class Message(msgspec.Struct, frozen=True):
    """A request or an answer.

    Attributes:
        start: First line, without its end.
        headers: Name in lower case, value; without what is about the connection or the length.
        body: Whole and plain.
        length: What it says of the length of its body; an answer to HEAD has none and says one.
    """

    start: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    length: int | None = None

    @property
    def is_bulk(self) -> bool:
        """Whether it is a bulk request."""
        method, target, _ = self.start.split(" ", 2)
        return method in {"POST", "PUT"} and target.partition("?")[0].endswith("/_bulk")

    def to_bytes(self, *extra: tuple[str, str]) -> bytes:
        """Return it as it goes over a connection."""
        length = len(self.body) if self.length is None else self.length
        headers = (*self.headers, ("content-length", str(length)), *extra)
        lines = [self.start, *(f"{name}: {value}" for name, value in headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


class Bulk(msgspec.Struct, frozen=True):
    """A bulk request, document by document: action, its metadata, and its lines."""

    items: tuple[tuple[str, dict[str, Any], bytes], ...]

    @classmethod
    def of(cls, body: bytes) -> Self:
        """Return it from its body."""
        lines = [line for line in body.split(b"\n") if line]
        items, at = [], 0
        while at < len(lines):
            ((action, metadata),) = json.loads(lines[at]).items()
            size = 1 if action == "delete" else 2
            items.append((action, metadata, b"\n".join(lines[at : at + size]) + b"\n"))
            at += size
        return cls(tuple(items))

    def without(self, positions: frozenset[int]) -> bytes:
        """Return the body without these documents."""
        return b"".join(lines for i, (_, _, lines) in enumerate(self.items) if i not in positions)


# ---- the proxy -------------------------------------------------------------------------------------------------------


class ChaosProxy:
    """Listens on a port that stays the same; a context manager with a thread of its own.

    Args:
        host: Where the node is.
        port: Its port.

    Attributes:
        counts: What it did: `connections`, `requests`, `bulks`, `documents` (of bulks), `passed`, and for each fault
            that met a request its name in lower case (`halfopen`, `itemstatus` ...); `items` counts documents that it
            answered itself, `reset` connections that it reset, `unreachable` requests for which there was no answer of
            the node, `gone` connections that broke.
        seen: (index, id, version) of the documents in bulk requests since the fault was last set.
    """

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._fault: Fault = Pass()
        self._changed = asyncio.Event()
        self.counts: Counter[str] = Counter()
        self.seen: set[tuple[str, str, int]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started: Future[None] = Future()
        self._stop = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        # Bound and never listening, it keeps the port ours while nobody listens; a client is refused then.
        self._holder = _bound(0)
        self.port: int = self._holder.getsockname()[1]
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="chaos proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.result(JOIN_TIMEOUT_S)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(JOIN_TIMEOUT_S)
        assert not self._thread.is_alive()
        self._holder.close()

    @property
    def url(self) -> str:
        """Where Voltgate finds its node."""
        return f"http://127.0.0.1:{self.port}"

    def set(self, fault: Fault) -> None:
        """Let a fault begin, or with `Pass()` end; on return it is in force for requests that complete from now on."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self._set(fault), self._loop).result(JOIN_TIMEOUT_S)

    # ---- life --------------------------------------------------------------------------------------------------------
    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._listen()
        self._started.set_result(None)
        await self._stop.wait()
        await self._close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=JOIN_TIMEOUT_S)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=_bound(self.port), limit=HEAD_BYTES_MAX)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._clients:
            self.counts["reset"] += 1
            _reset(writer)

    async def _set(self, fault: Fault) -> None:
        self._fault = fault
        self.seen = set()
        self._changed.set()
        self._changed = asyncio.Event()
        if isinstance(fault, Refuse):
            await self._close()
        elif self._server is None:
            await self._listen()

    # ---- a connection ------------------------------------------------------------------------------------------------
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._clients.add(writer)
        self.counts["connections"] += 1
        try:
            while (request := await _read(reader)) is not None:
                await self._answer(request, writer)
        except (OSError, asyncio.IncompleteReadError):
            self.counts["gone"] += 1
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            self._clients.discard(writer)
            writer.transport.abort()

    async def _answer(self, request: Message, writer: asyncio.StreamWriter) -> None:
        fault, is_bulk = self._fault, request.is_bulk
        self.counts["requests"] += 1
        if is_bulk:
            items = Bulk.of(request.body).items
            self.counts["bulks"] += 1
            self.counts["documents"] += len(items)
            self.seen |= {(one["_index"], one["_id"], one.get("version", 0)) for _, one, _ in items}
        elif isinstance(fault, LoseAnswer | BulkStatus | ItemStatus):
            fault = Pass()
        self.counts["passed" if isinstance(fault, Pass) else type(fault).__name__.lower()] += 1
        match fault:
            case Refuse():
                raise ConnectionResetError
            case HalfOpen():
                await asyncio.sleep(FOREVER_S)
            case Slow(bytes_per_s):
                await _trickle(request.body, bytes_per_s, None, self._changed)
                await _trickle((await self._ask(request)).to_bytes(), bytes_per_s, writer, self._changed)
            case CutAnswer(after_bytes):
                writer.write((await self._ask(request)).to_bytes()[:after_bytes])
                await writer.drain()
                raise ConnectionResetError
            case LoseAnswer(reset):
                await self._ask(request)
                if reset:
                    raise ConnectionResetError
                await asyncio.sleep(FOREVER_S)
            case BulkStatus():
                if fault.applied:
                    await self._ask(request)
                writer.write(_refusal(fault).to_bytes())
            case ItemStatus():
                writer.write((await self._ask_in_part(request, fault)).to_bytes())
            case Pass():
                writer.write((await self._ask(request)).to_bytes())
        await writer.drain()

    async def _ask(self, request: Message) -> Message:
        """Return the node's answer. Raises: OSError: There is none."""
        try:
            reader, writer = await asyncio.open_connection(*self._upstream, limit=HEAD_BYTES_MAX)
        except OSError:
            self.counts["unreachable"] += 1
            raise
        try:
            writer.write(request.to_bytes(("connection", "close")))
            await writer.drain()
            answer = await _read(reader, has_body=not request.start.startswith("HEAD "))
        except (OSError, asyncio.IncompleteReadError) as exc:
            self.counts["unreachable"] += 1
            raise ConnectionResetError from exc
        finally:
            writer.transport.abort()
        if answer is None:
            self.counts["unreachable"] += 1
            raise ConnectionResetError
        return answer

    async def _ask_in_part(self, request: Message, fault: ItemStatus) -> Message:
        """Return an answer that says of every n-th document what the fault says."""
        bulk = Bulk.of(request.body)
        chosen = frozenset(range(fault.every - 1, len(bulk.items), fault.every))
        self.counts["items"] += len(chosen)
        sent = request.body if fault.applied else bulk.without(chosen)
        start = "HTTP/1.1 200 OK"
        headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
        said: dict[str, Any] = {"took": 1, "errors": False, "items": []}
        if sent:
            answer = await self._ask(msgspec.structs.replace(request, body=sent))
            start, headers, said = answer.start, answer.headers, json.loads(answer.body)
            if "items" not in said:
                return answer
        items: list[Any] = []
        of_node = iter(said["items"])
        for i, (action, metadata, _) in enumerate(bulk.items):
            own = next(of_node) if fault.applied or i not in chosen else None
            items.append(own if i not in chosen else {action: _item_refusal(metadata, fault)})
        said |= {"errors": bool(chosen) or said["errors"], "items": items}
        return Message(start, headers, json.dumps(said).encode())


def _item_refusal(metadata: Mapping[str, Any], fault: ItemStatus) -> dict[str, Any]:
    reason = "rejected execution of coordinating operation [chaos]"
    place = {name: metadata[name] for name in ("_index", "_id") if name in metadata}
    return {**place, "status": fault.status, "error": {"type": fault.kind, "reason": reason}}


def _refusal(fault: BulkStatus) -> Message:
    kind = {403: "security_exception", 429: "circuit_breaking_exception"}.get(fault.status, "unavailable")
    body = {"error": {"type": kind, "reason": f"status {fault.status} by the chaos proxy"}, "status": fault.status}
    headers = [("content-type", "application/json; charset=UTF-8")]
    if fault.retry_after_s is not None:
        headers.append(("retry-after", str(fault.retry_after_s)))
    return Message(f"HTTP/1.1 {fault.status} Refused", tuple(headers), json.dumps(body).encode())


# ---- HTTP ------------------------------------------------------------------------------------------------------------


async def _read(reader: asyncio.StreamReader, *, has_body: bool = True) -> Message | None:
    """Return the next message, None at the end of the connection.

    Raises:
        OSError: The connection broke.
        asyncio.IncompleteReadError: It ended inside a message.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    start, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    pairs = [line.partition(":") for line in lines]
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    body = b""
    if has_body and "chunked" in headers.get("transfer-encoding", ""):
        body = await _read_chunks(reader)
    elif has_body:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    if headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    ours = {"connection", "keep-alive", "accept-encoding", "content-length", "content-encoding", "transfer-encoding"}
    kept = {name: value for name, value in headers.items() if name not in ours}
    length = None if has_body else int(headers.get("content-length", "0"))
    return Message(start, tuple(kept.items()), body, length)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    chunks: list[bytes] = []
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        chunks.append(await reader.readexactly(size))
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return b"".join(chunks)


async def _trickle(
    content: bytes, bytes_per_s: int, writer: asyncio.StreamWriter | None, changed: asyncio.Event
) -> None:
    """Pass it on at this speed, or only take the time without a writer; at once what is left when the fault changes."""
    at, step = 0, max(1, int(bytes_per_s * SLICE_S))
    while at < len(content):
        end = len(content) if changed.is_set() else at + step
        if writer is not None:
            writer.write(content[at:end])
        at = end
        if at < len(content):
            await asyncio.sleep(SLICE_S)


def _bound(port: int) -> socket.socket:
    """Return a socket bound to a port of the loopback that others may be bound to as well."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    return made


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST."""
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:  # the peer may have been faster
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    writer.transport.abort()

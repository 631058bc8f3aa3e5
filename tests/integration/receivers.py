"""Receivers of webhooks on the loopback: real sockets, each in a thread of its own, behaving as told."""

import asyncio
import queue
import socket
import ssl
import struct
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_network
from typing import Any

from pydantic import SecretStr

from processors.notices.config import Receiver
from processors.sinks.outbox_schema import Delivery

LOOPBACK = (ip_network("127.0.0.0/8"),)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_c2VjcmV0LW9mLXRoZS1vcGVyYXRvcnMtbmV3LWtleQ=="


class Trouble(Enum):
    """What a receiver does in place of an answer."""

    HANG = "takes the request and says nothing"
    RESET = "resets the connection"
    SLOW_HEADERS = "answers a byte at a time, without end"
    HUGE = "answers 500 with a body without end"
    GARBAGE = "answers what is not HTTP"


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Return an HTTP answer; underscores of header names become dashes."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


Act = bytes | Trouble
OK = answer(200, b"ok")


class HttpReceiver:
    """Answers its requests with `acts` one after the other, then with `then`.

    Use as a context manager; `next` waits for a request, `seen` has all of them.
    """

    def __init__(self, *acts: Act, then: Act = OK, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.then = then
        self.seen: list[Request] = []
        self.sent_bytes = 0
        self._acts = list(acts)
        self._tls, self._host = tls, host
        self._queue: queue.Queue[Request] = queue.Queue()
        self._port: Future[int] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> "HttpReceiver":
        self._thread.start()
        self._port.result(10)
        return self

    def __exit__(self, *_exc: object) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    @property
    def port(self) -> int:
        return self._port.result(10)

    def url(self, host: str = "127.0.0.1") -> str:
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}/hook"

    def next(self, timeout_s: float = 10.0) -> Request:
        """Return the next request, in the order of arrival."""
        return self._queue.get(timeout=timeout_s)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._take, self._host, 0, ssl=self._tls)
        self._port.set_result(server.sockets[0].getsockname()[1])
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks, timeout=5) if self._tasks else None

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            request = await _request(head, reader)
            self.seen.append(request)
            self._queue.put(request)
            await self._act(self._acts.pop(0) if self._acts else self.then, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _act(self, act: Act, writer: asyncio.StreamWriter) -> None:
        match act:
            case bytes():
                writer.write(act)
                await writer.drain()
            case Trouble.HANG:
                await asyncio.sleep(3600)
            case Trouble.RESET:
                # Lingering for 0 s makes the kernel send RST in place of FIN.
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            case Trouble.SLOW_HEADERS:
                writer.write(b"HTTP/1.1 200 OK\r\n")
                while True:
                    writer.write(b"X")
                    await writer.drain()
                    await asyncio.sleep(0.02)
            case Trouble.HUGE:
                writer.write(b"HTTP/1.1 500 Huge\r\nContent-Length: 1099511627776\r\n\r\n")
                while True:
                    writer.write(b"\x1b[31mhuge" * 1000)
                    self.sent_bytes += 9000
                    await writer.drain()
            case Trouble.GARBAGE:
                writer.write(b"220 smtp.example.org ESMTP\r\n")
                await writer.drain()


async def _request(head: bytes, reader: asyncio.StreamReader) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(path=first.split(" ")[1], headers=headers, body=body)


def webhook(url: str, **changes: Any) -> Receiver:
    """Return a generic receiver on the loopback."""
    values: dict[str, Any] = {
        "name": "ops",
        "kind": "webhook",
        "url": SecretStr(url),
        "secrets": (SecretStr(SECRET),),
        "allow_private": LOOPBACK,
        "timeout_s": 5.0,
        "rate_per_minute": 6000.0,
    }
    return Receiver(**(values | changes))


def delivery(**changes: Any) -> Delivery:
    """Return a stored delivery."""
    values: dict[str, Any] = {
        "delivery_id": "n1",
        "notice_id": "n1",
        "receiver": "ops",
        "kind": "webhook",
        "order_key": "g1",
        "reason": "firing",
        "title": "title",
        "body": b'{"specversion":"1.0"}',
        "headers": {"Content-Type": "application/cloudevents+json"},
        "event_at_us": 0,
        "created_at_us": 1_795_000_000_000_000,
        "seq": 1,
        "expires_at_us": 0,
        "state": "queued",
        "attempts": 0,
        "doubts": 0,
        "next_at_us": 0,
        "done_at_us": None,
        "last_error": None,
        "last_status": None,
    }
    return Delivery(**(values | changes))

"""The local HTTP port on a real socket: bounded, silent about itself, alive while others are stuck."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from gateway.core.limits import CONTROL_BODY_BYTES_MAX, CONTROL_THREADS_MAX
from gateway.observe import http as observe_http
from gateway.observe.http import Answer, ObserveServer

pytestmark = pytest.mark.integration

TOKEN = "t0ken"


class Port:
    """A server with one failing check and an echo route."""

    def __init__(self) -> None:
        self.problem: str | None = "is full"
        self.release = threading.Event()
        self.server = ObserveServer(
            host="127.0.0.1",
            port=0,
            registry=CollectorRegistry(),
            live={"loop": lambda: None},
            ready={"loop": lambda: None, "journal": lambda: self.problem},
            routes={"/echo": self.echo, "/wait": self.wait},
            token=TOKEN,
        )
        self.server.start()

    def echo(self, body: bytes) -> Answer:
        return 200, {"body": body.decode()}

    def wait(self, _body: bytes) -> Answer:
        self.release.wait(30)
        return 200, {}

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        connection = self.connect()
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    def raw(self, data: bytes) -> bytes:
        """Send bytes as they are and return the whole answer."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=10) as connection:
            connection.sendall(data)
            return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.fixture
def port() -> Iterator[Port]:
    it = Port()
    yield it
    it.release.set()
    it.server.close()


def test_readiness_names_what_fails(port: Port) -> None:
    """503 with the reason while a check fails, 200 as soon as it does not; liveness is a question of its own."""
    status, body = port.ask("GET", "/readyz")
    assert (status, json.loads(body)) == (503, {"ok": False, "checks": {"loop": "ok", "journal": "is full"}})
    assert port.ask("GET", "/livez")[0] == 200
    port.problem = None
    assert port.ask("GET", "/readyz?verbose")[0] == 200


def test_post_needs_the_token(port: Port) -> None:
    """Only with it is a body read at all; without, the route does not run."""
    assert port.ask("POST", "/echo", b"x", Authorization=f"Bearer {TOKEN}") == (200, b'{"body": "x"}\n')
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": TOKEN}, {"Authorization": "Bearer t0kem"}):
        assert port.ask("POST", "/echo", b"x", **headers)[0] == 401


def test_without_a_token_there_are_no_post_routes() -> None:
    """A process that was given none cannot be told anything."""
    server = ObserveServer(
        host="127.0.0.1", port=0, registry=CollectorRegistry(), live={}, ready={}, routes={"/echo": lambda b: (200, {})}
    )
    server.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", "/echo", b"x", {"Authorization": "Bearer "})
    assert connection.getresponse().status == 404
    connection.close()
    server.close()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /nothing HTTP/1.1\r\n\r\n", b"404"),
        (b"PUT /livez HTTP/1.1\r\n\r\n", b"501"),
        (b"\x16\x03\x01 x y\r\n\r\n", b"400"),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"POST /echo HTTP/1.1\r\nAuthorization: Bearer t0ken\r\n\r\n", b"411"),
        (b"POST /echo HTTP/1.1\r\nAuthorization: Bearer t0ken\r\nContent-Length: -5\r\n\r\n", b"411"),
        (b"POST /echo HTTP/1.1\r\nAuthorization: Bearer t0ken\r\nContent-Length: %d\r\n\r\n", b"413"),
    ],
)
def test_a_bad_request_gets_its_status(port: Port, request_bytes: bytes, status: bytes) -> None:
    """In the form of all other answers, without a word about the machine."""
    if b"%d" in request_bytes:
        request_bytes %= CONTROL_BODY_BYTES_MAX + 1
    answer = port.raw(request_bytes)
    assert answer.split(b" ", 2)[1] == status
    assert b"Python" not in answer
    assert b"<" not in answer


def test_threads_are_bounded(port: Port) -> None:
    """When all are taken, the next connection is closed, and the port recovers once they are free."""
    headers = b"POST /wait HTTP/1.1\r\nAuthorization: Bearer t0ken\r\nContent-Length: 0\r\n\r\n"
    waiting = [
        socket.create_connection(("127.0.0.1", port.server.port), timeout=10) for _ in range(CONTROL_THREADS_MAX)
    ]
    for connection in waiting:
        connection.sendall(headers)
    try:
        refused = port.raw(b"")
    except ConnectionResetError:
        refused = b""
    assert refused == b""
    port.release.set()
    for connection in waiting:
        assert connection.recv(12) == b"HTTP/1.0 200"
        connection.close()
    assert port.ask("GET", "/livez")[0] == 200


def test_a_client_that_sends_nothing_is_closed(monkeypatch: pytest.MonkeyPatch, port: Port) -> None:
    """It holds a thread for a bounded time only."""
    monkeypatch.setattr(observe_http._Handler, "timeout", 0.05)
    assert port.raw(b"GET /livez") == b""


def test_the_port_is_free_after_close(port: Port) -> None:
    """A restart takes it again at once."""
    number = port.server.port
    port.server.close()
    again = ObserveServer(host="127.0.0.1", port=number, registry=CollectorRegistry(), live={}, ready={})
    again.close()

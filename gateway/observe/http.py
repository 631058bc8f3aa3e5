"""The local HTTP port of a process: health, metrics, and a few routes for the programs beside it.

Runs in threads of its own, so that it answers while the loop or a batch is stuck, which is when it is needed. Requests
are few, small and from this machine; everything about them is bounded.
"""

import json
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from hmac import compare_digest
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from gateway.core.limits import CONTROL_BODY_BYTES_MAX, CONTROL_REQUEST_TIMEOUT_S, CONTROL_THREADS_MAX
from gateway.observe.health import Check, failures

STOP_TIMEOUT_S: Final = 2.0
SHUTDOWN_POLL_S: Final = 0.05
"""How often the server looks whether it shall stop; by default half a second, the longest part of a stop."""
_JSON: Final = "application/json"
_DISCARD_BYTES_MAX: Final = 8 * CONTROL_BODY_BYTES_MAX
"""Of a body that is too large so much is read and thrown away, in the time that any request has."""

Answer = tuple[int, Mapping[str, object]]
"""HTTP status and the JSON object of its body."""
Route = Callable[[bytes], Answer]
"""Takes the body of a POST and answers; runs in a thread of the port and may block for seconds."""


class ObserveServer:
    """Serves GET /livez, /readyz, /metrics, and POST routes that need the bearer token.

    Args:
        host: Address to bind.
        port: Port to bind, 0 for a free one.
        registry: Metrics.
        live: Checks of /livez: a failing one means that only a restart helps.
        ready: Checks of /readyz: a failing one means that no work should be sent here now.
        routes: Path to POST route.
        token: What `Authorization: Bearer` must carry on POST routes; without it they do not exist.

    Raises:
        OSError: The address cannot be bound.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        registry: CollectorRegistry,
        live: Mapping[str, Check],
        ready: Mapping[str, Check],
        routes: Mapping[str, Route] | None = None,
        token: str | None = None,
    ) -> None:
        pages = {"/metrics": _metrics_page(registry), "/livez": _health_page(live), "/readyz": _health_page(ready)}
        posts = dict(routes or {}) if token else {}

        class Handler(_Handler):
            pass

        Handler.pages, Handler.posts, Handler.token = pages, posts, token or ""
        self._server = _BoundedServer((host, port), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(SHUTDOWN_POLL_S,), name="observe", daemon=True
        )

    @property
    def port(self) -> int:
        """The bound port."""
        port: int = self._server.server_address[1]
        return port

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def close(self) -> None:
        """Stop accepting and give the port back; requests under way end by themselves."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(STOP_TIMEOUT_S)
        self._server.server_close()


Page = Callable[[], tuple[int, str, bytes]]


def _metrics_page(registry: CollectorRegistry) -> Page:
    return lambda: (HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry))


def _health_page(checks: Mapping[str, Check]) -> Page:
    def page() -> tuple[int, str, bytes]:
        failed = failures(checks)
        status = HTTPStatus.SERVICE_UNAVAILABLE if failed else HTTPStatus.OK
        return status, _JSON, _to_json({"ok": not failed, "checks": {name: failed.get(name, "ok") for name in checks}})

    return page


def _to_json(body: Mapping[str, object]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode() + b"\n"


class _BoundedServer(ThreadingHTTPServer):
    """A thread per request, but never more than a few: the next connection is closed."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._slots = threading.BoundedSemaphore(CONTROL_THREADS_MAX)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # The parent looks up its own host name here, which can block for seconds without a resolver.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        # A client that went away is no event; anything else is a bug of ours, and its traceback belongs on stderr.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One request, one answer, connection closed."""

    pages: Mapping[str, Page]
    posts: Mapping[str, Route]
    token: str
    timeout = CONTROL_REQUEST_TIMEOUT_S
    server_version = "voltgate"
    sys_version = ""

    def do_GET(self) -> None:
        page = self.pages.get(self.path.partition("?")[0])
        if page is None:
            self._refuse(HTTPStatus.NOT_FOUND, f"there are only {', '.join([*self.pages, *self.posts])}")
        else:
            self._send(*page())

    do_HEAD = do_GET  # noqa: N815 - the name is the parent's

    def do_POST(self) -> None:
        route = self.posts.get(self.path)
        length = self.headers.get("Content-Length", "")
        if route is None:
            self._refuse(HTTPStatus.NOT_FOUND, f"POST goes to {', '.join(self.posts) or 'nothing here'}")
        elif not compare_digest(self.headers.get("Authorization", "").encode(), f"Bearer {self.token}".encode()):
            self._refuse(HTTPStatus.UNAUTHORIZED, "send Authorization: Bearer and the content of run/admin.token")
        elif not length.isascii() or not length.isdecimal() or len(length) > 12:
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "send Content-Length")
        elif int(length) > CONTROL_BODY_BYTES_MAX:
            detail = f"the body has {length} bytes, limit is {CONTROL_BODY_BYTES_MAX}"
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
            # Closed now, a client that is still sending would see a reset and not the answer.
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
            left = min(int(length), _DISCARD_BYTES_MAX)
            while left > 0 and (taken := self.rfile.read1(min(left, CONTROL_BODY_BYTES_MAX))):
                left -= len(taken)
        else:
            status, body = route(self.rfile.read(int(length)))
            self._send(status, _JSON, _to_json(body))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that the parent could not parse in the form of all other answers."""
        self._refuse(code, message or explain or HTTPStatus(code).phrase)

    def log_message(self, *_args: object) -> None:
        """Write nothing: requests are no events."""

    def _refuse(self, status: int, detail: str) -> None:
        self._send(status, _JSON, _to_json({"error": HTTPStatus(status).phrase, "detail": detail}))

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.request_version = "HTTP/1.0"  # also where the request was too broken to say one
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

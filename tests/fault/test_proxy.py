"""The chaos proxy itself: what passes, passes unchanged; each fault is what its name says, and is counted."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.fault.proxy import (
    Bulk,
    BulkStatus,
    ChaosProxy,
    CutAnswer,
    Fault,
    HalfOpen,
    ItemStatus,
    LoseAnswer,
    Pass,
    Refuse,
    Slow,
)

pytestmark = pytest.mark.fault
ACTIONS = [{"index": {"_index": "i", "_id": str(n)}} for n in range(4)]
BODY = b"".join(json.dumps(action).encode() + b'\n{"n": 1}\n' for action in ACTIONS)


class Node(ThreadingHTTPServer):
    """Says 201 to every document of a bulk request, and keeps the ids."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ids: list[str] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Node

    def do_POST(self) -> None:
        items = Bulk.of(self.rfile.read(int(self.headers["content-length"]))).items
        self.server.ids += [metadata["_id"] for _, metadata, _ in items]
        said = [{action: {"_id": metadata["_id"], "status": 201}} for action, metadata, _ in items]
        self._say(json.dumps({"took": 3, "errors": False, "items": said}).encode())

    def do_GET(self) -> None:
        self._say(json.dumps({"asked": self.path}).encode())

    def do_HEAD(self) -> None:
        self._say(b"", 7)

    def _say(self, body: bytes, length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@contextmanager
def node_behind(fault: Fault) -> Iterator[tuple[Node, ChaosProxy]]:
    with Node() as node, ChaosProxy("127.0.0.1", node.server_port) as proxy:
        thread = threading.Thread(target=node.serve_forever, args=(0.01,))
        thread.start()
        try:
            proxy.set(fault)
            yield node, proxy
        finally:
            node.shutdown()
            thread.join(10)


@contextmanager
def client_of(proxy: ChaosProxy, timeout_s: float = 10.0) -> Iterator[http.client.HTTPConnection]:
    client = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=timeout_s)
    try:
        yield client
    finally:
        client.close()


def ask(client: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    client.request(method, path, body)
    answer = client.getresponse()
    text = answer.read()
    return answer.status, json.loads(text) if text else None


def statuses(said: dict[str, Any]) -> list[int]:
    return [item["index"]["status"] for item in said["items"]]


def test_without_a_fault_everything_passes_over_one_connection():
    """Bulk, GET and HEAD, one after the other."""
    with node_behind(Pass()) as (node, proxy), client_of(proxy) as client:
        assert [201] * 4 == statuses(ask(client, "POST", "/_bulk", BODY)[1])
        assert (200, {"asked": "/_cluster/health?x=1"}) == ask(client, "GET", "/_cluster/health?x=1")
        client.request("HEAD", "/i")
        answer = client.getresponse()
        assert ("7", b"") == (answer.getheader("content-length"), answer.read())
        assert ["0", "1", "2", "3"] == node.ids
        assert {"connections": 1, "requests": 3, "bulks": 1, "documents": 4, "passed": 3} == dict(proxy.counts)


def test_refused_client_is_told_at_once_and_finds_the_same_port_later():
    """Nobody listens; what was connected is reset; afterwards all is as before."""
    with node_behind(Pass()) as (_, proxy), client_of(proxy) as connected:
        ask(connected, "GET", "/")
        proxy.set(Refuse())
        with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
            ask(connected, "GET", "/")
        with client_of(proxy) as refused, pytest.raises(ConnectionRefusedError):
            ask(refused, "GET", "/")
        proxy.set(Pass())
        with client_of(proxy) as late:
            assert 200 == ask(late, "GET", "/")[0]
        assert 1 == proxy.counts["reset"]


@pytest.mark.parametrize(("fault", "reaches"), [(HalfOpen(), 0), (LoseAnswer(), 4)], ids=["half-open", "lost-answer"])
def test_silence_ends_with_the_clients_patience(fault, reaches):
    """A machine that hangs applies nothing; an answer that is lost was given to what is applied."""
    with node_behind(fault) as (node, proxy), client_of(proxy, timeout_s=0.3) as client:
        with pytest.raises(TimeoutError):
            ask(client, "POST", "/i/_bulk", BODY)
        assert (reaches, 1) == (len(node.ids), proxy.counts[type(fault).__name__.lower()])


def test_lost_answer_may_be_a_reset():
    """The node applied it all the same, and what is no bulk request passes."""
    with node_behind(LoseAnswer(reset=True)) as (node, proxy), client_of(proxy) as client:
        assert 200 == ask(client, "GET", "/")[0]
        with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
            ask(client, "POST", "/_bulk", BODY)
        assert 4 == len(node.ids)


def test_answer_breaks_off_in_the_middle():
    """So many bytes, then the end."""
    with node_behind(CutAnswer(after_bytes=250)) as (node, proxy), client_of(proxy) as client:
        with pytest.raises((http.client.HTTPException, ConnectionResetError)):
            ask(client, "POST", "/_bulk", BODY)
        assert 4 == len(node.ids)


def test_slow_line_is_slow_until_it_is_mended():
    """A request of 180 bytes takes longer than a client waits, and no more than that once the fault has ended."""
    with node_behind(Slow(bytes_per_s=200)) as (_, proxy):
        with client_of(proxy, timeout_s=0.2) as impatient, pytest.raises(TimeoutError):
            ask(impatient, "POST", "/_bulk", BODY)
        proxy.set(Pass())
        with client_of(proxy, timeout_s=5) as client:
            assert 200 == ask(client, "POST", "/_bulk", BODY)[0]
        assert 1 == proxy.counts["slow"]


@pytest.mark.parametrize("applied", [False, True], ids=["withheld", "applied"])
@pytest.mark.parametrize("status", [403, 429, 503])
def test_bulk_status_stands_for_the_nodes_answer(status, applied):
    """Whether the node saw it or not; a time to wait may be said."""
    with node_behind(BulkStatus(status, applied=applied, retry_after_s=2)) as (node, proxy), client_of(proxy) as client:
        client.request("POST", "/_bulk", BODY)
        answer = client.getresponse()
        assert (status, "2") == (answer.status, answer.getheader("retry-after"))
        assert status == json.loads(answer.read())["status"]
        assert (4 if applied else 0) == len(node.ids)


@pytest.mark.parametrize(("applied", "ids"), [(False, ["0", "2"]), (True, ["0", "1", "2", "3"])], ids=["no", "yes"])
def test_every_second_document_is_answered_by_the_fault(applied, ids):
    """The others keep the node's own answers, in their places."""
    with node_behind(ItemStatus(429, every=2, applied=applied)) as (node, proxy), client_of(proxy) as client:
        _, said = ask(client, "POST", "/_bulk", BODY)
        assert ([201, 429, 201, 429], True) == (statuses(said), said["errors"])
        assert ids == node.ids
        assert 2 == proxy.counts["items"]


def test_every_document_may_be_answered_by_the_fault():
    """A request of which nothing is left is not sent."""
    with node_behind(ItemStatus(429, every=1)) as (node, proxy), client_of(proxy) as client:
        _, said = ask(client, "POST", "/_bulk", BODY)
        assert ([429] * 4, []) == (statuses(said), node.ids)


def test_node_that_is_gone_resets_the_client():
    """As the node itself would."""
    with ChaosProxy("127.0.0.1", 9) as proxy, client_of(proxy) as client:
        with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
            ask(client, "GET", "/")
        assert 1 == proxy.counts["unreachable"]


def test_documents_that_were_asked_for_are_remembered_until_the_next_fault():
    """Index, id and version, each once, whatever became of them."""
    with node_behind(BulkStatus(429)) as (_, proxy), client_of(proxy) as client:
        for _ in range(2):
            ask(client, "POST", "/_bulk", BODY)
        assert {("i", str(n), 0) for n in range(4)} == proxy.seen
        proxy.set(Pass())
        assert set() == proxy.seen

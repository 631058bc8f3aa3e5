"""The servers under test: our gateway as a user starts it, Mosquitto in memory, and the counting sink."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.bench.harness import BenchError, Child, Workspace, free_port, listens, python, wait_until
from tests.bench.machine import mosquitto_path, mosquitto_version

MOSQUITTO_CONF = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
log_dest none
max_inflight_messages 0
max_queued_messages 0
"""


class Server(msgspec.Struct, frozen=True):
    """A running MQTT server.

    Attributes:
        child: Its process.
        port: Where it listens on the loopback.
        directory: Where it keeps what it keeps.
    """

    child: Child
    port: int
    directory: Path


@contextmanager
def gateway(workspace: Workspace) -> Iterator[Server]:
    """Run `python -m gateway` on an empty data directory, with its defaults but for the port and anonymous access."""
    data, port = workspace.fresh("gateway"), free_port()
    environ = {
        "VOLTGATE__GATEWAY__MQTT__PORT": str(port),
        "VOLTGATE__GATEWAY__MQTT__ALLOW_ANONYMOUS": "true",
        "VOLTGATE__GATEWAY__OCPP__PORT": "0",
    }
    with Child(python("gateway", "--data", data), log=data / "gateway.log", environ=environ) as child:
        wait_until("listening", lambda: listens(port), child=child)
        yield Server(child, port, data)
    workspace.discard(data)


@contextmanager
def mosquitto(workspace: Workspace) -> Iterator[Server]:
    """Run Mosquitto: memory only, no limit on what is in flight or queued. Raises: BenchError: It is not here."""
    program = mosquitto_path()
    if program is None:
        raise BenchError("mosquitto is not on this machine; Debian package `mosquitto`")
    directory, port = workspace.fresh("mosquitto"), free_port()
    conf = directory / "mosquitto.conf"
    conf.write_text(MOSQUITTO_CONF.format(port=port))
    with Child([program, "-c", str(conf)], log=directory / "mosquitto.log") as child:
        wait_until("listening", lambda: listens(port), child=child)
        yield Server(child, port, directory)
    workspace.discard(directory)


@contextmanager
def sink(workspace: Workspace) -> Iterator[Server]:
    """Run the counting sink."""
    directory, port = workspace.fresh("sink"), free_port()
    with Child(python("tests.bench.sink", port), log=directory / "sink.log") as child:
        wait_until("listening", lambda: listens(port), child=child)
        yield Server(child, port, directory)
    workspace.discard(directory)


def mosquitto_name() -> str | None:
    """Return what the peer is called in the results, None when it cannot run here."""
    found = mosquitto_version()
    return None if found is None else f"Mosquitto {found}, memory only"

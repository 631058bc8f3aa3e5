"""The OCPP servers under test: our gateway as a user starts it, and the two libraries that others build on."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final

from tests.bench.harness import BenchError, Child, Workspace, free_port, listens, python, wait_until
from tests.bench.servers import Server
from tests.services import npm

Start = Callable[[Workspace], AbstractContextManager[Server]]

PACKAGE: Final = f"ocpp {version('ocpp')} on websockets {version('websockets')}, memory only"
WEBSOCKETS: Final = f"websockets {version('websockets')}, its server with its defaults"
RPC: Final = f"ocpp-rpc {npm.VERSIONS['ocpp-rpc']} strict, memory only"
_RPC_SERVER: Final = Path(__file__).with_name("ocpp_rpc_server.js")


def gateway_environ(port: int, *, allow_unauthenticated: bool = True) -> dict[str, str]:
    """Return the settings of a gateway that takes chargers on a port, with its defaults otherwise."""
    return {
        "VOLTGATE__GATEWAY__MQTT__PORT": "0",
        "VOLTGATE__GATEWAY__OCPP__PORT": str(port),
        "VOLTGATE__GATEWAY__OCPP__ALLOW_UNAUTHENTICATED": str(allow_unauthenticated).lower(),
    }


@contextmanager
def gateway(workspace: Workspace) -> Iterator[Server]:
    """Run `python -m gateway` on an empty data directory, that admits everybody from this machine."""
    data, port = workspace.fresh("gateway"), free_port()
    with Child(python("gateway", "--data", data), log=data / "gateway.log", environ=gateway_environ(port)) as child:
        wait_until("listening", lambda: listens(port), child=child)
        yield Server(child, port, data)
    workspace.discard(data)


def package(workspace: Workspace) -> AbstractContextManager[Server]:
    """Run a server on the `ocpp` package."""
    port = free_port()
    return _run(workspace, "ocpp-package", python("tests.bench.ocpp_package_server", port), port=port)


def silent_websockets(workspace: Workspace) -> AbstractContextManager[Server]:
    """Run the server of websockets alone."""
    port = free_port()
    return _run(workspace, "websockets", python("tests.bench.ocpp_package_server", port, "--silent"), port=port)


def sink(workspace: Workspace) -> AbstractContextManager[Server]:
    """Run the server that answers with a constant."""
    port = free_port()
    return _run(workspace, "ocpp-sink", python("tests.bench.ocpp_sink", port), port=port)


def rpc(workspace: Workspace) -> AbstractContextManager[Server]:
    """Run ocpp-rpc. Raises: BenchError: It is not here."""
    port = free_port()
    command, environ = rpc_command(port)
    return _run(workspace, "ocpp-rpc", command, port=port, environ=environ)


def rpc_command(port: int) -> tuple[list[str], dict[str, str]]:
    """Return how to start ocpp-rpc, and its environment. Raises: BenchError: It is not here."""
    node, modules = shutil.which("node"), npm.install("ocpp-rpc")
    if node is None or modules is None:
        raise BenchError("npm ocpp-rpc is not on this machine; Debian packages `nodejs npm`, then make test")
    return [node, str(_RPC_SERVER), str(port)], {"NODE_PATH": str(modules)}


def has_rpc() -> bool:
    """Return whether ocpp-rpc can run here."""
    return shutil.which("node") is not None and npm.install("ocpp-rpc") is not None


@contextmanager
def _run(
    workspace: Workspace, name: str, command: Sequence[str], *, port: int, environ: dict[str, str] | None = None
) -> Iterator[Server]:
    directory = workspace.fresh(name)
    with Child(command, log=directory / f"{name}.log", environ=environ) as child:
        wait_until("listening", lambda: listens(port), child=child)
        yield Server(child, port, directory)
    workspace.discard(directory)

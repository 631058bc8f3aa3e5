"""The black-box suite of npm ocpp-ws-cli, and exact answers where six of its checks pass whatever happens."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.integration.mqtt_server import wait_until
from tests.integration.ocpp_live_central import PASSWORD, LiveCentral, live_central
from tests.services import npm
from tests.services.require import require

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120), pytest.mark.xdist_group("ocpp_ws_cli")]
SUITES = {"transport": 7, "rpc": 8, "security": 4, "chaos": 2}
"""What `--suite all` runs one after the other, and the checks in each: together 21. Most of the time they sleep."""
VERSIONS = ("ocpp1.6", "ocpp2.0.1")
ALL_VERSIONS = (*VERSIONS, "ocpp2.1")
SUITE_TIMEOUT_S = 60
HASTY_SUITE, HASTY_CHECK = "rpc", "WebSocket ping/pong"
"""The client leaves the pong 100 ms and then ends the connection itself. Starting eight of it takes longer on a
small machine: so this check comes before the others start, and again where it alone failed."""


def station(version: str, suite: str) -> str:
    """Return the identity that a suite uses."""
    return f"{version}-{suite}"


@pytest.fixture(scope="module")
def central(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCentral]:
    """A server for all tests of this module."""
    with live_central(tmp_path_factory.mktemp("central")) as central:
        yield central


class Suite:
    """One suite of the program, running as a station of a central system since it was made."""

    def __init__(self, central: LiveCentral, directory: Path, version: str, name: str) -> None:
        node, modules = shutil.which("node"), npm.install("ocpp-ws-cli")
        require("node with npm", node)
        require("ocpp-ws-cli from npm", modules)
        assert node is not None
        assert modules is not None
        identity = station(version, name)
        endpoint = f"ws://{identity}:{PASSWORD}@127.0.0.1:{central.port}/ocpp"
        program = str(modules / "ocpp-ws-cli" / "dist" / "index.js")
        command = [node, program, "test", "--endpoint", endpoint, "--identity", identity, "--protocol", version]
        command += ["--suite", name, "--report", "json", "--report-dir", str(directory)]
        self._directory = directory
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )

    def checks(self) -> list[dict[str, Any]]:
        """Wait for its end and return what it found."""
        # It exits with 0 whatever it found, so only the report tells.
        assert 0 == self._process.wait(SUITE_TIMEOUT_S)
        (report,) = self._directory.glob("*.json")
        checks: list[dict[str, Any]] = json.loads(report.read_text())["testResults"]
        return checks


@pytest.fixture(scope="module")
def results(
    central: LiveCentral, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Run all suites in all versions at the same time and return their checks by (version, suite)."""

    def start(version: str, name: str) -> Suite:
        return Suite(central, tmp_path_factory.mktemp("report"), version, name)

    running = {(version, HASTY_SUITE): start(version, HASTY_SUITE) for version in VERSIONS}
    for version in VERSIONS:
        # Each check has a connection of its own, so at the third the hasty one, its second, is over.
        wait_until(partial(has_connected, central, station(version, HASTY_SUITE), 3), "the third check")
    rest = [(version, name) for version in VERSIONS for name in SUITES if name != HASTY_SUITE]
    running |= {each: start(*each) for each in rest}
    checks = {each: suite.checks() for each, suite in running.items()}
    for version in VERSIONS:
        each = version, HASTY_SUITE
        if {HASTY_CHECK} == set(failures(checks[each])):
            checks[each] = start(*each).checks()
    return checks


def has_connected(central: LiveCentral, identity: str, times: int) -> bool:
    """Return whether a station has connected so many times."""
    return central.channels(identity).count("ocpp/connected") >= times


def failures(checks: list[dict[str, Any]]) -> dict[str, str | None]:
    """Return name and issue of the checks that failed."""
    return {check["name"]: check.get("issue") for check in checks if not check["passed"]}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("suite", SUITES)
def test_every_check_passes(version: str, suite: str, results: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
    """All 21 checks pass, in 1.6 too: none is answered in the other version's spelling."""
    checks = results[version, suite]
    assert {} == failures(checks)
    assert SUITES[suite] == len(checks)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_check_left_anything_but_connections(
    version: str, central: LiveCentral, results: dict[tuple[str, str], list[dict[str, Any]]]
) -> None:
    """Nothing that the suite sends is fit to be journalled; every connection it opened was noted, and its end."""
    assert results
    for suite in SUITES:
        central.wait_gone(station(version, suite))
        assert [] == central.said(station(version, suite))
    opened, ended = (
        [each for suite in SUITES for each in central.entries(station(version, suite)) if each.route.channel == channel]
        for channel in ("ocpp/connected", "ocpp/disconnected")
    )
    assert len(opened) == len(ended)
    assert len(opened) >= sum(SUITES.values()) - 2  # two checks are refused in the handshake


# ---- what the suite does not see -------------------------------------------------------------------------------------
HEARTBEAT = [2, "after", "Heartbeat", {}]
REFUSALS: dict[str, tuple[list[object], object, dict[str, str | None]]] = {
    "Server rejects invalid message type": (
        [99, "m-1", "Foo", {}],
        "m-1",
        {"ocpp1.6": None, "ocpp2.0.1": "MessageTypeNotSupported", "ocpp2.1": "MessageTypeNotSupported"},
    ),
    "Server rejects unknown action (NotImplemented)": (
        [2, "m-2", "ThisActionDoesNotExist", {}],
        "m-2",
        dict.fromkeys(ALL_VERSIONS, "NotImplemented"),
    ),
    "Server enforces MessageId is a string": (
        [2, 12345, "Heartbeat", {}],
        12345,
        dict.fromkeys(ALL_VERSIONS, "ProtocolError"),
    ),
    "Server rejects missing payload in CALL": (
        [2, "m-4", "Heartbeat"],
        "m-4",
        dict.fromkeys(ALL_VERSIONS, "ProtocolError"),
    ),
    "Server rejects non-object payload in CALL": (
        [2, "m-5", "Heartbeat", "NotAnObject"],
        "m-5",
        dict.fromkeys(ALL_VERSIONS, "ProtocolError"),
    ),
}
"""Name of a check that passes when nothing comes: what it sends, and id and code of the one right answer by version.

OCPP 1.6 ignores a message type that it does not know (OCPP-J 1.6, section 4.1.3).
"""


def open_station(central: LiveCentral, identity: str, version: str) -> connect:
    """Return a connection of a station to be entered."""
    url = f"ws://{identity}:{PASSWORD}@127.0.0.1:{central.port}/ocpp/{identity}"
    return connect(url, subprotocols=[Subprotocol(version)])


@pytest.mark.parametrize("version", ALL_VERSIONS)
@pytest.mark.parametrize("check", REFUSALS)
def test_the_right_refusal_comes_and_the_connection_goes_on(check: str, version: str, central: LiveCentral) -> None:
    """Id and code are exact, the next call is answered as ever, and nothing was journalled."""
    sent, message_id, codes = REFUSALS[check]
    identity = f"weak-{version}-{list(REFUSALS).index(check)}"

    async def answers() -> list[list[Any]]:
        async with open_station(central, identity, version) as connection:
            await connection.send(json.dumps(sent))
            await connection.send(json.dumps(HEARTBEAT))
            received: list[list[Any]] = []
            while not received or received[-1][:2] != [3, "after"]:
                received.append(json.loads(await connection.recv()))
            return received

    refusals = [answer[:3] for answer in asyncio.run(answers())[:-1]]
    assert ([] if codes[version] is None else [[4, message_id, codes[version]]]) == refusals
    central.wait_gone(identity)
    assert [] == central.said(identity)


def test_of_a_thundering_herd_one_station_is_served(central: LiveCentral) -> None:
    """Fifty connections prove one identity at once: one stays and is answered, the others are closed as intruders."""

    async def fate(connection: ClientConnection) -> str:
        try:
            await connection.send(json.dumps(HEARTBEAT))
            answer = json.loads(await connection.recv())
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            return f"closed {closed.rcvd.code}"
        return f"answered {answer[1]}"

    async def herd() -> list[str]:
        connections = await asyncio.gather(*(open_station(central, "herd", "ocpp1.6") for _ in range(50)))
        fates = await asyncio.gather(*map(fate, connections))
        await asyncio.gather(*(connection.close() for connection in connections))
        return fates

    fates = asyncio.run(herd())
    assert (1, 49) == (fates.count("answered after"), fates.count("closed 1008"))
    central.wait_gone("herd")
    channels = central.channels("herd")
    assert 1 == channels.count("ocpp/connected")
    assert "ocpp/security" in channels

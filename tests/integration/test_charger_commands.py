"""`voltgate command send` through a real gateway to chargers on real sockets: answers, exit codes, and what is kept."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from gateway.configuration import load_settings, open_registry
from gateway.core.credentials import DeviceKind
from tests.installation import Installation, environment, until

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("charger_commands")]

PASSWORD = "a-password-of-20-char"
VERSIONS = ("ocpp1.6", "ocpp2.0.1", "ocpp2.1")
Reply = Callable[[str, dict[str, Any]], Any]
"""From action and payload to the answer's payload, a CALLERROR's code, or None for silence."""


def accept(_action: str, _payload: dict[str, Any]) -> dict[str, str]:
    return {"status": "Accepted"}


class Charger:
    """A charger that answers as it is told and remembers what it was asked.

    Args:
        port: Port of the gateway.
        name: Its identity.
        version: Its sub-protocol.
        reply: What it says to a command.
    """

    def __init__(self, port: int, name: str, version: str = "ocpp1.6", reply: Reply = accept) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.connection: ClientConnection | None = None
        self._name, self._url, self._version, self._reply = name, f"ws://127.0.0.1:{port}/ocpp/{name}", version, reply
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        until(lambda: self.connection is not None, what=f"{name} to connect")

    def _run(self) -> None:
        login = base64.b64encode(f"{self._name}:{PASSWORD}".encode()).decode()
        headers = {"Authorization": f"Basic {login}"}
        try:
            with connect(
                self._url, subprotocols=[Subprotocol(self._version)], additional_headers=headers
            ) as connection:
                self.connection = connection
                for text in connection:
                    self._answer(connection, *json.loads(text))
        except ConnectionClosed:
            pass

    def _answer(self, connection: ClientConnection, kind: int, message_id: str, *rest: Any) -> None:
        assert kind == 2
        action, payload = rest
        self.calls.append((action, payload))
        answer = self._reply(action, payload)
        if isinstance(answer, str):
            connection.send(json.dumps([4, message_id, answer, "as it was told", {}]))
        elif answer is not None:
            connection.send(json.dumps([3, message_id, answer]))

    def close(self) -> None:
        """Leave."""
        assert self.connection is not None
        self.connection.close()
        self._thread.join(10)


def register(data: Path, *names: str) -> None:
    """Let chargers in with the same password."""
    settings = load_settings(None, os.environ, overrides={"data": str(data)})
    with closing(open_registry(settings)) as registry:
        for name in names:
            registry.add(
                tenant="default",
                device_id=name,
                now_ns=1,
                password=PASSWORD,
                kind=DeviceKind.CHARGER,
                security_profile=1,
            )


def ocpp_port(installation: Installation) -> int:
    return int(installation.run_file("gateway")["ocpp_port"])


@contextmanager
def charger(
    installation: Installation, name: str, version: str = "ocpp1.6", reply: Reply = accept
) -> Iterator[Charger]:
    """A connected charger that the gateway may send commands."""
    connected = Charger(ocpp_port(installation), name, version, reply)
    try:
        until(lambda: name in names_connected(installation), what=f"{name} in `charger ls`")
        yield connected
    finally:
        connected.close()
        until(lambda: name not in names_connected(installation), what=f"{name} gone from `charger ls`")


def names_connected(installation: Installation) -> set[str]:
    lines = installation.voltgate("charger", "ls", "--json").splitlines()
    return {json.loads(line)["device_id"] for line in lines}


class Result:
    """What a command said."""

    def __init__(self, done: "subprocess.CompletedProcess[str]") -> None:
        self.code, self.talk = done.returncode, done.stderr
        self.documents = [json.loads(line) for line in done.stdout.splitlines()]


def arguments(installation: Installation, *words: str) -> list[str]:
    return [sys.executable, "-m", "voltgate", "command", "send", *words, "--data", str(installation.data)]


def send(installation: Installation, *words: str) -> Result:
    """Run `voltgate command send`."""
    return Result(
        subprocess.run(
            arguments(installation, *words),
            env=installation.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
    )


def listed(installation: Installation, *words: str) -> list[dict[str, Any]]:
    """Return what `voltgate command ls` shows."""
    return [json.loads(line) for line in installation.voltgate("command", "ls", "--json", *words).splitlines()]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Yield a running installation with some registered chargers."""
    data = tmp_path_factory.mktemp("commands")
    # Before the start: the gateway ends the connections of devices whose registration has just changed.
    register(data, "CP-1", "CP-OFF", *(f"M-{i}" for i in range(11)))
    with Installation(data, gateway__ocpp__port=0, gateway__ocpp__allow_unauthenticated=False) as running:
        yield running


@pytest.mark.parametrize(
    ("version", "words", "asked"),
    [
        (
            "ocpp1.6",
            ["RemoteStartTransaction", "--connector", "1", "--id-tag", "TAG"],
            ("RemoteStartTransaction", {"connectorId": 1, "idTag": "TAG"}),
        ),
        (
            "ocpp2.0.1",
            ["RequestStopTransaction", "--transaction", "t-7"],
            ("RequestStopTransaction", {"transactionId": "t-7"}),
        ),
        ("ocpp2.1", ["Reset", "--type", "OnIdle", "--evse", "2"], ("Reset", {"type": "OnIdle", "evseId": 2})),
    ],
)
def test_command_is_answered(
    installation: Installation, version: str, words: list[str], asked: tuple[str, dict[str, Any]]
) -> None:
    """The charger gets what was typed, in the words of its version; its answer is on stdout, the code is 0."""
    with charger(installation, "CP-1", version) as station:
        result = send(installation, "CP-1", *words)
        assert (result.code, result.documents, result.talk) == (0, [{"status": "Accepted"}], "")
        assert station.calls == [asked]


def test_remote_start_of_2_x_gets_an_id(installation: Installation) -> None:
    """remoteStartId is made where nobody gave one."""
    with charger(installation, "CP-1", "ocpp2.1") as station:
        assert send(installation, "CP-1", "RequestStartTransaction", "--evse", "1", "--id-token", "X").code == 0
        ((action, payload),) = station.calls
    start_id = payload.pop("remoteStartId")
    assert (action, payload) == (
        "RequestStartTransaction",
        {"evseId": 1, "idToken": {"idToken": "X", "type": "ISO14443"}},
    )
    assert 0 < start_id < 2**31


def test_no_is_7(installation: Installation) -> None:
    """With the answer on stdout and the word on stderr."""
    with charger(installation, "CP-1", reply=lambda *_: {"status": "Rejected"}):
        result = send(installation, "CP-1", "ClearCache")
    assert (result.code, result.documents) == (7, [{"status": "Rejected"}])
    assert "CP-1: rejected" in result.talk


def test_error_is_7(installation: Installation) -> None:
    """With the code of the CALLERROR."""
    with charger(installation, "CP-1", reply=lambda *_: "InternalError"):
        result = send(installation, "CP-1", "ClearCache", "--json")
    assert result.code == 7
    (shown,) = result.documents
    assert (shown["outcome"], shown["error_code"], shown["detail"]) == ("error", "InternalError", "as it was told")


def test_offline_is_8(installation: Installation) -> None:
    """At once: the charger is registered and not there."""
    result = send(installation, "CP-OFF", "ClearCache")
    assert (result.code, result.documents) == (8, [])
    assert "CP-OFF: offline: the charger is not connected" in result.talk


def test_connection_that_ends_before_the_answer_is_8(installation: Installation) -> None:
    """And says that nobody knows more."""

    def leave(*_: Any) -> None:
        assert station.connection is not None
        station.connection.socket.shutdown(socket.SHUT_RDWR)

    station = Charger(ocpp_port(installation), "CP-1", reply=leave)
    until(lambda: "CP-1" in names_connected(installation), what="the charger")
    result = send(installation, "CP-1", "ClearCache")
    assert result.code == 8
    assert "disconnected: the connection ended before it was answered" in result.talk


def test_silence_is_9(installation: Installation) -> None:
    """After the time that was given."""
    with charger(installation, "CP-1", reply=lambda *_: None):
        result = send(installation, "CP-1", "ClearCache", "--timeout", "0.5")
    assert (result.code, result.documents) == (9, [])
    assert "timeout: no answer within 0.5 s" in result.talk


@pytest.mark.parametrize("words", [["ClearCache"], ["Reset", "--type", "Soft"]])
def test_unknown_charger_is_4(installation: Installation, words: list[str]) -> None:
    """Whether the payload depends on the version or not."""
    result = send(installation, "CP-NOBODY", *words)
    assert (result.code, result.documents) == (4, [])
    assert "CP-NOBODY" in result.talk


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["RequestStartTransaction", "--evse", "1"], "nearest is 'RemoteStartTransaction' (ocpp1.6)"),
        (["Reset", "--type", "Gently"], "/type: expected"),
        (["Reset", "--connector", "1"], "takes --type, not --connector"),
        (["Reset", "--payload", "{"], "--payload is no JSON"),
        (["Reset", "--payload", "@/nowhere"], "cannot read --payload"),
    ],
)
def test_wrong_command_is_2(installation: Installation, words: list[str], said: str) -> None:
    """The charger hears nothing of it."""
    with charger(installation, "CP-1") as station:
        result = send(installation, "CP-1", *words)
        assert (result.code, result.documents, station.calls) == (2, [], [])
    assert said in result.talk


def test_command_waits_for_its_charger(installation: Installation) -> None:
    """With --wait-until-online, and the payload in a file."""
    payload = installation.data / "payload.json"
    payload.write_text('{"type": "Hard"}')
    words = ["CP-OFF", "Reset", "--payload", f"@{payload}", "--wait-until-online", "60"]
    waiting = subprocess.Popen(
        arguments(installation, *words), env=installation.environment, stdout=subprocess.PIPE, text=True
    )
    until(lambda: listed(installation, "--open", "--device", "CP-OFF"), what="the waiting command")
    with charger(installation, "CP-OFF") as station:
        out, _ = waiting.communicate(timeout=30)
        assert (waiting.returncode, json.loads(out)) == (0, {"status": "Accepted"})
        assert station.calls == [("Reset", {"type": "Hard"})]


def test_mass_command_needs_a_second_word(installation: Installation) -> None:
    """Then each charger is accounted for, and the worst exit code is told."""
    with charger(installation, "M-0") as first, charger(installation, "M-1", "ocpp2.0.1") as second:
        result = send(installation, *(f"M-{i}" for i in range(11)), "ClearCache")
        assert (result.code, first.calls, second.calls) == (2, [], [])
        assert "--yes" in result.talk
        result = send(installation, "--all", "ClearCache", "--yes")
        outcomes = {document["device_id"]: document["outcome"] for document in result.documents}
        assert (result.code, len(outcomes)) == (8, 13)
        assert {name for name, outcome in outcomes.items() if outcome == "accepted"} == {"M-0", "M-1"}
        assert {outcome for name, outcome in outcomes.items() if name not in {"M-0", "M-1"}} == {"offline"}
        assert "2 of 13 chargers accepted" in result.talk


def test_text_goes_to_a_vehicle_over_mqtt(installation: Installation) -> None:
    """Without an action; for a charger that is a mistake."""
    result = send(installation, "bus-1", "--payload", "report")
    assert result.code == 0
    (shown,) = result.documents
    assert listed(installation, "--device", "bus-1")[0]["request_id"] == shown["request_id"]
    assert send(installation, "CP-1", "--payload", "report").code == 2


def test_every_step_is_in_the_lake_and_every_command_in_the_list(installation: Installation) -> None:
    """As rows of device_command; the list shows who, when, what and how it ended."""
    with charger(installation, "CP-1"):
        result = send(installation, "CP-1", "ChangeConfiguration", "--key", "K", "--value", "V", "--json")
    (shown,) = result.documents
    request_id = shown["request_id"]
    columns = 'event, action, "by", ocpp_version, payload, answer'
    sql = f"select {columns} from device_command where request_id = '{request_id}' order by \"offset\""
    until(lambda: has_rows(installation, sql, 3), what="three steps in the lake")
    rows = installation.query(sql)
    assert [row["event"] for row in rows] == ["submitted", "sent", "accepted"]
    assert {row["action"] for row in rows} == {"ChangeConfiguration"}
    assert all(row["by"].startswith("cli") for row in rows)
    assert (json.loads(rows[0]["payload"]), json.loads(rows[2]["answer"])) == (
        {"key": "K", "value": "V"},
        {"status": "Accepted"},
    )
    (command,) = [row for row in listed(installation) if row["request_id"] == request_id]
    assert (command["outcome"], command["device_id"], command["action"]) == ("accepted", "CP-1", "ChangeConfiguration")


def has_rows(installation: Installation, sql: str, n: int) -> bool:
    try:
        return len(installation.query(sql)) == n
    except AssertionError:  # the table is not there yet
        return False


def test_facts_about_assets_are_kept(installation: Installation) -> None:
    """What is not said again stays."""
    words = ["asset", "set", "CP-1", "--kind", "charger"]
    installation.voltgate(*words, "--site", "depot", "--rated-power-kw", "150", "--id-token", "A", "--id-token", "B")
    installation.voltgate(*words, "--site", "yard")

    def rows() -> list[dict[str, Any]]:
        return [json.loads(line) for line in installation.voltgate("asset", "ls", "--json").splitlines()]

    until(lambda: [row["site"] for row in rows()] == ["yard"], what="the newest site")
    (row,) = rows()
    assert (row["kind"], row["rated_power_kw"], row["id_tokens"], row["vin"]) == ("charger", 150.0, "A,B", None)


def test_killed_gateway_says_of_open_commands_that_it_restarted(installation: Installation) -> None:
    """The outcome is in the list, in the lake once, and the charger is not asked again."""
    with silent_charger(installation, "CP-1") as station:
        words = ["CP-1", "ClearCache", "--timeout", "60"]
        sending = subprocess.Popen(
            arguments(installation, *words),
            env=installation.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        until(lambda: station.calls, what="the command at the charger")
        pid = installation.run_file("gateway")["pid"]
        os.kill(pid, signal.SIGKILL)
        sending.communicate(timeout=60)
        assert sending.returncode == 1
    until(lambda: installation.run_file("gateway")["pid"] != pid, what="another gateway")
    until(lambda: listed(installation)[-1]["outcome"] is not None, what="an outcome")
    command = listed(installation)[-1]
    assert (command["outcome"], command["detail"]) == ("disconnected", "the gateway restarted")
    sql = f"select event from device_command where request_id = '{command['request_id']}' order by \"offset\""
    until(lambda: has_rows(installation, sql, 3), what="three steps in the lake")
    assert [row["event"] for row in installation.query(sql)] == ["submitted", "sent", "disconnected"]
    with charger(installation, "CP-1") as station:
        assert send(installation, "CP-1", "ClearCache").code == 0
        assert [action for action, _ in station.calls] == ["ClearCache"]


@contextmanager
def silent_charger(installation: Installation, name: str) -> Iterator[Charger]:
    """A silent charger of a gateway that will be gone before it."""
    silent = Charger(ocpp_port(installation), name, reply=lambda *_: None)
    until(lambda: name in names_connected(installation), what=name)
    try:
        yield silent
    finally:
        silent.close()


def test_list_needs_no_gateway(tmp_path: Path) -> None:
    """An empty one of a directory that nobody wrote."""
    done = subprocess.run(
        [sys.executable, "-m", "voltgate", "command", "ls", "--json", "--data", str(tmp_path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "")

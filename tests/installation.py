"""A whole Voltgate for a test: own data directory, free ports, real processes, started and stopped as a user would."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_TIMEOUT_S = 40.0


def until(condition: Callable[[], object], *, timeout_s: float = 30.0, what: str = "the condition") -> None:
    """Poll until the condition holds; fail when it does not by the time-out."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} did not come about in {timeout_s:g} s"
        time.sleep(0.05)


def environment(**settings: object) -> dict[str, str]:
    """Return the environment of a child: ours without settings of Voltgate, and those given (`gateway__tick_s=1`)."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VOLTGATE__")}
    return clean | {f"VOLTGATE__{name.upper()}": str(value) for name, value in settings.items()}


class Installation:
    """`voltgate run` on a directory; a context manager that stops it.

    Args:
        data: Its data directory.
        settings: Settings as for `environment`; without them anonymous access on free ports.
    """

    def __init__(self, data: Path, **settings: object) -> None:
        self.data = data
        usual: dict[str, object] = {
            "gateway__mqtt__allow_anonymous": True,
            "gateway__mqtt__port": 0,
            "gateway__ocpp__allow_unauthenticated": True,
            "gateway__ocpp__port": 0,
            "processors__commit_interval_s": 1,
        }
        self.environment = environment(**(usual | settings))
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process is not None:
            self.stop()

    def start(self) -> None:
        """Start it and return when devices can connect."""
        self.data.mkdir(parents=True, exist_ok=True)
        with (self.data / "run.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "voltgate", "run", "--data", str(self.data)],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        until(
            lambda: self._is_ready("gateway") and self._is_ready("processors"), timeout_s=START_TIMEOUT_S, what="start"
        )

    def _is_ready(self, program: str) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.data / "run.log").read_text()[-2000:]
        try:
            return _is_alive(self.run_file(program)["pid"])
        except FileNotFoundError:
            return False

    def run_file(self, program: str) -> dict[str, Any]:
        """Return what a program says of itself."""
        content: dict[str, Any] = json.loads((self.data / "run" / f"{program}.json").read_text())
        return content

    @property
    def port(self) -> int:
        """TCP port of the MQTT listener."""
        return int(self.run_file("gateway")["mqtt_port"])

    @property
    def ocpp_url(self) -> str:
        """Where chargers connect; a charger appends its identity."""
        found = self.run_file("gateway")
        return f"ws://127.0.0.1:{found['ocpp_port']}{found['ocpp_path']}"

    def stop(self) -> int:
        """Stop it as a service manager would and return its exit code."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(40)
        self.process = None
        return code

    def kill(self) -> None:
        """Kill supervisor, gateway and processors at once, without warning."""
        assert self.process is not None
        pids = [self.process.pid, self.run_file("gateway")["pid"], self.run_file("processors")["pid"]]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        self.process = None
        until(lambda: not any(_is_alive(pid) for pid in pids), what="the end of killed processes")

    def voltgate(self, *arguments: str, expected_code: int = 0) -> str:
        """Run a command on this installation and return what it printed."""
        return run_voltgate(*arguments, data=self.data, env=self.environment, expected_code=expected_code)

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Return the rows that `voltgate query --json` prints."""
        return [json.loads(line) for line in self.voltgate("query", "--limit", "100000", "--json", sql).splitlines()]

    def ledger_lines(self) -> list[str]:
        """Return the ledger of a stopped installation after checking that it balances."""
        status = json.loads(self.voltgate("status", "--json", expected_code=6))
        assert status["ledger"]["balanced"], status["ledger"]
        lines: list[str] = status["ledger"]["lines"]
        return lines


def _is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def run_voltgate(
    *arguments: str, data: Path | None = None, env: dict[str, str] | None = None, expected_code: int = 0
) -> str:
    """Run the command line and return its standard output."""
    command: Sequence[str] = [sys.executable, "-m", "voltgate", *arguments]
    if data is not None:
        command = [*command, "--data", str(data)]
    result = subprocess.run(command, env=env or environment(), capture_output=True, text=True, timeout=110)
    assert result.returncode == expected_code, f"{arguments}: exit {result.returncode}\n{result.stdout}{result.stderr}"
    return result.stdout

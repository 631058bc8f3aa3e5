"""A real gateway as a child process, and the few calls tests make to it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

START_TIMEOUT_S = 30.0
REPOSITORY = Path(__file__).parents[2]
FREE_PORTS = {"VOLTGATE__GATEWAY__MQTT__PORT": "0", "VOLTGATE__GATEWAY__OCPP__PORT": "0"}


class GatewayProcess:
    """`python -m gateway` on a data directory and free ports.

    Args:
        data: Data directory.
        environ: Settings and switches on top of the test's environment.
        arguments: More command line.
    """

    def __init__(
        self,
        data: Path,
        *arguments: str,
        environ: dict[str, str] | None = None,
    ) -> None:
        self.data = data
        data.mkdir(parents=True, exist_ok=True)
        self.log_path = data.parent / f"{data.name}.log"
        self._log: IO[bytes] = self.log_path.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "--data", str(data), "--json", *arguments],
            cwd=REPOSITORY,
            env={**os.environ, **FREE_PORTS, **(environ or {})},
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self.endpoints: dict[str, Any] = {}

    def wait_ready(self) -> "GatewayProcess":
        """Return when devices can connect."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the gateway ended: {self.log()}"
        self.endpoints = json.loads(line)
        return self

    @property
    def mqtt_port(self) -> int:
        return int(self.endpoints["mqtt_port"])

    @property
    def ocpp_port(self) -> int:
        return int(self.endpoints["ocpp_port"])

    def log(self) -> str:
        return self.log_path.read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log events of one name."""
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def get(self, path: str, *, body: bytes | None = None, token: str | None = None) -> tuple[int, str]:
        """Return status and body of a request to the local port."""
        request = Request(f"http://127.0.0.1:{self.endpoints['observe_port']}{path}", data=body)
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urlopen(request, timeout=15) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode()

    def metric(self, sample: str) -> float:
        """Return a sample of /metrics, 0 where it is missing."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(f"{sample} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def signal(self, signum: int) -> None:
        self.process.send_signal(signum)

    def stop(self) -> int:
        """End it as a service manager does; return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self, timeout_s: float = START_TIMEOUT_S) -> int:
        """Return the exit code once it ended."""
        code = self.process.wait(timeout_s)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()
        return code


@contextmanager
def running_gateway(data: Path, *arguments: str, **options: Any) -> Iterator[GatewayProcess]:
    """A gateway that accepts connections; killed at the end if the test did not stop it."""
    gateway = GatewayProcess(data, *arguments, **options)
    try:
        yield gateway.wait_ready()
    finally:
        if gateway.process.poll() is None:
            gateway.process.kill()
        gateway.wait()


def until(condition: Callable[[], bool], *, timeout_s: float, what: str) -> None:
    """Return as soon as the condition holds; fail after the time."""
    give_up_at_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_at_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)

"""The processes of a round: the two programs as our own children, or all of Voltgate under its supervisor."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any, Self
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from gateway.core.failpoints import Failpoint
from gateway.journal.disk import segment_files
from tests.installation import until

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 40.0
HIT_TIMEOUT_S = 60.0


class Program:
    """`python -m gateway` or `python -m processors` on a data directory; a context manager that leaves none running.

    Args:
        name: Which one.
        data: Data directory.
        environ: Whole environment, settings included.
    """

    def __init__(self, name: str, data: Path, environ: dict[str, str]) -> None:
        self.name = name
        self._data, self._environ = data, environ
        self._log = data.parent / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self._reap()

    def start(self, failpoint: tuple[Failpoint, int] | None = None, **settings: str) -> float:
        """Start it, armed if a failpoint and its hit are given, and return the seconds until it said that it is ready.

        It says so on its standard output when /readyz begins to answer yes, and the line is there to be read even if
        the failpoint comes right behind it.
        """
        armed = {} if failpoint is None else {"VOLTGATE_FAILPOINT": f"{failpoint[0]}:{failpoint[1]}"}
        began_s = time.monotonic()
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.name, "--data", str(self._data), "--json"],
                env=self._environ | armed | settings, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        assert self.process.stdout is not None
        line = _read_line(self.process.stdout, START_TIMEOUT_S)
        assert line.startswith(b"{"), f"{self.name} did not become ready:\n{self._log.read_text()[-2000:]}"
        return time.monotonic() - began_s

    def await_kill(self) -> bool:
        """Wait for the armed failpoint; False when it was not passed in time, and the process runs on."""
        assert self.process is not None
        try:
            self.process.wait(HIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return False
        return self._reap() == -signal.SIGKILL

    def stop(self) -> int:
        """End it as a service manager does; return its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self._reap()

    def _reap(self) -> int:
        assert self.process is not None
        code = self.process.wait(STOP_TIMEOUT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


class Supervised:
    """`voltgate run` on a data directory; a context manager that leaves none running.

    Args:
        data: Data directory.
        environ: Whole environment, settings included.
    """

    def __init__(self, data: Path, environ: dict[str, str]) -> None:
        self._data, self._environ = data, environ
        self._log = data.parent / "run.log"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(STOP_TIMEOUT_S)

    def start(self) -> float:
        """Start it and return the seconds until both programs are ready."""
        began_s = time.monotonic()
        self.begin()
        until(
            lambda: self._is_ready("gateway") and self._is_ready("processors"), timeout_s=START_TIMEOUT_S, what="start"
        )
        return time.monotonic() - began_s

    def begin(self) -> None:
        """Start it and wait for nothing."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "voltgate", "run", "--data", str(self._data)],
                env=self._environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def kill(self, name: str) -> float:
        """Kill one program; return how long its successor took to become ready, the supervisor's pause left out."""
        old = self.run_file(name)["pid"]
        os.kill(old, signal.SIGKILL)
        until(
            lambda: not _is_alive(old) and self.run_file(name)["pid"] != old and self._is_ready(name),
            timeout_s=START_TIMEOUT_S, what=f"the return of {name}",
        )  # fmt: skip
        return time.time() - psutil.Process(self.run_file(name)["pid"]).create_time()

    def kill_everything(self) -> None:
        """Kill supervisor, gateway and processors, as many as there are yet, without a pause between."""
        assert self.process is not None
        processes = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children()]
        for process in processes:
            # A child that has just begun ends by itself with its supervisor.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(STOP_TIMEOUT_S)
        until(lambda: not any(_is_alive(process.pid) for process in processes), what="the end of killed processes")

    def stop(self) -> int:
        """End it as a service manager does; return its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(STOP_TIMEOUT_S)

    def run_file(self, name: str) -> dict[str, Any]:
        """Return what a program says of itself."""
        content: dict[str, Any] = json.loads((self._data / "run" / f"{name}.json").read_text())
        return content

    def _is_ready(self, name: str) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self._log.read_text()[-2000:]
        try:
            found = self.run_file(name)
        except FileNotFoundError:
            return False
        return _is_alive(found["pid"]) and answers(found["observe_port"], "/readyz")


class Generator:
    """A simulator that publishes until it is stopped; a context manager that leaves none running.

    Args:
        directory: For its log.
        arguments: Its command line after `python -m simulators`.
    """

    def __init__(self, directory: Path, *arguments: str) -> None:
        self._kind = arguments[0]
        self._log = (directory / f"{self._kind}.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "simulators", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()

    def stop(self) -> dict[str, Any]:
        """Let it wait for its outstanding acknowledgements; return its summary."""
        self._process.send_signal(signal.SIGINT)
        out, _ = self._process.communicate(timeout=STOP_TIMEOUT_S)
        assert out, f"simulators {self._kind} ended with {self._process.returncode} and no summary"
        summary: dict[str, Any] = json.loads(out)
        return summary


class Archive:
    """Keeps every journal segment under a second name, so that retention may delete the first one.

    The uninterrupted run needs the whole journal, and deletion is one of the steps that are tested.

    Args:
        journal: Directory to watch.
        kept: Directory for the second names, on the same file system.
    """

    def __init__(self, journal: Path, kept: Path) -> None:
        self._journal, self._kept = journal, kept
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="archive")

    def __enter__(self) -> Self:
        self._kept.mkdir(parents=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def close(self) -> None:
        """Take the last segments and the durable end of a journal whose writer has ended."""
        self.__exit__()
        self._link()
        (self._kept / "durable").write_bytes((self._journal / "durable").read_bytes())

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            self._link()

    def _link(self) -> None:
        for _, segment in segment_files(self._journal):
            kept = self._kept / segment.name
            if not kept.exists():
                kept.hardlink_to(segment)


def answers(port: int, path: str) -> bool:
    """Return whether a local port says 200 to a path."""
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):  # 503 is a URLError too
        return False


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _read_line(stream: IO[bytes], timeout_s: float) -> bytes:
    """Return the next line, or what there is when the stream ends or the time is up."""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return stream.readline() if selector.select(timeout_s) else b""

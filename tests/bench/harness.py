"""Child processes, their CPU time and memory, and medians: what every benchmark stands on.

Linux only: `/proc` says what a process has used. Everything started here is stopped by its own process id, dies with
the benchmark and writes only below the workspace, which is removed at the end.
"""

import ctypes
import json
import os
import resource
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import msgspec

ROOT: Final = Path(__file__).resolve().parents[2]
BUILD: Final = ROOT / "build"
START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 20.0
POLL_S: Final = 0.02
_PR_SET_PDEATHSIG: Final = 1


class BenchError(Exception):
    """A benchmark cannot run, or measured something that cannot be true; the message says what."""


# ---- accounting: pure ------------------------------------------------------------------------------------------------
class ThreadCpu(msgspec.Struct, frozen=True):
    """CPU time of one thread, or of a whole process with its finished threads.

    Attributes:
        name: As the kernel has it, at most 15 characters.
        cpu_s: User and system time, seconds.
    """

    name: str
    cpu_s: float


def parse_stat(text: str, *, ticks_per_s: int) -> ThreadCpu:
    """Return the CPU time in a `/proc/PID/stat` line.

    The name is in parentheses and may hold spaces and parentheses itself, so fields count from the last one
    (proc_pid_stat(5): utime is field 14, stime field 15; time of waited-for children is not in them).
    """
    opening, closing = text.index("("), text.rindex(")")
    fields = text[closing + 2 :].split()
    utime, stime = int(fields[11]), int(fields[12])
    return ThreadCpu(text[opening + 1 : closing], (utime + stime) / ticks_per_s)


def parse_rss_bytes(text: str) -> int:
    """Return the resident memory in a `/proc/PID/status` text. Raises: ValueError: It has no VmRSS line."""
    for line in text.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no VmRSS line: is this a kernel thread or a process that has ended?")


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile of `values`, `share` in 0 .. 1. Raises: ValueError: There are no values."""
    if not values:
        raise ValueError("no values")
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


# ---- accounting: this machine ----------------------------------------------------------------------------------------
def cpu_s(pid: int) -> float:
    """Return the CPU seconds that all threads of a process have used, ended ones included."""
    return parse_stat(Path(f"/proc/{pid}/stat").read_text(), ticks_per_s=os.sysconf("SC_CLK_TCK")).cpu_s


def thread_cpu_s(pid: int) -> float:
    """Return the CPU seconds of the first thread of a process, the one that runs the event loop."""
    return parse_stat(Path(f"/proc/{pid}/task/{pid}/stat").read_text(), ticks_per_s=os.sysconf("SC_CLK_TCK")).cpu_s


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    return parse_rss_bytes(Path(f"/proc/{pid}/status").read_text())


def raise_file_limit(wanted: int) -> int:
    """Raise the limit of open files towards `wanted` and return what it is now; children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(soft, allowed)


def free_port() -> int:
    """Return a TCP port of the loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---- processes -------------------------------------------------------------------------------------------------------
def _die_with_parent() -> None:
    """Ask the kernel to kill this child when the benchmark dies, however it dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """A process of ours; leaving the context stops it.

    Args:
        command: Program and arguments.
        log: File that takes its standard error, and its output unless `piped`.
        environ: Added to our environment.
        piped: Whether `read_json` reads its output line by line.
    """

    def __init__(
        self, command: Sequence[str], *, log: Path, environ: Mapping[str, str] | None = None, piped: bool = False
    ) -> None:
        self.log = log
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else sink,
                stderr=sink,
                cwd=ROOT,
                env={**os.environ, **(environ or {})},
                preexec_fn=_die_with_parent,  # noqa: PLW1509  # the benchmark has no threads
            )
        self.name = Path(command[0]).name + " " + " ".join(command[1:3])
        self._lines = b""

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask it to end, then make it."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def finish(self, timeout_s: float) -> None:
        """Wait until it ends by itself. Raises: BenchError: It does not in time, or fails."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.stop()
            raise BenchError(f"{self.name} did not end in {timeout_s:.0f} s:\n{self.last_words()}") from None
        if code:
            raise BenchError(f"{self.name} ended with exit code {code}:\n{self.last_words()}")

    def check(self) -> None:
        """Raise BenchError if it has ended."""
        if (code := self._process.poll()) is not None:
            raise BenchError(f"{self.name} ended early with exit code {code}:\n{self.last_words()}")

    def read_json(self, timeout_s: float) -> Any:
        """Return the next line of its output, decoded. Raises: BenchError: None came in time, or it ended."""
        assert self._process.stdout is not None
        deadline_s = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as ready:
            ready.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._lines:
                remaining_s = deadline_s - time.monotonic()
                if remaining_s <= 0 or not ready.select(remaining_s):
                    raise BenchError(f"{self.name} said nothing for {timeout_s:.0f} s:\n{self.last_words()}")
                chunk = os.read(self._process.stdout.fileno(), 65_536)
                if not chunk:
                    self._process.wait()
                    raise BenchError(
                        f"{self.name} ended with exit code {self._process.returncode}:\n{self.last_words()}"
                    )
                self._lines += chunk
        line, _, self._lines = self._lines.partition(b"\n")
        return json.loads(line)

    def last_words(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-2000:]


def python(module: str, *arguments: object) -> list[str]:
    """Return the command that runs a module of this checkout with this interpreter."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def wait_until(what: str, done: Callable[[], bool], *, child: Child, timeout_s: float = START_TIMEOUT_S) -> None:
    """Poll until `done`. Raises: BenchError: The child ended or time is up."""
    deadline_s = time.monotonic() + timeout_s
    while not done():
        child.check()
        if time.monotonic() > deadline_s:
            raise BenchError(f"{child.name}: {what} did not happen in {timeout_s:.0f} s:\n{child.last_words()}")
        time.sleep(POLL_S)


def listens(port: int) -> bool:
    """Return whether something accepts connections on a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


# ---- workspace -------------------------------------------------------------------------------------------------------
class Workspace:
    """Directory of one run, on the disk of the checkout: a temporary directory in memory would make fdatasync free."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._count = 0

    def fresh(self, name: str) -> Path:
        """Return a new empty directory."""
        self._count += 1
        path = self.root / f"{self._count:03d}-{name}"
        path.mkdir(parents=True)
        return path

    def discard(self, path: Path) -> None:
        """Remove a directory of this workspace, so that the disk holds one journal at a time."""
        assert path.is_relative_to(self.root)
        shutil.rmtree(path)


@contextmanager
def open_workspace() -> Iterator[Workspace]:
    """Yield a workspace below `build` and remove it at the end."""
    BUILD.mkdir(exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="bench-", dir=BUILD))
    # Mosquitto started by root becomes another user, which must reach its configuration.
    root.chmod(0o755)
    try:
        yield Workspace(root)
    finally:
        shutil.rmtree(root)

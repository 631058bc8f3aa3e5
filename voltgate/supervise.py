"""Start the other programs as children, start them again when they die, stop them in order.

Owns processes, not data: a child that is killed loses nothing, so the only policy here is how soon to try again.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import IO

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
HEALTHY_AFTER_S = 10.0
"""A child that lived this long starts again at once; one that dies sooner waits twice as long each time."""
STOP_TIMEOUT_S = 10.0
EXIT_CONFIG = 3
"""A child that ends with this has a configuration no restart can mend."""

_PR_SET_PDEATHSIG = 1


def _die_with_parent(parent_pid: int) -> None:
    """Ask Linux for SIGTERM when the supervisor is gone, so that `kill -9` of it leaves no orphan behind.

    The supervisor may be process 1 itself, in a container.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:  # it was gone before the kernel could be asked
        os._exit(1)


@dataclass
class Child:
    """One supervised program.

    Attributes:
        name: What messages call it.
        argv: Arguments after the Python executable.
        restart: Whether it is started again after it ended.
        environ: Its environment; ours when None.
        reloads: Whether it reads its configuration again at SIGHUP.
        every_s: For a job that ends by itself: from one start to the next, and from the supervisor's to its first.
    """

    name: str
    argv: Sequence[str]
    restart: bool = True
    environ: Mapping[str, str] | None = None
    reloads: bool = False
    every_s: float | None = None
    process: subprocess.Popen[bytes] | None = None
    started_at_s: float = 0.0
    restarts: int = 0
    backoff_s: float = BACKOFF_FIRST_S
    start_again_at_s: float = 0.0
    exit_code: int | None = field(default=None)

    def start(self, log: IO[bytes] | int | None) -> None:
        """Start the program with its diagnostics going to `log` (None: ours)."""
        self.process = subprocess.Popen(
            [sys.executable, *self.argv],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=log if log is not None else sys.stderr,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which then stops in order
            # Runs before any thread of ours.
            preexec_fn=partial(_die_with_parent, os.getpid()) if sys.platform == "linux" else None,  # noqa: PLW1509
        )
        self.started_at_s = time.monotonic()
        self.exit_code = None

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int | None:
        """Ask the program to end, kill it when it has not by `timeout_s`, and return its exit code."""
        if self.process is None:
            return self.exit_code
        self.process.terminate()
        try:
            self.exit_code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.exit_code = self.process.wait()
        self.process = None
        return self.exit_code


class Supervisor:
    """Keeps children running until told to stop.

    Args:
        children: In start order; they are stopped in the same order, because data flows from the first to the last.
        say: Called with one line for every start, death and restart.
        log: File for the children's diagnostics, None for this process's own streams.
    """

    def __init__(self, children: Sequence[Child], *, say: Callable[[str], None], log: IO[bytes] | None = None) -> None:
        self.children = list(children)
        self._say, self._log = say, log

    def start(self, child: Child) -> None:
        """Start one child now."""
        child.start(self._log)
        assert child.process is not None
        self._say(f"{child.name} started, process {child.process.pid}")

    def watch(self) -> bool:
        """Look at every child once and start what is due; return False when one ended for good.

        Call it a few times a second. Safe to repeat.
        """
        now_s = time.monotonic()
        for child in self.children:
            if child.process is not None and (code := child.process.poll()) is not None:
                child.process, child.exit_code = None, code
                if child.every_s is not None:
                    child.start_again_at_s = max(child.started_at_s + child.every_s, now_s)
                    if code:
                        wait_s = child.start_again_at_s - now_s
                        self._say(f"{child.name} ended with exit code {code}; its next run is in {wait_s:.0f} s")
                elif code == EXIT_CONFIG or not child.restart:
                    self._say(f"{child.name} ended with exit code {code}")
                    return False
                else:
                    self._plan_restart(child, code, now_s)
            elif child.process is None and child.start_again_at_s and now_s >= child.start_again_at_s:
                if child.every_s is None:
                    child.restarts += 1
                    self.start(child)
                else:
                    child.start(self._log)
        return True

    def _plan_restart(self, child: Child, code: int, now_s: float) -> None:
        lived_s = now_s - child.started_at_s
        child.backoff_s = BACKOFF_FIRST_S if lived_s >= HEALTHY_AFTER_S else min(child.backoff_s * 2, BACKOFF_MAX_S)
        child.start_again_at_s = now_s + child.backoff_s
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self._say(f"{child.name} {how} after {lived_s:.1f} s; starting it again in {child.backoff_s:.1f} s")

    def run(self, stop: threading.Event) -> int:
        """Start all children, watch them until `stop` is set, stop them in order; return the exit code."""
        for child in self.children:
            if child.every_s is None:
                self.start(child)
            else:
                child.start_again_at_s = time.monotonic() + child.every_s
        alive = True
        while alive and not stop.wait(0.2):
            alive = self.watch()
        codes = self.stop()
        return EXIT_CONFIG if EXIT_CONFIG in codes.values() else 1 if not alive or any(codes.values()) else 0

    def reload(self) -> None:
        """Have the children that can read their configuration again; safe in a signal handler."""
        for child in self.children:
            if child.reloads and child.process is not None:
                child.process.send_signal(signal.SIGHUP)

    def stop(self) -> dict[str, int | None]:
        """Stop the children in data order, each one fully before the next; return exit codes by name, not of jobs."""
        codes = {}
        for child in self.children:
            if child.every_s is not None:
                child.stop()
                continue
            codes[child.name] = child.stop()
            self._say(f"{child.name} stopped, exit code {codes[child.name]}")
        return codes


def stop_on_signals(reload: Callable[[], None] | None = None) -> threading.Event:
    """Return an event that SIGINT and SIGTERM set; a second SIGINT ends the process at once. SIGHUP calls `reload`."""
    stop = threading.Event()

    def ask(_signum: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    signal.signal(signal.SIGINT, ask)
    signal.signal(signal.SIGTERM, ask)
    if reload is not None:
        signal.signal(signal.SIGHUP, lambda _signum, _frame: reload())
    return stop

"""The supervisor with real child processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from voltgate.supervise import EXIT_CONFIG, Child, Supervisor

pytestmark = pytest.mark.integration

WAIT_FOR_TERM = (
    "import signal,sys,time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); print(1); time.sleep(60)"
)


def until(condition, timeout_s: float = 10.0) -> None:
    """Poll until the condition holds, fail when it does not by the time-out."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "gave up waiting"
        time.sleep(0.01)


def run_in_thread(supervisor: Supervisor) -> tuple[threading.Event, threading.Thread, list[int]]:
    """Start the supervisor's loop beside the test; the list gets its exit code."""
    stop, codes = threading.Event(), []
    thread = threading.Thread(target=lambda: codes.append(supervisor.run(stop)))
    thread.start()
    return stop, thread, codes


def test_killed_child_is_started_again() -> None:
    """A child that somebody kills comes back with a new process id."""
    lines: list[str] = []
    child = Child("sleeper", ["-c", "import time; time.sleep(60)"])
    stop, thread, codes = run_in_thread(Supervisor([child], say=lines.append))
    try:
        until(lambda: child.process is not None)
        first = child.process.pid
        os.kill(first, signal.SIGKILL)
        until(lambda: child.process is not None and child.process.pid != first)
    finally:
        stop.set()
        thread.join(15)
    assert child.restarts == 1
    assert any("killed by signal 9" in line for line in lines)
    assert codes == [1]  # the second one was ended by SIGTERM, which this child does not handle


def test_children_stop_in_data_order() -> None:
    """The first child is gone before the second is asked to stop, so that nothing is left in between."""
    lines: list[str] = []
    children = [Child(name, ["-c", WAIT_FOR_TERM]) for name in ("gateway", "processors")]
    supervisor = Supervisor(children, say=lines.append)
    for child in children:
        child.start(subprocess.DEVNULL)
    time.sleep(0.5)  # both must have installed their handlers
    codes = supervisor.stop()
    assert codes == {"gateway": 0, "processors": 0}
    assert [line.split()[0] for line in lines] == ["gateway", "processors"]


def test_configuration_error_ends_the_run() -> None:
    """A child that cannot start because of its configuration is not started for ever."""
    child = Child("gateway", ["-c", f"raise SystemExit({EXIT_CONFIG})"])
    _, thread, codes = run_in_thread(Supervisor([child], say=lambda _: None))
    thread.join(15)
    assert codes == [EXIT_CONFIG]
    assert child.restarts == 0


def test_job_runs_again_and_again_and_its_failure_ends_nothing(tmp_path: Path) -> None:
    """It begins after its interval, is started anew whatever it ended with, and never counts as failed."""
    lines: list[str] = []
    runs = tmp_path / "runs"
    program = Child("gateway", ["-c", WAIT_FOR_TERM])
    job = Child("kpi", ["-c", f"print(1, file=open({str(runs)!r}, 'a')); raise SystemExit({EXIT_CONFIG})"], every_s=0.3)
    stop, thread, codes = run_in_thread(Supervisor([program, job], say=lines.append))
    try:
        until(lambda: runs.exists() and len(runs.read_text().splitlines()) >= 3)
    finally:
        stop.set()
        thread.join(15)
    assert codes == [0]
    assert job.restarts == 0
    assert any(line.startswith(f"kpi ended with exit code {EXIT_CONFIG}") for line in lines)


@pytest.mark.skipif(sys.platform != "linux", reason="uses a Linux process attribute")
def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    """`kill -9` of the supervisor leaves no orphan."""
    script = tmp_path / "supervisor.py"
    script.write_text(
        "import sys, threading\n"
        "from voltgate.supervise import Child, Supervisor\n"
        "child = Child('sleeper', ['-c', 'import time; time.sleep(60)'])\n"
        "supervisor = Supervisor([child], say=lambda _: None)\n"
        "supervisor.start(child)\n"
        "print(child.process.pid, flush=True)\n"
        "threading.Event().wait()\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="only root may make a process 1")
def test_supervisor_may_be_process_1() -> None:
    """In a container it has no parent, and its children are not orphans."""
    program = (
        "import threading; from voltgate.supervise import Child, Supervisor; "
        "child = Child('one', ['-c', 'print(42, flush=True)'], restart=False); "
        "Supervisor([child], say=print).run(threading.Event()); print('code', child.exit_code)"
    )
    done = subprocess.run(
        ["unshare", "--pid", "--fork", sys.executable, "-c", program],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert "code 0" == done.stdout.splitlines()[-1], done.stdout + done.stderr

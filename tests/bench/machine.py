"""What machine this is: CPU, kernel, disk, versions, and how long its fdatasync takes."""

import os
import platform
import re
import shutil
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from tests.bench.harness import percentile

COMMIT_BYTES: Final = 64 * 1024
"""A group commit at about 70,000 messages of 300 B a second and a window of 3 ms."""
SYNCS: Final = 1000
SYNC_SECONDS_MAX: Final = 5.0
LIBRARIES: Final = ("uvloop", "msgspec", "polars", "deltalake", "aiomqtt", "pydantic", "websockets", "jsonschema-rs")


class SyncLatency(msgspec.Struct, frozen=True, kw_only=True):
    """How long an append of 64 KiB and its fdatasync take, microseconds."""

    p50_us: float
    p99_us: float


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where and with what the figures were measured.

    Attributes:
        cpu: Model name and the number of CPUs this process may use.
        memory_gib: Main memory.
        system: Kernel.
        disk: File system of the journal and size of the disk.
        versions: Program -> version.
        at: Date, UTC.
    """

    cpu: str
    memory_gib: float
    system: str
    disk: str
    versions: dict[str, str]
    at: str


def measure_sync(directory: Path) -> SyncLatency:
    """Append and fdatasync at most `SYNCS` times on the disk that holds `directory`."""
    path = directory / "sync-probe"
    block = os.urandom(COMMIT_BYTES)
    took_us: list[float] = []
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        end_s = time.perf_counter() + SYNC_SECONDS_MAX
        while len(took_us) < SYNCS and time.perf_counter() < end_s:
            started_s = time.perf_counter()
            os.write(descriptor, block)
            os.fdatasync(descriptor)
            took_us.append((time.perf_counter() - started_s) * 1e6)
    finally:
        os.close(descriptor)
        path.unlink()
    return SyncLatency(p50_us=percentile(took_us, 0.5), p99_us=percentile(took_us, 0.99))


def describe(directory: Path) -> Machine:
    """Return the facts of this machine; `directory` is where the journals will be."""
    cpus = len(os.sched_getaffinity(0))
    versions = {"voltgate": version("voltgate"), "python": platform.python_version()}
    versions |= {name: version(name) for name in LIBRARIES}
    if mosquitto := mosquitto_version():
        versions["mosquitto"] = mosquitto
    return Machine(
        cpu=f"{cpu_model(Path('/proc/cpuinfo').read_text())}, {cpus} CPU{'s' if cpus > 1 else ''}",
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        system=f"{platform.system()} {platform.release()}",
        disk=f"{file_system(Path('/proc/self/mountinfo').read_text(), directory.resolve())}, "
        f"{shutil.disk_usage(directory).total / 1e9:.0f} GB",
        versions=versions,
        at=datetime.now(UTC).strftime("%Y-%m-%d"),
    )


def cpu_model(cpuinfo: str) -> str:
    """Return the model name in a `/proc/cpuinfo` text, or the architecture where it has none (ARM)."""
    found = re.search(r"^model name\s*: (.+)$", cpuinfo, re.MULTILINE)
    return " ".join(found[1].split()) if found else platform.machine()


def file_system(mountinfo: str, path: Path) -> str:
    """Return type and source of the file system that holds `path`, from a `/proc/self/mountinfo` text.

    Line format: proc_pid_mountinfo(5); the fifth field is the mount point, type and source follow the separator `-`.
    The longest mount point that is a parent wins; of equal ones the last, which was mounted over the others.
    """
    best, answer = -1, "unknown"
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4].encode().decode("unicode_escape"))
        if path.is_relative_to(point) and len(point.parts) >= best:
            kind, source = after.split()[:2]
            best, answer = len(point.parts), f"{kind} on {source}"
    return answer


def mosquitto_path() -> str | None:
    """Return the broker's program; Debian keeps it out of a user's path."""
    return shutil.which("mosquitto", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")


def mosquitto_version() -> str | None:
    """Return the broker's version, or None without one."""
    path = mosquitto_path()
    if path is None:
        return None
    said = subprocess.run([path, "-h"], capture_output=True, text=True, timeout=10).stdout
    found = re.search(r"version (\S+)", said)
    return found[1] if found else "unknown"

"""Facts about this machine for `voltgate doctor`. Changes nothing; what it writes to measure the disk it deletes."""

import contextlib
import errno
import os
import resource
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from gateway.core.limits import CONNECTIONS_MAX
from gateway.core.settings import Settings
from gateway.core.text import peer_text
from gateway.edge.certificates import validity
from voltgate.doctor_checks import (
    CertificateFacts,
    DataFacts,
    DiskFacts,
    LimitFacts,
    MemoryFacts,
    PortFacts,
)

SYNC_MEASURE_S: Final = 1.0
SYNCS_MAX: Final = 200
_SYNC_BYTES: Final = 64 * 1024
_PROC: Final = Path("/proc")
_CGROUP: Final = Path("/sys/fs/cgroup")


def data_facts(data: Path) -> DataFacts:
    """Try to write one file."""
    if not data.is_dir():
        return DataFacts(path=str(data), exists=False)
    error = None
    try:
        with tempfile.TemporaryFile(dir=data, prefix=".doctor-") as file:
            file.write(b"\0")
    except OSError as exc:
        error = exc.strerror
    return DataFacts(path=str(data), exists=True, owner_uid=data.stat().st_uid, own_uid=os.geteuid(), write_error=error)


def disk_facts(data: Path, *, journal_bytes: int, journal_bytes_max: int) -> DiskFacts:
    """Ask for free space, and measure writes with fdatasync for at most a second."""
    place = next(path for path in (data, *data.absolute().parents) if path.exists())
    usage = shutil.disk_usage(place)
    p99_s, syncs, error = _measure_sync(data) if data.is_dir() else (None, 0, None)
    return DiskFacts(
        path=str(place),
        free_bytes=usage.free,
        total_bytes=usage.total,
        journal_bytes=journal_bytes,
        journal_bytes_max=journal_bytes_max,
        sync_p99_s=p99_s,
        syncs=syncs,
        sync_error=error,
    )


def _measure_sync(data: Path) -> tuple[float | None, int, str | None]:
    block, taken_s = os.urandom(_SYNC_BYTES), list[float]()
    give_up_at_s = time.monotonic() + SYNC_MEASURE_S
    try:
        with tempfile.TemporaryFile(dir=data, prefix=".doctor-", buffering=0) as file:
            while len(taken_s) < SYNCS_MAX and time.monotonic() < give_up_at_s:
                file.seek(0)  # one block again and again: a nearly full disk must not be filled by its doctor
                begun_s = time.perf_counter()
                file.write(block)
                os.fdatasync(file.fileno())
                taken_s.append(time.perf_counter() - begun_s)
    except OSError as exc:
        return None, len(taken_s), exc.strerror
    taken_s.sort()
    return taken_s[min(len(taken_s) - 1, int(len(taken_s) * 0.99))], len(taken_s), None


def newest_file_at_ns(data: Path) -> int | None:
    """Return when a file of ours was last written; only directories that every program writes to are looked at."""
    times = [
        path.stat().st_mtime_ns
        for name in (".", "run", "ingest", "cursors")
        if (data / name).is_dir()
        for path in (data / name).iterdir()
    ]
    return max(times, default=None)


def is_synchronised() -> bool | None:
    """Return what the machine's time service says; None where there is none to ask."""
    if shutil.which("timedatectl") is None:
        return None
    command = ["timedatectl", "show", "-p", "NTPSynchronized", "--value"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"yes": True, "no": False}.get(said)


# ---- ports -----------------------------------------------------------------------------------------------------------


def port_facts(settings: Settings, running: dict[str, dict[str, Any] | None]) -> list[PortFacts]:
    """Look at every port that the configuration names; 0 takes a free one and is none."""
    mqtt, ocpp, observe = settings.gateway.mqtt, settings.gateway.ocpp, settings.observe
    gateway, processors = running.get("gateway") or {}, running.get("processors") or {}
    wanted = [
        ("gateway.mqtt.port", mqtt.host, mqtt.port, gateway.get("mqtt_port")),
        ("gateway.ocpp.port", ocpp.host, ocpp.port, gateway.get("ocpp_port")),
        ("gateway.ocpp.tls_port", ocpp.tls_host, ocpp.tls_port, gateway.get("ocpp_tls_port")),
        ("observe.gateway_port", observe.host, observe.gateway_port, gateway.get("observe_port")),
        ("observe.processors_port", observe.host, observe.processors_port, processors.get("observe_port")),
    ]
    return [_port(setting, host, port, is_own=port == own) for setting, host, port, own in wanted if port]


def _port(setting: str, host: str, port: int, *, is_own: bool) -> PortFacts:
    if is_own:
        return PortFacts(setting=setting, host=host, port=port, is_own=True)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            return PortFacts(setting=setting, host=host, port=port, taken_by=_holder(port) or "another program")
        return PortFacts(setting=setting, host=host, port=port, error=exc.strerror or str(exc))
    return PortFacts(setting=setting, host=host, port=port)


def _holder(port: int) -> str | None:
    """Return who listens on a port, as far as /proc tells us."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{words[9]}]")
    for process in _PROC.glob("[0-9]*") if inodes else ():
        with contextlib.suppress(OSError):
            if any(str(link.readlink()) in inodes for link in (process / "fd").iterdir()):
                return f"process {process.name} ({peer_text((process / 'comm').read_text().strip())})"
    return None


# ---- certificates ----------------------------------------------------------------------------------------------------


def certificate_facts(settings: Settings) -> list[CertificateFacts]:
    """Read our certificates; a key is tried with its certificate."""
    ocpp, index = settings.gateway.ocpp, settings.opensearch
    pairs = [("gateway.ocpp.certificates", one.certificate_file, one.key_file) for one in ocpp.certificates]
    if index.client_certificate_file is not None:
        key = index.client_key_file or index.client_certificate_file
        pairs.append(("opensearch.client_certificate_file", index.client_certificate_file, key))
    found = [_certificate(setting, certificate, key) for setting, certificate, key in pairs]
    for setting, issuers in (
        ("gateway.ocpp.client_ca_file", ocpp.client_ca_file),
        ("opensearch.ca_file", index.ca_file),
    ):
        if issuers is not None:
            found.append(_certificate(setting, issuers, None))
    return found


def _certificate(setting: str, file: Path, key: Path | None) -> CertificateFacts:
    try:
        if key is not None:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file, key)
        begin_s, end_s = validity(file.read_text("ascii"))
    except ssl.SSLError as exc:
        why = "its key is another certificate's" if "KEY_VALUES_MISMATCH" in str(exc) else f"no PEM: {exc.reason}"
        return CertificateFacts(setting=setting, file=str(file), error=why)
    except OSError as exc:
        name = exc.filename or key or file
        return CertificateFacts(setting=setting, file=str(file), error=f"{name}: {exc.strerror or exc}")
    except (ValueError, IndexError) as exc:
        return CertificateFacts(setting=setting, file=str(file), error=f"no certificate: {exc}")
    return CertificateFacts(setting=setting, file=str(file), not_before_s=begin_s, not_after_s=end_s)


# ---- limits ----------------------------------------------------------------------------------------------------------


def limit_facts(gateway_pid: int | None) -> LimitFacts:
    """Read the limit of open files: the gateway's where it runs, else what it would raise itself to."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most, held = None, None
    if gateway_pid is not None:
        with contextlib.suppress(OSError):
            most = resource.prlimit(gateway_pid, resource.RLIMIT_NOFILE)[0]
            held = sum(1 for _ in (_PROC / str(gateway_pid) / "fd").iterdir())
    return LimitFacts(files_max=hard, gateway_files_max=most, gateway_files=held, connections_max=CONNECTIONS_MAX)


def memory_facts() -> MemoryFacts:
    """Read what the machine, or the limit of our control group, leaves."""
    lines = dict(line.split(":", 1) for line in (_PROC / "meminfo").read_text().splitlines())
    total, available = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    with contextlib.suppress(OSError, ValueError):
        most = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        total, available = min(total, most), min(available, most - used)
    return MemoryFacts(available_bytes=available, total_bytes=total)

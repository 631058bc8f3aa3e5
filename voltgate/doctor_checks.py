"""What `voltgate doctor` concludes from facts about the machine. Pure: facts in, findings out; each with its mend."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

Level = Literal["OK", "WARN", "FAIL"]

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB
FREE_BYTES_MIN: Final = 256 * MIB
"""Less is minutes of a busy fleet, and a Delta commit or a checkpoint may not find room."""
FREE_BYTES_LOW: Final = 2 * GIB
FREE_PART_LOW: Final = 0.05
SYNC_P99_SLOW_S: Final = 0.1
"""Every acknowledgement waits for one; past this a fleet notices."""
SYNC_P99_MAX_S: Final = 1.0
CLOCK_STEP_MAX_S: Final = 0.25
"""Wall and monotonic clock that differ by more over a second: somebody sets the clock right now."""
FUTURE_MAX_S: Final = 2.0
"""A newest entry or file so far ahead was written under another clock."""
CERTIFICATE_WARN_S: Final = 14 * 86_400.0
MEMORY_LOW_BYTES: Final = 256 * MIB
DESCRIPTORS_OWN: Final = 512
"""Descriptors of a gateway besides its connections: segments, stores, sockets of its own."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the doctor.

    Attributes:
        number: Of the check; stable, documentation and scripts name it.
        check: Its name.
        level: OK, WARN (goes on, will not for ever) or FAIL.
        why: What was found, with numbers.
        mend: What to do, a command where there is one; empty where nothing is to be done.
    """

    number: int
    check: str
    level: Level
    why: str
    mend: str = ""


class DataFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The data directory: path, whether it is there, who owns it, who we are, and why it cannot be written to."""

    path: str
    exists: bool
    owner_uid: int | None = None
    own_uid: int = 0
    write_error: str | None = None


class DiskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Where the journal is: bytes free for us and in total, the journal's own, and the most it may take.

    `sync_p99_s` is the 99th percentile of `syncs` writes of 64 KiB with fdatasync, None where none succeeded.
    """

    path: str
    free_bytes: int
    total_bytes: int
    journal_bytes: int
    journal_bytes_max: int
    sync_p99_s: float | None = None
    syncs: int = 0
    sync_error: str | None = None


class ClockFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What time it is, and what speaks against it.

    Attributes:
        now_ns: Wall clock, UTC nanoseconds.
        step_s: Wall clock's progress less the monotonic clock's while the doctor looked.
        newest_entry_at_ns: When the newest entry of the journal was received; None without one.
        newest_file_at_ns: Newest modification time of files in the data directory; None without one.
        released_at_ns: When this program was installed; no clock may be before it.
        is_synchronised: What the machine says of its time service; None where it cannot say.
    """

    now_ns: int
    step_s: float = 0.0
    newest_entry_at_ns: int | None = None
    newest_file_at_ns: int | None = None
    released_at_ns: int = 0
    is_synchronised: bool | None = None


class PortFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A port of the configuration: its setting, where it is, whether we hold it ourselves, or who else (None: free)."""

    setting: str
    host: str
    port: int
    is_own: bool = False
    taken_by: str | None = None
    error: str | None = None


class CertificateFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate of ours: setting, file, when it is valid, and why it or its key cannot be used."""

    setting: str
    file: str
    not_before_s: float = 0.0
    not_after_s: float = 0.0
    error: str | None = None


class LimitFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Open files that a process may have (`files_max`), that the gateway has, and the connections it admits."""

    files_max: int
    gateway_files_max: int | None = None
    gateway_files: int | None = None
    connections_max: int = 0


class MemoryFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that can still be given out, and in total; of the machine or of the limit that we run under."""

    available_bytes: int
    total_bytes: int


def check_configuration(error: str | None, mend: str, summary: str) -> Finding:
    """Judge settings, contracts and the alerts file."""
    if error is not None:
        return Finding(number=1, check="configuration", level="FAIL", why=error, mend=f"{mend}; then `voltgate check`")
    return Finding(number=1, check="configuration", level="OK", why=summary)


def check_data(facts: DataFacts) -> Finding:
    """Judge the data directory."""
    name = "data directory"
    if not facts.exists:
        mend = f"`voltgate run --data {facts.path}` makes it; or name another with --data"
        return Finding(number=2, check=name, level="WARN", why=f"{facts.path} does not exist yet", mend=mend)
    if facts.write_error is not None:
        mend = f"`chown -R $(id -u) {facts.path}`, or run as its owner; if the file system is read-only, mount it anew"
        return Finding(
            number=2, check=name, level="FAIL", why=f"{facts.path} refuses files: {facts.write_error}", mend=mend
        )
    if facts.owner_uid not in (None, facts.own_uid):
        why = f"{facts.path} belongs to user {facts.owner_uid}, we are user {facts.own_uid}"
        mend = f"run the doctor and Voltgate as that user, or `chown -R {facts.own_uid} {facts.path}`"
        return Finding(number=2, check=name, level="WARN", why=why, mend=mend)
    return Finding(number=2, check=name, level="OK", why=f"{facts.path} is ours and takes files")


def check_space(facts: DiskFacts) -> Finding:
    """Judge free bytes, also against what the journal may still grow by."""
    free, total = facts.free_bytes, facts.total_bytes
    shown = f"{_bytes(free)} of {_bytes(total)} free at {facts.path}, the journal has {_bytes(facts.journal_bytes)}"
    mend = "free space there or give the volume more; or lower journal.retention_bytes and journal.disk_bytes_max"
    growth = max(0, facts.journal_bytes_max - facts.journal_bytes)
    if free < FREE_BYTES_MIN:
        why = f"{shown}; under {_bytes(FREE_BYTES_MIN)} devices are soon refused"
        return Finding(number=3, check="disk space", level="FAIL", why=why, mend=mend)
    if free < FREE_BYTES_LOW or free < FREE_PART_LOW * total:
        return Finding(number=3, check="disk space", level="WARN", why=f"{shown}; that is little", mend=mend)
    may = f" and may grow by {_bytes(growth)}" if growth <= free else ", and a full disk would stop it before its limit"
    return Finding(number=3, check="disk space", level="OK", why=f"{shown}{may}")


def check_sync(facts: DiskFacts) -> Finding:
    """Judge how long an acknowledgement waits for the disk."""
    name, mend = (
        "disk speed",
        f"move the data directory to a local SSD; `iostat -x 1` shows who else writes at {facts.path}",
    )
    if facts.sync_error is not None or facts.sync_p99_s is None:
        why = f"fdatasync could not be measured: {facts.sync_error or 'there is no directory yet'}"
        level: Level = "FAIL" if facts.sync_error else "OK"
        return Finding(number=4, check=name, level=level, why=why, mend=mend if facts.sync_error else "")
    p99_s = facts.sync_p99_s
    why = f"64 KiB with fdatasync take {p99_s * 1000:.1f} ms at the 99th percentile of {facts.syncs}"
    if p99_s > SYNC_P99_SLOW_S:
        level = "FAIL" if p99_s > SYNC_P99_MAX_S else "WARN"
        return Finding(number=4, check=name, level=level, why=f"{why}; every acknowledgement waits for it", mend=mend)
    return Finding(number=4, check=name, level="OK", why=why)


def check_clock(facts: ClockFacts) -> Finding:
    """Judge the wall clock by everything that is known to be earlier than now."""
    now = _when(facts.now_ns)
    mend = "set the clock and keep it set: `timedatectl set-ntp true`, or start chrony; then restart voltgate"
    for what, at_ns in (
        ("this program was installed", facts.released_at_ns),
        ("the newest entry of the journal was received", facts.newest_entry_at_ns),
        ("the newest file in the data directory was written", facts.newest_file_at_ns),
    ):
        if at_ns is not None and at_ns - facts.now_ns > FUTURE_MAX_S * 1e9:
            why = f"it is {now} here, and {what} at {_when(at_ns)}, {(at_ns - facts.now_ns) / 1e9:.0f} s later"
            return Finding(number=5, check="clock", level="FAIL", why=why, mend=mend)
    if abs(facts.step_s) > CLOCK_STEP_MAX_S:
        why = f"it moved by {facts.step_s:+.2f} s against the monotonic clock while the doctor looked"
        return Finding(number=5, check="clock", level="WARN", why=why, mend=mend)
    if facts.is_synchronised is False:
        return Finding(number=5, check="clock", level="WARN", why=f"{now}, and no time service keeps it", mend=mend)
    word = "kept by a time service" if facts.is_synchronised else "nothing known speaks against it"
    return Finding(number=5, check="clock", level="OK", why=f"{now}, {word}")


def check_ports(facts: Sequence[PortFacts]) -> Finding:
    """Judge whether every listener has, or can have, its port."""
    for one in facts:
        place = f"{one.setting} is {one.host}:{one.port}"
        if one.is_own:
            continue
        if one.taken_by is not None:
            mend = f"stop {one.taken_by}, or set {one.setting} to another port (0 takes a free one)"
            return Finding(number=6, check="ports", level="FAIL", why=f"{place}, held by {one.taken_by}", mend=mend)
        if one.error is not None:
            mend = f"set the host beside {one.setting} to an address of this machine, or take a port over 1023"
            return Finding(number=6, check="ports", level="FAIL", why=f"{place}: {one.error}", mend=mend)
    own = sum(one.is_own for one in facts)
    return Finding(number=6, check="ports", level="OK", why=f"{own} held by our programs, {len(facts) - own} free")


def check_certificates(facts: Sequence[CertificateFacts], *, now_s: float) -> Finding:
    """Judge our certificates; the worst one is shown."""
    found: list[tuple[Level, str, str]] = []
    for one in facts:
        renew = f"renew {one.file} ({one.setting}), then `kill -HUP` the process of `voltgate run`"
        if one.error is not None:
            found.append(("FAIL", f"{one.file} cannot be used: {one.error}", f"mend {one.setting}"))
        elif now_s >= one.not_after_s:
            found.append(("FAIL", f"{one.file} expired at {_when(int(one.not_after_s * 1e9))}", renew))
        elif now_s < one.not_before_s:
            why = f"{one.file} is valid only from {_when(int(one.not_before_s * 1e9))}"
            found.append(("FAIL", why, "set the clock (check 5), or wait"))
        elif one.not_after_s - now_s < CERTIFICATE_WARN_S:
            days = (one.not_after_s - now_s) / 86_400
            found.append(("WARN", f"{one.file} expires in {days:.1f} days", renew))
    if found:
        level, why, mend = min(found, key=lambda one: one[0] != "FAIL")
        return Finding(number=7, check="certificates", level=level, why=why, mend=mend)
    if not facts:
        return Finding(number=7, check="certificates", level="OK", why="none is configured")
    first_s = min(one.not_after_s for one in facts)
    why = f"{len(facts)} usable, the first expires at {_when(int(first_s * 1e9))}"
    return Finding(number=7, check="certificates", level="OK", why=why)


def check_files(facts: LimitFacts) -> Finding:
    """Judge the limit of open files against the connections that are admitted."""
    most, wanted = facts.gateway_files_max or facts.files_max, facts.connections_max + DESCRIPTORS_OWN
    whose = "the gateway" if facts.gateway_files_max is not None else "a process here"
    used = "" if facts.gateway_files is None else f", has {facts.gateway_files}"
    why = f"{whose} may open {most} files{used}"
    mend = f"`ulimit -n {wanted}` before `voltgate run`, or LimitNOFILE={wanted} in the service unit"
    if facts.gateway_files is not None and facts.gateway_files > 0.9 * most:
        return Finding(
            number=8, check="open files", level="FAIL", why=f"{why}; new devices are soon refused", mend=mend
        )
    room = max(0, most - DESCRIPTORS_OWN)
    why = f"{why}: room for {min(room, facts.connections_max)} of the {facts.connections_max} connections it admits"
    if room < facts.connections_max / 2:
        return Finding(number=8, check="open files", level="WARN", why=why, mend=mend)
    return Finding(number=8, check="open files", level="OK", why=why)


def check_memory(facts: MemoryFacts) -> Finding:
    """Judge the memory that is left."""
    why = f"{_bytes(facts.available_bytes)} of {_bytes(facts.total_bytes)} can be given out"
    if facts.available_bytes < MEMORY_LOW_BYTES:
        mend = "stop what else runs here (`ps aux --sort=-rss | head`), or give the machine or container more"
        return Finding(number=9, check="memory", level="WARN", why=why, mend=mend)
    return Finding(number=9, check="memory", level="OK", why=why)


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _when(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns / 1e9, UTC).isoformat(timespec="seconds")

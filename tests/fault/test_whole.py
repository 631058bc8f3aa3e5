"""All of Voltgate, killed, stopped and out of space while devices publish as fast as they are asked to."""

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import polars as pl
import pytest

from gateway.journal.disk import read_durable
from simulators.acknowledged import payload_digest, read_acknowledged
from tests.fault.programs import Generator, answers
from tests.fault.rounds import free_port
from tests.installation import Installation, until

pytestmark = [pytest.mark.fault, pytest.mark.xdist_group("fault")]

RATE_PER_S = 20_000
STOP_S_MAX = 10.0
NOTE_BYTES = 28
"""What the generator writes down for one acknowledged message."""
PAGE_BYTES = 4096
RATE_FULL_PER_S = 1000
SECONDS_FULL = 3.0
SLIP = 0.1
"""Share of what is sent to a full disk that may be taken all the same."""


@contextmanager
def load(directory: Path, port: int, rate_per_s: int) -> Iterator[tuple[Generator, Path]]:
    """Devices that publish, reconnect and resend; yields them and the file of what they were told is received."""
    noted = directory / "acknowledged"
    arguments = ["load", "--survive", "--seconds", "1e9", "--port", str(port), "--rate", str(rate_per_s)]
    with Generator(directory, *arguments, "--acknowledged-file", str(noted)) as generator:
        yield generator, noted


def grows(noted: Path, messages: int = 1) -> None:
    """Return when so many more messages are acknowledged."""
    before = noted.stat().st_size if noted.exists() else 0
    until(lambda: noted.exists() and noted.stat().st_size > before + NOTE_BYTES * messages, what="acknowledgements")


def assert_nothing_is_lost(installation: Installation, noted: Path) -> None:
    """Every acknowledged payload is in the lake, no offset twice, the journal verifies, the ledger balances."""
    installation.voltgate("journal", "verify")
    raw = pl.scan_delta(str(installation.data / "lake" / "raw")).select("device_id", "offset", "payload").collect()
    held = {(device, payload_digest(payload)) for device, _, payload in raw.rows()}
    acknowledged = {(one.device_id, one.digest) for one in read_acknowledged(noted)}
    assert len(acknowledged) > 1000
    assert acknowledged - held == set()
    assert raw["offset"].n_unique() == raw.height
    lines = installation.ledger_lines()
    assert f"{raw.height} received = {raw.height} in the lake + 0 in flight" in lines[0]


def test_killed_under_load_it_goes_on_where_it_was_and_stops_in_time(tmp_path: Path) -> None:
    """`kill -9` of everything at 20,000 messages a second, start, SIGTERM while they still come: nothing is lost."""
    port = free_port()
    installation = Installation(tmp_path / "data", gateway__mqtt__port=port)
    with installation, load(tmp_path, port, RATE_PER_S) as (generator, noted):
        grows(noted, RATE_PER_S)
        installation.kill()
        installation.start()
        grows(noted, RATE_PER_S)
        began_s = time.monotonic()
        assert installation.stop() == 0
        assert time.monotonic() - began_s < 2 * STOP_S_MAX  # two programs, one after the other
        # What was on its way is sent again to the next start.
        installation.start()
        assert generator.stop()["unacknowledged"] == 0
        assert installation.stop() == 0
    assert_nothing_is_lost(installation, noted)


class Tmpfs:
    """A file system of its own, filled by a file."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._ballast = directory, directory / "ballast"

    def fill(self, _pids: list[int]) -> None:
        with self._ballast.open("ab") as file:
            # Others write meanwhile, and what does not fit as a whole takes nothing: halve it until it does.
            size = shutil.disk_usage(self._directory).free
            while size >= PAGE_BYTES:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), size)
                    size = shutil.disk_usage(self._directory).free
                except OSError:
                    size //= 2

    def stay_full(self, seconds: float) -> None:
        """Take at once what anybody gives back, such as the lake's writer the file it could not finish."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self.fill([])
            time.sleep(0.005)

    def free(self, _pids: list[int]) -> None:
        self._ballast.unlink()


class FileSizeLimit:
    """Processes that may not make files longer than this, where nothing may be mounted."""

    def fill(self, pids: list[int]) -> None:
        for pid in pids:
            # Enough for the journal's durable end, which is written in place and needs no room on a full disk either.
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))

    def stay_full(self, seconds: float) -> None:
        """Wait: a limit stays."""
        time.sleep(seconds)

    def free(self, pids: list[int]) -> None:
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@contextmanager
def tmpfs(directory: Path) -> Iterator[Tmpfs]:
    """A small file system, where this user may mount one."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(directory)]
    try:
        refusal = subprocess.run(mount, capture_output=True, text=True).stderr
    except FileNotFoundError as exc:
        refusal = str(exc)
    if refusal:
        pytest.skip(f"no tmpfs here ({refusal.strip()}); the limit on file size stands for it")
    try:
        yield Tmpfs(directory)
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@contextmanager
def file_size_limit(_directory: Path) -> Iterator[FileSizeLimit]:
    """What works for every user."""
    yield FileSizeLimit()


@pytest.mark.parametrize("small_disk", [file_size_limit, tmpfs])
def test_full_disk_stops_acknowledgements_and_nothing_else(
    tmp_path: Path, small_disk: Callable[[Path], AbstractContextManager[Tmpfs | FileSizeLimit]]
) -> None:
    """No process ends, and within 10 s of new space devices are acknowledged and the lake follows."""
    disk = tmp_path / "disk"
    disk.mkdir()
    port = free_port()
    with small_disk(disk) as full_disk:
        installation = Installation(disk / "data", gateway__mqtt__port=port)
        with installation, load(tmp_path, port, RATE_FULL_PER_S) as (generator, noted):
            grows(noted, 3000)
            gateway, processors = (installation.run_file(name) for name in ("gateway", "processors"))
            full_disk.fill([gateway["pid"], processors["pid"]])
            until(lambda: not answers(gateway["observe_port"], "/readyz"), what="unreadiness")
            assert answers(gateway["observe_port"], "/livez")
            full_disk.stay_full(0.5)  # what was acknowledged before is noted by now
            before = noted.stat().st_size
            full_disk.stay_full(SECONDS_FULL)  # several commits, checkpoints and status files fall into it
            # A few go into the page that the journal ends in, or into what somebody gave back a moment before.
            assert noted.stat().st_size - before <= NOTE_BYTES * RATE_FULL_PER_S * SECONDS_FULL * SLIP
            full_disk.free([gateway["pid"], processors["pid"]])
            until(lambda: answers(gateway["observe_port"], "/readyz"), timeout_s=10, what="readiness")
            grows(noted, 1000)
            assert generator.stop()["unacknowledged"] == 0
            same = [installation.run_file(name)["pid"] for name in ("gateway", "processors")]
            assert [gateway["pid"], processors["pid"]] == same
            end_offset = read_durable(disk / "data" / "ingest") or 0
            until(
                lambda: installation.run_file("processors")["offset"] >= end_offset,
                timeout_s=10,
                what="a lake that follows",
            )
            assert installation.stop() == 0
        assert_nothing_is_lost(installation, noted)

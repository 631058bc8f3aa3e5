"""Disks that fail: the operating system's calls on real files, with faults in between."""

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

from gateway.journal.disk import OsDisk

SECTOR_BYTES = 512


class LazyDisk(OsDisk):
    """Does not wait for the disk: for tests about content, where syncing only costs time."""

    def fdatasync(self, descriptor: int) -> None:
        pass

    def fsync_directory(self, path: Path) -> None:
        pass


class FaultyDisk(LazyDisk):
    """Raises an error at call N of one kind; the calls are counted, so a test can assert that the fault happened."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._faults: dict[str, Callable[[int], int | None]] = {}

    def fail(self, call: str, error: int, *, at: int = 1, times: int = 1) -> None:
        """Let the next `at`-th call of this kind fail, and those after it up to `times`."""
        done = self.calls.count(call)
        self._faults[call] = lambda n: error if at <= n - done < at + times else None

    def heal(self) -> None:
        self._faults.clear()

    def failed(self, call: str) -> int:
        return self.calls.count(f"{call} failed")

    def _count(self, call: str) -> None:
        self.calls.append(call)
        fault = self._faults.get(call)
        error = fault(self.calls.count(call)) if fault else None
        if error is not None:
            self.calls.append(f"{call} failed")
            raise OSError(error, os.strerror(error))

    def open(self, path: Path) -> int:
        self._count("open")
        return super().open(path)

    def write(self, descriptor: int, data: memoryview, position: int) -> int:
        self._count("write")
        return super().write(descriptor, data, position)

    def fdatasync(self, descriptor: int) -> None:
        self._count("fdatasync")

    def truncate(self, descriptor: int, length: int) -> None:
        self._count("truncate")
        super().truncate(descriptor, length)

    def fsync_directory(self, path: Path) -> None:
        self._count("fsync_directory")

    def rename(self, source: Path, target: Path) -> None:
        self._count("rename")
        super().rename(source, target)


class SmallDisk(LazyDisk):
    """Has `free` bytes left: a write takes what fits, and nothing at all when it is full."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.refused = 0
        self._length: dict[int, int] = {}

    def write(self, descriptor: int, data: memoryview, position: int) -> int:
        length = os.fstat(descriptor).st_size
        fits = max(0, min(len(data), length + self.free - position))
        if data and not fits:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = super().write(descriptor, data[:fits], position)
        self.free -= max(0, position + written - length)
        return written

    def truncate(self, descriptor: int, length: int) -> None:
        self.free += max(0, os.fstat(descriptor).st_size - length)
        super().truncate(descriptor, length)


class PowerCut(BaseException):
    """The machine went off."""


class PowerLossDisk(OsDisk):
    """Remembers what was synced, cuts the power at call N, and then leaves of each file what a real disk might.

    Content that was not synced survives sector by sector, as chance has it; so do lengths, names and deletions.
    """

    def __init__(self, *, calls: int) -> None:
        self.calls_left = calls
        self._paths: dict[int, Path] = {}
        self._synced: dict[Path, bytes] = {}
        self._new: set[Path] = set()

    def _step(self) -> None:
        if self.calls_left == 0:
            raise PowerCut
        self.calls_left -= 1

    def open(self, path: Path) -> int:
        self._step()
        if not path.exists():
            self._new.add(path)
        descriptor = super().open(path)
        self._paths[descriptor] = path
        self._synced.setdefault(path, path.read_bytes())
        return descriptor

    def write(self, descriptor: int, data: memoryview, position: int) -> int:
        if self.calls_left == 0:
            super().write(descriptor, data[: len(data) // 2], position)
        self._step()
        return super().write(descriptor, data, position)

    def fdatasync(self, descriptor: int) -> None:
        self._step()
        path = self._paths[descriptor]
        self._synced[path] = path.read_bytes()

    def truncate(self, descriptor: int, length: int) -> None:
        self._step()
        super().truncate(descriptor, length)

    def fsync_directory(self, path: Path) -> None:
        self._step()
        self._new = {new for new in self._new if new.parent != path}

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        super().rename(source, target)
        self._synced[target] = self._synced.pop(source)

    def lose_power(self, chance: random.Random) -> None:
        """Leave on the real disk what survives."""
        for path, synced in self._synced.items():
            if path in self._new and chance.random() < 0.5:
                path.unlink(missing_ok=True)
            elif path.exists():
                path.write_bytes(_surviving(synced, path.read_bytes(), chance))


def _surviving(synced: bytes, current: bytes, chance: random.Random) -> bytes:
    length = chance.choice([len(synced), len(current)])
    pieces = []
    for at in range(0, length, SECTOR_BYTES):
        old, new = (data[at : at + SECTOR_BYTES].ljust(SECTOR_BYTES, b"\0") for data in (synced, current))
        pieces.append(chance.choice([old, new]))
    return b"".join(pieces)[:length]

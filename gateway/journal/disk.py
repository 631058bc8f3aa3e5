"""The few calls that make bytes durable, behind a port so that tests can fail each of them.

Whatever writes in this package writes through `Disk`. Reading needs no double: what a reader may trust is decided by
checksums and the durable end alone.
"""

import os
from pathlib import Path
from typing import Final, Protocol

from gateway.core.ids import Offset
from gateway.journal.segment import segment_base, unpack_durable

DURABLE_NAME: Final = "durable"
"""File in which a writer publishes the end of what is on disk."""


class Disk(Protocol):
    """Blocking calls of one thread at a time; each raises OSError as the operating system does."""

    def open(self, path: Path) -> int:
        """Open for reading and writing, created empty if it is not there. Returns the descriptor."""
        ...

    def write(self, descriptor: int, data: memoryview, position: int) -> int:
        """Write at `position`; returns the bytes written, which may be fewer than given."""
        ...

    def fdatasync(self, descriptor: int) -> None:
        """Return once content and length are on disk. After an error the descriptor is not to be trusted again."""
        ...

    def truncate(self, descriptor: int, length: int) -> None:
        """Cut to `length` bytes."""
        ...

    def close(self, descriptor: int) -> None:
        """Give the descriptor back."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Put `source` in the place of `target`, atomically."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove the file."""
        ...

    def fsync_directory(self, path: Path) -> None:
        """Return once the names in the directory are on disk."""
        ...


class OsDisk:
    """The operating system."""

    def open(self, path: Path) -> int:
        """See Disk."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def write(self, descriptor: int, data: memoryview, position: int) -> int:
        """See Disk."""
        return os.pwrite(descriptor, data, position)

    def fdatasync(self, descriptor: int) -> None:
        """See Disk."""
        os.fdatasync(descriptor)

    def truncate(self, descriptor: int, length: int) -> None:
        """See Disk."""
        os.ftruncate(descriptor, length)

    def close(self, descriptor: int) -> None:
        """See Disk."""
        os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """See Disk."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """See Disk."""
        path.unlink()

    def fsync_directory(self, path: Path) -> None:
        """See Disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_all(disk: Disk, descriptor: int, data: bytes | bytearray, position: int) -> None:
    """Write all of `data` at `position`, however few bytes each call takes. Raises: OSError: Some may be written."""
    with memoryview(data) as view:
        done = 0
        while done < len(view):
            done += disk.write(descriptor, view[done:], position + done)


def segment_files(directory: Path) -> list[tuple[Offset, Path]]:
    """Return base offset and path of each segment, oldest first; empty without the directory."""
    try:
        found = [(segment_base(path.name), path) for path in directory.iterdir()]
    except FileNotFoundError:
        return []
    return sorted((base, path) for base, path in found if base is not None)


def read_durable(directory: Path) -> Offset | None:
    """Return the durable end that the writer published, or None if there is none or it is unreadable."""
    try:
        return unpack_durable((directory / DURABLE_NAME).read_bytes())
    except FileNotFoundError:
        return None

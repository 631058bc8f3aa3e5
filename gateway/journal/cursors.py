"""Where readers keep their place: one file per cursor, replaced whole.

    magic "VGCU", version u8, 3 zero bytes, offset u64, state bytes u64, crc32 of the state u32, crc32 of the 28 bytes
    before u32       (32 bytes, little endian), then the state

A file is the old checkpoint or the new one, never a mixture: written aside, synced, renamed, the directory synced.
"""

import os
import re
import struct
import zlib
from pathlib import Path
from typing import Final

from gateway.core.errors import CheckpointError
from gateway.core.failpoints import Failpoint, FailpointHook, no_failpoint
from gateway.core.ids import Offset
from gateway.core.records import Checkpoint
from gateway.journal.disk import Disk, OsDisk, write_all

MAGIC: Final = b"VGCU"
VERSION: Final = 1
HEADER: Final = struct.Struct("<4sB3xQQII")
SUFFIX: Final = ".cursor"
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")
"""Cursor names are file names."""


class FileCursors:
    """A CursorStore over a directory, made if missing. One process stores under one name; anybody may load.

    Args:
        directory: Where the files are.
        disk: Stand-in for the operating system in tests.
        failpoint: Called before and after the rename.
    """

    def __init__(self, directory: Path, *, disk: Disk | None = None, failpoint: FailpointHook = no_failpoint) -> None:
        self._directory = directory
        self._disk: Disk = disk or OsDisk()
        self._failpoint = failpoint
        directory.mkdir(parents=True, exist_ok=True)

    def load(self, cursor: str) -> Checkpoint | None:
        """See CursorStore."""
        path = self._path(cursor)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        offset, state_bytes, state_check = _parse_header(path, data)
        state = data[HEADER.size :]
        if len(state) != state_bytes:
            raise _unreadable(path, f"{len(state)} bytes of state, the header says {state_bytes}")
        if zlib.crc32(state) != state_check:
            raise _unreadable(path, "the state's checksum does not match")
        return Checkpoint(cursor=cursor, offset=offset, state=state)

    def store(self, checkpoint: Checkpoint) -> None:
        """See CursorStore. Raises: OSError: The old checkpoint stands."""
        path = self._path(checkpoint.cursor)
        aside = path.with_suffix(".tmp")
        state = checkpoint.state
        header = HEADER.pack(MAGIC, VERSION, checkpoint.offset, len(state), zlib.crc32(state), 0)[:-4]
        descriptor = self._disk.open(aside)
        try:
            self._disk.truncate(descriptor, 0)
            write_all(self._disk, descriptor, header + zlib.crc32(header).to_bytes(4, "little") + state, 0)
            self._disk.fdatasync(descriptor)
        finally:
            self._disk.close(descriptor)
        self._failpoint(Failpoint.CURSOR_BEFORE_RENAME)
        self._disk.rename(aside, path)
        self._disk.fsync_directory(self._directory)
        self._failpoint(Failpoint.CURSOR_AFTER_RENAME)

    def slowest(self) -> Offset | None:
        """See CursorStore. Reads the headers only.

        Raises:
            CheckpointError: One is unreadable, so nobody knows what may be deleted.
        """
        offsets = []
        for path in self._directory.glob(f"*{SUFFIX}"):
            with path.open("rb") as file:
                offsets.append(_parse_header(path, file.read(HEADER.size))[0])
        return min(offsets, default=None)

    def _path(self, cursor: str) -> Path:
        if not NAME.fullmatch(cursor):
            raise ValueError(f"cursor name {cursor!r}; use lower-case letters, digits, '_', '.', '-', at most 100")
        return self._directory / f"{cursor}{SUFFIX}"


def _parse_header(path: Path, data: bytes) -> tuple[Offset, int, int]:
    """Return offset, bytes of state and their checksum."""
    header = data[: HEADER.size]
    if len(header) < HEADER.size:
        raise _unreadable(path, f"{len(header)} bytes, a header has {HEADER.size}")
    magic, version, offset, state_bytes, state_check, check = HEADER.unpack(header)
    if magic != MAGIC or check != zlib.crc32(header[:-4]):
        raise _unreadable(path, "no checkpoint header, or one whose checksum does not match")
    if version != VERSION:
        raise _unreadable(path, f"format {version}, this program reads {VERSION}")
    return Offset(offset), state_bytes, state_check


def _unreadable(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{os.fspath(path)}: {why}; put a backup in its place, or delete it to read the journal from its start"
    )

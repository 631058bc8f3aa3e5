"""What the commit thread does with a group of appends: encode, roll if full, write, sync, publish.

Owns the segment being written, its length and the next offset. Refuses to know event loops and callbacks.
"""

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from gateway.core.errors import JournalBroken, JournalError, JournalFull, JournalLocked
from gateway.core.failpoints import Failpoint, FailpointHook
from gateway.core.ids import Offset
from gateway.journal.disk import DURABLE_NAME, Disk, write_all
from gateway.journal.recovery import Recovery, recover
from gateway.journal.segment import (
    Append,
    encode_frames,
    gather,
    opening_frame,
    pack_durable,
    segment_base,
    segment_name,
)

LOCK_NAME: Final = "lock"
TEMPORARY: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
)
"""Errors of open and write after which the same call may work later. After a failed fdatasync no error is temporary."""


class Committer:
    """The files: knows the segment being written, its length and the next offset. Used by one thread at a time."""

    def __init__(self, directory: Path, disk: Disk, failpoint: FailpointHook, segment_bytes_max: int) -> None:
        self._directory = directory
        self._disk = disk
        self._failpoint = failpoint
        self._segment_bytes_max = segment_bytes_max
        self._buffer = bytearray()
        self._roll_due = False
        self._broken: JournalBroken | None = None
        with contextlib.ExitStack() as opened:
            opened.callback(os.close, take_lock(directory))
            self.recovery: Recovery = recover(directory, disk)
            self._end_offset = self.recovery.end_offset
            self._newest_at_ns = self.recovery.newest_at_ns
            if self.recovery.segment is None:
                self._start_segment()
            else:
                self._base_offset = segment_base(self.recovery.segment.name) or Offset(0)
                self._descriptor = disk.open(self.recovery.segment)
                self._size, self._marker = self.recovery.size, self.recovery.marker
            opened.callback(lambda: disk.close(self._descriptor))
            self._durable = disk.open(directory / DURABLE_NAME)
            opened.callback(disk.close, self._durable)
            self._publish()
            self._sync(self._durable, len(pack_durable(self._end_offset)))
            disk.fsync_directory(directory)
            self._opened = opened.pop_all()

    def commit(self, appends: list[Append]) -> JournalError | None:
        """Make the appends durable; returns why they are not, in which case no reader will ever see them."""
        if self._broken is not None:
            return self._broken
        batch = gather(self._end_offset, appends)
        if not batch.payloads:
            return None
        try:
            encode_frames(batch, marker=self._marker, buffer=self._buffer)
            if self._is_full():
                self._roll()
                encode_frames(batch, marker=self._marker, buffer=self._buffer)
            self._failpoint(Failpoint.JOURNAL_BEFORE_WRITE)
            write_all(self._disk, self._descriptor, self._buffer, self._size)
            self._failpoint(Failpoint.JOURNAL_BEFORE_SYNC)
            self._sync(self._descriptor, self._size)
            self._size += len(self._buffer)
            self._end_offset = batch.end_offset
            self._newest_at_ns = max(self._newest_at_ns, *(append[0] for append in appends))
            self._publish()
        except JournalBroken as error:
            self._broken = error
        except OSError as error:
            return self._give_back(error)
        self._failpoint(Failpoint.JOURNAL_BEFORE_ACK)
        return self._broken

    def close(self) -> None:
        """Give descriptors and directory up."""
        self._opened.close()

    def _is_full(self) -> bool:
        # A segment without entries would be followed by one of the same name.
        too_long = self._size + len(self._buffer) > self._segment_bytes_max
        return self._end_offset > self._base_offset and (self._roll_due or too_long)

    def _roll(self) -> None:
        self._sync(self._descriptor, self._size)
        old = self._descriptor
        self._start_segment()
        self._disk.close(old)
        self._roll_due = False
        self._failpoint(Failpoint.JOURNAL_ROLLED)

    def _start_segment(self) -> None:
        """Make the segment at the end offset; opening frame and name are on disk before anything relies on them."""
        marker = int.from_bytes(os.urandom(8), "little")
        descriptor = self._disk.open(self._directory / segment_name(self._end_offset))
        try:
            # An earlier try may have got this far and no further; nothing in it was acknowledged.
            self._disk.truncate(descriptor, 0)
            frame = opening_frame(self._end_offset, marker=marker, newest_at_ns=self._newest_at_ns)
            write_all(self._disk, descriptor, frame, 0)
            self._sync(descriptor, 0)
            self._sync_names()
        except BaseException:
            self._disk.close(descriptor)
            raise
        self._descriptor, self._marker, self._size = descriptor, marker, len(frame)
        self._base_offset = self._end_offset

    def _sync(self, descriptor: int, length: int) -> None:
        """Sync; on failure cut to `length`, so that a restart does not find in memory what was never on disk."""
        try:
            self._disk.fdatasync(descriptor)
        except OSError as error:
            # What the kernel could not write it may have dropped and marked clean, so a second fdatasync would lie.
            with contextlib.suppress(OSError):
                self._disk.truncate(descriptor, length)
            raise self._lost("fdatasync", error) from error

    def _sync_names(self) -> None:
        try:
            self._disk.fsync_directory(self._directory)
        except OSError as error:
            raise self._lost("fsync of the directory", error) from error

    def _publish(self) -> None:
        try:
            write_all(self._disk, self._durable, pack_durable(self._end_offset), 0)
        except OSError as error:
            raise self._lost("publishing the durable end", error) from error

    def _give_back(self, error: OSError) -> JournalError:
        """Undo a write that failed half-way; returns the error that says whether trying again is worth it."""
        try:
            self._disk.truncate(self._descriptor, self._size)
        except OSError as second:
            self._broken = self._lost("cutting back a failed write", second)
            return self._broken
        if error.errno not in TEMPORARY:
            self._broken = self._lost("write", error)
            return self._broken
        # A limit on file length (EFBIG) is no reason to stop: the next segment is shorter.
        self._roll_due = error.errno == errno.EFBIG
        return full(self._directory, error)

    def _lost(self, what: str, error: OSError) -> JournalBroken:
        return JournalBroken(
            f"{what} failed in {self._directory}: {error.strerror}; nothing more is acknowledged; check the disk"
        )


def full(directory: Path, error: OSError) -> JournalFull:
    """Return what to say when the disk has no room for now."""
    return JournalFull(f"cannot write to {directory}: {error.strerror}; free space, writing resumes by itself")


def take_lock(directory: Path) -> int:
    """Return the descriptor that holds the directory's lock; the kernel frees it however the process ends."""
    directory.mkdir(parents=True, exist_ok=True)
    lock = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise JournalLocked(
            f"{directory} is written by process {holder}; stop it or use another data directory"
        ) from None
    with contextlib.suppress(OSError):
        # For the message above only; on a full disk the lock must still be had.
        os.pwrite(lock, f"{os.getpid():<20d}\n".encode(), 0)
    return lock

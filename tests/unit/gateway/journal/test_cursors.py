"""Checkpoints: replaced whole, checked, and their faults explained."""

import errno
from pathlib import Path

import pytest

from gateway.core.errors import CheckpointError
from gateway.core.failpoints import Failpoint
from gateway.core.ids import Offset
from gateway.core.records import Checkpoint
from gateway.journal.cursors import FileCursors
from tests.unit.gateway.journal.disks import FaultyDisk, LazyDisk, PowerCut


def checkpoint(offset: int, state: bytes = b"state", cursor: str = "lake") -> Checkpoint:
    return Checkpoint(cursor=cursor, offset=Offset(offset), state=state)


def test_what_is_stored_is_loaded_by_whoever_opens_the_directory(tmp_path: Path) -> None:
    """The last store counts, in another object too; an unknown cursor is None."""
    cursors = FileCursors(tmp_path / "cursors")
    cursors.store(checkpoint(1))
    cursors.store(checkpoint(2, b""))
    assert FileCursors(tmp_path / "cursors").load("lake") == checkpoint(2, b"")
    assert cursors.load("other") is None


def test_the_slowest_cursor_is_the_lowest_offset(tmp_path: Path) -> None:
    """None without cursors; leftovers of an interrupted store do not count."""
    cursors = FileCursors(tmp_path)
    assert cursors.slowest() is None
    cursors.store(checkpoint(7, cursor="a"))
    cursors.store(checkpoint(3, cursor="b"))
    (tmp_path / "c.tmp").write_bytes(b"half")
    assert cursors.slowest() == 3


@pytest.mark.parametrize("position", [0, 4, 8, 20, 30, 40])
def test_a_flipped_bit_is_a_checkpoint_error_with_the_way_out(tmp_path: Path, position: int) -> None:
    """Never another offset or another state."""
    cursors = FileCursors(tmp_path)
    cursors.store(checkpoint(300, b"x" * 20))
    path = tmp_path / "lake.cursor"
    data = bytearray(path.read_bytes())
    data[position] ^= 4
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"lake\.cursor: .*; put a backup in its place, or delete it"):
        cursors.load("lake")


@pytest.mark.parametrize("length", [0, 10, 32, 40])
def test_a_cut_file_is_a_checkpoint_error(tmp_path: Path, length: int) -> None:
    """However short it is."""
    cursors = FileCursors(tmp_path)
    cursors.store(checkpoint(300, b"x" * 20))
    path = tmp_path / "lake.cursor"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError):
        cursors.load("lake")


def test_slowest_refuses_to_guess(tmp_path: Path) -> None:
    """With one header unreadable nobody may delete anything."""
    cursors = FileCursors(tmp_path)
    cursors.store(checkpoint(3))
    (tmp_path / "bad.cursor").write_bytes(b"?")
    with pytest.raises(CheckpointError):
        cursors.slowest()


@pytest.mark.parametrize("name", ["", "../x", "A", "a/b", ".hidden", "x" * 101])
def test_a_cursor_name_is_a_plain_file_name(tmp_path: Path, name: str) -> None:
    """Nothing that could leave the directory."""
    with pytest.raises(ValueError, match="cursor name"):
        FileCursors(tmp_path).store(checkpoint(1, cursor=name))


@pytest.mark.parametrize("call", ["open", "truncate", "write", "fdatasync", "rename"])
def test_a_store_that_fails_leaves_the_old_checkpoint(tmp_path: Path, call: str) -> None:
    """The error is the caller's; the file is what it was, and the next store works."""
    disk = FaultyDisk()
    cursors = FileCursors(tmp_path, disk=disk)
    cursors.store(checkpoint(1))
    disk.fail(call, errno.ENOSPC)
    with pytest.raises(OSError, match="No space"):
        cursors.store(checkpoint(2))
    assert disk.failed(call) == 1
    assert cursors.load("lake") == checkpoint(1)
    cursors.store(checkpoint(3))
    assert cursors.load("lake") == checkpoint(3)


@pytest.mark.parametrize(
    ("failpoint", "expected"), [(Failpoint.CURSOR_BEFORE_RENAME, 1), (Failpoint.CURSOR_AFTER_RENAME, 2)]
)
def test_ended_at_a_failpoint_it_is_the_old_or_the_new_checkpoint(
    tmp_path: Path, failpoint: Failpoint, expected: int
) -> None:
    """The rename is the moment."""
    passed: list[Failpoint] = []

    def cut(name: Failpoint) -> None:
        passed.append(name)
        if name is failpoint:
            raise PowerCut

    FileCursors(tmp_path, disk=LazyDisk()).store(checkpoint(1))
    with pytest.raises(PowerCut):
        FileCursors(tmp_path, disk=LazyDisk(), failpoint=cut).store(checkpoint(2))
    assert FileCursors(tmp_path).load("lake") == checkpoint(expected)
    assert passed[-1] is failpoint

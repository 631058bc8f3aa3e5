"""The results journal keeps each event once, in order, however often and in whatever groups it comes."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.errors import JournalBroken, JournalFull
from gateway.core.ids import Offset
from gateway.journal.disk import OsDisk
from gateway.journal.reader import SegmentReader
from processors.sinks.results import RESULTS_SOURCE, ResultsJournal
from processors.stages.alert_record import LifeEvent, SilenceEvent, TestOrder, read_matcher


def order(offset: int, receiver: str = "r") -> TestOrder:
    """Return an event caused by an entry."""
    return TestOrder(offset=offset, tenant="t", receiver=receiver, by="me")


class Journal:
    """A results journal that can be closed and opened again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.writer = ResultsJournal(directory, now_ns=lambda: 1)

    def reopen(self) -> None:
        self.writer.close()
        self.writer = ResultsJournal(self.directory, now_ns=lambda: 2)

    def payloads(self) -> list[bytes]:
        reader = SegmentReader(self.directory)
        try:
            return list(reader.read(Offset(0), rows_max=10**6, bytes_max=10**9).payloads)
        finally:
            reader.close()

    def causes(self) -> list[int]:
        return [int(payload.split(b'"offset":')[1].split(b",")[0]) for payload in self.payloads()]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty one."""
    made = Journal(tmp_path / "results")
    yield made
    made.writer.close()


def test_events_are_kept_in_order(journal: Journal) -> None:
    """What is appended is there, with its route."""
    silence = SilenceEvent(
        offset=9, received_at_us=1, silence_id="s9", tenant="t", matchers=(read_matcher("device=a"),),
        starts_at_us=0, ends_at_us=5, by="me", why="wash",
    )  # fmt: skip
    events: list[LifeEvent] = [order(3), order(7), silence]
    journal.writer.append(events)
    assert [3, 7, 9] == journal.causes()
    reader = SegmentReader(journal.directory)
    routes = reader.read(Offset(0), rows_max=9, bytes_max=10**6).routes
    reader.close()
    assert [("t", "", RESULTS_SOURCE, "alert_test"), ("t", "", RESULTS_SOURCE, "silence")] == [
        (r.tenant, r.device_id, r.source, r.channel) for r in routes
    ]


@pytest.mark.parametrize("cut", range(1, 6))
def test_events_that_come_again_are_dropped(journal: Journal, cut: int) -> None:
    """After a restart the chain makes everything again, in other groups; nothing is kept twice, nothing lost."""
    events = [order(1), order(4, "a"), order(4, "b"), order(4, "c"), order(8), order(9)]
    journal.writer.append(events[:cut])
    journal.reopen()
    journal.writer.append(events[:2])
    journal.writer.append(events)
    assert [1, 4, 4, 4, 8, 9] == journal.causes()
    assert [b"a", b"b", b"c"] == [p.split(b'"receiver":"')[1][:1] for p in journal.payloads()[1:4]]


def test_many_events_of_one_entry_are_found_again(journal: Journal) -> None:
    """The last entry may have caused more events than are looked at in one go."""
    many = [order(5) for _ in range(5000)]
    journal.writer.append([order(2), *many[:4500]])
    journal.reopen()
    journal.writer.append([order(2), *many])
    assert [2, *[5] * 5000] == journal.causes()


class FullDisk(OsDisk):
    """A disk that refuses the next write."""

    error: int | None = None

    def write(self, descriptor: int, data: memoryview, position: int) -> int:
        if self.error is not None and len(data) > 200:
            error, self.error = self.error, None
            raise OSError(error, "refused")
        return super().write(descriptor, data, position)


@pytest.mark.parametrize(
    ("error", "raised"), [(errno.ENOSPC, JournalFull), (errno.EIO, JournalBroken)], ids=["full", "broken"]
)
def test_refused_events_are_not_taken_for_kept(tmp_path: Path, error: int, raised: type[Exception]) -> None:
    """A disk that refuses keeps nothing; the same events are taken later, or after a restart."""
    disk = FullDisk()
    writer = ResultsJournal(tmp_path / "results", now_ns=lambda: 1, disk=disk)
    events = [order(i, "x" * 300) for i in range(3)]
    disk.error = error
    with pytest.raises(raised):
        writer.append(events)
    if raised is JournalBroken:
        writer.close()
        writer = ResultsJournal(tmp_path / "results", now_ns=lambda: 1)
    writer.append(events)
    writer.close()
    reader = SegmentReader(tmp_path / "results")
    assert 3 == len(reader.read(Offset(0), rows_max=99, bytes_max=10**6).payloads)
    reader.close()

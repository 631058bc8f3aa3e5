"""The results journal: what became of alerts, in the order of the ingest journal, for whoever tells people of it.

Owns DATA/results, a journal in the format of the ingest journal with one entry per event: route (tenant, device,
RESULTS_SOURCE, channel of the event), payload the event as JSON. Refuses to know what an event means.

Exactly once rests on order: the chain makes the same events in the same order however often it runs, so an event is new
when it was caused by a later entry than the last one kept, or by the same entry and stands behind those kept of it.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from gateway.core.failpoints import FailpointHook, no_failpoint
from gateway.core.ids import Channel, DeviceId, Offset, TenantId
from gateway.core.limits import BATCH_BYTES_MAX, MIB
from gateway.core.records import Route
from gateway.journal.committer import Committer
from gateway.journal.disk import Disk, OsDisk
from gateway.journal.reader import SegmentReader
from gateway.journal.segment import Append
from processors.stages.alert_record import CHANNELS, AlertEvent, LifeEvent

RESULTS_SOURCE: Final = "processors"
_SEGMENT_BYTES_MAX: Final = 8 * MIB
"""Some 8,000 events, so that retention, which deletes whole segments, can keep days rather than years."""
_TAIL_ENTRIES: Final = 4096
"""Read at once when looking for the last entry."""


class _Caused(msgspec.Struct):
    offset: int


class ResultsJournal:
    """The single writer of the results journal; blocks for an fdatasync. All calls from one thread.

    Args:
        directory: Where its segments are; made if need be.
        now_ns: UTC nanoseconds, for when an event was kept.
        disk: Stand-in for the operating system in tests.
        failpoint: Called between the steps of a commit.

    Raises:
        JournalError: The directory cannot be used, or another process writes it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        now_ns: Callable[[], int],
        disk: Disk | None = None,
        failpoint: FailpointHook = no_failpoint,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._now_ns = now_ns
        self._committer = Committer(directory, disk or OsDisk(), failpoint, _SEGMENT_BYTES_MAX)
        self._last_offset, self._kept_of_last = _last_of(directory)

    def append(self, events: Sequence[LifeEvent]) -> None:
        """Make the events durable that are not yet: those behind the last one kept.

        Args:
            events: In the order in which the chain makes them; all of one entry of the ingest journal together.

        Raises: JournalError: Nothing of it is durable; try again.
        """
        fresh = [event for event in events if event.offset > self._last_offset]
        again = [event for event in events if event.offset == self._last_offset]
        fresh = again[self._kept_of_last :] + fresh
        if not fresh:
            return
        append = self._to_append(fresh)
        error = self._committer.commit([append])
        if error is not None:
            raise error
        last = fresh[-1].offset
        of_last = sum(event.offset == last for event in fresh)
        self._kept_of_last = of_last + (self._kept_of_last if last == self._last_offset else 0)
        self._last_offset = last

    def close(self) -> None:
        """Give the directory up."""
        self._committer.close()

    def _to_append(self, events: Sequence[LifeEvent]) -> Append:
        routes = [_route(event) for event in events]
        payloads = [msgspec.json.encode(event) for event in events]
        return self._now_ns(), routes, payloads, None, sum(map(len, payloads))


def _route(event: LifeEvent) -> Route:
    device_id = event.device_id if isinstance(event, AlertEvent) else ""
    return Route(TenantId(event.tenant), DeviceId(device_id), RESULTS_SOURCE, Channel(CHANNELS[type(event)]))


def _last_of(directory: Path) -> tuple[int, int]:
    """Return the ingest offset of the last event kept and how many were kept of it; (-1, 0) of an empty journal."""
    reader = SegmentReader(directory)
    try:
        start, end = reader.start_offset(), reader.end_offset()
        begin, kept = end, list[int]()
        # Back until the last entry's first event is in sight, or there is no more.
        while begin > start and (not kept or kept[0] == kept[-1]):
            begin = Offset(max(start, begin - _TAIL_ENTRIES))
            kept = list(_causes(reader, begin, end))
        return (kept[-1], kept.count(kept[-1])) if kept else (-1, 0)
    finally:
        reader.close()


def _causes(reader: SegmentReader, begin: Offset, end: Offset) -> Iterator[int]:
    """Yield the ingest offset of each event kept from an offset on."""
    while begin < end:
        batch = reader.read(begin, rows_max=_TAIL_ENTRIES, bytes_max=BATCH_BYTES_MAX)
        for payload in batch.payloads:
            yield msgspec.json.decode(payload, type=_Caused).offset
        begin = batch.end_offset

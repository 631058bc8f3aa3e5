"""What every journal promises to those who append and to those who read: one suite, all implementations."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import JournalError
from gateway.core.ids import Channel, DeviceId, Offset, TenantId
from gateway.core.limits import JOURNAL_REFUSE_BYTES
from gateway.core.ports import JournalReader, JournalWriter, OnDurable
from gateway.core.records import Route
from gateway.journal.memory import MemoryJournal
from gateway.journal.reader import SegmentReader
from gateway.journal.writer import SegmentWriter

BUS = Route(TenantId("t"), DeviceId("bus"), "mqtt", Channel("telemetry"))
CAR = Route(TenantId("t"), DeviceId("car"), "mqtt", Channel("telemetry"))
MUCH = 10**9

Body = Callable[[JournalWriter, JournalReader], Awaitable[Any]]
Run = Callable[[Body], Any]


@pytest.fixture(params=["memory", "segment"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Run a test's body on a loop with a writer and a reader of one fresh journal."""

    async def on_memory(body: Body) -> Any:
        journal = MemoryJournal(loop=asyncio.get_running_loop())
        return await body(journal, journal)

    async def on_segments(body: Body) -> Any:
        writer = SegmentWriter.open(tmp_path / "journal", loop=asyncio.get_running_loop(), now_ns=lambda: 7)
        try:
            return await body(writer, SegmentReader(tmp_path / "journal"))
        finally:
            await writer.close()

    implementation = {"memory": on_memory, "segment": on_segments}[request.param]
    return lambda body: asyncio.run(implementation(body))


async def append(writer: JournalWriter, *rows: tuple[Route, bytes], received_at_ns: int = 0) -> None:
    """Append and wait until it is durable."""
    durable: asyncio.Future[JournalError | None] = asyncio.get_running_loop().create_future()
    routes, payloads = [route for route, _ in rows], [payload for _, payload in rows]
    writer.append_nowait(received_at_ns, routes, payloads, durable.set_result)
    assert await durable is None


def test_an_empty_journal_is_empty(run: Run) -> None:
    """Nothing appended: start, end and read all say 0."""

    async def body(writer: JournalWriter, reader: JournalReader) -> tuple[int, int, int, int]:
        batch = reader.read(Offset(0), rows_max=10, bytes_max=MUCH)
        return reader.start_offset(), reader.end_offset(), len(batch), batch.base_offset

    assert run(body) == (0, 0, 0, 0)


def test_what_is_appended_is_read_in_order_and_verbatim(run: Run) -> None:
    """Routes, times and payloads come back as they were given, numbered from 0."""

    async def body(writer: JournalWriter, reader: JournalReader) -> list[tuple[int, int, Route, bytes]]:
        await append(writer, (BUS, b"1"), (CAR, b""), received_at_ns=5)
        await append(writer, (BUS, b"\x00\xff"), received_at_ns=-3)
        batch = reader.read(Offset(0), rows_max=10, bytes_max=MUCH)
        return [(e.offset, e.envelope.received_at_ns, e.envelope.route, e.envelope.payload) for e in batch.entries()]

    assert run(body) == [(0, 5, BUS, b"1"), (1, 5, CAR, b""), (2, -3, BUS, b"\x00\xff")]


def test_routes_of_a_batch_are_distinct_and_used(run: Run) -> None:
    """A route appears once in a batch, as however many objects it came, and not at all where no entry has it."""

    async def body(writer: JournalWriter, reader: JournalReader) -> tuple[list[Route], list[Route]]:
        twin = Route(BUS.tenant, BUS.device_id, BUS.source, BUS.channel)
        await append(writer, (BUS, b"0"), (twin, b"1"))
        await append(writer, (CAR, b"2"), (BUS, b"3"))
        whole = reader.read(Offset(0), rows_max=10, bytes_max=MUCH)
        part = reader.read(Offset(2), rows_max=1, bytes_max=MUCH)
        return sorted(whole.routes, key=lambda route: route.device_id), part.routes

    assert run(body) == ([BUS, CAR], [CAR])


def test_callbacks_come_in_append_order_each_once(run: Run) -> None:
    """A hundred appends in one turn are called back in that order."""

    async def body(writer: JournalWriter, reader: JournalReader) -> list[int]:
        order: list[int] = []
        for n in range(100):
            writer.append_nowait(0, [BUS], [b"x"], _remember(order, n))
        await append(writer, (BUS, b"last"))
        return order

    assert run(body) == list(range(100))


def _remember(order: list[int], n: int) -> OnDurable:
    def on_durable(error: JournalError | None) -> None:
        assert error is None
        order.append(n)

    return on_durable


def test_nothing_is_read_before_it_is_called_back(run: Run) -> None:
    """In the turn of the append the reader still sees the end before it."""

    async def body(writer: JournalWriter, reader: JournalReader) -> tuple[int, int]:
        writer.append_nowait(0, [BUS], [b"x"], None)
        before = reader.end_offset()
        await append(writer, (BUS, b"y"))
        return before, reader.end_offset()

    assert run(body) == (0, 2)


def test_what_is_in_flight_is_counted_until_called_back(run: Run) -> None:
    """Payload bytes count from the append to the callback."""

    async def body(writer: JournalWriter, reader: JournalReader) -> tuple[int, int]:
        writer.append_nowait(0, [BUS, CAR], [b"123", b"45"], None)
        taken = writer.in_flight_bytes
        await append(writer)
        return taken, writer.in_flight_bytes

    assert run(body) == (5, 0)


def test_an_append_past_the_bytes_in_flight_is_refused_and_leaves_the_others(run: Run) -> None:
    """The refused append is not called back, those before it are, and later ones are taken again."""

    async def body(writer: JournalWriter, reader: JournalReader) -> tuple[list[bytes], JournalError | None]:
        writer.append_nowait(0, [BUS], [b"small"], None)
        block = b"x" * (1024 * 1024)
        with pytest.raises(JournalError, match="wait"):
            writer.append_nowait(0, [BUS] * 128, [block] * (JOURNAL_REFUSE_BYTES // len(block)), _never)
        await append(writer, (BUS, b"again"))
        return reader.read(Offset(0), rows_max=10, bytes_max=MUCH).payloads, writer.failure

    assert run(body) == ([b"small", b"again"], None)


def _never(error: JournalError | None) -> None:
    raise AssertionError(error)


def test_an_append_of_nothing_is_called_back(run: Run) -> None:
    """No message, no entry, but whoever waits is told."""

    async def body(writer: JournalWriter, reader: JournalReader) -> int:
        await append(writer)
        return reader.end_offset()

    assert run(body) == 0


def test_rows_max_cuts_and_reading_on_gives_the_rest(run: Run) -> None:
    """Two rows at a time, across appends, give what one read gives."""

    async def body(writer: JournalWriter, reader: JournalReader) -> list[list[bytes]]:
        await append(writer, (BUS, b"0"), (CAR, b"1"), (BUS, b"2"))
        await append(writer, (CAR, b"3"), (BUS, b"4"))
        return [reader.read(Offset(at), rows_max=2, bytes_max=MUCH).payloads for at in (0, 2, 4)]

    assert run(body) == [[b"0", b"1"], [b"2", b"3"], [b"4"]]


def test_bytes_max_is_about_kept_and_never_stops_progress(run: Run) -> None:
    """A bound below one entry still returns entries; a large one returns all."""

    async def body(writer: JournalWriter, reader: JournalReader) -> tuple[int, int]:
        for _ in range(4):
            await append(writer, (BUS, b"x" * 100))
        return (
            len(reader.read(Offset(0), rows_max=10, bytes_max=1)),
            len(reader.read(Offset(0), rows_max=10, bytes_max=MUCH)),
        )

    assert run(body) == (1, 4)


def test_reading_at_or_past_the_end_is_empty_at_the_offset_asked(run: Run) -> None:
    """The tail answers with nothing, at the offset that was asked for."""

    async def body(writer: JournalWriter, reader: JournalReader) -> list[tuple[int, int]]:
        await append(writer, (BUS, b"x"))
        batches = [reader.read(Offset(at), rows_max=10, bytes_max=MUCH) for at in (1, 9)]
        return [(batch.base_offset, len(batch)) for batch in batches]

    assert run(body) == [(1, 0), (9, 0)]


def test_a_reader_at_the_tail_sees_what_comes(run: Run) -> None:
    """An empty answer is not the end: the next append is read from there."""

    async def body(writer: JournalWriter, reader: JournalReader) -> list[list[bytes]]:
        seen, offset = [], Offset(0)
        for n in range(3):
            seen.append(reader.read(offset, rows_max=10, bytes_max=MUCH).payloads)
            await append(writer, (BUS, bytes([n])))
            batch = reader.read(offset, rows_max=10, bytes_max=MUCH)
            seen.append(batch.payloads)
            offset = batch.end_offset
        return seen

    assert run(body) == [[], [b"\x00"], [], [b"\x01"], [], [b"\x02"]]

"""Replay recorded trips: each CSV row is published as JSON under its own column names, as a fleet's own software would.

A file is one device. Its payloads are a function of its rows alone, so replaying it twice sends the same bytes twice.
"""

import asyncio
import csv
import json
import random
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from simulators.target import OnProgress, Progress, SimulationError, Target, first_error, no_progress
from simulators.truth import ONE_ROW, Outcome, TruthFile, one_reject
from simulators.uplink import Outgoing, Uplink

TEXT_COLUMNS = ("Date", "Time", "Mode", "Weather")
_DATE_FORMAT = "%m/%d/%Y %H:%M:%S"
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
"""A JSON number; what is not one, such as `nan`, stays text and is the contract's business."""
BUFFER_ROWS = 256
"""Rows read ahead of the network, per file."""
REPORT_S = 1.0
SAMPLE_S = 1.0
"""The recordings are at 1 Hz; used where two rows do not tell the time between them."""


class ReplayConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What to replay.

    Attributes:
        target: Server and credentials.
        files: CSV files with a header line; the device id is `device_prefix` and the file's stem.
        channel: Last level of the topic.
        device_prefix: Beginning of every device id.
        speed: 1 for the recorded pace, 10 for ten times it, 0 for as fast as the server takes it.
        window: Unacknowledged messages per file.
        files_at_once: Files replayed at the same time.
        text_columns: Columns sent as text; in the others numbers are sent as numbers.
        truth_file: Where to note what was sent and must come out (simulators.truth), or None.
    """

    target: Target
    files: tuple[Path, ...]
    channel: str = "twizy"
    device_prefix: str = "twizy-"
    speed: float = 0.0
    window: int = 50
    files_at_once: int = 16
    text_columns: tuple[str, ...] = TEXT_COLUMNS
    truth_file: Path | None = None

    def device_id(self, file: Path) -> str:
        """Return the device that `file` is replayed as."""
        return self.device_prefix + file.stem


class FileReplay(msgspec.Struct, kw_only=True):
    """What became of one file.

    Attributes:
        file: Its name.
        device_id: The device it was replayed as.
        published: Rows given to the network, resends not counted.
        acknowledged: Of those, acknowledged.
        resent: Repeated after a reconnect.
    """

    file: str
    device_id: str
    published: int = 0
    acknowledged: int = 0
    resent: int = 0


class ReplaySummary(msgspec.Struct, frozen=True, kw_only=True):
    """What became of all files, in the order they were given."""

    files: tuple[FileReplay, ...]
    seconds: float
    published: int
    acknowledged: int


def read_rows(file: Path, text_columns: tuple[str, ...] = TEXT_COLUMNS) -> Iterator[dict[str, object]]:
    """Yield the rows as they are published: numbers as numbers, empty and missing cells left out.

    Raises: SimulationError: The file has no header, or a row has more cells than it.
    """
    with file.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        if not reader.fieldnames:
            raise SimulationError(f"{file}:1: no header line; the first line must name the columns")
        for row in reader:
            if None in row:
                raise SimulationError(f"{file}:{reader.line_num}: too many cells; quote commas")
            yield {
                column: text if column in text_columns or not _NUMBER.fullmatch(text) else _number(text)
                for column, text in row.items()
                if text
            }


def _number(text: str) -> int | float:
    return float(text) if "." in text or "e" in text.lower() else int(text)


def encode(row: dict[str, object]) -> bytes:
    """Return the payload of a row."""
    return json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode()


def recorded_at(row: dict[str, object]) -> datetime | None:
    """Return the local time of a row, or None where `Date` and `Time` name no time that exists."""
    try:
        return datetime.strptime(f"{row.get('Date')} {row.get('Time')}", _DATE_FORMAT)  # noqa: DTZ007 - has no zone
    except ValueError:
        return None


def due_s(rows: Iterator[dict[str, object]]) -> Iterator[tuple[float, dict[str, object]]]:
    """Yield each row with the recorded seconds since the first; never falling, whatever the recorder's clock did."""
    at_s, previous = 0.0, None
    for i, row in enumerate(rows):
        now = recorded_at(row)
        if i:
            step_s = (now - previous).total_seconds() if now and previous else SAMPLE_S
            at_s += step_s if step_s >= 0 else SAMPLE_S
        previous = now
        yield at_s, row


def outcome_of(row: dict[str, object]) -> Outcome:
    """Return what a row must become: a reading, or a reject where its time does not exist."""
    return ONE_ROW if recorded_at(row) else one_reject("time")


class _Replay:
    """One run over all files."""

    def __init__(self, config: ReplayConfig, truth: TruthFile | None) -> None:
        self.config, self._truth = config, truth
        self.files = [FileReplay(file=f.name, device_id=config.device_id(f)) for f in config.files]
        self.connected = 0
        self._at_once = asyncio.Semaphore(config.files_at_once)

    async def replay(self, file: Path, done: FileReplay) -> None:
        """Publish one file and wait until all of it is acknowledged."""

        def acknowledged(outgoing: Outgoing) -> None:
            done.acknowledged += 1
            if self._truth is not None:
                self._truth.acknowledged(outgoing.tag)

        config = self.config
        uplink = Uplink(
            target=config.target,
            device_id=done.device_id,
            random_=random.Random(done.device_id),
            on_acknowledged=acknowledged,
            window=config.window,
            buffer_max=BUFFER_ROWS,
        )
        async with self._at_once, asyncio.TaskGroup() as tasks:
            running = tasks.create_task(uplink.run(), name=f"{done.device_id}-uplink")
            self.connected += 1
            try:
                await self._feed(file, done, uplink)
                await uplink.drained()
            finally:
                self.connected -= 1
                done.resent = uplink.resent
            running.cancel()

    async def _feed(self, file: Path, done: FileReplay, uplink: Uplink) -> None:
        topic = self.config.target.topic(done.device_id, self.config.channel)
        began_s = time.monotonic()
        rows = read_rows(file, self.config.text_columns)
        paced = due_s(rows) if self.config.speed else ((0.0, row) for row in rows)
        for at_s, row in paced:
            if self.config.speed:
                await asyncio.sleep(began_s + at_s / self.config.speed - time.monotonic())
            payload, tag = encode(row), -1
            if self._truth is not None:
                tag = self._truth.sent(
                    device_id=done.device_id, channel=self.config.channel, payload=payload, outcome=outcome_of(row)
                )
            await uplink.put(topic, payload, tag)
            done.published += 1

    def progress(self, elapsed_s: float) -> Progress:
        """Return how far the run is."""
        return Progress(
            elapsed_s=elapsed_s,
            connected=self.connected,
            sent=sum(file.published for file in self.files),
            acknowledged=sum(file.acknowledged for file in self.files),
        )


async def run_replay(
    config: ReplayConfig, *, stop: asyncio.Event, on_progress: OnProgress = no_progress
) -> ReplaySummary:
    """Replay all files; `stop` ends it early, with what was sent until then in the summary.

    Raises: SimulationError: A file is missing or unreadable, two would be the same device, or the server refuses one.
    """
    if config.window < 1 or config.speed < 0:
        raise SimulationError(f"window is {config.window} and speed {config.speed:g}; give at least 1 and 0")
    for file in config.files:
        if not file.is_file():
            raise SimulationError(f"{file}: no such file; give the CSV files to replay")
    if len({config.device_id(file) for file in config.files}) < len(config.files):
        raise SimulationError("two files have the same name and would be one device; rename one or replay them apart")
    truth = TruthFile(config.truth_file) if config.truth_file else None
    run = _Replay(config, truth)
    began_s = time.monotonic()
    try:
        async with asyncio.TaskGroup() as tasks:
            work = [
                tasks.create_task(run.replay(file, done), name=f"replay-{file.stem}")
                for file, done in zip(config.files, run.files, strict=True)
            ]
            while not stop.is_set() and not all(task.done() for task in work):
                await asyncio.wait(work, timeout=REPORT_S)
                on_progress(run.progress(time.monotonic() - began_s))
            for task in work:
                task.cancel()
    except* SimulationError as group:
        raise first_error(group) from None
    finally:
        if truth is not None:
            truth.close()
    total = run.progress(time.monotonic() - began_s)
    return ReplaySummary(
        files=tuple(run.files), seconds=total.elapsed_s, published=total.sent, acknowledged=total.acknowledged
    )

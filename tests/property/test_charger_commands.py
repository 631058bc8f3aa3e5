"""Whatever chargers, clocks, disks and restarts do in whatever order, each command ends once and in the right place."""

import asyncio
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.command_records import OUTCOMES, happened, read_entries, submitted
from gateway.core.errors import JournalError, JournalFull
from gateway.core.ids import DeviceId
from tests.unit.gateway.edge.charger_bench import NO, TENANT, YES, Bench, FakeStation

NAMES = [DeviceId("cp-0"), DeviceId("cp-1")]
STEP = st.one_of(
    st.tuples(st.just("connect"), st.sampled_from(NAMES)),
    st.tuples(st.just("disconnect"), st.sampled_from(NAMES)),
    st.tuples(st.just("answer"), st.sampled_from(NAMES), st.sampled_from([YES, NO])),
    st.tuples(st.just("answer_old"), st.sampled_from(NAMES)),
    st.tuples(st.just("submit"), st.sampled_from(NAMES), st.booleans()),
    st.tuples(st.just("time"), st.sampled_from([1, 15, 31, 100])),
    st.tuples(st.just("commit")),
    st.tuples(st.just("disk"), st.booleans()),
    st.tuples(st.just("restart")),
)


class World:
    """Chargers and a gateway; remembers which command was issued under which connection and sent on which."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.stations: dict[DeviceId, FakeStation] = {}
        self.all_stations: list[FakeStation] = []
        self.issued: dict[str, tuple[FakeStation | None, bool]] = {}
        self.tasks: list[tuple[asyncio.Task[Any], FakeStation | None, bool]] = []
        self.generation = 0

    async def take(self, step: tuple[Any, ...]) -> None:
        """Let one thing happen."""
        match step:
            case ("connect", name):
                self.generation += 1
                self.stations[name] = station = FakeStation(self.bench.commands, name, generation=self.generation)
                self.all_stations.append(station)
            case ("disconnect", name):
                if name in self.stations:
                    self.stations.pop(name).disconnect()
            case ("answer", name, outcome):
                if name in self.stations and self.stations[name].is_calling:
                    self.stations[name].answer(outcome)
            case ("answer_old", name):
                for station in self.all_stations:
                    if station.device_id == name and station.calls:
                        self.bench.commands.answered(station, station.asked[0], YES)
            case ("submit", name, redeliverable):
                work = self.bench.commands.submit(
                    tenant=TENANT,
                    device_id=name,
                    action="ClearCache",
                    payload=b"{}",
                    timeout_s=30,
                    expiry_s=60 if redeliverable else 0,
                    redeliverable=redeliverable,
                    by="ann",
                )
                self.tasks.append((asyncio.ensure_future(work), self.stations.get(name), redeliverable))
                await asyncio.sleep(0)
            case ("time", seconds):
                self.bench.clock.advance(seconds)
            case ("commit",):
                await self.bench.commit()
            case ("disk", works):
                self.bench.journal.fail(None if works else JournalFull("no space"))
            case ("restart",):
                await self.restart()

    async def restart(self) -> None:
        """Kill the gateway: what is not durable is gone, and so are all connections."""
        await self.settle_tasks()
        self.stations = {}
        self.bench = await self.bench.restarted()

    async def settle_tasks(self) -> None:
        """Note the commands whose submission was confirmed; forget callers that wait for a commit that never comes."""
        await asyncio.sleep(0)
        for task, station, redeliverable in self.tasks:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
            elif (error := task.exception()) is None:
                self.issued[task.result()] = (station, redeliverable)
            else:
                assert isinstance(error, JournalError)
        self.tasks = []

    async def end(self) -> None:
        """Let everything come to its end."""
        self.bench.journal.fail(None)
        await self.bench.commit()
        await self.settle_tasks()
        for _ in range(4):
            self.bench.clock.advance(1_000)
            await self.bench.commit()


@given(st.lists(STEP, max_size=40))
def test_every_confirmed_command_ends_once_and_is_sent_where_it_belongs(steps: list[tuple[Any, ...]]) -> None:
    """Oracle: the journal and what the chargers remember."""

    async def drive() -> None:
        world = World()
        for step in steps:
            await world.take(step)
        await world.end()
        entries = list(read_entries(world.bench.journal))
        known = {command.request_id for entry in entries if (command := submitted(entry)) is not None}
        ended = Counter(
            str(entry.envelope.route.channel)
            for entry in entries
            if (event := happened(entry)) is not None and event.step in OUTCOMES
        )
        assert set(world.issued) <= known
        assert ended == dict.fromkeys(known, 1)
        assert world.bench.commands.open_commands == 0
        for station in world.all_stations:
            assert len(set(station.asked)) == len(station.asked)
            for request_id in station.asked:
                assert request_id in known
                issued_to, redeliverable = world.issued.get(request_id, (station, True))
                assert redeliverable or issued_to is station

    asyncio.run(drive())

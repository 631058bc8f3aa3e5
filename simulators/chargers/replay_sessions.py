"""Replay recorded DC sessions: each on its plug, with its own times and energy, as fast as the server answers.

The times are years old; a charger that was offline for so long says just that. Nothing here is random, so two replays
say the same but for message ids.
"""

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from heapq import merge
from operator import itemgetter
from pathlib import Path

import msgspec

from simulators.chargers import samples
from simulators.chargers.clock import iso
from simulators.chargers.fleet import ChargersSummary, drain, summarize
from simulators.chargers.hardware import Hardware, Version
from simulators.chargers.link import CentralSystem, Link, Outgoing
from simulators.chargers.messages_v2 import MessagesV2
from simulators.chargers.messages_v16 import MessagesV16
from simulators.chargers.meter import US_PER_HOUR, Sample, mean_w
from simulators.chargers.outlet import places
from simulators.chargers.records import Records
from simulators.chargers.session import Place, Session, Token
from simulators.chargers.truth import Payload, SessionTruth
from simulators.chargers.visits import Recorded, read_sessions
from simulators.target import OnProgress, Progress, SimulationError, first_error, no_progress

REPORT_S = 1.0
WAITING_MAX = 50
"""Calls made ahead of the server's answers, per station."""
STATIONS_MAX = 200
FULL_W = 172_500
"""Of the recorded station."""
_HARDWARE = Hardware(
    name="desl", vendor="DESL", model="Level 3", is_dc=True, evses=(1, 1), outlet_w=FULL_W, efficiency=0.95
)


class ReplaySessionsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What to replay.

    Attributes:
        file: sessions.csv of the DESL data set.
        server: URL and credentials.
        version: Of OCPP.
        stations: The sessions are dealt to so many stations in turn, each with both plugs; more are faster.
        prefix: Of the stations' names, followed by a number from 01.
        meter_values: Samples inside each session, evenly spread.
        limit: The first so many sessions by arrival, or None for all.
        truth_file: Where to note sessions (simulators.chargers.truth), or None.
        acknowledged_file: Where to note answered calls, or None.
        drain_s: How long to wait for outstanding answers at the end.
    """

    file: Path
    server: CentralSystem = CentralSystem()
    version: Version = "1.6"
    stations: int = 1
    prefix: str = "desl-"
    meter_values: int = 6
    limit: int | None = None
    truth_file: Path | None = None
    acknowledged_file: Path | None = None
    drain_s: float = 60.0


def replay_station_ids(config: ReplaySessionsConfig) -> list[str]:
    """Return the ids that a replay uses, so that they can be registered before it."""
    return [f"{config.prefix}{i + 1:02d}" for i in range(config.stations)]


class _Station:
    """One station: its connection and the sessions that are dealt to it."""

    def __init__(self, name: str, config: ReplaySessionsConfig, sessions: list[Recorded], records: Records) -> None:
        self._name, self._version, self._meter_values = name, config.version, config.meter_values
        self._sessions, self._records = sessions, records
        words = MessagesV16 if config.version == "1.6" else MessagesV2
        self._words: MessagesV16 | MessagesV2 = words(iso, with_data=True)
        self._places = dict(zip(("CCS1", "CCS2"), places(_HARDWARE, config.version), strict=True))
        self._registers_wh = dict.fromkeys(self._places, 0)
        self.begun = 0
        self.link = Link(
            charger_id=name,
            version=config.version,
            server=config.server,
            random_=random.Random(name),
            handlers={},
            after_answer=lambda: None,
            boot=self._boot,
            on_ready=lambda: None,
            on_answered=records.answered,
        )

    async def play(self) -> None:
        """Say all sessions in order of arrival, both plugs interleaved as they were."""
        # A plug's next session begins when the one before has ended, so the merge keeps the order of each plug.
        for _, out in merge(*map(self._session, self._sessions), key=itemgetter(0)):
            await self.link.put(out, waiting_max=WAITING_MAX)

    def _boot(self) -> Outgoing:
        payload = self._words.boot(_HARDWARE, self._name, "PowerUp")
        return Outgoing(action="BootNotification", build=lambda: payload, keep=False)

    def _session(self, recorded: Recorded) -> Iterator[tuple[int, Outgoing]]:
        """Yield (time, call) of one session.

        The register counts whole watt-hours, so an energy with a fraction is rounded; the truth has what was said.
        """
        place = self._places[recorded.plug]
        start_wh, energy_wh = self._registers_wh[recorded.plug], round(recorded.energy_wh)
        self._registers_wh[recorded.plug] += energy_wh
        self.begun += 1
        truth = SessionTruth(
            charger=self._name,
            version=self._version,
            connector=self._words.connector(place),
            id_token=f"DESL-{recorded.number:04d}",
            started_at=iso(recorded.arrival_us),
            ended_at=iso(recorded.departure_us),
            meter_start_wh=start_wh,
            meter_stop_wh=start_wh + energy_wh,
            energy_wh=energy_wh,
            delivered_wh=energy_wh,
            stop_reason="EVDeparted",
        )
        session = Session(
            place=place,
            token=Token(text=truth.id_token),
            truth=truth,
            began_us=recorded.arrival_us,
            charging_state="Charging",
        )
        if self._version != "1.6":
            session.transaction_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self._name}/{recorded.number}"))
            truth.transaction_ids.append(str(session.transaction_id))
        begin, *between, end = _samples(recorded, start_wh=start_wh, energy_wh=energy_wh, parts=self._meter_values + 1)
        yield begin.at_us, self._status(place, "Charging", begin.at_us)
        build = self._words.start(session, begin, offline=True, trigger="Authorized")
        yield begin.at_us, self._call(truth, self._words.start_action, build, partial(self._started, session))
        for sample in between:
            truth.meter_values += 1
            build = self._words.update(
                session, sample, offline=True, trigger="MeterValuePeriodic", values=samples.values(sample)
            )
            yield sample.at_us, self._call(truth, self._words.update_action, build)
        session.stop_reason = truth.stop_reason
        build = self._words.stop(session, end, offline=True, trigger="EVDeparted")
        truth.is_over = True
        yield end.at_us, self._call(truth, self._words.stop_action, build, partial(_stopped, truth))
        yield end.at_us, self._status(place, "Available", end.at_us)

    def _status(self, place: Place, status: str, at_us: int) -> Outgoing:
        payload = self._words.status(place, status, at_us)
        return Outgoing(action="StatusNotification", build=lambda: payload, keep=True)

    def _started(self, session: Session, answer: Payload | None) -> None:
        if answer is None:
            return
        session.truth.started = True
        if self._version == "1.6":
            session.transaction_id = answer["transactionId"]
            session.truth.transaction_ids.append(str(session.transaction_id))

    def _call(
        self,
        truth: SessionTruth,
        action: str,
        build: Callable[[], Payload],
        on_answer: Callable[[Payload | None], None] | None = None,
    ) -> Outgoing:
        truth.calls += 1
        truth.unsettled += 1

        def answered(answer: Payload | None) -> None:
            truth.answered += answer is not None
            truth.unsettled -= 1
            if on_answer is not None:
                on_answer(answer)
            if truth.is_over and not truth.unsettled:
                self._records.session(truth)

        return Outgoing(action=action, build=build, keep=True, on_answer=answered)


def _stopped(truth: SessionTruth, answer: Payload | None) -> None:
    truth.stopped = answer is not None


def _samples(recorded: Recorded, *, start_wh: int, energy_wh: int, parts: int) -> Iterator[Sample]:
    """Yield the register at the beginning, `parts - 1` times in between, and at the end, along the recorded power.

    The power is the mean since the sample before, so that power times time is the register's rise.
    """
    stay_us = recorded.departure_us - recorded.arrival_us
    before_wh, before_us = start_wh, recorded.arrival_us
    for i in range(parts + 1):
        part = i / parts
        taken = 1.0 - (1.0 - part) ** recorded.energy_exponent
        at_us = recorded.arrival_us + stay_us * i // parts
        wh = start_wh + (energy_wh if i == parts else int(energy_wh * taken))
        soc = recorded.soc_arrival_pct + (recorded.soc_departure_pct - recorded.soc_arrival_pct) * taken
        yield Sample(
            at_us=at_us,
            energy_wh=wh,
            power_w=mean_w((wh - before_wh) * US_PER_HOUR, at_us - before_us),
            offered_w=FULL_W,
            is_dc=True,
            voltage_v=330.0 + 0.75 * soc,
            soc_pct=soc,
            temp_c=None,
        )
        before_wh, before_us = wh, at_us


class _Replay:
    """One run."""

    def __init__(self, config: ReplaySessionsConfig, records: Records) -> None:
        sessions = read_sessions(config.file)[: config.limit]
        if plugs := {session.plug for session in sessions} - {"CCS1", "CCS2"}:
            raise SimulationError(f"{config.file}: plugs {sorted(plugs)}; the recorded station has CCS1 and CCS2")
        names = replay_station_ids(config)
        self.stations = [
            _Station(name, config, sessions[i :: config.stations], records) for i, name in enumerate(names)
        ]

    def progress(self, elapsed_s: float) -> Progress:
        """Return how far it is."""
        counts = [station.link.counts for station in self.stations]
        return Progress(
            elapsed_s=elapsed_s,
            connected=sum(station.link.is_ready for station in self.stations),
            sent=sum(one.sent for one in counts),
            acknowledged=sum(one.answered for one in counts),
        )


async def run_replay_sessions(
    config: ReplaySessionsConfig, *, stop: asyncio.Event, on_progress: OnProgress = no_progress
) -> ChargersSummary:
    """Replay until all sessions are answered or `stop` is set, and disconnect.

    Raises: SimulationError: The file is not usable, the server refuses a station, or the configuration makes no sense.
    """
    if not 1 <= config.stations <= STATIONS_MAX:
        raise SimulationError(f"stations is {config.stations}; give 1 to {STATIONS_MAX}")
    if config.meter_values < 0:
        raise SimulationError(f"meter_values is {config.meter_values}; give 0 or more")
    began_s = time.monotonic()
    with Records(config.truth_file, config.acknowledged_file) as records:
        replay = _Replay(config, records)
        try:
            async with asyncio.TaskGroup() as tasks:
                links = [
                    tasks.create_task(station.link.run(), name=f"{name}-link")
                    for name, station in zip(replay_station_ids(config), replay.stations, strict=True)
                ]
                plays = [tasks.create_task(station.play(), name="replay") for station in replay.stations]
                while not stop.is_set() and not all(task.done() for task in plays):
                    await asyncio.wait(plays, timeout=REPORT_S)
                    on_progress(replay.progress(time.monotonic() - began_s))
                for task in plays:
                    task.cancel()
                await drain([station.link for station in replay.stations], config.drain_s)
                for task in links:
                    task.cancel()
        except* SimulationError as group:
            raise first_error(group) from None
    return summarize(
        [station.link for station in replay.stations],
        records,
        sessions=sum(station.begun for station in replay.stations),
        seconds=time.monotonic() - began_s,
    )

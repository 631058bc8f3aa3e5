"""One round of the oracle: a system under load of vehicles and chargers, its kills, and the verdict.

First the failpoints, with the two programs as our own children, because only the one that is to die is armed. Each
restart is armed with the next failpoint already. Then random moments, with all of Voltgate under its own supervisor.
"""

import csv
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec
import polars as pl
from paho.mqtt import publish

from gateway.core.failpoints import Failpoint
from gateway.journal.disk import read_durable
from tests.fault.alerting import Desk
from tests.fault.compare import Comparison
from tests.fault.lake import Chargers, judge
from tests.fault.plan import COMPACTION, Kill, Target
from tests.fault.programs import Archive, Generator, Program, Supervised
from tests.installation import environment, until

SETTINGS: Final[dict[str, object]] = {
    "gateway__mqtt__allow_anonymous": True,
    "gateway__ocpp__allow_unauthenticated": True,
    "gateway__tick_s": 1,
    # Small and short, so that a minute has hundreds of rolls, deletions, commits and checkpoints.
    "journal__segment_bytes_max": 2**20,
    "journal__retention_age_s": 2,
    "journal__retention_interval_s": 0.5,
    "processors__commit_interval_s": 0.3,
    "processors__checkpoint_interval_s": 1,
    "processors__batch_rows_max": 4000,
    "lake__compact_interval_s": 2,
}
NO_COMPACTION: Final = {"VOLTGATE__LAKE__COMPACT_INTERVAL_S": "3600"}
CONNECTIONS, WINDOW = 20, 50
FLEET: Final = (
    *("--buses", "3", "--cars", "3", "--pace", "10", "--seconds", "3600"),
    *("--garbage", "0.05", "--skew", "0.02", "--duplicate", "0.05", "--disorder", "0.05", "--late", "0.01"),
    # Alerts, over the whole of a round; seconds of the vehicles' own time, which goes ten times as fast.
    *("--fault", "isolation-loss@30", "--fault", "thermal-runaway@120", "--fault", "isolation-loss-slow@240"),
    *("--fault", "thermal-runaway-slow@360"),
)
CHARGERS: Final = (
    *("--count", "200", "--version", "mixed", "--meter-interval", "40", "--gap", "6"),
    *("--drop", "0.03", "--half-open", "0.02", "--duplicate", "0.02", "--late-meter", "0.05"),
    # Five simulated seconds in one, and an end that no round reaches.
    *("--pace", "5", "--seconds", "3600", "--drain", "30"),
)
"""A session takes some 30 s and a meter value comes every 8 s: about a hundred calls a second, and many more after an
outage, when all chargers say what they kept."""
VISITS: Final = [(120 * i, 20_000 + 2_500 * i) for i in range(1, 49)]
"""What vehicles want: (energy in Wh, most power in W); those of the field charge for as long as ten rounds."""
FRESH: Final = "fresh"
"""Device that sends one event after everything else."""
FRESH_S: Final = 10.0
"""Once faults and load have ended a new message must be acknowledged and in the lake by then."""
CATCH_UP_S: Final = 120.0
"""The longest that what piled up during the kills may take beside the load; how long it took is a figure, because it
measures the machine: after so many kills in a row some 50,000 messages wait, and the load takes most of two cores."""
LOAD_TIMEOUT_S: Final = 30.0
_ACKNOWLEDGED_BYTES: Final = 28


class KillRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one planned kill.

    Attributes:
        kill: As planned.
        happened: Whether the process died by the signal, at the failpoint if one was planned.
        acknowledged: Messages that the load generator was told are received, up to then.
        charging: Whether calls of chargers had been answered since the kill before, and since the gateway was back.
        restart_s: From the start of what was killed to /readyz, the supervisor's pause before it left out.
    """

    kill: Kill
    happened: bool
    acknowledged: int
    charging: bool
    restart_s: float


class RoundResult(msgspec.Struct, frozen=True, kw_only=True):
    """Kills and verdict of one round.

    Attributes:
        records: One for each kill.
        comparison: The verdict.
        catch_up_s: From the last fault until what was acknowledged then is in the lake, under load.
        fresh_s: The same for one message after the load.
    """

    records: list[KillRecord]
    comparison: Comparison
    catch_up_s: float
    fresh_s: float


class Round:
    """One round in a directory of its own: make one, `run` it once.

    Args:
        directory: New directory for everything.
        kills: What to do, failpoints first.
        rate_per_s: Messages of the load generator per second.
        seed: For the journeys, visits and faults of vehicles and chargers.
        say: Called with each kill as soon as it is known.
    """

    def __init__(
        self, directory: Path, kills: Sequence[Kill], *, rate_per_s: int, seed: int, say: Callable[[KillRecord], None]
    ) -> None:
        self._directory, self._say = directory, say
        self._at_failpoints = [kill for kill in kills if kill.failpoint is not None]
        self._at_random = [kill for kill in kills if kill.failpoint is None]
        self._rate_per_s, self._seed = rate_per_s, seed
        self._data = directory / "data"
        self._load_file, self._fleet_file = directory / "acknowledged", directory / "truth.jsonl"
        self._chargers = Chargers(truth=directory / "sessions.jsonl", answered=directory / "answered.jsonl")
        self._port, self._ocpp_port = free_port(), free_port()
        ports: dict[str, object] = {"gateway__mqtt__port": self._port, "gateway__ocpp__port": self._ocpp_port}
        self._environ = environment(**ports, **SETTINGS)
        self._answered_before = 0
        self._records: list[KillRecord] = []
        self._findings: list[str] = []

    def run(self) -> RoundResult:
        """Start, kill and restart as planned, let the load end, drain, compare."""
        self._directory.mkdir(parents=True)
        with ExitStack() as parts:
            desk = parts.enter_context(Desk(self._data, self._directory / "secret"))
            archive = parts.enter_context(Archive(self._data / "ingest", self._directory / "reference" / "ingest"))
            load = parts.enter_context(Generator(self._directory, *self._load_arguments()))
            fleet = parts.enter_context(Generator(self._directory, *self._fleet_arguments()))
            chargers = parts.enter_context(Generator(self._directory, *self._chargers_arguments()))
            if self._at_failpoints:
                self._visit_failpoints()
            supervised = parts.enter_context(Supervised(self._data, self._environ))
            self._kill_at_random(supervised)
            self._await_acknowledgement()  # chargers come back in their own time, which is not ours to answer for
            catch_up_s = self._await_arrival(supervised, timeout_s=CATCH_UP_S)
            for name, generator in (("load", load), ("fleet", fleet)):
                summary = generator.stop()
                if summary["acknowledged"] != summary["sent"]:
                    self._findings.append(f"{name}: {summary['sent'] - summary['acknowledged']} never acknowledged")
            self._expect_answers(chargers.stop())
            fresh_s = self._send_fresh(supervised)
            desk.await_all()
            self._expect_exit("voltgate run", supervised.stop())
            archive.close()
            self._drain(self._data)
            told = desk.told()
        self._drain(self._directory / "reference")
        comparison = judge(
            self._data,
            self._directory / "reference",
            load=self._load_file,
            fleet=self._fleet_file,
            chargers=self._chargers,
            told=told,
        )
        events = (
            pl.scan_delta(str(self._data / "lake" / "vehicle_event")).filter(pl.col("device_id") == FRESH).collect()
        )
        if events.height != 1:
            self._findings.append(f"the fresh message is {events.height} rows")
        comparison = msgspec.structs.replace(comparison, findings=(*self._findings, *comparison.findings))
        return RoundResult(records=self._records, comparison=comparison, catch_up_s=catch_up_s, fresh_s=fresh_s)

    # ---- failpoints --------------------------------------------------------------------------------------------------
    def _visit_failpoints(self) -> None:
        with (
            Program("gateway", self._data, self._environ) as gateway,
            Program("processors", self._data, self._environ) as processors,
        ):
            gateway.start()
            processors.start()
            for program, target in ((gateway, Target.GATEWAY), (processors, Target.PROCESSORS)):
                chain = [kill for kill in self._at_failpoints if kill.target == target]
                self._await_load()
                self._expect_exit(program.name, program.stop())
                self._start(program, chain[0])
                for kill, following in zip(chain, [*chain[1:], None], strict=True):
                    happened = program.await_kill()
                    acknowledged, charging = self._acknowledged(), self._is_charging()
                    if not happened:
                        program.stop()
                    restart_s = self._start(program, following)
                    self._note(
                        kill, happened=happened, acknowledged=acknowledged, charging=charging, restart_s=restart_s
                    )
            # The gateway first: data flows from it to the processors.
            self._expect_exit("gateway", gateway.stop())
            self._expect_exit("processors", processors.stop())

    def _start(self, program: Program, kill: Kill | None) -> float:
        if kill is None:
            return program.start()
        assert kill.failpoint is not None
        settings = {} if kill.failpoint in COMPACTION else NO_COMPACTION
        return program.start((kill.failpoint, kill.nth), **settings)

    # ---- random moments ----------------------------------------------------------------------------------------------
    def _kill_at_random(self, supervised: Supervised) -> None:
        supervised.start()
        for kill in self._at_random:
            if kill.loaded:
                self._await_load()
            time.sleep(kill.delay_s)
            acknowledged, charging = self._acknowledged(), self._is_charging()
            if kill.target is Target.EVERYTHING:
                supervised.kill_everything()
                if kill.again_after_s is not None:
                    supervised.begin()
                    time.sleep(kill.again_after_s)
                    supervised.kill_everything()
                restart_s = supervised.start()
            else:
                restart_s = supervised.kill(kill.target)
            self._note(kill, happened=True, acknowledged=acknowledged, charging=charging, restart_s=restart_s)

    def _await_arrival(self, supervised: Supervised, *, timeout_s: float) -> float:
        """Return the seconds until everything that is acknowledged now is in the lake."""
        began_s = time.monotonic()
        end_offset = read_durable(self._data / "ingest") or 0
        until(
            lambda: supervised.run_file("processors")["offset"] >= end_offset,
            timeout_s=timeout_s, what="the arrival of what was acknowledged in the lake",
        )  # fmt: skip
        return time.monotonic() - began_s

    def _send_fresh(self, supervised: Supervised) -> float:
        """Return the seconds until a message sent now is acknowledged and in the lake."""
        began_s = time.monotonic()
        publish.single(
            f"v1/default/{FRESH}/event", b'{"ts": "2026-01-01T00:00:00Z", "kind": "other"}',
            qos=1, port=self._port, client_id=FRESH,
        )  # fmt: skip
        self._await_arrival(supervised, timeout_s=LOAD_TIMEOUT_S)
        fresh_s = time.monotonic() - began_s
        if fresh_s > FRESH_S:
            self._findings.append(f"a message took {fresh_s:.1f} s after faults and load, {FRESH_S:g} are allowed")
        return fresh_s

    # ---- everywhere --------------------------------------------------------------------------------------------------
    def _load_arguments(self) -> list[str]:
        return [
            *("load", "--survive", "--seconds", "1e9", "--port", str(self._port), "--rate", str(self._rate_per_s)),
            *("--connections", str(CONNECTIONS), "--window", str(WINDOW)),
            *("--acknowledged-file", str(self._load_file)),
        ]

    def _fleet_arguments(self) -> list[str]:
        where = ("--port", str(self._port), "--truth-file", str(self._fleet_file))
        return ["vehicles", *FLEET, "--seed", str(self._seed), *where]

    def _chargers_arguments(self) -> list[str]:
        visits = self._directory / "visits.csv"
        write_visits(visits)
        where = ("--url", f"ws://127.0.0.1:{self._ocpp_port}/ocpp", "--sessions", str(visits))
        files = ("--truth-file", str(self._chargers.truth), "--acknowledged-file", str(self._chargers.answered))
        return ["chargers", *CHARGERS, "--seed", str(self._seed), *where, *files]

    def _note(self, kill: Kill, *, happened: bool, acknowledged: int, charging: bool, restart_s: float) -> None:
        record = KillRecord(
            kill=kill, happened=happened, acknowledged=acknowledged, charging=charging, restart_s=restart_s
        )
        self._records.append(record)
        self._say(record)
        if kill.target is not Target.PROCESSORS:
            self._answered_before = self._answered()  # chargers were cut off meanwhile

    def _expect_exit(self, name: str, code: int) -> None:
        if code != 0:
            self._findings.append(f"{name} ended with exit code {code} when asked to stop")

    def _expect_answers(self, summary: dict[str, Any]) -> None:
        """Every charger must have got its answers, and such as the `ocpp` package understands."""
        for name in ("waiting", "refused", "invalid_answers"):
            if summary[name]:
                self._findings.append(f"chargers: {summary[name]} calls {name}")

    def _answered(self) -> int:
        """Return the length of the file of answered calls, which only grows."""
        return self._chargers.answered.stat().st_size if self._chargers.answered.exists() else 0

    def _is_charging(self) -> bool:
        """Return whether calls of chargers were answered since this was asked before, or since the gateway is back."""
        before, self._answered_before = self._answered_before, self._answered()
        return self._answered_before > before

    def _acknowledged(self) -> int:
        """Return how many messages the load generator was told are received: records of a file that only grows."""
        return max(0, self._load_file.stat().st_size - 512) // _ACKNOWLEDGED_BYTES

    def _await_acknowledgement(self) -> None:
        before = self._acknowledged()
        until(lambda: self._acknowledged() > before, timeout_s=LOAD_TIMEOUT_S, what="the next acknowledgement")

    def _await_load(self) -> None:
        """Wait for the next acknowledgement of the load generator, and the next answer to a charger."""
        answered = self._answered()
        self._await_acknowledgement()
        until(lambda: self._answered() > answered, timeout_s=LOAD_TIMEOUT_S, what="the next answer to a charger")

    def _drain(self, data: Path) -> None:
        """Let the processors take what the journal still has."""
        command = [sys.executable, "-m", "processors", "--data", str(data), "--drain"]
        # Other batches than those of the killed run, because they must not matter.
        environ = environment(processors__batch_rows_max=30_000)
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]


def hit(records: Sequence[KillRecord]) -> set[Failpoint]:
    """Return the failpoints at which a process died."""
    return {record.kill.failpoint for record in records if record.happened and record.kill.failpoint is not None}


def write_visits(file: Path) -> None:
    """Write VISITS in the format of the DESL data set: what the simulated chargers draw from."""
    columns = ("Session", "CCS", "Arrival", "Departure", "Energy (Wh)", "Pmax (W)")
    more = {"SOC arrival": 20, "SOC departure": 60, "Energy capacity (Wh)": 60_000}
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, [*columns, *more])
        writer.writeheader()
        for i, (energy_wh, power_max_w) in enumerate(VISITS):
            times = (f"2023-01-{i // 24 + 1:02} {i % 24:02}:{minute}:00" for minute in ("00", "50"))
            writer.writerow(dict(zip(columns, (i, "CCS1", *times, energy_wh, power_max_w), strict=True)) | more)


def free_port() -> int:
    """Return a port that is free now; the programs need the same one after each restart."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port

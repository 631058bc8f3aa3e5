"""The processors' composition root: settings in, one loop, everything closed in order.

The only file of the processors that reads the clock, the environment and signals, and that knows the concrete classes.
Polars reads its number of threads when it is imported, so what needs it is imported where it is used.

Start: 1 lock  2 contracts and rules  3 lake  4 state  5 results journal  6 local port  7 run file  8 notifier
9 indexer. Then the pump, with jobs between batches. Stop: 1 drain the journal to its durable end, for a bounded time
2 write  3 checkpoint  4 indexer  5 notifier  6 run file. What the notifier owes is on disk, what is not indexed is in
the lake; both go on at the next start.
"""

import argparse
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from gateway.configuration import EXIT_CONFIG, EXIT_FAILED, EXIT_OK, failpoint_hook, load_settings
from gateway.core.errors import CheckpointError, ConfigError, JournalError, JournalLocked, SinkError, VoltgateError
from gateway.core.failpoints import FailpointHook, no_failpoint
from gateway.core.ids import Offset
from gateway.core.settings import Settings
from gateway.observe.run_files import write_private

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from gateway.journal.cursors import FileCursors
    from gateway.journal.reader import SegmentReader
    from gateway.observe.http import ObserveServer
    from gateway.observe.logs import Logger
    from processors.indexer import Indexer
    from processors.jobs.upkeep import Upkeep
    from processors.notifier import Notifier
    from processors.pump import Pump
    from processors.sinks.lake import Lake
    from processors.stages.chain import Chain, ChainState
    from processors.watch import Watch

LOCK_WAIT_S: Final = 10.0
"""A predecessor that was told to stop drains for up to `DRAIN_S`; its successor waits that long."""
DRAIN_S: Final = 7.0
"""Time a stop may take to bring the lake up to date; a service manager that gives 10 s must not need to kill."""
JOURNAL_WAIT_S: Final = 5.0
"""Time the gateway has to publish the journal's end before a lake that is ahead of it counts as another journal's."""
HEARTBEAT_AGE_MAX_S: Final = 120.0
"""The largest batch takes about a second, a compaction some; nothing honest takes minutes."""
STATUS_INTERVAL_S: Final = 1.0
JOURNAL_RETRY_S: Final = 1.0


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Content of DATA/run/processors.json, for `voltgate status` and whoever else looks.

    Attributes:
        pid: Process that wrote it.
        running: Whether it still ran then.
        observe_host: Where /metrics, /livez and /readyz are.
        observe_port: The same.
        offset: Offset up to which (exclusive) everything is in the lake.
        end_offset: Durable end of the journal when this was written.
        written_at_ns: UTC nanoseconds.
        ledger: Counts up to `offset`, see `processors.stages.ledger.Ledger`.
    """

    pid: int
    running: bool
    observe_host: str
    observe_port: int
    offset: int
    end_offset: int
    written_at_ns: int
    ledger: dict[str, object]


class Processors:
    """One running set of processors: make one, `run` it once.

    Args:
        settings: The whole configuration.
        log: Diagnostics.
        drain: End by itself once the lake has all that is durable in the journal.
        failpoint: Called between the steps whose order the promise depends on.
    """

    def __init__(
        self, settings: Settings, *, log: "Logger", drain: bool = False, failpoint: FailpointHook = no_failpoint
    ) -> None:
        from gateway.observe.health import Heartbeat

        self._settings, self._log, self._drain, self._failpoint = settings, log, drain, failpoint
        self._stop, self._reload = threading.Event(), threading.Event()
        self._load: Callable[[], Settings] = lambda: settings
        self._heartbeat = Heartbeat(now_s=time.monotonic, name="pump", age_max_s=HEARTBEAT_AGE_MAX_S)
        self._journal_error: str | None = None
        self._status_error: str | None = None
        self._status_at_s = 0.0

    def stop(self) -> None:
        """Ask to end: drain, checkpoint, return. Safe in a signal handler and to repeat."""
        self._stop.set()

    def reload(self, load: Callable[[], Settings]) -> None:
        """Ask to read rules, receivers and routes again; what is wrong is logged and changes nothing. Signal-safe."""
        self._load = load
        self._reload.set()

    def run(self, ready: Callable[[Status], None]) -> None:
        """Process until `stop`; `ready` is called before the first batch.

        Raises:
            VoltgateError: A part cannot start.
            OSError: A port cannot be bound, or the data directory cannot be written.
        """
        from gateway.journal.cursors import FileCursors
        from gateway.journal.reader import SegmentReader
        from gateway.observe.metrics import notice_histogram, process_registry
        from processors.pump import Pump
        from processors.sinks.results import ResultsJournal
        from processors.stages.chain import Chain
        from processors.stores import make_indexer, make_notifier, make_upkeep, open_lake, rulings_of
        from processors.watch import Watch

        settings, data = self._settings, self._settings.data
        run_file = data / "run" / "processors.json"
        with ExitStack() as parts:
            run_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            parts.enter_context(_lock(run_file.with_suffix(".lock"), self._log))
            rulings = rulings_of(settings, os.environ)
            contracts = rulings.contracts
            chain = Chain(contracts)
            reader = SegmentReader(data / "ingest")
            parts.callback(reader.close)
            cursors = FileCursors(data / "cursors", failpoint=self._failpoint)
            lake = open_lake(settings, contracts, chain, self._failpoint)
            parts.callback(lake.close)
            self._await_journal(reader, lake, chain)
            state = self._load_state(chain, reader, cursors)
            results = ResultsJournal(data / "results", now_ns=time.time_ns, failpoint=self._failpoint)
            parts.callback(results.close)
            registry = process_registry(process="processors", version=version("voltgate"))
            notifier = make_notifier(
                settings,
                rulings.plan,
                log=self._log,
                now_ns=time.time_ns,
                latency=notice_histogram(registry),
            )
            indexer = make_indexer(settings, contracts, chain, log=self._log, now_ns=time.time_ns)
            watch = Watch(
                log=self._log, now_ns=time.time_ns, reader=reader, state=state, notifier=notifier, indexer=indexer
            )
            pump = Pump(
                reader=reader,
                chain=chain,
                sink=lake,
                results=results,
                cursors=cursors,
                state=state,
                writer=parts.enter_context(ThreadPoolExecutor(1, thread_name_prefix="write")),
                events=watch,
                rows_max=settings.processors.batch_rows_max,
                interval_s=settings.processors.interval_s,
                commit_interval_s=settings.processors.commit_interval_s,
                checkpoint_interval_s=settings.processors.checkpoint_interval_s,
                failpoint=self._failpoint,
            )
            upkeep = make_upkeep(settings, contracts, lake, self._failpoint, watch)
            watch.register_metrics(registry)
            observe = self._start_observe(registry, notifier, indexer)
            parts.callback(observe.close)

            def status(*, running: bool = True) -> Status:
                return Status(
                    pid=os.getpid(),
                    running=running,
                    observe_host=settings.observe.host,
                    observe_port=observe.port,
                    offset=watch.offset,
                    end_offset=reader.end_offset(),
                    written_at_ns=time.time_ns(),
                    ledger=msgspec.structs.asdict(watch.ledger),
                )

            parts.callback(lambda: self._show(run_file, status(running=False)))
            write_private(run_file, msgspec.json.encode(status()))
            ready(status())
            self._log.info(
                "ready", offset=state.next_offset, observe_port=observe.port, streams=list(contracts.streams)
            )
            notifier.start()
            parts.callback(notifier.close)
            if indexer is not None:
                indexer.start(state)
                parts.callback(indexer.close)
            self._loop(
                pump,
                upkeep,
                watch,
                write_status=lambda: self._show(run_file, status()),
                rule_anew=partial(self._rule_anew, pump, notifier, chain),
                retain=lambda: self._retain_results(notifier),
            )
            self._finish(pump)
            self._log.info("stopped", offset=pump.offset, lag_entries=pump.lag_entries)

    def _loop(
        self,
        pump: "Pump",
        upkeep: "Upkeep",
        watch: "Watch",
        *,
        write_status: Callable[[], None],
        rule_anew: Callable[[], None],
        retain: Callable[[], None],
    ) -> None:
        """Step until asked to stop, with due jobs between batches."""
        shown, retained_at_s = -1, time.monotonic()
        while not self._stop.is_set():
            if self._reload.is_set():
                rule_anew()
            pause_s = self._step(pump, hurry=self._drain)
            now_s = time.monotonic()
            if watch.commits != shown or now_s - self._status_at_s >= STATUS_INTERVAL_S:
                shown, self._status_at_s = watch.commits, now_s
                write_status()
            if now_s - retained_at_s >= self._settings.journal.retention_interval_s:
                retained_at_s = now_s
                retain()
            if upkeep.is_due(now_s) and pump.flush(now_s):
                try:
                    upkeep.run_next(datetime.now(UTC).date())
                except SinkError as error:
                    watch.refused(error)
            elif pause_s > 0:
                if self._drain and pump.lag_entries == 0:
                    return
                self._stop.wait(pause_s)

    def _rule_anew(self, pump: "Pump", notifier: "Notifier", chain: "Chain") -> None:
        """Go on under the rules, receivers and routes that the files have now; where one is wrong, under the old."""
        from processors.stages.chain import Chain
        from processors.stores import rulings_of

        self._reload.clear()
        try:
            rulings = rulings_of(self._load(), os.environ)
        except ConfigError as error:
            self._log.error("configuration_refused", detail=str(error))
            return
        fresh = Chain(rulings.contracts)
        if fresh.schemas != chain.schemas:
            self._log.error("configuration_refused", detail="contracts changed their fields; restart to apply them")
            return
        if not pump.replace_chain(fresh, time.monotonic()):
            self._reload.set()  # a store refuses at the moment; the next step tries again
            return
        notifier.reload(rulings.plan)
        self._log.info("configuration_applied", rules=sum(len(contract.rules) for contract in rulings.contracts))

    def _retain_results(self, notifier: "Notifier") -> None:
        """Delete what of the results journal is old and was read by the notifier."""
        from gateway.journal.retention import apply_retention

        journal = self._settings.journal
        try:
            apply_retention(
                self._settings.data / "results",
                read_up_to=Offset(notifier.numbers().cursor),
                now_ns=time.time_ns(),
                age_s_max=journal.retention_age_s,
                bytes_max=journal.retention_bytes,
                hard_bytes_max=max(journal.retention_bytes, journal.disk_bytes_max),
            )
        except OSError as error:
            self._log.error("results_retention_failed", detail=str(error))

    def _show(self, run_file: Path, status: Status) -> None:
        """Replace the run file; where the disk has no room the old one stands, which is no reason to end."""
        try:
            write_private(run_file, msgspec.json.encode(status))
        except OSError as error:
            if self._status_error is None:
                self._log.warning("status_not_written", detail=str(error))
            self._status_error = str(error)
        else:
            self._status_error = None

    def _step(self, pump: "Pump", *, hurry: bool) -> float:
        """Step once; an unreadable journal is said once and tried again."""
        try:
            pause_s = pump.step(time.monotonic(), hurry=hurry)
        except JournalError as error:
            if self._journal_error is None:
                self._log.error("journal_unreadable", detail=str(error))
            self._journal_error = str(error)
            pause_s = JOURNAL_RETRY_S
        else:
            self._journal_error = None
        self._heartbeat.beat()
        return pause_s

    def _finish(self, pump: "Pump") -> None:
        """Bring the lake up to what is durable now, within `DRAIN_S`, and store the checkpoint."""
        give_up_at_s = time.monotonic() + DRAIN_S
        while pump.lag_entries and time.monotonic() < give_up_at_s:
            pause_s = self._step(pump, hurry=True)
            if pause_s:
                time.sleep(min(pause_s, max(0.0, give_up_at_s - time.monotonic())))
        pump.flush(time.monotonic())
        pump.checkpoint(time.monotonic())

    def _await_journal(self, reader: "SegmentReader", lake: "Lake", chain: "Chain") -> None:
        """Wait until the journal has what the lake has.

        Raises: ConfigError: It has not, so it is not the journal that the lake was made from.
        """
        held = max(lake.version(name) for name in chain.schemas)
        give_up_at_s = time.monotonic() + JOURNAL_WAIT_S
        while reader.end_offset() < held and not self._stop.is_set():
            if time.monotonic() >= give_up_at_s:
                raise ConfigError(
                    str(self._settings.data / "ingest"),
                    0,
                    f"the journal ends at offset {reader.end_offset()}, the lake {self._settings.lake_url} holds it up"
                    f" to {held}",
                    "restore both together, or move the lake away to have it made again",
                )
            self._stop.wait(0.2)

    def _load_state(self, chain: "Chain", reader: "SegmentReader", cursors: "FileCursors") -> "ChainState":
        """Return the state to go on from; where it is unreadable, the empty one at the journal's oldest entry.

        The lake does not take again what it has, so beginning anew costs time and nothing else as long as the journal
        goes back far enough.
        """
        from processors.pump import CURSOR

        try:
            checkpoint = cursors.load(CURSOR)
            if checkpoint is not None:
                return chain.from_bytes(checkpoint.state)
        except CheckpointError as error:
            self._log.error("checkpoint_unreadable", detail=str(error), begin_at=reader.start_offset())
        return chain.empty_state(reader.start_offset())

    def _start_observe(
        self, registry: "CollectorRegistry", notifier: "Notifier", indexer: "Indexer | None"
    ) -> "ObserveServer":
        from gateway.observe.http import ObserveServer

        live = {"pump": self._heartbeat.check, "notifier": notifier.check_live}
        if indexer is not None:
            live["indexer"] = indexer.check_live
        observe = ObserveServer(
            host=self._settings.observe.host,
            port=self._settings.observe.processors_port,
            registry=registry,
            live=live,
            ready={
                "pump": self._heartbeat.check,
                "journal": lambda: self._journal_error,
                "notifier": notifier.check_ready,
            },
        )
        observe.start()
        return observe


@contextmanager
def _lock(path: Path, log: "Logger") -> Iterator[None]:
    """Hold the directory against a second set of processors, after waiting for a predecessor that is just ending.

    Raises: JournalLocked: It does not end.
    """
    with path.open("a+") as file:
        give_up_at_s = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                owner = file.read().strip() or "unknown"
                if time.monotonic() >= give_up_at_s:
                    raise JournalLocked(
                        f"{path.parent.parent} is processed by process {owner}; stop it, or choose another --data"
                    ) from None
            log.warning("processors_locked", owner_pid=owner, waiting_s=LOCK_WAIT_S)
            time.sleep(LOCK_WAIT_S / 5)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


# ---- command line ----------------------------------------------------------------------------------------------------
def serve(
    settings: Settings,
    *,
    ready: Callable[[Status], None] = lambda _status: None,
    drain: bool = False,
    failpoint: FailpointHook = no_failpoint,
    load: Callable[[], Settings] | None = None,
) -> int:
    """Run the processors until SIGTERM or SIGINT, or until the journal is drained; return the exit code.

    Args:
        settings: The whole configuration.
        ready: Called before the first batch.
        drain: End once the lake has all that is durable in the journal.
        failpoint: Called between the steps whose order the promise depends on.
        load: Reads the configuration again on SIGHUP; without it only the files that it names are read again.
    """
    # Polars reads both once, at its import. Without the first it takes every core; the second lets its allocator keep
    # what one batch freed until the next one needs it (measured: 0.5 us of page faults per message less), and give it
    # back when nothing comes for ten seconds.
    os.environ["POLARS_MAX_THREADS"] = str(settings.processors.polars_threads)
    os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:10000,muzzy_decay_ms:10000")
    from gateway.observe.logs import make_logger

    log = make_logger(
        form=settings.observe.log_format,
        level=settings.observe.log_level,
        secrets=settings.secrets(),
        process="processors",
    )
    processors = Processors(settings, log=log, drain=drain, failpoint=failpoint)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda _signum, _frame: processors.stop())
    signal.signal(signal.SIGHUP, lambda _signum, _frame: processors.reload(load or (lambda: settings)))
    failure: Exception | None = None
    try:
        processors.run(ready)
    except (VoltgateError, OSError) as exc:
        failure = exc
    if failure is None:
        return EXIT_OK
    log.error("failed", kind=type(failure).__name__, detail=str(failure))
    return EXIT_CONFIG if isinstance(failure, ConfigError | JournalLocked) else EXIT_FAILED


def main(argv: Sequence[str] | None = None) -> int:
    """Run the processors' command line; return its exit code: 0 ended as asked, 1 failed, 2 usage, 3 configuration."""
    parser = argparse.ArgumentParser(
        prog="python -m processors",
        description="Turn journalled messages into readings, windows and rejects in the lake, each exactly once.",
        epilog="example: python -m processors --data /var/lib/voltgate --drain",
    )
    parser.add_argument("--config", type=Path, help="TOML file; conf.d/*.toml beside it is read too")
    parser.add_argument("--data", type=Path, help="directory of everything that survives a restart")
    parser.add_argument("--contracts", type=Path, help="directory of your own contracts")
    parser.add_argument("--drain", action="store_true", help="process what is there and end")
    parser.add_argument("--json", action="store_true", help="write one JSON line to stdout when ready")
    arguments = parser.parse_args(argv)
    overrides: dict[str, object] = {}
    if arguments.data is not None:
        overrides["data"] = str(arguments.data)
    if arguments.contracts is not None:
        overrides["contracts"] = str(arguments.contracts)

    def ready(status: Status) -> None:
        if arguments.json:
            sys.stdout.write(msgspec.json.encode(status).decode() + "\n")
            sys.stdout.flush()

    def load() -> Settings:
        return load_settings(arguments.config, os.environ, overrides=overrides)

    try:
        settings = load()
        failpoint = failpoint_hook(os.environ)
    except ConfigError as exc:
        sys.stderr.write(f"voltgate processors: {exc}\n")
        return EXIT_CONFIG
    return serve(settings, ready=ready, drain=arguments.drain, failpoint=failpoint, load=load)

"""`voltgate doctor`: gathers facts, has them judged, prints one numbered line a check with what mends it.

Reads only, apart from a temporary file that measures the disk, and asks every program and store for seconds at most.
"""

import os
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.core.errors import ConfigError, StoreError, VoltgateError
from gateway.core.ids import Offset
from gateway.core.limits import RESULTS_ROWS_MAX
from gateway.core.settings import Settings
from gateway.core.text import peer_text
from voltgate import compose
from voltgate.doctor_checks import (
    ClockFacts,
    Finding,
    check_certificates,
    check_clock,
    check_configuration,
    check_data,
    check_files,
    check_memory,
    check_ports,
    check_space,
    check_sync,
)
from voltgate.doctor_checks_stores import (
    JournalFacts,
    LagFacts,
    LakeFacts,
    NoticeFacts,
    OpenSearchFacts,
    ProgramFacts,
    check_journal,
    check_lag,
    check_lake,
    check_notices,
    check_opensearch,
    check_programs,
)
from voltgate.doctor_machine import (
    certificate_facts,
    data_facts,
    disk_facts,
    is_synchronised,
    limit_facts,
    memory_facts,
    newest_file_at_ns,
    port_facts,
)
from voltgate.output import Exit, print_json
from voltgate.status import PROGRAMS, failing, read_run_file, readiness

if TYPE_CHECKING:
    from processors.contracts.load import ContractSet


def run_doctor(config: Path | None, data: Path | None, *, as_json: bool, now_ns: int | None = None) -> int:
    """Print every finding; return the exit code: 0 all is well, 6 there is something to mend.

    Args:
        config: Configuration file.
        data: Data directory.
        as_json: One object a finding, one a line.
        now_ns: What time it is, UTC nanoseconds; the machine's clock without it.
    """
    findings = examine(config, data, now_ns=time.time_ns() if now_ns is None else now_ns)
    for one in findings:
        if as_json:
            print_json(msgspec.to_builtins(one))
            continue
        print(f"{one.number:>2} {one.level:<4} {one.check}: {one.why}")
        if one.mend:
            print(f"        mend: {one.mend}")
    return Exit.OK if all(one.level == "OK" for one in findings) else Exit.FINDINGS


def examine(config: Path | None, data: Path | None, *, now_ns: int) -> list[Finding]:
    """Return the findings in order; only the first where the configuration cannot be used."""
    from processors.stores import rulings_of

    begun_ns, begun_s = time.time_ns(), time.monotonic()
    try:
        settings = compose.load(config, data)
        rulings = rulings_of(settings, os.environ)
    except ConfigError as exc:
        place = f"{exc.file}:{exc.line}" if exc.line else exc.file
        return [check_configuration(f"{place}: {exc.what}", exc.mend, "")]
    contracts = rulings.contracts
    running = {program: read_run_file(settings, program) for program in PROGRAMS}
    size_bytes, end_offset, newest_at_ns, journal_error = _journal_size(settings.data / "ingest")
    gateway = running["gateway"]
    disk = disk_facts(settings.data, journal_bytes=size_bytes, journal_bytes_max=settings.journal.retention_bytes)
    clock = ClockFacts(
        now_ns=now_ns,
        step_s=(time.time_ns() - begun_ns) / 1e9 - (time.monotonic() - begun_s),
        newest_entry_at_ns=newest_at_ns,
        newest_file_at_ns=newest_file_at_ns(settings.data) if settings.data.is_dir() else None,
        released_at_ns=Path(__file__).stat().st_mtime_ns,
        is_synchronised=is_synchronised(),
    )
    return [
        check_configuration(None, "", f"{len(contracts)} contracts, {len(rulings.plan.receivers)} receivers"),
        check_data(data_facts(settings.data)),
        check_space(disk),
        check_sync(disk),
        check_clock(clock),
        check_ports(port_facts(settings, running)),
        check_certificates(certificate_facts(settings), now_s=now_ns / 1e9),
        check_files(limit_facts(gateway["pid"] if gateway else None)),
        check_memory(memory_facts()),
        check_programs([_program(name, held) for name, held in running.items()], str(settings.data)),
        check_journal(_journal(settings.data / "ingest", journal_error)),
        check_lake(_lake(settings, contracts)),
        check_lag(_lag(settings, running["processors"], end_offset)),
        check_notices(_notices(settings.data / "notices.sqlite")),
        *check_opensearch(_opensearch(settings, contracts, end_offset)),
    ]


def _program(name: str, run_file: dict[str, Any] | None) -> ProgramFacts:
    if run_file is None:
        return ProgramFacts(name=name, is_running=False)
    state = readiness(run_file)
    why = None if state["ok"] else str(state.get("reason") or failing(state))
    return ProgramFacts(name=name, is_running=True, not_ready=why)


# ---- journal, lake, notices ------------------------------------------------------------------------------------------


def _journal_size(directory: Path) -> tuple[int, int, int | None, str | None]:
    """Return bytes, end offset, when the newest entry was received, and why that cannot be read."""
    from gateway.journal import inspect

    if not directory.is_dir():
        return 0, 0, None, None
    try:
        stats = inspect.stats(directory)
    except (StoreError, OSError) as exc:
        return 0, 0, None, str(exc)
    return stats.bytes, stats.end_offset, stats.newest_at_ns, None


def _journal(directory: Path, error: str | None) -> JournalFacts:
    """Check every frame of the newest segment; a torn tail is a write on its way, or what the next start cuts."""
    from gateway.journal.disk import read_durable, segment_files
    from gateway.journal.segment import Damage, scan

    if error is not None or not directory.is_dir():
        return JournalFacts(file=None, error=error)
    durable = read_durable(directory)
    files = segment_files(directory)
    if not files:
        return JournalFacts(file=None)
    base_offset, path = files[-1]
    entries, damages, end_offset = 0, list[str](), base_offset
    try:
        content = path.read_bytes()
    except OSError as exc:
        return JournalFacts(file=path.name, error=str(exc))
    for found in scan(content, base_offset=base_offset):
        if isinstance(found, Damage):
            if found.end < len(content):
                damages.append(f"bytes {found.position} to {found.end}: {found.why}")
        else:
            entries, end_offset = entries + found.count, found.end_offset
    if durable is not None and end_offset < durable:
        damages.append(f"entries {end_offset} to {durable} were durable and are gone")
    return JournalFacts(file=path.name, entries=entries, damages=tuple(damages))


def _lake(settings: Settings, contracts: "ContractSet") -> LakeFacts:
    """Open every table of the contracts and compare its columns."""
    import polars as pl
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    from processors.stages.chain import Chain
    from processors.stores import storage_options

    location = settings.lake_url.rstrip("/")
    options, tables, differences = storage_options(settings), 0, list[str]()
    try:
        for name, schema in Chain(contracts).schemas.items():
            if not DeltaTable.is_deltatable(f"{location}/{name}", options):
                continue
            held = pl.scan_delta(f"{location}/{name}", storage_options=options).collect_schema()
            tables += 1
            differences += [
                f"{name}.{column} is {held[column]} in the lake and {dtype} in the contract"
                for column, dtype in schema.items()
                if column in held and held[column] != dtype
            ]
    except (DeltaError, OSError, pl.exceptions.PolarsError) as exc:
        return LakeFacts(location=location, tables=tables, error=peer_text(str(exc)))
    return LakeFacts(location=location, tables=tables, differences=tuple(differences))


def _lag(settings: Settings, processors: dict[str, Any] | None, end_offset: int) -> LagFacts:
    """Compare the processors' offset with the journal; the age of the entry they are at is how old the lake is."""
    from gateway.journal.reader import SegmentReader

    if processors is None:
        return LagFacts(entries=0 if end_offset == 0 else _waiting(settings, end_offset))
    entries = max(0, end_offset - int(processors["offset"]))
    if entries == 0:
        return LagFacts(entries=0, age_s=0.0)
    reader = SegmentReader(settings.data / "ingest")
    try:
        batch = reader.read(Offset(max(int(processors["offset"]), reader.start_offset())), rows_max=1, bytes_max=1)
        oldest_ns = batch.received_at_ns[0] if batch else time.time_ns()
    finally:
        reader.close()
    return LagFacts(entries=entries, age_s=max(0.0, (time.time_ns() - oldest_ns) / 1e9))


def _waiting(settings: Settings, end_offset: int) -> int:
    """Return the entries past the last thing that stopped processors said of themselves."""
    try:
        said = msgspec.json.decode((settings.data / "run" / "processors.json").read_bytes())
        return max(0, end_offset - int(said["offset"]))
    except (OSError, msgspec.DecodeError, KeyError):
        return end_offset


def _notices(path: Path) -> NoticeFacts:
    if not path.exists():
        return NoticeFacts()
    try:
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
        try:
            sql = "select receiver, count(*) from deliveries where state = 'dead' group by 1 limit ?"
            dead = dict(database.execute(sql, (RESULTS_ROWS_MAX,)).fetchall())
        finally:
            database.close()
    except sqlite3.Error as exc:
        return NoticeFacts(error=str(exc))
    return NoticeFacts(dead=dead)


# ---- OpenSearch ------------------------------------------------------------------------------------------------------


def _opensearch(settings: Settings, contracts: "ContractSet", end_offset: int) -> OpenSearchFacts:
    if settings.opensearch.url is None:
        return OpenSearchFacts()
    from voltgate.doctor_opensearch import opensearch_facts

    try:
        return opensearch_facts(settings, contracts, end_offset=end_offset)
    except VoltgateError as exc:
        return OpenSearchFacts(url=settings.opensearch.url, error=str(exc))

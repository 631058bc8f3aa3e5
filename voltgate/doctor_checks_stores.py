"""What `voltgate doctor` concludes from facts about programs and stores. Pure: facts in, findings with mends out."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from voltgate.doctor_checks import Finding, Level

LAG_WARN_S: Final = 60.0
LAG_FAIL_S: Final = 600.0
INDEX_LAG_WARN_ENTRIES: Final = 200_000


class ProgramFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A program: whether it runs, and why it is not ready (None: it is)."""

    name: str
    is_running: bool
    not_ready: str | None = None


class JournalFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The newest segment of the ingest journal: file, entries, damaged places, or why it cannot be read."""

    file: str | None
    entries: int = 0
    damages: tuple[str, ...] = ()
    error: str | None = None


class LakeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The lake: where, how many tables, columns that differ from the contracts, or why it cannot be read."""

    location: str
    tables: int = 0
    differences: tuple[str, ...] = ()
    error: str | None = None


class LagFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Entries that the lake does not have yet, and the age of the oldest of them where the processors run."""

    entries: int
    age_s: float | None = None


class NoticeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Receiver -> notices that nobody could deliver, and why the outbox cannot be read."""

    dead: Mapping[str, int] = {}
    error: str | None = None


class OpenSearchFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster that shows the lake; None in `url` where nothing is indexed.

    Attributes:
        url: Where it is, without secrets.
        error: Why it does not answer, and `mend` what to do.
        mend: The same.
        status: HTTP status of a refusal, 0 where nobody answered.
        version: Version and name of the cluster.
        uuid: Which cluster it is.
        known_uuid: Which one the indexer wrote to last; None before the first time.
        is_replaced: Whether the indexer met a cluster in the place of one with more documents.
        refused: What our role may not do, one line each.
        conflicts: Living indices that cannot hold what contracts have now, one line each.
        lag: Table -> entries of the journal that its index is behind.
    """

    url: str | None = None
    error: str | None = None
    mend: str = ""
    status: int = 0
    version: str = ""
    uuid: str = ""
    known_uuid: str | None = None
    is_replaced: bool = False
    refused: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    lag: Mapping[str, int] = {}


def check_programs(facts: Sequence[ProgramFacts], data: str) -> Finding:
    """Judge whether the programs run and are ready."""
    stopped = [one.name for one in facts if not one.is_running]
    unready = [f"{one.name}: {one.not_ready}" for one in facts if one.is_running and one.not_ready is not None]
    if unready:
        mend = f"mend what it names; `voltgate status --data {data}` shows whether that helped"
        return Finding(number=10, check="programs", level="FAIL", why="; ".join(unready), mend=mend)
    if stopped:
        level: Level = "WARN" if len(stopped) == len(facts) else "FAIL"
        why = f"not running: {', '.join(stopped)}"
        return Finding(number=10, check="programs", level=level, why=why, mend=f"`voltgate run --data {data}`")
    return Finding(number=10, check="programs", level="OK", why=f"ready: {', '.join(one.name for one in facts)}")


def check_journal(facts: JournalFacts) -> Finding:
    """Judge the newest segment of the journal."""
    if facts.error is not None:
        mend = "see docs/how-to/recover-a-damaged-journal.md"
        return Finding(number=11, check="journal", level="FAIL", why=f"cannot be read: {facts.error}", mend=mend)
    if facts.file is None:
        return Finding(number=11, check="journal", level="OK", why="nothing was received yet")
    if facts.damages:
        why = f"{facts.file} is damaged at {len(facts.damages)} places: {facts.damages[0]}"
        mend = "`voltgate journal verify` looks at all; docs/how-to/recover-a-damaged-journal.md"
        return Finding(number=11, check="journal", level="FAIL", why=why, mend=mend)
    why = f"{facts.entries} entries of the newest segment {facts.file} are whole"
    return Finding(number=11, check="journal", level="OK", why=why)


def check_lake(facts: LakeFacts) -> Finding:
    """Judge whether the lake can be read and fits the contracts."""
    if facts.error is not None:
        mend = f'look at {facts.location}, its rights and its network; `voltgate query "show tables"` asks again'
        return Finding(number=12, check="lake", level="FAIL", why=f"cannot be read: {facts.error}", mend=mend)
    if facts.differences:
        why = f"{len(facts.differences)} columns differ from the contracts: {facts.differences[0]}"
        mend = "give the field another name in the contract, or move the table away and replay the journal"
        return Finding(number=12, check="lake", level="FAIL", why=why, mend=mend)
    return Finding(
        number=12, check="lake", level="OK", why=f"{facts.tables} tables at {facts.location} fit the contracts"
    )


def check_lag(facts: LagFacts) -> Finding:
    """Judge how far the lake is behind the journal."""
    if facts.age_s is None:
        return Finding(
            number=13, check="lag", level="OK", why=f"{facts.entries} entries wait; the processors do not run"
        )
    why = f"the lake is {facts.entries} entries and {facts.age_s:.0f} s behind the journal"
    if facts.age_s > LAG_WARN_S:
        level: Level = "FAIL" if facts.age_s > LAG_FAIL_S else "WARN"
        mend = "`voltgate status` says whether the lake refuses; else give the processors more CPU (checks 3, 9, 12)"
        return Finding(number=13, check="lag", level=level, why=why, mend=mend)
    return Finding(number=13, check="lag", level="OK", why=why)


def check_notices(facts: NoticeFacts) -> Finding:
    """Judge what could not be told to anybody."""
    if facts.error is not None:
        mend = "restart voltgate: it moves a damaged outbox aside and makes it anew from the results journal"
        return Finding(number=14, check="notices", level="FAIL", why=f"outbox cannot be read: {facts.error}", mend=mend)
    if facts.dead:
        told = ", ".join(f"{count} to {name}" for name, count in sorted(facts.dead.items()))
        mend = "`voltgate alerts notices ls --dead` says why; then `voltgate alerts notices retry --all-dead`"
        return Finding(number=14, check="notices", level="WARN", why=f"undeliverable: {told}", mend=mend)
    return Finding(number=14, check="notices", level="OK", why="every notice was delivered or is on its way")


def check_opensearch(facts: OpenSearchFacts) -> list[Finding]:
    """Judge whether the cluster answers, what we may do there, whether indices fit, and how far they are."""
    if facts.url is None:
        return [Finding(number=15, check="OpenSearch", level="OK", why="none is configured (opensearch.url)")]
    if facts.error is not None:
        if facts.status in (401, 403):
            mend = "mend opensearch.user and its password, or the client certificate; docs/reference/opensearch.md"
        else:
            mend = facts.mend or f"start it, or mend opensearch.url; `curl {facts.url}` from here must answer"
        why = f"{facts.error}; what waits is in the lake and is not lost"
        return [Finding(number=15, check="OpenSearch", level="FAIL", why=why, mend=mend)]
    found = [Finding(number=15, check="OpenSearch", level="OK", why=f"{facts.version} answers at {facts.url}")]
    return [*found, _rights(facts), _indices(facts), _index_lag(facts)]


def _rights(facts: OpenSearchFacts) -> Finding:
    if facts.refused:
        mend = "give our role these privileges; docs/reference/opensearch.md lists all of them"
        return Finding(number=16, check="OpenSearch rights", level="FAIL", why=facts.refused[0], mend=mend)
    return Finding(number=16, check="OpenSearch rights", level="OK", why="our role may read indices and use templates")


def _indices(facts: OpenSearchFacts) -> Finding:
    name = "OpenSearch indices"
    if facts.conflicts:
        table = facts.conflicts[0].partition(":")[0]
        mend = f"`voltgate opensearch reindex {table} --drop` deletes them and fills them again from the lake"
        return Finding(number=17, check=name, level="FAIL", why=facts.conflicts[0], mend=mend)
    if facts.is_replaced or facts.known_uuid not in (None, facts.uuid):
        why = "this is another or an emptied cluster: it lacks what was indexed before"
        mend = "`voltgate opensearch reindex` fills it again from the lake"
        return Finding(number=17, check=name, level="FAIL", why=why, mend=mend)
    return Finding(number=17, check=name, level="OK", why="mappings fit the contracts, and it is the cluster we know")


def _index_lag(facts: OpenSearchFacts) -> Finding:
    if not facts.lag:
        return Finding(number=18, check="OpenSearch lag", level="OK", why="nothing was indexed yet")
    table, entries = max(facts.lag.items(), key=lambda one: one[1])
    why = f"{table} is {entries} entries behind the lake, no other table more"
    if entries > INDEX_LAG_WARN_ENTRIES:
        mend = "`voltgate opensearch status` shows requests and refusals; it catches up when the cluster takes them"
        return Finding(number=18, check="OpenSearch lag", level="WARN", why=why, mend=mend)
    return Finding(number=18, check="OpenSearch lag", level="OK", why=why)

"""What answers of a search cluster mean. Pure: bytes in, records out."""

from collections.abc import Iterator
from typing import Any, Final, TypeVar

import msgspec

from gateway.core.errors import SinkError
from gateway.core.text import peer_text
from processors.sinks.index_http import SINK, Answer

T = TypeVar("T")
_CONFLICT: Final = 409
_NOT_FOUND: Final = 404
_AGAIN: Final = frozenset({401, 403, 408, 429})
"""Refusals of one document that say nothing against it: no rights, a disk that is full, too much at once."""
_AWAY: Final = frozenset({502, 503, 504, 507})
"""Failures that say nothing against it either: a shard that is not there yet, something in between, a full disk."""
_REASON_CHARS_MAX: Final = 500
"""The engine repeats a field's name, the document's id and the beginning of the value."""
_NO_INDEX: Final = "index_not_found_exception"
_BLOCKED: Final = "cluster_block_exception"


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers.

    Attributes:
        uuid: Made with the cluster's first state; another one means that everything there is gone.
        name: As its operator named it.
        version: Of the engine.
        distribution: `opensearch`.
        has_ism: Whether it deletes old indices by policy.
    """

    uuid: str
    name: str
    version: str
    distribution: str
    has_ism: bool


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """A living index that cannot hold what its table has now; `problems` has a line a field."""

    table: str
    index: str
    problems: tuple[str, ...]

    def __str__(self) -> str:
        mend = f"voltgate opensearch reindex {self.table} --drop makes it anew from the lake"
        return f"index {self.index}: {'; '.join(self.problems)}; {mend}"


class IndexSize(msgspec.Struct, frozen=True, kw_only=True):
    """One index, how many documents it shows and what it takes on disk."""

    name: str
    documents: int
    size_bytes: int
    health: str


class Bootstrapped(msgspec.Struct, frozen=True, kw_only=True):
    """What a cluster was prepared with.

    Attributes:
        cluster: Which one.
        templates: Index templates that were put there, by name.
        widened: Living indices that got new fields.
        conflicts: Living indices that cannot hold what is wanted now; nothing of their tables was changed.
        policy: Name of the life time policy that deletes old indices; None where we do it ourselves.
    """

    cluster: Cluster
    templates: tuple[str, ...]
    widened: tuple[str, ...]
    conflicts: tuple[Conflict, ...]
    policy: str | None


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """What retention deleted: whole indices by name, and the number of documents of others."""

    indices: tuple[str, ...]
    documents: int


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """A document that the index refuses for good.

    Attributes:
        position: Its place in the request, from 0.
        code: The engine's word for why, `strict_dynamic_mapping_exception`.
        reason: Its sentence.
    """

    position: int
    code: str
    reason: str


class BulkOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the documents of one request.

    Attributes:
        done: How many are in the index, in this or a newer revision.
        retry: Positions to send again, ascending.
        faulty: Those of them on which the engine itself failed (500), which may be for what they hold.
        rejected: Documents that are refused for good.
        status: HTTP status: of the request, or of the first document to send again; None where no answer came.
        after_s: How long the cluster asked to be left alone; None where it did not.
        why: Why something is to be sent again, for people; None where nothing is.
        is_other_cluster: Nothing was sent, for another cluster answers than the one that was prepared.
        has_no_index: An index was not there; it is made before the next request.
    """

    done: int
    retry: tuple[int, ...] = ()
    faulty: tuple[Rejected, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    status: int | None = 200
    after_s: float | None = None
    why: str | None = None
    is_other_cluster: bool = False
    has_no_index: bool = False


class _Cause(msgspec.Struct):
    reason: str | None = None


class _Error(msgspec.Struct):
    type: str = ""
    reason: str | None = None
    caused_by: _Cause | None = None

    def __str__(self) -> str:
        because = self.caused_by.reason if self.caused_by is not None else None
        return ": ".join(peer_text(text, chars_max=_REASON_CHARS_MAX) for text in (self.reason, because) if text)


class _Status(msgspec.Struct):
    status: int
    error: _Error | None = None


class _Item(msgspec.Struct):
    index: _Status | None = None
    delete: _Status | None = None


class _Head(msgspec.Struct):
    errors: bool


class _Items(msgspec.Struct):
    items: list[_Item]


class _Refusal(msgspec.Struct):
    error: _Error | str = ""
    message: str = ""


class Version(msgspec.Struct):
    """Part of `Root`."""

    number: str
    distribution: str = "elasticsearch"


class Root(msgspec.Struct):
    """`GET /`."""

    cluster_name: str
    cluster_uuid: str
    version: Version


class Count(msgspec.Struct):
    """`GET <index>/_count`."""

    count: int


class Held(msgspec.Struct):
    """One index of `GET <index>/_mapping`."""

    mappings: dict[str, Any] = {}


class CatRow(msgspec.Struct):
    """One row of `GET _cat/indices`."""

    index: str
    health: str = ""
    documents: str | None = msgspec.field(default=None, name="docs.count")
    size: str | None = msgspec.field(default=None, name="store.size")


class DeletedByQuery(msgspec.Struct):
    """`POST <index>/_delete_by_query`."""

    deleted: int = 0


class PolicyText(msgspec.Struct):
    """Part of `Policy`."""

    description: str = ""


class Policy(msgspec.Struct):
    """`GET _plugins/_ism/policies/<name>`."""

    policy: PolicyText
    seq_no: int = msgspec.field(name="_seq_no")
    primary_term: int = msgspec.field(name="_primary_term")


_HEAD: Final = msgspec.json.Decoder(_Head)
_UNKNOWN: Final = _Status(500)
"""Of an item about which the answer says nothing that we know."""
_ITEMS: Final = msgspec.json.Decoder(_Items)
_REFUSAL: Final = msgspec.json.Decoder(_Refusal)


def split(body: bytes, count: int) -> BulkOutcome:
    """Return what a good answer to a bulk request says of its documents.

    Args:
        body: `errors` and of each of `items` status and error.
        count: Documents in the request.
    """
    try:
        if not _HEAD.decode(body).errors:
            return BulkOutcome(done=count)
        items = _ITEMS.decode(body).items
    except msgspec.DecodeError as exc:
        return all_again(count, f"the answer is not what OpenSearch says: {peer_text(str(exc))}")
    if len(items) != count:
        return all_again(count, f"the answer is about {len(items)} documents, the request had {count}")
    retry: list[int] = []
    faulty: list[Rejected] = []
    rejected: list[Rejected] = []
    first: _Status | None = None
    has_no_index = False
    for position, item in enumerate(items):
        result = item.index or item.delete or _UNKNOWN
        is_gone = item.delete is not None and result.status == _NOT_FOUND and result.error is None
        if result.status < 300 or result.status == _CONFLICT or is_gone:
            continue
        error = result.error or _Error()
        refusal = Rejected(position=position, code=peer_text(error.type) or f"http_{result.status}", reason=str(error))
        # 404 says that the index is not there: it was deleted since, and the next try makes it.
        if result.status >= 500 or result.status in _AGAIN or error.type == _NO_INDEX:
            retry.append(position)
            first = first or result
            has_no_index = has_no_index or error.type == _NO_INDEX
            if result.status >= 500 and result.status not in _AWAY:
                faulty.append(refusal)
        else:
            rejected.append(refusal)
    done = count - len(retry) - len(rejected)
    if first is None:
        return BulkOutcome(done=done, rejected=tuple(rejected))
    error = first.error or _Error()
    return BulkOutcome(
        done=done,
        retry=tuple(retry),
        faulty=tuple(faulty),
        rejected=tuple(rejected),
        status=first.status,
        why=f"{len(retry)} of {count} documents: {first.status} {peer_text(error.type)}: {error}",
        has_no_index=has_no_index,
    )


def all_again(count: int, why: str, *, status: int | None = None, after_s: float | None = None) -> BulkOutcome:
    """Return the outcome of a request that must be sent again as a whole."""
    return BulkOutcome(done=0, retry=tuple(range(count)), status=status, after_s=after_s, why=why)


def rejected_alone(code: str, reason: str, *, status: int | None = None) -> BulkOutcome:
    """Return the outcome of a request of one document that is refused for good."""
    return BulkOutcome(done=0, rejected=(Rejected(position=0, code=code, reason=reason),), status=status)


def both_halves(first: BulkOutcome, second: BulkOutcome, middle: int) -> BulkOutcome:
    """Return the outcome of a request whose halves were sent for themselves; the second began at `middle`."""
    worse = first if first.retry else second
    return BulkOutcome(
        done=first.done + second.done,
        retry=(*first.retry, *(position + middle for position in second.retry)),
        faulty=(*first.faulty, *_moved(second.faulty, middle)),
        rejected=(*first.rejected, *_moved(second.rejected, middle)),
        status=worse.status,
        after_s=max((one.after_s for one in (first, second) if one.after_s is not None), default=None),
        why=worse.why,
        is_other_cluster=first.is_other_cluster or second.is_other_cluster,
        has_no_index=first.has_no_index or second.has_no_index,
    )


def _moved(refusals: tuple[Rejected, ...], by: int) -> Iterator[Rejected]:
    return (msgspec.structs.replace(one, position=one.position + by) for one in refusals)


def read(answer: Answer, kind: type[T]) -> T:
    """Return a good answer as a record. Raises: SinkError: It is something else."""
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except msgspec.DecodeError as exc:
        what = f"the answer is not what OpenSearch says: {peer_text(str(exc))}"
        raise SinkError(SINK, what, mend="does opensearch.url lead to a cluster?", status=answer.status) from exc


def error_of(body: bytes) -> tuple[str, str]:
    """Return the engine's word and sentence for a refusal; the word is empty where it is not the engine that speaks."""
    try:
        refusal = _REFUSAL.decode(body)
    except msgspec.DecodeError:
        return "", peer_text(body)
    if isinstance(refusal.error, str):
        return "", peer_text(refusal.error or refusal.message or body)
    return peer_text(refusal.error.type), str(refusal.error)


def refused(what: str, answer: Answer) -> SinkError:
    """Return the error of a request that was answered, and not with what was asked for.

    Args:
        what: Method and path.
        answer: The answer.
    """
    kind, reason = error_of(answer.body)
    said = f": {kind}" if kind else ""
    detail = f"{peer_text(what)} was answered {answer.status}{said}{f': {reason}' if reason else ''}"
    after_s = 1.0 if answer.after_s is None else answer.after_s
    return SinkError(SINK, detail, after_s, mend=_mend(answer.status, kind), status=answer.status)


def _mend(status: int, kind: str) -> str:
    if kind == _BLOCKED or status == 429:
        return "it is busy, or its disk is nearly full: give it room; what waits is in the lake"
    if status == 401:
        return "check opensearch.user and opensearch.password, or the client certificate"
    if status == 403:
        return "give the user of opensearch.user the rights that docs/reference/opensearch.md lists"
    if status >= 500:
        return "look at the cluster's own logs; what waits is in the lake"
    if 300 <= status < 400:
        return "redirects are not followed; write the final address as opensearch.url"
    return "does opensearch.url lead to a cluster, and does its version fit?"

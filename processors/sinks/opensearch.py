"""Talks to an OpenSearch cluster: the only module that knows its requests.

Owns requests, and that nothing is written to a cluster that was not prepared. Refuses to know what is indexed
(`processors.indexing`), when to try again (`index_lane`) and how far a table is indexed.

Answers of a bulk request become three kinds: done (2xx, and 409: the index has a newer revision), again (429, 5xx, what
a full disk or missing rights forbid, and the whole request where no answer came: versions make a repetition harmless),
and rejected (any other 4xx). See https://docs.opensearch.org/latest/api-reference/document-apis/bulk/.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from pydantic import SecretStr

from gateway.core.errors import SinkError
from gateway.core.limits import (
    INDEX_DELETE_DOCUMENTS_MAX,
    INDEX_NAMES_PER_REQUEST,
    INDEX_REQUESTS_MAX,
    INDEX_SURE_S,
    INDICES_KNOWN_MAX,
)
from gateway.core.text import peer_text
from processors.indexing.documents import Bulk
from processors.indexing.plan import IndexedTable
from processors.indexing.templates import additions, conflicts, expired, ism_policy, mapping, template
from processors.sinks.index_answers import (
    Bootstrapped,
    BulkOutcome,
    CatRow,
    Cluster,
    Conflict,
    Count,
    Deleted,
    DeletedByQuery,
    Held,
    IndexSize,
    Policy,
    Root,
    all_again,
    both_halves,
    error_of,
    read,
    refused,
    rejected_alone,
    split,
)
from processors.sinks.index_client import aws_signer, open_client
from processors.sinks.index_http import SINK, Answer, Http, Unanswered, basic_auth, tls_context

__all__ = ["Bootstrapped", "BulkOutcome", "Cluster", "Conflict", "Deleted", "IndexSize", "OpenSearch"]

Method = Literal["GET", "PUT", "POST", "DELETE"]
_BULK_ANSWER: Final = "errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason"
"""Parts of a bulk answer that are asked for; the rest repeats what the request said."""
_NDJSON: Final = {"content-type": "application/x-ndjson"}
_JSON: Final = {"content-type": "application/json"}
_DELETE_TIMEOUT_S: Final = 120.0
_NONE_IS_FINE: Final = {"allow_no_indices": "true", "ignore_unavailable": "true"}
_NOT_ALONE: Final = frozenset({400, 413})
"""What a whole request is refused with for the sake of one of its documents: unreadable, or too large together."""


class OpenSearch:
    """One cluster. All calls on one event loop; any number may be under way. Every call is safe to repeat.

    Calls raise `SinkError` where the cluster did not do what was asked; `bulk` never does.

    Args:
        urls: Hosts of the one cluster, each with a scheme.
        user: For basic authentication.
        password: Of that user.
        client_certificate: PEM file that proves us.
        client_key: Its key; None where it is in the same file.
        ca_file: The authorities that servers' certificates must be from; None for the system's.
        verify_tls: False takes every server for the right one.
        aws_region: Signs requests with Signature Version 4 for this region, with the credentials of the machine.
        aws_service: Name of the service in those signatures.
        timeout_s: How long a request may take.
        connections_max: Connections at once.
        sure_s: Silence after which it is asked again who answers, before anything is written.

    Raises: SinkError: A package is missing, or a file cannot be used.
    """

    def __init__(
        self,
        *,
        urls: Sequence[str],
        user: str | None = None,
        password: SecretStr | None = None,
        client_certificate: Path | None = None,
        client_key: Path | None = None,
        ca_file: Path | None = None,
        verify_tls: bool = True,
        aws_region: str | None = None,
        aws_service: str = "es",
        timeout_s: float = 30.0,
        connections_max: int = INDEX_REQUESTS_MAX,
        sure_s: float = INDEX_SURE_S,
    ) -> None:
        headers = {"accept": "application/json", "user-agent": "Voltgate"}
        if user is not None:
            headers["authorization"] = basic_auth(user, password.get_secret_value() if password else "")
        self._http = Http(
            tls=tls_context(ca_file=ca_file, certificate=client_certificate, key=client_key, verify=verify_tls),
            headers=headers,
            sign=None if aws_region is None else aws_signer(aws_region, aws_service),
            timeout_s=timeout_s,
            connections_max=connections_max,
        )
        self._client, self._connection_error = open_client(urls, self._http)
        self._tables: tuple[IndexedTable, ...] = ()
        self._bodies: dict[str, dict[str, Any]] = {}
        self._prepared: str | None = None
        self._answering: str | None = None
        self._sure_s, self._sure_until_s = sure_s, float("-inf")
        self._is_other = False
        self._has_ism = False
        self._known: set[str] = set()

    # ---- the cluster -------------------------------------------------------------------------------------------------

    async def cluster(self) -> Cluster:
        """Return which cluster answers."""
        answer = await self._identify()
        # Without the plugin there is no such address: 400, and 404 or 405 from what stands in front.
        ism = await self._call("GET", "/_plugins/_ism/policies", params={"size": "1"})
        self._has_ism = ism.is_good
        return Cluster(
            uuid=answer.cluster_uuid,
            name=peer_text(answer.cluster_name),
            version=peer_text(answer.version.number),
            distribution=peer_text(answer.version.distribution),
            has_ism=self._has_ism,
        )

    async def bootstrap(
        self,
        tables: Sequence[IndexedTable],
        *,
        shards: int = 1,
        replicas: int = 0,
        policy: str | None = None,
        retention_days: int = 90,
    ) -> Bootstrapped:
        """Prepare the cluster that answers now; from then on `bulk` writes to no other one.

        Templates are replaced and living indices get the fields they lack. A table with an index that holds a field
        otherwise is left as it is, and named.

        Args:
            tables: All that is indexed.
            shards: Primary shards of each index.
            replicas: Copies of each shard besides.
            policy: Name of the policy for the life time of daily indices, made where the plugin for it is; None: never.
            retention_days: For that policy.
        """
        cluster = await self.cluster()
        templates: list[str] = []
        widened: list[str] = []
        problems: list[Conflict] = []
        for table in tables:
            held = await self._mappings(table)
            if found := _conflicts(table, held):
                problems += found
                continue
            body = template(table, shards=shards, replicas=replicas)
            self._bodies[table.index] = body["template"]
            await self._ask("PUT", f"/_index_template/{table.index}", body)
            templates.append(table.index)
            lacking = sorted(index for index, one in held.items() if additions(table, one))
            for names in _portions(lacking):
                await self._ask("PUT", f"/{names}/_mapping", mapping(table))
            widened += lacking
        self._tables = tuple(sorted(tables, key=lambda table: len(table.index), reverse=True))
        self._prepared, self._is_other = cluster.uuid, False
        blocked = {problem.table for problem in problems}
        await self._make(table.index for table in tables if table.day_column is None and table.table not in blocked)
        has_policy = policy is not None and cluster.has_ism
        if has_policy:
            assert policy is not None
            await self._put_policy(policy, tables, retention_days)
        return Bootstrapped(
            cluster=cluster,
            templates=tuple(templates),
            widened=tuple(widened),
            conflicts=tuple(problems),
            policy=policy if has_policy else None,
        )

    async def conflicts(self, tables: Sequence[IndexedTable]) -> tuple[Conflict, ...]:
        """Return the living indices that cannot hold what their tables have now; changes nothing."""
        return tuple([one for table in tables for one in _conflicts(table, await self._mappings(table))])

    async def refusals(self, tables: Sequence[IndexedTable]) -> tuple[str, ...]:
        """Return what we may not do of what we need, as sentences; changes nothing."""
        asked: tuple[tuple[str, Method, str, dict[str, object] | None], ...] = (
            ("read the mappings of our indices", "GET", f"/{tables[0].pattern}/_mapping", None),
            ("search our indices", "POST", f"/{tables[0].pattern}/_search", {"size": 0, "terminate_after": 1}),
            ("use index templates", "POST", f"/_index_template/_simulate_index/{tables[0].index}", None),
        )
        found = []
        for what, method, path, body in asked:
            params = {} if "simulate" in path else _NONE_IS_FINE
            try:
                await self._ask(method, path, body, params=params, fine=(404,))
            except SinkError as exc:
                if exc.status not in (401, 403):
                    raise
                found.append(f"our role may not {what}: {exc.detail}")
        return tuple(found)

    # ---- documents ---------------------------------------------------------------------------------------------------

    async def bulk(self, bulk: Bulk) -> BulkOutcome:
        """Send the documents once; make their indices before, and after a break or a silence ask who answers.

        Never raises for what a cluster or a network does. Cancelled it may have been applied or not.
        """
        if bulk.is_too_large:
            return rejected_alone("document_too_large", f"{len(bulk.body)} bytes are more than any server should take")
        try:
            if asyncio.get_running_loop().time() >= self._sure_until_s:
                await self._identify()
            if self._is_other:
                why = "another cluster answers, or it was emptied; it must be prepared first"
                return msgspec.structs.replace(all_again(bulk.count, why), is_other_cluster=True)
            await self._make(bulk.indices)
            answer = await self._call("POST", "/_bulk", bulk.body, params={"filter_path": _BULK_ANSWER})
        except SinkError as error:
            why = f"{error.detail}; {error.mend}" if error.mend else error.detail
            return all_again(bulk.count, why, status=error.status, after_s=error.retry_after_s)
        if answer.is_good:
            outcome = split(answer.body, bulk.count)
            if outcome.has_no_index:
                self._known.difference_update(bulk.indices)
            return outcome
        error_type, reason = error_of(answer.body)
        # A refusal that is not the engine's own words may be of whatever stands in front of it, and blames no document.
        if answer.status not in _NOT_ALONE or (answer.status != 413 and not error_type):
            refusal = refused("POST /_bulk", answer)
            why = f"{refusal.detail}; {refusal.mend}"
            return all_again(bulk.count, why, status=answer.status, after_s=answer.after_s)
        if bulk.count == 1:
            return rejected_alone(error_type or "http_413", reason, status=answer.status)
        middle = bulk.count // 2
        first, second = bulk.pick(range(middle)), bulk.pick(range(middle, bulk.count))
        return both_halves(await self.bulk(first), await self.bulk(second), middle)

    async def count(self, index: str) -> int:
        """Return how many documents an index, or all that fit a pattern, show after a `refresh`; 0 without index."""
        answer = await self._ask("GET", f"/{index}/_count", params=_NONE_IS_FINE)
        return read(answer, Count).count

    async def refresh(self, index: str) -> None:
        """Make everything that was written visible in an index, or in all that fit a pattern."""
        await self._ask("POST", f"/{index}/_refresh", params=_NONE_IS_FINE)

    # ---- indices -----------------------------------------------------------------------------------------------------

    async def indices(self, pattern: str) -> list[IndexSize]:
        """Return the indices that fit a pattern (`voltgate-*`) by name."""
        params = {"format": "json", "bytes": "b", "h": "index,docs.count,store.size,health"}
        answer = await self._ask("GET", f"/_cat/indices/{pattern}", params=params, fine=(404,))
        rows = read(answer, list[CatRow]) if answer.is_good else []
        sizes = [
            IndexSize(
                name=row.index,
                documents=int(row.documents or 0),
                size_bytes=int(row.size or 0),
                health=peer_text(row.health),
            )
            for row in rows
        ]
        return sorted(sizes, key=lambda size: size.name)

    async def delete_indices(self, pattern: str) -> tuple[str, ...]:
        """Delete the indices that fit a pattern, each by its name; return the names."""
        names = sorted(await self._names(pattern))
        for portion in _portions(names):
            await self._ask("DELETE", f"/{portion}", params={"ignore_unavailable": "true"})
        self._known.difference_update(names)
        return tuple(names)

    async def delete_older(self, tables: Sequence[IndexedTable], *, before: datetime) -> Deleted:
        """Delete what is older than a moment: daily indices whose day ended, documents of the others by their time.

        Daily indices are left alone where the cluster has the plugin that deletes them by policy.

        Args:
            tables: Which tables' indices.
            before: UTC.
        """
        gone: list[str] = []
        documents = 0
        for table in tables:
            if table.day_column is None:
                documents += await self.delete_by_query(table.index, expired(table, before))
            elif not self._has_ism:
                first = f"{table.index}-{before:%Y.%m.%d}"
                old = [name for name in await self._names(table.pattern) if len(name) == len(first) and name < first]
                for portion in _portions(sorted(old)):
                    await self._ask("DELETE", f"/{portion}", params={"ignore_unavailable": "true"})
                self._known.difference_update(old)
                gone += sorted(old)
        return Deleted(indices=tuple(gone), documents=documents)

    async def delete_by_query(self, index: str, query: Mapping[str, object]) -> int:
        """Delete the documents of an index that a query finds, a portion at a time; return how many.

        Documents that change meanwhile stay; the next call finds them.
        """
        documents = 0
        while True:
            params = {**_NONE_IS_FINE, "conflicts": "proceed", "refresh": "true"}
            body = {**query, "max_docs": INDEX_DELETE_DOCUMENTS_MAX}
            path = f"/{index}/_delete_by_query"
            answer = await self._ask("POST", path, body, params=params, within_s=_DELETE_TIMEOUT_S)
            done = read(answer, DeletedByQuery)
            documents += done.deleted
            if done.deleted < INDEX_DELETE_DOCUMENTS_MAX:
                return documents

    async def close(self) -> None:
        """Close all connections. Safe to repeat."""
        await self._client.close()
        await self._http.close()

    # ---- inside ------------------------------------------------------------------------------------------------------

    async def _identify(self) -> Root:
        """Return who answers, and be sure of that for a while. What another cluster had is forgotten."""
        answer = read(await self._ask("GET", "/"), Root)
        if answer.cluster_uuid == "_na_":
            raise SinkError(SINK, f"cluster {peer_text(answer.cluster_name)} is still forming", status=503)
        if answer.cluster_uuid != self._answering:
            self._answering = answer.cluster_uuid
            self._known.clear()
        self._is_other = self._prepared not in (None, answer.cluster_uuid)
        self._sure_until_s = asyncio.get_running_loop().time() + self._sure_s
        return answer

    async def _make(self, names: Iterable[str]) -> None:
        """Make the indices that are not known to be there, with their mapping: never left to a bulk request."""
        for name in names:
            if name in self._known:
                continue
            table = next((table for table in self._tables if _is_of(name, table)), None)
            body = self._bodies.get(table.index, {}) if table is not None else {}
            answer = await self._call("PUT", f"/{name}", msgspec.json.encode(body))
            if not answer.is_good and error_of(answer.body)[0] != "resource_already_exists_exception":
                raise refused(f"PUT /{name}", answer)
            if len(self._known) >= INDICES_KNOWN_MAX:
                self._known.clear()
            self._known.add(name)

    async def _mappings(self, table: IndexedTable) -> dict[str, dict[str, Any]]:
        """Return the mappings of a table's living indices by name."""
        answer = await self._ask("GET", f"/{table.pattern}/_mapping", params=_NONE_IS_FINE, fine=(404,))
        held = read(answer, dict[str, Held]) if answer.is_good else {}
        return {name: one.mappings for name, one in held.items()}

    async def _names(self, pattern: str) -> list[str]:
        params = {**_NONE_IS_FINE, "filter_path": "*.settings.index.uuid"}
        answer = await self._ask("GET", f"/{pattern}/_settings", params=params, fine=(404,))
        return list(read(answer, dict[str, msgspec.Raw])) if answer.is_good else []

    async def _put_policy(self, policy: str, tables: Sequence[IndexedTable], retention_days: int) -> None:
        """Make or renew the life time policy, and put living indices under it."""
        path = f"/_plugins/_ism/policies/{policy}"
        wanted = ism_policy(tables, retention_days=retention_days)
        answer = await self._ask("GET", path, fine=(404,))
        held = read(answer, Policy) if answer.is_good else None
        if held is not None and held.policy.description == wanted["policy"]["description"]:
            return
        place = {} if held is None else {"if_seq_no": str(held.seq_no), "if_primary_term": str(held.primary_term)}
        await self._ask("PUT", path, wanted, params=place)
        what = "add" if held is None else "change_policy"
        for table in tables:
            if table.day_column is not None:
                # Where no index fits yet there is nothing to put under it; new ones come under it by themselves.
                await self._ask("POST", f"/_plugins/_ism/{what}/{table.pattern}", {"policy_id": policy}, fine=(404,))

    async def _ask(
        self,
        method: Method,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        fine: tuple[int, ...] = (),
        within_s: float | None = None,
    ) -> Answer:
        """Return an answer that is good, or has one of the statuses that are `fine`. Raises: SinkError."""
        data = None if body is None else msgspec.json.encode(body)
        answer = await self._call(method, path, data, params=params, within_s=within_s)
        if answer.is_good or answer.status in fine:
            return answer
        raise refused(f"{method} {path}", answer)

    async def _call(
        self,
        method: Method,
        path: str,
        body: bytes | None = None,
        *,
        params: Mapping[str, str] | None = None,
        within_s: float | None = None,
    ) -> Answer:
        """Return the answer, whatever its status. Raises: SinkError: None came; who answers next is to be asked."""
        headers = _NDJSON if path == "/_bulk" else _JSON if body is not None else {}
        try:
            answer: Answer = await self._client.transport.perform_request(
                method, path, params=dict(params or {}), body=body, headers=headers, timeout=within_s
            )
        except self._connection_error as exc:
            self._sure_until_s = float("-inf")
            cause: Unanswered = exc.info
            raise SinkError(SINK, cause.why, mend=cause.mend) from cause
        # Also where nobody was asked who he is: a cluster that answers all the time is not replaced meanwhile.
        now_s = asyncio.get_running_loop().time()
        if now_s < self._sure_until_s:
            self._sure_until_s = now_s + self._sure_s
        return answer


def _is_of(name: str, table: IndexedTable) -> bool:
    return name == table.index if table.day_column is None else name.startswith(f"{table.index}-")


def _conflicts(table: IndexedTable, held: Mapping[str, dict[str, Any]]) -> list[Conflict]:
    return [
        Conflict(table=table.table, index=index, problems=tuple(map(peer_text, problems)))
        for index, one in sorted(held.items())
        if (problems := conflicts(table, one))
    ]


def _portions(names: Sequence[str]) -> list[str]:
    """Return names joined by commas, so many that an address can hold them."""
    step = INDEX_NAMES_PER_REQUEST
    return [",".join(names[first : first + step]) for first in range(0, len(names), step)]

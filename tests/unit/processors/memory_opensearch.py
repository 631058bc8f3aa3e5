"""A cluster in memory that answers as OpenSearch does: versions, refusals, push-back, and being away."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from gateway.core.errors import SinkError
from processors.indexing.documents import Bulk
from processors.indexing.plan import IndexedTable
from processors.sinks.index_answers import Bootstrapped, BulkOutcome, Cluster, Conflict, Deleted, Rejected, all_again


class MemoryOpenSearch:
    """Keeps documents by (index, id) with their version.

    Attributes:
        documents: (index, id) -> version and content.
        uuid: Of the cluster; change it, and empty `documents`, for a cluster that lost its disk.
        troubles: What the next requests meet, first one first: `away`, `lost_answer`, `busy`, `forbidden`.
        refused: Ids that are refused with a 400.
        conflicts: Tables whose living index cannot hold what is wanted, until it is dropped.
        log: Names of the calls that changed something.
    """

    def __init__(self) -> None:
        self.documents: dict[tuple[str, str], tuple[int, Any]] = {}
        self._taken_away: dict[tuple[str, str], int] = {}
        self.uuid, self._prepared = "u1", ""
        self.troubles: list[str] = []
        self.refused: set[str] = set()
        self.conflicts: set[str] = set()
        self.log: list[str] = []
        self.requests = 0
        self.is_closed = False

    async def cluster(self) -> Cluster:
        """Return who answers."""
        if self.troubles and self.troubles[0] == "away":
            self.troubles.pop(0)
            raise SinkError("opensearch", "cannot connect")
        return Cluster(uuid=self.uuid, name="memory", version="3.8.0", distribution="opensearch", has_ism=False)

    async def bootstrap(
        self,
        tables: Sequence[IndexedTable],
        *,
        shards: int = 1,
        replicas: int = 0,
        policy: str | None = None,
        retention_days: int = 90,
    ) -> Bootstrapped:
        """Prepare the cluster that answers now."""
        cluster = await self.cluster()
        self._prepared = cluster.uuid
        self.log.append("bootstrap")
        conflicts = tuple(
            Conflict(table=table.table, index=table.index, problems=("field 'x' is text in the index",))
            for table in tables
            if table.table in self.conflicts
        )
        names = tuple(table.index for table in tables)
        return Bootstrapped(cluster=cluster, templates=names, widened=(), conflicts=conflicts, policy=None)

    async def bulk(self, bulk: Bulk) -> BulkOutcome:
        """Take documents, refuse some, or have a trouble."""
        self.requests += 1
        if self._prepared != self.uuid:
            return msgspec.structs.replace(all_again(bulk.count, "another cluster answers"), is_other_cluster=True)
        match self.troubles.pop(0) if self.troubles else "":
            case "away":
                return all_again(bulk.count, "cannot connect")
            case "forbidden":
                return all_again(bulk.count, "no rights", status=403)
            case "busy":
                rest = bulk.count // 2
                self._take(bulk.pick(range(rest)))
                return BulkOutcome(done=rest, retry=tuple(range(rest, bulk.count)), status=429, why="too busy")
            case "lost_answer":
                self._take(bulk)
                return all_again(bulk.count, "no answer within 30 s")
        rejected = self._take(bulk)
        return BulkOutcome(done=bulk.count - len(rejected), rejected=rejected)

    async def delete_indices(self, pattern: str) -> tuple[str, ...]:
        """Delete what fits; as on a cluster, so is what was in the way of a mapping."""
        self.log.append(f"delete {pattern}")
        begin = pattern.removesuffix("*")
        gone = {
            index for index, _ in self.documents if index == pattern or (begin != pattern and index.startswith(begin))
        }
        self.documents = {place: one for place, one in self.documents.items() if place[0] not in gone}
        self.conflicts.clear()
        return tuple(sorted(gone))

    async def delete_older(self, tables: Sequence[IndexedTable], *, before: datetime) -> Deleted:
        """Delete the days that ended before, and of indices without days the documents of before."""
        gone: set[str] = set()
        documents = 0
        for table in tables:
            if table.day_column is not None:
                first = f"{table.index}-{before:%Y.%m.%d}"
                gone |= {name for name, _ in self.documents if name.startswith(f"{table.index}-") and name < first}
                continue
            for place, (_, document) in list(self.documents.items()):
                if place[0] == table.index and datetime.fromisoformat(document["received_at"]) < before:
                    del self.documents[place]
                    documents += 1
        self.documents = {place: one for place, one in self.documents.items() if place[0] not in gone}
        self.log.append("delete_older")
        return Deleted(indices=tuple(sorted(gone)), documents=documents)

    async def close(self) -> None:
        """Remember that it was closed."""
        self.is_closed = True

    def _take(self, bulk: Bulk) -> tuple[Rejected, ...]:
        rejected = []
        for position in range(bulk.count):
            item = bulk.item(position)
            if item.document_id in self.refused:
                rejected.append(Rejected(position=position, code="mapper_parsing_exception", reason="failed to parse"))
                continue
            place = (item.index_name, item.document_id)
            newest, _ = self.documents.get(place, (self._taken_away.get(place, -1), None))
            if newest > item.offset:
                continue
            if not item.document:
                self.documents.pop(place, None)
                self._taken_away[place] = item.offset
            else:
                self.documents[place] = (item.offset, msgspec.json.decode(item.document))
        return tuple(rejected)

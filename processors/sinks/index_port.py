"""What the indexer needs of a cluster."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from processors.indexing.documents import Bulk
from processors.indexing.plan import IndexedTable
from processors.sinks.index_answers import Bootstrapped, BulkOutcome, Cluster, Deleted


class IndexDriver(Protocol):
    """A cluster; `processors.sinks.opensearch.OpenSearch` is one. All calls on one event loop; safe to repeat."""

    async def cluster(self) -> Cluster:
        """Return which cluster answers. Raises: SinkError."""
        ...

    async def bootstrap(
        self,
        tables: Sequence[IndexedTable],
        *,
        shards: int = 1,
        replicas: int = 0,
        policy: str | None = None,
        retention_days: int = 90,
    ) -> Bootstrapped:
        """Prepare the cluster that answers; from then on `bulk` writes to no other one. Raises: SinkError."""
        ...

    async def bulk(self, bulk: Bulk) -> BulkOutcome:
        """Send documents once, in bounded time. Never raises for what a cluster does."""
        ...

    async def delete_indices(self, pattern: str) -> tuple[str, ...]:
        """Delete the indices that fit a pattern; return their names. Raises: SinkError."""
        ...

    async def delete_older(self, tables: Sequence[IndexedTable], *, before: datetime) -> Deleted:
        """Delete what is older. Raises: SinkError."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...

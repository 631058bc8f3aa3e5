"""What the indexer shows of itself. Imports nothing that costs: it is here where nobody indexes, too."""

import msgspec


class IndexNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """What metrics show, since the start unless said otherwise.

    Attributes:
        documents: (table, outcome) -> documents: `done`, `rejected`.
        requests: Outcome -> requests: `done`, `rejected` (some of its documents), `again` (some, or all).
        retries: Documents sent again.
        lag_entries: Table -> journal entries between its cursor and what the lake holds of it, now.
        lag_s: Table -> seconds that the oldest commit which is not indexed has been waiting, now; 0 without one.
        in_flight: Requests under way, now.
        window: Requests that may be, now.
        is_connected: Whether the last request was taken, and the cluster is prepared.
        other_clusters: Times another cluster, or an emptied one, answered.
        error: Why nothing is indexed at the moment; None where all is well.
    """

    documents: dict[tuple[str, str], int] = {}
    requests: dict[str, int] = {}
    retries: int = 0
    lag_entries: dict[str, int] = {}
    lag_s: dict[str, float] = {}
    in_flight: int = 0
    window: int = 0
    is_connected: bool = False
    other_clusters: int = 0
    error: str | None = None

"""A sink in memory that keeps the same promises as the lake: the verified twin for tests of the pump.

Passes the same contract suite as the lake (`tests/contract/test_lake.py`).
"""

from collections.abc import Mapping, Sequence

import polars as pl

from gateway.core.errors import SinkError
from gateway.core.failpoints import Failpoint, FailpointHook, no_failpoint


class MemorySink:
    """Keeps frames by table, and for each table the end offset that it holds.

    Args:
        schemas: Table -> columns in order; a table that is not here cannot be written.
        failpoint: Called between the tables of a batch.
    """

    def __init__(
        self, schemas: Mapping[str, Mapping[str, pl.DataType]], *, failpoint: FailpointHook = no_failpoint
    ) -> None:
        self._frames = {name: pl.DataFrame(schema=pl.Schema(schema)) for name, schema in schemas.items()}
        self._versions = dict.fromkeys(schemas, 0)
        self._failpoint = failpoint
        self._refusals: list[SinkError] = []

    def refuse(self, errors: Sequence[SinkError]) -> None:
        """Raise these errors, one per call of `write`, before anything is taken."""
        self._refusals.extend(errors)

    def version(self, table: str) -> int:
        """Return the end offset (exclusive) that the table holds, 0 when it was never written."""
        return self._versions[table]

    def frame(self, table: str) -> pl.DataFrame:
        """Return everything the table holds, in the order of writing."""
        return self._frames[table]

    def write(self, tables: Mapping[str, pl.DataFrame], *, end_offset: int) -> dict[str, int]:
        """Append the rows that each table does not hold yet and set its version; see `Lake.write`."""
        if self._refusals:
            raise self._refusals.pop(0)
        written: dict[str, int] = {}
        for name, frame in tables.items():
            if not frame.height:
                continue
            if written:
                self._failpoint(Failpoint.LAKE_BETWEEN_TABLES)
            fresh = frame.filter(pl.col("offset") >= self._versions[name])
            assert frame.schema == self._frames[name].schema, f"{name}: {frame.schema}"
            if self._versions[name] < end_offset and fresh.height:
                self._frames[name] = self._frames[name].vstack(fresh)
                self._versions[name] = end_offset
            written[name] = fresh.height
        return written

    def sync(self) -> None:
        """Do nothing: memory does not survive, and does not claim to."""

    def close(self) -> None:
        """Do nothing: there is nothing to wait for."""

"""What there is to ask for: streams, their fields and windows, and the indices that show them. Made from contracts."""

from collections.abc import Mapping
from typing import Final

import msgspec

from processors.contracts.load import ContractSet
from processors.indexing.plan import DEVICE_VALUE, DEVICES, LOCATION, IndexedTable, index_plan
from processors.stages.chain import Chain, windows_table

_NOT_AGGREGATES: Final = frozenset(
    {"tenant", "device_id", "window_start", "window_s", "revision", "received_at", "offset", LOCATION}
)


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The plan of what is indexed, by what questions name.

    Attributes:
        tables: Table of the lake, or DEVICES -> its index.
        states: Stream -> fields of the state of its devices.
        windows: Stream -> its windows.
        parts: Stream -> field that says which part of a device is meant, of streams that have one.
    """

    tables: Mapping[str, IndexedTable]
    states: Mapping[str, tuple[str, ...]]
    windows: Mapping[str, IndexedTable]
    parts: Mapping[str, str]

    def aggregates(self, stream: str) -> list[str]:
        """Return the aggregates of a stream's windows, in order."""
        kept = _NOT_AGGREGATES | {self.parts.get(stream, "")}
        return [field.name for field in self.windows[stream].fields if field.name not in kept]


def shape_of(contracts: ContractSet, *, prefix: str = "voltgate") -> Shape:
    """Return what can be asked under these contracts.

    Args:
        contracts: The streams.
        prefix: Begins the names of indices.
    """
    plan = index_plan(contracts, Chain(contracts).schemas, prefix=prefix)
    tables = {table.table: table for table in plan}
    states: dict[str, list[str]] = {}
    for field in tables[DEVICES].fields:
        if field.name.startswith(DEVICE_VALUE):
            stream, name = field.name.removeprefix(DEVICE_VALUE).split(".", 1)
            states.setdefault(stream, []).append(name)
    return Shape(
        tables=tables,
        states={stream: tuple(fields) for stream, fields in states.items()},
        windows={one.stream: tables[windows_table(one.stream)] for one in contracts if one.windows is not None},
        parts={one.stream: one.part for one in contracts if one.part is not None},
    )

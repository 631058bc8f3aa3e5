"""What the built-in contracts and a small one of our own say is indexed."""

from datetime import UTC, datetime, timedelta
from functools import cache

import polars as pl

from processors.contracts import load_contracts, parse_contract
from processors.contracts.load import ContractSet
from processors.contracts.model import Contract
from processors.indexing.plan import IndexedTable, index_plan
from processors.stages.chain import Chain

START = datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC)
SAMPLE = """
stream: sample
version: 1.2.0
index: true
part: bay
time: {measured_at: {path: ts, format: epoch_ms}}
fields:
  bay:           {type: str}
  soc_pct:       {type: float, unit: "%"}
  latitude_deg:  {type: float, unit: deg, class: location}
  longitude_deg: {type: float, unit: deg, class: location}
  mode:          {type: enum, values: {D: drive}}
  message:       {type: str, class: personal}
  active:        {type: bool}
  count:         {type: int}
windows:
  sizes: [1 min]
  aggregates: {soc_pct: [mean], mode: [last], longitude_deg: [mean], latitude_deg: [mean]}
"""


def sample(*changes: tuple[str, str]) -> Contract:
    """Return the small contract, with parts of its text replaced."""
    text = SAMPLE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse_contract(text, file="sample.yaml")


def plan_of(*contracts: Contract) -> dict[str, IndexedTable]:
    """Return what is indexed by the name of its table; without contracts that of the built-in ones."""
    return _plan(ContractSet(contracts)) if contracts else dict(_built_in())


@cache
def _built_in() -> dict[str, IndexedTable]:
    return _plan(load_contracts([]))


def _plan(contracts: ContractSet) -> dict[str, IndexedTable]:
    return {table.table: table for table in index_plan(contracts, Chain(contracts).schemas, prefix="vg")}


def sample_rows(*rows: dict[str, object]) -> pl.DataFrame:
    """Return readings of the small contract, one a second; offsets count from 0 unless told."""
    contract = sample()
    base = {"tenant": "acme", "device_id": "ev-1", "record": 0}
    at = [START + timedelta(seconds=i) for i in range(len(rows))]
    filled = [
        dict.fromkeys(contract.readings_schema())
        | base
        | {"offset": i, "measured_at": at[i], "received_at": at[i]}
        | row
        for i, row in enumerate(rows)
    ]
    return pl.DataFrame(filled, schema=contract.readings_schema() | {"late": pl.Int8()}, orient="row")

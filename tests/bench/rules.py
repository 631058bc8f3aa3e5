"""What rules cost: CPU per reading for batches of several sizes, with 10,000 devices known to each stream.

    python -m tests.bench.rules [STREAM]

Every device sends once a second; a batch holds the readings of the next so many devices, as live traffic does. Prints
for each size the median CPU time of the whole process (all threads) per batch and per reading, the cost of an empty
batch with a tick, and the size of the state in memory and in a checkpoint.
"""

import json
import sys
import time
from statistics import median
from typing import Any, Final

import polars as pl

from processors.contracts import load
from processors.contracts.load import ContractSet
from processors.contracts.model import Contract, Field
from processors.stages.findings import TIME
from processors.stages.rules import RuleStage, RuleState

DEVICES: Final = 10_000
SIZES: Final = (200, 2_000, 30_000)
START_US: Final = 1_790_000_000_000_000
SEEDED_S: Final = 12
"""Seconds that every device sends before anything is measured, so that samples are there and pending rules settled."""


def column(field: Field, height: int, at: int) -> pl.Series:
    """Return quiet values: in the middle of the field's range, moving a little."""
    if field.is_number:
        low, high = field.low or 0.0, field.high or 100.0
        middle = {"cell_temp": 25.0, "cell_voltage": 3.6, "isolation": 5_000.0, "pack_voltage": 650.0}
        base = next((value for part, value in middle.items() if part in field.name), (low + high) / 2)
        values = pl.int_range(at, at + height, eager=True) % 7 * (base / 10_000) + base
        return values.cast(field.dtype).alias(field.name)
    if field.dtype == pl.Boolean():
        return pl.repeat(True, height, eager=True).alias(field.name)
    words = [str(word) for word in (field.values or {0: ""}).values()]
    return pl.repeat("closed" if "closed" in words else words[0], height, eager=True).alias(field.name)


def readings(contract: Contract, first: int, height: int) -> pl.DataFrame:
    """Return the readings number `first` and on of the whole fleet."""
    number = pl.int_range(first, first + height, dtype=pl.Int64(), eager=True)
    device = number % DEVICES
    at = (START_US + number * (1_000_000 // DEVICES)).cast(TIME)
    base: dict[str, Any] = {
        "tenant": pl.repeat("acme", height, eager=True),
        "device_id": pl.select(pl.format("bus-{}", device)).to_series(),
        "measured_at": at,
        "received_at": at,
        "offset": number,
        "record": pl.repeat(0, height, dtype=pl.Int32(), eager=True),
        "flags": pl.repeat(None, height, dtype=pl.String(), eager=True),
    }
    return pl.DataFrame(base).with_columns(column(field, height, first) for field in contract.fields)


def main(stream: str) -> None:
    """Measure and print."""
    contract = load.load_contracts([]).by_stream(stream)
    assert contract is not None, stream
    measure(contract)


def measure(contract: Contract) -> None:
    """Measure the rules of one stream and print what they cost."""
    stage, state, offset = RuleStage(ContractSet([contract])), RuleState.empty(), 0
    none = pl.DataFrame(schema={"offset": pl.Int64(), "received_at": TIME, "is_start": pl.Boolean()})
    for _ in range(SEEDED_S):
        _, state = stage.run(state, {contract.stream: readings(contract, offset, DEVICES)}, none)
        offset += DEVICES
    result: dict[str, Any] = {"rules": len([rule for rule in contract.rules if rule.enabled]), "devices": DEVICES}
    for size in SIZES:
        batches = [readings(contract, offset + place * size, size) for place in range(max(5, 20_000 // size))]
        offset += sum(batch.height for batch in batches)
        found = 0
        took_s: list[float] = []
        for batch in batches:
            began_s = time.process_time()
            findings, state = stage.run(state, {contract.stream: batch}, none)
            took_s.append(time.process_time() - began_s)
            found += findings.height
        used_s = median(took_s)
        result[f"rows_{size}"] = {
            "ms_per_batch": round(used_s * 1e3, 2),
            "us_per_row": round(used_s / size * 1e6, 2),
            "findings": found,
        }
    tick = pl.DataFrame([(offset, START_US + offset * (1_000_000 // DEVICES), False)], schema=none.schema, orient="row")
    began_s = time.process_time()
    for _ in range(20):
        stage.run(state, {}, tick)
    result["tick_ms"] = round((time.process_time() - began_s) / 20 * 1e3, 2)
    began_s = time.process_time()
    packed = state.to_bytes()
    result["checkpoint_ms"] = round((time.process_time() - began_s) * 1e3, 1)
    known = state.streams[contract.stream]
    held = [known.newest, known.heard, known.past.at, known.past.value, *known.silence.heard.to_frame().get_columns()]
    held += [series for last in known.before.values() for series in (last.at, last.value)]
    result["series"] = len(known.looks)
    result["state_bytes_per_device"] = round(sum(series.estimated_size() for series in held) / DEVICES)
    result["checkpoint_bytes_per_device"] = round(len(packed) / DEVICES)
    print(json.dumps(result, indent=2), flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "battery_pack")

"""A fleet's quiet readings through the detectors, batch by batch, as live traffic cuts them.

    python -m tests.bench.detect STREAM ROWS

10,000 devices send once a second; a batch holds the next ROWS readings. After a warm-up a minute of the fleet's time is
measured, so that everything that is done once a minute is in it. Prints one JSON object: `readings`, CPU seconds of
this process by detector (`rules`, `anomalies`), `series` that anomalies watch and `series_bytes` that each takes.
"""

import json
import sys
import time
from typing import Any, Final

import polars as pl

from processors.contracts import load
from processors.contracts.load import ContractSet
from processors.contracts.model import Contract, Field
from processors.stages.anomalies import AnomalyStage, AnomalyState
from processors.stages.findings import TIME
from processors.stages.rules import RuleStage, RuleState

DEVICES: Final = 10_000
START_US: Final = 1_790_000_000_000_000
WARM_UP_S: Final = 12
"""Seconds that every device sends before anything is measured, so that samples are there and pending rules settled."""
MEASURED_S: Final = 60
TICK_S: Final = 5

_TICK: Final = {"offset": pl.Int64(), "received_at": TIME, "is_start": pl.Boolean()}


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


class Detectors:
    """Rules and anomalies over one stream, their CPU time apart."""

    def __init__(self, contract: Contract) -> None:
        contracts = ContractSet([contract])
        self._contract = contract
        self._rules, self._anomalies = RuleStage(contracts), AnomalyStage(contracts)
        self._of_rules, self.of_anomalies = RuleState.empty(), AnomalyState.empty()
        self.used_s = {"rules": 0.0, "anomalies": 0.0}

    def run(self, first: int, height: int) -> None:
        """Run the readings number `first` and on, and the tick behind them where one is due."""
        frames = {self._contract.stream: readings(self._contract, first, height)}
        ticks = tick(first + height, is_due=first // (TICK_S * DEVICES) != (first + height) // (TICK_S * DEVICES))
        began_s = time.process_time()
        _, self._of_rules = self._rules.run(self._of_rules, frames, ticks)
        between_s = time.process_time()
        _, self.of_anomalies = self._anomalies.run(self.of_anomalies, frames, ticks)
        self.used_s["rules"] += between_s - began_s
        self.used_s["anomalies"] += time.process_time() - between_s


def tick(offset: int, *, is_due: bool) -> pl.DataFrame:
    """Return the tick at the end of a batch, or none."""
    at_us = START_US + offset * (1_000_000 // DEVICES)
    return pl.DataFrame([(offset, at_us, False)] if is_due else [], schema=_TICK, orient="row")


def main(stream: str, rows: int) -> None:
    """Measure and print."""
    contract = load.load_contracts([]).by_stream(stream)
    assert contract is not None, stream
    detectors = Detectors(contract)
    begin, end = WARM_UP_S * DEVICES, (WARM_UP_S + MEASURED_S) * DEVICES
    for first in range(0, begin, DEVICES):
        detectors.run(first, DEVICES)
    detectors.used_s = dict.fromkeys(detectors.used_s, 0.0)
    for first in range(begin, end, rows):
        detectors.run(first, min(rows, end - first))
    memory = detectors.of_anomalies
    series = DEVICES * sum(len(of_stream.rules) for of_stream in memory.streams.values())
    found = {"series": series, "series_bytes": memory.nbytes / series if series else 0.0}
    print(json.dumps({"readings": end - begin, "cpu_s": detectors.used_s} | found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

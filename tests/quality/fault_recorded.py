"""Recorded trips of real vehicles through the chain, under a contract with rules of the same kinds as the built-in."""

import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from processors.contracts.load import load_contracts
from simulators.replay import encode, read_rows, recorded_at
from simulators.truth import FaultTruth
from simulators.vehicles.life import DAY_S, Delivery
from tests.quality.fault_journal import US_PER_S, Journal
from tests.quality.fault_vehicles import FleetResult

CONTRACT = Path("docs/how-to/contracts/twizy.yaml")
RULES = """
sampling: 1 s
rules:
  soc_low:
    title: The battery is nearly empty
    when: soc_pct < 10 %
    for: 30 s
    clear: soc_pct > 15 %
    severity: warning
    check: Send it home.
    source: as of the built-in rule
  soc_jump:
    title: The state of charge jumps
    when: abs(soc_pct - previous(soc_pct)) > 5 %
    needs: 60 s
    clear: abs(soc_pct - previous(soc_pct)) < 1 %
    severity: info
    check: Do not trust the range today.
    source: as of the built-in rule
  soc_stuck:
    title: The state of charge stands still
    detect: stuck
    with: {of: soc_pct, moving: speed_kmh, by: 30 km/h, span: 45 min}
    severity: warning
    check: Do not trust the range.
    source: as of the built-in rule
  speed_stuck:
    title: The speedometer stands still
    detect: stuck
    with: {of: speed_kmh, moving: gps_speed_kmh, by: 20 km/h, span: 10 min}
    severity: warning
    check: Suspect the sensor.
    source: as of the built-in rules
  too_fast:
    title: Faster than it is made for
    when: speed_kmh > 90 km/h
    for: 5 s
    clear: speed_kmh < 85 km/h
    severity: warning
    check: Suspect the sensor.
    source: a Twizy 80 goes 80 km/h
  silent:
    title: The vehicle is silent
    detect: silent
    with: {intervals: 2, grace: 60 s, at_least: 16 min}
    severity: warning
    check: Look at its telematics unit.
    source: as of the built-in rule
"""
GLITCH = FaultTruth(
    device_id="twizy-T3_05_25_2021_04",
    kind="recorded glitch",
    began_at="2021-05-25T17:01:42+00:00",
    ended_at="2021-05-25T17:01:43+00:00",
    rules=("twizy/soc_jump",),
    deadline_at="2021-05-25T17:01:46+00:00",
)
"""In one trip the state of charge goes from 14.72 to 0.02 and to 13.32 %, within two seconds."""
LATENCY_US = 200_000
AFTER_S = 5
"""A trip ends with its file; what the vehicle does afterwards nobody recorded."""


def run_trips(files: list[Path]) -> FleetResult:
    """Process recorded trips as if each row had arrived when it was written down."""
    cpu_s = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        contract = Path(folder) / "twizy.yaml"
        contract.write_text(CONTRACT.read_text() + RULES)
        contracts = load_contracts([Path(folder)])
    alerts, seconds, messages, rejected = [], 0.0, 0, 0
    for file in files:
        # Apart, because they are of different years and time does not run backwards in a journal.
        rows, journal = list(_rows(file)), Journal(contracts)
        journal.put(rows)
        began_us, ended_us = rows[0].received_us, rows[-1].received_us
        for at_us in range(began_us, ended_us, 600 * US_PER_S):
            journal.run_until(min(at_us + 600 * US_PER_S, ended_us + AFTER_S * US_PER_S))
        alerts += journal.alerts
        seconds += (ended_us - began_us) / US_PER_S
        messages, rejected = messages + journal.messages, rejected + journal.rejected
    return FleetResult(
        alerts=alerts,
        faults=[GLITCH],
        holes=[],
        vehicle_days=seconds / DAY_S,
        messages=messages,
        rejected=rejected,
        cpu_s=time.process_time() - cpu_s,
    )


def _rows(file: Path) -> Iterator[Delivery]:
    """Yield the rows; one without a time arrives with the one before it."""
    received_us = 0
    for row in read_rows(file):
        at = recorded_at(row)
        if at is not None:
            at = at.replace(tzinfo=ZoneInfo("Africa/Casablanca")).astimezone(UTC)
            received_us = max(_us(at) + LATENCY_US, received_us)
        if received_us:
            yield Delivery(received_us, f"twizy-{file.stem}", "twizy", encode(row))


def _us(at: datetime) -> int:
    return int(at.timestamp()) * US_PER_S

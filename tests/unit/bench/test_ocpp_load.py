"""What the stations of the benchmarks say is what the benchmarks' page says they do."""

import json
from collections import Counter
from pathlib import Path

import jsonschema_rs
import ocpp.v16
import pytest

from tests.bench.ocpp_load import (
    HEARTBEAT,
    METER_VALUES,
    METER_VALUES_PAYLOAD,
    STATUS_NOTIFICATION,
    STATUS_PAYLOAD,
    WORK,
)

SCHEMAS = Path(ocpp.v16.__file__).parent / "schemas"


@pytest.mark.parametrize(
    ("action", "payload"), [("MeterValues", METER_VALUES_PAYLOAD), ("StatusNotification", STATUS_PAYLOAD)]
)
def test_payloads_are_valid(action: str, payload: bytes) -> None:
    """A server that validates finds nothing to refuse."""
    schema = json.loads((SCHEMAS / f"{action}.json").read_text(encoding="utf-8-sig"))
    assert [] == list(jsonschema_rs.validator_for(schema).iter_errors(json.loads(payload)))


def test_meter_values_have_ten_samples() -> None:
    """As the name of the benchmark says."""
    (value,) = json.loads(METER_VALUES_PAYLOAD)["meterValue"]
    assert 10 == len(value["sampledValue"])


def test_the_mix_is_seven_two_one() -> None:
    """70 % MeterValues, 20 % Heartbeat, 10 % StatusNotification."""
    assert {METER_VALUES: 7, HEARTBEAT: 2, STATUS_NOTIFICATION: 1} == Counter(WORK["mixed"])

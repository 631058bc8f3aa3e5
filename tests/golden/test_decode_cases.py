"""Each folder of `decode` holds a contract, messages, and the readings and rejections they must become.

A message is given as `json`, `msgpack` (a value to encode), `text` or `hex` (bytes). The expected files are written
anew by `python -m tests.golden.test_decode_cases`; look at the difference before you keep it.
"""

import json
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest

from gateway.core.ids import DeviceId, Offset, TenantId
from gateway.core.records import Envelope, Route, to_batch
from processors.contracts import load_contract
from processors.stages.decode import decode

CASES = sorted((Path(__file__).parent / "decode").iterdir())
RECEIVED_NS = 1_795_341_610_000_000_000


def _payload(message: dict[str, Any]) -> bytes:
    ((kind, value),) = message.items()
    match kind:
        case "json":
            return json.dumps(value).encode()
        case "msgpack":
            return bytes(msgpack.packb(value))
        case "text":
            return str(value).encode()
        case "hex":
            return bytes.fromhex(value)
    raise AssertionError(kind)


def _outcome(case: Path) -> dict[str, Any]:
    contract = load_contract(case / "contract.yaml")
    route = Route(TenantId("acme"), DeviceId("ev-1"), "mqtt", contract.channel)
    messages = json.loads((case / "messages.json").read_text("utf-8"))
    envelopes = [Envelope(received_at_ns=RECEIVED_NS, route=route, payload=_payload(message)) for message in messages]
    decoded = decode(contract, to_batch(Offset(0), envelopes))
    same = {"tenant", "device_id", "received_at"}
    readings = [
        {key: value for key, value in row.items() if key not in same and value is not None}
        for row in decoded.readings.to_dicts()
    ]
    rejections = [
        {"offset": r.offset, "record": r.record, "code": r.code, "path": r.path, "expected": r.expected, "got": r.got}
        for r in decoded.rejections
    ]
    outcome = {"records": decoded.records, "flagged": decoded.flagged, "readings": readings, "rejections": rejections}
    return json.loads(msgspec.json.encode(outcome))  # type: ignore[no-any-return]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_messages_become_what_the_folder_says(case: Path) -> None:
    """Nulls are left out of the expected readings."""
    assert json.loads((case / "expected.json").read_text("utf-8")) == _outcome(case)


if __name__ == "__main__":
    for folder in CASES:
        (folder / "expected.json").write_text(json.dumps(_outcome(folder), indent=1) + "\n", "utf-8")

"""Each folder of `ocpp` holds what chargers and vehicles sent, and the sessions that the chain must make of it.

`frames.jsonl` is a journal, one entry a line: `at`, seconds of receipt since 2026-09-21T13:40:00Z, and `channel` with
`frame` (a charger's, as it was sent), or `message` (a vehicle's or a person's), or neither for a tick. `mishap` in its
first line says what went wrong. The expected files hold the newest revision of each session without nulls, and are
written anew by `python -m tests.golden.test_ocpp_cases`; look at the difference before you keep it.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from gateway.core.ids import Channel, DeviceId, Offset, TenantId
from gateway.core.records import TICK_ROUTE, Envelope, Route, to_batch
from processors.contracts.load import load_contracts
from processors.stages.chain import Chain
from processors.stages.sessions import SESSIONS

CASES = sorted((Path(__file__).parent / "ocpp").iterdir())
START = datetime(2026, 9, 21, 13, 40, tzinfo=UTC)
_CHAIN = Chain(load_contracts([]))


def _envelope(line: dict[str, Any]) -> Envelope:
    received_at_ns = round((START + timedelta(seconds=line["at"])).timestamp()) * 1_000_000_000
    if "channel" not in line:
        return Envelope(received_at_ns=received_at_ns, route=TICK_ROUTE, payload=b"")
    is_frame = "frame" in line
    channel = line["channel"]
    source = "ocpp" if is_frame else "gateway" if channel == "asset" else "mqtt"
    route = Route(TenantId("acme"), DeviceId(line.get("device", "cp-1")), source, Channel(channel))
    payload = json.dumps(line["frame"] if is_frame else line["message"]).encode()
    return Envelope(received_at_ns=received_at_ns, route=route, payload=payload)


def _sessions(case: Path, *, entries_max: int) -> pl.DataFrame:
    lines = [json.loads(line) for line in (case / "frames.jsonl").read_text("utf-8").splitlines()]
    envelopes = [_envelope(line) for line in lines if "mishap" not in line]
    state, rows = _CHAIN.empty_state(), []
    for first in range(0, len(envelopes), entries_max):
        batch = to_batch(Offset(first), envelopes[first : first + entries_max])
        outputs, state = _CHAIN.run(batch, state)
        state = _CHAIN.from_bytes(_CHAIN.to_bytes(state))
        assert outputs.tables["rejects"].is_empty(), outputs.tables["rejects"].to_dicts()
        rows.append(outputs.tables[SESSIONS])
    return pl.concat(rows)


def _outcome(case: Path) -> list[dict[str, Any]]:
    rows = _sessions(case, entries_max=10_000)
    newest = rows.sort("revision", maintain_order=True).unique("session_id", keep="last", maintain_order=True)
    shown = [
        {name: value for name, value in row.items() if value is not None}
        for row in newest.sort("started_at", "session_id").to_dicts()
    ]
    return json.loads(msgspec.json.encode(shown))  # type: ignore[no-any-return]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_messages_become_the_sessions_that_the_folder_says(case: Path) -> None:
    """Each mishap known from the field leaves the session it should."""
    assert json.loads((case / "expected.json").read_text("utf-8")) == _outcome(case)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_revisions_do_not_show_how_the_journal_was_cut(case: Path) -> None:
    """Seven entries at a time, each with a restart between, give the same rows."""
    assert _sessions(case, entries_max=10_000).equals(_sessions(case, entries_max=7))


if __name__ == "__main__":
    for folder in CASES:
        (folder / "expected.json").write_text(json.dumps(_outcome(folder), indent=1) + "\n", "utf-8")

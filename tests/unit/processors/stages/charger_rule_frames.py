"""Words of chargers for the tests of their rules, in seconds, to findings and back; the session stage runs before."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import polars as pl

from processors.contracts.load import ContractSet, load_contracts
from processors.contracts.model import Contract
from processors.contracts.rules import Rule
from processors.stages.charger_rules import ChargerRuleStage, ChargerRuleState
from processors.stages.sessions import SESSIONS, SessionState, fold_sessions
from tests.unit.processors.stages.session_frames import START_S, TIME, Said, said, us

CONTRACTS = load_contracts([])
STREAMS = ("charger_transaction", "charger_meter", "charger_status", "asset", "device_command")
SCHEMAS = {contract.stream: contract.readings_schema() for contract in CONTRACTS if contract.stream in STREAMS}
TICKS = {"offset": pl.Int64(), "received_at": TIME, "is_start": pl.Boolean()}


PARAMETERS: dict[str, tuple[str, dict[str, float | str | bool]]] = {
    "offline": ("charger_status", {"intervals": 2.0, "heartbeat": 300.0, "grace": 60.0}),
    "reboots": ("charger_status", {"boots": 3.0, "span": 3600.0}),
    "auth_failures": ("charger_status", {"failures": 3.0, "span": 600.0}),
    "security_event": ("charger_status", {"types": "TamperDetectionActivated,MemoryExhaustion", "shown": 3600.0}),
    "wrong_clock": ("charger_status", {"off": 300.0, "span": 600.0, "messages": 3.0}),
    "unusable": (
        "charger_status",
        {"gaps": 6.0, "gaps_least": 5.0, "least": 259_200.0, "attempts": 3.0, "within": 120.0},
    ),
    "ghost": ("charger_transaction", {"shown": 3600.0}),
    "zombie": ("charger_transaction", {"available": 60.0, "silent": 43_200.0}),
    "stalled": ("charger_meter", {"below": 0.05, "span": 600.0, "full": 95.0}),
    "derating": (
        "charger_meter",
        {"share": 80.0, "span": 600.0, "full": 80.0, "sessions": 8.0, "sessions_measured": 12.0},
    ),
    "register": ("charger_meter", {"shown": 86_400.0}),
}
"""Detector -> the stream of its rule, and parameters: durations in s, powers in kW."""


def rule(detector: str, **parameters: float | str | bool) -> Rule:
    """Return a rule, of the detector's name."""
    stream, usual = PARAMETERS[detector]
    return Rule(
        stream=stream,
        name=detector,
        title=detector,
        severity="warning",
        check="",
        source="",
        hold_s=0.0,
        clear_hold_s=0.0,
        needs_s=None,
        when=None,
        clear=None,
        when_text="",
        clear_text="",
        steps=(),
        step_texts=(),
        within_s=0.0,
        detector=detector,
        parameters={**usual, **parameters},
        inhibits=(),
        fields=(),
        unit="",
        enabled=True,
    )


def all_rules() -> list[Rule]:
    """Return a rule of each detector."""
    return [rule(detector) for detector in PARAMETERS]


def stage_of(rules: Sequence[Rule]) -> ChargerRuleStage:
    """Return a stage with these rules alone."""
    contracts = [contract for contract in CONTRACTS if contract.stream in STREAMS]
    return ChargerRuleStage(
        ContractSet(
            _with_rules(contract, [one for one in rules if one.stream == contract.stream]) for contract in contracts
        )
    )


def _with_rules(contract: Contract, rules: Sequence[Rule]) -> Contract:
    return msgspec.structs.replace(contract, rules=tuple(rules))


def connected(at: float, generation: int = 1, **columns: Any) -> Said:
    """Return that a charger connected."""
    return said("charger_status", at, connector="0", kind="connected", generation=generation, **columns)


def disconnected(at: float, generation: int = 1, **columns: Any) -> Said:
    """Return that its connection ended."""
    return said("charger_status", at, connector="0", kind="disconnected", generation=generation, **columns)


def boot(at: float, **columns: Any) -> Said:
    """Return a BootNotification."""
    return said("charger_status", at, connector="0", kind="boot", action="BootNotification", **columns)


def security(at: float, event: str, *, action: str | None = "SecurityEventNotification", **columns: Any) -> Said:
    """Return a security event, of the gateway where `action` is None."""
    return said("charger_status", at, connector="0", kind="security", action=action, security_event=event, **columns)


def order(at: float, step: str, action: str, payload: str | None = None, request: str = "r1") -> Said:
    """Return a step of a command."""
    return said("device_command", at, request_id=request, event=step, action=action, payload=payload)


def tick(received: float, *, is_start: bool = False) -> Said:
    """Return a tick."""
    return Said(stream="tick", at=received, received=received, is_start=is_start)


def ticks(first: float, last: float, every: float = 5.0) -> list[Said]:
    """Return ticks from one time to another."""
    return [tick(first + every * i) for i in range(int((last - first) // every) + 1)]


def in_order(*words: Said | Sequence[Said]) -> list[Said]:
    """Return words in order of their receipt."""
    flat = [one for some in words for one in ([some] if isinstance(some, Said) else some)]
    return sorted(flat, key=lambda one: float(one["received"]))


def frames_of(journal: Sequence[tuple[int, Said]]) -> tuple[dict[str, pl.DataFrame], pl.DataFrame]:
    """Return the frames and ticks of journal entries (offset, row)."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in STREAMS}
    passed = []
    for offset, one in journal:
        if one["stream"] == "tick":
            passed.append((offset, us(one["received"]), one["is_start"]))
            continue
        columns = {name: value for name, value in one.items() if name not in {"stream", "at", "received"}}
        base = {
            "tenant": "acme",
            "measured_at": us(one["at"]),
            "received_at": us(one["received"]),
            "offset": offset,
            "record": 0,
        }
        schema = SCHEMAS[one["stream"]]
        row = dict.fromkeys(schema) | base | columns
        assert row.keys() == schema.keys(), row.keys() ^ schema.keys()
        rows[one["stream"]].append(row)
    frames = {name: pl.DataFrame(some, schema=SCHEMAS[name]) for name, some in rows.items()}
    return frames, pl.DataFrame(passed, schema=TICKS, orient="row")


def run(
    rules: Sequence[Rule], words: Iterable[Said], cuts: Iterable[int] = (), *, restart: bool = False
) -> tuple[pl.DataFrame, ChargerRuleState]:
    """Return all findings and the state after.

    Args:
        rules: The rules.
        words: Journal entries in order, one row each.
        cuts: Places at which a batch ends.
        restart: Whether both states go through bytes between batches.
    """
    stage, placed = stage_of(rules), list(enumerate(words))
    edges = sorted({0, len(placed), *(cut for cut in cuts if 0 < cut < len(placed))})
    state, sessions, tables = ChargerRuleState.empty(), SessionState.empty(), []
    for low, high in pairwise(edges):
        frames, passed = frames_of(placed[low:high])
        revisions, sessions = fold_sessions(sessions, frames, passed)
        table, state = stage.run(state, frames | {SESSIONS: revisions}, passed)
        tables.append(table)
        if restart:
            state = ChargerRuleState.from_bytes(state.to_bytes())
            sessions = SessionState.from_bytes(sessions.to_bytes())
    return pl.concat(tables), state


def episodes(rules: Sequence[Rule], words: Iterable[Said]) -> list[tuple[str, str | None, str, float, float]]:
    """Return (rule, part, event, at, since) of what is found, times in seconds."""
    found, _ = run(rules, words)
    return [
        (row["rule"], row["part"], row["event"], row["at"].timestamp() - START_S, row["since"].timestamp() - START_S)
        for row in found.to_dicts()
    ]

"""Rules about chargers that no condition on one reading can say: is it there, is it used, does it do what it says.

    1 words of chargers by offset: facts, then the detectors   2 at the first tick of each 10 s: what is due

The facts come from the three streams of chargers, from charging sessions (which already say what was wrong with a
session's register, and whose end has no start), and from what people stated of chargers and ordered from them. Who is
due is known from a plan, so neither a tick nor a batch without words of chargers costs anything.

What depends on time is decided at ticks, by receipt; what a meter shows, by the charger's clock at its samples. What is
older than the newest of its kind and connector is not looked at. All of it is a function of the journal.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import polars as pl

from processors.contracts.load import ContractSet
from processors.stages.charger_rule_fold import DETECTORS, LOOK_US, Fold, Hooks
from processors.stages.charger_rule_state import ChargerRuleState, without_changed
from processors.stages.charger_rule_words import CHARGER_STREAMS, WORD_STREAMS, words_of
from processors.stages.findings import FINDINGS_SCHEMA, NO_FINDINGS

__all__ = ["DETECTORS", "ChargerRuleStage", "ChargerRuleState"]

_LOOKS_BACK: Final = 60
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES: Final = [name for name, dtype in FINDINGS_SCHEMA.items() if isinstance(dtype, pl.Datetime)]
_RAW_SCHEMA: Final = {**FINDINGS_SCHEMA, **dict.fromkeys(_TIMES, pl.Int64())}


class ChargerRuleStage:
    """The rules of the three streams of chargers that name one of `DETECTORS`, made once per process.

    Args:
        contracts: All streams; without those of chargers, or without such rules, the stage does nothing.
    """

    def __init__(self, contracts: ContractSet) -> None:
        found = [contract for name in CHARGER_STREAMS if (contract := contracts.by_stream(name)) is not None]
        rules = [rule for contract in found for rule in contract.rules]
        self._hooks = Hooks([rule for rule in rules if rule.enabled and rule.detector in DETECTORS])

    def run(
        self, state: ChargerRuleState, frames: Mapping[str, pl.DataFrame], ticks: pl.DataFrame
    ) -> tuple[pl.DataFrame, ChargerRuleState]:
        """Return the findings of a batch, rows of FINDINGS_SCHEMA, sorted, and the state after it.

        Args:
            state: The state after all earlier entries; it is left as it is.
            frames: Stream -> this batch's readings sorted by (offset, record), duplicates dropped, clocks set; those of
                chargers, `charging_session_revisions`, `asset` and `device_command` are read if they are there.
            ticks: `offset`, `received_at` and `is_start` of the batch's ticks, sorted by offset.
        """
        if not self._hooks.rules:
            return NO_FINDINGS, state
        if state.rules != self._hooks.fingerprints:
            state = without_changed(state, self._hooks.fingerprints)
        has_words = any(name in frames and frames[name].height for name in WORD_STREAMS)
        if not has_words and ticks.is_empty():
            return NO_FINDINGS, state
        looks = _looks(state, ticks)
        if not has_words and not looks:
            return NO_FINDINGS, msgspec.structs.replace(state, tick_offset=ticks["offset"][-1])
        fold = Fold(state.chargers, state.plan, self._hooks)
        words, place = words_of(frames), 0
        for offset, now_us, started_after in looks:
            # What sessions found at this tick carries its offset, and comes before what is due at it.
            while place < len(words) and words[place][0] <= offset:
                fold.take(words[place])
                place += 1
            fold.look(offset, now_us, started_after)
        for word in words[place:]:
            fold.take(word)
        fold.finish()
        after = ChargerRuleState(
            look=looks[-1][1] // LOOK_US if looks else state.look,
            tick_offset=state.tick_offset if ticks.is_empty() else ticks["offset"][-1],
            rules=state.rules,
            chargers=fold.chargers,
            plan=fold.plan,
        )
        return _to_frame(fold.rows), after


def _to_frame(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    if not rows:
        return NO_FINDINGS
    frame = pl.DataFrame(rows, schema=_RAW_SCHEMA, orient="row")
    frame = frame.with_columns(pl.col(_TIMES).cast(pl.Datetime("us", "UTC")))
    # Of one tick the plan's order is that of times that may be due, which says nothing.
    return frame.sort("offset", "record", "stream", "rule", "part", "tenant", "device_id", maintain_order=True)


def _looks(state: ChargerRuleState, ticks: pl.DataFrame) -> list[tuple[int, int, int | None]]:
    """Return (offset, us, offset of the tick before if the gateway started since) of the ticks at which is looked.

    Those are the first of each 10 s after the last, or far before it: a gateway whose clock was ahead, for which
    nothing must wait until it is as late as it once was. And the first after a start of the gateway.
    """
    if ticks.is_empty():
        return []
    received, starts = ticks["received_at"], ticks["is_start"]
    ends = received.min(), received.max()
    if not starts.any() and not any(isinstance(at, datetime) and _is_look(_us(at), state.look) for at in ends):
        return []
    looks: list[tuple[int, int, int | None]] = []
    look, before = state.look, state.tick_offset
    for offset, now_us, is_start in zip(ticks["offset"], received.to_physical(), starts, strict=True):
        if is_start or _is_look(now_us, look):
            look = now_us // LOOK_US
            looks.append((offset, now_us, before if is_start else None))
        before = offset
    return looks


def _is_look(now_us: int, look: int) -> bool:
    return not look - _LOOKS_BACK <= now_us // LOOK_US <= look


def _us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)

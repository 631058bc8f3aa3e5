"""What rules say, reading by reading in plain Python: the oracle of `test_rules`."""

from collections.abc import Iterator
from typing import Any

from processors.contracts.conditions import (
    Arithmetic,
    Call,
    Comparison,
    Every,
    FieldRef,
    Negative,
    Node,
    Not,
    Number,
    Text,
    Truth,
)
from processors.contracts.rules import Rule

US = 1_000_000
COMPARE = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


class Reading:
    """One reading: `at` and `received` in us."""

    def __init__(self, offset: int, device: str, at: int, received: int, fields: dict[str, Any]) -> None:
        self.offset, self.device, self.at, self.received, self.fields = offset, device, at, received, fields


def value_of(node: Node, earlier: list[Reading], now: Reading, needs_us: float) -> Any:
    """Return the value of a node at a reading; `earlier` are the device's in-order readings before it."""

    def get(part: Node, reading: Reading = now) -> Any:
        return value_of(part, earlier, reading, needs_us)

    match node:
        case Number() | Text() | Truth():
            return node.value
        case FieldRef():
            return now.fields.get(node.name)
        case Negative():
            return None if get(node.node) is None else -get(node.node)
        case Not():
            return None if get(node.node) is None else not get(node.node)
        case Arithmetic():
            left, right = get(node.left), get(node.right)
            if left is None or right is None or (node.operator == "/" and right == 0):
                return None
            return {"+": left + right, "-": left - right, "*": left * right}.get(node.operator, left / (right or 1))
        case Comparison():
            left, right = get(node.left), get(node.right)
            return None if left is None or right is None else COMPARE[node.operator](left, right)
        case Call(function="abs"):
            return None if get(node.argument) is None else abs(get(node.argument))
        case Call():
            points = [(r.at, get(node.argument, r)) for r in [*earlier, now]]
            return past_of(node, points, needs_us)
        case _:
            parts = [get(part) for part in node.nodes]
            decisive = not isinstance(node, Every)
            return decisive if decisive in parts else None if None in parts else not decisive


def past_of(call: Call, points: list[tuple[int, Any]], needs_us: float) -> Any:
    """Return a function's value at the last of the points (time, value)."""
    (at, x), before = points[-1], [(t, v) for t, v in points[:-1] if v is not None]
    if call.function == "previous":
        return before[-1][1] if before and at - before[-1][0] <= needs_us else None
    if x is None:
        return None
    width = round(call.span_s * US) // 8
    samples: dict[int, tuple[int, Any]] = {}
    for t, v in [*before, (at, x)]:
        samples.setdefault(t // width, (t, v))
    seen = [samples[bucket] for bucket in sorted(samples) if bucket >= at // width - 8]
    then_at, then = seen[0]
    if at - then_at < 4 * width:
        return None
    low, high = (pick([x, *(v for _, v in seen)]) for pick in (min, max))
    return {
        "rate": (x - then) / ((at - then_at) / 1e6),
        "change": x - then,
        "lowest": low,
        "highest": high,
    }[call.function]


def say_episodes(rule: Rule, readings: list[Reading]) -> Iterator[tuple]:
    """Yield (offset, device, rule, event, since offset) of one device's episodes."""
    seen: list[Reading] = []
    pending = opened = ended = None
    known, chains = None, [None] * len(rule.steps)
    needs = float("inf") if rule.needs_s is None else rule.needs_s * US
    for r in readings:
        if seen and r.at < seen[-1].at:
            continue
        nodes = rule.steps or (rule.when,)
        holds = [value_of(node, seen, r, min(needs, 300 * US) if rule.needs_s is None else needs) for node in nodes]
        clear = (
            (None if holds[-1] is None else not holds[-1])
            if rule.clear is None
            else value_of(rule.clear, seen, r, 300 * US)
        )
        seen.append(r)
        if known is not None and r.at - known > needs:
            pending, ended, chains = None, None, [None] * len(rule.steps)
        if opened:
            if clear is None:
                continue
            known, ended = r.at, (ended or r) if clear else None
            if ended and r.at - ended.at >= rule.clear_hold_s * US:
                yield r.offset, r.device, rule.name, "ends", opened.offset
                opened = ended = pending = known = None
            continue
        if all(hold is None for hold in holds):
            continue
        known = r.at
        if rule.steps:
            chains = [c if c and r.at - c.at <= rule.within_s * US else None for c in chains]
            for k in range(len(chains) - 1, 0, -1):
                chains[k] = chains[k - 1] if holds[k] and chains[k - 1] else chains[k]
            chains[0] = r if holds[0] else chains[0]
            opened, reached = chains[-1], chains[-1] is not None
            known = None if not any(chains) else known
        else:
            pending = (pending or r) if holds[0] else None
            reached = bool(pending) and r.at - pending.at >= rule.hold_s * US
            opened = pending if reached else None
            known = known if pending else None
        if reached:
            yield r.offset, r.device, rule.name, "begins", opened.offset
            pending, chains = None, [None] * len(rule.steps)


def say_silences(rule: Rule, readings: list[Reading], ticks: list[tuple[int, int, bool]]) -> Iterator[tuple]:
    """Yield the same of the silences of one device; ticks are (offset, received us, whether the gateway started)."""
    last = silent = usual = None
    receipts = learnt = started = 0
    for event in sorted([*readings, *ticks], key=lambda e: e.offset if isinstance(e, Reading) else e[0]):
        if not isinstance(event, Reading):
            offset, now, is_start = event
            started = now if is_start else started
            if last is None or silent or receipts < 5 or usual is None:
                continue
            limit = max(
                rule.parameters["at_least"] * US, rule.parameters["intervals"] * usual + rule.parameters["grace"] * US
            )
            if now - max(last.received, started) > limit:
                silent = last
                yield offset, last.device, rule.name, "begins", silent.offset
            continue
        if silent:
            yield event.offset, event.device, rule.name, "ends", silent.offset
            silent = None
        if last is not None and last.offset == event.offset:
            continue
        receipts += 1
        if last and (receipts == 2 or last.received // (60 * US) != event.received // (60 * US)):
            taken = max(event.received - last.received, 1000)
            if learnt >= 3:
                taken = min(max(taken, usual // 4), usual * 4)
            usual = taken if usual is None else usual + (taken - usual) // min(learnt + 1, 8)
            learnt += 1
        last = event

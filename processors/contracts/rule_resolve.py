"""From one rule as a person wrote it to a `Rule`: the checks that need no other contract."""

import re
from collections.abc import Mapping
from typing import Final, NoReturn

import msgspec

from gateway.core.errors import ConfigError
from gateway.core.limits import RULE_STEPS_MAX, RULE_WAIT_S_MAX
from gateway.core.text import peer_text
from processors.contracts.condition_reader import Condition, read_condition
from processors.contracts.condition_values import RuleError
from processors.contracts.conditions import Comparison, Node, Number, Text, Truth
from processors.contracts.detector_resolve import Detector, ParameterError, read_detector
from processors.contracts.detectors import DETECTORS
from processors.contracts.file import RuleFile, nearest
from processors.contracts.model import Field
from processors.contracts.places import Located, Path
from processors.contracts.rules import Rule
from processors.contracts.units import duration_s

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_KINDS: Final = ("when", "sequence", "detect")
_KEYS: Final[dict[str, frozenset[str]]] = {
    "when": frozenset({"for", "clear", "clear_for", "needs"}),
    "sequence": frozenset({"within", "clear", "clear_for", "needs"}),
    "detect": frozenset({"with"}),
}
"""Keys that belong to each kind of rule; those of `detect` depend on the detector too."""
_KIND_KEYS: Final = ("for", "clear", "clear_for", "within", "with", "needs")
_OPPOSITE: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


class StreamFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule must know of its stream."""

    stream: str
    fields: tuple[Field, ...]
    sampling_s: float | None


def resolve_rule(stream: StreamFacts, name: str, written: RuleFile, located: Located, place: Path) -> Rule:
    """Return the rule.

    Args:
        stream: Its stream.
        name: Its name.
        written: Its keys.
        located: The file that errors are in.
        place: Where the rule is in that file.
    Raises: ConfigError: Something in it does not fit together.
    """
    return _Resolver(stream, name, written, located, place).rule()


def rule_places(located: Located, place: Path) -> dict[str, tuple[str, int]]:
    """Return file and line of each key of a rule, and of the rule itself under the empty key."""
    value = located.at(place)
    keys = value if isinstance(value, dict) else {}
    places = {str(key): (located.file, located.line((*place, key))) for key in keys}
    return {"": (located.file, located.line(place)), **places}


def rule_id(text: str, stream: str) -> str:
    """Return `stream/rule` of a rule named in a rule of that stream."""
    return text if "/" in text else f"{stream}/{text}"


class _Resolver:
    def __init__(self, stream: StreamFacts, name: str, written: RuleFile, located: Located, place: Path) -> None:
        self._stream, self._name, self._written = stream, name, written
        self._located, self._place = located, place
        self._fields: Mapping[str, Field] = {field.name: field for field in stream.fields}

    def rule(self) -> Rule:
        written = self._written
        if not _NAME.fullmatch(self._name):
            self._refuse(
                "", f"'{peer_text(self._name)}' is no name", "write a-z, 0-9, _ and -, at most 63, a letter first"
            )
        kind = self._kind()
        when = self._condition("when", written.when) if written.when is not None else None
        clear = self._condition("clear", written.clear) if written.clear is not None else None
        steps = self._steps(written.sequence) if written.sequence is not None else ()
        detector = self._detector() if kind == "detect" else None
        if when is not None and clear is not None and both_hold(when.node, clear.node):
            what = f"'{peer_text(written.clear or '')}' holds while '{peer_text(written.when or '')}' does"
            self._refuse(
                "clear", what, "write a condition that excludes it, as in 'when: soc_pct < 10, clear: soc_pct > 15'"
            )
        read = [condition for condition in (when, clear, *steps, detector) if condition is not None]
        shown = when or detector or (steps[-1] if steps else None)
        return Rule(
            stream=self._stream.stream,
            name=self._name,
            title=written.title or re.sub(r"[_-]", " ", self._name),
            severity=written.severity,
            check=written.check,
            source=written.source,
            hold_s=self._wait("for", written.hold),
            clear_hold_s=self._wait("clear_for", written.clear_for),
            needs_s=self._wait("needs", written.needs) if written.needs is not None else None,
            when=when.node if when else None,
            clear=clear.node if clear else None,
            when_text=written.when or "",
            clear_text=written.clear or "",
            steps=tuple(step.node for step in steps),
            step_texts=tuple(written.sequence or ()),
            within_s=self._wait("within", written.within) if written.within is not None else 0.0,
            detector=written.detect,
            parameters=detector.parameters if detector else {},
            expressions=detector.expressions if detector else {},
            inhibits=tuple(dict.fromkeys(rule_id(text, self._stream.stream) for text in written.inhibits)),
            fields=tuple(sorted(frozenset().union(*(condition.fields for condition in read)))),
            unit=shown.unit if shown else "",
            enabled=written.enabled,
        )

    # ---- which kind --------------------------------------------------------------------------------------------------
    def _kind(self) -> str:
        said = [kind for kind in _KINDS if getattr(self._written, kind) is not None]
        if len(said) != 1:
            shown = " and ".join(f"'{kind}'" for kind in said)
            what = f"has {shown}" if said else "has no 'when', 'sequence' or 'detect'"
            self._refuse(said[1] if said else "", what, "write exactly one of when, sequence and detect")
        (kind,) = said
        allowed = _KEYS[kind]
        if kind == "detect" and self._written.detect in DETECTORS:
            allowed = allowed | DETECTORS[self._written.detect].keys
        for key in _KIND_KEYS:
            name = {"for": "hold", "with": "parameters"}.get(key, key)
            if name in self._written.model_fields_set and key not in allowed:
                whose = f"'detect: {peer_text(self._written.detect or '')}'" if kind == "detect" else f"'{kind}'"
                self._refuse(key, f"a rule with {whose} has no '{key}'", f"delete '{key}'")
        if kind == "sequence" and self._written.within is None:
            self._refuse("sequence", "'within' is missing", "add how long it may take from the first step to the last")
        return kind

    # ---- conditions --------------------------------------------------------------------------------------------------
    def _condition(self, key: str, text: str, *inside: int) -> Condition:
        try:
            return read_condition(text, self._fields, sampling_s=self._stream.sampling_s)
        except RuleError as exc:
            raise self._error((key, *inside), exc.what, exc.mend) from exc

    def _steps(self, texts: list[str]) -> tuple[Condition, ...]:
        if len(texts) > RULE_STEPS_MAX:
            self._refuse("sequence", f"has {len(texts)} steps, and may have {RULE_STEPS_MAX}", "leave some out")
        return tuple(self._condition("sequence", text, i) for i, text in enumerate(texts))

    def _detector(self) -> Detector:
        name = self._written.detect
        assert name is not None
        if name not in DETECTORS:
            self._refuse("detect", f"there is no detector '{peer_text(name)}'", nearest(name, list(DETECTORS)))
        form = DETECTORS[name]
        if form.streams and self._stream.stream not in form.streams:
            what = f"'{name}' does not know the stream {self._stream.stream}"
            self._refuse("detect", what, f"put the rule into {' or '.join(form.streams)}")
        try:
            return read_detector(
                form,
                self._written.parameters,
                stream=self._stream.stream,
                fields=self._fields,
                sampling_s=self._stream.sampling_s,
            )
        except ParameterError as exc:
            raise self._error(("with", exc.name) if exc.name else ("with",), exc.why.what, exc.why.mend) from exc

    # ---- times -------------------------------------------------------------------------------------------------------
    def _wait(self, key: str, text: str) -> float:
        try:
            seconds = duration_s(text)
        except ValueError as exc:
            what = f"'{peer_text(text)}' is not a span of time"
            raise self._error((key,), what, "write it as in '5 min' or '90 s'") from exc
        if seconds > RULE_WAIT_S_MAX:
            self._refuse(key, f"{peer_text(text)} is longer than {RULE_WAIT_S_MAX:g} s", "write a shorter time")
        sampling_s = self._stream.sampling_s
        if sampling_s is not None and 0 < seconds < sampling_s:
            what = f"{peer_text(text)} is shorter than {sampling_s:g} s, in which a reading comes ('sampling')"
            zero = "" if key in {"needs", "within"} else "0 s, or "
            self._refuse(key, what, f"write {zero}{sampling_s:g} s or more, or correct 'sampling'")
        if seconds == 0 and key in {"needs", "within"}:
            self._refuse(key, "0 s is no time at all", "write a longer time, or delete it")
        return seconds

    # ---- small parts -------------------------------------------------------------------------------------------------
    def _refuse(self, key: str, what: str, mend: str) -> NoReturn:
        raise self._error((key,) if key else (), what, mend)

    def _error(self, inside: Path, what: str, mend: str) -> ConfigError:
        return self._located.error((*self._place, *inside), what, mend)


# ---- what is known of two conditions ---------------------------------------------------------------------------------
def both_hold(when: Node, clear: Node) -> bool:
    """Return whether two conditions certainly hold at once for some value.

    Only single comparisons of the same thing with constants are judged; of everything else nobody knows.
    """
    one, other = _bound(when), _bound(clear)
    if one is None or other is None or one[0] != other[0]:
        return False
    (_, first, low), (_, second, high) = one, other
    values: list[_Constant] = [low, high]
    if isinstance(low, float) and isinstance(high, float):
        values += [(low + high) / 2, min(low, high) - 1.0, max(low, high) + 1.0]
    elif isinstance(low, str):
        values.append(f"{low}{high}")
    return any(_holds(first, value, low) and _holds(second, value, high) for value in values)


_Constant = float | str | bool


def _bound(node: Node) -> tuple[Node, str, _Constant] | None:
    """Return what a comparison holds against a constant, how, and the constant."""
    if not isinstance(node, Comparison):
        return None
    if isinstance(node.right, Number | Text | Truth):
        return node.left, node.operator, node.right.value
    if isinstance(node.left, Number | Text | Truth):
        return node.right, _OPPOSITE[node.operator], node.left.value
    return None


def _holds(operator: str, value: _Constant, constant: _Constant) -> bool:
    if operator in {"==", "!="}:
        return (value == constant) == (operator == "==")
    assert isinstance(value, float)
    assert isinstance(constant, float)
    return {"<": value < constant, "<=": value <= constant, ">": value > constant, ">=": value >= constant}[operator]

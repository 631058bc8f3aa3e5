"""What rules say of each other, over all streams: names that must exist, and inhibitions that must not go round."""

from collections.abc import Iterable, Mapping
from typing import Final

from gateway.core.errors import ConfigError
from gateway.core.text import peer_text
from processors.contracts.file import nearest
from processors.contracts.model import Contract
from processors.contracts.rules import Rule

TOGETHER: Final = "together"
"""Detector of rules that name others."""


def check_rules(contracts: Iterable[Contract], *, is_complete: bool = True) -> None:
    """Check what rules say of each other.

    Args:
        contracts: The contracts.
        is_complete: Whether these are all there are, so that a rule of another stream does not exist.
    Raises: ConfigError: A rule names one that is not there, or inhibitions go round.
    """
    _Checker(contracts, is_complete=is_complete).check()


class _Checker:
    def __init__(self, contracts: Iterable[Contract], *, is_complete: bool) -> None:
        self._contracts = {contract.stream: contract for contract in contracts}
        self._is_complete = is_complete
        self._rules = {rule.id: rule for contract in self._contracts.values() for rule in contract.rules}

    def check(self) -> None:
        for rule in self._rules.values():
            for name in rule.inhibits:
                self._check_there(rule, name, "inhibits")
            if rule.detector == TOGETHER:
                self._check_together(rule)
        cycle = _cycle({rule.id: [n for n in rule.inhibits if n in self._rules] for rule in self._rules.values()})
        if cycle:
            # Of several the one that was changed last, in a file of overrides, is most likely the mistake.
            changed = [i for i, name in enumerate(cycle) if self._is_overridden(self._rules[name])]
            start = changed[0] if changed else 0
            cycle = cycle[start:] + cycle[:start]
            what = f"goes round: {' inhibits '.join([*cycle, cycle[0]])}"
            mend = "delete one of these, or nobody is told of any of them"
            raise self._error(self._rules[cycle[0]], "inhibits", what, mend)

    def _check_together(self, rule: Rule) -> None:
        names = str(rule.parameters["rules"]).split(",")
        if len(names) == 1:
            raise self._error(rule, "with", "names one rule alone", "name two rules or more")
        for name in names:
            other = self._check_there(rule, name, "with")
            if other is not None and other.detector == TOGETHER:
                raise self._error(rule, "with", f"'{name}' is a rule of rules too", "name the rules that it names")
            if other is not None and rule.enabled and not other.enabled:
                what = f"'{rule.id}' never fires without it"
                raise self._error(other, "enabled", what, f"switch '{rule.id}' off too")

    def _check_there(self, rule: Rule, name: str, key: str) -> Rule | None:
        """Return the rule of that name, None if it may be in a contract that is not here."""
        if name in self._rules:
            return self._rules[name]
        if not self._is_complete and name.partition("/")[0] not in self._contracts:
            return None
        others = [other for other in self._rules if other != rule.id]
        mend = nearest(name, others) if others else "delete it; there are no other rules"
        raise self._error(rule, key, f"there is no rule '{peer_text(name)}'", mend)

    def _is_overridden(self, rule: Rule) -> bool:
        contract = self._contracts[rule.stream]
        return contract.rule_origins[rule.name].place("inhibits")[0] != contract.file

    def _error(self, rule: Rule, key: str, what: str, mend: str) -> ConfigError:
        origin = self._contracts[rule.stream].rule_origins[rule.name]
        file, line = origin.place(key)
        return ConfigError(file, line, f"{origin.path}.{key}: {what}", mend)


def _cycle(edges: Mapping[str, list[str]]) -> list[str]:
    """Return the nodes of a way that comes back to its start, empty if there is none."""
    done: set[str] = set()
    for start in edges:
        path = [start]
        ways = [iter(edges[start])]
        while path:
            following = next(ways[-1], None)
            if following is None:
                done.add(path.pop())
                ways.pop()
            elif following in path:
                return path[path.index(following) :]
            elif following not in done:
                path.append(following)
                ways.append(iter(edges[following]))
    return []

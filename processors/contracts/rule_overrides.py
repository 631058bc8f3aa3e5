"""What people change about rules in a file of their own, without touching the contracts that have them."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.core.text import peer_text
from processors.contracts.file import nearest, read_rule_file
from processors.contracts.load import ContractSet
from processors.contracts.model import Contract, RuleOrigin
from processors.contracts.places import Located, Path, Plain
from processors.contracts.rule_check import check_rules
from processors.contracts.rule_resolve import StreamFacts, resolve_rule, rule_places

_RULES: Final = "rules"
_OF_KIND: Final[dict[str, tuple[str, ...]]] = {
    "when": ("when", "for", "clear", "clear_for", "needs"),
    "sequence": ("sequence", "within", "clear", "clear_for", "needs"),
    "detect": ("detect", "with", "for", "clear_for", "needs"),
}
"""Keys that go with a rule's kind when an override makes it one of another kind, or of another detector."""

Keys = dict[str | int, Plain]


def with_rule_overrides(contracts: ContractSet, located: Located) -> ContractSet:
    """Return the contracts with rules as a file changes them.

    Args:
        contracts: All contracts.
        located: A file that maps, under `rules`, `stream/rule` to any keys of a rule. What it does not say stays;
            `with` is changed parameter by parameter.
    Raises: ConfigError: A rule does not exist, or cannot be used as it is then.
    """
    overrides = located.at((_RULES,))
    if overrides is None:
        return contracts
    if not isinstance(overrides, dict):
        raise located.error((_RULES,), "is no mapping", "write 'stream/rule:' and below it the keys to change")
    changed = {contract.stream: contract for contract in contracts}
    known = [rule.id for contract in contracts for rule in contract.rules]
    for name, keys in overrides.items():
        place: Path = (_RULES, name)
        if str(name) not in known:
            raise located.error(place, f"there is no rule '{peer_text(str(name))}'", nearest(str(name), known))
        if not isinstance(keys, dict):
            raise located.error(place, "is no mapping", "write the keys to change, as in 'enabled: false'")
        stream, _, rule = str(name).partition("/")
        changed[stream] = _changed(changed[stream], rule, keys, located, place)
    overridden = ContractSet(changed.values())
    check_rules(overridden)
    return overridden


def _changed(contract: Contract, name: str, keys: Keys, located: Located, place: Path) -> Contract:
    origin = contract.rule_origins[name]
    before = origin.written.model_dump(by_alias=True, exclude_unset=True)
    written = read_rule_file(_merged(before, keys), located, place)
    stream = StreamFacts(stream=contract.stream, fields=contract.fields, sampling_s=contract.sampling_s)
    rule = resolve_rule(stream, name, written, located, place)
    places = {**origin.places, **rule_places(located, place)}
    return msgspec.structs.replace(
        contract,
        rules=tuple(rule if other.name == name else other for other in contract.rules),
        rule_origins={
            **contract.rule_origins,
            name: RuleOrigin(written=written, path=".".join(map(str, place)), places=places),
        },
    )


def _merged(before: Mapping[str, Any], keys: Keys) -> Keys:
    kept: Keys = {str(key): value for key, value in before.items()}
    for kind, gone in _OF_KIND.items():
        is_other = any(other in keys and other != kind for other in _OF_KIND)
        if kind in before and (is_other or (kind == "detect" and keys.get(kind, before[kind]) != before[kind])):
            kept = {key: value for key, value in kept.items() if key not in gone}
    merged = {**kept, **keys}
    parameters, changed = kept.get("with"), keys.get("with")
    if isinstance(parameters, dict) and isinstance(changed, dict):
        merged["with"] = {**parameters, **changed}
    return merged

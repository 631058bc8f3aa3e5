"""What the charger rules remember between batches, and its bytes in a checkpoint."""

from typing import Final

import msgspec

from gateway.core.errors import CheckpointError
from processors.stages.charger_rule_record import NEVER, Charger, Key

_VERSION: Final = 1


class _Packed(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    look: int
    tick_offset: int
    rules: dict[str, str]
    chargers: list[Charger]


class ChargerRuleState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What the rules remember. A value: nothing changes it.

    Attributes:
        look: Number of the 10 s in which was looked last.
        tick_offset: Offset of the last tick.
        rules: Fingerprints of the rules under which the rest was found; of a rule with another nothing is kept.
        chargers: What is known of each.
        plan: (tick from which it is due, charger), a heap that nobody changes; some are there twice, and only the
            planned time counts.
    """

    look: int = -1
    tick_offset: int = -1
    rules: dict[str, str] = {}
    chargers: dict[Key, Charger] = {}
    plan: list[tuple[int, Key]] = []

    @classmethod
    def empty(cls) -> "ChargerRuleState":
        """Return the state before the journal's first entry."""
        return cls()

    def to_bytes(self) -> bytes:
        """Return the state as one MessagePack map."""
        packed = _Packed(
            version=_VERSION,
            look=self.look,
            tick_offset=self.tick_offset,
            rules=self.rules,
            chargers=list(self.chargers.values()),
        )
        return msgspec.msgpack.encode(packed)

    @classmethod
    def from_bytes(cls, payload: bytes) -> "ChargerRuleState":
        """Invert `to_bytes`; what belongs to a rule that has changed is dropped by the next `run`.

        Raises: CheckpointError: The bytes are no state of this version.
        """
        try:
            packed = msgspec.msgpack.decode(payload, type=_Packed)
        except msgspec.DecodeError as exc:
            raise CheckpointError(f"state of the charger rules is unreadable: {exc}; begin it anew") from exc
        if packed.version != _VERSION:
            raise CheckpointError(f"state of the charger rules is version {packed.version}, not {_VERSION}")
        chargers = {charger.key: charger for charger in packed.chargers}
        plan = sorted((charger.planned_us, charger.key) for charger in packed.chargers if charger.planned_us < NEVER)
        return cls(look=packed.look, tick_offset=packed.tick_offset, rules=packed.rules, chargers=chargers, plan=plan)


def without_changed(state: ChargerRuleState, fingerprints: dict[str, str]) -> ChargerRuleState:
    """Return the state without what belongs to rules that are gone or others than they were."""
    changed = frozenset(rule for rule, print_ in state.rules.items() if fingerprints.get(rule) != print_)
    chargers = dict(state.chargers)
    if changed:
        for key, known in state.chargers.items():
            chargers[key] = known.clone()
            chargers[key].forget_rules(changed)
            chargers[key].owned = []
    return msgspec.structs.replace(state, rules=fingerprints, chargers=chargers)

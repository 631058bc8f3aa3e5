"""Faults of chargers: what each must be noticed by, and by when. What it does is done by the station itself. Pure."""

from collections.abc import Mapping
from typing import Final

import msgspec

from simulators.moments import US_PER_S, iso
from simulators.truth import FaultTruth


class ChargerKind(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a kind of fault before it happens.

    Attributes:
        rules: Any of these alerts shows that it was noticed.
        able: Part of its rated power that an outlet can still give.
        deadline_s: By when it has to be noticed, after its beginning.
    """

    rules: tuple[str, ...]
    able: float
    deadline_s: float


CHARGER_FAULTS: Final[Mapping[str, ChargerKind]] = {
    # A fan or one of three power modules is gone; seen whenever a vehicle asks for more, so at the next sessions.
    "derating": ChargerKind(rules=("charger_meter/derating",), able=0.55, deadline_s=4 * 3_600.0),
    # The vehicle is gone, the connector free, but nobody said that the transaction ended.
    "zombie": ChargerKind(rules=("charger_transaction/zombie",), able=1.0, deadline_s=1_800.0),
    # The transaction goes on, the vehicle waits, and not a watt flows.
    "stalled": ChargerKind(rules=("charger_meter/stalled",), able=0.0, deadline_s=1_800.0),
}
"""Kind -> what it does and what must be noticed."""


def charger_truth(kind: str, *, device_id: str, part: str, began_us: int) -> FaultTruth:
    """Return what is true of a fault that begins now at a connector."""
    known = CHARGER_FAULTS[kind]
    return FaultTruth(
        device_id=device_id,
        kind=kind,
        part=part,
        began_at=iso(began_us),
        rules=known.rules,
        deadline_at=iso(began_us + round(known.deadline_s * US_PER_S)),
    )

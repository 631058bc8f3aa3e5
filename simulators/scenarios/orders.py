"""Which fault, on whom, from when: `KIND[:DEVICE]@SECONDS`, as command lines have it. Pure."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final

import msgspec

from simulators.target import SimulationError

VEHICLE_KINDS: Final = (
    "thermal-runaway",
    "thermal-runaway-slow",
    "weak-cell",
    "isolation-loss",
    "isolation-loss-slow",
    "temperature-stuck",
    "soc-stuck",
    "silent",
)
CHARGER_KINDS: Final = ("derating", "zombie", "stalled")
_ORDER: Final = re.compile(r"(?P<kind>[^:@]*)(?::(?P<device>[^@]*))?@(?P<seconds>.*)", re.DOTALL)


class FaultOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One fault to happen.

    Attributes:
        kind: One of VEHICLE_KINDS or CHARGER_KINDS.
        device_id: Whom it befalls, None for the first of the kind that can have it.
        at_s: Simulated seconds after the start of the run, >= 0.
    """

    kind: str
    device_id: str | None
    at_s: float


def read_order(text: str) -> FaultOrder:
    """Return the order that a text is. Raises: SimulationError: It is none; says what to write."""
    found = _ORDER.fullmatch(text.strip())
    if found is None:
        raise SimulationError(f"fault {text!r} says no time; write KIND[:DEVICE]@SECONDS, such as thermal-runaway@15")
    kind, device = found["kind"].strip(), found["device"]
    known = (*VEHICLE_KINDS, *CHARGER_KINDS)
    if kind not in known:
        near = get_close_matches(kind, known, 1)
        mend = f"did you mean {near[0]}" if near else f"give one of {', '.join(known)}"
        raise SimulationError(f"there is no fault {kind!r}; {mend}")
    if device is not None and not device.strip():
        raise SimulationError(f"fault {text!r} names no device after ':'; name one or leave ':' out")
    try:
        at_s = float(found["seconds"])
    except ValueError:
        at_s = -1.0
    if not 0.0 <= at_s < float("inf"):
        raise SimulationError(f"fault {text!r} begins at no time; give seconds after the start, such as {kind}@15")
    return FaultOrder(kind=kind, device_id=device.strip() if device else None, at_s=at_s)


def orders_of(
    orders: Sequence[FaultOrder], devices: Sequence[str], kinds: Sequence[str]
) -> dict[str, list[FaultOrder]]:
    """Return the orders by device, those without one dealt to the devices in turn.

    Args:
        orders: As given.
        devices: Of the run, in order.
        kinds: That these devices can have.
    Raises: SimulationError: A kind is none of theirs, a device is not in the run, or one has the same fault twice.
    """
    dealt: dict[str, list[FaultOrder]] = {}
    free = iter([name for name in devices if name not in {order.device_id for order in orders}])
    for order in orders:
        if order.kind not in kinds:
            raise SimulationError(f"no device of this run can have {order.kind!r}; give one of {', '.join(kinds)}")
        name = order.device_id or next(free, None)
        if name is None:
            raise SimulationError(f"there is no device left for {order.kind!r}; name one or take a larger fleet")
        if name not in devices:
            raise SimulationError(f"there is no {name!r} in this run for {order.kind!r}; {_mend(name, devices)}")
        if any(other.kind == order.kind for other in dealt.get(name, ())):
            raise SimulationError(f"{name} is given {order.kind!r} twice; give it once")
        dealt.setdefault(name, []).append(msgspec.structs.replace(order, device_id=name))
    return dealt


def _mend(name: str, devices: Sequence[str]) -> str:
    near = get_close_matches(name, devices, 1)
    return f"did you mean {near[0]}" if near else f"give one of {', '.join(devices[:10])}"

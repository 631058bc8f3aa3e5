"""What goes wrong with chargers in the field, on purpose: seeded, each with the flags it must leave behind. Pure."""

import random
from collections.abc import Callable
from copy import deepcopy
from typing import Final

import msgspec

from simulators.chargers.hardware import Version
from simulators.chargers.meter import US_PER_S
from simulators.chargers.truth import Payload

SKEW_MAX_S: Final = 300.0
"""Lead of a charger's clock that the built-in contracts believe; beyond it times are clamped and flagged."""
HALF_OPEN_S: Final = 8.0
"""How long a half-open connection stays, real seconds; the charger is back after half of it."""
_OFFSETS_S: Final = (-3 * 86_400, -3_600, 2 * 3_600, 86_400)
"""Wrong clocks: days off, and local time that says it is UTC."""


class ChargerFaultRates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often each fault strikes: probabilities, 0 .. 1.

    Attributes:
        drop: Per session: the connection is reset in the middle.
        half_open: Per session: the charger stops reading and answering, and comes back on a second connection.
        register_reset: Per session: the register begins at 0 again in the middle.
        no_stop: Per session: its end is never told.
        late_meter: Per session: the last meter value comes after the end.
        duplicate: Per call: its frame is written twice.
        dirt: Per meter value: something no schema allows, as real chargers send it.
        wrong_clock: Per charger: hours or days off, and the server's time does not mend it.
        clock_unset: Per charger: says 1970 until its first BootNotification is answered, and a session began before.
        no_boot: Per charger: no BootNotification after a reconnect.
    """

    drop: float = 0.0
    half_open: float = 0.0
    register_reset: float = 0.0
    no_stop: float = 0.0
    late_meter: float = 0.0
    duplicate: float = 0.0
    dirt: float = 0.0
    wrong_clock: float = 0.0
    clock_unset: float = 0.0
    no_boot: float = 0.0


Twist = Callable[[Payload], Payload]


class Dirt(msgspec.Struct, frozen=True):
    """One way of being wrong.

    Attributes:
        name: In the truth.
        flag: That the row must carry, None where nothing of it reaches a column.
        twist: Payload -> what is sent instead.
    """

    name: str
    flag: str | None
    twist: Twist


def _context(payload: Payload) -> Payload:
    payload = deepcopy(payload)
    for value in payload["meterValue"][0]["sampledValue"]:
        value["context"] = "Sample.Whenever"
    return payload


def _more_value(payload: Payload, changes: Payload) -> Payload:
    """Append a sampled value like the register's but for the changes, so that energies stay true."""
    payload = deepcopy(payload)
    values = payload["meterValue"][0]["sampledValue"]
    values.append(values[0] | changes)
    return payload


def _no_zone(payload: Payload) -> Payload:
    payload = deepcopy(payload)
    for meter_value in payload["meterValue"]:
        meter_value["timestamp"] = meter_value["timestamp"].removesuffix("Z")
    return payload


def _number_values(payload: Payload) -> Payload:
    """1.6 says numbers as text; some say numbers."""
    payload = deepcopy(payload)
    for value in payload["meterValue"][0]["sampledValue"]:
        value["value"] = float(value["value"])
    return payload


def _text_values(payload: Payload) -> Payload:
    """2.x says numbers; some say text, as they did in 1.6."""
    payload = deepcopy(payload)
    for value in payload["meterValue"][0]["sampledValue"]:
        value["value"] = str(value["value"])
    return payload


_EVERYWHERE: Final = (
    Dirt("unknown_measurand", "unknown_measurand", lambda p: _more_value(p, {"measurand": "Cable.Wear"})),
    Dirt("unknown_context", "unknown_context", _context),
    Dirt("no_zone", "no_zone", _no_zone),
    Dirt("extra_field", None, lambda p: p | {"vendorNote": "calibrated"}),
)
_V16: Final = (
    *_EVERYWHERE,
    Dirt(
        "hertz",
        "unknown_unit",
        lambda p: _more_value(p, {"value": "50.02", "measurand": "Frequency", "unit": "Hz"}),
    ),
    Dirt("number_values", "text_as_number", _number_values),
    Dirt("no_transaction", "no_transaction", lambda p: p | {"transactionId": -1}),
)
_V2: Final = (*_EVERYWHERE, Dirt("text_values", "number_as_text", _text_values))


class ChargerFaults:
    """All faults of one charger.

    Args:
        rates: How often.
        seed: The same seed harms the same sessions.
        version: Of OCPP; dirt differs.
    """

    def __init__(self, rates: ChargerFaultRates, *, seed: int | str, version: Version) -> None:
        self._rates, self._random = rates, random.Random(seed)
        self._dirt = _V16 if version == "1.6" else _V2
        self.clock_unset = self._strikes(rates.clock_unset)
        self.no_boot = self._strikes(rates.no_boot)
        wrong = self._strikes(rates.wrong_clock)
        self.clock_offset_us = self._random.choice(_OFFSETS_S) * US_PER_S if wrong else 0

    @property
    def is_clamped(self) -> bool:
        """Whether its clock is so far ahead that times are clamped."""
        return self.clock_offset_us > SKEW_MAX_S * US_PER_S

    def of_session(self) -> dict[str, int]:
        """Return name -> the tick at which it strikes, of one session."""
        names = ("drop", "half_open", "register_reset", "no_stop", "late_meter")
        return {name: self._random.randint(1, 4) for name in names if self._strikes(getattr(self._rates, name))}

    def of_meter_value(self) -> Dirt | None:
        """Return what is wrong with one meter value."""
        return self._random.choice(self._dirt) if self._strikes(self._rates.dirt) else None

    def copies(self) -> int:
        """Return how often a frame is written."""
        return 2 if self._strikes(self._rates.duplicate) else 1

    def _strikes(self, probability: float) -> bool:
        return probability > 0 and self._random.random() < probability

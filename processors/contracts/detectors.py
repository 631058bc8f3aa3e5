"""The detectors that a rule may name with `detect`, and their parameters. What they do is said in `stages`."""

from typing import Final, Literal

import msgspec

Kind = Literal["duration", "number", "whole", "percent", "power", "quantity", "expression", "like", "words", "rules"]
"""How a parameter is written, and what a rule has of it:

duration: `10 min`, seconds. number: a number. whole: a whole number. percent: `80 %`, percent.
power: `50 W`, kW. quantity: a number in the unit of another parameter, or with one that converts to it; a difference.
expression: a number computed of fields without functions, as text, and as a tree in `expressions`.
like: `field step, field step`; so, with the steps in the units of the fields. words: a list, joined by commas.
rules: a list of rules, each as `stream/rule`, joined by commas.
"""


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter of a detector.

    Attributes:
        kind: How it is written.
        what: What it means, for people.
        default: What it is where the rule says nothing, as a rule has it; None if the rule must say it.
        least: Lowest value.
        most: Highest value.
        unit_of: Of a quantity, the parameter whose unit it has.
        is_span: Whether it is a stretch of readings, which no device fills that sends less often.
    """

    kind: Kind
    what: str
    default: float | str | None = None
    least: float = 0.0
    most: float = 1e9
    unit_of: str = "of"
    is_span: bool = False


class DetectorForm(msgspec.Struct, frozen=True, kw_only=True):
    """How a rule names a detector.

    Attributes:
        what: What it finds, for people.
        parameters: Name -> parameter.
        streams: Streams that it knows; empty for every stream.
        keys: Further keys of a rule that it heeds, of `for`, `clear_for` and `needs`.
    """

    what: str
    parameters: dict[str, Parameter]
    streams: tuple[str, ...] = ()
    keys: frozenset[str] = frozenset()


_MIN_S: Final = 60.0
_HOUR_S: Final = 3600.0
_DAY_S: Final = 86_400.0
_WEEK_S: Final = 7 * _DAY_S


def _duration(
    what: str, default: float, *, least: float = 1.0, most: float = _WEEK_S, is_span: bool = False
) -> Parameter:
    return Parameter(kind="duration", what=what, default=default, least=least, most=most, is_span=is_span)


def _number(what: str, default: float, *, least: float = 1.0, most: float = 1000.0, kind: Kind = "number") -> Parameter:
    return Parameter(kind=kind, what=what, default=default, least=least, most=most)


def _whole(what: str, default: float, *, least: float = 1.0, most: float = 20.0) -> Parameter:
    return _number(what, default, least=least, most=most, kind="whole")


def _percent(what: str, default: float, *, least: float = 1.0, most: float = 100.0) -> Parameter:
    return _number(what, default, least=least, most=most, kind="percent")


_OF: Final = Parameter(kind="expression", what="the number to watch, computed of fields without functions")
_EVERY: Final = _duration("one sample in so long", _MIN_S, most=_DAY_S, is_span=True)
_SHOWN: Final = _duration("how long it is shown: nothing says that it is over", _HOUR_S, least=_MIN_S)

DETECTORS: Final[dict[str, DetectorForm]] = {
    "silent": DetectorForm(
        what="A device says nothing for longer than it usually does.",
        parameters={
            "intervals": _number("how many of its own usual intervals", 2.0),
            "grace": _duration("added to them", _MIN_S, least=0.0),
            "at_least": _duration("never less than this", 2 * _MIN_S, least=0.0),
        },
    ),
    "drift": DetectorForm(
        what="A number leaves the band in which nearly all of its own long history lies.",
        parameters={
            "of": _OF,
            "every": _EVERY,
            "warm_up": _duration("samples of so long are learnt from first", _WEEK_S, least=_MIN_S, most=90 * _DAY_S),
            "least_width": Parameter(
                kind="quantity", what="a band counts as at least this wide: what nobody would act on", default=0.0
            ),
            "threshold": _number("how far outside, in widths of the band", 1.0, least=0.0, most=50.0),
            "clear_after": _duration("samples of so long must be back inside", _HOUR_S),
            "settle": _duration("after this what was strange is the new usual", 3 * _DAY_S, most=90 * _DAY_S),
        },
    ),
    "peers": DetectorForm(
        what="A number is far from that of the other devices at like conditions.",
        parameters={
            "of": _OF,
            "like": Parameter(kind="like", what="what makes conditions alike: fields, each with the width of a bin"),
            "every": _EVERY,
            "margin": Parameter(kind="quantity", what="distance from the median of the others that is never too far"),
            "spreads": _number("and so many of their spreads beyond it", 4.0, least=0.0),
            "least_peers": _whole("others that must be known there", 8.0, least=2.0, most=32.0),
            "samples": _whole("so many samples in a row must be too far", 15.0, most=10_000.0),
            "clear_after": _duration("samples of so long must be near again", 15 * _MIN_S),
        },
    ),
    "stuck": DetectorForm(
        what="A number stays exactly the same while another one, which it should follow, moves.",
        keys=frozenset({"needs"}),
        parameters={
            "of": _OF,
            "moving": Parameter(kind="expression", what="the one that moves"),
            "by": Parameter(kind="quantity", what="how far that moves", unit_of="moving"),
            "every": _EVERY,
            "span": _duration("for so long", _HOUR_S, is_span=True),
        },
    ),
    "together": DetectorForm(
        what="All the named rules fire on one device, of whatever stream they are.",
        parameters={"rules": Parameter(kind="rules", what="the rules, each as `rule` or `stream/rule`")},
    ),
    "offline": DetectorForm(
        what="A charger is disconnected and does not come back, or was not seen since the gateway started.",
        streams=("charger_status",),
        parameters={
            "intervals": _number("how many heartbeats may be missed", 2.0),
            "heartbeat": _duration("how often chargers send one", 300.0, most=_DAY_S),
            "grace": _duration("added to them", _MIN_S, least=0.0),
        },
    ),
    "reboots": DetectorForm(
        what="A charger boots again and again.",
        streams=("charger_status",),
        parameters={
            "boots": _whole("how many are normal", 3.0),
            "span": _duration("within this time", _HOUR_S, least=_MIN_S),
        },
    ),
    "auth_failures": DetectorForm(
        what="Logins with a charger's identity fail one after another.",
        streams=("charger_status",),
        parameters={
            "failures": _whole("how many", 3.0),
            "span": _duration("within this time", 10 * _MIN_S, least=_MIN_S),
        },
    ),
    "security_event": DetectorForm(
        what="A charger reports a security event of one of the types.",
        streams=("charger_status",),
        parameters={"types": Parameter(kind="words", what="the types, as OCPP spells them"), "shown": _SHOWN},
    ),
    "wrong_clock": DetectorForm(
        what="The times in a charger's messages are off, one message after another.",
        streams=("charger_status",),
        parameters={
            "off": _duration("by more than this", 300.0, most=_DAY_S),
            "span": _duration("over at least this time", 10 * _MIN_S, least=0.0),
            "messages": _whole("in at least so many messages", 3.0),
        },
    ),
    "unusable": DetectorForm(
        what="A connector says Available and nobody charges: for far longer than usual, or though people try.",
        streams=("charger_status",),
        parameters={
            "gaps": _number("how many of its own usual pauses between sessions", 6.0),
            "gaps_least": _whole("pauses that must be known", 5.0, least=2.0, most=16.0),
            "least": _duration("never less than this", 3 * _DAY_S, most=90 * _DAY_S),
            "attempts": _whole("authorizations in a row without a session", 3.0),
            "within": _duration("how soon a session follows one", 2 * _MIN_S, most=_DAY_S),
        },
    ),
    "ghost": DetectorForm(
        what="A transaction ends of which nobody knows a start.",
        streams=("charger_transaction",),
        parameters={"shown": _SHOWN},
    ),
    "zombie": DetectorForm(
        what="A session goes on though its connector is Available, or though the charger says nothing of it.",
        streams=("charger_transaction",),
        parameters={
            "available": _duration("how long Available may contradict it", _MIN_S, most=_DAY_S),
            "silent": _duration("how long nothing may be heard of it", 12 * _HOUR_S, least=_MIN_S),
        },
    ),
    "stalled": DetectorForm(
        what="A vehicle would charge, and nothing flows.",
        streams=("charger_meter",),
        keys=frozenset({"needs"}),
        parameters={
            "below": _number("less than this is nothing", 0.05, least=0.001, kind="power"),
            "span": _duration("for so long", 10 * _MIN_S, least=_MIN_S, most=_DAY_S, is_span=True),
            "full": _percent("from this state of charge on a vehicle may take nothing", 95.0, most=101.0),
        },
    ),
    "derating": DetectorForm(
        what="A charger gives less than it can while a vehicle would take more.",
        streams=("charger_meter",),
        keys=frozenset({"needs"}),
        parameters={
            "share": _percent("less than this share of what it can", 80.0),
            "span": _duration("for so long", 10 * _MIN_S, least=_MIN_S, most=_DAY_S, is_span=True),
            "full": _percent("from this state of charge on vehicles take less", 80.0, most=101.0),
            "sessions": _whole("sessions from which is learnt what it offers", 8.0, most=1000.0),
            "sessions_measured": _whole("the same where it does not say what it offers", 12.0, most=1000.0),
        },
    ),
    "register": DetectorForm(
        what="An energy register falls, jumps or begins at 0.",
        streams=("charger_meter",),
        parameters={"shown": _duration("how long it is shown, unless a sound session follows", _DAY_S, least=_MIN_S)},
    ),
}
"""Name -> how a rule names it."""

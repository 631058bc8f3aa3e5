"""Conditions of rules as trees: what `when` and `clear` say, with every number in the unit of its stream."""

from typing import Literal

import msgspec

Function = Literal["rate", "change", "lowest", "highest", "previous", "abs"]


class _Node(msgspec.Struct, frozen=True, tag=True):
    pass


class Number(_Node, frozen=True, tag=True):
    """A number, in the unit that the other side has."""

    value: float


class Text(_Node, frozen=True, tag=True):
    """A quoted word."""

    value: str


class Truth(_Node, frozen=True, tag=True):
    """`true` or `false`."""

    value: bool


class FieldRef(_Node, frozen=True, tag=True):
    """A field of the stream."""

    name: str


class Call(_Node, frozen=True, tag=True):
    """A function, of a device's own past where it has a span (s, event time)."""

    function: Function
    argument: "Node"
    span_s: float | None = None


class Negative(_Node, frozen=True, tag=True):
    """The number with the other sign."""

    node: "Node"


class Arithmetic(_Node, frozen=True, tag=True):
    """`left operator right`, of numbers."""

    operator: Literal["+", "-", "*", "/"]
    left: "Node"
    right: "Node"


class Comparison(_Node, frozen=True, tag=True):
    """`left operator right`, true or false; `unit` is that of both, empty where they have none."""

    operator: Literal["<", "<=", ">", ">=", "==", "!="]
    left: "Node"
    right: "Node"
    unit: str = ""


class Not(_Node, frozen=True, tag=True):
    """The opposite."""

    node: "Node"


class Every(_Node, frozen=True, tag=True):
    """True when all are."""

    nodes: tuple["Node", ...]


class Any_(_Node, frozen=True, tag=True):  # noqa: N801 - Any is of typing
    """True when one is."""

    nodes: tuple["Node", ...]


Node = Number | Text | Truth | FieldRef | Call | Negative | Arithmetic | Comparison | Not | Every | Any_

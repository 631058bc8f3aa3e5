"""Conditions of rules as trees to walk: what they compare, which functions they call, and their words."""

from collections.abc import Iterator
from typing import Final, assert_never

from processors.contracts.conditions import (
    Any_,
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

ABSOLUTE: Final = "abs"
"""The one function that needs no past."""


def is_constant(node: Node) -> bool:
    """Return whether the node reads no field."""
    return not any(isinstance(part, FieldRef) for part in walk(node))


def comparisons(node: Node) -> Iterator[Comparison]:
    """Yield the comparisons of a condition from left to right."""
    for part in walk(node):
        if isinstance(part, Comparison):
            yield part


def past_calls(node: Node) -> Iterator[Call]:
    """Yield the calls of a condition that need a past, from left to right, outer ones first."""
    for part in walk(node):
        if isinstance(part, Call) and part.function != ABSOLUTE:
            yield part


def walk(node: Node) -> Iterator[Node]:
    """Yield the node and all below it, from left to right."""
    yield node
    match node:
        case Call():
            yield from walk(node.argument)
        case Negative() | Not():
            yield from walk(node.node)
        case Arithmetic() | Comparison():
            yield from walk(node.left)
            yield from walk(node.right)
        case Every() | Any_():
            for part in node.nodes:
                yield from walk(part)
        case _:
            pass


def to_text(node: Node) -> str:
    """Return a call's words for evidence, as in `rate(cell_temp_max_c, 10 s)`."""
    match node:
        case Number():
            return f"{node.value:g}"
        case Text():
            return f"'{node.value}'"
        case Truth():
            return "true" if node.value else "false"
        case FieldRef():
            return node.name
        case Call():
            span = "" if node.span_s is None else f", {node.span_s:g} s"
            return f"{node.function}({to_text(node.argument)}{span})"
        case Negative():
            return f"-{to_text(node.node)}"
        case Not():
            return f"not ({to_text(node.node)})"
        case Arithmetic() | Comparison():
            return f"({to_text(node.left)} {node.operator} {to_text(node.right)})"
        case Every():
            return " and ".join(to_text(part) for part in node.nodes)
        case Any_():
            return " or ".join(to_text(part) for part in node.nodes)
        case _:
            assert_never(node)


def sides_of(comparison: Comparison) -> tuple[Node, Node]:
    """Return what is measured and what it is held against: the side that reads no field, or the right one."""
    left, right = comparison.left, comparison.right
    return (right, left) if is_constant(left) and not is_constant(right) else (left, right)

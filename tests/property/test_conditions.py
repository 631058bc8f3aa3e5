"""Whatever a condition says, the answer is a tree that fits the stream or one line that says what to mend."""

from hypothesis import given
from hypothesis import strategies as st

from processors.contracts.condition_reader import Condition, read_condition
from processors.contracts.condition_values import RuleError
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
)
from processors.contracts.load import BUILT_IN, load_contract

CONTRACT = load_contract(BUILT_IN / "battery_pack.yaml")
FIELDS = {field.name: field for field in CONTRACT.fields}
NUMBERS = sorted(field.name for field in CONTRACT.fields if field.is_number)
WORDS = [
    *("soc_pct", "cell_temp_max_c", "contactor", "hvil_closed", "fault_codes", "true", "and", "or", "not"),
    *("rate", "change", "previous", "abs", "(", ")", ",", "<", ">=", "==", "!=", "+", "-", "*", "/"),
    *("3", "1.5e3", "10 s", "5 %", "2 degC/min", "100 ohm/V", "'closed'", '""', "'", "knots", "\u00e9", "$"),
]
SPANNED = ("rate", "change", "lowest", "highest")


def read(text: str) -> Condition | None:
    """Return the condition, None where it is none."""
    try:
        return read_condition(text, FIELDS, sampling_s=1.0)
    except RuleError as error:
        assert error.what
        assert error.mend
        assert "\n" not in error.what + error.mend
        return None


@given(st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join) | st.text(max_size=60))
def test_text_is_a_condition_or_one_line_that_says_what_to_mend(text: str) -> None:
    """No text leads to another exception, and a condition reads fields that are there."""
    if (condition := read(text)) is not None:
        assert condition.fields
        assert condition.fields <= set(FIELDS)


# ---- trees to text and back ------------------------------------------------------------------------------------------
def numbers(*, past: bool) -> st.SearchStrategy[Node]:
    """Return trees of numbers without units, so that every one fits every other."""
    leaves = st.sampled_from(["cell_voltage_min_id", "cell_voltage_max_id", "seq"]).map(FieldRef)
    literals = st.integers(0, 9_999).map(lambda value: Number(float(value)))

    def grown(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
        arithmetic = st.builds(Arithmetic, st.sampled_from("+-*/"), inner, inner)
        negative = inner.filter(lambda node: not isinstance(node, Number)).map(Negative)
        return arithmetic | negative | inner.map(lambda node: Call("abs", node))

    plain = st.recursive(leaves | literals, grown, max_leaves=4)
    if not past:
        return plain
    spans = st.integers(1, 3600).map(float)
    argument = st.builds(Arithmetic, st.just("+"), leaves, plain)
    calls = st.builds(Call, st.sampled_from(SPANNED), argument, spans) | argument.map(lambda n: Call("previous", n))
    return st.recursive(leaves | literals | calls, grown, max_leaves=4)


def conditions() -> st.SearchStrategy[Node]:
    """Return trees of conditions."""
    sides = numbers(past=True)
    compared = st.builds(Comparison, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), sides, sides)
    states = st.sampled_from(["open", "closed"]).map(Text)
    words = st.builds(Comparison, st.sampled_from(["==", "!="]), st.just(FieldRef("contactor")), states)
    leaves = compared | words | st.just(FieldRef("hvil_closed"))

    def grown(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
        several = st.lists(inner, min_size=2, max_size=3).map(tuple)
        return several.map(Every) | several.map(Any_) | inner.map(Not)

    return st.recursive(leaves, grown, max_leaves=4)


def written(node: Node) -> str:
    """Return a tree as a person could write it, with all its brackets."""
    match node:
        case Number():
            return f"{node.value:g}"
        case Text():
            return f"'{node.value}'"
        case FieldRef():
            return node.name
        case Call():
            span = "" if node.span_s is None else f", {node.span_s:g} s"
            return f"{node.function}({written(node.argument)}{span})"
        case Negative():
            return f"-({written(node.node)})"
        case Not():
            return f"not ({written(node.node)})"
        case Arithmetic() | Comparison():
            return f"({written(node.left)} {node.operator} {written(node.right)})"
        case Every():
            return f"({' and '.join(written(part) for part in node.nodes)})"
        case Any_():
            return f"({' or '.join(written(part) for part in node.nodes)})"
        case _:
            raise AssertionError(node)


def reads_field(node: Node) -> bool:
    return any(name in written(node) for name in ("cell_voltage", "seq", "contactor", "hvil"))


@given(conditions().filter(reads_field))
def test_a_tree_that_is_written_out_is_read_as_itself(node: Node) -> None:
    """Nothing is lost or regrouped on the way."""
    condition = read(written(node))
    assert condition is not None
    assert node == condition.node

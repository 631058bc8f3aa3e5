"""Whatever is in a contract file, the answer is a contract or one line that says what to mend."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import ConfigError
from processors.contracts import parse_contract
from processors.stages.decode import StreamDecoder

ROOT = Path(__file__).parents[2]
TEXTS = [
    (ROOT / "docs" / "how-to" / "contracts" / "twizy.yaml").read_text("utf-8"),
    (ROOT / "processors" / "contracts" / "vehicle_event.yaml").read_text("utf-8"),
    (ROOT / "tests" / "golden" / "contract_errors" / "rule_of_no_field" / "contract.yaml").read_text("utf-8"),
]
PIECES = st.sampled_from(
    [
        "",
        "0",
        "-",
        ":",
        "{",
        "}",
        "[",
        "]",
        ",",
        "~",
        "1e999",
        ".inf",
        "''",
        '"',
        "\n",
        "  ",
        "%",
        ".",
        "\\",
        "/",
        "../x",
    ]
) | st.text(max_size=4)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """Return a contract of ours in which up to three words are replaced."""
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(PIECES) + text[at + draw(st.integers(0, 12)) :]
    return text


@given(damaged())
def test_a_file_is_a_contract_or_one_line_that_says_what_to_mend(text: str) -> None:
    """No edit of a contract leads to another exception, and what is accepted can be decoded with."""
    try:
        contract = parse_contract(text, file="f.yaml")
    except ConfigError as error:
        assert "\n" not in str(error)
        assert error.what
        assert error.mend
        assert error.line <= text.count("\n") + 1
    else:
        StreamDecoder(contract)

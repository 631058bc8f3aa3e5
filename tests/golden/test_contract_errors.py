"""Each folder of `contract_errors` holds a contract with one mistake and the line that names it."""

from pathlib import Path

import pytest

from gateway.core.errors import ConfigError
from processors.contracts import parse_contract

CASES = sorted((Path(__file__).parent / "contract_errors").iterdir())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_mistake_is_named_with_line_and_mend(case: Path) -> None:
    """The message says where, what and what to write instead."""
    expected = (case / "expected.txt").read_text("utf-8").rstrip("\n")
    with pytest.raises(ConfigError) as caught:
        parse_contract((case / "contract.yaml").read_text("utf-8"), file="contract.yaml")
    assert expected == str(caught.value)

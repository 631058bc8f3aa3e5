"""YAML text becomes plain values that know their lines."""

import pytest

from gateway.core.errors import ConfigError
from processors.contracts.places import Located

TEXT = """stream: x
values: {N: neutral, on: works, 3: three}
list: [1.5, 010, 1:30, 2021-01-01, yes, true, .5, 1e3, ~, -7]
inner:
  quoted: '1'
  tagged: !!str 2
"""


def test_only_numbers_and_true_and_false_are_more_than_text() -> None:
    """YAML 1.1's surprises (octal, sexagesimal, dates, yes and on) stay text."""
    located = Located("f.yaml", TEXT)
    assert isinstance(located.value, dict)
    assert located.value["list"] == [1.5, "010", "1:30", "2021-01-01", "yes", True, 0.5, 1000.0, None, -7]
    assert located.value["values"] == {"N": "neutral", "on": "works", 3: "three"}
    assert located.value["inner"] == {"quoted": "1", "tagged": 2}


@pytest.mark.parametrize(
    ("path", "line"), [((), 1), (("values", 3), 2), (("list", 4), 3), (("inner", "quoted"), 5), (("inner", "gone"), 4)]
)
def test_each_place_knows_its_line(path: tuple[str | int, ...], line: int) -> None:
    """A place that is not there has the line of what should hold it."""
    assert line == Located("f.yaml", TEXT).line(path)


@pytest.mark.parametrize(
    "text",
    [
        "a: &x 1\nb: *x",
        "a: !foo 3",
        "? [1]\n: 2",
        "true: 1",
        "a: [",
        "a: \x00",
        "a: " + "[" * 5000,
        "a: " + "[" * 20 + "]" * 20,
        "a: 1\n---\nb: 2",
    ],
)
def test_what_a_contract_has_no_use_for_is_an_error(text: str) -> None:
    """Anchors, tags, odd keys, depth and broken text end in one line, never in another exception."""
    with pytest.raises(ConfigError):
        Located("f.yaml", text)

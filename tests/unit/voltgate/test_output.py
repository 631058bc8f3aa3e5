"""What the command line prints."""

import json

import pytest

from voltgate.output import cell, print_pairs, print_rows, to_plain


def test_hostile_text_is_inert_in_a_table_cell() -> None:
    """A device cannot move the cursor, colour the screen or fill it."""
    assert cell("\x1b[31mred\n") == "\\x1b[31mred\\n"
    assert len(cell("x" * 10_000)) < 200


def test_bytes_become_text_or_hexadecimal() -> None:
    """A payload is shown as what it is."""
    assert to_plain(b'{"a":1}') == '{"a":1}'
    assert to_plain(b"\xff\x00") == "ff00"


def test_table_columns_align(capsys: pytest.CaptureFixture[str]) -> None:
    """Every column is as wide as its widest cell."""
    print_rows(["device", "n"], [("bus-0001", 7), ("car", None)], as_json=False)
    assert capsys.readouterr().out.splitlines() == ["device    n", "bus-0001  7", "car       -"]


def test_json_is_one_document_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Machines read lines."""
    print_rows(["device", "n"], [("bus-0001", 7), ("car", None)], as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [{"device": "bus-0001", "n": 7}, {"device": "car", "n": None}]


def test_pairs_align(capsys: pytest.CaptureFixture[str]) -> None:
    """Names are padded so that values line up."""
    print_pairs({"a": 1, "long": 2.5}, as_json=False)
    assert capsys.readouterr().out.splitlines() == ["a     1", "long  2.5"]

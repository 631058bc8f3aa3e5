"""Identities that a topic and a table can carry."""

import pytest

from gateway.core.credentials import identity_problem


@pytest.mark.parametrize("text", ["ev-7", "WVWZZZ1KZAW000001", "bus 42", "véhicule", "x" * 128])
def test_ordinary_names_are_identities(text: str) -> None:
    """What fleets call their vehicles is accepted as it is."""
    assert identity_problem(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("x" * 129, "is 129 bytes, limit is 128"),
        ("é" * 65, "is 130 bytes, limit is 128"),
        ("a/b", "contains '/'"),
        ("a+", "contains '+'"),
        ("#", "contains '#'"),
        ("$SYS", "contains '$'"),
        ("a\0b", "contains '\\x00'"),
        ("a\x1b[31m", "contains '\\x1b'"),
        ("a\u202eb", "contains '\\u202e'"),
    ],
)
def test_names_that_mean_something_else_are_refused(text: str, expected: str) -> None:
    """Wildcards, separators and what does not print never become an identity."""
    assert (identity_problem(text) or "").startswith(expected)

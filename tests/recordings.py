"""Where the recordings are that tests and benchmarks read; they are no part of the project."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("VOLTGATE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def twizy_files() -> list[Path]:
    """Return the recorded trips; skip the test where they are not, fail it where everything is required."""
    files = sorted((DATA / "twizy").glob("*.csv"))
    if not files:
        _miss(f"no recorded trips in {DATA}/twizy")
    return files


def desl_sessions() -> Path:
    """Return the recorded charging sessions; skip the test where they are not, fail it where all is required."""
    file = DATA / "desl" / "sessions.csv"
    if not file.exists():
        _miss(f"no recorded charging sessions in {file}")
    return file


def _miss(what: str) -> None:
    message = f"{what}; set VOLTGATE_TEST_DATA"
    if os.environ.get("VOLTGATE_REQUIRE_SERVICES") == "1":
        pytest.fail(message)
    pytest.skip(message)

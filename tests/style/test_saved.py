"""Dashboards and rules that are committed are those that the code makes."""

import pytest

from tests.style import reference
from tests.style.reference import ROOT


@pytest.mark.parametrize("name", reference.FILES)
def test_committed_file_is_current(name: str) -> None:
    """A file says what the contracts say; refresh with `python -m tests.style.reference`."""
    assert reference.FILES[name]() == (ROOT / name).read_text("utf-8"), f"run {reference.COMMAND}"


def test_saved_objects_are_one_file() -> None:
    """Nothing is left from an earlier generator."""
    kept = [path.relative_to(ROOT) for path in (ROOT / "dashboards" / "saved" / "opensearch").iterdir()]
    assert [name for name in reference.FILES if "/opensearch/" in name] == [str(path) for path in kept]

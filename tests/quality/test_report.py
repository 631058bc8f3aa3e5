"""Reports of several commands share a file and a page, and leave each other's part alone."""

import json
from pathlib import Path

from tests.quality.report import merge_figures, write_part


def test_figures_of_other_commands_stay(tmp_path: Path) -> None:
    """A figure is replaced by one of its name alone."""
    file = tmp_path / "build" / "alerts.json"
    merge_figures({"a": 1.0, "b": 2.0}, file)
    merge_figures({"b": 3.0}, file)
    assert {"a": 1.0, "b": 3.0} == json.loads(file.read_text())


def test_part_of_the_page_is_replaced_where_it_is(tmp_path: Path) -> None:
    """What is before and after it stays, and a second time changes nothing."""
    page = tmp_path / "page.md"
    write_part("nab", "old", page)
    write_part("faults", "others", page)
    write_part("nab", "new", page)
    once = page.read_text()
    write_part("nab", "new", page)
    assert once == page.read_text()
    assert "old" not in once
    assert once.index("new") < once.index("others")
    assert 1 == once.count("<!-- end of nab -->")

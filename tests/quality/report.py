"""Where quality is reported: figures for machines, and parts of a page for people, each written by its command."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

FIGURES: Final = Path("build/alerts.json")
PAGE: Final = Path("docs/reference/alert-quality.md")
HEAD: Final = """# Alert quality

How good the alerts are, measured. Both parts of this page are written by the commands that measure.
"""


def merge_figures(values: Mapping[str, float], path: Path = FIGURES) -> None:
    """Add figures to the file, or replace those of the same name; others stay."""
    known = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**known, **values}, indent=2, sort_keys=True) + "\n")


def write_part(name: str, text: str, path: Path = PAGE) -> None:
    """Replace the part of the page between the markers of `name`, or add it at the end; other parts stay."""
    begin, end = f"<!-- {name}: written by `python -m tests.quality {name}` -->", f"<!-- end of {name} -->"
    part = f"{begin}\n{text.strip()}\n{end}\n"
    page = path.read_text() if path.exists() else HEAD
    if begin in page and end in page:
        before, rest = page.split(begin, 1)
        page = before + part + rest.split(end, 1)[1].removeprefix("\n")
    else:
        page = f"{page.rstrip()}\n\n{part}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page)

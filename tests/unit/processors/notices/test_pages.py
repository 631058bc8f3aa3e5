"""The pages about `alerts.yaml` say what is read: every example is taken, every key has its row."""

import re
import textwrap
from pathlib import Path

import pytest

from gateway.core import limits
from processors.notices.file import (
    AlertsFile,
    EscalationFile,
    MaintenanceFile,
    ReceiverFile,
    RouteFile,
    SmtpFile,
)
from processors.notices.load import parse_alerts
from processors.notices.notice import REASONS
from processors.notices.routing import SUPPRESSED_REASONS
from processors.stages.alert_record import LABELS

DOCS = Path(__file__).parents[4] / "docs"
PAGES = [DOCS / "reference" / "alerts-file.md", DOCS / "how-to" / "route-alerts.md"]
EXAMPLES = [
    pytest.param(textwrap.dedent(found), id=f"{page.stem}-{n}")
    for page in PAGES
    for n, found in enumerate(re.findall(r"^ *```yml\n(.*?)^ *```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL))
]
REFERENCE = PAGES[0].read_text("utf-8")
SECTIONS = {
    "# alerts.yaml": AlertsFile,
    "## receivers": ReceiverFile,
    "### smtp": SmtpFile,
    "## routes": RouteFile,
    "## escalations": EscalationFile,
    "## maintenance": MaintenanceFile,
}


def read_secret(source: str, name: str) -> str:
    """Return something that passes: an address for a chat, else bytes in base64."""
    is_chat = name.startswith(("SLACK", "TEAMS"))
    return "https://chat.example.org/hook" if is_chat else "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoyMzQ1Njc="


def section(heading: str) -> str:
    """Return the text below a heading, up to the next."""
    return re.split(r"^#", REFERENCE.split(f"{heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def rows(heading: str) -> dict[str, str]:
    """Return key -> row of the tables below a heading."""
    found = re.findall(r"^\| (`[^|]*`) \|(.*)\|$", section(heading), re.MULTILINE)
    return {key: row for keys, row in found for key in re.findall(r"`([^`]+)`", keys)}


@pytest.mark.parametrize("text", EXAMPLES)
def test_example_is_taken(text: str) -> None:
    """What a page shows can be copied."""
    _, plan = parse_alerts(text, file="alerts.yaml", read_secret=read_secret)
    assert plan.receivers


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_has_its_row(heading: str) -> None:
    """No key is missing from the reference, and none is there that does not exist."""
    fields = SECTIONS[heading].model_fields
    assert {field.alias or name for name, field in fields.items()} == set(rows(heading))


@pytest.mark.parametrize("heading", ["## routes", "## escalations", "## maintenance", "### smtp"])
def test_every_default_is_as_the_row_says(heading: str) -> None:
    """A key that must be given says so; a text is the one that is taken where it is missing."""
    written = rows(heading)
    for name, field in SECTIONS[heading].model_fields.items():
        row = written[field.alias or name]
        assert field.is_required() == ("must be given" in row), name
        if isinstance(field.default, str) and field.default:
            assert f"`{field.default}`" in row, name


def test_every_reason_and_label_is_named() -> None:
    """Reasons of notices, reasons why there is none, and labels."""
    words = set(re.findall(r"`([a-z_]+)`", REFERENCE))
    assert set() == {*REASONS, *SUPPRESSED_REASONS, *LABELS} - words


@pytest.mark.parametrize(
    "bound",
    ["ALERTS_ROUTED_MAX", "NOTICE_GROUPS_MAX", "NOTICE_MEMBERS_MAX", "SILENCES_MAX", "TESTS_QUEUED_MAX"],
)
def test_every_bound_is_as_the_page_says(bound: str) -> None:
    """The table of bounds has the number of today."""
    assert f"| {getattr(limits, bound):,} " in section("## Bounds")

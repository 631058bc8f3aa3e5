"""Rules of the code that no linter knows."""

import ast
import re
from pathlib import Path

import pytest

from gateway.core import errors
from gateway.core.failpoints import Failpoint
from tests.style.reference import ROOT

PACKAGES = ("gateway", "processors", "dashboards", "simulators", "voltgate")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LINES_MAX = 450
"""A module that a person can hold in mind; 150 to 400 lines are usual."""
APP_LINES_MAX = 600
"""A composition root shows the order of start and stop in one place, so it may be longer."""
PORTS_LINES_MAX = 150


def module_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_no_module_is_too_long(path: Path) -> None:
    """A module fits a mind."""
    limit = APP_LINES_MAX if path.name == "app.py" else LINES_MAX
    assert len(path.read_text("utf-8").splitlines()) <= limit


def test_ports_are_a_page() -> None:
    """What parts expect of each other can be read at once."""
    assert len((ROOT / "gateway/core/ports.py").read_text("utf-8").splitlines()) <= PORTS_LINES_MAX


def used(name: str, *, outside: str) -> bool:
    return any(re.search(rf"\b{name}\b", path.read_text("utf-8")) for path in MODULES if module_id(path) != outside)


@pytest.mark.parametrize("failpoint", Failpoint, ids=str)
def test_every_failpoint_has_a_call_site(failpoint: Failpoint) -> None:
    """A name that nothing calls would test nothing."""
    place = re.escape(f"Failpoint.{failpoint.name}")
    assert used(place, outside="gateway/core/failpoints.py")


@pytest.mark.parametrize("limit", re.findall(r"^([A-Z_]+): Final", (ROOT / "gateway/core/limits.py").read_text(), re.M))
def test_every_limit_bounds_something(limit: str) -> None:
    """A bound that nothing reads is a false promise."""
    derived = len(re.findall(rf"\b{limit}\b", (ROOT / "gateway/core/limits.py").read_text("utf-8"))) > 1
    assert derived or used(limit, outside="gateway/core/limits.py")


@pytest.mark.parametrize("name", [n for n, kind in vars(errors).items() if isinstance(kind, type)])
def test_every_error_class_is_used(name: str) -> None:
    """An error that nothing raises or catches is documentation of nothing."""
    assert used(name, outside="gateway/core/errors.py") or name == "VoltgateError"


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_every_module_says_what_it_is(path: Path) -> None:
    """A module begins with a sentence."""
    text = path.read_text("utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text))

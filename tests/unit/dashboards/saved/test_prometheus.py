"""Rules for Prometheus and the dashboard for Grafana, read by promtool and held against the metrics that there are."""

import json
import re
import subprocess
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from dashboards.saved.grafana_board import board
from dashboards.saved.prometheus_rules import ALARMS, rule_tests, rules
from tests.services import promtool
from tests.services.require import require

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs" / "reference" / "metrics.md").read_text("utf-8")
METRICS = set(re.findall(r"^\| `(voltgate_\w+)`", PAGE, re.MULTILINE))
PANELS = [panel for panel in json.loads(board())["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]


@pytest.fixture(scope="module")
def tool() -> str:
    """Return the path of promtool."""
    found = promtool.find()
    require(promtool.NEEDS, found)
    assert found is not None
    return found


def run(tool: str, *arguments: str, cwd: Path) -> tuple[int, str]:
    """Run promtool; return its exit code and what it said."""
    done = subprocess.run([tool, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def metrics_of(expression: str) -> set[str]:
    """Return our metrics in an expression, histograms by their own name."""
    return {re.sub("_(bucket|sum|count)$", "", name) for name in re.findall(r"voltgate_\w+", expression)}


def test_every_rule_fires_when_it_should_and_only_then(tool: str, tmp_path: Path) -> None:
    """The tests of the rules pass, and fail where a threshold is out of reach."""
    (tmp_path / "tests.yaml").write_text(rule_tests())
    (tmp_path / "rules.yaml").write_text(rules())
    assert 0 == run(tool, "check", "rules", "rules.yaml", cwd=tmp_path)[0]
    code, said = run(tool, "test", "rules", "tests.yaml", cwd=tmp_path)
    assert 0 == code, said
    for alarm in ALARMS:
        changed = rules().replace(f"expr: {alarm.expr}\n", "expr: vector(1) > 2\n")
        changed = changed if changed != rules() else rules().replace(f"expr: '{alarm.expr}'\n", "expr: vector(1) > 2\n")
        assert changed != rules(), alarm.name
        (tmp_path / "rules.yaml").write_text(changed)
        assert f'alertname="{alarm.name}"' in run(tool, "test", "rules", "tests.yaml", cwd=tmp_path)[1]


def test_expressions_of_the_dashboard_can_be_parsed(tool: str, tmp_path: Path) -> None:
    """Grafana fills in the interval; the rest is what Prometheus must understand."""
    found = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(EXPRESSIONS)
    ]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": found}]}))
    code, said = run(tool, "check", "rules", "panels.yaml", cwd=tmp_path)
    assert 0 == code, said


@pytest.mark.parametrize("expression", [*(alarm.expr for alarm in ALARMS), *EXPRESSIONS])
def test_only_metrics_that_there_are_are_asked_for(expression: str) -> None:
    """A renamed metric would leave a panel empty and a rule silent."""
    assert set() == metrics_of(expression) - METRICS


def test_each_rule_has_a_runbook() -> None:
    """Whoever is woken finds a page of that name, and no page is left over."""
    kept = {page.stem for page in (ROOT / "docs" / "runbooks").glob("*.md")} - {"README"}
    assert {alarm.name for alarm in ALARMS} == kept


def test_panels_do_not_overlap() -> None:
    """Each panel has a number and a place of its own on the 24 columns."""
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    places = [panel["gridPos"] for panel in PANELS]
    overlapping = [
        (one, other)
        for one, other in combinations(places, 2)
        if one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]
    ]  # fmt: skip
    assert [] == overlapping
    assert all(place["x"] + place["w"] <= 24 for place in places)

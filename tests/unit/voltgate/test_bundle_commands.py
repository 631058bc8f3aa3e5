"""Bundles for other tools: written where people say, of the contracts and names they have."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from voltgate.cli import app


def bundle(*arguments: str) -> tuple[int, str]:
    """Run `voltgate bundle opensearch`; return its exit code and stdout."""
    result = CliRunner().invoke(app, ["bundle", "opensearch", *arguments])
    return result.exit_code, result.stdout


def test_without_a_file_it_goes_to_stdout(tmp_path: Path) -> None:
    """Every line of stdout is an object, so that it can be piped into an import."""
    code, out = bundle("--data", str(tmp_path))
    assert 0 == code
    kinds = {json.loads(line)["type"] for line in out.splitlines()}
    assert {"index-pattern", "visualization", "search", "dashboard"} == kinds


def test_prefix_and_contracts_are_those_of_the_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of one's own has its pattern, under the prefix of one's own."""
    monkeypatch.setenv("VOLTGATE__OPENSEARCH__INDEX_PREFIX", "depot")
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "scooter.yaml").write_text(
        "stream: scooter\nversion: 1.0.0\ndescription: Scooters\nindex: true\n"
        'source: {mqtt: "v1/{tenant}/{device_id}/scooter"}\n'
        "time: {measured_at: {path: ts, format: iso8601}, skew_max: 5 min}\n"
        "fields:\n  lean_deg: {type: float, unit: deg, range: [-90, 90]}\n"
        "retention: {raw: 1 d, readings: 1 d, windows: 1 d}\n"
    )
    output = tmp_path / "mine.ndjson"
    assert (0, "") == bundle("--data", str(tmp_path), "--output", str(output))
    lines = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    assert "depot-scooter-*" in {line["attributes"]["title"] for line in lines}
    assert {True} == {line["id"].startswith("depot-") for line in lines}


def test_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """A directory that is not there ends the command with 1 and no traceback."""
    assert (1, "") == bundle("--data", str(tmp_path), "--output", str(tmp_path / "none" / "mine.ndjson"))

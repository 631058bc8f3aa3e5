"""The tutorial, played: its messages, its contract, its commands, and the answers it shows."""

import re
from pathlib import Path

import pytest
from paho.mqtt import publish

from tests.installation import Installation, run_voltgate, until

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("tutorial")]

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial" / "first-fleet.md").read_text("utf-8")
MESSAGES = re.findall(r"^publish (\w+) '(.+)'$", PAGE, re.MULTILINE)
PYTHON = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
CONTRACT = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
SHOWN = re.findall(r'^\$ voltgate query "(.+)"\n((?:(?!\$|```).*\n)+)', PAGE, re.MULTILINE)


def test_the_tutorial_shows_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever types what the tutorial says sees what it shows."""
    assert PYTHON is not None
    assert CONTRACT is not None
    installation = Installation(tmp_path / "fleet", gateway__mqtt__allow_anonymous=False)
    added = run_voltgate("device", "add", "bus-0042", "--data", str(installation.data), env=installation.environment)
    password = re.findall(r"^password +(\S+)$", added, re.MULTILINE)[0]
    monkeypatch.setenv("BUS_PASSWORD", password)
    with installation:
        for channel, payload in MESSAGES[:-1]:
            publish.single(
                f"v1/default/bus-0042/{channel}",
                payload,
                qos=1,
                port=installation.port,
                client_id="bus-0042",
                auth={"username": "bus-0042", "password": password},
            )
        exec(PYTHON[1].replace("qos=1", f"qos=1, port={installation.port}"), {})
        until(lambda: installation.query("select count(*) n from raw") == [{"n": 5}], what="every message in the lake")
        sql, answer = SHOWN[0]
        assert lines(answer) == lines(installation.voltgate("query", sql))
        codes = [row["code"] for row in installation.query("select code from rejects order by code")]
        assert ["type", "unknown_channel"] == codes

        file = installation.data / "contracts" / "door.yaml"
        file.parent.mkdir()
        file.write_text(CONTRACT[1], "utf-8")
        assert "" == installation.voltgate("contract", "check", str(file))
        installation.stop()
        installation.start()
        installation.voltgate("rejects", "retry", "--code", "unknown_channel")
        until(lambda: installation.query("select count(*) n from door") == [{"n": 1}], what="the door in the lake")
        sql, answer = SHOWN[1]
        assert lines(answer) == lines(installation.voltgate("query", sql))


def lines(text: str) -> list[list[str]]:
    """Return the words of each line."""
    return [line.split() for line in text.splitlines()]

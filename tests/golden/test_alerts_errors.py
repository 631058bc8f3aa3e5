"""Each folder of `alerts_errors` holds an `alerts.yaml` with one mistake and the line that names it."""

from pathlib import Path

import pytest

from gateway.core.errors import ConfigError
from processors.notices.load import parse_alerts

CASES = sorted((Path(__file__).parent / "alerts_errors").iterdir())
SECRETS = {
    "HOOK_SECRET": "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoyMzQ1Njc=",
    "SLACK_URL": "https://hooks.slack.com/services/canary",
    "TEAMS_URL": "https://example.webhook.office.com/canary",
    "SHORT": "Y2FuYXJ5",
    "EMPTY": " \n",
}


def read_secret(source: str, name: str) -> str:
    """Stand for the environment and its files, of which there are none."""
    if source == "file":
        raise FileNotFoundError(2, "No such file or directory")
    return SECRETS[name]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_mistake_is_named_with_line_and_mend(case: Path) -> None:
    """The message says where, what and what to write instead, and shows no secret."""
    expected = (case / "expected.txt").read_text("utf-8").rstrip("\n")
    with pytest.raises(ConfigError) as caught:
        parse_alerts((case / "alerts.yaml").read_text("utf-8"), file="alerts.yaml", read_secret=read_secret)
    assert expected == str(caught.value)
    assert "canary" not in str(caught.value)

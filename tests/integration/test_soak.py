"""The soak in its short form: minutes of load are a script, half a minute of it a test."""

from pathlib import Path

import pytest

from tests.services import opensearch
from tests.services.require import require
from tests.soak.run import Plan, soak

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("opensearch")]


def test_half_a_minute_with_an_outage_loses_nothing_and_the_index_comes_back(tmp_path: Path) -> None:
    """Everything acknowledged is in the lake, the ledger balances and the index is what the lake says."""
    require(opensearch.NEEDS, opensearch.available())
    report = soak(Plan(seconds=40, rate=200, outage_s=5), tmp_path, say=print)
    assert () == report.findings
    assert 40 * 200 == report.load.acknowledged
    assert report.lag_entries_max > 0, "the outage was not noticed"

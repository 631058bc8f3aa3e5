"""What all tests share: how long properties look, and that a slow machine is no failure."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.services import opensearch
from tests.services.require import require

# A busy machine must not turn a property into a timing test, so neither deadlines nor the pace of generation count.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=2000)
settings.load_profile(os.environ.get("VOLTGATE_HYPOTHESIS", "default"))


@pytest.fixture(scope="session")
def opensearch_node() -> Iterator[opensearch.Node]:
    """One real node for all tests of a run that need nothing of it but its interface.

    Their modules carry `pytest.mark.xdist_group("opensearch")`, so that one worker has them all; each uses index names
    of its own, or calls `clean`. Who kills or fills a node starts one for itself.
    """
    require(opensearch.NEEDS, opensearch.available())
    with opensearch.Node() as node:
        yield node

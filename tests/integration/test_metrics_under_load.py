"""What /metrics says while vehicles and chargers are at work: all that is documented, nothing about a single device."""

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fault.opensearch_system import System
from tests.services import opensearch, promtool
from tests.services.require import require

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("opensearch")]

REFERENCE: Final = Path("docs/reference/metrics.md")
PROGRAMS: Final = ("gateway", "processors")
LOOK_S: Final = 60.0
QUIET: Final = {
    "voltgate_auth_failures_total": "nobody fails to log in",
    "voltgate_certificate_expiry_timestamp_seconds": "the listener has no certificate",
    "voltgate_commands_total": "nobody sends a command",
    "voltgate_commands_waiting": "nobody sends a command",
    "voltgate_dropped_total": "the disk takes everything",
    "voltgate_rejected_total": "nobody breaks a rule of MQTT or OCPP",
    "voltgate_logins_waiting": "nobody has to log in",
    "voltgate_unread_deleted_total": "nothing is lost",
    "voltgate_index_other_clusters_total": "there is one cluster",
    "voltgate_index_retries_total": "it takes everything",
    "voltgate_journal_gap_total": "nothing is lost",
    "voltgate_quarantined_total": "nothing crashes",
    "voltgate_sink_retries_total": "the lake takes everything",
    "voltgate_late_dropped_total": "vehicles are late by seconds",
    "voltgate_late_revised_total": "vehicles are late by seconds",
    "voltgate_pane_full_total": "a vehicle measures once in seconds",
    "voltgate_jobs_total": "upkeep begins after minutes",
    "voltgate_notices_total": "there is no receiver",
    "voltgate_notices_kept": "there is no receiver",
    "voltgate_notices_suppressed_total": "there is no receiver",
    "voltgate_notice_seconds": "there is no receiver",
    "voltgate_receiver_circuit": "there is no receiver",
}
"""Metrics that have no reason to be anything but 0 or absent here, and why."""


def documented() -> set[str]:
    """Return the metrics that the reference names."""
    return set(re.findall(r"^\| `(voltgate_\w+)` \|", REFERENCE.read_text(), re.MULTILINE))


def page(system: System, program: str) -> str:
    """Return what a program says."""
    with urlopen(f"http://127.0.0.1:{system.programs.run_file(program)['observe_port']}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def names(text: str, *, with_value: bool) -> Iterator[str]:
    """Yield the documented names of a page, of all metrics or of those with a value that is not 0."""
    suffixes = {"counter": "_total", "info": "_info"}
    for family in text_string_to_metric_families(text):
        if family.name.endswith("_created"):  # when a histogram began, which the client library adds
            continue
        if not with_value or any(sample.value for sample in family.samples):
            yield family.name + suffixes.get(family.type, "")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Return the pages of both programs, scraped while a fleet publishes until all that should move has moved."""
    require(opensearch.NEEDS, opensearch.available())
    directory = tmp_path_factory.mktemp("metrics")
    found: dict[str, list[str]] = {program: [] for program in PROGRAMS}
    with System(directory) as system, system.fleet(directory / "truth") as fleet:
        still, deadline_s = documented() - QUIET.keys(), time.monotonic() + LOOK_S
        while still and time.monotonic() < deadline_s:
            for program in PROGRAMS:
                found[program].append(page(system, program))
                still -= set(names(found[program][-1], with_value=True))
            time.sleep(0.2)
        fleet.stop()
    return found


def test_every_documented_metric_is_there_and_those_that_should_move_do(pages: dict[str, list[str]]) -> None:
    """What stays 0 is named above with the reason; nothing is there that the reference does not name."""
    texts = [text for program in PROGRAMS for text in pages[program]]
    there = {name for text in texts for name in names(text, with_value=False) if name.startswith("voltgate_")}
    moved = {name for text in texts for name in names(text, with_value=True)}
    assert documented() == there
    assert set() == documented() - QUIET.keys() - moved


def test_no_label_tells_of_a_single_device(pages: dict[str, list[str]]) -> None:
    """Ids of vehicles, chargers and topics are in no sample of any scrape."""
    for text in (text for program in PROGRAMS for text in pages[program]):
        labels = [sample.labels for family in text_string_to_metric_families(text) for sample in family.samples]
        assert set() == {name for one in labels for name in one} & {"device", "device_id", "topic", "client_id"}
        values = {value for one in labels for value in one.values()}
        assert [] == [value for value in values if re.match(r"(bus|car|ev|cp|charger)-|v1/", value, re.IGNORECASE)]


@pytest.mark.parametrize("program", PROGRAMS)
def test_promtool_finds_nothing_to_say(program: str, pages: dict[str, list[str]]) -> None:
    """Names, units, types and help are what Prometheus asks for."""
    found = promtool.find()
    require(promtool.NEEDS, found)
    done = subprocess.run(
        [str(found), "check", "metrics"], input=pages[program][-1], capture_output=True, text=True, check=False
    )
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)

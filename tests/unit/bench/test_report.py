"""What a run leaves in the files, and what it must not touch."""

import json

from tests.bench.machine import Machine, SyncLatency
from tests.bench.report import Row, belongs_to, merge_page, merge_rows, row, rows_from_json, rows_to_json

MACHINE = Machine(
    cpu="Some CPU, 2 CPUs",
    memory_gib=24.0,
    system="Linux 6.1",
    disk="ext4 on /dev/vda, 252 GB",
    versions={"voltgate": "0.1.0"},
    at="2026-11-23",
)
OTHER = Machine(
    cpu="Other CPU, 8 CPUs",
    memory_gib=64.0,
    system="Linux 6.2",
    disk="xfs on /dev/sda, 900 GB",
    versions={"voltgate": "0.2.0"},
    at="2026-12-24",
)
PROSE = "# Benchmarks\n\n{machine}\n\n{rows}\n\nend\n"
SYNC = SyncLatency(p50_us=300.0, p99_us=900.0)
RATE = row("rate", 400_000.4, "messages/s", peer="Mosquitto 2", peer_value=200_000.0)
COST = row("cost", 2.2, "us", peer="Mosquitto 2", peer_value=4.0)
PART = row("cost/loop", 1.5, "us")


def test_ratio_is_ours_over_the_peers() -> None:
    """The ratio follows from the two values and is not given."""
    assert Row(name="cost", value=2.2, unit="us", peer="Mosquitto 2", peer_value=4.0, ratio=0.55) == COST


def test_without_a_peers_figure_there_is_neither_peer_nor_ratio() -> None:
    """A peer that could not run is null, never a made-up figure."""
    assert Row(name="cost", value=2.2, unit="us") == row("cost", 2.2, "us", peer="Mosquitto 2", peer_value=None)


def test_the_file_is_a_list_with_exactly_the_six_keys() -> None:
    """Other programs read these names."""
    written = json.loads(rows_to_json([COST]))
    assert written == [
        {"name": "cost", "value": 2.2, "unit": "us", "peer": "Mosquitto 2", "peer_value": 4.0, "ratio": 0.55}
    ]


def test_rows_survive_the_file() -> None:
    """Reading gives what was written, absent peers included."""
    assert rows_from_json(rows_to_json([RATE, COST, PART])) == [RATE, COST, PART]


def test_a_part_belongs_to_its_benchmark_alone() -> None:
    """A longer name with the same beginning is another benchmark."""
    assert [belongs_to(name, "cost") for name in ("cost", "cost/loop", "cost_50")] == [True, True, False]


def test_a_measured_benchmark_replaces_its_row_in_place() -> None:
    """The others stay as they are, in their order."""
    anew = row("rate", 1.0, "messages/s")
    assert [anew, COST, PART] == merge_rows([RATE, COST, PART], [anew])


def test_a_measured_benchmark_takes_its_old_parts_with_it() -> None:
    """A part that is no longer measured must not stand below a newer figure."""
    anew = row("cost", 3.0, "us")
    assert [RATE, anew] == merge_rows([RATE, COST, PART], [anew])


def test_new_benchmarks_follow() -> None:
    """A name that was not in the file comes last."""
    assert merge_rows([RATE], [COST, PART]) == [RATE, COST, PART]


def test_a_partial_run_changes_its_lines_of_the_page_and_no_others() -> None:
    """Neither the other rows nor the description of the machine move."""
    page = merge_page(None, [RATE, COST, PART], MACHINE, SYNC, partial=False, template=PROSE)
    again = merge_page(page, [row("rate", 5.0, "messages/s")], OTHER, SYNC, partial=True, template=PROSE)
    changed = [(old, new) for old, new in zip(page.splitlines(), again.splitlines(), strict=True) if old != new]
    assert changed == [
        (
            "| `rate` | 400,000 | messages/s | Mosquitto 2 | 200,000 | 2.00 | 2026-11-23, Some CPU, 2 CPUs |",
            "| `rate` | 5.00 | messages/s |  |  |  | 2026-12-24, Other CPU, 8 CPUs |",
        )
    ]


def test_a_full_run_leaves_no_old_row() -> None:
    """A benchmark that no longer exists goes with the run that no longer has it."""
    page = merge_page(None, [RATE, COST, PART], MACHINE, SYNC, partial=False, template=PROSE)
    fresh = merge_page(None, [COST], OTHER, SYNC, partial=False, template=PROSE)
    assert fresh == merge_page(page, [COST], OTHER, SYNC, partial=False, template=PROSE)


def test_a_partial_run_without_a_page_describes_its_machine() -> None:
    """The first page must say where its figures come from."""
    assert "- Date: 2026-11-23" in merge_page(None, [RATE], MACHINE, SYNC, partial=True, template=PROSE)

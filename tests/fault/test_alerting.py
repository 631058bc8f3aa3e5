"""The oracle sees a lost, a renamed and a torn message."""

import polars as pl

from tests.fault.alerting import Told, judge_told, worth_telling

SCHEMA = ("alert_id", "revision", "tenant", "device_id", "stream", "rule", "inhibits")
REVISIONS = pl.DataFrame(
    [
        ("a", 1, "t", "bus-1", "battery_pack", "isolation", "battery_pack/isolation_low"),
        ("b", 1, "t", "bus-1", "battery_pack", "isolation_low", ""),
        ("c", 1, "t", "bus-2", "battery_pack", "isolation_low", ""),
        ("c", 2, "t", "bus-2", "battery_pack", "isolation_low", ""),
    ],
    schema=SCHEMA,
    orient="row",
)


def test_alert_that_another_of_its_device_inhibits_needs_no_message():
    """On another device the same rule does."""
    assert {"a", "c"} == worth_telling(REVISIONS)


def test_repeated_message_is_fine_and_everything_else_is_found():
    """Lost, unknown to the lake, under a second id, with other contents."""
    first, second = Told("m1", (("a", 1),)), Told("m2", (("c", 1),))
    assert () == judge_told([first, second, first], REVISIONS)
    (lost,) = judge_told([first], REVISIONS)
    assert "1 alerts of the lake were never told: ['c']" == lost
    (unknown,) = judge_told([first, second, Told("m3", (("d", 1),))], REVISIONS)
    assert "the lake has not" in unknown
    (renamed,) = judge_told([first, second, Told("m3", (("a", 1),))], REVISIONS)
    assert "under a second id" in renamed
    (torn,) = judge_told([first, second, Told("m2", (("c", 2),))], REVISIONS)
    assert "other contents" in torn

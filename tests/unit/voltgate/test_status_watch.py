"""What `status --watch` makes of two scrapes."""

from voltgate.status_watch import Glance, read_samples, to_glance, to_line, to_screen

GATEWAY = """
# TYPE voltgate_received counter
voltgate_received_total{protocol="mqtt"} %d
voltgate_received_total{protocol="ocpp"} 5
# TYPE voltgate_acknowledged counter
voltgate_acknowledged_total{protocol="mqtt"} %d
# TYPE voltgate_rejected counter
voltgate_rejected_total{protocol="mqtt",reason="x"} 0
"""
PROCESSORS = """
# TYPE voltgate_rejects counter
voltgate_rejects_total{stream="a",code="range"} %d
# TYPE voltgate_cursor_lag_entries gauge
voltgate_cursor_lag_entries{cursor="lake"} 7
# TYPE voltgate_cursor_lag_seconds gauge
voltgate_cursor_lag_seconds{cursor="lake"} 1.5
# TYPE voltgate_index_lag_seconds gauge
voltgate_index_lag_seconds{table="a"} 2.5
voltgate_index_lag_seconds{table="b"} 9.5
# TYPE voltgate_alerts_firing gauge
voltgate_alerts_firing{severity="critical"} 2
# TYPE voltgate_freshness_seconds gauge
voltgate_freshness_seconds{table="raw"} 0.25
"""


def test_rates_are_growth_by_time() -> None:
    """Labels are added up; gauges are as they are now, of several cursors the largest."""
    before = {"gateway": read_samples(GATEWAY % (100, 90)), "processors": read_samples(PROCESSORS % 1)}
    now = {"gateway": read_samples(GATEWAY % (300, 280)), "processors": read_samples(PROCESSORS % 5)}
    expected = Glance(
        at="t",
        running={"gateway": True, "processors": True},
        received_per_s=100.0,
        acknowledged_per_s=95.0,
        rejected_per_s=2.0,
        lag_entries=7.0,
        lag_s=1.5,
        index_lag_s=9.5,
        alerts_firing={"critical": 2},
        freshness_s={"raw": 0.2},
    )
    assert expected == to_glance(before, now, span_s=2.0, at="t")


def test_restarted_program_counts_from_nothing() -> None:
    """A counter that fell is one that began again."""
    before, now = {"gateway": read_samples(GATEWAY % (1000, 1000))}, {"gateway": read_samples(GATEWAY % (15, 10))}
    glance = to_glance(before, now, span_s=1.0, at="t")
    assert (20.0, 10.0) == (glance.received_per_s, glance.acknowledged_per_s)


def test_silent_program_has_no_numbers() -> None:
    """What nobody says is shown as such, not as 0."""
    glance = to_glance({"gateway": None}, {"gateway": None, "processors": None}, span_s=1.0, at="t")
    assert Glance(at="t", running={"gateway": False, "processors": False}) == glance
    line = "t  gateway DOWN  processors DOWN  in -  acknowledged -  rejected -  lag -  firing 0"
    assert line == to_line(glance)
    assert "t  gateway DOES NOT ANSWER, processors DOES NOT ANSWER    Ctrl-C ends" == to_screen(glance)[0]

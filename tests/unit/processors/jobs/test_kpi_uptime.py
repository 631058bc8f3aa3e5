"""Uptime of ports by the NEVI formula, from outages made by hand."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.jobs.kpi_charging import PORT
from processors.jobs.kpi_uptime import (
    ORDER_COLUMNS,
    STATUS_COLUMNS,
    Span,
    maintenance_of,
    reduced,
    shared,
    total_s,
    united,
    uptime_by_port,
)

DAY = datetime(2026, 3, 1, tzinfo=UTC)
LATER = DAY + timedelta(days=5)
HOUR = 3600
Row = tuple[float, str, str | None]


def statuses(*rows: Row, generations: Sequence[int | None] = (), evse: bool = False) -> pl.DataFrame:
    """Return rows of one charger: hours after DAY, connector or `-` for the charger's connection, what it says."""
    table = []
    for i, (at_h, connector, said) in enumerate(rows):
        is_link = connector == "-"
        table.append(
            {
                "tenant": "t",
                "device_id": "cp",
                "measured_at": DAY + timedelta(hours=at_h),
                "offset": i,
                "record": 0,
                "kind": said if is_link else "status",
                "connector": None if is_link else connector,
                "evse_id": int(connector[0]) if evse and not is_link else None,
                "status": None if is_link else said,
                "generation": generations[i] if generations else None,
            }
        )
    return pl.DataFrame(table, schema=STATUS_COLUMNS)


def uptime(
    rows: pl.DataFrame, *, orders: Sequence[dict[str, Any]] = (), now: datetime = LATER, days: int = 1, **site: str
) -> list[tuple[Any, ...]]:
    """Return port, day of the month, T, outage, excluded from DAY on."""
    table = uptime_by_port(
        reduced(rows.lazy(), before=DAY),
        ports=pl.DataFrame(schema=dict.fromkeys(PORT, pl.String())),
        maintenance=maintenance_of(pl.DataFrame(orders, schema=ORDER_COLUMNS)),
        sites={("t", charger_id): name for charger_id, name in site.items()},
        days=[DAY.date() + timedelta(days=i) for i in range(days)],
        now=now,
    )
    up = (pl.col("observed_s") - pl.col("outage_s") + pl.col("excluded_s")) / pl.col("observed_s")
    assert table.select(up.alias("uptime")).to_series().to_list() == table["uptime"].to_list()
    return table.select("port", pl.col("day").dt.day(), "observed_s", "outage_s", "excluded_s").rows()


def silence(matchers: str, start_h: float, end_h: float, **values: Any) -> dict[str, Any]:
    """Return an order of maintenance, in hours after DAY."""
    at_us = round(DAY.timestamp() * 1e6)
    return {
        "offset": 0,
        "record": 0,
        "received_at": DAY - timedelta(hours=1),
        "tenant": "t",
        "kind": "silence",
        "by": "operator",
        "matchers": matchers,
        "starts_at_us": at_us + round(start_h * 3.6e9),
        "ends_at_us": at_us + round(end_h * 3.6e9),
        "why": "new cable",
        "silence_kind": "maintenance",
    } | values


OUT_8_TO_12 = [(-24, "1", "Available"), (8, "1", "Faulted"), (12, "1", "Available")]


def test_outage_lasts_from_a_bad_state_to_the_next_good_one() -> None:
    """Faulted and Unavailable count alike, and one may follow the other."""
    rows = [(-24, "1", "Available"), (8, "1", "Faulted"), (9, "1", "Unavailable"), (12, "1", "Charging")]
    assert [("1", 1, 24 * HOUR, 4 * HOUR, 0)] == uptime(statuses(*rows))


def test_overlapping_outages_count_once() -> None:
    """Connector, charger and connection may be out at the same time."""
    rows = [*OUT_8_TO_12, (10, "0", "Unavailable"), (13, "0", "Available"), (11, "-", "disconnected"),
            (14, "-", "connected")]  # fmt: skip
    assert [("1", 1, 24 * HOUR, 6 * HOUR, 0)] == uptime(statuses(*rows))


def test_maintenance_excludes_only_what_was_an_outage() -> None:
    """From 7 to 9 of an outage from 8 to 12 is one hour; (T - (4 h - 1 h)) / T."""
    orders = [silence("device=cp", 7, 9), silence("device=cp", 8.5, 9, offset=1)]
    assert [("1", 1, 24 * HOUR, 4 * HOUR, HOUR)] == uptime(statuses(*OUT_8_TO_12), orders=orders)


@pytest.mark.parametrize(
    ("order", "excluded_h"),
    [
        (silence("site=depot", 0, 24), 4),
        (silence("site~de.*", 0, 24), 4),
        (silence("site=elsewhere", 0, 24), 0),
        (silence("device=cp\npart=1", 0, 24), 4),
        (silence("device=cp\npart=2", 0, 24), 0),
        (silence("device=cp\nrule=offline", 0, 24), 0),
        (silence("severity!=critical", 0, 24), 0),
        (silence("device=cp", 0, 24, silence_kind="silence"), 0),
        (silence("device=cp", 0, 24, tenant="other"), 0),
    ],
    ids=["site", "expression", "other-site", "port", "other-port", "one-rule", "no-place", "noise", "other-tenant"],
)
def test_maintenance_must_name_the_port_or_its_place(order: dict[str, Any], excluded_h: float) -> None:
    """What silences only some alerts, or is not about places, is no maintenance of a port."""
    assert excluded_h * HOUR == uptime(statuses(*OUT_8_TO_12), orders=[order], cp="depot")[0][4]


def test_maintenance_that_was_ended_holds_until_then() -> None:
    """The order that ends it names it, and says nothing else."""
    begin = silence("device=cp", 0, 24)
    (planned,) = maintenance_of(pl.DataFrame([begin], schema=ORDER_COLUMNS))
    end = {"offset": 1, "record": 0, "received_at": DAY + timedelta(hours=10), "tenant": "t", "kind": "unsilence",
           "by": "operator", "silence_id": planned.silence.silence_id}  # fmt: skip
    assert 2 * HOUR == uptime(statuses(*OUT_8_TO_12), orders=[begin, end])[0][4]


def test_outage_is_split_at_midnight() -> None:
    """22:00 to 03:00 is two hours of one day and three of the next."""
    rows = statuses((-24, "1", "Available"), (22, "1", "Faulted"), (27, "1", "Available"))
    assert [("1", 1, 86400, 2 * HOUR, 0), ("1", 2, 86400, 3 * HOUR, 0)] == uptime(rows, days=2)


def test_open_outage_lasts_until_now() -> None:
    """T of a day that goes on is what of it is over."""
    rows = statuses((-24, "1", "Available"), (8, "-", "disconnected"))
    assert [("1", 1, 10 * HOUR, 2 * HOUR, 0)] == uptime(rows, now=DAY + timedelta(hours=10), days=3)
    assert [16 * HOUR, 24 * HOUR] == [row[3] for row in uptime(rows, days=2)]


def test_outage_that_began_long_before_counts() -> None:
    """A port that was faulted a year ago and said nothing since is faulted."""
    assert [("1", 1, 86400, 86400, 0)] == uptime(statuses((-8760, "1", "Available"), (-8759, "1", "Faulted")))


def test_charger_counts_from_its_first_word() -> None:
    """Before it, nobody knows."""
    assert [("1", 1, 18 * HOUR, 0, 0)] == uptime(statuses((6, "1", "Available")))


def test_port_of_a_charger_never_heard_has_no_uptime() -> None:
    """It is in the table, because a session was there, with nothing observed."""
    ports = pl.DataFrame([("t", "cp", "1"), ("t", "cp", None)], schema=dict.fromkeys(PORT, pl.String()), orient="row")
    table = uptime_by_port(
        reduced(statuses().lazy(), before=DAY), ports=ports, maintenance=(), sites={}, days=[DAY.date()], now=LATER
    )
    assert [("t", "cp", "1", date(2026, 3, 1), 0, 0, 0, None)] == table.rows()


def test_evse_is_out_when_all_its_connectors_are() -> None:
    """Of two plugs at one EVSE the other is often `Unavailable` while one charges."""
    rows = [(-24, "1/1", "Available"), (-24, "1/2", "Available"), (8, "1/1", "Occupied"), (8, "1/2", "Unavailable"),
            (12, "1/1", "Faulted"), (13, "1/2", "Available")]  # fmt: skip
    assert [("1", 1, 86400, HOUR, 0)] == uptime(statuses(*rows, evse=True))


def test_end_of_a_replaced_connection_is_no_outage() -> None:
    """The charger came back before its old connection was noticed to be gone."""
    rows = [(-24, "1", "Available"), (8, "-", "connected"), (8.01, "-", "disconnected")]
    assert 0 == uptime(statuses(*rows, generations=(None, 5, 4)))[0][3]
    assert 0 < uptime(statuses(*rows, generations=(None, 5, 5)))[0][3]


SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=6)


@given(SPANS, SPANS)
def test_spans_are_sets_of_seconds(left: list[Span], right: list[Span]) -> None:
    """Union and intersection equal those of the seconds themselves."""
    seconds = [{second for start, end in spans for second in range(start, end)} for spans in (left, right)]
    one, two = united(left), united(right)
    assert seconds[0] == {second for start, end in one for second in range(start, end)}
    assert len(seconds[0] & seconds[1]) == total_s(shared(one, two))

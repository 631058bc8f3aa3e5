"""Bodies of bulk requests."""

import json
from datetime import date, timedelta
from itertools import pairwise

import polars as pl
import pytest

from gateway.core.limits import DOCUMENT_BYTES_MAX
from processors.contracts import load_contracts
from processors.indexing.documents import Bulk, since, to_bulks
from processors.stages.chain import Chain
from tests.unit.processors.indexing.plans import START, plan_of, sample, sample_rows

MIB = 1 << 20


def only(table: str, rows: pl.DataFrame) -> Bulk:
    """Return the one request that these rows are."""
    (bulk,) = to_bulks(plan_of(sample())[table], rows, bytes_max=MIB)
    return bulk


def lines_of(bulk: Bulk) -> list[dict]:
    """Return every line of a body."""
    return [json.loads(line) for line in bulk.body.split(b"\n")[:-1]]


def test_action_names_index_id_and_version() -> None:
    """The day is that of the event, the version the offset, and an equal one may overwrite."""
    action, _ = lines_of(only("sample", sample_rows({"offset": 7, "record": 2})))
    expected = {"_index": "vg-sample-2026.11.22", "_id": "7/2", "version": 7, "version_type": "external_gte"}
    assert {"index": expected} == action


def test_days_are_utc_days_of_the_event() -> None:
    """Two events a second apart are in two indices where midnight is between them."""
    bulk = only("sample", sample_rows({}, {}))
    assert ("vg-sample-2026.11.22", "vg-sample-2026.11.23") == bulk.indices
    assert ["vg-sample-2026.11.22", "vg-sample-2026.11.23"] == [bulk.item(i).index_name for i in range(2)]


def test_document_is_the_row() -> None:
    """Times are ISO 8601 with their microseconds, words by commas are a list, a position is a point, null is null."""
    at = START + timedelta(microseconds=7)
    row = {"measured_at": at, "flags": "clock,range", "soc_pct": 12.5, "latitude_deg": -1.0, "longitude_deg": 2.0}
    document = lines_of(only("sample", sample_rows(row | {"message": 'a"\n\u2028\x00', "late": 1, "active": True})))[1]
    assert {
        "tenant": "acme",
        "device_id": "ev-1",
        "measured_at": "2026-11-22T23:59:59.000007+00:00",
        "received_at": "2026-11-22T23:59:59+00:00",
        "offset": 0,
        "record": 0,
        "flags": ["clock", "range"],
        "bay": None,
        "soc_pct": 12.5,
        "latitude_deg": -1.0,
        "longitude_deg": 2.0,
        "mode": None,
        "message": 'a"\n\u2028\x00',
        "active": True,
        "count": None,
        "late": 1,
        "location": {"lat": -1.0, "lon": 2.0},
    } == document


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")], ids=str)
def test_numbers_that_json_has_not_are_null(number: float) -> None:
    """They are missing in a document, also inside a position."""
    row = {"soc_pct": number, "latitude_deg": number, "longitude_deg": 2.0}
    document = lines_of(only("sample", sample_rows(row)))[1]
    assert [None] * 3 == [document[name] for name in ("soc_pct", "latitude_deg", "location")]


@pytest.mark.parametrize("place", [(90.1, 0.0), (0.0, -180.1), (None, 1.0)], ids=["north", "west", "half"])
def test_a_place_that_is_not_on_earth_is_none(place: tuple[float | None, float]) -> None:
    """OpenSearch would refuse the whole document for it; the numbers themselves stay."""
    row = {"latitude_deg": place[0], "longitude_deg": place[1]}
    document = lines_of(only("sample", sample_rows(row)))[1]
    assert (None, place[0]) == (document["location"], document["latitude_deg"])


def test_no_words_are_no_list() -> None:
    """Empty text between no commas is not a list of one empty word."""
    assert None is lines_of(only("sample", sample_rows({"flags": ""})))[1]["flags"]


def test_the_last_row_of_an_id_is_the_document() -> None:
    """Of one id only the highest offset is sent, and of one offset the highest revision."""
    schema = {"alert_id": "a", "received_at": START, "fired_at": START}
    rows = pl.DataFrame(
        [
            schema | {"offset": 3, "revision": 2},
            schema | {"offset": 3, "revision": 1},
            schema | {"offset": 2, "revision": 9},
        ],
        schema_overrides={"revision": pl.Int32()},
    )
    (bulk,) = to_bulks(plan_of()["alert_revisions"], rows, bytes_max=MIB)
    assert (1, 3, 2) == (bulk.count, bulk.item(0).offset, json.loads(bulk.item(0).document)["revision"])


def test_a_session_that_is_part_of_another_is_taken_away() -> None:
    """Its document would count it twice; the others are documents, and requests can be picked from as ever."""
    table = plan_of()["charging_session_revisions"]
    schema = Chain(load_contracts([])).schemas["charging_session_revisions"]
    rows = pl.DataFrame(
        {"session_id": ["a", "b", "c"], "flags": [None, "late_stop,merged", "merged_once"], "offset": [1, 2, 3]}
    )
    rows = rows.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in rows)
    (bulk,) = to_bulks(table, rows, bytes_max=MIB)
    about = {"version": 2, "version_type": "external_gte"}
    assert {"delete": {"_index": "vg-charging_sessions", "_id": "b", **about}} == lines_of(bulk)[2]
    assert ["index", "session_id", "delete", "index", "session_id"] == [
        next(key for key in line if key in ("index", "delete", "session_id")) for line in lines_of(bulk)
    ]
    assert [b"", lines_of(bulk)[2:]] == [bulk.item(1).document, lines_of(bulk.pick([1, 2]))]
    assert "merged_once" in bulk.item(2).document.decode()


def test_parts_of_an_id_are_kept_apart() -> None:
    """A slash, a tilde, nothing and no part in a connector's name are four different things."""
    times = {"window_start": START, "window_s": 60, "received_at": START, "revision": 0, "tenant": "acme"}
    parts = ["1/2", "~", "", None]
    rows = pl.DataFrame([times | {"device_id": "c", "bay": part, "offset": i} for i, part in enumerate(parts)])
    (bulk,) = to_bulks(plan_of(sample())["windows_sample"], rows, bytes_max=MIB)
    start_us = int(START.timestamp() * 1e6)
    expected = [f"acme/c/{part}/60/{start_us}" for part in ("1~12", "~0", "", "~")]
    assert expected == [bulk.item(i).document_id for i in range(4)]


def test_a_long_id_becomes_its_hash() -> None:
    """OpenSearch takes ids up to 512 bytes; longer ones stay different from each other and from short ones."""
    times = {"window_start": START, "window_s": 60, "received_at": START, "revision": 0, "tenant": "acme"}
    parts = ["é" * 300, "é" * 300 + "x", "short"]
    rows = pl.DataFrame([times | {"device_id": "c", "bay": part, "offset": i} for i, part in enumerate(parts)])
    (bulk,) = to_bulks(plan_of(sample())["windows_sample"], rows, bytes_max=MIB)
    first, second, third = (bulk.item(i).document_id for i in range(3))
    assert (66, 66, True) == (len(first), len(second), first != second)
    assert (True, True, False) == tuple(one.startswith("~h") for one in (first, second, third))


def test_bodies_are_cut_between_documents() -> None:
    """A body is as large as it may be, and the cut loses nothing."""
    rows = sample_rows(*({"message": "x" * 100} for _ in range(20)))
    whole = only("sample", rows)
    bulks = to_bulks(plan_of(sample())["sample"], rows, bytes_max=2000)
    assert whole.body == b"".join(bulk.body for bulk in bulks)
    assert all(len(bulk.body) <= 2000 for bulk in bulks)
    assert all(len(a.body) + len(b.body) > 2000 for a, b in pairwise(bulks))
    assert 20 == sum(bulk.count for bulk in bulks)


def test_a_document_larger_than_a_body_is_alone() -> None:
    """It is sent as long as a server may take it, and marked where none should be asked to."""
    rows = sample_rows({}, {"message": "x" * 5000}, {"message": "x" * DOCUMENT_BYTES_MAX}, {})
    bulks = to_bulks(plan_of(sample())["sample"], rows, bytes_max=2000)
    assert [(1, False), (1, False), (1, True), (1, False)] == [(bulk.count, bulk.is_too_large) for bulk in bulks]


def test_a_request_can_be_picked_from() -> None:
    """What has to be sent again is a request of its own, with the same documents in the order asked for."""
    bulk = only("sample", sample_rows({}, {}, {"message": "né"}))
    picked = bulk.pick([2, 0])
    assert [bulk.item(2), bulk.item(0)] == [picked.item(0), picked.item(1)]
    assert [lines_of(bulk)[i] for i in (4, 5, 0, 1)] == lines_of(picked)
    assert (2, ("vg-sample-2026.11.22", "vg-sample-2026.11.23")) == (picked.count, picked.indices)
    assert picked.body == picked.pick([0, 1]).body


def test_no_rows_are_no_request() -> None:
    """An empty body would be an error of the server."""
    assert [] == to_bulks(plan_of(sample())["sample"], sample_rows().clear(), bytes_max=MIB)


def test_rows_of_days_that_retention_has_deleted_are_left_out() -> None:
    """A device with a clock of 1970 makes no index; where there are no days every row counts."""
    plan = plan_of(sample())
    rows = sample_rows({"measured_at": START - timedelta(days=20_000)}, {"measured_at": START}, {})
    assert [1, 2] == since(plan["sample"], rows, date(2026, 11, 22))["offset"].to_list()
    assert [2] == since(plan["sample"], rows, date(2026, 11, 23))["offset"].to_list()
    assert 3 == since(plan["devices"], rows, date(2026, 11, 23)).height

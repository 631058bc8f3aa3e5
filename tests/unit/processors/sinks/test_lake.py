"""How the lake's tables look on disk, and what happens when a contract changes."""

import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable

from gateway.core.errors import ConfigError, SinkError
from processors.sinks.lake import APP_ID, Lake, LakeTable

LATE = datetime(2026, 11, 22, 23, 59, 59, 999_999, tzinfo=UTC)
SCHEMA: dict[str, pl.DataType] = {
    "offset": pl.Int64(),
    "received_at": pl.Datetime("us", "UTC"),
    "device_id": pl.String(),
    "on": pl.Boolean(),
    "record": pl.Int32(),
    "late": pl.Int8(),
    "value": pl.Float64(),
    "cells": pl.List(pl.Float64()),
    "payload": pl.Binary(),
}
ROWS = [
    (0, LATE, "ev-1", True, 0, 0, 1.5, [3.5, None], b"\x00\xff"),
    (1, datetime(2026, 11, 23, tzinfo=UTC), "ev-2", None, None, None, None, None, None),
]


def table(**changes: object) -> LakeTable:
    """Return the table of these tests."""
    fields = {"name": "readings", "schema": SCHEMA, "comments": {"value": "a value [kW]"}, "description": "Readings"}
    return LakeTable(**(fields | changes))  # type: ignore[arg-type]


def frame(rows: list[tuple[object, ...]] = ROWS) -> pl.DataFrame:
    """Return rows as a frame."""
    return pl.DataFrame(rows, schema=pl.Schema(SCHEMA), orient="row")


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake with two rows of two days."""
    sink = Lake(tmp_path / "lake", [table()])
    sink.write({"readings": frame()}, end_offset=2)
    sink.close()
    return tmp_path / "lake"


def test_rows_are_partitioned_by_the_utc_day_of_receipt(lake: Path) -> None:
    """The last microsecond of a day and the first of the next are in two partitions."""
    days = [values["received_date"] for values in DeltaTable(str(lake / "readings")).partitions()]
    assert ["2026-11-22", "2026-11-23"] == sorted(str(day) for day in days)


def test_table_opens_with_polars(lake: Path) -> None:
    """`polars.scan_delta` gives every type back as it was."""
    found = pl.scan_delta(str(lake / "readings")).sort("offset").collect()
    assert frame().with_columns(received_date=pl.Series([date(2026, 11, 22), date(2026, 11, 23)])).equals(found)


def test_table_opens_with_duckdb(lake: Path) -> None:
    """DuckDB reads the table's files."""
    files = [str(path) for path in (lake / "readings").rglob("*.parquet")]
    answer = duckdb.read_parquet(files).project('"offset", device_id, value, payload').order('"offset"').fetchall()
    assert [(0, "ev-1", 1.5, b"\x00\xff"), (1, "ev-2", None, None)] == answer


def test_table_says_what_its_columns_mean(lake: Path) -> None:
    """Comments and description of the contract are in the table."""
    handle = DeltaTable(str(lake / "readings"))
    comments = {field.name: field.metadata.get("comment") for field in handle.schema().fields}
    assert ("a value [kW]", None, "Readings") == (comments["value"], comments["offset"], handle.metadata().description)


def test_new_field_is_added_to_the_table(lake: Path) -> None:
    """A field that a contract gains is null in older rows; the version stays."""
    wider = SCHEMA | {"speed_kmh": pl.Float64()}
    sink = Lake(lake, [table(schema=wider)])
    rows = frame([(2, LATE, "ev-1", True, 0, 0, 1.5, None, b"")]).with_columns(speed_kmh=pl.lit(50.0))
    assert sink.write({"readings": rows}, end_offset=3) == {"readings": 1}
    found = pl.scan_delta(str(lake / "readings")).sort("offset").collect()
    assert [None, None, 50.0] == found["speed_kmh"].to_list()
    assert sink.version("readings") == 3


def test_field_that_a_contract_lost_stays_and_is_null(lake: Path) -> None:
    """Old rows keep what a removed field said; new rows have null there."""
    narrower = {name: dtype for name, dtype in SCHEMA.items() if name != "value"}
    sink = Lake(lake, [table(schema=narrower)])
    sink.write({"readings": frame([(2, LATE, "ev-1", True, 0, 0, 9.0, None, b"")]).drop("value")}, end_offset=3)
    found = pl.scan_delta(str(lake / "readings")).sort("offset").collect()
    assert [1.5, None, None] == found["value"].to_list()


def test_field_of_another_type_is_refused_at_opening(lake: Path) -> None:
    """A type that changed is a mistake in a contract, said with both types and what to do."""
    with pytest.raises(ConfigError, match=r"column 'value' is .*double.* in the lake and .*string.* in the contract"):
        Lake(lake, [table(schema=SCHEMA | {"value": pl.String()})])


def test_vanished_table_is_a_sink_error(lake: Path) -> None:
    """A store that does not answer is an error to wait on, with its words, not a crash."""
    sink = Lake(lake, [table()])
    shutil.rmtree(lake / "readings")
    (lake / "readings").write_text("a file where the table was")
    with pytest.raises(SinkError, match="lake table readings: "):
        sink.write({"readings": frame([(7, LATE, "ev-1", True, 0, 0, 9.0, None, b"")])}, end_offset=8)


def test_version_is_readable_by_anybody(lake: Path) -> None:
    """The end offset is the table's transaction version, as plain deltalake shows it."""
    assert DeltaTable(str(lake / "readings")).transaction_version(APP_ID) == 2


def test_append_beside_a_foreign_commit_still_arrives_once(lake: Path) -> None:
    """A compaction by somebody else between two of our writes costs neither rows nor the version."""
    sink = Lake(lake, [table()])
    sink.write({"readings": frame([(2, LATE, "ev-1", True, 0, 0, 9.0, None, b"")])}, end_offset=3)
    DeltaTable(str(lake / "readings")).optimize.compact()
    sink.write({"readings": frame([(3, LATE, "ev-1", True, 0, 0, 9.0, None, b"")])}, end_offset=4)
    assert Lake(lake, [table()]).write({"readings": frame()}, end_offset=4) == {"readings": 0}
    assert [0, 1, 2, 3] == sorted(pl.scan_delta(str(lake / "readings")).collect()["offset"])

"""Questions to the lake are answered from the newest commit, inside a sandbox, with errors that help."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from dashboards.queries.history import QueryResult, query, tables
from gateway.core.errors import QueryError
from processors.sinks.lake import Lake, LakeTable

AT = datetime(2026, 11, 22, 23, 59, 58, tzinfo=UTC)
READINGS: dict[str, pl.DataType] = {
    "tenant": pl.String(),
    "device_id": pl.String(),
    "received_at": pl.Datetime("us", "UTC"),
    "offset": pl.Int64(),
    "soc_pct": pl.Float64(),
}
WINDOWS: dict[str, pl.DataType] = {
    "tenant": pl.String(),
    "device_id": pl.String(),
    "window_start": pl.Datetime("us", "UTC"),
    "window_s": pl.Int32(),
    "revision": pl.Int32(),
    "received_at": pl.Datetime("us", "UTC"),
    "offset": pl.Int64(),
}


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake with two readings, one window in two revisions and an empty table."""
    directory = tmp_path / "a lake, it's here"
    sink = Lake(
        directory,
        [
            LakeTable(name="telemetry", schema=READINGS),
            LakeTable(name="windows_telemetry", schema=WINDOWS),
            LakeTable(name="rejects", schema=READINGS),
        ],
    )
    readings = pl.DataFrame(
        [("t", "ev-1", AT, 0, 50.0), ("t", "ev-2", AT, 1, None)], schema=pl.Schema(READINGS), orient="row"
    )
    windows = pl.DataFrame(
        [("t", "ev-1", AT, 60, revision, AT, revision) for revision in (0, 1)],
        schema=pl.Schema(WINDOWS),
        orient="row",
    )
    sink.write({"telemetry": readings, "windows_telemetry": windows}, end_offset=2)
    sink.close()
    return directory


def test_answer_has_names_types_and_python_values(lake: Path) -> None:
    """Times come back aware, missing values as None, the partition date as a date."""
    answer = query(lake, 'select device_id, received_at, soc_pct, received_date from telemetry order by "offset";')
    expected = QueryResult(
        columns=["device_id", "received_at", "soc_pct", "received_date"],
        types=["VARCHAR", "TIMESTAMP WITH TIME ZONE", "DOUBLE", "DATE"],
        rows=[("ev-1", AT, 50.0, date(2026, 11, 22)), ("ev-2", AT, None, date(2026, 11, 22))],
    )
    assert expected == answer


def test_order_of_the_question_is_kept(lake: Path) -> None:
    """The sandbox does not shuffle a sorted answer."""
    answer = query(lake, "select i from range(5000) t(i) order by hash(i) desc", rows_max=5000)
    expected = query(lake, "select i, hash(i) h from range(5000) t(i)", rows_max=5000)
    by_hash = sorted(expected.rows, key=lambda row: row[1], reverse=True)
    assert [(i,) for i, _ in by_hash] == answer.rows


def test_table_without_rows_answers_with_its_columns(lake: Path) -> None:
    """A table that was never written is empty, not unknown."""
    assert [(0, None)] == query(lake, "select count(*), max(soc_pct) from rejects").rows


def test_latest_has_one_revision_of_each_window(lake: Path) -> None:
    """The view of newest revisions hides the older one, the table keeps both."""
    assert [(1,)] == query(lake, "select revision from windows_telemetry_latest").rows
    assert [(2,)] == query(lake, "select count(*) from windows_telemetry").rows


def test_latest_tells_the_parts_of_a_device_apart(tmp_path: Path) -> None:
    """What stands between the device and the window says whose window it is."""
    schema = {"tenant": pl.String(), "device_id": pl.String(), "connector": pl.String(), **WINDOWS}
    rows = [("t", "cp", connector, AT, 60, revision, AT, 9) for connector in ("1", "2") for revision in (0, 1)]
    sink = Lake(tmp_path, [LakeTable(name="windows_meter", schema=schema)])
    sink.write({"windows_meter": pl.DataFrame(rows, schema=pl.Schema(schema), orient="row")}, end_offset=10)
    sink.close()
    asked = "select connector, revision from windows_meter_latest order by connector"
    assert [("1", 1), ("2", 1)] == query(tmp_path, asked).rows


def test_revisions_have_a_view_of_the_newest(tmp_path: Path) -> None:
    """`charging_sessions` is what is known of each session now, without those that became part of another one."""
    schema: dict[str, pl.DataType] = {
        "session_id": pl.String(),
        "energy_wh": pl.Float64(),
        "flags": pl.String(),
        "revision": pl.Int32(),
        "offset": pl.Int64(),
        "received_at": pl.Datetime("us", "UTC"),
    }
    rows = [("a", 1.0, None, 0, 0, AT), ("b", 5.0, "late_stop", 0, 1, AT), ("a", 2.0, None, 1, 2, AT)]
    rows += [("c", 7.0, None, 0, 3, AT), ("c", None, "late_stop,merged", 1, 4, AT)]
    sink = Lake(tmp_path, [LakeTable(name="charging_session_revisions", schema=schema)])
    frame = pl.DataFrame(rows, schema=pl.Schema(schema), orient="row")
    sink.write({"charging_session_revisions": frame}, end_offset=5)
    sink.close()
    assert [("a", 2.0), ("b", 5.0)] == query(
        tmp_path, "select session_id, energy_wh from Charging_Sessions order by session_id"
    ).rows
    assert [(5,)] == query(tmp_path, "select count(*) from charging_session_revisions").rows
    with pytest.raises(QueryError, match=r"charging_session_revisions, charging_sessions$"):
        query(tmp_path, "select * from sessions")


def test_column_added_later_is_null_in_old_files(lake: Path) -> None:
    """A question may name a new column although every file is older than it."""
    Lake(lake, [LakeTable(name="telemetry", schema=READINGS | {"speed_kmh": pl.Float64()})]).close()
    assert [(None,), (None,)] == query(lake, "select speed_kmh from telemetry").rows


def test_rows_beyond_the_limit_are_cut_and_said(lake: Path) -> None:
    """A long answer is cut at the limit and says so."""
    answer = query(lake, "select * from range(10)", rows_max=3)
    assert ([(0,), (1,), (2,)], True) == (answer.rows, answer.truncated)


def test_nested_times_and_repeated_names_are_shown(lake: Path) -> None:
    """A list of times becomes text, and two columns of one name stay two."""
    answer = query(lake, "select 1 as a, 2 as a, list(received_at) from telemetry")
    assert (1, 2, "['2026-11-22 23:59:58+00', '2026-11-22 23:59:58+00']") == answer.rows[0]


def test_tables_can_be_listed_and_described(lake: Path) -> None:
    """SHOW TABLES and DESCRIBE are questions too."""
    assert ["rejects", "telemetry", "windows_telemetry"] == tables(lake)
    shown = [row[0] for row in query(lake, "show tables").rows]
    assert ["rejects", "telemetry", "windows_telemetry", "windows_telemetry_latest"] == sorted(shown)
    assert "soc_pct" in [row[0] for row in query(lake, "describe telemetry").rows]


def test_unknown_table_lists_the_tables(lake: Path) -> None:
    """The error names what there is."""
    with pytest.raises(QueryError, match="telemetri does not exist; tables are rejects, telemetry, windows_telemetry"):
        query(lake, "select * from telemetri")


def test_empty_lake_says_what_to_do(tmp_path: Path) -> None:
    """Before the first run there is nothing to ask."""
    with pytest.raises(QueryError, match=r"no tables in .* yet; start `voltgate run`"):
        query(tmp_path / "lake", "select 1")


@pytest.mark.parametrize(
    "sql",
    [
        "delete from telemetry",
        "copy telemetry to '{lake}/x.csv'",
        "attach '{lake}/x.db'",
        "set threads = 64",
        "install httpfs",
        "create table x as select 1",
        "with a as (copy (select 1) to '{lake}/x.csv') select 1",
        "with a as (copy (select 1) to '{lake}/telemetry/x.parquet') select * from telemetry",
        "select 1; copy (select 1) to '{lake}/x.csv'",
    ],
)
def test_write_is_refused_and_leaves_no_file(lake: Path, sql: str) -> None:
    """Nothing that writes gets through, not even inside WITH or behind a semicolon."""
    before = sorted(lake.rglob("*"))
    with pytest.raises(QueryError, match=r"refused|one question at a time"):
        query(lake, sql.replace("{lake}", str(lake).replace("'", "''")))
    assert before == sorted(lake.rglob("*"))


@pytest.mark.parametrize("path", ["/etc/passwd", "{lake}/../secret.txt", "https://127.0.0.1/x"])
def test_files_outside_the_lake_cannot_be_read(lake: Path, path: str) -> None:
    """The sandbox ends at the lake's directory."""
    (lake.parent / "secret.txt").write_text("secret")
    place = path.replace("{lake}", str(lake)).replace("'", "''")
    with pytest.raises(QueryError, match="refused: a question may read the tables of the lake and nothing else"):
        query(lake, f"select * from read_text('{place}')")


def test_endless_question_is_ended(lake: Path) -> None:
    """A cross join without end stops at the time limit and says so."""
    with pytest.raises(QueryError, match=r"no answer within 0\.2 s"):
        query(lake, "select sum(a.i * b.i) from range(10000000) a(i), range(10000000) b(i)", timeout_s=0.2)


def test_greedy_question_is_ended(lake: Path) -> None:
    """A question over its memory fails by itself, without a spill to disk."""
    with pytest.raises(QueryError, match="more memory than it may take"):
        query(lake, "select list(i) from range(100000000) t(i)", memory_bytes_max=64 * 1024 * 1024, timeout_s=60)


def test_wrong_syntax_shows_the_place(lake: Path) -> None:
    """A typing error comes back as the parser's sentence."""
    with pytest.raises(QueryError, match="syntax error at or near"):
        query(lake, "selekt 1")


def test_unquoted_offset_is_explained(lake: Path) -> None:
    """Our most important column is a word of SQL, which the error says."""
    with pytest.raises(QueryError, match='write "offset" in double quotes'):
        query(lake, "select * from telemetry order by offset")

"""Answers questions about the past: SQL over the Delta tables of a lake on this machine, read-only.

Owns the sandbox: DuckDB in memory sees one view per table, may read files of the lake and nothing else, and has
bounds on memory, threads, rows and time. Refuses to know streams or contracts: what tables there are, the lake says.
"""

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import duckdb
import msgspec
from deltalake import DeltaTable
from deltalake.schema import ArrayType, PrimitiveType

from gateway.core.errors import QueryError

ROWS_MAX: Final = 10_000
TIMEOUT_S: Final = 30.0
MEMORY_BYTES_MAX: Final = 512 * 1024 * 1024
THREADS_MAX: Final = 2
"""One query may use the machine's second core, not take both from the gateway for long."""

_TYPES: Final = {
    "string": "VARCHAR",
    "binary": "BLOB",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "byte": "TINYINT",
    "short": "SMALLINT",
    "integer": "INTEGER",
    "long": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "timestamp": "TIMESTAMPTZ",
    "timestamp_ntz": "TIMESTAMP",
}
MERGED: Final = "merged"
"""Flag of a last revision that says: this was a part of another one, which has it now."""
_REVISIONS: Final = "_revisions"
_ZONED: Final = "TIMESTAMP WITH TIME ZONE"


class QueryResult(msgspec.Struct, frozen=True, kw_only=True):
    """Rows in the order of the query.

    Attributes:
        columns: Names, as the query gives them; they may repeat.
        types: DuckDB's type names, one per column.
        rows: Python values; times are aware UTC datetimes.
        truncated: Whether there were more rows than asked for.
    """

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]
    truncated: bool = False


def tables(lake: Path) -> list[str]:
    """Return the names of the lake's tables, sorted; empty before the processors have run once."""
    if not lake.is_dir():
        return []
    return sorted(path.name for path in lake.iterdir() if (path / "_delta_log").is_dir())


def columns(lake: Path, table: str) -> list[str]:
    """Return the columns of a table of the lake, in order."""
    return [field.name for field in DeltaTable(str(lake / table)).schema().fields]


def query(
    lake: Path,
    sql: str,
    *,
    values: Mapping[str, object] | None = None,
    rows_max: int = ROWS_MAX,
    timeout_s: float = TIMEOUT_S,
    memory_bytes_max: int = MEMORY_BYTES_MAX,
) -> QueryResult:
    """Answer one SELECT over the newest commit of each table; blocks up to `timeout_s`.

    Every table is a view of its name; a windows table also has `<name>_latest` with the newest revision of each window,
    and a table `<name>_revisions` also `<name>s` with the newest revision of each `<name>`, as `charging_sessions`;
    one whose newest revision is flagged `merged` is not in it.

    Args:
        lake: Directory that holds the tables.
        sql: One statement in DuckDB's dialect: SELECT, FROM, WITH, VALUES, DESCRIBE, SHOW, SUMMARIZE.
        values: What `$name` stands for in the statement; never part of its text.
        rows_max: Rows returned at most, positive; `truncated` says that there were more.
        timeout_s: Seconds after which the query is ended.
        memory_bytes_max: Memory the query may take; nothing is spilled to disk.

    Raises: QueryError: The question is not one reading statement, names an unknown table, takes too long or too much.
    """
    assert rows_max > 0, "rows_max is positive"
    held = tables(lake)
    if not held:
        raise QueryError(f"no tables in {lake} yet; start `voltgate run` and let a device publish")
    with duckdb.connect(":memory:") as connection:
        statement = _reading_statement(sql)
        named = [name for name in held if _is_named(name, sql)]
        with _in_time(connection, timeout_s), _explained(_views(held), sql):
            _mount(connection, lake, named or held)
            _lock(connection, lake, memory_bytes_max)
            return _fetch(connection, statement, values or {}, rows_max)


def _reading_statement(sql: str) -> str:
    """Return the one statement in `sql` without its semicolon.

    Raises: QueryError: It is none, several, or not reading.
    """
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as exc:
        bare_offset = re.search(r'(?<!")\boffset\b(?!")', sql, re.IGNORECASE)
        hint = '; offset is a word of SQL, write "offset" in double quotes' if bare_offset else ""
        raise QueryError(_first_lines(exc) + hint) from exc
    if len(statements) != 1:
        raise QueryError(f"{len(statements)} statements given; ask one question at a time")
    if statements[0].type != duckdb.StatementType.SELECT:
        raise QueryError(f"{statements[0].type.name} refused: the lake is read-only here; ask with SELECT")
    return str(statements[0].query).strip().rstrip(";")


def _mount(connection: duckdb.DuckDBPyConnection, lake: Path, names: Sequence[str]) -> None:
    for name in names:
        table = DeltaTable(str(lake / name))
        if list(table.deletion_vectors() or []):
            raise QueryError(
                f"table {name!r} has deletion vectors, which only another writer makes; ask it through deltalake"
            )
        view = _quoted(name)
        columns = ", ".join(f"NULL::{_duckdb_type(f.type)} AS {_quoted(f.name)}" for f in table.schema().fields)
        # The typed empty half gives a table without files, or files older than a column, the columns of the log.
        shape = f"SELECT {columns} WHERE false"
        files = ", ".join(_text(unquote(uri)) for uri in sorted(table.file_uris()))
        if files:
            shape += (
                f" UNION ALL BY NAME SELECT * FROM read_parquet([{files}], union_by_name = true,"  # noqa: S608 - quoted
                " hive_partitioning = true, hive_types = {'received_date': DATE})"
            )
        connection.execute(f"CREATE VIEW {view} AS {shape}")
        held = [f.name for f in table.schema().fields]
        newest = _newest_view(name, held)
        if newest:
            newest_view, key = newest
            rank = f"row_number() OVER (PARTITION BY {', '.join(map(_quoted, key))} ORDER BY revision DESC) = 1"
            merged = f"list_contains(string_split(coalesce(flags, ''), ','), '{MERGED}')"
            shown = f"NOT {merged}" if newest_view in _plural(name) and "flags" in held else "true"
            connection.execute(
                f"CREATE VIEW {_quoted(newest_view)} AS SELECT * FROM (SELECT * FROM {view} QUALIFY {rank}) "  # noqa: S608
                f"WHERE {shown}"
            )


def _newest_view(table: str, columns: Sequence[str]) -> tuple[str, list[str]] | None:
    """Return the view of a table's newest revisions and the columns that tell them apart, None if it has no revisions.

    What stands in front of `window_start` says whose window it is: the device, and its part where there are parts.
    """
    if {"window_start", "window_s", "revision"} <= set(columns):
        return f"{table}_latest", [*columns[: columns.index("window_start")], "window_s", "window_start"]
    name = table.removesuffix(_REVISIONS)
    key = f"{name.split('_')[-1]}_id"
    if name != table and {key, "revision"} <= set(columns):
        return f"{name}s", [key]
    return None


def _is_named(table: str, sql: str) -> bool:
    """Return whether a question may be about a table or the view of its newest revisions."""
    names = [table, f"{table}_latest", *_plural(table)]
    return any(re.search(rf"\b{re.escape(name)}\b", sql, re.IGNORECASE) for name in names)


def _plural(table: str) -> list[str]:
    return [f"{table.removesuffix(_REVISIONS)}s"] if table.endswith(_REVISIONS) else []


def _views(held: Sequence[str]) -> list[str]:
    """Return what can be asked: the tables, and the views of what has revisions of its own."""
    return sorted({*held, *(view for table in held for view in _plural(table))})


def _lock(connection: duckdb.DuckDBPyConnection, lake: Path, memory_bytes_max: int) -> None:
    """Take every freedom from the connection that a question does not need; the last setting locks the others."""
    for setting in (
        f"memory_limit = '{memory_bytes_max}B'",
        f"threads = {THREADS_MAX}",
        "temp_directory = ''",
        "TimeZone = 'UTC'",
        f"allowed_directories = [{_text(str(lake.resolve()) + '/')}, {_text(str(lake) + '/')}]",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")


def _fetch(
    connection: duckdb.DuckDBPyConnection, statement: str, values: Mapping[str, object], rows_max: int
) -> QueryResult:
    # As a subquery, because a statement of type SELECT may still write: `WITH a AS (COPY ... TO ...) SELECT 1` is
    # one, and # DuckDB allows it at the top level only.
    source = f"FROM (\n{statement}\n)"
    described = connection.execute(f"DESCRIBE {source}", dict(values)).fetchall()
    names, types = [str(row[0]) for row in described], [str(row[1]) for row in described]
    shown = ", ".join(_python_value(i, kind) for i, kind in enumerate(types, start=1))
    rows = connection.execute(f"SELECT {shown} {source}", dict(values)).fetchmany(rows_max + 1)
    zoned = {i for i, kind in enumerate(types) if kind == _ZONED}
    return QueryResult(
        columns=names,
        types=types,
        rows=[_aware(row, zoned) for row in rows[:rows_max]] if zoned else rows[:rows_max],
        truncated=len(rows) > rows_max,
    )


def _python_value(position: int, kind: str) -> str:
    """Return the expression for a column that reaches Python without a time zone package."""
    if kind == _ZONED:
        return f"#{position} AT TIME ZONE 'UTC'"
    return f"#{position}::VARCHAR" if _ZONED in kind else f"#{position}"


def _aware(row: tuple[Any, ...], zoned: set[int]) -> tuple[Any, ...]:
    return tuple(
        value.replace(tzinfo=UTC) if i in zoned and isinstance(value, datetime) else value
        for i, value in enumerate(row)
    )


@contextmanager
def _in_time(connection: duckdb.DuckDBPyConnection, timeout_s: float) -> Iterator[None]:
    timer = threading.Timer(timeout_s, connection.interrupt)
    timer.start()
    try:
        yield
    except duckdb.InterruptException as exc:
        raise QueryError(
            f"no answer within {timeout_s:g} s; ask for fewer rows, for example WHERE received_date = current_date"
        ) from exc
    finally:
        timer.cancel()
        timer.join()  # A timer about to fire must not meet a closed connection.


@contextmanager
def _explained(held: Sequence[str], sql: str) -> Iterator[None]:
    """Turn DuckDB's refusals into errors that say what to ask instead."""
    try:
        yield
    except duckdb.InterruptException:
        raise
    except duckdb.OutOfMemoryException as exc:
        raise QueryError("the question needs more memory than it may take; aggregate or filter first") from exc
    except duckdb.CatalogException as exc:
        if "does not exist" in str(exc) and "Table" in str(exc):
            raise QueryError(f"{_first_lines(exc).split('!')[0]}; tables are {', '.join(held)}") from exc
        raise QueryError(_first_lines(exc)) from exc
    except duckdb.PermissionException as exc:
        raise QueryError("refused: a question may read the tables of the lake and nothing else") from exc
    except duckdb.Error as exc:
        if "must be at the top level" in str(exc):
            raise QueryError("write inside WITH refused: the lake is read-only here; ask with SELECT") from exc
        raise QueryError(f"{_first_lines(exc)}; asked: {sql.strip()[:200]}") from exc


def _first_lines(exc: duckdb.Error) -> str:
    return str(exc).partition("\n\n")[0].partition("\nDid you mean")[0].strip()


def _duckdb_type(kind: object) -> str:
    if isinstance(kind, ArrayType):
        return f"{_duckdb_type(kind.element_type)}[]"
    assert isinstance(kind, PrimitiveType), f"the lake has no columns of type {kind}"
    return _TYPES[kind.type]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"

"""Reads of the lake what KPIs are made of, and replaces the days of KPI tables; knows no formula.

A table that is not there is empty, a column that is not there is null. A KPI table is partitioned by `received_date`,
as every table of the lake is; there it equals `day`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Final

import polars as pl
from deltalake import DeltaTable, WriterProperties, write_deltalake
from deltalake.exceptions import DeltaError

from gateway.core.errors import SinkError
from gateway.core.text import peer_text
from processors.jobs.housekeeping import vacuum

PARTITION: Final = "received_date"
"""Partition of every table of the lake, which readers and jobs rely on."""
DAYS_PER_COMMIT_MAX: Final = 400
"""Days that one predicate names: what a commit is asked to replace stays readable."""


def is_table(lake: Path, table: str) -> bool:
    """Return whether the lake has the table."""
    return (lake / table / "_delta_log").is_dir()


def has_column(lake: Path, table: str, column: str) -> bool:
    """Return whether the lake has the table, and that the column."""
    return is_table(lake, table) and column in {field.name for field in DeltaTable(str(lake / table)).schema().fields}


def scan(
    lake: Path,
    table: str,
    columns: Mapping[str, pl.DataType],
    *,
    received_from: date | None = None,
    measured: tuple[datetime, datetime] | None = None,
) -> pl.LazyFrame:
    """Return a table's rows with exactly these columns, as of its newest commit.

    Args:
        lake: Directory of the tables.
        table: Its name.
        columns: Column -> dtype.
        received_from: Leave out what was received on an earlier UTC day; None for all.
        measured: Only rows with `measured_at` from the first to before the second; what was received long after is
            among them, and files that have none are skipped by their statistics.
    """
    if not is_table(lake, table):
        return pl.LazyFrame(schema=dict(columns))
    rows = pl.scan_delta(str(lake / table))
    held = rows.collect_schema()
    if received_from is not None:
        rows = rows.filter(pl.col(PARTITION) >= received_from)
    if measured is not None:
        rows = rows.filter(pl.col("measured_at") >= measured[0], pl.col("measured_at") < measured[1])
    return rows.select(_column(name, dtype, held) for name, dtype in columns.items())


def _column(name: str, dtype: pl.DataType, held: pl.Schema) -> pl.Expr:
    """Return the column as it is wanted; without a needless cast, which would keep filters from the files."""
    if name not in held:
        return pl.lit(None, dtype).alias(name)
    return pl.col(name) if held[name] == dtype else pl.col(name).cast(dtype)


def replace_days(lake: Path, table: str, frame: pl.DataFrame, days: Sequence[date] | None) -> int:
    """Make a KPI table hold exactly these rows for the days, in one commit; other days stay as they are.

    Safe to repeat and to interrupt. Files that are replaced stay for readers until `drop_replaced`.

    Args:
        lake: Directory of the tables.
        table: Its name; it is made where it is missing.
        frame: Rows with `day`, all of them of `days`.
        days: UTC days to replace, at most DAYS_PER_COMMIT_MAX; None for the whole table.

    Returns: Rows written.
    Raises: SinkError: The store refused, or another run wrote the same table meanwhile.
    """
    assert days is None or len(days) <= DAYS_PER_COMMIT_MAX, f"{len(days or ())} days in one commit"
    path = lake / table
    rows = frame.with_columns(pl.col("day").alias(PARTITION))
    writer = WriterProperties(compression="ZSTD", compression_level=3)
    try:
        if not is_table(lake, table):
            if not frame.height:
                return 0
            path.mkdir(parents=True, exist_ok=True)
            write_deltalake(
                str(path), rows, mode="append", partition_by=[PARTITION], name=table, writer_properties=writer
            )
            return frame.height
        write_deltalake(
            str(path),
            rows,
            mode="overwrite",
            predicate=None if days is None else _is_one_of(days),
            writer_properties=writer,
        )
    except (DeltaError, OSError) as exc:
        raise SinkError(f"KPI table {table}", peer_text(str(exc))) from exc
    return frame.height


def drop_replaced(lake: Path, tables: Iterable[str]) -> None:
    """Delete the files of KPI tables that were replaced a day ago or earlier.

    Raises: SinkError: The store refused; the next run deletes them.
    """
    for table in tables:
        if not is_table(lake, table):
            continue
        try:
            vacuum(DeltaTable(str(lake / table)))
        except (DeltaError, OSError) as exc:
            raise SinkError(f"KPI table {table}", peer_text(str(exc))) from exc


def _is_one_of(days: Iterable[date]) -> str:
    """Return the condition on the partition, so that a commit touches no file of another day."""
    quoted = ", ".join(f"DATE '{day.isoformat()}'" for day in sorted(days))
    return f"{PARTITION} IN ({quoted})"

"""Waits until a Delta table has a number of rows and says how many it has.

    python -m tests.bench.await_rows TABLE ROWS SECONDS

Prints `{"rows": n}` when the table has at least ROWS, or when SECONDS are over. A process of its own, because Polars
and deltalake start threads, and the benchmark forks.
"""

import sys
import time
from typing import Final

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

POLL_S: Final = 0.3


def rows(table: str) -> int:
    """Return the rows of a table, 0 where there is none yet."""
    try:
        known = DeltaTable(table)
    except TableNotFoundError:
        return 0
    return int(pl.scan_delta(known).select(pl.len()).collect().item())


def main(table: str, wanted: int, seconds: float) -> None:
    """Poll and print."""
    end_s = time.monotonic() + seconds
    while (found := rows(table)) < wanted and time.monotonic() < end_s:
        time.sleep(POLL_S)
    print(f'{{"rows": {found}}}', flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))

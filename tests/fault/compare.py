"""What must hold after any number of kills, as functions of tables: no file, no process, no clock.

Frames: `acknowledged` (device_id, seq, digest); `raw` (device_id, offset, digest ...); readings and rejects (offset,
record ...); windows (tenant, device_id, perhaps a part of it, window_start, window_s, revision ...). What holds of
chargers besides is in charging.py.
"""

from collections.abc import Iterable, Mapping

import msgspec
import polars as pl

from simulators.truth import Expected


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict of one round or, summed, of many.

    Attributes:
        acknowledged: Messages whose acknowledgement arrived, calls of chargers that were answered among them.
        found: Of those, in `raw` byte for byte and, but for the vehicles', as a row of their stream.
        lost: The others, and records that the fleet's truth demands and the lake lacks.
        duplicated: Rows that are there again.
        windows_differing: Window rows that are not those of an uninterrupted run over the same journal.
        rows_differing: The same for `raw`, readings, rejects, and the revisions of charging sessions and of alerts.
        resent: Calls of chargers that are in the journal again, because a kill came between the disk and the answer.
        sessions: Charging sessions that were compared with what their charger knows.
        sessions_differing: Of those, not there exactly once and right; and sessions that no charger had.
        alerts: That fired.
        findings: What else is wrong, one sentence each: the ledger, the journal, a process that did not end as asked.
    """

    acknowledged: int = 0
    found: int = 0
    lost: int = 0
    duplicated: int = 0
    windows_differing: int = 0
    rows_differing: int = 0
    resent: int = 0
    sessions: int = 0
    sessions_differing: int = 0
    alerts: int = 0
    findings: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every invariant held."""
        wrong = self.lost + self.duplicated + self.windows_differing + self.rows_differing
        wrong += self.sessions_differing
        return not wrong and not self.findings and self.found == self.acknowledged > 0


def total(comparisons: Iterable[Comparison]) -> Comparison:
    """Return the sum."""
    sums = Comparison()
    for one in comparisons:
        sums = Comparison(**{name: getattr(sums, name) + getattr(one, name) for name in Comparison.__struct_fields__})
    return sums


def missing(wanted: pl.DataFrame, held: pl.DataFrame, key: tuple[str, ...]) -> pl.DataFrame:
    """Return the rows of `wanted` whose key is not in `held`."""
    return wanted.join(held.select(key).unique(), on=key, how="anti")


def repeated(frame: pl.DataFrame, key: tuple[str, ...]) -> int:
    """Return how many rows there are beyond the first of each key."""
    return frame.height - frame.select(key).n_unique()


def newest(windows: pl.DataFrame) -> pl.DataFrame:
    """Return the row with the highest revision of each window; the columns before it tell windows apart."""
    key = windows.columns[: windows.columns.index("revision")]
    return windows.sort("revision").unique(key, keep="last")


def differing(found: pl.DataFrame, reference: pl.DataFrame) -> int:
    """Return how many rows one frame has and the other has not, repetitions counted; order is no difference."""
    assert found.schema == reference.schema, f"{found.schema} is not {reference.schema}"
    sides = pl.concat(
        [found.with_columns(pl.lit(1).alias("side_")), reference.with_columns(pl.lit(-1).alias("side_"))],
    )
    surplus = sides.group_by(found.columns).agg(pl.col("side_").sum())["side_"]
    return int(surplus.abs().sum())


def misjudged(
    truth: Mapping[tuple[str, str], Expected], rejects: Mapping[tuple[str, str], Mapping[str, int]]
) -> tuple[int, int]:
    """Return rejects (too few, too many) against what the fleet says must have been refused.

    Args:
        truth: (device, channel) -> what its acknowledged messages must become, and the others may.
        rejects: (device, channel) -> reject code -> rows of the lake.
    """
    too_few = too_many = 0
    for place in truth.keys() | rejects.keys():
        due, held = truth.get(place, Expected()), rejects.get(place, {})
        for code in due.rejects.keys() | held.keys():
            too_few += max(0, due.rejects[code] - held.get(code, 0))
            too_many += max(0, held.get(code, 0) - due.rejects[code] - due.rejects_possible[code])
    return too_few, too_many

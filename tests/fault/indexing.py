"""What an index must hold, computed from the lake by rules of its own, and what a real node does hold.

The rules are those of docs/reference/opensearch.md, written a second time on purpose: names of indices, ids of
documents, which revision counts, the newest value of each field of each device. Only the tables of the lake are asked,
no cursor and no other state of the indexer.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import polars as pl
from deltalake import DeltaTable

PREFIX: Final = "voltgate"
INDEXED_STREAMS: Final = ("charger_status", "vehicle_event")
"""Streams whose contract asks for an index of its readings."""
STATELESS: Final = ("alert_order", "device_command")
"""What people order is no state of a device."""
SINGLE: Final = {
    "charging_session_revisions": ("charging_sessions", "session_id"),
    "alert_revisions": ("alerts", "alert_id"),
}
"""Table -> name of its one index, and the column that is the id."""
GONE: Final = "merged"
"""Flag of a session that is part of another one: it has no document."""
LISTS: Final = ("flags", "transaction_id", "inhibits")
PAGE_ROWS: Final = 5000
EXAMPLES_MAX: Final = 5
_META: Final = frozenset({"tenant", "device_id", "measured_at", "received_at", "offset", "record", "flags", "late"})
_DERIVED: Final = ("windows_", "kpi_")

Ask = Callable[[str, str, object], Any]
"""Method, path and body to the decoded answer of a node."""


class Document(msgspec.Struct, frozen=True):
    """A document: the offset of the row it shows, and its fields, dots for levels, nothing for null."""

    version: int
    fields: dict[str, Any]


Documents = dict[tuple[str, str], Document]
"""(index, id) -> document."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict.

    Attributes:
        documents: That the lake demands.
        missing: Of those, not there.
        surplus: There, and of no row of the lake: under a wrong id or in a wrong index, so to speak twice.
        differing: There with another version or another content.
        examples: Some of them, one sentence each.
    """

    documents: int
    missing: int
    surplus: int
    differing: int
    examples: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether the index is what the lake says, and that is something."""
        return self.documents > 0 and not self.missing + self.surplus + self.differing


def compare(wanted: Documents, held: Documents) -> Shown:
    """Return how the held documents differ from the wanted ones."""
    missing, surplus = sorted(wanted.keys() - held.keys()), sorted(held.keys() - wanted.keys())
    differing = [place for place in sorted(wanted.keys() & held.keys()) if not _is_same(wanted[place], held[place])]
    examples = [f"missing: {place}" for place in missing[:EXAMPLES_MAX]]
    examples += [f"of no row: {place}" for place in surplus[:EXAMPLES_MAX]]
    examples += [_difference(place, wanted[place], held[place]) for place in differing[:EXAMPLES_MAX]]
    return Shown(
        documents=len(wanted),
        missing=len(missing),
        surplus=len(surplus),
        differing=len(differing),
        examples=tuple(examples),
    )


# ---- from the lake ---------------------------------------------------------------------------------------------------


def from_lake(lake: Path, *, parts: Mapping[str, str], prefix: str = PREFIX, devices: bool = True) -> Documents:
    """Return what the indices must hold by this lake.

    Args:
        lake: Its directory.
        parts: Stream -> field that splits a device into parts.
        prefix: Begins the name of every index.
        devices: Whether the newest values of devices are asked for, too.
    """
    wanted: Documents = {}
    for path in sorted(path for path in lake.iterdir() if DeltaTable.is_deltatable(str(path))):
        name = path.name
        if name.startswith("windows_"):
            wanted |= _windows(_table(path), f"{prefix}-windows-{name.removeprefix('windows_')}")
        elif name in SINGLE:
            index, id_column = SINGLE[name]
            wanted |= _single(_table(path), f"{prefix}-{index}", id_column)
        elif name == "rejects":
            wanted |= _daily(_table(path, "payload"), f"{prefix}-rejects", "received_at", ("offset", "record", "stage"))
        elif name in INDEXED_STREAMS:
            wanted |= _daily(_table(path), f"{prefix}-{name}", "measured_at", ("offset", "record"))
        if devices and name not in STATELESS and _is_stream(path):
            wanted |= _devices(path, parts.get(name), f"{prefix}-devices")
    return wanted


def _table(path: Path, *dropped: str) -> pl.DataFrame:
    rows = pl.scan_delta(str(path))
    return rows.drop("received_date", *dropped, strict=False).collect()


def _is_stream(path: Path) -> bool:
    columns = pl.scan_delta(str(path)).collect_schema().names()
    is_derived = path.name.startswith(_DERIVED) or path.name.endswith("_revisions")
    return not is_derived and {"measured_at", "record"} <= set(columns)


def _windows(rows: pl.DataFrame, index: str) -> Documents:
    """Return the newest revision of each window; the columns before it tell windows apart."""
    key = rows.columns[: rows.columns.index("revision")]
    part = [name for name in key if name not in {"tenant", "device_id", "window_start", "window_s"}]
    newest = rows.sort("revision").unique(key, keep="last")
    if not part:
        newest = newest.with_columns(pl.lit(None, pl.String()).alias("_no_part"))
        part = ["_no_part"]
    ids = ("tenant", "device_id", *(name for name in part if name != "_no_part"), "window_s", "window_start")
    return _daily(newest.drop("_no_part", strict=False), index, "window_start", ids)


def _single(rows: pl.DataFrame, index: str, id_column: str) -> Documents:
    """Return the newest revision of each, without sessions that are part of another one."""
    newest = rows.sort("revision").unique(id_column, keep="last")
    if "flags" in newest.columns:
        newest = newest.filter(~pl.col("flags").fill_null("").str.split(",").list.contains(GONE))
    return _documents(newest, lambda _: index, (id_column,))


def _daily(rows: pl.DataFrame, index: str, day: str, ids: Sequence[str]) -> Documents:
    return _documents(rows, lambda row: f"{index}-{row[day]:%Y.%m.%d}", ids)


def _documents(rows: pl.DataFrame, index_of: Callable[[dict[str, Any]], str], ids: Sequence[str]) -> Documents:
    made: Documents = {}
    for row in rows.iter_rows(named=True):
        place = (index_of(row), _id([row[name] for name in ids]))
        assert place not in made, f"two rows of the lake want to be {place}"
        made[place] = Document(row["offset"], _fields(row))
    return made


def _devices(path: Path, part: str | None, index: str) -> Documents:
    """Return the newest value of every field of every device: the latest non-null one by its time, then the journal."""
    scan = pl.scan_delta(str(path))
    owner = ["tenant", "device_id", *([part] if part else [])]
    fields = [name for name in scan.collect_schema().names() if name not in {*_META, *owner, "received_date"}]
    order = ["measured_at", "offset", "record"]
    known = {name: pl.col(name).is_not_null() for name in fields}
    newest = scan.group_by(owner).agg(
        pl.col("measured_at", "received_at", "offset").max(),
        pl.len().alias("readings"),
        *(pl.col(name).filter(known[name]).sort_by(*_of(order, known[name])).last() for name in fields),
        *(
            pl.col("measured_at").filter(known[name]).sort_by(*_of(order, known[name])).last().alias(f"{name}:at")
            for name in fields
        ),
    )
    stream, made = path.name, Documents()
    for row in newest.collect().iter_rows(named=True):
        own = {name: row[name] for name in ("tenant", "device_id", "measured_at", "received_at", "offset", "readings")}
        own |= {"stream": stream, "part": row[part] if part else None}
        own |= {f"value.{stream}.{name}": row[name] for name in fields}
        own |= {f"at.{stream}.{name}": row[f"{name}:at"] for name in fields}
        if {"latitude_deg", "longitude_deg"} <= set(fields):
            own |= {name: row[name] for name in ("latitude_deg", "longitude_deg")}
        flat = _fields(own)
        for name in ("latitude_deg", "longitude_deg"):
            flat.pop(name, None)
        names = [own["tenant"], own["device_id"], stream, own["part"]]
        made[(index, _id(names))] = Document(row["offset"], flat)
    return made


def _of(order: Sequence[str], chosen: pl.Expr) -> Iterator[pl.Expr]:
    return (pl.col(name).filter(chosen) for name in order)


def _id(values: Sequence[object]) -> str:
    """Return the id of a document."""
    return "/".join("~" if value is None else _escaped(str(_micros(value))) for value in values)


def _escaped(text: str) -> str:
    return text.replace("~", "~0").replace("/", "~1")


def _micros(value: object) -> object:
    if not isinstance(value, datetime):
        return value
    return round((value - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in row.items() if not _is_nothing(value)}
    for name in LISTS:
        if isinstance(fields.get(name), str):
            fields[name] = fields[name].split(",") if fields[name] else None
    for suffix in ("", "_last", "_first", "_mean"):
        names = (f"latitude_deg{suffix}", f"longitude_deg{suffix}")
        if all(name in row for name in names):
            lat, lon = (row[name] for name in names)
            if not _is_nothing(lat) and not _is_nothing(lon) and abs(lat) <= 90 and abs(lon) <= 180:
                fields |= {"location.lat": lat, "location.lon": lon}
            break
    return {name: value for name, value in fields.items() if value is not None}


def _is_nothing(value: object) -> bool:
    """Return whether JSON has no word for it."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


# ---- from the node ---------------------------------------------------------------------------------------------------


def from_node(ask: Ask, *, prefix: str = PREFIX) -> Documents:
    """Return all documents of the indices with this prefix."""
    ask("POST", f"/{prefix}-*/_refresh", None)
    page = ask(
        "POST", f"/{prefix}-*/_search?scroll=1m", {"size": PAGE_ROWS, "version": True, "sort": ["_doc"]}
    )  # fmt: skip
    held: Documents = {}
    while hits := page["hits"]["hits"]:
        assert page["_shards"]["failed"] == 0, page["_shards"]
        for hit in hits:
            held[(hit["_index"], hit["_id"])] = Document(hit["_version"], dict(_flat(hit["_source"])))
        page = ask("POST", "/_search/scroll", {"scroll": "1m", "scroll_id": page["_scroll_id"]})
    ask("DELETE", "/_search/scroll", {"scroll_id": page["_scroll_id"]})
    return held


def _flat(source: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in source.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        elif value is not None:
            yield f"{above}{name}", value


# ---- one document ----------------------------------------------------------------------------------------------------


def _is_same(wanted: Document, held: Document) -> bool:
    return wanted.version == held.version and not _unlike(wanted, held)


def _unlike(wanted: Document, held: Document) -> list[str]:
    names = wanted.fields.keys() | held.fields.keys()
    return sorted(name for name in names if not _is_equal(wanted.fields.get(name), held.fields.get(name)))


def _is_equal(wanted: object, held: object) -> bool:
    if isinstance(wanted, datetime) and isinstance(held, str):
        return datetime.fromisoformat(held) == wanted
    return wanted == held


def _difference(place: tuple[str, str], wanted: Document, held: Document) -> str:
    unlike = [f"{name} {held.fields.get(name)!r} != {wanted.fields.get(name)!r}" for name in _unlike(wanted, held)]
    return f"{place}: version {held.version} for {wanted.version}; {'; '.join(unlike[:EXAMPLES_MAX])}"

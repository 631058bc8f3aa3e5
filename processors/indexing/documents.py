"""From rows of a table to the bodies of bulk requests.

A body is what `POST /_bulk` takes: for each document a line that says where it goes and a line that is the document, or
for one that is no more a line that takes it away.
Columns become text in Polars, so that a row costs no Python. Nothing here knows a connection or a clock.

Ids join their columns by `/`. Text is escaped as in a JSON pointer (RFC 6901: `~` is `~0`, `/` is `~1`), a missing part
is `~`, and an id that OpenSearch would refuse for its length is `~h` and its SHA-256; no two rows share an id unless
these columns are equal. Times in an id are microseconds since 1970.
"""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import date
from typing import NamedTuple

import msgspec
import polars as pl

from gateway.core.limits import DOCUMENT_BYTES_MAX, DOCUMENT_ID_BYTES_MAX
from processors.indexing.plan import IndexedTable, IndexField

_PLACES = ("index", "id", "offset")


class Item(NamedTuple):
    """One document of a bulk request; an empty `document` is taken away."""

    index_name: str
    document_id: str
    offset: int
    document: bytes


class Bulk(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One bulk request.

    Attributes:
        body: NDJSON, two lines a document and one for a document that is taken away; ends with a line feed.
        indices: Indices it writes to, each once, sorted.
        count: Documents in it.
        places: One row a document, in order: `index`, `id`, `offset`, and where in `body` its action line begins, its
            document begins, and the line after it begins (`begin`, `middle`, `end`).
    """

    body: bytes
    indices: tuple[str, ...]
    count: int
    places: pl.DataFrame

    @property
    def is_too_large(self) -> bool:
        """Whether this is one document that no server should be asked to take: make it a reject, do not send it."""
        return self.count == 1 and len(self.body) > DOCUMENT_BYTES_MAX

    def item(self, position: int) -> Item:
        """Return the document at a position, from 0."""
        row = self.places.row(position, named=True)
        document = self.body[row["middle"] : max(row["middle"], row["end"] - 1)]
        return Item(row["index"], row["id"], row["offset"], document)

    def pick(self, positions: Sequence[int]) -> "Bulk":
        """Return a request of these documents alone, in the order of `positions`; for what has to be sent again."""
        chosen = self.places[list(positions)]
        body = b"".join(self.body[begin:end] for begin, end in chosen.select("begin", "end").iter_rows())
        width, head = pl.col("end") - pl.col("begin"), pl.col("middle") - pl.col("begin")
        end = width.cum_sum()
        places = chosen.select(
            *_PLACES, (end - width).alias("begin"), (end - width + head).alias("middle"), end.alias("end")
        )
        return Bulk(body=body, indices=_names(places), count=places.height, places=places)


def to_bulks(table: IndexedTable, rows: pl.DataFrame, *, bytes_max: int) -> list[Bulk]:
    """Return the requests that bring these rows into the index; of rows with one id the last one.

    The version of a document is its offset, and `external_gte` lets only an equal or higher one overwrite it, so
    requests may be repeated and may overtake each other.

    Args:
        table: What the rows are of.
        rows: `table.columns`, in any order; for DEVICES the rows of `plan.device_rows`. Whole offsets only: rows of one
            id and one offset must come together.
        bytes_max: Largest body. One document that is larger is alone in its request, see `Bulk.is_too_large`.

    Returns: Requests in order of offset; none for no rows.
    """
    if rows.is_empty():
        return []
    order = ["offset", *(("revision",) if "revision" in rows.columns else ())]
    placed = rows.sort(order, maintain_order=True).with_columns(_index(table).alias("_index"), _id(table).alias("_id"))
    placed = _with_bounded_ids(placed).unique(["_index", "_id"], keep="last", maintain_order=True)
    lines = placed.select(
        pl.col("_index").alias("index"),
        pl.col("_id").alias("id"),
        "offset",
        pl.struct(index=_action()).struct.json_encode().alias("_action"),
        (pl.struct(_values(table, rows.columns)).struct.json_encode() + "\n").alias("_document"),
    )
    if table.gone_flag is not None:
        lines = _without(lines, placed["flags"].str.split(",").list.contains(table.gone_flag))
    head, width = pl.col("_action").str.len_bytes() + 1, pl.col("_document").str.len_bytes()
    lines = lines.with_columns(head=head.cast(pl.Int64), width=(head + width).cast(pl.Int64))
    return [_bulk(lines.slice(first, count)) for first, count in _cuts(lines["width"], bytes_max)]


def since(table: IndexedTable, rows: pl.DataFrame, first_day: date) -> pl.DataFrame:
    """Return the rows whose day is `first_day` or later; all, where the index has no days.

    What retention would delete at once is not worth an index: a device whose clock lost its years would otherwise make
    one index for each day it names, and a cluster refuses more than some thousand.
    """
    if table.day_column is None:
        return rows
    return rows.filter(pl.col(table.day_column).dt.date() >= first_day)


def _index(table: IndexedTable) -> pl.Expr:
    if table.day_column is None:
        return pl.lit(table.index)
    return pl.lit(f"{table.index}-") + pl.col(table.day_column).dt.strftime("%Y.%m.%d")


def _id(table: IndexedTable) -> pl.Expr:
    parts = []
    for field in table.fields:
        if field.name in table.id_columns:
            column = pl.col(field.name)
            if field.type == "date":
                column = column.dt.epoch("us").cast(pl.String())
            elif field.type == "keyword":
                column = column.str.replace_all("~", "~0", literal=True).str.replace_all("/", "~1", literal=True)
            parts.append((table.id_columns.index(field.name), column.cast(pl.String()).fill_null("~")))
    return pl.concat_str([column for _, column in sorted(parts, key=lambda part: part[0])], separator="/")


def _with_bounded_ids(placed: pl.DataFrame) -> pl.DataFrame:
    is_long = placed["_id"].str.len_bytes() > DOCUMENT_ID_BYTES_MAX
    if not is_long.any():
        return placed
    ids = placed["_id"].to_list()
    for place in is_long.arg_true():
        ids[place] = f"~h{hashlib.sha256(ids[place].encode()).hexdigest()}"
    return placed.with_columns(pl.Series("_id", ids, dtype=pl.String()))


def _without(lines: pl.DataFrame, is_gone: pl.Series) -> pl.DataFrame:
    """Return the lines with documents that are gone taken away; versions keep what was sent before from coming back."""
    if not is_gone.any():
        return lines
    delete = pl.struct(delete=_action("index", "id")).struct.json_encode()
    return lines.with_columns(
        _action=pl.when(is_gone).then(delete).otherwise("_action"),
        _document=pl.when(is_gone).then(pl.lit("")).otherwise("_document"),
    )


def _action(index: str = "_index", id_: str = "_id") -> pl.Expr:
    return pl.struct(_index=index, _id=id_, version="offset", version_type=pl.lit("external_gte"))


def _values(table: IndexedTable, columns: Sequence[str]) -> Iterator[pl.Expr]:
    """Yield the fields of a document whose columns are there; the encoder writes NaN and infinities as null."""
    there = frozenset(columns)
    for field in table.fields:
        if there.issuperset(field.columns):
            yield _value(field).alias(field.name)


def _value(field: IndexField) -> pl.Expr:
    if field.type == "geo_point":
        lat, lon = (pl.col(name) for name in field.columns)
        return pl.when(lat.is_between(-90, 90) & lon.is_between(-180, 180)).then(pl.struct(lat=lat, lon=lon))
    column = pl.col(field.columns[0])
    return pl.when(column != "").then(column.str.split(",")) if field.is_list else column


def _cuts(widths: pl.Series, bytes_max: int) -> Iterator[tuple[int, int]]:
    """Yield (first, count) of the longest runs of lines that are together at most `bytes_max`, or one line."""
    ends = widths.cum_sum()
    first, before = 0, 0
    while first < len(ends):
        after = max(int(ends.search_sorted(before + bytes_max, side="right")), first + 1)
        yield first, after - first
        first, before = after, ends[after - 1]


def _bulk(lines: pl.DataFrame) -> Bulk:
    text = pl.concat_str("_action", pl.lit("\n"), "_document")
    body: str = lines.select(text.str.join("")).item()
    end = pl.col("width").cum_sum()
    begin = end - pl.col("width")
    places = lines.select(*_PLACES, begin.alias("begin"), (begin + pl.col("head")).alias("middle"), end.alias("end"))
    return Bulk(body=body.encode(), indices=_names(places), count=places.height, places=places)


def _names(places: pl.DataFrame) -> tuple[str, ...]:
    return tuple(places["index"].unique().sort())

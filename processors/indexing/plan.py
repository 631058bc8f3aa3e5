"""What is indexed: which tables of the lake, under which names, ids and times, and the fields of their documents.

Everything is derived from contracts and from the columns of the tables; nothing about a field is written twice.
"""

from collections.abc import Iterator, Mapping
from typing import Final, Literal

import msgspec
import polars as pl

from processors.contracts.catalogue import ColumnNote, aggregate_notes, reading_notes
from processors.contracts.load import ContractSet
from processors.contracts.model import BASE_COLUMNS, Contract
from processors.stages.alert_orders import ORDERS
from processors.stages.alerts import ALERTS
from processors.stages.chain import REJECTS, windows_table
from processors.stages.sessions import SESSIONS

__all__ = [
    "DEVICES",
    "DEVICE_AT",
    "DEVICE_VALUE",
    "LOCATION",
    "FieldType",
    "IndexField",
    "IndexedTable",
    "device_rows",
    "index_plan",
]

FieldType = Literal["keyword", "long", "double", "boolean", "date", "geo_point"]

DEVICES: Final = "devices"
"""What is indexed of the newest values of devices; no table of the lake, but a part of the chain's state."""

DEVICE_VALUE: Final = "value."
DEVICE_AT: Final = "at."
"""Objects of a device's document: `value.<stream>.<field>`, and `at.<stream>.<field>`, when that was measured."""

LOCATION: Final = "location"
"""Field made of a latitude and a longitude."""

_OWN_VERSION: Final = "1.0.0"
"""Version of documents whose columns no contract names."""
_STREAMS_WITHOUT_STATE: Final = frozenset({ORDERS, "device_command"})
"""What people order is no state of a device."""
_SEARCHED: Final = frozenset({"title", "message", "info", "note", "check"})
"""Words for people: they are found word by word, too."""
_STORED: Final[dict[str, frozenset[str]]] = {
    "charger_meter": frozenset({"other"}),
    "charger_status": frozenset({"detail"}),
    "charger_transaction": frozenset({"detail"}),
    SESSIONS: frozenset({"curve", "vehicle_curve"}),
    ALERTS: frozenset({"evidence"}),
}
"""Columns of JSON text, by stream or table. A document carries them; nobody searches, sorts or counts them."""
_NONE: Final[frozenset[str]] = frozenset()
_LISTS: Final[dict[str, frozenset[str]]] = {
    SESSIONS: frozenset({"flags", "transaction_id"}),
    ALERTS: frozenset({"inhibits"}),
}
"""Columns of words joined by commas, which are lists in a document; of a stream `flags`."""
_NOT_INDEXED: Final = {REJECTS: frozenset({"payload"})}
_PERSONAL: Final = {SESSIONS: frozenset({"id_token"}), ALERTS: frozenset({"by", "note"})}
"""Columns of our own tables that say something about people."""
_GONE: Final = {SESSIONS: "merged"}
"""A session that turned out to be part of another one is not there twice."""
_PLACE: Final = ("latitude_deg", "longitude_deg")
_POSITIONS: Final = ("", "_last", "_first", "_mean")
"""What may follow these two in a column; the first that is there is the document's place."""
_DEVICE_COLUMNS: Final = (
    "tenant",
    "device_id",
    "stream",
    "part",
    "measured_at",
    "received_at",
    "offset",
    "readings",
)


class IndexField(msgspec.Struct, frozen=True, kw_only=True):
    """One field of an index.

    Attributes:
        name: Name in a document; dots are levels of objects.
        type: Type in the mapping.
        columns: Columns its value is made of: the one of its name, or latitude and longitude.
        is_searched: Whether it is also found word by word, as `<name>.text`.
        is_stored_only: Whether it is in documents and nothing else: no search, no sorting, no counting.
        is_list: Whether the column is words joined by commas, and the field a list of them.
        unit: Symbol of its unit, empty without one.
        classification: `public`, `internal`, `personal` or `location`.
        description: What it is, one line; may be empty.
    """

    name: str
    type: FieldType
    columns: tuple[str, ...]
    is_searched: bool = False
    is_stored_only: bool = False
    is_list: bool = False
    unit: str = ""
    classification: str = "internal"
    description: str = ""


class IndexedTable(msgspec.Struct, frozen=True, kw_only=True):
    """One table and the index, or the indices by day, that show it.

    Attributes:
        table: Table of the lake, or DEVICES.
        index: Name of the index, without the day.
        day_column: Time whose UTC day is the end of the index's name; None where there is one index for all days.
        id_columns: Columns that make the id of a document; see `documents.ids`.
        latest_only: Whether a document is overwritten by the newest revision of its row.
        fields: Fields of a document in order.
        time_field: Time that a person looks at first.
        columns: Columns to read from the lake; none for DEVICES.
        version: Version of the contract the fields are from.
        gone_flag: Flag of a row whose document is taken away; None where no row says so. Only of tables with `flags`.
    """

    table: str
    index: str
    day_column: str | None
    id_columns: tuple[str, ...]
    latest_only: bool
    fields: tuple[IndexField, ...]
    time_field: str
    columns: tuple[str, ...]
    version: str = _OWN_VERSION
    gone_flag: str | None = None

    @property
    def pattern(self) -> str:
        """Pattern of the names of all its indices, and of no other table's."""
        return self.index if self.day_column is None else f"{self.index}-*"

    def field(self, name: str) -> IndexField:
        """Return the field of that name. Raises: KeyError: There is none."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)


def index_plan(
    contracts: ContractSet, schemas: Mapping[str, Mapping[str, pl.DataType]], *, prefix: str
) -> tuple[IndexedTable, ...]:
    """Return what is indexed, windows first, in the order of the contracts.

    Args:
        contracts: The streams.
        schemas: Table -> columns, as `Chain(contracts).schemas` has them.
        prefix: Begins the name of every index.
    """
    plan: list[IndexedTable] = []
    for contract in contracts:
        if contract.windows is not None:
            plan.append(_windows(contract, schemas[windows_table(contract.stream)], prefix))
    for contract in contracts:
        if contract.index:
            plan.append(_readings(contract, schemas[contract.stream], prefix))
    if SESSIONS in schemas:
        plan.append(_single(SESSIONS, "charging_sessions", "session_id", "started_at", schemas, prefix))
    plan.append(_single(ALERTS, "alerts", "alert_id", "fired_at", schemas, prefix))
    plan.append(_rejects(schemas[REJECTS], prefix))
    plan.append(_devices(contracts, prefix))
    return tuple(plan)


def device_rows(contract: Contract, frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of a `DeviceState` as rows of DEVICES, by offset; none of a stream that has no document.

    Args:
        contract: The stream.
        frame: `DeviceState.frame`, or those of its rows that are new.
    """
    stream, part = contract.stream, contract.part
    if stream in _STREAMS_WITHOUT_STATE:
        frame = frame.clear()
    fields = [field.name for field in contract.fields if field.name != part and field.name in frame.columns]
    is_placed = set(_PLACE) <= set(fields)
    return frame.select(
        "tenant",
        "device_id",
        pl.lit(stream).alias("stream"),
        (pl.lit(None, pl.String()) if part is None else pl.col(part)).alias("part"),
        *_DEVICE_COLUMNS[4:],
        *(_PLACE if is_placed else ()),
        *(pl.col(name).alias(f"{DEVICE_VALUE}{stream}.{name}") for name in fields),
        *(pl.col(f"{name}:at").alias(f"{DEVICE_AT}{stream}.{name}") for name in fields),
    ).sort("offset")


# ---- tables ----------------------------------------------------------------------------------------------------------


def _windows(contract: Contract, schema: Mapping[str, pl.DataType], prefix: str) -> IndexedTable:
    notes = {note.name: note for note in (*reading_notes(contract), *aggregate_notes(contract))}
    part = () if contract.part is None else (contract.part,)
    return IndexedTable(
        table=windows_table(contract.stream),
        index=f"{prefix}-windows-{contract.stream}",
        day_column="window_start",
        id_columns=("tenant", "device_id", *part, "window_s", "window_start"),
        latest_only=True,
        fields=tuple(_fields(schema, notes)),
        time_field="window_start",
        columns=tuple(schema),
        version=contract.version_text,
    )


def _readings(contract: Contract, schema: Mapping[str, pl.DataType], prefix: str) -> IndexedTable:
    notes = {note.name: note for note in reading_notes(contract)}
    return IndexedTable(
        table=contract.stream,
        index=f"{prefix}-{contract.stream}",
        day_column="measured_at",
        id_columns=("offset", "record"),
        latest_only=False,
        fields=tuple(_fields(schema, notes, lists=frozenset({"flags"}), stored=_STORED.get(contract.stream, _NONE))),
        time_field="measured_at",
        columns=tuple(schema),
        version=contract.version_text,
    )


def _single(
    table: str, name: str, id_column: str, time: str, schemas: Mapping[str, Mapping[str, pl.DataType]], prefix: str
) -> IndexedTable:
    """Return a table with one index: times of its rows change between revisions, and an id must stay in its index."""
    schema = schemas[table]
    notes = {
        column: ColumnNote(name=column, type="str", classification="personal") for column in _PERSONAL.get(table, ())
    }
    return IndexedTable(
        table=table,
        index=f"{prefix}-{name}",
        day_column=None,
        id_columns=(id_column,),
        latest_only=True,
        fields=tuple(_fields(schema, notes, lists=_LISTS[table], stored=_STORED[table])),
        time_field=time,
        columns=tuple(schema),
        gone_flag=_GONE.get(table),
    )


def _rejects(schema: Mapping[str, pl.DataType], prefix: str) -> IndexedTable:
    kept = {name: dtype for name, dtype in schema.items() if name not in _NOT_INDEXED[REJECTS]}
    return IndexedTable(
        table=REJECTS,
        index=f"{prefix}-{REJECTS}",
        day_column="received_at",
        id_columns=("offset", "record", "stage"),
        latest_only=False,
        fields=tuple(_fields(kept, {})),
        time_field="received_at",
        columns=tuple(kept),
    )


def _devices(contracts: ContractSet, prefix: str) -> IndexedTable:
    times = {"measured_at", "received_at"}
    numbers = {"offset", "readings"}
    fields = [
        IndexField(
            name=name, type="date" if name in times else "long" if name in numbers else "keyword", columns=(name,)
        )
        for name in _DEVICE_COLUMNS
    ]
    ats: list[IndexField] = []
    for contract in contracts:
        if contract.stream in _STREAMS_WITHOUT_STATE:
            continue
        stored = _STORED.get(contract.stream, _NONE)
        for note, field in zip(reading_notes(contract)[len(BASE_COLUMNS) :], contract.fields, strict=True):
            if field.name == contract.part:
                continue
            name = f"{contract.stream}.{field.name}"
            fields.append(_field(f"{DEVICE_VALUE}{name}", field.dtype, note, is_stored_only=field.name in stored))
            ats.append(IndexField(name=f"{DEVICE_AT}{name}", type="date", columns=(f"{DEVICE_AT}{name}",)))
    place = IndexField(name=LOCATION, type="geo_point", columns=_PLACE, classification="location")
    return IndexedTable(
        table=DEVICES,
        index=f"{prefix}-{DEVICES}",
        day_column=None,
        id_columns=("tenant", "device_id", "stream", "part"),
        latest_only=True,
        fields=(*fields, *ats, place),
        time_field="received_at",
        columns=(),
    )


# ---- fields ----------------------------------------------------------------------------------------------------------


def _fields(
    schema: Mapping[str, pl.DataType],
    notes: Mapping[str, ColumnNote],
    *,
    lists: frozenset[str] = _NONE,
    stored: frozenset[str] = _NONE,
) -> Iterator[IndexField]:
    for name, dtype in schema.items():
        note = notes.get(name, ColumnNote(name=name, type="str"))
        yield _field(name, dtype, note, is_list=name in lists, is_stored_only=name in stored)
    for suffix in _POSITIONS:
        place = tuple(f"{name}{suffix}" for name in _PLACE)
        if LOCATION not in schema and all(schema.get(name) == pl.Float64() for name in place):
            yield IndexField(name=LOCATION, type="geo_point", columns=place, classification="location")
            return


def _field(
    name: str, dtype: pl.DataType, note: ColumnNote, *, is_list: bool = False, is_stored_only: bool = False
) -> IndexField:
    kind = _type_of(dtype)
    return IndexField(
        name=name,
        type=kind,
        columns=(name,),
        is_searched=kind == "keyword" and note.name in _SEARCHED,
        is_stored_only=kind == "keyword" and is_stored_only,
        is_list=is_list,
        unit=note.unit,
        classification=note.classification,
        description=note.description,
    )


def _type_of(dtype: pl.DataType) -> FieldType:
    if isinstance(dtype, pl.Datetime | pl.Date):
        return "date"
    if dtype.is_integer():
        return "long"
    if dtype.is_float():
        return "double"
    return "boolean" if dtype == pl.Boolean() else "keyword"

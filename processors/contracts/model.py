"""A contract as the program uses it: everything resolved, nothing to look up twice.

`resolve` turns what a person wrote into this and finds what is wrong between the lines: an unknown unit, an
integral of a percentage, a key that is no field. What is wrong is a ConfigError with its line.
"""

from enum import StrEnum
from typing import Final

import msgspec
import polars as pl

from gateway.core.ids import Channel
from processors.contracts.file import Encoding, RuleFile
from processors.contracts.rules import Rule
from processors.contracts.units import Unit
from processors.contracts.windows import WindowPlan

FieldPath = tuple[str, ...]
"""Keys from the payload's outermost object inwards."""

MEASURED_AT: Final = pl.Datetime("us", "UTC")

BASE_COLUMNS: Final[dict[str, pl.DataType]] = {
    "tenant": pl.String(),
    "device_id": pl.String(),
    "measured_at": MEASURED_AT,
    "received_at": MEASURED_AT,
    "offset": pl.Int64(),
    "record": pl.Int32(),
    "flags": pl.String(),
}
"""Columns that every readings frame begins with, in this order."""

BASE_DESCRIPTIONS: Final[dict[str, str]] = {
    "tenant": "Tenant the device belongs to",
    "device_id": "Device that measured, as it authenticated itself",
    "measured_at": "When the device measured, by its own clock, clamped if that runs ahead",
    "received_at": "When the gateway received the message",
    "offset": "Offset of the message in the ingest journal",
    "record": "Place of the reading inside its message, from 0",
    "flags": "What decoding changed, as codes joined by commas; null when nothing",
}

KEY_COLUMNS: Final = ("device_id", "measured_at")


class Origin(StrEnum):
    """Who speaks on a stream."""

    DEVICE = "device"
    GATEWAY = "gateway"
    OCPP = "ocpp"


SOURCES: Final[dict[Origin, frozenset[str]]] = {
    Origin.DEVICE: frozenset({"mqtt", "http"}),
    Origin.GATEWAY: frozenset({"gateway", "http"}),
    Origin.OCPP: frozenset(),
}
"""Sources of the envelopes whose channel may be that of a stream. What OCPP says has channels of its own, and is read
by `processors.stages.ocpp`."""


class FieldType(StrEnum):
    """Type of a field in the readings frame; an `enum` arrives as a code and is stored as its name."""

    FLOAT = "float"
    INT = "int"
    BOOL = "bool"
    STR = "str"
    ENUM = "enum"


_DTYPES: Final[dict[FieldType, pl.DataType]] = {
    FieldType.FLOAT: pl.Float64(),
    FieldType.INT: pl.Int64(),
    FieldType.BOOL: pl.Boolean(),
    FieldType.STR: pl.String(),
    FieldType.ENUM: pl.String(),
}


class TimeFormat(StrEnum):
    """How a time is written, where it is not a strptime format."""

    ISO8601 = "iso8601"
    EPOCH_S = "epoch_s"
    EPOCH_MS = "epoch_ms"
    EPOCH_US = "epoch_us"
    EPOCH_NS = "epoch_ns"


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a stream.

    The value stored is `sign * (raw * scale + offset)`; a raw value in `missing` is null, a stored one outside
    `low`..`high` is null with a flag.
    """

    name: str
    path: FieldPath
    type: FieldType
    unit: Unit | None
    low: float | None
    high: float | None
    required: bool
    values: dict[str, str] | dict[int, str] | None
    missing: tuple[bool | int | float | str, ...]
    scale: float
    offset: float
    sign: int
    vss: str | None
    description: str
    classification: str

    @property
    def dtype(self) -> pl.DataType:
        """Type of the column."""
        return _DTYPES[self.type]

    @property
    def is_number(self) -> bool:
        """Whether the column is a number that can be averaged."""
        return self.type in {FieldType.FLOAT, FieldType.INT}

    @property
    def unit_symbol(self) -> str:
        """Symbol of the unit, empty without one."""
        return self.unit.symbol if self.unit else ""


class TimeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Where a reading's time is and how to read it.

    Attributes:
        paths: Places in the payload; several are texts joined by a space.
        format: A `TimeFormat` or a strptime format.
        zone: IANA zone of a time that names none itself.
        skew_max_s: Further ahead of the receipt than this is a wrong clock.
        absent_is_received: Whether a message without a time counts as measured when it was received.
    """

    paths: tuple[FieldPath, ...]
    format: str
    zone: str
    skew_max_s: float
    absent_is_received: bool


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that rows are kept."""

    raw_s: float
    readings_s: float
    windows_s: float


class RuleOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as it was written, for overrides and for errors that need more than one contract.

    Attributes:
        written: Its keys.
        path: Where it is in the file that says the last word about it.
        places: Key -> file and line; the empty key is the rule itself.
    """

    written: RuleFile
    path: str
    places: dict[str, tuple[str, int]]

    def place(self, key: str) -> tuple[str, int]:
        """Return file and line of a key, of the rule where it does not say it."""
        return self.places.get(key, self.places[""])


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """One stream: what its messages say and what becomes of them.

    Attributes:
        origin: Who speaks on it.
        channel: Channel of the envelopes that belong to this stream; of a stream from OCPP its name, on which nobody
            may speak.
        topic: MQTT topic pattern, without the placeholders' values; None unless devices speak on it.
        identity: Place in the payload that must name the sending device if it is there, or None.
        sampling_s: How often a device usually sends, or None where it sends when something happens.
        key: Columns that make two readings the same one, or None for a hash of the content.
        part: Text field that splits a device into parts with windows and newest values of their own, or None.
        windows: Window plan, or None for a stream of events.
        index: Whether its readings are shown in a search index, each as a document; its windows always are.
        file: File the contract was read from.
        rule_origins: Rule -> how it was written.
    """

    stream: str
    version: tuple[int, int, int]
    description: str
    owner: str
    origin: Origin
    channel: Channel
    topic: str | None
    encodings: frozenset[Encoding]
    identity: FieldPath | None
    time: TimeSpec
    key: tuple[str, ...] | None
    part: str | None
    fields: tuple[Field, ...]
    windows: WindowPlan | None
    rules: tuple[Rule, ...]
    retention: Retention
    file: str
    sampling_s: float | None = None
    index: bool = False
    rule_origins: dict[str, RuleOrigin] = {}

    def field(self, name: str) -> Field:
        """Return the field of that name. Raises: KeyError: There is none."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)

    def readings_schema(self) -> dict[str, pl.DataType]:
        """Return the columns of the stream's readings frame, in order."""
        return {**BASE_COLUMNS, **{field.name: field.dtype for field in self.fields}}

    @property
    def version_text(self) -> str:
        """The version as written."""
        return ".".join(map(str, self.version))


DEFAULT_TOPIC: Final = "v1/{tenant}/{device_id}/"

"""From what a person wrote to a `Contract`: the checks between the lines, each with its place and its mend."""

import math
import re
from collections.abc import Callable
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from gateway.core.errors import ConfigError
from gateway.core.ids import Channel
from gateway.core.limits import RULES_PER_STREAM_MAX
from gateway.core.text import peer_text
from gateway.wire.ocpp.records import STREAMS
from processors.contracts.file import ContractFile, Encoding, FieldFile, RuleFile, SourceFile, WindowsFile, nearest
from processors.contracts.model import (
    BASE_COLUMNS,
    DEFAULT_TOPIC,
    KEY_COLUMNS,
    Contract,
    Field,
    FieldPath,
    FieldType,
    Origin,
    Retention,
    RuleOrigin,
    TimeFormat,
    TimeSpec,
)
from processors.contracts.places import Located, Path
from processors.contracts.rule_resolve import StreamFacts, resolve_rule, rule_places
from processors.contracts.rules import Rule
from processors.contracts.units import INTEGRALS, UNITS, Unit, duration_s, integral_column
from processors.contracts.windows import Aggregate, AggregateKind, WindowPlan

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_VERSION: Final = re.compile(r"(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})")
_TABLES: Final = frozenset(
    {"raw", "rejects", "sessions", "alerts", "devices", "charging_sessions", "trips", "battery_health"}
)
_COLUMNS: Final = frozenset({*BASE_COLUMNS, "late", "received_date"})
_WINDOW_COLUMNS: Final = frozenset({*_COLUMNS, "window_start", "window_end", "window_s", "revision", "n", "span_s"})
_DIRECTIVES: Final = frozenset("YmdHMSfzyjbBpIeTFDR%")
_ALL: Final[frozenset[Encoding]] = frozenset({"json", "msgpack", "columns"})
_NUMBER_ONLY: Final = frozenset(AggregateKind) - {AggregateKind.FIRST, AggregateKind.LAST, AggregateKind.COUNT}
_INT_MAX: Final = 2**63 - 1
_DAY_S: Final = 86_400


def resolve(written: ContractFile, located: Located) -> Contract:
    """Return the contract that a file describes.

    Raises: ConfigError: Something in it does not fit together.
    """
    return _Resolver(written, located).contract()


class _Resolver:
    def __init__(self, written: ContractFile, located: Located) -> None:
        self._written = written
        self._located = located

    def contract(self) -> Contract:
        written = self._written
        self._name(written.stream, ("stream",))
        is_ours = f"{written.stream}_".startswith(("windows_", "kpi_")) or written.stream.endswith("_revisions")
        if written.stream in _TABLES or is_ours:
            raise self._error(("stream",), f"'{written.stream}' is a table of Voltgate's own", "choose another name")
        version = _VERSION.fullmatch(written.version)
        if not version:
            shown = peer_text(written.version)
            raise self._error(("version",), f"'{shown}' is no version", "write three numbers, as in 1.0.0")
        origin = Origin(written.source.origin)
        topic, channel = self._topic(written.source) if origin is Origin.DEVICE else (None, self._channel(origin))
        fields = tuple(self._field(name, field) for name, field in written.fields.items())
        time = self._time()
        sampling_s = self._sampling()
        identity = self._path(written.source.identity, ("source", "identity")) if written.source.identity else None
        self._paths_apart(fields, time, identity)
        return Contract(
            stream=written.stream,
            version=(int(version[1]), int(version[2]), int(version[3])),
            description=written.description,
            owner=written.owner,
            origin=origin,
            channel=channel,
            topic=topic,
            encodings=_encodings(written.source),
            identity=identity,
            time=time,
            key=self._key(fields),
            part=self._part(fields),
            fields=fields,
            windows=self._windows(written.windows, fields) if written.windows else None,
            rules=self._rules(fields, sampling_s),
            retention=Retention(
                raw_s=self._duration(written.retention.raw, ("retention", "raw")),
                readings_s=self._duration(written.retention.readings, ("retention", "readings")),
                windows_s=self._duration(written.retention.windows, ("retention", "windows")),
            ),
            file=self._located.file,
            sampling_s=sampling_s,
            index=written.index,
            rule_origins={name: self._origin(name, rule) for name, rule in written.rules.items()},
        )

    # ---- where messages come from and when they were measured --------------------------------------------------------

    def _channel(self, origin: Origin) -> Channel:
        """Return the channel of a stream on which no device speaks."""
        source, stream = self._written.source, self._written.stream
        if origin is Origin.OCPP and stream not in STREAMS:
            what = f"there is no OCPP stream '{stream}'"
            raise self._error(("source", "from"), what, f"OCPP gives {', '.join(STREAMS)}; delete 'from'")
        if source.mqtt is not None:
            raise self._error(("source", "mqtt"), f"'from: {origin}' has no topic", "delete 'mqtt' or 'from'")
        if source.channel is None:
            return Channel(stream)
        place: Path = ("source", "channel")
        if origin is Origin.OCPP:
            raise self._error(place, "OCPP has channels of its own", "delete 'channel'")
        self._name(source.channel, place)
        return Channel(source.channel)

    def _topic(self, source: SourceFile) -> tuple[str, Channel]:
        if source.channel is not None:
            mend = "delete 'channel', and name it as the topic's last level under 'mqtt'"
            raise self._error(("source", "channel"), "a device's channel is in its topic", mend)
        topic = source.mqtt if source.mqtt is not None else DEFAULT_TOPIC + self._written.stream
        place = ("source", "mqtt")
        levels = topic.split("/")
        unknown = [
            level for level in levels if re.search(r"[{}+#\s\0]", level) and level not in {"{tenant}", "{device_id}"}
        ]
        if unknown:
            mend = "write plain levels, {tenant} and {device_id}"
            raise self._error(place, f"topic level '{peer_text(unknown[0])}' cannot be used", mend)
        if levels.count("{device_id}") != 1 or levels.count("{tenant}") > 1 or "" in levels:
            mend = (
                "write {device_id} once, {tenant} at most once, no empty level, as in v1/{tenant}/{device_id}/telemetry"
            )
            raise self._error(place, f"topic '{peer_text(topic)}' does not name one device", mend)
        if not topic.startswith(DEFAULT_TOPIC):
            return topic, Channel(self._written.stream)
        channel = topic.removeprefix(DEFAULT_TOPIC)
        if channel == "cmd" or channel.startswith("cmd/"):
            raise self._error(place, "channel 'cmd' carries commands", "choose another last level")
        return topic, Channel(channel)

    def _time(self) -> TimeSpec:
        written = self._written.time.measured_at
        place: Path = ("time", "measured_at")
        texts = [written.path] if isinstance(written.path, str) else written.path
        try:
            ZoneInfo(written.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
            mend = "write an IANA name such as Europe/Berlin or UTC"
            raise self._error((*place, "zone"), f"there is no time zone '{peer_text(written.zone)}'", mend) from exc
        if written.format not in set(TimeFormat):
            self._strptime(written.format, (*place, "format"))
        elif written.format != TimeFormat.ISO8601 and len(texts) > 1:
            raise self._error((*place, "path"), f"{written.format} is one number", "name one path")
        return TimeSpec(
            paths=tuple(self._path(text, (*place, "path")) for text in texts),
            format=written.format,
            zone=written.zone,
            skew_max_s=self._duration(self._written.time.skew_max, ("time", "skew_max")),
            absent_is_received=written.absent == "received_at",
        )

    def _strptime(self, text: str, place: Path) -> None:
        directives = re.findall(r"%(.?)", text)
        known = ", ".join(TimeFormat)
        if not directives:
            raise self._error(place, f"'{peer_text(text)}' is no time format", f"write {known} or a strptime format")
        for directive in directives:
            if directive not in _DIRECTIVES:
                mend = f"use %Y %m %d %H %M %S %f %z and the like, or one of {known}"
                raise self._error(place, f"'%{peer_text(directive)}' is no part of a time format", mend)
        if not ({"Y", "y"} & set(directives) or {"F", "D"} & set(directives)):
            raise self._error(place, f"'{peer_text(text)}' has no year", "a reading needs a whole date")

    def _paths_apart(self, fields: tuple[Field, ...], time: TimeSpec, identity: FieldPath | None) -> None:
        """Refuse two columns that read one place, and a place inside another."""
        taken: dict[FieldPath, str] = {}
        places: list[tuple[FieldPath, Path]] = [(path, ("time", "measured_at", "path")) for path in time.paths]
        places += [(identity, ("source", "identity"))] if identity and self._written.source.identity else []
        places += [(field.path, ("fields", field.name)) for field in fields]
        for path, place in places:
            for other, name in taken.items():
                if path[: len(other)] == other or other[: len(path)] == path:
                    text = peer_text(".".join(path))
                    raise self._error(
                        place, f"'{text}' is already read by {name}", "read each place of the payload once"
                    )
            taken[path] = ".".join(map(str, place))

    # ---- fields ------------------------------------------------------------------------------------------------------

    def _field(self, name: str, written: FieldFile) -> Field:
        place: Path = ("fields", name)
        self._name(name, place)
        if name in _COLUMNS:
            raise self._error(place, f"'{name}' is a column of Voltgate's own", "choose another name")
        kind = FieldType(written.type)
        low, high = self._range(written, kind, place)
        self._scaling(written, kind, place)
        return Field(
            name=name,
            path=self._path(written.path if written.path is not None else name, (*place, "path")),
            type=kind,
            unit=self._unit(written, kind, place),
            low=low,
            high=high,
            required=written.required,
            values=self._values(written, kind, place),
            missing=self._missing(written, kind, place),
            scale=written.scale,
            offset=written.offset,
            sign=written.sign,
            vss=written.vss,
            description=written.description,
            classification=written.classification,
        )

    def _unit(self, written: FieldFile, kind: FieldType, place: Path) -> Unit | None:
        if written.unit is None:
            return None
        if kind not in {FieldType.FLOAT, FieldType.INT}:
            raise self._error((*place, "unit"), f"a field of type {kind} has no unit", "delete 'unit' or change 'type'")
        if written.unit not in UNITS:
            shown = peer_text(written.unit)
            raise self._error((*place, "unit"), f"unknown unit '{shown}'", nearest(written.unit, list(UNITS)))
        return UNITS[written.unit]

    def _range(self, written: FieldFile, kind: FieldType, place: Path) -> tuple[float | None, float | None]:
        if written.range is None:
            return None, None
        low, high = written.range
        if kind not in {FieldType.FLOAT, FieldType.INT}:
            raise self._error(
                (*place, "range"), f"a field of type {kind} has no range", "delete 'range' or change 'type'"
            )
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise self._error((*place, "range"), f"[{low}, {high}] is empty", "write the lower bound first")
        if kind is FieldType.INT and not (float(low).is_integer() and float(high).is_integer()):
            raise self._error((*place, "range"), f"[{low}, {high}] bounds whole numbers", "write whole numbers")
        return low, high

    def _scaling(self, written: FieldFile, kind: FieldType, place: Path) -> None:
        scaled = written.scale != 1.0 or written.offset != 0.0 or written.sign != 1
        if scaled and kind is not FieldType.FLOAT:
            raise self._error(
                place, f"a scaled field of type {kind}", "write 'type: float'; whole numbers are read too"
            )
        if not math.isfinite(written.scale) or written.scale == 0 or not math.isfinite(written.offset):
            raise self._error((*place, "scale"), "scale or offset is unusable", "write a finite scale that is not 0")

    def _values(self, written: FieldFile, kind: FieldType, place: Path) -> dict[str, str] | dict[int, str] | None:
        if (kind is FieldType.ENUM) != (written.values is not None):
            raise self._error(place, "'type: enum' and 'values' belong together", "write both or neither")
        if written.values is None:
            return None
        texts = {key: name for key, name in written.values.items() if isinstance(key, str)}
        numbers = {key: name for key, name in written.values.items() if isinstance(key, int)}
        if texts and numbers:
            raise self._error(
                (*place, "values"), "some codes are words and some numbers", "quote the numbers or the words"
            )
        return texts or numbers

    def _missing(self, written: FieldFile, kind: FieldType, place: Path) -> tuple[bool | int | float | str, ...]:
        text = kind is FieldType.STR or (
            kind is FieldType.ENUM and any(isinstance(k, str) for k in written.values or {})
        )
        for i, value in enumerate(written.missing):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            whole = isinstance(value, int) and number and abs(value) <= _INT_MAX
            fits = isinstance(value, str) if text else whole if kind is not FieldType.FLOAT else number
            if kind is FieldType.BOOL or not fits:
                what = f"{peer_text(repr(value))} never arrives in a field of type {kind}"
                raise self._error((*place, "missing", i), what, "write values of the field's own type")
        return tuple(written.missing)

    # ---- windows, key, rules -----------------------------------------------------------------------------------------

    def _windows(self, written: WindowsFile, fields: tuple[Field, ...]) -> WindowPlan:
        sizes = [self._whole(text, ("windows", "sizes", i)) for i, text in enumerate(written.sizes)]
        for i, size in enumerate(sizes):
            if size % sizes[0] or _DAY_S % size or (i and size <= sizes[i - 1]):
                what = f"{written.sizes[i]} is no multiple of {written.sizes[0]}, no part of a day, or out of order"
                raise self._error(("windows", "sizes", i), what, "write sizes as in [1 min, 5 min, 60 min]")
        by_name = {field.name: field for field in fields}
        aggregates: dict[str, Aggregate] = {}
        for name, kinds in written.aggregates.items():
            for i, kind in enumerate(kinds):
                place: Path = ("windows", "aggregates", name, i)
                if name not in by_name:
                    raise self._error(place, f"there is no field '{peer_text(name)}'", nearest(name, list(by_name)))
                aggregate = self._aggregate(by_name[name], kind, place)
                if aggregate.column in {*aggregates, *_WINDOW_COLUMNS, self._written.part}:
                    mend = "ask for each aggregate once, or rename a field"
                    raise self._error(place, f"column '{aggregate.column}' is there twice", mend)
                aggregates[aggregate.column] = aggregate
        return WindowPlan(
            pane_s=sizes[0],
            sizes_s=tuple(sizes),
            disorder_s=self._duration(written.disorder, ("windows", "disorder")),
            lateness_s=self._duration(written.lateness, ("windows", "lateness")),
            idle_s=self._duration(written.idle, ("windows", "idle")),
            gap_max_s=self._duration(written.gap_max, ("windows", "gap_max")),
            aggregates=tuple(aggregates.values()),
            part=self._written.part,
        )

    def _aggregate(self, field: Field, kind_text: str, place: Path) -> Aggregate:
        if kind_text not in set(AggregateKind):
            raise self._error(
                place, f"unknown aggregate '{peer_text(kind_text)}'", nearest(kind_text, list(AggregateKind))
            )
        kind = AggregateKind(kind_text)
        if kind in _NUMBER_ONLY and not field.is_number:
            raise self._error(place, f"{kind} of '{field.name}', which is {field.type}", "ask for first, last or count")
        if kind is AggregateKind.INTEGRAL:
            integral = INTEGRALS.get(field.unit_symbol)
            if integral is None:
                what = f"nobody knows the integral of {field.unit_symbol or 'no unit'} over time"
                raise self._error(place, what, f"integrate a field in {', '.join(INTEGRALS)}")
            column = integral_column(field.name, integral)
            return Aggregate(field=field.name, kind=kind, column=column, unit=integral.unit, scale=integral.scale)
        unit = "1" if kind is AggregateKind.COUNT else field.unit_symbol
        return Aggregate(field=field.name, kind=kind, column=f"{field.name}_{kind}", unit=unit)

    def _key(self, fields: tuple[Field, ...]) -> tuple[str, ...] | None:
        if self._written.key is None:
            return None
        known = [*KEY_COLUMNS, *(field.name for field in fields)]
        for i, name in enumerate(self._written.key):
            if name not in known:
                raise self._error(("key", i), f"there is no field '{peer_text(name)}'", nearest(name, known))
        if "device_id" not in self._written.key or len(set(self._written.key)) != len(self._written.key):
            raise self._error(
                ("key",), "the key does not name device_id, or a column twice", "write [device_id, measured_at]"
            )
        return tuple(self._written.key)

    def _part(self, fields: tuple[Field, ...]) -> str | None:
        part = self._written.part
        if part is None:
            return None
        texts = [field.name for field in fields if field.dtype == pl.String()]
        if part not in texts:
            what = f"there is no field '{peer_text(part)}' of type str or enum"
            raise self._error(("part",), what, nearest(part, texts) if texts else "delete 'part'")
        return part

    def _sampling(self) -> float | None:
        if self._written.sampling is None:
            return None
        seconds = self._duration(self._written.sampling, ("sampling",))
        if seconds <= 0:
            raise self._error(("sampling",), "nothing is sent every 0 s", "write how often devices usually send")
        return seconds

    def _rules(self, fields: tuple[Field, ...], sampling_s: float | None) -> tuple[Rule, ...]:
        if len(self._written.rules) > RULES_PER_STREAM_MAX:
            what = f"{len(self._written.rules)} rules, and a stream has at most {RULES_PER_STREAM_MAX}"
            raise self._error(("rules",), what, "delete some, or split the stream")
        stream = StreamFacts(stream=self._written.stream, fields=fields, sampling_s=sampling_s)
        return tuple(
            resolve_rule(stream, name, rule, self._located, ("rules", name))
            for name, rule in self._written.rules.items()
        )

    def _origin(self, name: str, rule: RuleFile) -> RuleOrigin:
        places = rule_places(self._located, ("rules", name))
        return RuleOrigin(written=rule, path=f"rules.{name}", places=places)

    # ---- small parts -------------------------------------------------------------------------------------------------

    def _name(self, name: str, place: Path) -> None:
        if not _NAME.fullmatch(name):
            raise self._error(place, f"'{peer_text(name)}' is no name", "write snake_case: a-z, 0-9 and _, at most 63")

    def _path(self, text: str, place: Path) -> FieldPath:
        r"""Split a dotted path; `\.` is a dot inside a key."""
        parts = tuple(part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.", text))
        if "" in parts or len(parts) > 4:
            mend = "write up to four keys joined by dots, as in battery.soc; \\. is a dot inside a key"
            raise self._error(place, f"'{peer_text(text)}' is no path", mend)
        return parts

    def _duration(self, text: str, place: Path) -> float:
        return self._checked(place, duration_s, text)

    def _whole(self, text: str, place: Path) -> int:
        seconds = self._duration(text, place)
        if seconds < 1 or not seconds.is_integer():
            raise self._error(place, f"{peer_text(text)} is no whole number of seconds", "write a size such as 1 min")
        return int(seconds)

    def _checked(self, place: Path, read: Callable[[str], float], text: str) -> float:
        try:
            return read(text)
        except ValueError as exc:
            raise self._error(
                place, f"'{peer_text(text)}' is not a span of time", "write it as in '5 min' or '90 s'"
            ) from exc

    def _error(self, place: Path, what: str, mend: str) -> ConfigError:
        return self._located.error(place, what, mend)


def _encodings(source: SourceFile) -> frozenset[Encoding]:
    match source.encoding:
        case "auto":
            return _ALL
        case str() as one:
            return frozenset({one})
        case several:
            return frozenset(several)

"""What a contract says about each column, for table comments, catalogue pages and exported contracts."""

from typing import assert_never

import msgspec

from processors.contracts.detectors import DETECTORS
from processors.contracts.model import BASE_COLUMNS, BASE_DESCRIPTIONS, Contract, Field, FieldType, Origin
from processors.contracts.rules import Rule
from processors.contracts.windows import Aggregate, AggregateKind, WindowPlan


class ColumnNote(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to know about one column.

    Attributes:
        name: Column name.
        type: `float`, `int`, `bool`, `str`, `enum` or `time`.
        description: One sentence, empty if the name says it.
        unit: Unit symbol, empty without one.
        vss: Path in the COVESA Vehicle Signal Specification, or None.
        classification: `public`, `internal`, `personal` or `location`.
        low: Lowest plausible value, or None.
        high: Highest plausible value, or None.
        values: Names an enum column may have, else empty.
        nullable: Whether a row may lack it.
    """

    name: str
    type: str
    description: str = ""
    unit: str = ""
    vss: str | None = None
    classification: str = "internal"
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] = ()
    nullable: bool = True

    def comment(self) -> str:
        """Return the note as one line: `battery state [%] 0..100, VSS Vehicle...., class location`."""
        parts = [f"{self.description} [{self.unit}]".lstrip() if self.unit else self.description]
        if self.low is not None and self.high is not None:
            parts[0] = f"{parts[0]} {self.low:g}..{self.high:g}".lstrip()
        parts += [f"one of {', '.join(self.values)}"] if self.values else []
        parts += [f"VSS {self.vss}"] if self.vss else []
        parts += [f"class {self.classification}"] if self.classification in {"personal", "location"} else []
        return ", ".join(part for part in parts if part)


_BASE_TYPES = {"measured_at": "time", "received_at": "time", "offset": "int", "record": "int"}


def reading_notes(contract: Contract) -> tuple[ColumnNote, ...]:
    """Return the notes of the stream's readings table, in column order."""
    base = [
        ColumnNote(
            name=name, type=_BASE_TYPES.get(name, "str"), description=BASE_DESCRIPTIONS[name], nullable=name == "flags"
        )
        for name in BASE_COLUMNS
    ]
    return (*base, *map(_field_note, contract.fields))


def aggregate_notes(contract: Contract) -> tuple[ColumnNote, ...]:
    """Return the notes of the aggregates in the stream's window table, in order; empty for a stream without windows."""
    if contract.windows is None:
        return ()
    return tuple(_aggregate_note(contract, aggregate) for aggregate in contract.windows.aggregates)


def reading_comments(contract: Contract) -> dict[str, str]:
    """Return column -> comment for the stream's readings table."""
    return {note.name: note.comment() for note in reading_notes(contract)}


def aggregate_comments(contract: Contract) -> dict[str, str]:
    """Return column -> comment for the part, if any, and the aggregates of the stream's window table."""
    part = [] if contract.part is None else [_field_note(contract.field(contract.part))]
    return {note.name: note.comment() for note in (*part, *aggregate_notes(contract))}


def to_text(contract: Contract) -> str:
    """Return the catalogue page of a stream, Markdown."""
    lines = [
        f"# {contract.stream} {contract.version_text}",
        "",
        contract.description,
        "",
        _source_text(contract),
        f"- time: {_time_text(contract)}",
        f"- the same reading if equal in: {', '.join(contract.key) if contract.key else 'all fields'}",
        *([f"- owner: {contract.owner}"] if contract.owner else []),
        "",
        *_table(reading_notes(contract)),
    ]
    if contract.windows:
        lines += ["", f"## Windows of {_sizes_text(contract.windows)}", "", *_table(aggregate_notes(contract))]
    if contract.rules:
        lines += ["", "## Rules", ""]
        lines += [f"- {rule.name} ({rule.severity}): {rule.title}; {rule_text(rule)}" for rule in contract.rules]
    return "\n".join(lines) + "\n"


def rule_text(rule: Rule) -> str:
    """Return when a rule fires and ends, as one line of Markdown."""
    if rule.detector is not None:
        return f"`{rule.detector}`{_parameters_text(rule)}"
    if rule.steps:
        begins = f"{', then '.join(f'`{text}`' for text in rule.step_texts)}, within {span_text(rule.within_s)}"
    else:
        begins = f"`{rule.when_text}`"
    begins += f" for {span_text(rule.hold_s)}" if rule.hold_s else ""
    ends = f"; ends with `{rule.clear_text}`" if rule.clear is not None else ""
    if rule.clear_hold_s:
        ends += (
            f" for {span_text(rule.clear_hold_s)}" if ends else f"; ends after {span_text(rule.clear_hold_s)} without"
        )
    return begins + ends


def span_text(seconds: float) -> str:
    """Return a span of time as a contract writes it."""
    for symbol, scale in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= scale and (seconds / scale).is_integer():
            return f"{seconds / scale:g} {symbol}"
    return f"{seconds:g} s"


def _parameters_text(rule: Rule) -> str:
    """Return the parameters of a detector that are not what they are anyway."""
    assert rule.detector is not None
    shown = []
    for name, parameter in DETECTORS[rule.detector].parameters.items():
        value = rule.parameters[name]
        if value != parameter.default:
            text = span_text(value) if parameter.kind == "duration" and isinstance(value, float) else value
            text = f"{text:.12g}" if isinstance(text, float) else str(text).replace(",", ", ").replace(",  ", ", ")
            shown.append(f"{name} `{text}`")
    return f" with {', '.join(shown)}" if shown else ""


def _field_note(field: Field) -> ColumnNote:
    return ColumnNote(
        name=field.name,
        type=str(field.type),
        description=field.description,
        unit=field.unit_symbol,
        vss=field.vss,
        classification=field.classification,
        low=field.low,
        high=field.high,
        values=tuple(dict.fromkeys((field.values or {}).values())),
    )


def _aggregate_note(contract: Contract, aggregate: Aggregate) -> ColumnNote:
    field = contract.field(aggregate.field)
    kind = FieldType.INT if aggregate.kind is AggregateKind.COUNT else field.type
    if aggregate.kind in {AggregateKind.MEAN, AggregateKind.TIME_MEAN, AggregateKind.INTEGRAL}:
        kind = FieldType.FLOAT
    return ColumnNote(
        name=aggregate.column,
        type=str(kind),
        description=f"{aggregate.kind} of {aggregate.field}",
        unit=aggregate.unit,
        classification=field.classification,
    )


def _source_text(contract: Contract) -> str:
    match contract.origin:
        case Origin.DEVICE:
            return f"- topic: `{contract.topic}`, as {', '.join(sorted(contract.encodings))}"
        case Origin.GATEWAY:
            return f"- written by the gateway, on channel `{contract.channel}`"
        case Origin.OCPP:
            return "- read out of OCPP frames"
        case _:
            assert_never(contract.origin)


def _time_text(contract: Contract) -> str:
    places = " + ".join(".".join(path) for path in contract.time.paths)
    return f"`{places}`, {contract.time.format}, {contract.time.zone} where it names no zone"


def _sizes_text(plan: WindowPlan) -> str:
    return ", ".join(f"{size} s" for size in plan.sizes_s)


def _table(notes: tuple[ColumnNote, ...]) -> list[str]:
    rows = [f"| {note.name} | {note.type} | {note.comment()} |".replace("|  |", "| |") for note in notes]
    return ["| column | type | what |", "|---|---|---|", *rows]

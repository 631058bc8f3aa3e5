"""The contract file as people write it: its keys and their types, and nothing about what they mean together."""

import difflib
import re
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.core.errors import ConfigError
from gateway.core.text import peer_text
from processors.contracts.places import Located, Path, Plain

Scalar = bool | int | float | str
Encoding = Literal["json", "msgpack", "columns"]


class Section(BaseModel):
    """A mapping of the file; an unknown key is an error, and text is never taken for a number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SourceFile(Section):
    """Who speaks on the stream, and where its messages come from.

    `from: device` is a device's own messages, on an MQTT topic; `gateway` is what the gateway writes itself, on
    `channel`; `ocpp` is what is read out of OCPP frames. The last two have no topic.
    """

    origin: Literal["device", "gateway", "ocpp"] = Field(default="device", alias="from")
    mqtt: str | None = None
    channel: str | None = None
    encoding: Encoding | Literal["auto"] | Annotated[list[Encoding], Field(min_length=1)] = "auto"
    identity: str | None = "device_id"


class MeasuredAtFile(Section):
    """Where the time of a reading is in the payload."""

    path: str | Annotated[list[str], Field(min_length=1, max_length=4)]
    format: str = "iso8601"
    zone: str = "UTC"
    absent: Literal["reject", "received_at"] = "reject"


class TimeFile(Section):
    """The device's clock."""

    measured_at: MeasuredAtFile
    skew_max: str = "5 min"


class FieldFile(Section):
    """One column of the stream."""

    path: str | None = None
    type: Literal["float", "int", "bool", "str", "enum"]
    unit: str | None = None
    range: Annotated[list[int | float], Field(min_length=2, max_length=2)] | None = None
    required: bool = False
    values: Annotated[dict[str | int, str], Field(min_length=1, max_length=1000)] | None = None
    missing: Annotated[list[Scalar], Field(max_length=100)] = []
    scale: float = 1.0
    offset: float = 0.0
    sign: Literal[1, -1] = 1
    vss: str | None = None
    classification: Literal["public", "internal", "personal", "location"] = Field(default="internal", alias="class")
    description: str = ""


class WindowsFile(Section):
    """Windows and their aggregates."""

    sizes: Annotated[list[str], Field(min_length=1, max_length=16)] = ["1 min", "5 min", "15 min", "60 min"]
    disorder: str = "5 s"
    lateness: str = "10 min"
    idle: str = "90 s"
    gap_max: str = "30 s"
    aggregates: Annotated[dict[str, list[str]], Field(min_length=1)]


class RuleFile(Section):
    """One alert rule; it has exactly one of `when`, `sequence` and `detect`."""

    title: str = ""
    when: str | None = None
    hold: str = Field(default="0 s", alias="for")
    clear: str | None = None
    clear_for: str = "0 s"
    sequence: Annotated[list[str], Field(min_length=2)] | None = None
    within: str | None = None
    detect: str | None = None
    parameters: dict[str, Scalar | Annotated[list[str], Field(min_length=1, max_length=100)]] = Field(
        default={}, alias="with"
    )
    needs: str | None = None
    severity: Literal["info", "warning", "critical"]
    inhibits: Annotated[list[str], Field(max_length=100)] = []
    check: str = ""
    source: str = ""
    enabled: bool = True


class RetentionFile(Section):
    """How long each table keeps a row."""

    raw: str = "90 d"
    readings: str = "730 d"
    windows: str = "3650 d"


class ContractFile(Section):
    """One stream."""

    stream: str
    version: str
    description: str = ""
    owner: str = ""
    source: SourceFile = SourceFile()
    time: TimeFile
    sampling: str | None = None
    key: Annotated[list[str], Field(min_length=1)] | None = None
    part: str | None = None
    index: bool = False
    fields: Annotated[dict[str, FieldFile], Field(min_length=1, max_length=500)]
    windows: WindowsFile | None = None
    rules: dict[str, RuleFile] = {}
    retention: RetentionFile = RetentionFile()


_SECTIONS: Final[dict[Path, type[Section]]] = {
    (): ContractFile,
    ("source",): SourceFile,
    ("time",): TimeFile,
    ("time", "measured_at"): MeasuredAtFile,
    ("fields", "*"): FieldFile,
    ("windows",): WindowsFile,
    ("rules", "*"): RuleFile,
    ("retention",): RetentionFile,
}


def read_contract_file(located: Located) -> ContractFile:
    """Return the file's content, typed.

    Raises: ConfigError: A key is unknown or missing or a value has the wrong type; the topmost one in the file.
    """
    try:
        return ContractFile.model_validate(located.value)
    except ValidationError as exc:
        raise _mistake(located, exc, ()) from exc


def read_rule_file(value: Plain, located: Located, place: Path) -> RuleFile:
    """Return one rule, typed; `place` is what errors name.

    Raises: ConfigError: A key is unknown or missing or a value has the wrong type; the topmost one in the file.
    """
    try:
        return RuleFile.model_validate(value)
    except ValidationError as exc:
        raise _mistake(located, exc, place) from exc


def _mistake(located: Located, exc: ValidationError, place: Path) -> ConfigError:
    # A misspelt key is both unknown and missing; the first of the two says what to do.
    errors = sorted(exc.errors(), key=lambda error: error["type"] != "extra_forbidden")
    found = [_finding(located, error["type"], (*place, *error["loc"]), error["msg"]) for error in errors]
    return min(found, key=lambda error: error.line)


def nearest(word: str, known: list[str]) -> str:
    """Return what to write instead of an unknown word."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"write '{close[0]}'" if close else f"write one of {', '.join(sorted(known))}"


def _finding(located: Located, kind: str, path: Path, message: str) -> ConfigError:
    if kind == "extra_forbidden":
        known = sorted(field.alias or name for name, field in _section(path[:-1]).model_fields.items())
        return located.error(path, f"unknown key '{peer_text(str(path[-1]))}'", nearest(str(path[-1]), known))
    if kind == "missing":
        return located.error(path[:-1], f"'{path[-1]}' is missing", f"add '{path[-1]}:'")
    # A union's branches are part of pydantic's path but not of the file's.
    inside = path
    while inside and not located.has(inside):
        inside = inside[:-1]
    shown = peer_text(repr(located.at(inside)), chars_max=60)
    mend = re.sub(r"valid dictionary or instance of \w+", "mapping of keys", message)
    mend = mend.replace("a valid string", "text; quote it if it looks like a number")
    return located.error(inside, f"{shown} is not usable", mend[:1].lower() + mend[1:])


def _section(path: Path) -> type[Section]:
    wild = (path[0], "*", *path[2:]) if len(path) > 1 and path[0] in {"fields", "rules"} else path
    return _SECTIONS.get(wild, ContractFile)

"""Whether a payload is what its version's JSON schema says, and what is not.

Owns the schemas of the installed `ocpp` package (its files only; none of its modules is imported), compiled by
jsonschema-rs when an action is first used: as they are, and loosened for the dirt of real stations. Refuses to know
what follows from a violation: strict, lenient and audit are the session's.
"""

from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Final

import jsonschema_rs
import msgspec

from gateway.core.text import peer_text
from gateway.wire.ocpp.actions import FROM_CENTRAL, FROM_STATION, SENT_BY_STATION
from gateway.wire.ocpp.loosen import LENIENT_FORMATS, JsonSchema, is_date_time, loosen
from gateway.wire.ocpp.rpc import RpcCode
from gateway.wire.ocpp.versions import Version


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """The first thing in a payload that its schema forbids.

    Attributes:
        code: The error code to answer with; `rpc.spell` gives the version's word.
        path: Place in the payload, `/meterValue/0/timestamp`; "" is the payload itself. Printable and cut.
        expected: What the schema asks for.
        got: What stands there, as JSON, printable and cut.
        reason: Word under which it is counted, one of `VIOLATION_REASONS`.
    """

    code: RpcCode
    path: str
    expected: str
    got: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path or 'payload'}: expected {self.expected}, got {self.got}"


class Validator:
    """The schema of one payload, strict and lenient.

    `strict` is the version's own. `lenient` also takes what real stations are known to send (see `loosen`); everything
    valid is lenient too. Only the first violation is looked for: one costs 7 us, and a frame can hold 60,000.
    """

    def __init__(self, schema: JsonSchema) -> None:
        self.schema = schema
        self._strict = _compile(schema)
        self._lenient: jsonschema_rs.Validator | None = None
        self.is_valid: Callable[[object], bool] = self._strict.is_valid
        """Return whether a decoded payload is what the schema says."""

    def is_lenient_valid(self, payload: object) -> bool:
        """Return whether a decoded payload is what the schema says, or what is known to be meant by it."""
        return self._loosened().is_valid(payload)

    def violation(self, payload: object) -> Violation | None:
        """Return the first thing that the schema forbids, None for a valid payload."""
        return _to_violation(_first(self._strict, payload))

    def reason(self, payload: object) -> str:
        """Return the word under which a payload that breaks its schema is counted; cheaper than `violation`."""
        error = _first(self._strict, payload)
        assert error is not None
        return _reason(error)

    def lenient_violation(self, payload: object) -> Violation | None:
        """Return the first thing that even the lenient schema forbids, None where it forbids nothing."""
        return _to_violation(_first(self._loosened(), payload))

    def _loosened(self) -> jsonschema_rs.Validator:
        if self._lenient is None:
            self._lenient = _compile(loosen(self.schema))
        return self._lenient


class Schemas:
    """The schemas of one version. Take them with `Schemas.of(version)`; each is compiled once per process."""

    def __init__(self, version: Version) -> None:
        self._version = version
        self._calls = FROM_STATION[version] | FROM_CENTRAL[version]
        self._sent = SENT_BY_STATION[version]
        self._requests: dict[str, Validator] = {}
        self._responses: dict[str, Validator] = {}

    @staticmethod
    @cache
    def of(version: Version) -> "Schemas":
        """Return the schemas of a version."""
        return Schemas(version)

    def request(self, action: str) -> Validator:
        """Return the validator of an action's request or SEND. Raises: KeyError: The version has no such action."""
        found = self._requests.get(action)
        if found is None:
            if action not in self._calls and action not in self._sent:
                raise KeyError(action)
            suffix = "" if self._version is Version.V16 or action in self._sent else "Request"
            found = self._requests[action] = Validator(load_schema(self._version, action + suffix))
        return found

    def response(self, action: str) -> Validator:
        """Return the validator of an action's response. Raises: KeyError: There is none."""
        found = self._responses.get(action)
        if found is None:
            if action not in self._calls:
                raise KeyError(action)
            found = self._responses[action] = Validator(load_schema(self._version, action + "Response"))
        return found


_DIRECTORIES: Final[Mapping[Version, str]] = {Version.V16: "v16", Version.V201: "v201", Version.V21: "v21"}


def load_schema(version: Version, name: str) -> JsonSchema:
    """Return a schema of the `ocpp` package by its file's name without ending; names come from `actions` only."""
    raw = files("ocpp").joinpath(_DIRECTORIES[version], "schemas", f"{name}.json").read_bytes()
    return msgspec.json.decode(raw.removeprefix(b"\xef\xbb\xbf"), type=JsonSchema)


def _compile(schema: JsonSchema) -> jsonschema_rs.Validator:
    draft = jsonschema_rs.Draft4Validator if "draft-04" in str(schema["$schema"]) else jsonschema_rs.Draft6Validator
    return draft(schema, validate_formats=True, formats=LENIENT_FORMATS, offline=True)


# ---- what is wrong ---------------------------------------------------------------------------------------------------

_CODES: Final[Mapping[str, tuple[RpcCode, str]]] = {
    "required": (RpcCode.OCCURRENCE_CONSTRAINT, "missing_field"),
    "minItems": (RpcCode.OCCURRENCE_CONSTRAINT, "item_count"),
    "maxItems": (RpcCode.OCCURRENCE_CONSTRAINT, "item_count"),
    "additionalProperties": (RpcCode.FORMAT_VIOLATION, "additional_property"),
    "type": (RpcCode.TYPE_CONSTRAINT, "wrong_type"),
    "enum": (RpcCode.PROPERTY_CONSTRAINT, "unknown_value"),
    "format": (RpcCode.PROPERTY_CONSTRAINT, "bad_format"),
    "maxLength": (RpcCode.PROPERTY_CONSTRAINT, "text_too_long"),
    "minimum": (RpcCode.PROPERTY_CONSTRAINT, "out_of_range"),
    "maximum": (RpcCode.PROPERTY_CONSTRAINT, "out_of_range"),
    "multipleOf": (RpcCode.PROPERTY_CONSTRAINT, "out_of_range"),
}
"""Keyword of JSON schema -> error code and reason. Occurrence constraints are about how often a field comes, property
constraints about its value, type constraints about its type; a field that does not exist is a format violation."""

_OTHER: Final = (RpcCode.FORMAT_VIOLATION, "other_violation")

_SAMPLE_FIELDS: Final = frozenset({"measurand", "context", "unit", "location", "format", "phase"})

VIOLATION_REASONS: Final = frozenset(
    {reason for _, reason in _CODES.values()}
    | {f"unknown_{name}" for name in _SAMPLE_FIELDS}
    | {"number_as_text", "text_as_number", "no_zone", "other_violation"}
)
"""Besides the words of `_CODES`: `unknown_unit` and the like for a sampled value's field, `number_as_text` for text
where a number belongs, `text_as_number` for a number where text belongs, `no_zone` for a time without one."""


def _first(validator: jsonschema_rs.Validator, payload: object) -> jsonschema_rs.ValidationError | None:
    try:
        validator.validate(payload)
    except jsonschema_rs.ValidationError as error:
        return error
    return None


def _to_violation(error: jsonschema_rs.ValidationError | None) -> Violation | None:
    """Return the violation that an error of jsonschema-rs means."""
    if error is None:
        return None
    code, _ = _CODES.get(error.kind.name, _OTHER)
    path = peer_text("".join(f"/{part}" for part in error.instance_path))
    expected, got = _expected_and_got(error)
    return Violation(code=code, path=path, expected=peer_text(expected), got=peer_text(got), reason=_reason(error))


def _expected_and_got(error: jsonschema_rs.ValidationError) -> tuple[str, str]:
    detail = error.kind.as_dict()
    match error.kind.name:
        case "required":
            return f"field {detail['property']}", "none"
        case "additionalProperties":
            return "no other field", _to_json(sorted(detail["unexpected"]))
        case "type":
            expected = " or ".join(detail["types"])
        case "enum":
            expected = f"one of {', '.join(map(str, detail['options']))}"
        case "format":
            expected = str(detail["format"])
        case keyword:
            expected = f"{keyword} {next(iter(detail.values()), '')}"
    return expected, _to_json(error.instance)


def _reason(error: jsonschema_rs.ValidationError) -> str:
    """Return the word to count an error under."""
    keyword = error.kind.name
    where = error.instance_path
    if keyword == "type":
        return _type_reason(error.kind.as_dict()["types"], error.instance)
    if keyword == "enum" and "sampledValue" in where and where[-1] in _SAMPLE_FIELDS:
        return f"unknown_{where[-1]}"
    if keyword == "format" and is_date_time(str(error.instance)):
        return "no_zone"
    return _CODES.get(keyword, _OTHER)[1]


def _type_reason(types: list[str], got: object) -> str:
    if isinstance(got, str) and ("integer" in types or "number" in types):
        return "number_as_text"
    is_number = isinstance(got, int | float) and not isinstance(got, bool)
    return "text_as_number" if is_number and "string" in types else "wrong_type"


def _to_json(value: object) -> str:
    return msgspec.json.encode(value).decode()

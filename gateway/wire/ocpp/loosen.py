"""A schema loosened for the dirt that real stations are known to send, and nothing else.

Owns what `lenient` means: fields that the schema does not have; texts up to four times their limit; unknown words for
what a sampled value is about; times without a zone; a number for a text and a text for a number in readings, ids and
serial numbers. That a field is missing, or is of a kind that nobody can read, stays a violation.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, cast

from gateway.core.limits import OCPP_TEXT_STRETCH_MAX, TEXT_CHARS_MAX

JsonSchema = dict[str, object]

_SAMPLE_ENUMS: Final = frozenset({"measurand", "context", "unit", "location", "format", "phase"})
"""Fields of a sampled value that stations fill with words of their own: 'Hz', 'Percentage', vendors' measurands."""

_TEXTS: Final = frozenset(
    [
        "value",
        "idTag",
        "parentIdTag",
        "idToken",
        "transactionId",
        "chargeBoxSerialNumber",
        "chargePointSerialNumber",
        "meterSerialNumber",
        "serialNumber",
        "iccid",
        "imsi",
        "firmwareVersion",
        "vendorErrorCode",
    ]
)
"""Texts that come as numbers: readings, and ids and serials of nothing but digits."""

_NUMBERS: Final = frozenset(["value", "connectorId", "transactionId", "reservationId", "evseId", "requestId"])
"""Numbers that come as texts."""

_NO_ZONE: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?", re.ASCII)
_ZONED: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII)
_INTEGER: Final = re.compile(r"-?\d{1,19}", re.ASCII)
_NUMBER: Final = re.compile(r"-?\d{1,19}(\.\d{1,19})?([eE][+-]?\d{1,2})?", re.ASCII)


def is_date_time(text: str) -> bool:
    """Return whether a text is a time with a zone (RFC 3339) or without one."""
    if _ZONED.fullmatch(text) is None and _NO_ZONE.fullmatch(text) is None:
        return False
    try:
        datetime.fromisoformat(text[:19])
    except ValueError:
        return False
    return True


LENIENT_FORMATS: Final[dict[str, Callable[[str], bool]]] = {
    "lenient-date-time": is_date_time,
    "integer-text": lambda text: _INTEGER.fullmatch(text) is not None,
    "number-text": lambda text: _NUMBER.fullmatch(text) is not None,
}
"""Formats of a loosened schema; they say nothing about values that are no text."""


def loosen(schema: JsonSchema) -> JsonSchema:
    """Return a loosened copy of a schema; `schema` is left as it is."""
    definitions = cast("dict[str, JsonSchema]", schema.get("definitions", {}))
    loose = _loosen_node(schema, definitions)
    return loose | {"definitions": {name: _loosen_node(node, definitions) for name, node in definitions.items()}}


def _loosen_node(node: JsonSchema, definitions: Mapping[str, JsonSchema]) -> JsonSchema:
    """Return a node and all below it loosened; references stay references, and are loosened where they point."""
    loose = dict(node)
    if "properties" in loose:
        properties = cast("dict[str, JsonSchema]", loose["properties"])
        is_sample = "measurand" in properties
        loose["properties"] = {
            name: _loosen_field(name, field, definitions, is_sample=is_sample) for name, field in properties.items()
        }
        loose.pop("additionalProperties", None)
    if isinstance(loose.get("items"), dict):
        loose["items"] = _loosen_node(cast("JsonSchema", loose["items"]), definitions)
    if loose.get("type") == "string" and "maxLength" in loose:
        loose["maxLength"] = cast("int", loose["maxLength"]) * OCPP_TEXT_STRETCH_MAX
    if loose.get("format") == "date-time":
        loose["format"] = "lenient-date-time"
    return loose


def _loosen_field(
    name: str, field: JsonSchema, definitions: Mapping[str, JsonSchema], *, is_sample: bool
) -> JsonSchema:
    """Return a field of an object loosened by its name."""
    target = definitions.get(str(field.get("$ref", "")).rpartition("/")[2], field)
    if is_sample and name in _SAMPLE_ENUMS and "enum" in target:
        return {"type": "string", "maxLength": TEXT_CHARS_MAX}
    loose = _loosen_node(field, definitions)
    kind = loose.get("type")
    if kind == "string" and name in _TEXTS and "enum" not in loose:
        loose["type"] = ["string", "number"]
    elif kind in ("integer", "number") and name in _NUMBERS:
        loose["type"] = [kind, "string"]
        loose["format"] = f"{kind}-text"
    return loose

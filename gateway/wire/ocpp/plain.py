"""Calls that are seen to be valid while they are read: one pass instead of three for nearly all that stations send.

Owns a type per action, made from its JSON schema, that takes nothing the schema forbids and not all that it allows:
what cannot be said by a type is left out and so declined. A frame that is declined is nothing yet: `rpc.parse` and
`schemas` look at it, and they alone say what is wrong.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, cast

import msgspec

from gateway.core.limits import OCPP_MESSAGE_ID_CHARS_MAX
from gateway.wire.ocpp.loosen import JsonSchema
from gateway.wire.ocpp.rpc import NOT_JSON

DATE_TIME: Final = (
    r"\A[12][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    r"|02-(?:0[1-9]|1[0-9]|2[0-8]))T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?"
    r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])\Z"
)
"""Times that every reader of RFC 3339 takes; leap days and leap seconds are left to the schema."""

_SILENT: Final = frozenset(
    [
        *("$schema", "$id", "id", "title", "description", "comment", "javaType", "default", "definitions"),
        *("additionalItems", "additionalProperties"),
    ]
)
"""Keywords that forbid nothing: the last two do only where `items` is an array, and in an object."""
_INT64: Final = (-(1 << 63), (1 << 63) - 1)
_HEAD_BYTES: Final = 128
"""The action of a call with an id of usual length ends within this."""


class NotPlain(Exception):
    """A schema that no type can say."""


class PlainCalls:
    """Calls of one version that need not be looked at twice.

    Args:
        schemas: Schema of each action.
        without: Fields of the payload that decide on the answer, by action; a call that has one is declined.
    """

    def __init__(self, schemas: Mapping[str, JsonSchema], *, without: Mapping[str, frozenset[str]]) -> None:
        self._schemas = {action.encode(): schema for action, schema in schemas.items()}
        self._without = without
        # Made when an action first comes: those of a version together would take a tenth of a second.
        self._decoders: dict[bytes, Callable[[bytes], _Call]] = {}

    def read(self, frame: bytes) -> "tuple[str, str] | None":
        """Return id and action of a CALL that is certainly valid in its frame, id and payload; None decides nothing."""
        # Where the action stands is a guess; the decoder wants it there.
        parts = frame[:_HEAD_BYTES].split(b'"', 4)
        if len(parts) != 5:
            return None
        action = parts[3]
        decode = self._decoders.get(action)
        if decode is None:
            if action not in self._schemas:
                return None
            decode = self._decoders[action] = self._decoder(action.decode())
        try:
            call = decode(frame)
        except NOT_JSON:
            return None
        return call.message_id, call.action

    def _decoder(self, action: str) -> "Callable[[bytes], _Call]":
        try:
            payload = to_type(self._schemas[action.encode()], without=self._without.get(action, frozenset()))
        except NotPlain:
            return _decline
        fields = [("action", Literal[action]), ("payload", payload)]
        call = msgspec.defstruct(
            f"{action}Call", fields, bases=(_Call,), array_like=True, forbid_unknown_fields=True, gc=False
        )
        return cast("Callable[[bytes], _Call]", msgspec.json.Decoder(call).decode)


class _Call(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """The first three elements of a CALL; each action adds its payload."""

    message_type: Literal[2]
    message_id: Annotated[str, msgspec.Meta(max_length=OCPP_MESSAGE_ID_CHARS_MAX)]
    action: str


def _decline(_frame: bytes) -> _Call:
    raise msgspec.DecodeError


# ---- types -----------------------------------------------------------------------------------------------------------


def to_type(schema: JsonSchema, *, without: frozenset[str] = frozenset()) -> Any:
    """Return a type that takes only what a schema of an object allows.

    Optional fields that no type can say are left out, and so are those `without`: an object that has them is declined.
    Raises: NotPlain: There is none.
    """
    definitions = _Definitions(cast("dict[str, JsonSchema]", schema.get("definitions", {})))
    return _object(schema, definitions, without)


class _Definitions:
    """The definitions of a schema, each made a type once."""

    def __init__(self, schemas: Mapping[str, JsonSchema]) -> None:
        self._schemas = schemas
        self._types: dict[str, Any] = {}

    def type(self, reference: str) -> Any:
        """Return the type of what a `$ref` names. Raises: NotPlain: There is none, or it holds itself."""
        name = reference.removeprefix("#/definitions/")
        if name not in self._types:
            self._types[name] = None
            self._types[name] = _type(self._schemas.get(name, {}), self)
        if self._types[name] is None:
            raise NotPlain
        return self._types[name]


def _type(node: JsonSchema, definitions: _Definitions) -> Any:
    """Return the type of a node."""
    match node.get("type"):
        case None if "$ref" in node:
            return definitions.type(cast("str", node["$ref"]))
        case "object":
            return _object(node, definitions, frozenset())
        case "array":
            _check(node, "items", "minItems", "maxItems")
            item: Any = _type(cast("JsonSchema", node.get("items")), definitions)
            lengths = msgspec.Meta(
                min_length=cast("int | None", node.get("minItems")), max_length=cast("int | None", node.get("maxItems"))
            )
            return Annotated[list[item], lengths]
        case "string":
            return _text(node)
        case "integer":
            _check(node, "minimum", "maximum")
            least, most = cast("int", node.get("minimum", _INT64[0])), cast("int", node.get("maximum", _INT64[1]))
            return Annotated[int, msgspec.Meta(ge=int(least), le=int(most))]
        case "number":
            _check(node)
            return float
        case "boolean":
            _check(node)
            return bool
        case _:
            raise NotPlain


def _type_or_none(node: JsonSchema, definitions: _Definitions) -> Any:
    try:
        return _type(node, definitions)
    except NotPlain:
        return None


def _object(node: JsonSchema, definitions: _Definitions, without: frozenset[str]) -> Any:
    _check(node, "properties", "required", "additionalProperties")
    if node.get("type") != "object" or node.get("additionalProperties") is not False:
        raise NotPlain
    required = cast("list[str]", node.get("required", []))
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    names: dict[str, str] = {}
    for name, child in cast("dict[str, JsonSchema]", node.get("properties", {})).items():
        kind = None if name in without else _type_or_none(child, definitions)
        if kind is None:
            if name in required:
                raise NotPlain
            continue
        attribute = f"field_{len(names)}"
        names[attribute] = name
        fields.append((attribute, kind) if name in required else (attribute, kind, None))
    return msgspec.defstruct("Payload", fields, rename=names, forbid_unknown_fields=True, kw_only=True, gc=False)


def _text(node: JsonSchema) -> Any:
    if "enum" in node:
        _check(node, "enum")
        words = cast("list[object]", node["enum"])
        if not all(isinstance(word, str) for word in words):
            raise NotPlain
        return Literal[tuple(words)]
    _check(node, "maxLength", "format")
    if node.get("format", "date-time") != "date-time":
        raise NotPlain
    pattern = DATE_TIME if "format" in node else None
    return Annotated[str, msgspec.Meta(max_length=cast("int | None", node.get("maxLength")), pattern=pattern)]


def _check(node: JsonSchema, *keywords: str) -> None:
    """Raise NotPlain if a node has keywords besides these that may forbid something."""
    if node.keys() - _SILENT - {"type", *keywords}:
        raise NotPlain

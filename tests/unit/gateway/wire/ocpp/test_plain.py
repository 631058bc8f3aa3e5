"""Which calls are read in one pass, and which types a schema becomes."""

import msgspec
import pytest

from gateway.wire.ocpp.answers import READ
from gateway.wire.ocpp.plain import NotPlain, PlainCalls, to_type
from gateway.wire.ocpp.schemas import Schemas
from gateway.wire.ocpp.versions import Version
from tests.unit.gateway.wire.ocpp.stations import CALLS

OPEN = {"type": "object", "properties": {"vendorId": {"type": "string"}}}
NUMBER = {"type": "number", "minimum": 0}


def plain(version: Version) -> PlainCalls:
    """Return what reads a version's calls, all whose answers are fixed."""
    return PlainCalls({action: Schemas.of(version).request(action).schema for action in CALLS[version]}, without=READ)


def closed(**properties: object) -> dict[str, object]:
    """Return the schema of an object that has these fields, none of which must come."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


@pytest.mark.parametrize("version", list(Version))
def test_a_valid_call_is_read_unless_its_answer_depends_on_it(version: Version) -> None:
    """However it is spaced; what is left is for the long way."""
    calls = plain(version)
    left = set()
    for action, payload in CALLS[version].items():
        frame = msgspec.json.encode([2, "m", action, payload])
        spaced = msgspec.json.format(frame, indent=2)
        assert calls.read(frame) == calls.read(spaced)
        if calls.read(frame) is None:
            left.add(action)
        else:
            assert calls.read(frame) == ("m", action)
    expected = {action for action, payload in CALLS[version].items() if READ.get(action, frozenset()) & payload.keys()}
    limited = {"BatterySwap", "OpenPeriodicEventStream"} if version is Version.V21 else set()
    assert expected <= left <= expected | limited


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"[2]",
        b'[3,"m",{}]',
        b'[3,"m","Heartbeat",{}]',
        b'[2,"m","Heartbeat",{}',
        b'[2,"m","Heartbeat",{},1]',
        b'[2,"m","Heartbeat",{"a":1}]',
        b'[2,1,"Heartbeat",{}]',
        b'[2,"m","Unknown",{}]',
        b'[2,"%s","Heartbeat",{}]' % (b"m" * 37),
        b'[2,"\xff","Heartbeat",{}]',
    ],
)
def test_what_is_no_valid_call_is_declined(frame: bytes) -> None:
    """Whatever is wrong with it."""
    assert plain(Version.V16).read(frame) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("connectorId", b"1.0"),
        ("connectorId", b'"1"'),
        ("connectorId", b"null"),
        ("meterValue", b"[]"),
        ("timestamp", b'"2024-01-01 00:00:00Z"'),
        ("timestamp", b'"2024-01-01T00:00:00"'),
        ("timestamp", b'"2023-02-29T00:00:00Z"'),
        ("timestamp", b'"2024-04-31T00:00:00Z"'),
        ("timestamp", b'"2024-01-01T00:00:60Z"'),
        ("timestamp", b'"2024-01-01T00:00:00Z\\n"'),
        ("value", b"1520"),
        ("measurand", b'"Energy"'),
        ("x", b"1"),
    ],
)
def test_a_value_that_the_schema_forbids_is_declined(field: str, value: bytes) -> None:
    """One that is of another kind, no time of this calendar, not in a list of words, or not to come at all."""
    fields = {"connectorId": b"1", "timestamp": b'"2024-01-01T00:00:00Z"', "value": b'"1"', "measurand": b'"SoC"'}
    said = {name: value if name == field else valid for name, valid in fields.items()}
    sample = b'{"value":%b,"measurand":%b}' % (said["value"], said["measurand"])
    meter = b'[{"timestamp":%b,"sampledValue":[%b]}]' % (said["timestamp"], sample)
    payload = b'"connectorId":%b,"meterValue":%b' % (said["connectorId"], value if field == "meterValue" else meter)
    extra = b',"x":%b' % value if field == "x" else b""
    assert plain(Version.V16).read(b'[2,"m","MeterValues",{%b%b}]' % (payload, extra)) is None


def test_a_text_is_as_long_as_its_schema_lets_it() -> None:
    """In characters, not bytes."""
    frame = '[2,"m","BootNotification",{{"chargePointVendor":"{}","chargePointModel":"M"}}]'
    assert plain(Version.V16).read(frame.format("é" * 20).encode()) == ("m", "BootNotification")
    assert plain(Version.V16).read(frame.format("é" * 21).encode()) is None


def test_a_field_that_no_type_can_say_is_declined_where_it_comes() -> None:
    """An open object, a bounded fraction, a field that the caller reads; without them the object is taken."""
    schema = closed(customData=OPEN, limit=NUMBER, idToken={"type": "string"}, seqNo={"type": "integer"})
    decode = msgspec.json.Decoder(to_type(schema, without=frozenset({"idToken"}))).decode
    decode(b'{"seqNo":1}')
    for field in (b"customData", b"limit", b"idToken"):
        with pytest.raises(msgspec.ValidationError, match="unknown field"):
            decode(b'{"%b":{}}' % field)


@pytest.mark.parametrize(
    "schema",
    [
        OPEN,
        {"type": "string"},
        closed(a=NUMBER) | {"required": ["a"]},
        closed(a={"$ref": "#/definitions/a"}) | {"required": ["a"]},
        closed(a={"$ref": "#/definitions/a"})
        | {"required": ["a"], "definitions": {"a": {"type": "array", "items": {"$ref": "#/definitions/a"}}}},
        closed(a={"enum": ["x", 1], "type": "string"}) | {"required": ["a"]},
        closed(a={"type": "string", "format": "uri"}) | {"required": ["a"]},
        closed() | {"anyOf": []},
    ],
)
def test_a_schema_that_asks_for_more_has_no_type(schema: dict[str, object]) -> None:
    """Anything but closed objects of the plain kinds, or where a field that must come is of none."""
    with pytest.raises(NotPlain):
        to_type(schema)

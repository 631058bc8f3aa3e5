"""What is read in one pass is what the long way would have made of it: the same answer, journal entry and counts."""

import json
from typing import Any

import jsonschema_rs
import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.wire.ocpp.plain import DATE_TIME, PlainCalls
from gateway.wire.ocpp.session import Strictness
from gateway.wire.ocpp.versions import Version
from tests.property.ocpp_strategies import Payload, calls, spoiled
from tests.unit.gateway.wire.ocpp.stations import CALLS, Station

HOLE = "@"
RAW = st.sampled_from(
    [
        *("null", "true", "[]", "{}", "{" * 40, "0", "-0", "-1", "01", "1.0", "1e0", "1E5", "1e400", "NaN"),
        *("9223372036854775808", "12345678901234567890123", "1.7976931348623157e309"),
        *('"\\ud800"', '"\\u0000"', '""', '"Accepted"', f'"{"a" * 26}"', f'"{"é" * 51}"'),
        *('"2024-01-01 00:00:00Z"', '"2024-02-29T00:00:00Z"', '"2024-01-01T00:00:00Z\\n"'),
        *('"2024-01-01T00:00:00+0000"', '"2024-01-01t00:00:00z"', '"2024-01-01T00:00:00"'),
    ]
)
CALLS_OF_ALL = st.sampled_from(
    [(v, action, payload) for v, known in CALLS.items() for action, payload in known.items()]
)


def with_hole(draw: st.DrawFn, node: Any) -> Any:
    """Return a copy with `HOLE` in the place of one value below, or beside the fields of an object."""
    if isinstance(node, dict) and node and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(node)))
        return node | {key: with_hole(draw, node[key])}
    if isinstance(node, dict) and draw(st.booleans()):
        return node | {draw(st.sampled_from(["customData", "idToken", "idTag", "data", "x"])): HOLE}
    if isinstance(node, list) and node:
        return [with_hole(draw, node[0]), *node[1:]]
    return HOLE


@st.composite
def odd_frames(draw: st.DrawFn) -> tuple[Version, bytes]:
    """Return the frame of a valid call of any kind with one value exchanged for raw JSON, or not even that."""
    version, action, payload = draw(CALLS_OF_ALL)
    frame = with_hole(draw, [2, "m-1", action, payload])
    text = json.dumps(frame, separators=draw(st.sampled_from([(",", ":"), (", ", ": ")])))
    return version, text.replace(f'"{HOLE}"', draw(RAW)).encode()


@st.composite
def spoiled_frames(draw: st.DrawFn) -> tuple[Version, bytes]:
    """Return the frame of a generated call, spoiled or not."""
    version, action, payload = draw(calls)
    said: Payload = draw(spoiled(payload)) if draw(st.booleans()) else payload
    return version, msgspec.json.encode([2, draw(st.sampled_from(["m", "é", "m" * 36, "m" * 37])), action, said])


@given(st.one_of(odd_frames(), spoiled_frames()), st.sampled_from(list(Strictness)))
@example((Version.V16, b'[2,"m","Heartbeat",{}] '), Strictness.STRICT)
@example((Version.V16, b'[2,"m","Heartbeat",{},1]'), Strictness.LENIENT)
@example((Version.V16, b'[2,"m","Heart\\u0062eat",{}]'), Strictness.LENIENT)
@example((Version.V16, b'[2,"m","StatusNotification",{"connectorId":"1","connectorId":1}]'), Strictness.AUDIT)
def test_one_pass_and_the_long_way_agree(said: tuple[Version, bytes], strictness: Strictness) -> None:
    """On any frame, valid or not, twice."""
    version, frame = said
    short, long = Station(version, strictness=strictness), Station(version, strictness=strictness)
    long.session._read_plain = PlainCalls({}, without={}).read
    for _ in range(2):
        assert short.says(frame) == long.says(frame)
    assert short.counts == long.counts


@given(st.from_regex(DATE_TIME))
def test_a_plain_time_is_one_by_the_schema(text: str) -> None:
    """The pattern takes no text that the format forbids."""
    schema = {"type": "string", "format": "date-time"}
    assert jsonschema_rs.Draft4Validator(schema, validate_formats=True).is_valid(text)

"""The OCPP session against arbitrary bytes, and against the schemas as another validator reads them."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft4Validator, Draft6Validator

from gateway.wire.ocpp.rpc import FrameFault, parse
from gateway.wire.ocpp.schemas import Schemas, load_schema
from gateway.wire.ocpp.session import Answer, Append, CommandAnswered, Ignored, Repeat, Strictness
from gateway.wire.ocpp.versions import Version
from tests.property.ocpp_strategies import Payload, calls, json_values, spoiled
from tests.unit.gateway.wire.ocpp.stations import Station

RECEIVED = (Answer, Append, CommandAnswered, Ignored, Repeat)
STRICTNESSES = st.sampled_from(list(Strictness))
VERSIONS = st.sampled_from(list(Version))
FRAMES = st.one_of(
    st.binary(max_size=200),
    json_values.map(msgspec.json.encode),
    st.lists(json_values, max_size=6).map(lambda rest: msgspec.json.encode([2, *rest])),
    st.tuples(st.integers(2, 6), st.sampled_from(["c1", "m"]), json_values, json_values).map(msgspec.json.encode),
    st.tuples(st.just(3), st.just("c1"), json_values).map(msgspec.json.encode),
    st.text(max_size=50).map(lambda text: b'[2,"m","MeterValues",' + text.encode("utf-8", "surrogatepass") + b"]"),
)


def oracle(version: Version, action: str) -> Draft4Validator | Draft6Validator:
    """Return the validator of the `jsonschema` package for a request; it does not look at formats."""
    schema = load_schema(version, action if version is Version.V16 else f"{action}Request")
    return (Draft4Validator if "draft-04" in str(schema["$schema"]) else Draft6Validator)(schema)


@given(FRAMES, VERSIONS, STRICTNESSES)
def test_no_bytes_make_a_session_raise(frame: bytes, version: Version, strictness: Strictness) -> None:
    """Whatever comes is one of the five things to do, and all that is sent is JSON."""
    station = Station(version, strictness=strictness)
    station.session.call("c1", "ClearCache", b"{}")
    received = station.says(frame)
    assert isinstance(received, RECEIVED)
    sent = (getattr(received, name, None) for name in ("frame", "answer", "reply"))
    for one in sent:
        assert one is None or isinstance(msgspec.json.decode(one), list)


@given(st.binary(max_size=300), VERSIONS)
def test_bytes_are_a_message_or_a_fault(frame: bytes, version: Version) -> None:
    """`parse` raises nothing else, and an answer to the sender has an id to go to."""
    try:
        parse(frame, version)
    except FrameFault as fault:
        assert None is fault.message_id or fault.answers is None


@given(calls, STRICTNESSES)
def test_a_valid_call_is_taken_and_its_answer_is_valid(
    call: tuple[Version, str, Payload], strictness: Strictness
) -> None:
    """In every strictness, without a count, and by both validators."""
    version, action, payload = call
    assert oracle(version, action).is_valid(payload)
    station = Station(version, strictness=strictness)
    received = station.calls(action, payload)
    assert isinstance(received, Answer if action == "Heartbeat" else Append), received
    answer = received.frame if isinstance(received, Answer) else received.answer
    assert answer is not None
    message_type, message_id, said = msgspec.json.decode(answer)
    assert (3, "m1") == (message_type, message_id)
    assert None is Schemas.of(version).response(action).violation(said)
    assert Draft6Validator(load_schema(version, f"{action}Response")).is_valid(said)
    assert {} == station.counts


@given(st.data(), calls)
def test_strict_takes_nothing_that_the_schema_forbids(data: st.DataObject, call: tuple[Version, str, Payload]) -> None:
    """A payload with one place changed is refused if another validator says so too."""
    version, action, payload = call
    changed = data.draw(spoiled(payload))
    received = Station(version, strictness=Strictness.STRICT).calls(action, changed)
    if not oracle(version, action).is_valid(changed):
        assert isinstance(received, Answer)
        assert 4 == msgspec.json.decode(received.frame)[0]


@given(st.data(), calls)
def test_each_strictness_takes_all_that_the_stricter_one_takes(
    data: st.DataObject, call: tuple[Version, str, Payload]
) -> None:
    """Audit takes everything; what is taken and breaks its schema is counted once."""
    version, action, payload = call
    changed = data.draw(spoiled(payload))
    is_taken = {}
    for strictness in Strictness:
        station = Station(version, strictness=strictness)
        received = station.calls(action, changed)
        frame = received.frame if isinstance(received, Answer) else b"[3]"
        is_taken[strictness] = msgspec.json.decode(frame)[0] == 3
        is_valid = is_taken[Strictness.STRICT]
        assert (0 if is_valid else 1) == sum(station.counts.values())
    assert is_taken[Strictness.STRICT] <= is_taken[Strictness.LENIENT]
    assert is_taken[Strictness.AUDIT]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from(["calls", "calls", "settles", "fails"])))
)
def test_a_durable_call_is_never_appended_twice_and_no_other_is_answered_for_it(
    steps: list[tuple[int, int, str]],
) -> None:
    """Any order of calls, resends, id reuse and answers of the disk against a list of what is on disk.

    The disk speaks in order of the appends. A resend of what is durable is not appended while it is the newest with its
    id, and was alone with it; an answer is never given for content that is not durable.
    """
    station = Station()
    waiting: list[tuple[str, int, bytes]] = []
    durable: list[tuple[str, int, bytes]] = []
    newest: dict[str, tuple[int, bool]] = {}  # id -> content of its newest append, and whether it is durable
    for number, content, step in steps:
        message_id = f"m{number}"
        if step == "calls":
            received = station.calls("Authorize", {"idTag": str(content)}, message_id=message_id)
            if isinstance(received, Append):
                assert (content, True) != newest.get(message_id)
                assert received.answer is not None
                is_alone = all(message_id != one[0] for one in waiting)
                newest[message_id] = (content if is_alone else -1, False)
                waiting.append((message_id, content, received.answer))
            elif isinstance(received, Answer):
                assert (message_id, content, received.frame) in durable
            else:
                assert Repeat(message_id) == received
                assert (message_id, content) in [one[:2] for one in waiting]
        elif waiting:
            settled = waiting.pop(0)
            if step == "settles":
                station.session.settled(settled[0])
                durable.append(settled)
                newest[settled[0]] = (newest[settled[0]][0], True)
            else:
                station.session.failed(settled[0])
                newest[settled[0]] = (-1, False)

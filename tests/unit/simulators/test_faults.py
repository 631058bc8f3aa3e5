"""Faults: the same seed gives the same mishaps, and each mishap is what its outcome says."""

import json
import random
from collections import Counter

import msgpack
import pytest

from simulators.faults import ClockSkew, Duplicate, FaultRates, Faults, Garbage, Hold
from simulators.message import Encoding, Message, message
from simulators.truth import ONE_DUPLICATE, ONE_ROW, Outcome, one_reject

EVERYTHING = FaultRates(garbage=0.2, skew=0.1, duplicate=0.1, disorder=0.1, late=0.05)


def honest(n: int, encoding: Encoding = "json", channel: str = "telemetry") -> Message:
    reading: dict[str, object] = {
        "ts": f"2026-11-22T10:{n // 60 % 60:02d}:{n % 60:02d}.250000Z",
        "device_id": "bus-1",
        "soc_pct": 50.0,
        "speed_kmh": 30.0,
        "odometer_km": 1000.0,
    }
    if channel == "event":
        reading = {"ts": reading["ts"], "device_id": "bus-1", "kind": "dtc", "code": f"P{n:04d}"}
    return message(channel, reading, encoding)


def through(faults: Faults, count: int, encoding: Encoding = "json") -> list[Message]:
    return [out for n in range(count) for out in faults.apply(honest(n, encoding))] + faults.flush()


def test_without_rates_nothing_changes():
    """A fleet without faults sends what its vehicles say."""
    assert through(Faults(FaultRates(), seed=1), 50) == [honest(n) for n in range(50)]


def test_same_seed_gives_the_same_messages_and_another_seed_others():
    """A scenario is repeated by its seed."""
    first, again, other = (through(Faults(EVERYTHING, seed=seed), 300) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_every_honest_message_yields_one_row_or_one_reject_and_nothing_is_lost(encoding: Encoding):
    """However faults combine, outcomes without duplicates add up to the honest messages."""
    out = through(Faults(EVERYTHING, seed=3), 2_000, encoding)
    due = Counter(out_.outcome.rows + sum(out_.outcome.rejects.values()) for out_ in out)
    repeated = sum(out_.outcome.duplicates for out_ in out)
    assert due[1] == 2_000
    assert len(out) == 2_000 + repeated
    assert repeated > 100


def test_no_two_messages_that_are_not_duplicates_are_the_same_bytes():
    """Otherwise the second would count as a duplicate of the first, and the truth would be wrong."""
    out = through(Faults(EVERYTHING, seed=4), 3_000)
    originals = [(m.channel, m.payload) for m in out if not m.outcome.duplicates]
    assert len(set(originals)) == len(originals)


def test_duplicate_is_the_same_bytes_once_more():
    """And its outcome is to be dropped, whatever the first one's was."""
    fault = Duplicate(1.0, random.Random(1))
    first, again = fault.apply(honest(1))
    assert first == honest(1)
    assert (again.payload, again.outcome, again.faults) == (first.payload, ONE_DUPLICATE, ("duplicate",))


def test_held_message_is_overtaken_by_as_many_as_asked():
    """With two to two messages behind, the order is rotated by two."""

    class Once(random.Random):
        getrandbits = random.Random.getrandbits  # or integers would be made from random(), which is constant here

        def random(self) -> float:
            self.calls = getattr(self, "calls", 0) + 1
            return 0.0 if self.calls == 1 else 1.0

    fault = Hold("disorder", 0.5, behind_min=2, behind_max=2, random_=Once(1))
    out = [m.reading["ts"] for n in range(4) for m in fault.apply(honest(n))]
    assert out == [honest(n).reading["ts"] for n in (1, 2, 0, 3)]


def test_hold_gives_everything_back_at_the_end():
    """What is late when the run ends is sent, not lost."""
    fault = Hold("late", 1.0, behind_min=60, behind_max=300, random_=random.Random(1))
    assert [m for n in range(10) for m in fault.apply(honest(n))] == []
    assert [m.payload for m in fault.flush()] == [honest(n).payload for n in range(10)]
    assert fault.flush() == []


def test_skewed_clock_ahead_is_flagged_and_one_behind_is_believed():
    """Both stay rows; only the first is to be clamped."""
    fault = ClockSkew(1.0, random.Random(1))
    seen = {m.faults[0]: m for n in range(50) for m in fault.apply(honest(n))}
    assert seen["clock_ahead"].outcome == Outcome(rows=1, flags=("clock_clamped",))
    assert seen["clock_behind"].outcome == ONE_ROW
    assert str(seen["clock_ahead"].reading["ts"]) > "2026-11-22T11"
    assert str(seen["clock_behind"].reading["ts"]) < "2026-11-22T10"


def garbage(kind: str, encoding: Encoding, channel: str = "telemetry") -> Message:
    fault = Garbage(1.0, random.Random(1))
    for n in range(500):
        [ruined] = fault.apply(honest(n, encoding, channel))
        if ruined.faults == (kind,):
            return ruined
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["truncated", "noise"])
def test_broken_json_is_no_json(kind: str):
    """The outcome says so."""
    ruined = garbage(kind, "json")
    with pytest.raises(ValueError, match=r"."):
        json.loads(ruined.payload)
    assert ruined.outcome == one_reject("json")


def test_broken_messagepack_is_no_messagepack():
    """It begins like a map, so it is refused as MessagePack."""
    ruined = garbage("truncated", "msgpack")
    with pytest.raises(ValueError, match=r"."):
        msgpack.unpackb(ruined.payload)
    assert ruined.payload[0] & 0xF0 == 0x80
    assert ruined.outcome == one_reject("msgpack")


@pytest.mark.parametrize(
    ("kind", "channel", "key", "value", "outcome"),
    [
        ("text_for_number", "telemetry", "soc_pct", "half", one_reject("type")),
        ("out_of_range", "telemetry", "soc_pct", 131.0, Outcome(rows=1, flags=("range:soc_pct",))),
        ("stranger", "telemetry", "device_id", "somebody-else", one_reject("identity")),
        ("no_kind", "event", "kind", None, one_reject("required")),
        ("no_time", "telemetry", "ts", None, one_reject("time")),
    ],
)
@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_ruined_field_is_in_the_bytes(
    encoding: Encoding, kind: str, channel: str, key: str, value: object, outcome: Outcome
):
    """Whoever decodes the payload finds what the fault's name says."""
    ruined = garbage(kind, encoding, channel)
    decode = json.loads if encoding == "json" else msgpack.unpackb
    assert decode(ruined.payload).get(key) == value
    assert ruined.outcome == outcome


def test_time_that_does_not_exist_is_the_ninetieth_of_february():
    """As the recorded trips have it from a receiver before its fix."""
    ruined = garbage("no_such_time", "json")
    assert str(ruined.reading["ts"]).startswith("2032-02-90T10:")
    assert ruined.outcome == one_reject("time")


def test_lost_message_is_honest_on_a_channel_nobody_knows():
    """Its bytes are good; its topic is not."""
    ruined = garbage("unknown_channel", "json")
    assert (ruined.channel, ruined.outcome) == ("nowhere", one_reject("unknown_channel"))
    assert json.loads(ruined.payload) == ruined.reading

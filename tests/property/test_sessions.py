"""Sessions are what the journal says: how it is cut, and in which order and how often its words came, does not show."""

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.processors.stages.session_frames import (
    Said,
    answer,
    asset,
    battery,
    event,
    meter,
    newest,
    run,
    start,
    status,
    stop,
    tick,
)

OF_ORDER = {"late_start", "late_stop", "resumed"}
"""Flags that say in which order things came, as they should."""
OF_ARRIVAL = {"revision", "offset", "received_at"}

TIMES = st.integers(0, 100).map(lambda n: 30 * n)
TRANSACTIONS = st.sampled_from(["1", "2", "-1"])
MESSAGES = st.sampled_from(["m1", "m2"])
CONNECTORS = st.sampled_from(["1", "2"])
REGISTERS = st.sampled_from([0.0, 1000.0, 1500.0, 2000.0, 910_000.0])
WORDS: list[st.SearchStrategy[Said]] = [
    st.builds(start, TIMES, REGISTERS, message=MESSAGES, connector=CONNECTORS),
    st.builds(answer, TIMES, TRANSACTIONS, message=MESSAGES),
    st.builds(stop, TIMES, REGISTERS, TRANSACTIONS),
    st.builds(meter, TIMES, REGISTERS, transaction=st.sampled_from(["1", "2", None]), connector=CONNECTORS),
    st.builds(status, TIMES, st.sampled_from(["Available", "Charging", "Faulted"]), connector=CONNECTORS),
    st.builds(battery, TIMES, st.sampled_from([6.0, 60.0]), device=st.sampled_from(["TAG", "ev-2"])),
    st.builds(lambda tokens: asset("vehicle", "ev-2", id_tokens=tokens), st.sampled_from(["TAG", "other"])),
    st.builds(
        lambda at, kind, seq: event(kind, at, version="2.0.1", transaction="t", seq_no=seq, connector="1/1"),
        TIMES,
        st.sampled_from(["start", "update", "end"]),
        st.integers(0, 3),
    ),
    st.builds(lambda: tick(0)),
]


@st.composite
def journals(draw: st.DrawFn) -> list[Said]:
    """Draw words of two connectors and two vehicles, with receipts that ascend by up to 20 min."""
    entries, received = [], 0
    for one in draw(st.lists(st.one_of(WORDS), min_size=5, max_size=40)):
        received += draw(st.sampled_from([1, 20, 70, 1200]))
        entries.append(Said(one | {"received": received}))
    return entries


@settings(max_examples=60, deadline=None)
@given(journals(), st.lists(st.integers(0, 40), max_size=8))
def test_cuts_and_restarts_do_not_show(entries: list[Said], cuts: list[int]) -> None:
    """Any cut into batches, with the state as bytes between them, gives exactly the same rows."""
    expected, _ = run(entries)
    actual, _ = run(entries, cuts, restart=True)
    assert expected.equals(actual)


def _session_16(draw: st.DrawFn, number: int, connector: str, begin: float) -> tuple[list[Said], dict[str, Any]]:
    """Draw all words of one 1.6 session, and what it must come to."""
    transaction, message = str(number), f"m{number}"
    register = float(draw(st.integers(0, 10**7)))
    gains = draw(st.lists(st.integers(0, 800), min_size=1, max_size=6))
    words = [
        start(begin, register, message=message, connector=connector, token=f"T{number}"),
        answer(begin, transaction, message=message, connector=connector),
    ]
    said = register
    for i, gain in enumerate(gains, start=1):
        said += gain
        named = transaction if draw(st.booleans()) else None
        words.append(
            meter(begin + 120 * i, said, gain * 0.03, transaction=named, connector=connector, soc_pct=float(i))
        )
    end = begin + 120 * (len(gains) + 1)
    words.append(stop(end, said + 100, transaction, id_token=f"T{number}"))
    return words, {"energy_wh": said + 100 - register, "duration_s": end - begin, "status": "completed"}


def _session_2(draw: st.DrawFn, number: int, connector: str, begin: float) -> tuple[list[list[Said]], dict[str, Any]]:
    """Draw all messages of one 2.x session, and what it must come to."""
    transaction = f"t{number}"
    register = float(draw(st.integers(0, 10**7)))
    gains = draw(st.lists(st.integers(0, 800), min_size=1, max_size=6))
    kinds = ["start", *["update"] * len(gains), "end"]
    messages = []
    said = register
    for i, (kind, gain) in enumerate(zip(kinds, [0, *gains, 50], strict=True)):
        said += gain
        at = begin + 120 * i
        named = {"transaction": transaction, "version": "2.0.1", "connector": f"{connector}/1"}
        messages.append(
            [
                event(kind, at, seq_no=i, token=f"T{number}", stop_reason="Local" if kind == "end" else None, **named),
                meter(at, said, transaction=transaction, version="2.0.1", connector=connector),
            ]
        )
    return messages, {"energy_wh": said - register, "duration_s": 120.0 * (len(kinds) - 1), "status": "completed"}


@st.composite
def told_sessions(draw: st.DrawFn) -> tuple[list[list[Said]], list[dict[str, Any]]]:
    """Draw the messages of one to four sessions on two connectors in their order, and what they must come to."""
    is_16 = draw(st.booleans())
    messages: list[list[Said]] = []
    expected = []
    free = {"1": 0.0, "2": 30.0}
    for number in range(1, draw(st.integers(1, 4)) + 1):
        connector = draw(st.sampled_from(["1", "2"]))
        begin = free[connector] + draw(st.sampled_from([1, 600]))
        if is_16:
            words, session = _session_16(draw, number, connector, begin)
            messages += [[word] for word in words]
        else:
            some, session = _session_2(draw, number, connector, begin)
            messages += some
        free[connector] = begin + session["duration_s"]
        expected.append((begin, session))
    messages.sort(key=lambda rows: rows[0]["at"])
    return messages, [session for _, session in sorted(expected, key=lambda one: one[0])]


def _received(messages: list[list[Said]], after: int = 10_000) -> list[list[Said]]:
    """Return the messages received one a second, then ticks for an hour."""
    said = [[Said(row | {"received": after + i}) for row in rows] for i, rows in enumerate(messages)]
    return [*said, *([tick(after + 60 * minute)] for minute in range(10, 70))]


def _content(entries: list[list[Said]], cuts: list[int]) -> list[dict[str, Any]]:
    rows, _ = run(entries, cuts, restart=True)
    shown = []
    for session in newest(rows):
        flags = {*session.get("flags", "").split(",")} - OF_ORDER - {""}
        if "merged" not in flags:
            shown.append({k: v for k, v in session.items() if k not in OF_ARRIVAL} | {"flags": sorted(flags)})
    return shown


@settings(max_examples=60, deadline=None)
@given(told_sessions(), st.randoms(use_true_random=False), st.lists(st.integers(0, 60), max_size=4))
def test_any_order_repetition_and_cut_gives_the_same_sessions(
    told: tuple[list[list[Said]], list[dict[str, Any]]], rng: random.Random, cuts: list[int]
) -> None:
    """Words of several sessions, shuffled and some of them repeated, give the sessions of the sorted run."""
    messages, truth = told
    in_order = _content(_received(messages), [])
    assert truth == [{name: session[name] for name in truth[0]} for session in in_order]
    shuffled = [*messages, *rng.choices(messages, k=rng.randrange(6))]
    rng.shuffle(shuffled)
    assert in_order == _content(_received(shuffled), cuts)

"""Commands to chargers where something is full, fails or starts again."""

import asyncio
from typing import Any

import msgspec
import pytest

from gateway.core.command_records import OUTCOMES, CommandEvent, CommandStep, happened, read_entries, read_outcomes
from gateway.core.errors import JournalBroken, JournalFull, LimitExceeded, PeerError
from gateway.core.ids import DeviceId
from gateway.core.limits import (
    COMMAND_BYTES_MAX,
    COMMAND_DEVICES_MAX,
    COMMANDS_QUEUED_BYTES_MAX,
    COMMANDS_QUEUED_MAX,
    LATE_ANSWERS_MAX,
)
from gateway.core.records import Route
from gateway.edge.commands import CommandQueue
from tests.unit.gateway.edge.charger_bench import CP1, CP2, NO, SOFT, TENANT, YES, Bench, Counts, S, run


# ---- bounds ----------------------------------------------------------------------------------------------------------
def test_queue_of_a_charger_is_bounded() -> None:
    """The next one is refused, also while the others become durable; nobody's command is dropped for it."""

    async def drive(bench: Bench) -> None:
        bench.station()
        tasks = [asyncio.ensure_future(bench.submit()) for _ in range(COMMANDS_QUEUED_MAX)]
        await asyncio.sleep(0)
        submitted = await bench.submit_many([CP1, CP2])
        assert [p.reason for p in submitted.refused.values()] == ["queue_full"]
        assert [*submitted.request_ids] == [CP2]
        await asyncio.wait(tasks)
        assert bench.counts["queue_full"] == 1

    run(drive)


def test_all_open_commands_together_are_bounded() -> None:
    """Past the bound `submit` refuses until some have their outcome."""

    async def drive(bench: Bench) -> None:
        payload = b'{"vendorId":"' + b"x" * 100 + b'","data":"' + b"y" * (COMMAND_BYTES_MAX - 200) + b'"}'
        n = COMMANDS_QUEUED_BYTES_MAX // len(payload) + 1
        names = [DeviceId(f"cp-{i}") for i in range(n)]
        options = {"action": "DataTransfer", "payload": payload, "expiry_s": 60, "redeliverable": True}
        submitted = await bench.submit_many(names, **options)
        assert {p.reason for p in submitted.refused.values()} == {"full"}
        bench.clock.advance(60)
        await bench.commit()
        assert (await bench.submit_many([CP1], **options)).refused == {}

    run(drive)


def test_late_answers_known_are_bounded() -> None:
    """Without payloads, the oldest is forgotten."""

    async def drive(bench: Bench) -> None:
        names = [DeviceId(f"cp-{i}") for i in range(LATE_ANSWERS_MAX)]
        for name in names:
            bench.station(name)
        await bench.submit_many(names)
        for _ in range(LATE_ANSWERS_MAX // 10):
            await asyncio.sleep(0)
        station = bench.station()
        request_id = await bench.submit()
        bench.clock.advance(30)
        timed_out = bench.commands._delivery._timed_out
        assert (len(timed_out), request_id in timed_out) == (LATE_ANSWERS_MAX, True)
        assert {command.stored.payload for command in timed_out.values()} == {b""}
        assert not station.is_calling

    run(drive)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": 1e6}, "timeout_s"),
        ({"expiry_s": -1}, "expiry"),
        ({"expiry_s": 1e9}, "expiry"),
        ({"by": ""}, "by"),
        ({"by": "a\nb"}, "by"),
        ({"payload": b"["}, "payload"),
        ({"payload": b"[]"}, "payload"),
        ({"payload": b"\xff"}, "payload"),
        ({"payload": b" " * (COMMAND_BYTES_MAX + 1)}, "bytes"),
        ({"action": "x" * 1000}, "unknown_action"),
        ({"device_ids": []}, "devices"),
        ({"device_ids": ["x"] * (COMMAND_DEVICES_MAX + 1)}, "devices"),
    ],
)
def test_unusable_command_is_refused_before_anything_is_written(options: dict[str, Any], reason: str) -> None:
    """With a word to count it by and a mend."""

    async def drive(bench: Bench) -> None:
        with pytest.raises(PeerError) as caught:
            await bench.submit_many(options.pop("device_ids", [CP1]), **options)
        assert (caught.value.reason, bench.journal.end_offset()) == (reason, 0)
        assert 0 < len(caught.value.detail) < 2_000

    run(drive)


@pytest.mark.parametrize("device_id", ["", "a/b", "+", "#"])
def test_unusable_name_is_refused(device_id: str) -> None:
    """Before anything is written."""

    async def drive(bench: Bench) -> None:
        with pytest.raises(PeerError):
            await bench.commands.submit(
                tenant=TENANT, device_id=DeviceId(device_id), action="Reset", payload=SOFT, by="ann"
            )
        assert bench.journal.end_offset() == 0

    run(drive)


# ---- disk ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("error", [JournalFull("no space"), JournalBroken("fdatasync")])
def test_command_that_is_not_durable_is_not_sent(error: JournalFull | JournalBroken) -> None:
    """The caller hears why, and nothing is left behind."""

    async def drive(bench: Bench) -> None:
        station = bench.station()
        bench.journal.fail(error)
        with pytest.raises(type(error)):
            await bench.submit()
        assert (station.calls, bench.commands.open_commands, bench.audited()) == ([], 0, [])

    run(drive)


def test_outcome_is_recorded_when_the_disk_has_room_again() -> None:
    """Until then the command is open; what waits behind it goes out all the same."""

    async def drive(bench: Bench) -> None:
        station = bench.station()
        first, second = await bench.submit(), await bench.submit()
        bench.journal.fail(JournalFull("no space"))
        station.answer()
        assert (await bench.step(first), station.asked) == (None, [first, second])
        bench.clock.advance(1)
        assert await bench.step(first) is None
        bench.journal.fail(None)
        bench.clock.advance(1)
        assert await bench.step(first) == "accepted"
        assert bench.counts["not_durable"] >= 2

    run(drive)


def test_audit_that_is_not_durable_is_counted_and_stops_nothing() -> None:
    """The commands journal has it."""

    async def drive(bench: Bench) -> None:
        station = bench.station()
        bench.ingest.fail(JournalBroken("fdatasync"))
        request_id = await bench.submit()
        station.answer()
        assert await bench.step(request_id) == "accepted"
        await bench.commit()
        assert (bench.counts["audit_not_durable"], bench.audited()) == (3, [])

    run(drive)


# ---- restart ---------------------------------------------------------------------------------------------------------
def test_restart_ends_what_was_open() -> None:
    """Sent or not: nobody knows what the charger did."""

    async def drive(bench: Bench) -> None:
        station = bench.station()
        done, sent, waiting = [await bench.submit() for _ in range(3)]
        station.answer()
        await bench.commit()
        again = await bench.restarted()
        for request_id in (sent, waiting):
            expected = CommandEvent(CommandStep.DISCONNECTED, detail="the gateway restarted")
            assert await again.outcome(request_id) == expected
        assert str(read_outcomes(again.journal, [done])[done].event.step) == "accepted"
        assert again.station(generation=2).calls == []

    run(drive)


def test_restart_lets_redeliverable_commands_wait_again() -> None:
    """In order, until they expire; what has expired meanwhile says so."""

    async def drive(bench: Bench) -> None:
        bench.station()
        short = await bench.submit(expiry_s=10, redeliverable=True)
        long = [await bench.submit(expiry_s=60, redeliverable=True) for _ in range(2)]
        bench.clock.now_s += 20
        again = await bench.restarted()
        assert await again.step(short) == "expired"
        station = again.station(generation=2)
        station.answer()
        assert station.asked == long
        again.clock.advance(40)
        assert [await again.step(request_id) for request_id in long] == ["accepted", "timeout"]

    run(drive)


def test_every_command_has_one_outcome_after_any_restart() -> None:
    """Whatever part of the journal a crash left, and also after a second one."""

    async def drive(bench: Bench) -> None:
        station = bench.station()
        ids = [await bench.submit() for _ in range(4)]
        station.answer()
        await bench.commit()
        station.answer(NO)
        station.disconnect()  # of which nothing becomes durable
        again = await (await bench.restarted()).restarted()
        ended = [
            str(entry.envelope.route.channel)
            for entry in read_entries(again.journal)
            if (event := happened(entry)) is not None and event.step in OUTCOMES
        ]
        assert sorted(ended) == sorted(ids)

    run(drive)


def test_entries_of_the_mqtt_queue_are_passed_over_and_pass_over_ours() -> None:
    """Two kinds of commands share a journal."""

    async def drive(bench: Bench) -> None:
        queue = CommandQueue(journal=bench.journal, now_ns=bench.clock.now_ns, count=Counts(), new_id=lambda: "m1")
        task = asyncio.ensure_future(queue.submit(tenant=TENANT, device_id=CP1, payload=b"text"))
        await asyncio.sleep(0)
        await bench.commit()
        await task
        ours = await bench.submit(expiry_s=60, redeliverable=True)
        again = await bench.restarted()
        assert list(again.commands._open) == [ours]
        other = CommandQueue(journal=again.journal, now_ns=bench.clock.now_ns, count=Counts())
        assert other.rebuild(again.journal) == 1
        assert [command.payload for command in other.waiting(TENANT, CP1)] == [b"text"]

    run(drive)


# ---- audit -----------------------------------------------------------------------------------------------------------
def test_every_step_is_audited_in_order() -> None:
    """On channel command of source gateway, with who, what and when."""

    async def drive(bench: Bench) -> None:
        station = bench.station(generation=5)
        request_id = await bench.submit()
        bench.clock.advance(2)
        station.answer()
        await bench.commit()
        entry = next(iter(read_entries(bench.ingest)))
        assert entry.envelope.route == Route(TENANT, CP1, "gateway", "command")
        both = {"request_id": request_id, "action": "Reset", "by": "ann"}
        connected = {"ocpp_version": "ocpp1.6", "generation": 5}
        assert bench.audited() == [
            {**both, "event": "submitted", "at_ns": 1_000 * S, "payload": '{"type":"Soft"}'},
            {**both, **connected, "event": "sent", "at_ns": 1_000 * S},
            {
                **both,
                **connected,
                "event": "accepted",
                "at_ns": 1_002 * S,
                "answer": '{"status":"Accepted"}',
                "detail": "Accepted",
            },
        ]

    run(drive)


def test_restart_audits_the_last_seconds_again_with_the_same_content() -> None:
    """A crash between the two journals loses no step; one that was there comes twice and equal, a duplicate."""

    async def drive(bench: Bench) -> None:
        bench.station().disconnect()
        await bench.submit()
        await bench.commit()
        bench.clock.advance(20)
        station = bench.station(CP2)
        await bench.submit(CP2)
        station.answer()
        bench.journal.commit()  # and the audit of the answer is lost
        before = bench.audited()
        again = await bench.restarted()
        audited = [msgspec.json.encode(step) for step in again.audited()]
        old = [msgspec.json.encode(step) for step in before if step["at_ns"] < 1_010 * S]
        assert all(audited.count(step) == 1 for step in old)
        recent = [step for step in again.audited()[len(before) :] if step["at_ns"] >= 1_010 * S]
        assert {step["event"] for step in recent} == {"submitted", "sent", "accepted"}
        twice = [msgspec.json.encode(step) for step in before if step["at_ns"] >= 1_010 * S]
        assert [audited.count(step) for step in twice] == [2] * len(twice)

    run(drive)


def test_late_answer_after_a_lot_of_others_is_only_counted() -> None:
    """`LimitExceeded` is for callers; a charger that answers nobody's call is counted."""

    async def drive(bench: Bench) -> None:
        station = bench.station()
        station.answer(YES, "forgotten")
        assert bench.counts == {"unmatched": 1}
        with pytest.raises(LimitExceeded):
            await bench.submit_many([])

    run(drive)

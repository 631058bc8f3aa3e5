"""Commands to chargers: durable first, one at a time, one outcome each, never to a wrong connection."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from gateway.core.command_records import CommandEvent, CommandStep, read_outcomes
from gateway.core.errors import PeerError
from gateway.core.ids import DeviceId
from gateway.wire.ocpp.commands import CommandOutcome, CommandStatus
from gateway.wire.ocpp.versions import Version
from tests.unit.gateway.edge.charger_bench import CP1, CP2, NO, SOFT, TENANT, YES, Bench, run


# ---- one command -----------------------------------------------------------------------------------------------------
def test_command_is_sent_with_its_request_id_and_ends_with_the_answer() -> None:
    """The CALL carries the payload verbatim; the outcome carries the charger's words."""

    async def drive(bench: Bench) -> None:
        station = bench.station(generation=7)
        request_id = await bench.submit()
        assert station.calls == [(request_id, "Reset", SOFT)]
        station.answer()
        expected = CommandEvent(CommandStep.ACCEPTED, YES.answer, "", "Accepted", "ocpp1.6", 7)
        assert await bench.outcome(request_id) == expected

    run(drive)


def test_nothing_is_sent_before_it_is_durable() -> None:
    """The charger hears of a command only when a crash cannot lose it."""

    async def drive(bench: Bench) -> None:
        station = bench.station()
        task = asyncio.ensure_future(
            bench.commands.submit(tenant=TENANT, device_id=CP1, action="Reset", payload=SOFT, by="ann")
        )
        await asyncio.sleep(0)
        assert (station.calls, task.done()) == ([], False)
        await bench.commit()
        assert station.asked == [await task]

    run(drive)


def test_outcome_is_seen_only_when_durable() -> None:
    """What a restart could take back is told to nobody."""

    async def drive(bench: Bench) -> None:
        station = bench.station()
        request_id = await bench.submit()
        station.answer()
        assert (await bench.commands.wait([request_id], 0)).open == [request_id]
        assert await bench.step(request_id) == "accepted"

    run(drive)


@pytest.mark.parametrize(
    ("answer", "step"),
    [
        (NO, "rejected"),
        (
            CommandOutcome(status=CommandStatus.ERROR, answer=b"{}", error_code="InternalError", detail="broken"),
            "error",
        ),
    ],
)
def test_a_no_and_an_error_are_outcomes_of_their_own(answer: CommandOutcome, step: str) -> None:
    """With the code of the CALLERROR."""

    async def drive(bench: Bench) -> None:
        station = bench.station()
        request_id = await bench.submit()
        station.answer(answer)
        outcome = await bench.outcome(request_id)
        assert outcome is not None
        assert (str(outcome.step), outcome.error_code) == (step, answer.error_code)

    run(drive)


def test_commands_go_one_at_a_time_in_order() -> None:
    """The next one leaves when the one before it is answered."""

    async def drive(bench: Bench) -> None:
        station = bench.station()
        ids = [await bench.submit() for _ in range(3)]
        assert station.asked == ids[:1]
        station.answer()
        assert station.asked == ids[:2]
        station.answer()
        station.answer()
        assert station.asked == ids

    run(drive)


def test_other_chargers_are_not_kept_waiting() -> None:
    """One queue per charger."""

    async def drive(bench: Bench) -> None:
        first, second = bench.station(CP1), bench.station(CP2)
        await bench.submit(CP1)
        await bench.submit(CP2)
        assert (len(first.calls), len(second.calls)) == (1, 1)

    run(drive)


def test_caller_that_goes_away_does_not_take_the_command_back() -> None:
    """The journal holds it, so it is sent."""

    async def drive(bench: Bench) -> None:
        station = bench.station()
        task = asyncio.ensure_future(
            bench.commands.submit(tenant=TENANT, device_id=CP1, action="Reset", payload=SOFT, by="ann")
        )
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await bench.commit()
        assert len(station.calls) == 1

    run(drive)


# ---- time ------------------------------------------------------------------------------------------------------------
def test_no_answer_in_time_is_a_time_out_and_the_next_command_goes() -> None:
    """A silent charger does not block its queue for ever."""

    async def drive(bench: Bench) -> None:
        station = bench.station()
        first, second = await bench.submit(timeout_s=10), await bench.submit()
        bench.clock.advance(9.9)
        assert await bench.step(first) is None
        bench.clock.advance(0.1)
        assert (await bench.step(first), station.asked) == ("timeout", [first, second])

    run(drive)


def test_late_answer_is_recorded_and_changes_nothing() -> None:
    """The outcome stays; the journal and the audit have a late event with what the charger said."""

    async def drive(bench: Bench) -> None:
        station = bench.station()
        request_id = await bench.submit(timeout_s=10)
        bench.clock.advance(10)
        station.answer(YES, request_id)
        assert await bench.step(request_id) == "timeout"
        late = bench.audited()[-1]
        assert (late["event"], late["answer"], late["detail"]) == (
            "late",
            '{"status":"Accepted"}',
            "after the time-out: accepted: Accepted",
        )
        assert (bench.counts["late"], bench.counts["unmatched"]) == (1, 0)
        station.answer(YES, request_id)
        assert bench.counts["unmatched"] == 1

    run(drive)


def test_command_that_cannot_be_sent_in_time_expires() -> None:
    """Without an expiry of its own that is after its time-out: a caller does not wait for a queue."""

    async def drive(bench: Bench) -> None:
        station = bench.station()
        first, second = await bench.submit(timeout_s=60), await bench.submit(timeout_s=20)
        bench.clock.advance(20)
        outcome = await bench.outcome(second)
        assert outcome == CommandEvent(CommandStep.EXPIRED, detail="other commands took the charger's time")
        assert (await bench.step(first), station.asked) == (None, [first])

    run(drive)


# ---- offline, and connections that end -------------------------------------------------------------------------------
@pytest.mark.parametrize("options", [{}, {"expiry_s": 60}, {"redeliverable": True}])
def test_charger_that_is_offline_is_an_outcome_at_once(options: dict[str, Any]) -> None:
    """Unless the command may wait, which takes an expiry and the word that twice does no harm."""

    async def drive(bench: Bench) -> None:
        assert await bench.step(await bench.submit(**options)) == "offline"
        assert bench.station().calls == []

    run(drive)


def test_redeliverable_command_waits_for_its_charger() -> None:
    """It goes out when the charger connects, in order."""

    async def drive(bench: Bench) -> None:
        ids = [await bench.submit(expiry_s=60, redeliverable=True) for _ in range(2)]
        station = bench.station()
        station.answer()
        assert station.asked == ids

    run(drive)


def test_waiting_command_expires() -> None:
    """The charger came too late."""

    async def drive(bench: Bench) -> None:
        request_id = await bench.submit(expiry_s=60, redeliverable=True)
        bench.clock.advance(60)
        outcome = await bench.outcome(request_id)
        assert outcome == CommandEvent(CommandStep.EXPIRED, detail="the charger did not connect in time")
        assert bench.station().calls == []

    run(drive)


def test_connection_that_ends_before_the_answer_is_the_outcome() -> None:
    """Nobody knows whether the charger did it, so it is not sent again; what waited behind it was not sent either."""

    async def drive(bench: Bench) -> None:
        station = bench.station(generation=3)
        first, second = await bench.submit(), await bench.submit()
        station.disconnect()
        assert await bench.outcome(first) == CommandEvent(
            CommandStep.DISCONNECTED,
            detail="the connection ended before it was answered",
            ocpp_version="ocpp1.6",
            generation=3,
        )
        assert await bench.outcome(second) == CommandEvent(
            CommandStep.DISCONNECTED, detail="the connection ended before it was sent"
        )
        assert bench.station(generation=4).calls == []

    run(drive)


def test_redeliverable_commands_go_to_the_next_connection_in_order() -> None:
    """The one that was sent first, with the same id."""

    async def drive(bench: Bench) -> None:
        old = bench.station()
        ids = [await bench.submit(expiry_s=60, redeliverable=True) for _ in range(2)]
        lost = await bench.submit()
        old.disconnect()
        new = bench.station(generation=2)
        new.answer()
        new.answer()
        assert (old.asked, new.asked, await bench.step(lost)) == (ids[:1], ids, "disconnected")
        assert [await bench.step(request_id) for request_id in ids] == ["accepted", "accepted"]

    run(drive)


def test_command_submitted_under_one_connection_is_not_sent_on_the_next() -> None:
    """Even where the connection changes while the command becomes durable."""

    async def drive(bench: Bench) -> None:
        old = bench.station()
        task = asyncio.ensure_future(
            bench.commands.submit(tenant=TENANT, device_id=CP1, action="Reset", payload=SOFT, by="ann")
        )
        await asyncio.sleep(0)
        old.disconnect()
        new = bench.station(generation=2)
        await bench.commit()
        assert (await bench.step(await task), old.calls, new.calls) == ("disconnected", [], [])

    run(drive)


def test_a_connection_replaces_its_predecessor() -> None:
    """The predecessor's late end takes nothing from it."""

    async def drive(bench: Bench) -> None:
        old = bench.station()
        first = await bench.submit()
        new = bench.station(generation=2)
        second = await bench.submit()
        old.disconnect()
        old.answer(YES, first)
        assert (await bench.step(first), await bench.step(second), new.asked) == ("disconnected", None, [second])
        new.answer()
        assert await bench.step(second) == "accepted"

    run(drive)


def test_answer_of_another_connection_is_not_taken() -> None:
    """Nor one to an id that nobody gave."""

    async def drive(bench: Bench) -> None:
        station = bench.station()
        request_id = await bench.submit()
        bench.station(CP2).answer(YES, request_id)
        station.answer(YES, "nobody's")
        assert (await bench.step(request_id), bench.counts["unmatched"]) == (None, 2)

    run(drive)


def test_chargers_that_are_done_are_forgotten() -> None:
    """Memory follows the connections and the open commands, not the chargers ever seen."""

    async def drive(bench: Bench) -> None:
        station = bench.station()
        await bench.submit()
        await bench.submit(CP2)
        station.disconnect()
        await bench.commit()
        assert (bench.commands.open_commands, bench.commands.connected_chargers()) == (0, [])
        assert bench.commands._delivery._chargers == {}

    run(drive)


# ---- versions --------------------------------------------------------------------------------------------------------
def test_payload_is_checked_against_the_version_of_the_connection() -> None:
    """Place, what is asked for and what stands there; nothing was written."""

    async def drive(bench: Bench) -> None:
        bench.station(version=Version.V201)
        with pytest.raises(PeerError) as caught:
            await bench.commands.submit(tenant=TENANT, device_id=CP1, action="Reset", payload=SOFT, by="ann")
        assert caught.value.reason == "invalid"
        for word in ("Reset of ocpp2.0.1", "/type", "Immediate", "Soft"):
            assert word in caught.value.detail
        assert (bench.journal.end_offset(), bench.commands.open_commands) == (0, 0)

    run(drive)


def test_action_of_another_version_is_named_with_the_nearest_of_this_one() -> None:
    """And which versions have it."""

    async def drive(bench: Bench) -> None:
        bench.station(version=Version.V201)
        with pytest.raises(PeerError) as caught:
            await bench.commands.submit(
                tenant=TENANT, device_id=CP1, action="RemoteStartTransaction", payload=b"{}", by="ann"
            )
        assert caught.value.detail == (
            "ocpp2.0.1 has no command 'RemoteStartTransaction', it belongs to ocpp1.6; "
            "nearest is 'RequestStartTransaction' (ocpp2.0.1, ocpp2.1)"
        )

    run(drive)


def test_action_that_no_version_has_is_refused_also_for_a_charger_that_is_offline() -> None:
    """A typo is no reason to wait for a charger."""

    async def drive(bench: Bench) -> None:
        with pytest.raises(PeerError) as caught:
            await bench.submit(action="Rest", expiry_s=60, redeliverable=True)
        assert (
            caught.value.detail == "no version has the command 'Rest'; nearest is 'Reset' (ocpp1.6, ocpp2.0.1, ocpp2.1)"
        )

    run(drive)


def test_payload_that_no_version_takes_is_refused_for_a_charger_that_is_offline() -> None:
    """It could never be delivered."""

    async def drive(bench: Bench) -> None:
        submitted = await bench.submit_many([CP1], payload=b'{"type":"Gently"}', expiry_s=60, redeliverable=True)
        assert [str(p.reason) for p in submitted.refused.values()] == ["invalid"]

    run(drive)


def test_waiting_command_that_does_not_fit_the_charger_is_refused_when_it_connects() -> None:
    """The next one in its queue goes out."""

    async def drive(bench: Bench) -> None:
        soft = await bench.submit(expiry_s=60, redeliverable=True)
        clear = await bench.submit(action="ClearCache", payload=b"{}", expiry_s=60, redeliverable=True)
        station = bench.station(version=Version.V21)
        outcome = await bench.outcome(soft)
        assert outcome is not None
        assert (str(outcome.step), outcome.error_code, station.asked) == ("refused", "invalid", [clear])

    run(drive)


# ---- many ------------------------------------------------------------------------------------------------------------
def test_thousands_get_the_same_command_with_one_write_and_an_outcome_each() -> None:
    """Some accept, some do not answer, some are not there, one is refused; the loop turns in between."""

    async def drive(bench: Bench) -> None:
        names = [DeviceId(f"cp-{i}") for i in range(1_000)]
        stations = [bench.station(name) for name in names[:900]]
        bench.station(DeviceId("new"), version=Version.V21)
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while not all(station.calls for station in stations):
                turns += 1
                await asyncio.sleep(0)

        turning = asyncio.ensure_future(turn())
        submitted = await bench.submit_many([*names, DeviceId("new"), names[0]])
        await turning
        for station in stations[:800]:
            station.answer()
        bench.clock.advance(30)
        await bench.commit()
        known = await bench.commands.wait(list(submitted.request_ids.values()), 0)
        outcomes = Counter(str(outcome.event.step) for outcome in known.outcomes.values())
        assert outcomes == {"accepted": 800, "timeout": 100, "offline": 100}
        assert [*submitted.refused] == ["new"]
        assert turns > 10
        assert bench.commands.open_commands == 0

    run(drive)


def test_wait_ends_when_the_last_outcome_is_there() -> None:
    """Not at its time-out, and not before."""

    async def drive(bench: Bench) -> None:
        stations = [bench.station(CP1), bench.station(CP2)]
        ids = list((await bench.submit_many([CP1, CP2])).request_ids.values())
        waiting = asyncio.ensure_future(bench.commands.wait(ids, 60))
        stations[0].answer()
        await bench.commit()
        assert not waiting.done()
        stations[1].answer(NO)
        await bench.commit()
        known = await waiting
        assert [str(known.outcomes[i].event.step) for i in ids] == ["accepted", "rejected"]
        assert (known.open, known.unknown) == ([], [])

    run(drive)


def test_command_that_was_forgotten_is_unknown_and_in_the_journal() -> None:
    """Memory is bounded; the journal answers for the rest."""

    async def drive(bench: Bench) -> None:
        request_id = await bench.submit()
        await bench.commit()
        again = await bench.restarted()
        known = await again.commands.wait([request_id, "never"], 0)
        assert known.unknown == [request_id, "never"]
        outcomes = read_outcomes(again.journal, known.unknown)
        assert {name: str(outcome.event.step) for name, outcome in outcomes.items()} == {request_id: "offline"}

    run(drive)

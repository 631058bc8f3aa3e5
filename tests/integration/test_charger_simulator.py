"""The charger simulator against a central system on the `ocpp` package: what it notes as true is what was heard."""

import asyncio
import gc
import json
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from ocpp import v16, v21, v201

from simulators.__main__ import main
from simulators.chargers.faults import ChargerFaultRates
from simulators.chargers.fleet import ChargersConfig, ChargersSummary, run_chargers
from simulators.chargers.hardware import VERSIONS, Version
from simulators.chargers.link import CentralSystem as Server
from simulators.chargers.refusals import commands, schema
from simulators.chargers.replay_sessions import ReplaySessionsConfig, run_replay_sessions
from simulators.chargers.truth import SessionTruth, frame_digest, read_answered, read_sessions_truth
from simulators.depot import DepotConfig, run_depot
from simulators.target import SimulationError, Target
from tests.integration.mosquitto_process import running_mosquitto
from tests.integration.ocpp_central_system import Call, CentralSystem, Station, central_system
from tests.recordings import DATA

pytestmark = pytest.mark.integration

MODULES: dict[Version, ModuleType] = {"1.6": v16, "2.0.1": v201, "2.1": v21}
VISIT_S = 5.0
"""Real seconds of a run; at pace 100 that is 8 minutes."""


def fleet(system: CentralSystem, tmp_path: Path, **changes: Any) -> ChargersConfig:
    config = ChargersConfig(
        server=Server(url=system.url, response_timeout_s=5.0),
        count=5,
        seconds=VISIT_S,
        pace=100.0,
        meter_interval_s=30,
        gap_s=30.0,
        truth_file=tmp_path / "truth",
        acknowledged_file=tmp_path / "answered",
    )
    return msgspec.structs.replace(config, **changes)


def charge(
    tmp_path: Path, *, strict: bool = True, prepare: Callable[[CentralSystem], None] | None = None, **changes: Any
) -> tuple[CentralSystem, ChargersSummary, list[SessionTruth]]:
    """Run a fleet against a central system of its own."""

    async def run() -> tuple[CentralSystem, ChargersSummary]:
        async with central_system(strict=strict) as system:
            if prepare is not None:
                prepare(system)
            summary = await run_chargers(fleet(system, tmp_path, **changes), stop=asyncio.Event())
        return system, summary

    system, summary = asyncio.run(run())
    return system, summary, read_sessions_truth(tmp_path / "truth")


def with_charger(
    tmp_path: Path, version: Version, act: Callable[[CentralSystem, Station], Awaitable[None]], **changes: Any
) -> CentralSystem:
    """Let a test talk to one charger that nobody visits."""

    async def run() -> CentralSystem:
        stop = asyncio.Event()
        async with central_system() as system:
            config = fleet(system, tmp_path, version=version, count=1, seconds=None, pace=1.0, gap_s=1e6)
            config = msgspec.structs.replace(config, meter_interval_s=1, **changes)
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(run_chargers(config, stop=stop), name="chargers")
                await system.until(lambda: len(system.of("StatusNotification")) > 0)
                await act(system, system.stations["cp-001"])
                stop.set()
                summary = await running
            assert summary.is_complete
        return system

    return asyncio.run(run())


def heard_sessions(calls: list[Call]) -> dict[str, dict[str, Any]]:
    """Return what a naive central system makes of an orderly run: transaction id -> start, stop, samples, token."""
    heard: dict[str, dict[str, Any]] = defaultdict(lambda: {"samples": 0})
    starts = iter([c for c in calls if c.action == "StartTransaction"])
    for number, start in enumerate(starts, 1001):
        heard[str(number)] |= {"start": start.payload["meterStart"], "token": start.payload["idTag"]}
    for call in calls:
        p = call.payload
        if call.action == "MeterValues" and "transactionId" in p:
            heard[str(p["transactionId"])]["samples"] += 1
        elif call.action == "StopTransaction":
            heard[str(p["transactionId"])]["stop"] = p["meterStop"]
        elif call.action == "TransactionEvent":
            one = heard[p["transactionInfo"]["transactionId"]]
            one["samples"] += p["eventType"] == "Updated"
            if "idToken" in p:
                one["token"] = p["idToken"]["idToken"]
            if "meterValue" in p:
                register = p["meterValue"][0]["sampledValue"][0]["value"]
                one.setdefault("start", register)
                one["stop"] = register
    return heard


@pytest.mark.parametrize("version", VERSIONS)
def test_all_kinds_of_chargers_say_only_what_the_schemas_allow_and_their_truth_is_what_was_heard(
    tmp_path: Path, version: Version
):
    """Session by session: id, token, registers, number of samples; and every answered call was heard, by digest."""
    system, summary, truths = charge(tmp_path, version=version)
    assert [] == system.errors
    assert summary.is_complete
    assert summary.sessions == summary.sessions_ended == len(truths) >= 5
    heard = heard_sessions(system.calls)
    assert len(truths) == len(heard)
    for truth in truths:
        (number,) = truth.transaction_ids
        assert heard[number] == {
            "start": truth.meter_start_wh,
            "stop": truth.meter_stop_wh,
            "samples": truth.meter_values,
            "token": truth.id_token,
        }
        assert truth.energy_wh == truth.meter_stop_wh - truth.meter_start_wh
        assert abs(truth.energy_wh - truth.delivered_wh) <= 1
        assert truth.started
        assert truth.stopped
        assert truth.calls == truth.answered
    answered = read_answered(tmp_path / "answered")
    assert summary.answered == len(answered) == len(system.calls)
    assert Counter(call.digest for call in answered) == Counter(frame_digest(call.frame) for call in system.calls)


def test_message_unanswered_when_the_server_goes_away_is_sent_again_with_the_same_bytes(tmp_path: Path):
    """All that happened meanwhile follows in order, with its own times; the truth is exact."""

    async def run() -> tuple[CentralSystem, ChargersSummary]:
        async with central_system() as system:
            config = fleet(system, tmp_path, seconds=8.0, count=6)
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(run_chargers(config, stop=asyncio.Event()), name="chargers")
                await system.until(lambda: len(system.of("MeterValues")) + len(system.of("TransactionEvent")) > 20)
                system.swallows = lambda call: call.action in ("MeterValues", "TransactionEvent")
                await system.until(lambda: system.swallowed >= 3)
                await system.stop()
                system.swallows = lambda call: False
                await asyncio.sleep(1.0)
                await system.start()
                return system, await running

    system, summary = asyncio.run(run())
    assert summary.is_complete
    assert summary.resent >= 3
    assert summary.connection_losses >= 6
    frames: dict[str, set[str]] = defaultdict(set)
    for call in system.calls:
        frames[call.message_id].add(call.frame)
    assert all(len(same) == 1 for same in frames.values())
    once = list({call.frame: call for call in system.calls}.values())
    seq_nos: dict[str, list[int]] = defaultdict(list)
    for call in once:
        if call.action == "TransactionEvent":
            seq_nos[call.payload["transactionInfo"]["transactionId"]].append(call.payload["seqNo"])
    assert seq_nos
    assert all(numbers == list(range(len(numbers))) for numbers in seq_nos.values())
    assert any(call.payload["offline"] for call in once if call.action == "TransactionEvent")
    for truth in read_sessions_truth(tmp_path / "truth"):
        assert (truth.started, truth.stopped, truth.calls) == (True, True, truth.answered)


def test_session_that_starts_offline_gets_its_transaction_id_later(tmp_path: Path):
    """1.6: meter values wait for the answer to their start; the clock shows 1970 until the first boot is answered."""
    system, summary, truths = charge(
        tmp_path, version="1.6", count=2, faults=ChargerFaultRates(clock_unset=1.0), gap_s=1.0
    )
    assert summary.is_complete
    early = [truth for truth in truths if "clock_unset" in truth.flags]
    assert early
    starts = [call for call in system.of("StartTransaction") if call.payload["timestamp"].startswith("1970-01-01T")]
    assert {truth.id_token for truth in early} == {call.payload["idTag"] for call in starts}
    assert all(call.payload["transactionId"] > 1000 for call in system.of("MeterValues"))


def test_faults_are_heard_as_they_are_noted(tmp_path: Path):
    """Dirt by its flags, duplicates by their ids, late values behind their stop, resets by their difference."""
    rates = ChargerFaultRates(
        drop=0.4, register_reset=0.4, no_stop=0.3, late_meter=0.5, duplicate=0.1, dirt=0.3, wrong_clock=0.3, no_boot=0.5
    )
    system, summary, truths = charge(tmp_path, strict=False, count=18, seconds=7.0, gap_s=5.0, faults=rates)
    assert summary.is_complete
    struck = Counter(name for truth in truths for name in truth.faults)
    assert {"drop", "register_reset", "no_stop", "late_meter", "duplicate", "no_zone", "wrong_clock"} <= set(struck)
    frames = "\n".join(call.frame for call in system.calls)
    assert ("Cable.Wear" in frames) == ("unknown_measurand" in struck)
    assert ('"unit":"Hz"' in frames) == ("hertz" in struck)
    assert ("vendorNote" in frames) == ("extra_field" in struck)
    assert max(Counter(call.message_id for call in system.calls).values()) > 1
    for truth in truths:
        assert truth.stopped == ("no_stop" not in truth.faults)
        if "register_reset" in truth.faults:
            assert truth.energy_wh < truth.delivered_wh
    ended: set[str] = set()
    late: set[str] = set()
    for call in system.calls:
        number = str(call.payload.get("transactionId", call.payload.get("transactionInfo", {}).get("transactionId")))
        if call.action == "StopTransaction" or call.payload.get("eventType") == "Ended":
            ended.add(number)
        elif number in ended and "meterValue" in call.payload:
            late.add(number)
    noted = [t for t in truths if "late_meter" in t.faults and t.stopped and "no_transaction" not in t.faults]
    assert noted
    assert {t.transaction_ids[0] for t in noted} <= late


def test_half_open_connection_is_followed_by_a_second_one(tmp_path: Path):
    """While the first still stands and says nothing; no session is lost."""
    system, summary, truths = charge(tmp_path, count=3, seconds=9.0, faults=ChargerFaultRates(half_open=1.0), gap_s=1.0)
    assert max(system.connections.values()) >= 2
    assert any("half_open" in truth.faults for truth in truths)
    assert summary.is_complete


def test_simulator_that_ends_leaves_no_half_open_connection_behind(tmp_path: Path):
    """It would be noticed long after, by whoever collects the garbage."""

    async def act(system: CentralSystem, _station: Station) -> None:
        await system.until(lambda: system.connections["cp-001"] == 2)

    often = {"faults": ChargerFaultRates(half_open=1.0), "seconds": 60.0, "pace": 100.0, "gap_s": 30.0}
    with_charger(tmp_path, "2.0.1", act, **often)
    gc.collect()


def smallest(part: dict[str, Any], root: dict[str, Any]) -> Any:
    """Return the smallest value a request's schema allows."""
    if "$ref" in part:
        return smallest(root["definitions"][part["$ref"].rsplit("/", 1)[-1]], root)
    if "enum" in part:
        return part["enum"][0]
    kind = part.get("type")
    if kind == "object":
        return {name: smallest(part["properties"][name], root) for name in part.get("required", ())}
    if kind == "array":
        return [smallest(part["items"], root) for _ in range(part.get("minItems", 0))]
    if part.get("format") == "date-time":
        return "2030-01-01T00:00:00Z"
    return {"integer": 1, "number": 1.0, "boolean": False}.get(str(kind), "x")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_command_of_the_version_has_a_valid_answer(tmp_path: Path, version: Version):
    """Smallest payloads; the package on the central system's side checks each answer and raises for an error."""
    asked = [action for action in commands(MODULES[version]) if action != "Reset"]

    async def ask(_system: CentralSystem, station: Station) -> None:
        for action in asked:
            root = schema(version, action if version == "1.6" else f"{action}Request")
            await station.command(action, smallest(root, root))

    with_charger(tmp_path, version, ask)
    assert len(asked) >= 25


@pytest.mark.parametrize("version", VERSIONS)
def test_remote_start_profile_and_remote_stop_do_what_they_say(tmp_path: Path, version: Version):
    """A vehicle plugs in, draws what the profile allows, and leaves; the charger says why."""
    is_v16 = version == "1.6"
    periods = [{"startPeriod": 0, "limit": 7000.0}]
    schedule: dict[str, Any] = {"chargingRateUnit": "W", "chargingSchedulePeriod": periods}
    profile: dict[str, Any] = {
        "stackLevel": 1,
        "chargingProfilePurpose": "TxProfile",
        "chargingProfileKind": "Relative",
    }
    if is_v16:
        profile |= {"chargingProfileId": 9, "chargingSchedule": schedule}
    else:
        profile |= {"id": 9, "chargingSchedule": [schedule | {"id": 1}]}

    def powers(system: CentralSystem) -> list[float]:
        return [
            float(value["value"])
            for call in system.of("MeterValues" if is_v16 else "TransactionEvent")
            for value in call.payload.get("meterValue", [{"sampledValue": []}])[0]["sampledValue"]
            if value["measurand"] == "Power.Active.Import"
        ]

    async def act(system: CentralSystem, station: Station) -> None:
        if is_v16:
            started = await station.command("RemoteStartTransaction", {"connectorId": 1, "idTag": "FROM-AFAR"})
        else:
            token = {"idToken": "FROM-AFAR", "type": "Central"}
            payload = {"idToken": token, "remoteStartId": 77, "evseId": 1}
            started = await station.command("RequestStartTransaction", payload)
        assert started["status"] == "Accepted"
        await system.until(lambda: max(powers(system), default=0.0) > 20_000)
        if is_v16:
            number: Any = 1001
            limited = await station.command("SetChargingProfile", {"connectorId": 1, "csChargingProfiles": profile})
        else:
            number = system.of("TransactionEvent")[0].payload["transactionInfo"]["transactionId"]
            limited = await station.command("SetChargingProfile", {"evseId": 1, "chargingProfile": profile})
        assert limited["status"] == "Accepted"
        await system.until(lambda: powers(system)[-1] == 7_000)
        action = "RemoteStopTransaction" if is_v16 else "RequestStopTransaction"
        assert (await station.command(action, {"transactionId": number}))["status"] == "Accepted"
        assert (await station.command(action, {"transactionId": number}))["status"] in ("Accepted", "Rejected")
        await system.until(lambda: bool(ends(system)))

    def ends(system: CentralSystem) -> list[Call]:
        if is_v16:
            return system.of("StopTransaction")
        return [call for call in system.of("TransactionEvent") if call.payload["eventType"] == "Ended"]

    system = with_charger(tmp_path, version, act)
    (end,) = ends(system)
    (truth,) = read_sessions_truth(tmp_path / "truth")
    assert "FROM-AFAR" == truth.id_token
    assert "Remote" == truth.stop_reason
    if is_v16:
        assert "Remote" == end.payload["reason"]
    else:
        first = system.of("TransactionEvent")[0].payload
        assert (77, "RemoteStart") == (first["transactionInfo"]["remoteStartId"], first["triggerReason"])
        assert ("Remote", "RemoteStop") == (
            end.payload["transactionInfo"]["stoppedReason"],
            end.payload["triggerReason"],
        )


@pytest.mark.parametrize("version", VERSIONS)
def test_reset_boots_again_and_trigger_says_what_is_asked_for(tmp_path: Path, version: Version):
    """A second BootNotification, in 2.x with its reason."""

    async def act(system: CentralSystem, station: Station) -> None:
        for message in ("Heartbeat", "StatusNotification", "BootNotification"):
            before = len(system.of(message))
            assert (await station.command("TriggerMessage", {"requestedMessage": message}))["status"] == "Accepted"
            await system.until(lambda m=message, n=before: len(system.of(m)) > n)  # type: ignore[misc]
        before = len(system.of("BootNotification"))
        kind = "Soft" if version == "1.6" else "Immediate"
        assert (await station.command("Reset", {"type": kind}))["status"] == "Accepted"
        await system.until(lambda: len(system.of("BootNotification")) > before)

    system = with_charger(tmp_path, version, act)
    assert 2 == system.connections["cp-001"]
    if version != "1.6":
        assert ["PowerUp", "Triggered", "RemoteReset"] == [c.payload["reason"] for c in system.of("BootNotification")]


def test_variables_are_reported_read_and_changed(tmp_path: Path):
    """2.0.1: a base report in pages, a change that holds, unknown names as such."""

    async def act(system: CentralSystem, station: Station) -> None:
        def named(component: str, variable: str) -> dict[str, Any]:
            return {"component": {"name": component}, "variable": {"name": variable}}

        report = {"requestId": 3, "reportBase": "FullInventory"}
        assert (await station.command("GetBaseReport", report))["status"] == "Accepted"
        await system.until(lambda: any(not c.payload["tbc"] for c in system.of("NotifyReport")))
        heartbeat = named("OCPPCommCtrlr", "HeartbeatInterval")
        changed = await station.command("SetVariables", {"setVariableData": [heartbeat | {"attributeValue": "45"}]})
        assert ["Accepted"] == [one["attributeStatus"] for one in changed["setVariableResult"]]
        asked = [heartbeat, named("OCPPCommCtrlr", "Nonsense"), named("Nonsense", "Nonsense")]
        said = await station.command("GetVariables", {"getVariableData": asked})
        assert ["Accepted", "UnknownVariable", "UnknownComponent"] == [
            one["attributeStatus"] for one in said["getVariableResult"]
        ]
        assert "45" == said["getVariableResult"][0]["attributeValue"]

    system = with_charger(tmp_path, "2.0.1", act)
    reports = system.of("NotifyReport")
    assert list(range(len(reports))) == [call.payload["seqNo"] for call in reports]
    assert [*[True] * (len(reports) - 1), False] == [call.payload["tbc"] for call in reports]


def test_refused_driver_does_not_charge(tmp_path: Path):
    """The central system's word counts while it is there."""

    def refuse(system: CentralSystem) -> None:
        system.refuses_all = True

    system, summary, truths = charge(tmp_path, prepare=refuse)
    assert len(system.of("Authorize")) >= 5
    assert summary.is_complete
    # Only who came before the connection stood could begin, and is stopped by the answer to the start.
    assert {"Deauthorized"} >= {truth.stop_reason for truth in truths}
    assert len(truths) == summary.sessions < 10


def test_charger_that_the_server_does_not_know_ends_the_run_in_words(tmp_path: Path):
    """HTTP 401 is final."""

    def refuse(system: CentralSystem) -> None:
        system.handshake_status = 401

    with pytest.raises(SimulationError, match=r"refuses 'cp-00\d' with HTTP 401; give its credentials"):
        charge(tmp_path, prepare=refuse)


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_sessions_are_said_with_their_own_times_and_energies(tmp_path: Path, version: Version):
    """The first forty, on three stations; power times time is the register's rise."""
    file = DATA / "desl" / "sessions.csv"
    if not file.exists():
        pytest.skip(f"no {file}; set VOLTGATE_TEST_DATA")

    async def run() -> tuple[CentralSystem, ChargersSummary]:
        async with central_system() as system:
            config = ReplaySessionsConfig(
                file=file,
                server=Server(url=system.url),
                version=version,
                stations=3,
                limit=40,
                truth_file=tmp_path / "t",
            )
            return system, await run_replay_sessions(config, stop=asyncio.Event())

    system, summary = asyncio.run(run())
    assert [] == system.errors
    assert (True, 40, 40) == (summary.is_complete, summary.sessions, summary.sessions_ended)
    truths = read_sessions_truth(tmp_path / "t")
    rows = sorted(line.split(",") for line in file.read_text().splitlines()[1:])
    by_number = {f"DESL-{int(row[0]):04d}": (row[2], round(float(row[5]))) for row in rows}
    assert 40 == len(truths)
    for truth in truths:
        arrival, energy_wh = by_number[truth.id_token]
        assert (truth.started_at[:19], truth.energy_wh) == (arrival[:19], energy_wh)
    assert summary.energy_wh == sum(truth.energy_wh for truth in truths)
    heard = heard_sessions(system.calls)
    if version != "1.6":
        assert {t.transaction_ids[0]: t.energy_wh for t in truths} == {
            n: s["stop"] - s["start"] for n, s in heard.items()
        }
    assert {6} == {one["samples"] for one in heard.values()}


def test_vehicle_and_charger_of_a_depot_agree(tmp_path: Path):
    """Charger's energy = battery's / efficiency + auxiliaries; the vehicle says `charge` on MQTT meanwhile."""

    async def run(port: int) -> CentralSystem:
        async with central_system() as system:
            config = DepotConfig(
                target=Target(port=port),
                server=Server(url=system.url),
                buses=6,
                cars=3,
                seconds=8.0,
                pace=15.0,
                plugged=0.9,
                anonymous=0.4,
                charger_truth_file=tmp_path / "sessions",
                truth_file=tmp_path / "vehicles",
            )
            summary = await run_depot(config, stop=asyncio.Event())
            assert summary.is_complete
            assert summary.vehicles.sent > 9 * 2 * 60
        return system

    (tmp_path / "mosquitto").mkdir()
    with running_mosquitto(tmp_path / "mosquitto") as mosquitto:
        asyncio.run(run(mosquitto.port))
    truths = read_sessions_truth(tmp_path / "sessions")
    charged = [truth for truth in truths if truth.delivered_wh > 100]
    assert len(charged) >= 5
    for truth in charged:
        assert truth.vehicle is not None
        assert truth.battery_wh is not None
        assert 0.85 < truth.battery_wh / truth.delivered_wh < 0.972
    assert any(truth.id_token.startswith("RFID") for truth in truths)
    assert any(truth.id_token == f"VG-{str(truth.vehicle).upper()}" for truth in truths)
    assert any(truth.vin for truth in truths)
    assert any(truth.stop_reason == "EVDeparted" for truth in truths)


def test_command_line_runs_a_fleet_and_prints_its_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Exit 0 when everything was answered, 1 when nobody answers."""

    async def run() -> int:
        async with central_system() as system:
            argv = ["chargers", "--url", system.url, "--count", "3", "--seconds", "2", "--version", "2.1"]
            return await asyncio.to_thread(in_thread, argv)

    def in_thread(argv: list[str]) -> int:
        return main(argv)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simulators.__main__._until_interrupted", without_signals)
        assert 0 == asyncio.run(run())
    summary = json.loads(capsys.readouterr().out)
    assert (3, 0) == (summary["chargers"], summary["waiting"])


async def without_signals(arguments: Any) -> Any:
    """Run as the command line does, but in a thread, which may not install signal handlers."""
    from simulators.__main__ import _run

    return await _run(arguments, asyncio.Event())

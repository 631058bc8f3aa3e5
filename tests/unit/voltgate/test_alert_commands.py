"""`voltgate alerts`: a database and a lake as processors leave them, a gateway that carries orders out at once."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from dashboards.queries import history
from gateway.core.settings import Settings
from processors.sinks.lake import Lake, LakeTable
from processors.sinks.outbox import Outbox, read_alerts
from processors.sinks.outbox_schema import Draft
from processors.stages.alert_record import AlertEvent, SilenceEvent, alert_id_of
from processors.stages.alerts import ALERTS, ALERTS_SCHEMA, AlertStage, AlertState
from tests.unit.processors.stages.alert_frames import (
    START_US,
    STREAM,
    Entry,
    alerts,
    asset,
    begins,
    contracts,
    ends,
    order,
    rule,
    run,
    us,
)
from voltgate import alert_commands, notice_commands
from voltgate.alert_commands import (
    AlertFilter,
    SilenceOrder,
    await_states,
    begin_silence,
    change_alerts,
    end_silence,
    list_alerts,
    list_silences,
    show_alert,
)
from voltgate.alert_view import age
from voltgate.cli_alerts import alerts as commands
from voltgate.notice_commands import await_test, list_notices, retry_notices, send_test
from voltgate.output import Exit

RULES = [rule("hot", severity="critical"), rule("leaky"), rule("silent", severity="info")]
HOT = alert_id_of("default", "bus-1", None, STREAM, "hot", 1)
LEAKY = alert_id_of("default", "bus-2", None, STREAM, "leaky", 2)
OVER = alert_id_of("default", "bus-3", None, STREAM, "silent", 3)
HISTORY: list[Entry] = [
    asset(0, site="depot"),
    begins(1, "hot", evidence='{"readings":{"cell_temp_max_c":61.5},"limit":"cell_temp_max_c >= 60"}'),
    begins(2, "leaky", device_id="bus-2", value=None, limit=None),
    begins(3, "silent", device_id="bus-3"),
    ends(4, 3, "silent", device_id="bus-3"),
]


class Deployment:
    """Processors and notifier without their processes: what happens is in the database, and if asked in the lake."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.orders: list[dict[str, Any]] = []
        self.said: list[dict[str, Any]] = []
        self.takes_orders = True
        self._offset = 100
        self._stage = AlertStage(contracts(*RULES))
        self._state = AlertState.empty()
        self._outbox = Outbox(settings.data / "notices.sqlite", now_us=START_US)

    def close(self) -> None:
        self._outbox.close()

    def happen(self, entries: Sequence[Entry], *, to_lake: bool = False, to_outbox: bool = True) -> None:
        output, self._state = run(self._stage, self._state, entries)
        if to_outbox:
            self.commit(alerts=alerts(output), silences=[e for e in output.events if isinstance(e, SilenceEvent)])
        if to_lake:
            sink = Lake(self.settings.lake_directory, [LakeTable(name=ALERTS, schema=ALERTS_SCHEMA)])
            sink.write({ALERTS: output.rows}, end_offset=self._offset)
            sink.close()

    def commit(self, **given: Any) -> None:
        self._outbox.commit(cursor=1, engine=b"", now_us=START_US, **given)

    def notice(self, number: int, *, receiver: str = "on-call", body: bytes = b"", reason: str = "firing") -> str:
        name = f"n{number}"
        draft = Draft(
            delivery_id=name,
            notice_id=name,
            receiver=receiver,
            kind="webhook",
            order_key="k",
            reason=reason,
            title="it is hot",
            body=body,
            headers={},
            event_at_us=us(1),
            created_at_us=us(1),
        )
        self.commit(drafts=[draft])
        return name

    def kill(self, name: str, why: str) -> None:
        self._outbox.dead(name, us(9), error=why, status=500)

    def deliver(self, name: str) -> None:
        self._outbox.sent(name, us(9), status=204)

    def call_gateway(self, settings: Settings, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert (path, body["channel"], settings) == ("/ingest", "alert_order", self.settings)
        self._offset += 1
        said = json.loads(body["payload"])
        self.orders.append(body)
        self.said.append(said)
        if self.takes_orders:
            where = {"tenant": body["tenant"], "device_id": body["device_id"]}
            self.happen([order(self._offset, said.pop("kind"), **where, **said)])
        return {"offset": self._offset}


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """A fleet with one critical alert, one warning, and one that is over."""
    made = Deployment(Settings(data=tmp_path))
    monkeypatch.setattr(alert_commands, "call_gateway", made.call_gateway)
    made.happen(HISTORY)
    yield made
    made.close()


def listed(deployment: Deployment, capsys: pytest.CaptureFixture[str], **given: Any) -> list[str]:
    options = {"with_resolved": False, "limit": 50} | given.pop("options", {})
    list_alerts(deployment.settings, AlertFilter(**given), as_json=True, **options)
    return [json.loads(line)["alert_id"] for line in capsys.readouterr().out.splitlines()]


def change(deployment: Deployment, kind: str, *names: str, **given: Any) -> int:
    options = {"by": "anna", "note": None, "wait": True, "as_json": False} | given
    return change_alerts(deployment.settings, kind, names, **options)


def silence(deployment: Deployment, *matchers: str, **given: Any) -> int:
    options: dict[str, Any] = {"tenant": "default", "span": "2h", "why": "rewiring", "by": "anna"} | given
    return begin_silence(deployment.settings, SilenceOrder(matchers=matchers, **options), as_json=False)


# ---- to look ---------------------------------------------------------------------------------------------------------
def test_open_alerts_are_listed_the_worst_first(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    """One that is over is not there unless it is asked for."""
    assert [HOT, LEAKY] == listed(deployment, capsys)
    assert [HOT, LEAKY, OVER] == listed(deployment, capsys, options={"with_resolved": True})


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param({"device_id": "bus-2"}, [LEAKY], id="device"),
        pytest.param({"rule": "hot"}, [HOT], id="name of a rule"),
        pytest.param({"rule": "battery_pack/leaky"}, [LEAKY], id="whole name of a rule"),
        pytest.param({"severity": "critical"}, [HOT], id="severity"),
        pytest.param({"site": "depot"}, [HOT], id="site"),
        pytest.param({"site": "depot", "device_id": "bus-2"}, [], id="all of them"),
    ],
)
def test_list_shows_what_is_asked_for(
    deployment: Deployment, capsys: pytest.CaptureFixture[str], wanted: dict[str, str], expected: list[str]
) -> None:
    """Filters are the same for alerts of the database and of the lake."""
    assert expected == listed(deployment, capsys, **wanted)


def test_table_says_what_was_left_out(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody thinks that 50 of 60 alerts are all."""
    list_alerts(deployment.settings, AlertFilter(), with_resolved=False, limit=1, as_json=False)
    out, err = capsys.readouterr()
    assert (2, "1 more; say --limit 2 to see them\n") == (len(out.splitlines()), err)
    assert out.splitlines()[1].split()[:3] == [HOT[:10], "critical", "firing"]


def test_unknown_severity_is_a_mistake(deployment: Deployment) -> None:
    """It would list nothing, and look like peace."""
    with pytest.raises(SystemExit, match="2"):
        listed(deployment, None, severity="bad")  # type: ignore[arg-type]


def test_lake_answers_where_there_is_no_notifier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy of a lake on another machine shows the newest revision of each alert, and all of one alert."""
    made = Deployment(Settings(data=tmp_path))
    made.happen(HISTORY, to_lake=True, to_outbox=False)
    made.close()
    (tmp_path / "notices.sqlite").unlink()
    assert [HOT, LEAKY] == listed(made, capsys)
    assert [OVER] == listed(made, capsys, rule="battery_pack/silent", options={"with_resolved": True})
    assert [("resolved", 2)] == history.query(
        made.settings.lake_directory, f"select state, revision from alerts where alert_id = '{OVER}'"
    ).rows
    assert Exit.OK == show_alert(made.settings, OVER[:6], as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert ["firing", "resolved"] == [revision["state"] for revision in shown["history"]]


def test_lake_fills_in_what_the_database_forgot(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an alert that both know the newer revision counts."""
    old = alert_id_of("default", "bus-9", None, STREAM, "hot", 5)
    entries = [begins(5, "hot", device_id="bus-9"), ends(6, 5, "hot", device_id="bus-9")]
    deployment.happen(entries, to_lake=True, to_outbox=False)
    assert {HOT, LEAKY, OVER, old} == set(listed(deployment, capsys, options={"with_resolved": True}))


def test_alert_explains_itself(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    """What was measured, the limit and its source, the readings, what to check, its history, and who was told."""
    deployment.happen([order(5, "ack", alert_id=HOT, note="on my way")], to_lake=True)
    name = deployment.notice(1, body=f'{{"alert":"{HOT}"}}'.encode())
    deployment.notice(2, body=b"about another")
    deployment.kill(name, "HTTP 500")
    assert Exit.OK == show_alert(deployment.settings, HOT[:4], as_json=False)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "critical: it is hot" == lines[0]
    for line in (
        f"alert {HOT}",
        "device bus-1, at depot",
        "rule battery_pack/hot",
        "measured 61.5 degC",
        "limit 60 degC",
        "condition cell_temp_max_c >= 60",
        "limit from a standard",
        "readings cell_temp_max_c 61.5",
        "check look at it",
        "2026-11-23T00:00:05+00:00 acknowledged by anna: on my way",
        "2026-11-23T00:00:01+00:00 on-call firing dead (HTTP 500)",
    ):
        assert line in lines
    assert 1 == sum("on-call" in line for line in lines)


def test_text_of_devices_is_harmless_on_a_terminal(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    """Names of parts and readings may hold control characters, which a terminal would obey."""
    evil = "\x1b]0;owned\x07\u202e"
    said = json.dumps(
        {"readings": {f"a{evil}": f"b{evil}"}, "limit": evil, "extra": [evil], evil: 1, "members": [evil]}
    )
    deployment.happen([begins(7, "hot", device_id="evil", part=evil, evidence=said)])
    name = alert_id_of("default", "evil", evil, STREAM, "hot", 7)
    deployment.kill(deployment.notice(1, body=name.encode()), f"HTTP 500 {evil}")
    show_alert(deployment.settings, name, as_json=False)
    list_alerts(deployment.settings, AlertFilter(), with_resolved=False, limit=9, as_json=False)
    list_notices(deployment.settings, is_dead=True, receiver=None, limit=9, as_json=False)
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.splitlines())
    assert 7 <= out.count("owned")


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        pytest.param("ffff", Exit.NOT_FOUND, "there is no alert 'ffff'", id="none"),
        pytest.param(HOT[:3], Exit.USAGE, "is too short", id="too short"),
        pytest.param("'; drop", Exit.NOT_FOUND, "there is no alert", id="no id at all"),
    ],
)
def test_name_of_no_alert_is_refused(
    deployment: Deployment, capsys: pytest.CaptureFixture[str], name: str, code: Exit, said: str
) -> None:
    """The message shows what there is."""
    with pytest.raises(SystemExit) as ended:
        show_alert(deployment.settings, name, as_json=False)
    err = capsys.readouterr().err
    assert (int(code), True, code == Exit.NOT_FOUND) == (ended.value.code, said in err, HOT in err)


def test_name_of_several_alerts_is_refused_with_all_of_them(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    """An order must not go to the wrong one."""
    (event,) = [e for e in read_alerts(deployment.settings.data / "notices.sqlite") if e.alert_id == HOT]
    twin = HOT[:6] + "0" * 14
    deployment.commit(alerts=[msgspec.structs.replace(event, alert_id=twin)])
    with pytest.raises(SystemExit, match="2"):
        change(deployment, "ack", HOT[:6])
    assert {HOT, twin} <= set(capsys.readouterr().err.split())
    assert [] == deployment.orders
    assert Exit.OK == change(deployment, "ack", HOT[:8])


# ---- orders ----------------------------------------------------------------------------------------------------------
def test_order_is_sent_and_seen_to_take(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    """Who ordered it and what they said go into the journal with the alert's whole name and device."""
    assert Exit.OK == change(deployment, "ack", HOT[:5].upper(), note="on my way")
    assert [("default", "bus-1")] == [(body["tenant"], body["device_id"]) for body in deployment.orders]
    assert [{"alert_id": HOT, "by": "anna", "note": "on my way"}] == deployment.said
    assert f"{HOT[:10]} (bus-1, battery_pack/hot) is acknowledged, by anna\n" == capsys.readouterr().err


@pytest.mark.parametrize(
    ("orders", "code", "sent"),
    [
        pytest.param([("ack", HOT), ("ack", HOT)], Exit.OK, 1, id="acknowledged already"),
        pytest.param([("resolve", HOT), ("ack", HOT)], Exit.FAILED, 1, id="nothing left to acknowledge"),
        pytest.param([("resolve", OVER)], Exit.OK, 0, id="over already"),
        pytest.param([("ack", HOT), ("unack", HOT), ("ack", HOT)], Exit.OK, 3, id="taken back"),
    ],
)
def test_order_that_would_change_nothing_is_not_sent(
    deployment: Deployment, orders: list[tuple[str, str]], code: Exit, sent: int
) -> None:
    """The same order again is no failure; one that comes too late is."""
    codes = [change(deployment, kind, name) for kind, name in orders]
    assert (code, sent) == (codes[-1], len(deployment.orders))


def test_several_alerts_are_changed_at_once(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    """Named twice, ordered once."""
    assert Exit.OK == change(deployment, "resolve", HOT, LEAKY, HOT[:9], as_json=True)
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = [{"alert_id": name, "state": "resolved", "took": True} for name in (HOT, LEAKY)]
    assert (expected, 2) == (shown, len(deployment.orders))


def test_order_that_is_not_seen_to_take_says_so(
    deployment: Deployment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processors may be down: the order is in the journal and takes when they are back."""
    deployment.takes_orders = False
    monkeypatch.setattr(alert_commands, "WAIT_S", 0.0)
    assert Exit.TIMEOUT == change(deployment, "ack", HOT)
    assert "is ordered, but not seen to be acknowledged within 0 s" in capsys.readouterr().err
    assert Exit.OK == change(deployment, "ack", HOT, wait=False)


def test_condition_that_ends_before_the_order_is_told(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is seen is another state than what was ordered."""
    deployment.takes_orders = False
    put = deployment.call_gateway

    def too_late(settings: Settings, path: str, body: dict[str, Any]) -> dict[str, Any]:
        deployment.happen([ends(50, 1, "hot")])
        return put(settings, path, body)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alert_commands, "call_gateway", too_late)
        assert Exit.FAILED == change(deployment, "ack", HOT)
    assert "is resolved now: something else came before the order" in capsys.readouterr().err


def test_waiting_ends_when_all_have_changed_or_time_is_up() -> None:
    """A revision that was there before the order is no sign that it took."""
    stage = AlertStage(contracts(*RULES))
    first, state = run(stage, AlertState.empty(), [begins(1, "hot"), begins(2, "leaky", device_id="bus-2")])
    second, _ = run(stage, state, [order(3, "ack", alert_id=HOT)])
    before, after = alerts(first), alerts(second)
    clock = Clock()
    assert {HOT: after[0]} == await_states(
        lambda: before + (after if clock.now() > 0.25 else []),
        before[:1],
        give_up_s=5,
        now=clock.now,
        sleep=clock.sleep,
    )
    assert 0.25 < clock.now() < 0.45
    assert {HOT: after[0]} == await_states(
        lambda: before + after, before, give_up_s=2, now=clock.now, sleep=clock.sleep
    )
    assert 2.25 < clock.now() < 2.6


class Clock:
    """Time that passes only in sleep."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def sleep(self, span_s: float) -> None:
        self._now += span_s


def test_long_notes_are_refused(deployment: Deployment) -> None:
    """They would be cut silently."""
    with pytest.raises(SystemExit, match="2"):
        change(deployment, "ack", HOT, note="x" * 501)
    assert [] == deployment.orders


# ---- silences --------------------------------------------------------------------------------------------------------
@pytest.fixture
def at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the command line stands three minutes after the fleet's history."""
    monkeypatch.setattr("voltgate.alert_commands.time.time_ns", lambda: us(180) * 1000)


@pytest.mark.usefixtures("at_noon")
def test_silence_says_what_it_matches_and_until_when(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that one that silences everything, or nothing, is noticed at once."""
    assert Exit.OK == silence(deployment, "severity!=info", "device~bus-.*", is_maintenance=True)
    assert "silence s101 until 2026-11-23T02:03+00:00; 2 open alerts match it now\n" == capsys.readouterr().err
    list_silences(deployment.settings, with_ended=False, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    expected = {
        "silence_id": "s101",
        "kind": "maintenance",
        "state": "active",
        "matchers": "severity!=info and device~bus-.*",
        "by": "anna",
        "why": "rewiring",
    }
    assert expected.items() <= shown.items()


@pytest.mark.usefixtures("at_noon")
def test_silence_ends_when_it_is_ordered(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    """Once; the second time there is nothing to do."""
    silence(deployment, "device=bus-1", starts_at="2026-11-24T00:00")
    assert [Exit.OK, Exit.OK] == [end_silence(deployment.settings, "s101", by="ben") for _ in range(2)]
    assert ["silence", "unsilence"] == [json.loads(body["payload"])["kind"] for body in deployment.orders]
    capsys.readouterr()
    list_silences(deployment.settings, with_ended=False, as_json=True)
    assert "" == capsys.readouterr().out
    list_silences(deployment.settings, with_ended=True, as_json=True)
    assert "removed" == json.loads(capsys.readouterr().out)["state"]
    assert Exit.NOT_FOUND == end_silence(deployment.settings, "s7", by="ben")


@pytest.mark.usefixtures("at_noon")
@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"matchers": ["colour=red"]}, id="unknown label"),
        pytest.param({"matchers": []}, id="no matcher"),
        pytest.param({"why": " "}, id="no reason"),
        pytest.param({"span": "soon"}, id="no span"),
        pytest.param({"span": "400 d"}, id="too long"),
        pytest.param({"starts_at": "2026-11-20"}, id="over already"),
        pytest.param({"starts_at": "2031-11-20"}, id="far ahead"),
        pytest.param({"starts_at": "tomorrow"}, id="no time"),
    ],
)
def test_silence_that_cannot_be_is_refused_before_it_is_ordered(deployment: Deployment, given: dict[str, Any]) -> None:
    """The life cycle would only count it."""
    with pytest.raises(SystemExit, match="2"):
        silence(deployment, *given.pop("matchers", ["device=bus-1"]), **given)
    assert [] == deployment.orders


# ---- notices ---------------------------------------------------------------------------------------------------------
def test_notices_are_listed_and_dead_ones_are_retried(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    """A receiver that was mended gets what it missed."""
    for number in (1, 2, 3):
        deployment.notice(number)
    deployment.kill("n1", "HTTP 410")
    deployment.kill("n3", "HTTP 500")
    assert ["n3", "n1"] == noticed(deployment, capsys, is_dead=True)
    assert Exit.OK == retry_notices(deployment.settings, ["n1"], all_dead=False)
    assert ["n3"] == noticed(deployment, capsys, is_dead=True)
    assert Exit.OK == retry_notices(deployment.settings, [], all_dead=True)
    assert [] == noticed(deployment, capsys, is_dead=True)
    assert ["n3", "n2", "n1"] == noticed(deployment, capsys, is_dead=False)


def noticed(deployment: Deployment, capsys: pytest.CaptureFixture[str], *, is_dead: bool) -> list[str]:
    capsys.readouterr()
    list_notices(deployment.settings, is_dead=is_dead, receiver=None, limit=9, as_json=True)
    return [json.loads(line)["notice"] for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("ids", "all_dead", "code"),
    [
        pytest.param([], False, Exit.USAGE, id="nothing named"),
        pytest.param(["n1"], True, Exit.USAGE, id="both"),
        pytest.param(["n1"], False, Exit.NOT_FOUND, id="not dead"),
        pytest.param([], True, Exit.NOT_FOUND, id="none dead"),
    ],
)
def test_retry_of_nothing_says_so(deployment: Deployment, ids: list[str], code: Exit, *, all_dead: bool) -> None:
    """And what to ask instead."""
    deployment.notice(1)
    assert code == retry_notices(deployment.settings, ids, all_dead=all_dead)


Ending = Callable[[Deployment, str], None]


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        pytest.param(lambda d, name: d.deliver(name), Exit.OK, "on-call took the test", id="taken"),
        pytest.param(lambda d, name: d.kill(name, "HTTP 404"), Exit.FAILED, "HTTP 404 (dead)", id="refused"),
        pytest.param(lambda _d, _name: None, Exit.TIMEOUT, "no answer yet (queued)", id="no answer"),
    ],
)
def test_test_notice_says_what_became_of_it(
    deployment: Deployment,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    ending: Ending,
    code: Exit,
    said: str,
) -> None:
    """A test of before, and other notices, are not taken for it."""
    deployment.deliver(deployment.notice(1, reason="test"))
    monkeypatch.setattr(notice_commands, "WAIT_S", 0.0)

    def put(settings: Settings, path: str, body: dict[str, Any]) -> dict[str, Any]:
        deployment.notice(2, receiver="on-call")
        ending(deployment, deployment.notice(3, reason="test"))
        return deployment.call_gateway(settings, path, body)

    monkeypatch.setattr(alert_commands, "call_gateway", put)
    assert code == send_test(deployment.settings, "on-call", tenant="default", by="anna", wait=True, as_json=False)
    assert said in capsys.readouterr().err
    assert [{"receiver": "on-call", "by": "anna"}] == deployment.said


def test_test_for_an_unknown_receiver_ends_in_time(
    deployment: Deployment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No notice is made for it, which is said."""
    monkeypatch.setattr(notice_commands, "WAIT_S", 0.0)
    ended = send_test(deployment.settings, "nobody", tenant="default", by="anna", wait=True, as_json=False)
    assert Exit.TIMEOUT == ended
    assert "no test was made for 'nobody'" in capsys.readouterr().err
    clock = Clock()
    assert await_test(list, 0, give_up_s=3, now=clock.now, sleep=clock.sleep) is None
    assert 3 <= clock.now() < 3.2


# ---- command line ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("line", "code"),
    [
        pytest.param(["ls"], 0, id="ls"),
        pytest.param(["show", HOT], 0, id="show"),
        pytest.param(["ack", HOT], 0, id="ack"),
        pytest.param(["resolve", HOT, "--note", "done"], 0, id="resolve"),
        pytest.param(["silence", "device=bus-1", "--for", "2h", "--why", "x"], 0, id="silence"),
        pytest.param(["silence", "device=bus-1", "--why", "x"], 2, id="silence without end"),
        pytest.param(["silences"], 0, id="silences"),
        pytest.param(["unsilence", "s1"], 4, id="unsilence"),
        pytest.param(["test", "on-call", "--no-wait"], 0, id="test"),
        pytest.param(["notices", "ls", "--dead"], 0, id="notices ls"),
        pytest.param(["notices", "retry", "--all-dead"], 4, id="notices retry"),
    ],
)
def test_command_line_ends_with_what_the_function_says(deployment: Deployment, line: list[str], code: int) -> None:
    """Every command is there and takes its options."""
    ended = CliRunner().invoke(commands, [*line, "--data", str(deployment.settings.data)])
    assert code == ended.exit_code, ended.output


@pytest.mark.parametrize(
    ("span_s", "text"), [(-5, "0 s"), (90, "90 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_age_is_in_the_largest_unit_that_says_enough(span_s: int, text: str) -> None:
    """`1 h` would be anything from one to two."""
    assert text == age(span_s * 1_000_000)


def test_machines_get_the_whole_alert(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    """One document per line, which reads back as the record."""
    list_alerts(deployment.settings, AlertFilter(device_id="bus-1"), with_resolved=False, limit=5, as_json=True)
    event = msgspec.json.decode(capsys.readouterr().out, type=AlertEvent)
    assert (HOT, 1, 61.5) == (event.alert_id, event.revision, event.value)

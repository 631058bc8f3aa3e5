"""`voltgate command`: what each outcome is worth as an exit code, and what stands on stdout and stderr."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.core.command_records import OUTCOMES, CommandEvent, CommandRecord, CommandStep, Outcome
from gateway.core.ids import DeviceId, TenantId
from voltgate.command_commands import _row, _show, _since_ns
from voltgate.output import Exit

S = 1_000_000_000
NOW_NS = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()) * S


def result(outcome: str, **fields: Any) -> dict[str, Any]:
    return {"device_id": "CP-1", "request_id": "r", "outcome": outcome, "answer": None, **fields}


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        ("accepted", 0),
        ("rejected", 7),
        ("error", 7),
        ("refused", 2),
        ("offline", 8),
        ("disconnected", 8),
        ("expired", 8),
        ("timeout", 9),
        ("open", 9),
    ],
)
def test_outcome_has_its_exit_code(outcome: str, code: int) -> None:
    """Scripts tell "no" from "not there" from "no answer"."""
    assert _show([result(outcome)], is_one=True, as_json=False) == code


def test_every_outcome_of_a_charger_has_a_code() -> None:
    """A new one must get one on purpose; `acknowledged` is of MQTT devices."""
    codes = {step: _show([result(str(step))], is_one=True, as_json=True) for step in OUTCOMES}
    unknown = {step for step, code in codes.items() if code == Exit.TIMEOUT}
    assert unknown == {CommandStep.TIMEOUT, CommandStep.ACKNOWLEDGED}


@pytest.mark.parametrize(
    ("error", "code"), [("unknown_device", 4), ("invalid", 2), ("unknown_action", 2), ("queue_full", 1), ("full", 1)]
)
def test_refusal_has_its_exit_code(error: str, code: int) -> None:
    """What the user can mend is a mistake in usage, what time mends is not."""
    assert _show([result("not_submitted", error=error, detail="why")], is_one=True, as_json=False) == code


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        (["accepted", "accepted"], 0),
        (["accepted", "offline"], 8),
        (["offline", "timeout"], 9),
        (["timeout", "rejected", "offline"], 7),
    ],
)
def test_worst_of_many_is_the_exit_code(outcomes: list[str], code: int) -> None:
    """Nobody who looks at the code alone thinks that all went well."""
    assert _show([result(outcome) for outcome in outcomes], is_one=False, as_json=False) == code


def test_one_answer_is_data_and_the_rest_is_talk(capsys: pytest.CaptureFixture[str]) -> None:
    """The charger's JSON alone on stdout."""
    _show([result("rejected", answer={"status": "Rejected"}, detail="Rejected")], is_one=True, as_json=False)
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == ({"status": "Rejected"}, "voltgate: CP-1: rejected: Rejected\n")


def test_machines_get_the_whole_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    """And no talk."""
    shown = result("accepted", answer={"status": "Accepted"})
    _show([shown], is_one=True, as_json=True)
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == (shown, "")


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("10 min", datetime(2026, 11, 22, 11, 50, tzinfo=UTC)),
        ("1 d", datetime(2026, 11, 21, 12, tzinfo=UTC)),
        ("2026-11-22", datetime(2026, 11, 22, tzinfo=UTC)),
        ("2026-11-22T08:00+02:00", datetime(2026, 11, 22, 6, tzinfo=UTC)),
    ],
)
def test_since_is_a_span_or_a_time(text: str, at: datetime) -> None:
    """A time without a zone is UTC, as all that is printed."""
    assert _since_ns(text, NOW_NS) == int(at.timestamp()) * S


def test_since_that_is_neither_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    """With an example of both."""
    with pytest.raises(SystemExit) as ended:
        _since_ns("yesterday", NOW_NS)
    assert (ended.value.code, "10 min" in capsys.readouterr().err) == (2, True)


def row(**fields: Any) -> list[object]:
    command = CommandRecord(
        **{
            "request_id": "r",
            "tenant": TenantId("acme"),
            "device_id": DeviceId("cp-1"),
            "action": "Reset",
            "by": "ann",
            "payload": b"{}",
            "submitted_at_ns": NOW_NS,
            "expires_at_ns": NOW_NS + 30 * S,
            **fields,
        }
    )
    return _row(command, NOW_NS + 60 * S)


def test_row_shows_how_a_command_ended() -> None:
    """Code and detail in one column."""
    event = CommandEvent(CommandStep.ERROR, b'{"a":1}', "InternalError", "broken")
    assert row(outcome=Outcome(NOW_NS + 2 * S, event)) == [
        "2026-11-22T12:00:00.000+00:00",
        "r",
        "cp-1",
        "Reset",
        "ann",
        "error",
        "2026-11-22T12:00:02.000+00:00",
        '{"a":1}',
        "InternalError: broken",
    ]


@pytest.mark.parametrize(("action", "outcome"), [("Reset", None), (None, "expired")])
def test_command_over_mqtt_has_expired_when_its_time_is_over(action: str | None, outcome: str | None) -> None:
    """Its queue writes no word about that; a charger's command is open until the gateway says otherwise."""
    assert row(action=action, by="")[3:6] == [action, None, outcome]

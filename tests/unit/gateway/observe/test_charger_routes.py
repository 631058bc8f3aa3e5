"""POST /charger-commands, /charger-commands/outcomes and /chargers: what is taken, refused and shown."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from gateway.core.command_records import CommandEvent, CommandStep, ConnectedCharger, Known, Outcome
from gateway.core.errors import JournalBroken, JournalFull, LimitExceeded, PeerError
from gateway.core.ids import DeviceId, TenantId
from gateway.core.limits import (
    COMMAND_DEVICES_MAX,
    COMMAND_DEVICES_UNCONFIRMED_MAX,
    COMMAND_TIMEOUT_S,
    CONTROL_BODY_BYTES_MAX,
    IDENTITY_BYTES_MAX,
)
from gateway.observe.charger_routes import ChargerCommandRequest, charger_routes

ACCEPTED = Outcome(7, CommandEvent(CommandStep.ACCEPTED, b'{"status":"Accepted"}', "", "", "ocpp1.6", 3))
OFFLINE = Outcome(8, CommandEvent(CommandStep.OFFLINE, detail="the charger is not connected"))
CHARGER = ConnectedCharger(
    tenant=TenantId("acme"),
    device_id=DeviceId("cp-1"),
    version="ocpp2.1",
    generation=4,
    address="192.0.2.1",
    connected_at_ns=9,
)


class Gateway:
    """What stands behind the routes: knows cp-1 and cp-2, refuses cp-2, remembers a, reads b in the journal."""

    def __init__(self, error: Exception | None = None) -> None:
        self.submitted: list[tuple[ChargerCommandRequest, list[str]]] = []
        self.waited: list[tuple[list[str], float]] = []
        self.read_ids: list[str] = []
        self._error = error
        self.routes = charger_routes(
            submit=self.submit, unknown=self.unknown, wait=self.wait, read=self.read, chargers=lambda: [CHARGER]
        )

    def submit(
        self, request: ChargerCommandRequest, device_ids: Sequence[DeviceId]
    ) -> tuple[Mapping[DeviceId, str], Mapping[DeviceId, PeerError]]:
        """Take the command of all but cp-2."""
        if self._error is not None:
            raise self._error
        self.submitted.append((request, list(device_ids)))
        ids = {device_id: f"id-{device_id}" for device_id in device_ids if device_id != "cp-2"}
        return ids, {d: LimitExceeded("queue_full", "too many") for d in device_ids if d == "cp-2"}

    def unknown(self, _tenant: str, device_ids: Collection[str]) -> Collection[str]:
        """Know everybody whose name begins with cp."""
        return {device_id for device_id in device_ids if not device_id.startswith("cp")}

    def wait(self, request_ids: list[str], wait_s: float) -> Known:
        """Know a, and that o is open."""
        self.waited.append((request_ids, wait_s))
        return Known(
            outcomes={r: ACCEPTED for r in request_ids if r == "a"},
            open=[r for r in request_ids if r == "o"],
            unknown=[r for r in request_ids if r not in {"a", "o"}],
        )

    def read(self, request_ids: Collection[str]) -> Mapping[str, Outcome]:
        """Find b."""
        self.read_ids += request_ids
        return {r: OFFLINE for r in request_ids if r == "b"}

    def post(self, path: str, body: object) -> tuple[int, dict[str, Any]]:
        """Return status and answer."""
        status, answer = self.routes[path](body if isinstance(body, bytes) else msgspec.json.encode(body))
        return int(status), dict(answer)


def command(**fields: object) -> dict[str, object]:
    return {"device_ids": ["cp-1"], "action": "Reset", "payload": {"type": "Soft"}, "by": "ann", **fields}


def test_command_is_handed_over_with_its_payload_verbatim() -> None:
    """As it is written, spaces and all: what the audit shows is what was sent."""
    gateway = Gateway()
    body = b'{"device_ids":["cp-1"],"action":"Reset","by":"ann","payload":{"type" : "Soft"}}'
    assert gateway.post("/charger-commands", body) == (202, {"request_ids": {"cp-1": "id-cp-1"}, "refused": {}})
    ((request, device_ids),) = gateway.submitted
    assert (bytes(request.payload), device_ids, request.tenant) == (b'{"type" : "Soft"}', ["cp-1"], "default")
    assert (request.timeout_s, request.expiry_s, request.redeliverable) == (COMMAND_TIMEOUT_S, 0.0, False)


def test_each_charger_that_gets_nothing_is_told_why() -> None:
    """The others get their command."""
    status, answer = Gateway().post("/charger-commands", command(device_ids=["cp-1", "cp-2", "bus"]))
    assert (status, answer["request_ids"]) == (202, {"cp-1": "id-cp-1"})
    assert {name: problem["error"] for name, problem in answer["refused"].items()} == {
        "cp-2": "queue_full",
        "bus": "unknown_device",
    }


@pytest.mark.parametrize(("device_id", "error"), [("cp-2", "queue_full"), ("bus", "unknown_device")])
def test_nothing_taken_is_a_conflict(device_id: str, error: str) -> None:
    """A caller who looks at the status alone is not misled."""
    status, answer = Gateway().post("/charger-commands", command(device_ids=[device_id]))
    assert (status, answer["error"], [*answer["refused"]]) == (409, error, [device_id])


def test_command_to_many_needs_a_second_word() -> None:
    """One name said twice is one charger."""
    gateway, names = Gateway(), [f"cp-x{i}" for i in range(COMMAND_DEVICES_UNCONFIRMED_MAX)]
    assert gateway.post("/charger-commands", command(device_ids=[*names, names[0]]))[0] == 202
    status, answer = gateway.post("/charger-commands", command(device_ids=[*names, "cp-1"]))
    assert (status, answer["error"], len(gateway.submitted)) == (409, "not_confirmed", 1)
    assert "11 chargers" in answer["detail"]
    assert gateway.post("/charger-commands", command(device_ids=[*names, "cp-1"], confirm=True))[0] == 202


def test_largest_submission_fits_a_body() -> None:
    """As many chargers as are allowed, with the longest names."""
    names = [f"cp{i:0{IDENTITY_BYTES_MAX - 2}}" for i in range(COMMAND_DEVICES_MAX)]
    body = msgspec.json.encode(command(device_ids=names, confirm=True))
    assert len(body) <= CONTROL_BODY_BYTES_MAX
    status, answer = Gateway().post("/charger-commands", body)
    assert (status, len(answer["request_ids"])) == (202, COMMAND_DEVICES_MAX)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "truncated"),
        (command(device_ids=[]), "device_ids"),
        (command(device_ids=["x"] * (COMMAND_DEVICES_MAX + 1)), "device_ids"),
        (command(action=""), "action"),
        (command(by=""), "by"),
        (command(timeout_s=0), "timeout_s"),
        (command(timeout_s=1e6), "timeout_s"),
        (command(expiry_s=-1), "expiry_s"),
        (command(expires=1), "expires"),
        ({"device_ids": ["cp-1"], "action": "Reset"}, "by"),
    ],
)
def test_bad_body_is_named_and_not_handed_over(body: object, word: str) -> None:
    """The answer says which field and what is expected."""
    gateway = Gateway()
    status, answer = gateway.post("/charger-commands", body)
    assert (status, gateway.submitted) == (400, [])
    assert word in answer["detail"]


def test_name_that_can_be_no_device_is_refused() -> None:
    """With what is wrong about it."""
    status, answer = Gateway().post("/charger-commands", command(device_ids=["a/b"]))
    assert (status, answer["error"]) == (409, "target")
    assert "'/'" in answer["detail"]


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (PeerError("invalid", "Reset: /type"), 409, "invalid"),
        (JournalFull("no space"), 507, "journal_full"),
        (JournalBroken("fdatasync"), 503, "journal_broken"),
        (TimeoutError(), 504, "timeout"),
    ],
)
def test_each_failure_has_its_status(error: Exception, status: int, name: str) -> None:
    """A program beside us can tell "wrong" from "later"."""
    found, answer = Gateway(error).post("/charger-commands", command())
    assert (found, answer["error"]) == (status, name)


def test_outcomes_come_from_memory_and_from_the_journal() -> None:
    """What is neither is open, or was never submitted."""
    gateway = Gateway()
    ids = ["a", "b", "o", "x"]
    status, answer = gateway.post("/charger-commands/outcomes", {"request_ids": ids, "wait_s": 2.5})
    assert (status, gateway.waited, gateway.read_ids) == (200, [(ids, 2.5)], ["b", "x"])
    assert (answer["open"], answer["unknown"], [*answer["outcomes"]]) == (["o"], ["x"], ["a", "b"])
    assert answer["outcomes"]["a"] == {
        "outcome": "accepted",
        "at_ns": 7,
        "answer": {"status": "Accepted"},
        "error_code": "",
        "detail": "",
        "ocpp_version": "ocpp1.6",
        "generation": 3,
    }
    assert answer["outcomes"]["b"]["answer"] is None


def test_journal_is_not_read_for_what_is_in_memory() -> None:
    """It may be long."""
    gateway = Gateway()
    gateway.post("/charger-commands/outcomes", {"request_ids": ["a", "o"]})
    assert gateway.read_ids == []


@pytest.mark.parametrize("body", [{"request_ids": []}, {"request_ids": ["a"], "wait_s": 60}, {}])
def test_bad_question_for_outcomes_is_refused(body: object) -> None:
    """A wait longer than a request may take as well."""
    gateway = Gateway()
    assert (gateway.post("/charger-commands/outcomes", body)[0], gateway.waited) == (400, [])


@pytest.mark.parametrize(("body", "n"), [({}, 1), ({"tenant": "acme"}, 1), ({"tenant": "other"}, 0)])
def test_connected_chargers_are_shown(body: object, n: int) -> None:
    """All, or those of a tenant."""
    status, answer = Gateway().post("/chargers", body)
    assert (status, answer["chargers"]) == (200, [msgspec.structs.asdict(CHARGER)] * n)

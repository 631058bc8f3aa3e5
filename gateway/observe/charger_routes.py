"""The POST routes for commands to chargers: one command to many, what became of it, and who is connected."""

from collections.abc import Callable, Collection, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Final, TypeVar

import msgspec

from gateway.core.command_records import ConnectedCharger, Known, Outcome
from gateway.core.credentials import identity_problem
from gateway.core.errors import PeerError
from gateway.core.ids import DeviceId
from gateway.core.limits import (
    COMMAND_DEVICES_MAX,
    COMMAND_DEVICES_UNCONFIRMED_MAX,
    COMMAND_EXPIRY_S_MAX,
    COMMAND_TIMEOUT_S,
    COMMAND_TIMEOUT_S_MAX,
    COMMAND_WAIT_S_MAX,
)
from gateway.observe.http import Answer, Route
from gateway.observe.routes import answer_of, problem

Names = Annotated[list[str], msgspec.Meta(min_length=1, max_length=COMMAND_DEVICES_MAX)]


class ChargerCommandRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /charger-commands.

    Attributes:
        tenant: Owner of the chargers.
        device_ids: Who gets the command, each one of its own.
        action: OCPP action.
        payload: JSON object of the CALL, sent as it is written here.
        timeout_s: Seconds that a charger may take to answer.
        expiry_s: Seconds after which it is not sent any more; 0 is `timeout_s`.
        redeliverable: With an expiry: wait for chargers that are offline, and send again after a connection that ended
            without an answer.
        by: Who orders it.
        confirm: Said again for more than `COMMAND_DEVICES_UNCONFIRMED_MAX` chargers.
    """

    tenant: str = "default"
    device_ids: Names
    action: Annotated[str, msgspec.Meta(min_length=1)]
    payload: msgspec.Raw = msgspec.Raw(b"{}")
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=COMMAND_TIMEOUT_S_MAX)] = COMMAND_TIMEOUT_S
    expiry_s: Annotated[float, msgspec.Meta(ge=0, le=COMMAND_EXPIRY_S_MAX)] = 0.0
    redeliverable: bool = False
    by: Annotated[str, msgspec.Meta(min_length=1)]
    confirm: bool = False


class OutcomesRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /charger-commands/outcomes.

    Attributes:
        request_ids: The commands.
        wait_s: How long to wait while one of them is open.
    """

    request_ids: Names
    wait_s: Annotated[float, msgspec.Meta(ge=0, le=COMMAND_WAIT_S_MAX)] = 0.0


class ChargersRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /chargers.

    Attributes:
        tenant: Only chargers of this one.
    """

    tenant: str | None = None


Submitted = tuple[Mapping[DeviceId, str], Mapping[DeviceId, PeerError]]
Submit = Callable[[ChargerCommandRequest, Sequence[DeviceId]], Submitted]
Request = TypeVar("Request", ChargerCommandRequest, OutcomesRequest, ChargersRequest)

_UNKNOWN: Final = "unknown_device"


def charger_routes(
    *,
    submit: Submit,
    unknown: Callable[[str, Collection[str]], Collection[str]],
    wait: Callable[[list[str], float], Known],
    read: Callable[[Collection[str]], Mapping[str, Outcome]],
    chargers: Callable[[], Sequence[ConnectedCharger]],
) -> Mapping[str, Route]:
    """Return POST /charger-commands, /charger-commands/outcomes and /chargers. The callables may block for seconds.

    Args:
        submit: Makes the command durable for these of its chargers; returns request ids and refusals by charger.
        unknown: Returns which of a tenant's devices may not connect.
        wait: Waits for outcomes and returns what is known.
        read: Returns the outcomes that the commands journal has.
        chargers: Returns who is connected.
    """

    def send(request: ChargerCommandRequest) -> Answer:
        _check(request)
        strangers = set(unknown(request.tenant, request.device_ids))
        known = [DeviceId(device_id) for device_id in request.device_ids if device_id not in strangers]
        request_ids, refused = submit(request, known) if known else ({}, {})
        problems = {str(d): {"error": exc.reason, "detail": exc.detail} for d, exc in refused.items()}
        for device_id in strangers:
            detail = f"there is no active charger {device_id!r} of tenant {request.tenant!r}"
            problems[device_id] = {"error": _UNKNOWN, "detail": detail}
        body: dict[str, object] = {"request_ids": dict(request_ids), "refused": problems}
        if request_ids:
            return HTTPStatus.ACCEPTED, body
        return HTTPStatus.CONFLICT, {**next(iter(problems.values())), **body}

    def outcomes(request: OutcomesRequest) -> Answer:
        known = wait(request.request_ids, request.wait_s)
        found = dict(known.outcomes)
        if known.unknown:
            found.update(read(known.unknown))
        return HTTPStatus.OK, {
            "outcomes": {request_id: _shown(outcome) for request_id, outcome in found.items()},
            "open": known.open,
            "unknown": [request_id for request_id in known.unknown if request_id not in found],
        }

    def list_chargers(request: ChargersRequest) -> Answer:
        wanted = [c for c in chargers() if request.tenant in (None, c.tenant)]
        return HTTPStatus.OK, {"chargers": [msgspec.structs.asdict(charger) for charger in wanted]}

    return {
        "/charger-commands": _route(ChargerCommandRequest, send),
        "/charger-commands/outcomes": _route(OutcomesRequest, outcomes),
        "/chargers": _route(ChargersRequest, list_chargers),
    }


def _route(kind: type[Request], take: Callable[[Request], Answer]) -> Route:
    decoder = msgspec.json.Decoder(kind)

    def route(body: bytes) -> Answer:
        try:
            request = decoder.decode(body)
        except ValueError as exc:  # msgspec's errors are ValueErrors and name the path
            return problem(HTTPStatus.BAD_REQUEST, "bad_request", str(exc))
        return answer_of(lambda: take(request))

    return route


def _check(request: ChargerCommandRequest) -> None:
    """Raise PeerError where names are none, or many chargers are not confirmed."""
    for name, text in (("tenant", request.tenant), *(("device_id", d) for d in request.device_ids)):
        if why := identity_problem(text):
            raise PeerError("target", f"{name} {why}")
    devices = len(set(request.device_ids))
    if devices > COMMAND_DEVICES_UNCONFIRMED_MAX and not request.confirm:
        detail = f'{request.action[:128]!r} to {devices} chargers; send it again with "confirm": true if it is meant'
        raise PeerError("not_confirmed", detail)


def _shown(outcome: Outcome) -> dict[str, object]:
    event = outcome.event
    return {
        "outcome": event.step,
        "at_ns": outcome.at_ns,
        "answer": answer_json(event.answer),
        "error_code": event.error_code,
        "detail": event.detail,
        "ocpp_version": event.ocpp_version,
        "generation": event.generation,
    }


def answer_json(answer: bytes) -> object:
    """Return a charger's answer as JSON values, None where there is none; what is no JSON as text."""
    if not answer:
        return None
    try:
        return msgspec.json.decode(answer)
    except ValueError:
        return answer.decode("utf-8", "backslashreplace")

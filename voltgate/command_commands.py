"""`voltgate command` and `voltgate charger`: tell a device what to do, and see what became of it."""

import getpass
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.core.command_records import CommandRecord, CommandStep, fold_commands
from gateway.core.limits import (
    COMMAND_DEVICES_MAX,
    COMMAND_DEVICES_UNCONFIRMED_MAX,
    COMMAND_EXPIRY_S,
    COMMAND_WAIT_S_MAX,
)
from gateway.core.settings import Settings
from voltgate.command_payloads import (
    VERSIONS,
    Family,
    Fields,
    OptionError,
    Options,
    build_payload,
    families_of,
    family_of,
)
from voltgate.gateway_port import call_gateway, post
from voltgate.output import Exit, fail, print_json, print_rows, say, to_plain

_GRACE_S: Final = 5.0
"""How long after its own time-outs the gateway may take to say so."""
_ENDS: Final[Mapping[str, Exit]] = {
    CommandStep.ACCEPTED: Exit.OK,
    CommandStep.REJECTED: Exit.REJECTED,
    CommandStep.ERROR: Exit.REJECTED,
    CommandStep.REFUSED: Exit.USAGE,
    CommandStep.OFFLINE: Exit.OFFLINE,
    CommandStep.DISCONNECTED: Exit.OFFLINE,
    CommandStep.EXPIRED: Exit.OFFLINE,
    CommandStep.TIMEOUT: Exit.TIMEOUT,
}
_REFUSALS: Final[Mapping[str, Exit]] = {
    "unknown_device": Exit.NOT_FOUND,
    "queue_full": Exit.FAILED,
    "full": Exit.FAILED,
}
"""Why nothing was submitted; everything else is a mistake in the command line."""
_WORST_FIRST: Final = (Exit.NOT_FOUND, Exit.USAGE, Exit.FAILED, Exit.REJECTED, Exit.TIMEOUT, Exit.OFFLINE)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What `command send` was asked for.

    Attributes:
        names: Devices, and for chargers the action behind them.
        to_all: To all chargers; then the action is the only name.
        payload: JSON, text for an MQTT device, or @file; None where it was not given.
        ocpp: Version to build the payload for where the charger is not there to ask.
        timeout_s: Seconds that a charger may take to answer.
        wait_until_online_s: Seconds to wait for chargers that are offline, and to keep the command of an MQTT device.
        is_confirmed: Do not ask before a mass command.
    """

    tenant: str
    names: Sequence[str]
    to_all: bool
    options: Options
    payload: str | None
    ocpp: str | None
    timeout_s: float
    wait_until_online_s: float | None
    is_confirmed: bool


def send_command(settings: Settings, order: Order, *, as_json: bool) -> int:
    """Send a command and wait for what becomes of it; return the exit code that says it."""
    if len(order.names) == 1 and not order.to_all:
        return _send_text(settings, order, as_json=as_json)
    action = order.names[-1]
    base = _read_object(order.payload)
    if order.to_all and len(order.names) > 1:
        fail("--all goes to all chargers; name only the action", Exit.USAGE)
    if order.ocpp not in {None, *VERSIONS}:
        fail(f"--ocpp {order.ocpp!r} is none of {', '.join(VERSIONS)}", Exit.USAGE)
    versions = _versions(settings, order.tenant)
    device_ids = (
        _all_chargers(settings, order.tenant, versions) if order.to_all else list(dict.fromkeys(order.names[:-1]))
    )
    if not device_ids:
        fail("there is no charger; `voltgate device ls` lists who is registered", Exit.NOT_FOUND)
    _confirm(order, action, len(device_ids))
    taken: dict[str, str] = {}
    results: list[dict[str, Any]] = []
    for payload, group in _payloads(settings, order, action, base, device_ids, versions):
        for start in range(0, len(group), COMMAND_DEVICES_MAX):
            some = group[start : start + COMMAND_DEVICES_MAX]
            request_ids, refused = _submit(settings, order, action, payload, some)
            taken |= request_ids
            results += refused
    results += _await_outcomes(settings, taken, give_up_s=_patience_s(order))
    return _show(results, is_one=len(device_ids) == 1, as_json=as_json)


# ---- what to send ----------------------------------------------------------------------------------------------------
def _read_object(payload: str | None) -> Fields:
    text = "{}" if payload is None else _read_text(payload)
    try:
        fields = json.loads(text)
    except ValueError as exc:
        fail(f"--payload is no JSON: {exc}", Exit.USAGE)
    if not isinstance(fields, dict):
        fail('--payload is no JSON object; write \'{"type": "Soft"}\' and the like', Exit.USAGE)
    return fields


def _read_text(payload: str) -> str:
    if not payload.startswith("@"):
        return payload
    try:
        return Path(payload[1:]).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        fail(f"cannot read --payload {payload}: {exc}", Exit.USAGE)


def _payloads(
    settings: Settings, order: Order, action: str, base: Fields, device_ids: Sequence[str], versions: Mapping[str, str]
) -> Iterable[tuple[Fields, list[str]]]:
    """Return each payload with the chargers that it is for."""
    families = families_of(action, order.options)
    groups: dict[Family, list[str]] = {}
    for device_id in device_ids:
        groups.setdefault(_family(settings, order, action, families, device_id, versions), []).append(device_id)
    try:
        return [(build_payload(action, order.options, base, family=f), group) for f, group in groups.items()]
    except OptionError as exc:
        fail(str(exc), Exit.USAGE)


def _family(
    settings: Settings,
    order: Order,
    action: str,
    families: Sequence[Family],
    device_id: str,
    versions: Mapping[str, str],
) -> Family:
    if len(families) < 2:
        # A charger of the other family has no such action; the gateway says so, and which one it has.
        return families[0] if families else "2"
    version = versions.get(device_id, order.ocpp)
    if version is None:
        if device_id not in _registered(settings, order.tenant, kind="charger"):
            fail(f"there is no charger {device_id!r}; `voltgate device ls` lists them", Exit.NOT_FOUND)
        what = f"{device_id} is not connected, and {action} looks different in OCPP 1.6 and OCPP 2"
        fail(f"{what}; say --ocpp 1.6, 2.0.1 or 2.1, or write --payload whole", Exit.USAGE)
    return family_of(version)


def _confirm(order: Order, action: str, devices: int) -> None:
    if devices <= COMMAND_DEVICES_UNCONFIRMED_MAX or order.is_confirmed:
        return
    if not sys.stdin.isatty():
        fail(f"{action} would go to {devices} chargers; add --yes if that is meant", Exit.USAGE)
    sys.stderr.write(f"send {action} to {devices} chargers? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        fail("nothing was sent", Exit.USAGE)


# ---- to whom ---------------------------------------------------------------------------------------------------------
def _versions(settings: Settings, tenant: str) -> dict[str, str]:
    """Return the version of each connected charger of a tenant."""
    chargers = call_gateway(settings, "/chargers", {"tenant": tenant})["chargers"]
    return {charger["device_id"]: charger["version"] for charger in chargers}


def _all_chargers(settings: Settings, tenant: str, connected: Iterable[str]) -> list[str]:
    """Return the registered chargers of a tenant, and those that are connected without."""
    return sorted({*_registered(settings, tenant, kind="charger"), *connected})


def _registered(settings: Settings, tenant: str, *, kind: str) -> set[str]:
    from gateway.configuration import open_registry

    with closing(open_registry(settings)) as registry:
        devices = registry.ls(tenant=tenant)
    return {device.device_id for device in devices if device.kind == kind and device.revoked_at_ns is None}


# ---- to the gateway and back -----------------------------------------------------------------------------------------
def _submit(
    settings: Settings, order: Order, action: str, payload: Fields, device_ids: list[str]
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Return request id by charger, and a result for each charger that gets no command."""
    wait_s = order.wait_until_online_s
    body: dict[str, object] = {
        "tenant": order.tenant,
        "device_ids": device_ids,
        "action": action,
        "payload": payload,
        "timeout_s": order.timeout_s,
        "expiry_s": wait_s or 0.0,
        "redeliverable": wait_s is not None,
        "by": _who(),
        "confirm": True,
    }
    status, answer = post(settings, "/charger-commands", body)
    if "refused" not in answer:
        code = Exit.USAGE if status in {400, 409} else Exit.FAILED
        fail(f"the gateway refused: {answer.get('error')}: {answer.get('detail')}", code)
    refused = [
        {"device_id": device_id, "outcome": "not_submitted", **problem}
        for device_id, problem in answer["refused"].items()
    ]
    return answer["request_ids"], refused


def _await_outcomes(settings: Settings, taken: Mapping[str, str], *, give_up_s: float) -> list[dict[str, Any]]:
    """Ask for the outcomes of request ids by charger until all are there; the gateway ends each in time."""
    devices = {request_id: device_id for device_id, request_id in taken.items()}
    found: dict[str, dict[str, Any]] = {}
    give_up_at_s = time.monotonic() + give_up_s
    missing = list(devices)
    while missing and time.monotonic() < give_up_at_s:
        wait_s = max(0.0, min(COMMAND_WAIT_S_MAX, give_up_at_s - time.monotonic()))
        some = missing[:COMMAND_DEVICES_MAX]
        answer = call_gateway(settings, "/charger-commands/outcomes", {"request_ids": some, "wait_s": wait_s})
        found |= answer["outcomes"]
        missing = [request_id for request_id in missing if request_id not in found]
    open_ = {"outcome": "open", "detail": f"no outcome within {give_up_s:g} s; `voltgate command ls` shows it later"}
    return [
        {"device_id": device_id, "request_id": request_id, **found.get(request_id, open_)}
        for request_id, device_id in devices.items()
    ]


def _patience_s(order: Order) -> float:
    # A command may wait its time to be sent, and then its time to be answered; the gateway ends it by then.
    return (order.wait_until_online_s or order.timeout_s) + order.timeout_s + _GRACE_S


def _who() -> str:
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container without a name for its user
        return "cli"


def _send_text(settings: Settings, order: Order, *, as_json: bool) -> int:
    """Send text to a device over MQTT; it is durable then, and delivered when the device is there."""
    (device_id,) = order.names
    if order.options.given():
        fail(f"name an OCPP action behind {device_id}; without one --payload goes over MQTT as it is", Exit.USAGE)
    if device_id in _registered(settings, order.tenant, kind="charger"):
        fail(f"{device_id} is a charger: name an OCPP action behind it, such as TriggerMessage", Exit.USAGE)
    if order.payload is None:
        fail("say --payload TEXT, or for a charger an OCPP action behind its name", Exit.USAGE)
    body: dict[str, object] = {
        "tenant": order.tenant,
        "device_id": device_id,
        "payload": _read_text(order.payload),
        "expiry_s": order.wait_until_online_s or COMMAND_EXPIRY_S,
    }
    status, answer = post(settings, "/commands", body)
    if status >= 400:
        code = {400: Exit.USAGE, 409: _REFUSALS.get(str(answer.get("error")), Exit.USAGE)}.get(status, Exit.FAILED)
        fail(f"the gateway refused: {answer.get('error')}: {answer.get('detail')}", code)
    print_json({"device_id": device_id, "request_id": answer["request_id"]})
    if not as_json:
        say("the command is durable; the device gets it when it is connected")
    return Exit.OK


# ---- what became of it -----------------------------------------------------------------------------------------------
def _show(results: Sequence[dict[str, Any]], *, is_one: bool, as_json: bool) -> int:
    """Print answers to stdout and what went otherwise to stderr; return the worst exit code."""
    codes = set()
    for result in results:
        code = _exit_of(result)
        codes.add(code)
        if as_json or not is_one:
            print_json(result)
        elif result.get("answer") is not None:
            print_json(result["answer"])
        if code != Exit.OK and not as_json:
            words = [result["outcome"], result.get("error_code") or result.get("error"), result.get("detail")]
            say(f"voltgate: {result['device_id']}: {': '.join(word for word in words if word)}")
    if not is_one and not as_json:
        accepted = sum(result["outcome"] == CommandStep.ACCEPTED for result in results)
        say(f"{accepted} of {len(results)} chargers accepted")
    return next((code for code in _WORST_FIRST if code in codes), Exit.OK)


def _exit_of(result: Mapping[str, Any]) -> Exit:
    if result["outcome"] == "not_submitted":
        return _REFUSALS.get(result["error"], Exit.USAGE)
    return _ENDS.get(result["outcome"], Exit.TIMEOUT)


COLUMNS: Final = ["submitted_at", "request_id", "device_id", "action", "by", "outcome", "ended_at", "answer", "detail"]


def list_commands(
    settings: Settings, *, device_id: str | None, is_open: bool, since: str | None, limit: int, as_json: bool
) -> None:
    """Print commands and what became of them from the commands journal, the newest last. Needs no gateway."""
    from gateway.journal.reader import SegmentReader

    now_ns = time.time_ns()
    since_ns = 0 if since is None else _since_ns(since, now_ns)

    def is_wanted(command: CommandRecord) -> bool:
        is_expired = command.action is None and command.expires_at_ns <= now_ns
        return (
            device_id in (None, command.device_id)
            and command.submitted_at_ns >= since_ns
            and not (is_open and is_expired)
        )

    with closing(SegmentReader(settings.data / "commands")) as reader:
        commands = fold_commands(reader, is_wanted=is_wanted, is_open=is_open, records_max=limit)
    print_rows(COLUMNS, [_row(command, now_ns) for command in commands], as_json=as_json)


def _row(command: CommandRecord, now_ns: int) -> list[object]:
    outcome = command.outcome
    if outcome is not None:
        ended: list[object] = [str(outcome.event.step), _when(outcome.at_ns)]
    elif command.action is None and command.expires_at_ns <= now_ns:
        # The queue of MQTT devices writes no word about it: the command says itself until when.
        ended = [str(CommandStep.EXPIRED), _when(command.expires_at_ns)]
    else:
        ended = [None, None]
    answer = None if outcome is None or not outcome.event.answer else to_plain(outcome.event.answer)
    texts = [] if outcome is None else [outcome.event.error_code, outcome.event.detail]
    return [
        _when(command.submitted_at_ns),
        command.request_id,
        command.device_id,
        command.action,
        command.by or None,
        *ended,
        answer,
        ": ".join(filter(None, texts)) or None,
    ]


def _when(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns / 1e9, UTC).isoformat(timespec="milliseconds")


def _since_ns(text: str, now_ns: int) -> int:
    """Return the moment of `10 min` ago, or of an ISO 8601 time, which is UTC unless it says otherwise."""
    from processors.contracts.units import duration_s

    try:
        return now_ns - int(duration_s(text) * 1e9)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        fail(f"--since {text!r} is neither a span such as '10 min' nor a time such as 2026-11-22T08:00", Exit.USAGE)
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e9)


def list_chargers(settings: Settings, *, tenant: str | None, as_json: bool) -> None:
    """Print who is connected; asks the running gateway."""
    chargers = call_gateway(settings, "/chargers", {} if tenant is None else {"tenant": tenant})["chargers"]
    columns = ["tenant", "device_id", "version", "generation", "address", "connected_at"]
    rows = [[*(charger[name] for name in columns[:-1]), _when(charger["connected_at_ns"])] for charger in chargers]
    print_rows(columns, rows, as_json=as_json)

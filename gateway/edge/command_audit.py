"""What becomes of commands, as messages in the ingest journal, so that the lake holds it beside the readings.

A step is written here after the commands journal has it, so this journal never says more than that one. Between the two
the gateway may end; then the steps of the last seconds are written again, with the same content and time, and the
second of two equal ones is dropped where all duplicates are.
"""

import base64
from typing import Final

import msgspec

from gateway.core.command_records import CommandEvent
from gateway.core.errors import JournalError
from gateway.core.ids import Channel, DeviceId, TenantId
from gateway.core.ports import Counter, JournalWriter
from gateway.core.records import Route

GATEWAY_SOURCE: Final = "gateway"
COMMAND_CHANNEL: Final = Channel("command")


class AuditedStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One step of one command: the payload of channel `command`, JSON."""

    at_ns: int
    request_id: str
    event: str
    action: str | None = None
    by: str = ""
    ocpp_version: str = ""
    payload: str = ""
    answer: str = ""
    error_code: str = ""
    detail: str = ""
    generation: int = 0


class CommandAudit:
    """Writes the steps of commands to the ingest journal. All calls on the event loop.

    Args:
        journal: The ingest journal.
        count: Counts `audit_not_durable`, the steps that are in the commands journal alone.
    """

    def __init__(self, *, journal: JournalWriter, count: Counter) -> None:
        self._journal = journal
        self._count = count
        self._encode = msgspec.json.Encoder().encode

    def note(
        self,
        tenant: TenantId,
        device_id: DeviceId,
        request_id: str,
        event: CommandEvent,
        *,
        at_ns: int,
        received_at_ns: int,
        action: str | None = None,
        by: str = "",
        payload: bytes = b"",
    ) -> None:
        """Write one step.

        Args:
            tenant: Tenant of the device.
            device_id: Whom the command is for.
            request_id: The command.
            event: What happened.
            at_ns: When it happened.
            received_at_ns: Now.
            action: OCPP action, None for a command over MQTT.
            by: Who ordered it.
            payload: What is sent to the device; with the step `submitted` only.
        """
        step = AuditedStep(
            at_ns=at_ns,
            request_id=request_id,
            event=event.step,
            action=action,
            by=by,
            ocpp_version=event.ocpp_version,
            payload=_as_text(payload),
            answer=_as_text(event.answer),
            error_code=event.error_code,
            detail=event.detail,
            generation=event.generation,
        )
        route = Route(tenant, device_id, GATEWAY_SOURCE, COMMAND_CHANNEL)
        try:
            self._journal.append_nowait(received_at_ns, [route], [self._encode(step)], self._on_durable)
        except JournalError as error:
            self._on_durable(error)

    def _on_durable(self, error: JournalError | None) -> None:
        if error is not None:
            self._count("audit_not_durable")


def _as_text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(payload).decode()

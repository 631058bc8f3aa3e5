"""What a receiver is sent, and its name."""

import hashlib
from typing import Final, Literal

import msgspec

from processors.stages.alert_record import SEVERITIES, AlertEvent, TestOrder

Reason = Literal["firing", "changed", "repeat", "escalation", "resolved", "test"]
REASONS: Final[tuple[Reason, ...]] = ("firing", "changed", "repeat", "escalation", "resolved", "test")

_ID_BYTES: Final = 10


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that one receiver is told about one group of alerts.

    Attributes:
        notice_id: 20 hexadecimal characters. Derived: an engine with the same past gives the same notice the same name.
        receiver: Name of the receiver.
        reason: `firing` nothing of the group was open to the receiver before; `changed` something was, and this is new;
            `resolved` nothing of it is open any more; `repeat` nothing is new and it still fires; `escalation` nobody
            acknowledged it; `test` somebody wants to see whether it arrives.
        group: Labels that the alerts share, the tenant among them -> values.
        group_id: Name of the group at this receiver; notices of one group must arrive in order.
        alerts: What is new, the worst first; of a repeat all that fires. None in a test.
        others: Alerts of the group that are open and not among `alerts`.
        by: Of a test, who ordered it.
        created_at_us: When it was made.
    """

    notice_id: str
    receiver: str
    reason: Reason
    group: dict[str, str]
    group_id: str
    alerts: tuple[AlertEvent, ...]
    others: int = 0
    by: str | None = None
    created_at_us: int


def name_of(*parts: object) -> str:
    """Return a name that follows from the parts and nothing else."""
    return hashlib.blake2b(msgspec.json.encode(parts), digest_size=_ID_BYTES).hexdigest()


def test_notice(order: TestOrder, now_us: int) -> Notice:
    """Return what a receiver is sent to see whether it is reached."""
    return Notice(
        notice_id=name_of("test", order.offset, order.tenant, order.receiver),
        receiver=order.receiver,
        reason="test",
        group={"tenant": order.tenant},
        group_id=name_of("test", order.tenant, order.receiver),
        alerts=(),
        by=order.by,
        created_at_us=now_us,
    )


def worst_first(event: AlertEvent) -> tuple[bool, int, int, str]:
    """Return by what alerts of one notice are sorted: those that go on, by severity, then by age."""
    return not event.is_open, -SEVERITIES.index(event.severity), event.fired_at_us, event.alert_id

"""The metrics of the gateway: one table of names, what they mean, and where their values come from."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry

from gateway.observe.metrics import Counted, EventCounter, Sampled, Samples, by_reason

DROPPED_REASONS: Final = frozenset({"event_not_durable", "not_durable", "will_not_durable"})
"""Events of the listener that are messages nobody acknowledged, because the journal could not take them."""
ENDED_REASONS: Final = frozenset(
    {
        "connect_timeout",
        "connections_max",
        "disconnect",
        "duplicate",
        "early_data",
        "journal",
        "keep_alive",
        "linger",
        "lost",
        "partial_bytes",
        "revoked",
        "shutdown",
        "slow_reader",
        "taken_over",
        "unauthenticated_max",
    }
)
"""Events of the listener that are ends of connections where the peer broke no rule of MQTT."""
_NO_REJECTION: Final = DROPPED_REASONS | ENDED_REASONS | {"will", "repeated_call"}


class Listening(msgspec.Struct, frozen=True, kw_only=True):
    """Where the values of one protocol's listener are read, in the thread of a scrape.

    Attributes:
        events: What it counts, by reason.
        refusals: Refused logins by reason.
        received: Messages handed to the journal.
        acknowledged: Of those, messages that became durable.
        logins_waiting: Logins being verified.
        connections: State -> connections or kept sessions.
    """

    events: EventCounter
    refusals: EventCounter
    received: Callable[[], float]
    acknowledged: Callable[[], float]
    logins_waiting: Callable[[], float]
    connections: Callable[[], Mapping[str, float]]


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """Where the values are read, in the thread of a scrape.

    Attributes:
        protocols: Protocol -> its listener.
        command_events: What became of commands.
        unread_deleted: Entries that retention deleted before they were read.
        commands_waiting: Commands waiting for devices.
        journal_bytes: Size on disk, by (journal,).
        journal_oldest_age_s: Age of the oldest entry, empty for none.
        in_flight_bytes: Taken and not durable yet.
        durable: 1 while the journal acknowledges.
        certificate_expiry_s: When the first certificate of a listener expires, seconds since 1970, by (listener,).
    """

    protocols: Mapping[str, Listening]
    command_events: EventCounter
    unread_deleted: Callable[[], float]
    commands_waiting: Callable[[], float]
    journal_bytes: Callable[[], Samples]
    journal_oldest_age_s: Callable[[], Samples]
    in_flight_bytes: Callable[[], float]
    durable: Callable[[], float]
    certificate_expiry_s: Callable[[], Samples]


def register_gateway(registry: CollectorRegistry, sources: Sources) -> None:
    """Register every metric of the gateway that is read when scraped."""

    def each(read: Callable[[Listening], Mapping[tuple[str, ...], float]]) -> Callable[[], Samples]:
        return lambda: {
            (name, *labels): value
            for name, listening in sources.protocols.items()
            for labels, value in read(listening).items()
        }

    def events(wanted: Callable[[str], bool]) -> Callable[[], Samples]:
        # A refused login ends its connection too; it is counted where it was refused.
        return each(
            lambda it: {
                (reason,): n for reason, n in it.events.counts().items() if wanted(reason) and not it.refusals[reason]
            }
        )

    def alone(read: Callable[[], float]) -> Callable[[], Samples]:
        return lambda: {(): read()}

    counted, sampled = partial(Counted, registry=registry), partial(Sampled, registry=registry)
    counted("voltgate_received", "Messages handed to the journal.", ["protocol"], each(lambda it: {(): it.received()}))
    counted(
        "voltgate_acknowledged", "Messages that became durable.", ["protocol"], each(lambda it: {(): it.acknowledged()})
    )
    labels = ["protocol", "reason"]
    counted(
        "voltgate_rejected",
        "Packets and messages that broke a rule.",
        labels,
        events(lambda reason: reason not in _NO_REJECTION),
    )
    counted("voltgate_dropped", "Messages not acknowledged.", labels, events(DROPPED_REASONS.__contains__))
    counted("voltgate_connections_ended", "Connections ended.", labels, events(ENDED_REASONS.__contains__))
    counted("voltgate_auth_failures", "Logins refused.", labels, each(lambda it: by_reason(it.refusals.counts)()))
    counted("voltgate_commands", "What became of commands.", ["outcome"], by_reason(sources.command_events.counts))
    counted("voltgate_unread_deleted", "Entries deleted before they were read.", [], alone(sources.unread_deleted))
    sampled(
        "voltgate_connections",
        "Connections, kept sessions.",
        ["protocol", "state"],
        each(lambda it: {(state,): n for state, n in it.connections().items()}),
    )
    sampled(
        "voltgate_logins_waiting", "Logins being verified.", ["protocol"], each(lambda it: {(): it.logins_waiting()})
    )
    sampled("voltgate_commands_waiting", "Commands waiting for devices.", [], alone(sources.commands_waiting))
    sampled("voltgate_journal_bytes", "Size on disk.", ["journal"], sources.journal_bytes)
    sampled("voltgate_journal_oldest_age_seconds", "Age of the oldest message kept.", [], sources.journal_oldest_age_s)
    sampled("voltgate_journal_in_flight_bytes", "Taken and not durable yet.", [], alone(sources.in_flight_bytes))
    sampled(
        "voltgate_certificate_expiry_timestamp_seconds",
        "When the first certificate of a listener expires, since 1970.",
        ["listener"],
        sources.certificate_expiry_s,
    )
    sampled("voltgate_journal_durable", "1 while messages are acknowledged.", [], alone(sources.durable))

"""Whom the simulators talk to, and how they say how far they are."""

from collections.abc import Callable, Mapping

import msgspec

DEFAULT_TENANT = "default"

Credentials = tuple[str, str]
"""Username and password of one device."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """An MQTT 3.1.1 server and the identities it knows.

    Attributes:
        host: Name or address.
        port: TCP port.
        tenant: Second level of every topic.
        credentials: Device id -> (username, password). A device that is not in it connects without credentials, which a
            server with anonymous access takes for the device named by the client id.
    """

    host: str = "127.0.0.1"
    port: int = 1883
    tenant: str = DEFAULT_TENANT
    credentials: Mapping[str, Credentials] = msgspec.field(default_factory=dict)

    def topic(self, device_id: str, channel: str) -> str:
        """Return the topic on which `device_id` publishes `channel`."""
        return f"v1/{self.tenant}/{device_id}/{channel}"


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is; reported about once a second.

    Attributes:
        elapsed_s: Since the first publish.
        connected: Connections up at this moment.
        sent: Messages given to the network so far, resends not counted.
        acknowledged: Of those, how many the server has acknowledged.
    """

    elapsed_s: float
    connected: int
    sent: int
    acknowledged: int


OnProgress = Callable[[Progress], None]


def no_progress(_progress: Progress) -> None:
    """Say nothing: the default."""


class SimulationError(Exception):
    """A run cannot go on; the message says what happened and what to do."""


def first_error(group: BaseExceptionGroup[SimulationError]) -> SimulationError:
    """Return the first error in a task group's nest of them: one cause is enough for whoever started the run."""
    exc = group.exceptions[0]
    return first_error(exc) if isinstance(exc, BaseExceptionGroup) else exc

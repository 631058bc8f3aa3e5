"""A connected charger as the rest of the gateway sees it."""

from typing import Protocol

from gateway.core.ids import DeviceId, TenantId
from gateway.wire.ocpp.versions import Version


class Station(Protocol):
    """A connected charger. All calls on the event loop.

    The connection calls `ChargerCommands.connected` once it may be sent CALLs, `answered` for every result or error of
    one, and `disconnected` once at its end, whatever that was.
    """

    @property
    def tenant(self) -> TenantId:
        """Tenant of the charger."""
        ...

    @property
    def device_id(self) -> DeviceId:
        """The charger."""
        ...

    @property
    def version(self) -> Version:
        """What it speaks on this connection."""
        ...

    @property
    def generation(self) -> int:
        """Number of this connection, another one for each connection of the charger."""
        ...

    @property
    def address(self) -> str:
        """Where it connected from."""
        ...

    @property
    def is_calling(self) -> bool:
        """Whether a CALL of ours is unanswered."""
        ...

    def call(self, message_id: str, action: str, payload: bytes) -> None:
        """Send a CALL; only while not `is_calling`. A connection that ends reports `disconnected`, it never raises."""
        ...

    def abandon_call(self) -> None:
        """Wait no longer for the answer of the outstanding CALL; should it come, it is reported to `answered`."""
        ...

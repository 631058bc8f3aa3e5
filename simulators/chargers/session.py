"""A charging session as the charger lives it, and the place where it happens. Pure."""

import msgspec

from simulators.chargers.truth import SessionTruth

OFFLINE_TRANSACTION = -1
"""What a 1.6 charger says for a transaction whose id it was never told."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A connector.

    Attributes:
        number: 1.6's connectorId, counted over the whole charger from 1.
        where: What the central system calls it in commands: the connector in 1.6, the EVSE in 2.x.
        evse: 2.x's EVSE id.
        connector: 2.x's connector id inside its EVSE.
    """

    number: int
    where: int
    evse: int
    connector: int


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver shows.

    Attributes:
        text: Up to 20 characters.
        kind: 2.x's type of it.
        vin: Of the vehicle, where the charger learns it over the cable; 2.x only.
    """

    text: str
    kind: str = "ISO14443"
    vin: str | None = None


class Session(msgspec.Struct, kw_only=True):
    """One session; its truth is what must come out of it.

    Attributes:
        place: Where.
        token: Whose.
        truth: What was really said and answered.
        transaction_id: 1.6: as the central system told, None until then. 2.x: the charger's own.
        began_us: Start of the transaction, true time.
        delivered_before_wus: What the outlet had delivered when it began, watt-microseconds.
        remote_start_id: Of the command that started it.
        reservation_id: Of the reservation it uses.
        seq_no: Next one, 2.x.
        charging_state: As last said, 2.x.
        stop_reason: Set to end it: 1.6's word, 2.x's trigger, or `SoftReset` and `HardReset`.
    """

    place: Place
    token: Token
    truth: SessionTruth
    began_us: int
    transaction_id: int | str | None = None
    delivered_before_wus: int = 0
    remote_start_id: int | None = None
    reservation_id: int | None = None
    seq_no: int = 0
    charging_state: str = "EVConnected"
    stop_reason: str | None = None

    def next_seq_no(self) -> int:
        """Return the number of the next event and count on."""
        number, self.seq_no = self.seq_no, self.seq_no + 1
        return number

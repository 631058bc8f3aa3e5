"""Which connector a message of a transaction is about, where it does not say.

A StopTransaction of 1.6 names a transaction and no connector; a TransactionEvent of 2.x names the EVSE once and then
need not. So the connector of each transaction is remembered from where it is named: in 1.6 by the message id of the
start, then by the id in our answer. Rows are looked at in the order of the journal, so how it is cut does not matter.
"""

from typing import Final, NamedTuple

import msgspec
import polars as pl

from gateway.core.errors import CheckpointError
from gateway.core.limits import TRANSACTIONS_REMEMBERED_MAX

_VERSION: Final = 1
_COLUMNS: Final = ("connector", "evse_id", "connector_id")

Place = tuple[str, int | None, int | None]
"""connector, evse_id, connector_id."""
Key = tuple[str, str, str]
"""tenant, device_id, and a transaction id or the message id of a start."""


class ConnectorState(msgspec.Struct, frozen=True, kw_only=True):
    """Connectors of the last transactions, oldest first. A value: nothing changes it.

    Attributes:
        starts: By the message id of a StartTransaction.
        transactions: By transaction id; of both at most TRANSACTIONS_REMEMBERED_MAX.
    """

    starts: dict[Key, Place] = {}
    transactions: dict[Key, Place] = {}

    @classmethod
    def empty(cls) -> "ConnectorState":
        """Return the state before the journal's first entry."""
        return cls()

    def to_bytes(self) -> bytes:
        """Return the state as one MessagePack map."""
        packed = _Packed(_VERSION, list(self.starts.items()), list(self.transactions.items()))
        return msgspec.msgpack.encode(packed)

    @classmethod
    def from_bytes(cls, payload: bytes) -> "ConnectorState":
        """Invert `to_bytes`.

        Raises:
            CheckpointError: If the bytes are no such state, or one of another version.
        """
        try:
            packed = msgspec.msgpack.decode(payload, type=_Packed)
        except msgspec.DecodeError as exc:
            raise CheckpointError(f"connector state is unreadable: {exc}") from exc
        if packed.version != _VERSION:
            raise CheckpointError(
                f"connector state is version {packed.version}, not {_VERSION}; rebuild it from the journal"
            )
        return cls(starts=dict(packed.starts), transactions=dict(packed.transactions))


class _Packed(msgspec.Struct, frozen=True):
    version: int
    starts: list[tuple[Key, Place]]
    transactions: list[tuple[Key, Place]]


class _Row(NamedTuple):
    """What counts of a row; `place` is the one in its frame."""

    offset: int
    record: int
    tenant: str
    device_id: str
    connector: str | None
    evse_id: int | None
    connector_id: int | None
    transaction_id: str | None
    start: str | None
    place: int
    is_meter: bool


def fill_connectors(
    state: ConnectorState, transactions: pl.DataFrame, meters: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, ConnectorState]:
    """Return the rows with the connectors of their transactions where they name none, and the state after them.

    Args:
        state: The state after all earlier rows; it is left as it is.
        transactions: New rows of `charger_transaction`, sorted by (offset, record), duplicates dropped.
        meters: New rows of `charger_meter`, likewise.
    """
    lacking = meters.select(pl.col("connector").is_null() & pl.col("transaction_id").is_not_null()).to_series()
    if not transactions.height and not lacking.any():
        return transactions, meters, state
    starts, known = dict(state.starts), dict(state.transactions)
    filled: dict[bool, list[tuple[int, Place]]] = {False: [], True: []}
    rows = pl.concat([_rows(transactions, "start_message_id"), _rows(meters, None).filter(lacking)])
    for row in map(_Row._make, rows.sort("offset", "record").iter_rows()):
        place = _place_of(row, starts, known)
        if place is not None and (row.connector is None or place[0] != row.connector):
            filled[row.is_meter].append((row.place, _of_meter(place) if row.is_meter else place))
    return (
        _with_places(transactions, filled[False]),
        _with_places(meters, filled[True]),
        ConnectorState(starts=starts, transactions=known),
    )


def _rows(frame: pl.DataFrame, start: str | None) -> pl.DataFrame:
    """Return the columns of `_Row`."""
    return frame.select(
        *("offset", "record", "tenant", "device_id", *_COLUMNS, "transaction_id"),
        (pl.lit(None, pl.String()) if start is None else pl.col(start)).alias("start"),
        pl.int_range(pl.len()).alias("place"),
        pl.lit(start is None).alias("is_meter"),
    )


def _place_of(row: _Row, starts: dict[Key, Place], known: dict[Key, Place]) -> Place | None:
    """Return the connector that a row names or must mean, and remember what it tells of it."""
    place: Place | None = None
    if row.connector is not None:
        place = row.connector, row.evse_id, row.connector_id
    start = None if row.start is None else (row.tenant, row.device_id, row.start)
    transaction = None if row.transaction_id is None else (row.tenant, row.device_id, row.transaction_id)
    if place is None and start is not None:
        place = starts.get(start)
    if transaction is not None and transaction in known:
        before = known[transaction]
        if place is None or (place[1] == before[1] and place[2] is None):
            place = before
    if place is not None and not row.is_meter:
        if start is not None:
            _remember(starts, start, place)
        if transaction is not None:
            _remember(known, transaction, place)
    return place


def _remember(places: dict[Key, Place], key: Key, place: Place) -> None:
    places[key] = place
    if len(places) > TRANSACTIONS_REMEMBERED_MAX:
        del places[next(iter(places))]


def _of_meter(place: Place) -> Place:
    """Return the connector as meter rows name it: in 2.x by the EVSE, which has the meter."""
    connector, evse_id, connector_id = place
    return (connector if evse_id is None else str(evse_id)), evse_id, connector_id


def _with_places(frame: pl.DataFrame, filled: list[tuple[int, Place]]) -> pl.DataFrame:
    if not filled:
        return frame
    at = [place for place, _ in filled]
    return frame.with_columns(
        frame[name].scatter(at, pl.Series(name, [found[i] for _, found in filled], dtype=frame.schema[name]))
        for i, name in enumerate(_COLUMNS)
    )

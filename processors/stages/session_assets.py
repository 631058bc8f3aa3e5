"""Facts that people state about vehicles and chargers, as sessions need them: who has which token, what is where."""

from collections.abc import Iterable
from typing import Final

import msgspec
import polars as pl

from gateway.core.limits import ASSETS_MAX

_COLUMNS: Final = (
    *("tenant", "device_id", "kind", "latitude_deg", "longitude_deg", "rated_power_kw", "vin", "id_tokens"),
)


class Asset(msgspec.Struct, frozen=True, array_like=True):
    """What is stated of one device; None where it is not."""

    tenant: str
    device_id: str
    kind: str | None
    latitude_deg: float | None
    longitude_deg: float | None
    rated_kw: float | None
    vin: str | None
    id_tokens: str | None

    @property
    def position(self) -> tuple[float, float] | None:
        """Latitude and longitude, None where one is missing."""
        if self.latitude_deg is None or self.longitude_deg is None:
            return None
        return self.latitude_deg, self.longitude_deg


class Assets:
    """The newest statement of each kind about each device. A value: nothing changes it.

    Args:
        facts: In order of their statement; of several about a device the last counts, but what it leaves out stays as
            it was; of several vehicles with one token, or VIN, the one stated last has it.
    """

    def __init__(self, facts: Iterable[Asset] = ()) -> None:
        self._facts: dict[tuple[str, str], Asset] = {}
        for fact in facts:
            before = self._facts.pop((fact.tenant, fact.device_id), None)
            self._facts[fact.tenant, fact.device_id] = fact if before is None else _completed(fact, before)
        while len(self._facts) > ASSETS_MAX:
            del self._facts[next(iter(self._facts))]
        vehicles = [fact for fact in self._facts.values() if fact.kind == "vehicle"]
        self._vins = {(fact.tenant, fact.vin.upper()): fact.device_id for fact in vehicles if fact.vin}
        self._tokens = {
            (fact.tenant, token.strip().upper()): fact.device_id
            for fact in vehicles
            for token in (fact.id_tokens or "").split(",")
            if token.strip()
        }

    def facts(self) -> list[Asset]:
        """Return all facts in order of their statement."""
        return list(self._facts.values())

    def with_rows(self, frame: pl.DataFrame) -> "Assets":
        """Return the assets with what the rows of `asset` state."""
        return Assets([*self._facts.values(), *(Asset(*row) for row in frame.select(_COLUMNS).rows())])

    def get(self, tenant: str, device_id: str) -> Asset | None:
        """Return what is stated of a device."""
        return self._facts.get((tenant, device_id))

    def vehicle_of_vin(self, tenant: str, vin: str) -> str | None:
        """Return the vehicle with this identification number, in whatever case it is written."""
        return self._vins.get((tenant, vin.upper()))

    def vehicle_of_token(self, tenant: str, token: str) -> str | None:
        """Return the vehicle that shows this id token; tokens do not know case (OCPP 1.6 CiString, 2.x idToken)."""
        return self._tokens.get((tenant, token.upper()))


def _completed(fact: Asset, before: Asset) -> Asset:
    """Return the statement with what it leaves out as it was before."""
    values = zip(msgspec.structs.astuple(fact), msgspec.structs.astuple(before), strict=True)
    return Asset(*(old if new is None else new for new, old in values))


def first_placed(frame: pl.DataFrame) -> int | None:
    """Return the offset of the first of the rows of `asset` that says where a charger stands, None if none does."""
    placed = frame.filter((pl.col("kind") == "charger") & pl.col("latitude_deg").is_not_null())
    return placed["offset"][0] if placed.height else None

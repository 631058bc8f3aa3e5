"""The newest known value of each field of each device, with its age, and how much the device has said.

Where a contract names a `part`, each part of a device counts as a device here: a charger's connectors.

One `DeviceState` per stream. A field's newest value is its latest non-null one by (measured_at, offset, record): one
that a device stopped sending keeps its old time beside its old value, so a stale value never looks fresh. It is a
function of the readings alone: cuts, restarts and order of arrival do not show.
"""

from typing import Any, Final

import msgspec
import polars as pl

from gateway.core.errors import CheckpointError
from gateway.core.limits import DEVICES_MAX
from processors.stages.roster import NAMES, owner_of, with_devices
from processors.stages.runs import from_ipc, to_ipc

_VERSION: Final = 1
_NOT_FIELDS: Final = frozenset({*NAMES, "measured_at", "received_at", "offset", "record", "flags", "late"})


class DeviceState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Latest values of one stream. A value: nothing changes it.

    Attributes:
        frame: None before the first reading, then one row a device: tenant, device_id, the part; `measured_at`,
            `received_at`, `offset` of its latest reading by each; `readings` Int64, how many there were; and per field
            `<field>` and `<field>:at`, its newest value and when that was measured, null until it has one. At most
            DEVICES_MAX rows; past that, the devices not heard from for longest are forgotten.
    """

    frame: pl.DataFrame | None = None

    @classmethod
    def empty(cls) -> "DeviceState":
        """Return the state before the journal's first entry."""
        return cls()

    def to_bytes(self) -> bytes:
        """Return the state as one MessagePack map that holds an Arrow IPC file."""
        return msgspec.msgpack.encode({"version": _VERSION, "frame": to_ipc(self.frame)})

    @classmethod
    def from_bytes(cls, payload: bytes) -> "DeviceState":
        """Invert `to_bytes`.

        Raises:
            CheckpointError: If the bytes are of another version.
        """
        packed: dict[str, Any] = msgspec.msgpack.decode(payload)
        if packed["version"] != _VERSION:
            raise CheckpointError(
                f"device state is version {packed['version']}, not {_VERSION}; rebuild it from the journal"
            )
        return cls(frame=from_ipc(packed["frame"]))


def update_devices(state: DeviceState, readings: pl.DataFrame, part: str | None = None) -> DeviceState:
    """Return the state after more readings.

    Args:
        state: The state after all earlier ones.
        readings: New readings sorted by (offset, record), duplicates dropped; late ones included, since an old reading
            may hold a field's only value.
        part: Field that splits a device into parts; null is a part like any other.
    """
    if readings.is_empty():
        return state
    owner = owner_of(part)
    fields = [name for name in readings.columns if name not in _NOT_FIELDS and name != part]
    schema = _schema(readings, owner, fields)
    known = pl.DataFrame(schema=schema) if state.frame is None else state.frame
    known = known.with_columns(
        pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in known.columns
    )
    roster, codes = with_devices(known, readings, owner)
    rows = readings.select(codes.alias("_device"), "measured_at", "received_at", "offset", *fields)
    merged = _merge(roster.with_row_index("_device"), _newest(rows, fields), fields)
    if merged.height > DEVICES_MAX:
        merged = merged.top_k(DEVICES_MAX, by="offset")
    return DeviceState(frame=merged)


def _schema(readings: pl.DataFrame, owner: tuple[str, ...], fields: list[str]) -> dict[str, pl.DataType]:
    schema = {name: readings.schema[name] for name in (*owner, "measured_at", "received_at", "offset")}
    schema["readings"] = pl.Int64()
    for field in fields:
        schema |= {field: readings.schema[field], f"{field}:at": readings.schema["measured_at"]}
    return schema


def _newest(rows: pl.DataFrame, fields: list[str]) -> pl.DataFrame:
    """Return one row per device of these rows: as the state has, every column but the device's prefixed by "new:"."""
    newest = _last_by_time(rows)
    totals = rows.group_by("_device").agg(
        pl.col("received_at", "offset").max().name.prefix("new:"), pl.len().cast(pl.Int64()).alias("new:readings")
    )
    at = pl.col("measured_at")
    found = newest.select(
        "_device",
        at.alias("new:measured_at"),
        *(pl.col(field).alias(f"new:{field}") for field in fields),
        *(pl.when(pl.col(field).is_not_null()).then(at).alias(f"new:{field}:at") for field in fields),
    ).join(totals, on="_device")
    for field in fields:
        # A device's newest row has nearly always a value in the field; only where it has none older rows are asked.
        if not newest[field].null_count() or rows[field].null_count() == rows.height:
            continue
        lacking = newest.filter(pl.col(field).is_null()).select("_device")
        older = rows.select("_device", "measured_at", field).filter(pl.col(field).is_not_null())
        values = _last_by_time(older.join(lacking, on="_device", how="semi", maintain_order="left"))
        found = found.join(values.rename({"measured_at": "older_at", field: "older"}), on="_device", how="left")
        found = found.with_columns(
            pl.coalesce(f"new:{field}", "older").alias(f"new:{field}"),
            pl.coalesce(f"new:{field}:at", "older_at").alias(f"new:{field}:at"),
        ).drop("older", "older_at")
    return found


def _last_by_time(rows: pl.DataFrame) -> pl.DataFrame:
    """Return each device's row with the newest measured_at, of equals the last."""
    last = pl.len() - 1 - pl.col("measured_at").reverse().arg_max()
    places = rows.with_row_index("_place").group_by("_device").agg(pl.col("_place").get(last))
    return rows.select(pl.all().gather(places["_place"]))


def _merge(known: pl.DataFrame, newest: pl.DataFrame, fields: list[str]) -> pl.DataFrame:
    """Return the known rows with what is newer in `newest`; of equal times the later in the journal counts."""
    columns = [
        *(pl.max_horizontal(name, f"new:{name}").alias(name) for name in ("measured_at", "received_at", "offset")),
        (pl.col("readings").fill_null(0) + pl.col("new:readings").fill_null(0)).alias("readings"),
    ]
    for field in fields:
        at, new_at = pl.col(f"{field}:at"), pl.col(f"new:{field}:at")
        newer = new_at.is_not_null() & (at.is_null() | (new_at >= at))
        columns += [
            pl.when(newer).then(pl.col(f"new:{field}")).otherwise(pl.col(field)).alias(field),
            pl.when(newer).then(new_at).otherwise(at).alias(f"{field}:at"),
        ]
    names = [name for name in known.columns if name != "_device"]
    return known.join(newest, on="_device", how="left", maintain_order="left").with_columns(columns).select(names)

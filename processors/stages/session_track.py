"""Where vehicles stood and how they charged: integer sums per vehicle and 10 s, so that any order gives the same bits.

Rows are summed when a batch brings them and again when they are looked at; sums, minima and maxima of integers do not
show how often. A row counts as charging if power flows into the pack while its management system says `charge` or
`balance`, or says nothing: what a vehicle without that state brakes back on the road is not within a charging session.

Two piles. `charging`: per vehicle and bucket of 10 s the sum and count of power in W, first and last time, first and
last state of charge, lowest and highest cell temperature. `places`: per vehicle, hour and square of 0.001 degrees the
mean position while standing.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
import polars as pl

from gateway.core.limits import VEHICLE_PLACES_MAX, VEHICLE_TRACK_ROWS_MAX, VEHICLE_TRACK_S
from processors.stages.roster import EMPTY, NAMES, with_devices
from processors.stages.runs import Runs, from_ipc, to_ipc, to_runs

BUCKET_MS: Final = 10_000
HOUR_MS: Final = 3_600_000
_STANDING_KMH: Final = 1.0
_CHARGING: Final = ("charge", "balance")
_SOC_RADIX: Final = 16_384
"""Time in the bucket (ms) and state of charge (0.01 %, at most 11,000) as one integer, ordered by time."""
_FRESH_FRAMES_MAX: Final = 32
_GAP_MAX_US: Final = 60_000_000

_KEY: Final = ("_device", "bucket")
_PLACE_KEY: Final = ("_device", "hour", "cell_lat", "cell_lon")


def _sums(frame: pl.DataFrame) -> pl.DataFrame:
    """Add up rows of `charging`."""
    sums = frame.group_by(_KEY).agg(
        pl.col("n", "power_w").sum(),
        pl.col("first_ms", "soc_first", "temp_min").min(),
        pl.col("last_ms", "soc_last", "temp_max").max(),
    )
    return sums.select(frame.columns)


def _place_sums(frame: pl.DataFrame) -> pl.DataFrame:
    """Add up rows of `places`."""
    return frame.group_by(_PLACE_KEY).agg(pl.col("n", "lat_e6", "lon_e6").sum()).select(frame.columns)


class Track(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What vehicles did. A value: nothing changes it.

    Attributes:
        devices: Row = vehicle code: tenant, device_id.
        charging: Sums that sessions were compared with.
        fresh: Sums since then.
        places: Sums of places.
    """

    devices: pl.DataFrame = EMPTY
    charging: Runs = Runs()
    fresh: tuple[pl.DataFrame, ...] = ()
    places: Runs = Runs()

    def to_parts(self) -> dict[str, bytes]:
        """Return Arrow IPC files by name."""
        return {
            "devices": to_ipc(self.devices),
            "charging": to_ipc(self.charging.to_frame(_sums)),
            "fresh": to_ipc(_sums(pl.concat(self.fresh)) if self.fresh else None),
            "places": to_ipc(self.places.to_frame(_place_sums)),
        }

    @classmethod
    def from_parts(cls, parts: Mapping[str, bytes]) -> "Track":
        """Invert `to_parts`."""
        devices, fresh = from_ipc(parts["devices"]), from_ipc(parts["fresh"])
        assert devices is not None
        return cls(
            devices=devices,
            charging=to_runs(from_ipc(parts["charging"])),
            fresh=() if fresh is None else (fresh,),
            places=to_runs(from_ipc(parts["places"])),
        )

    def with_battery(self, battery: pl.DataFrame) -> "Track":
        """Return the track with more readings of `battery_pack`, at least one."""
        power, state = battery["pack_power_kw"], battery["bms_state"]
        into = (power > 0) & (state.is_null() | state.is_in(_CHARGING))
        rows = battery.select(
            *NAMES, "measured_at", "pack_power_kw", "soc_pct", "cell_temp_min_c", "cell_temp_max_c"
        ).filter(into)
        if rows.is_empty():
            return self
        at_ms = pl.col("measured_at").dt.epoch("ms")
        in_ms = at_ms % BUCKET_MS
        soc = in_ms * _SOC_RADIX + (pl.col("soc_pct") * 100).round()
        sums = rows.group_by(*NAMES, bucket=(at_ms // BUCKET_MS).cast(pl.Int32())).agg(
            n=pl.len().cast(pl.Int32()),
            power_w=(pl.col("pack_power_kw") * 1000).round().cast(pl.Int64()).sum(),
            first_ms=in_ms.min().cast(pl.Int16()),
            last_ms=in_ms.max().cast(pl.Int16()),
            soc_first=soc.min().cast(pl.Int32()),
            soc_last=soc.max().cast(pl.Int32()),
            temp_min=(pl.col("cell_temp_min_c").min() * 10).round().cast(pl.Int16()),
            temp_max=(pl.col("cell_temp_max_c").max() * 10).round().cast(pl.Int16()),
        )
        devices, codes = with_devices(self.devices, sums)
        fresh = (*self.fresh, sums.select(codes.alias("_device"), pl.exclude(NAMES)))
        if len(fresh) > _FRESH_FRAMES_MAX:
            fresh = (_sums(pl.concat(fresh)),)
        return msgspec.structs.replace(self, devices=devices, fresh=fresh)

    def with_telemetry(self, telemetry: pl.DataFrame) -> "Track":
        """Return the track with more readings of `vehicle_telemetry`, at least one."""
        standing = (telemetry["speed_kmh"] < _STANDING_KMH) & telemetry["latitude_deg"].is_not_null()
        rows = telemetry.select(*NAMES, "measured_at", "latitude_deg", "longitude_deg").filter(
            standing & telemetry["longitude_deg"].is_not_null()
        )
        if rows.is_empty():
            return self
        lat, lon = pl.col("latitude_deg"), pl.col("longitude_deg")
        sums = rows.group_by(
            *NAMES,
            hour=(pl.col("measured_at").dt.epoch("ms") // HOUR_MS).cast(pl.Int32()),
            cell_lat=(lat * 1000).floor().cast(pl.Int32()),
            cell_lon=(lon * 1000).floor().cast(pl.Int32()),
        ).agg(
            n=pl.len().cast(pl.Int64()),
            lat_e6=(lat * 1e6).round().cast(pl.Int64()).sum(),
            lon_e6=(lon * 1e6).round().cast(pl.Int64()).sum(),
        )
        devices, codes = with_devices(self.devices, sums)
        places = self.places.with_rows(sums.select(codes.alias("_device"), pl.exclude(NAMES)), _place_sums)
        return msgspec.structs.replace(self, devices=devices, places=places)

    def looked_at(self, now_us: int) -> "tuple[Track, pl.DataFrame | None]":
        """Return the track with what is fresh in its place, bounded, and the fresh sums (None for nothing)."""
        if not self.fresh:
            return self, None
        fresh = self.fresh[0] if len(self.fresh) == 1 else _sums(pl.concat(self.fresh))
        oldest = (now_us // 1000 - VEHICLE_TRACK_S * 1000) // BUCKET_MS

        def fold(frame: pl.DataFrame) -> pl.DataFrame:
            return _sums(frame.filter(pl.col("bucket") >= oldest))

        charging = self.charging.with_rows(fresh.filter(pl.col("bucket") >= oldest), fold)
        if charging.height > VEHICLE_TRACK_ROWS_MAX:
            whole = charging.to_frame(fold)
            assert whole is not None
            charging = to_runs(_newest(whole, "bucket", VEHICLE_TRACK_ROWS_MAX))
        places = self.places
        if places.height > VEHICLE_PLACES_MAX:
            known = places.to_frame(_place_sums)
            assert known is not None
            hour = oldest * BUCKET_MS // HOUR_MS
            places = to_runs(_newest(known.filter(pl.col("hour") >= hour), "hour", VEHICLE_PLACES_MAX))
        return msgspec.structs.replace(self, charging=charging, fresh=(), places=places), fresh

    def charging_between(self, first_us: int, last_us: int) -> "Charges":
        """Return how vehicles charged from one time to another, ends included."""
        low, high = (at_us // 1000 // BUCKET_MS for at_us in (first_us, last_us))
        near = [run.filter(pl.col("bucket").is_between(low, high)) for run in self.charging.frames]
        near = [frame for frame in near if frame.height]
        return Charges(self.devices, _sums(pl.concat(near)).sort(_KEY) if near else None)

    def places_of(self, vehicle: tuple[str, str], first_us: int, last_us: int) -> list[tuple[float, float]]:
        """Return the mean positions (latitude, longitude) at which a vehicle stood in hours that the time touches."""
        known = self.devices.with_row_index("_code").filter(
            (pl.col("tenant") == vehicle[0]) & (pl.col("device_id") == vehicle[1])
        )
        if known.is_empty():
            return []
        low, high = (at_us // 1000 // HOUR_MS for at_us in (first_us, last_us))
        asked = (pl.col("_device") == known["_code"][0]) & pl.col("hour").is_between(low, high)
        found = [frame.filter(asked) for frame in self.places.frames]
        if not any(frame.height for frame in found):
            return []
        rows = _place_sums(pl.concat(found)).sort(_PLACE_KEY)
        return [(lat / n / 1e6, lon / n / 1e6) for n, lat, lon in rows.select("n", "lat_e6", "lon_e6").rows()]

    def knows(self, vehicle: tuple[str, str]) -> bool:
        """Return whether the vehicle was ever seen standing or charging."""
        tenant, device = vehicle
        return not self.devices.filter((pl.col("tenant") == tenant) & (pl.col("device_id") == device)).is_empty()


class Segment(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A time (us) in which a pack took in a mean power (W)."""

    from_us: int
    to_us: int
    power_w: float


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """How one vehicle charged.

    Attributes:
        segments: Times with power, in order, without overlap. Between two looks at most 60 s apart it took the mean
            of both (devices that report every 30 s are common); a lone one stands for half its spacing to each side.
        looks: (from us, to us, mean W, state of charge at its end or None, lowest and highest temperature or None) of
            each bucket.
        socs: (time us, SoC) at both ends of each bucket, where known.
    """

    segments: tuple[Segment, ...]
    looks: tuple[tuple[int, int, float, float | None, float | None, float | None], ...]
    socs: tuple[tuple[int, float], ...]


class Charges:
    """How the vehicles charged in some time.

    Args:
        devices: Row = vehicle code.
        rows: Sums of the track sorted by vehicle and bucket, None for nothing.
    """

    def __init__(self, devices: pl.DataFrame, rows: pl.DataFrame | None) -> None:
        self._devices, self._rows = devices, rows
        self._made: dict[int, Charge] = {}
        self._codes: dict[tuple[str, str], int] = {}
        if rows is not None:
            seen = rows["_device"].unique().to_list()
            self._codes = {(row[0], row[1]): code for code in seen for row in [devices.row(code)]}

    def of(self, tenant: str, vehicle_id: str) -> Charge | None:
        """Return how a vehicle charged, None if it did not."""
        code = self._codes.get((tenant, vehicle_id))
        if code is None or self._rows is None:
            return None
        if code not in self._made:
            self._made[code] = _charge(self._rows.filter(pl.col("_device") == code))
        return self._made[code]

    def energies(self, tenant: str, first_us: int, last_us: int) -> dict[str, float]:
        """Return vehicle -> about how many Wh went into it in that time, of those that charged, by name."""
        if self._rows is None:
            return {}
        low, high = (at_us // 1000 // BUCKET_MS for at_us in (first_us, last_us))
        wh = pl.col("power_w") / pl.col("n") * (BUCKET_MS / 3_600_000)
        found = self._rows.filter(pl.col("bucket").is_between(low, high)).group_by("_device").agg(wh.sum().alias("wh"))
        energies = {}
        for code, energy_wh in found.rows():
            owner, vehicle_id = self._devices.row(code)
            if owner == tenant:
                energies[vehicle_id] = energy_wh
        return dict(sorted(energies.items()))


def _charge(rows: pl.DataFrame) -> Charge:
    looks: list[tuple[int, int, float, float | None, float | None, float | None]] = []
    socs: list[tuple[int, float]] = []
    segments: list[Segment] = []
    before: tuple[int, float] | None = None
    spacing_us = 0
    columns = ("bucket", "n", "power_w", "first_ms", "last_ms", "soc_first", "soc_last", "temp_min", "temp_max")
    for bucket, n, total_w, first_ms, last_ms, soc_first, soc_last, temp_min, temp_max in rows.select(columns).rows():
        start_us = bucket * BUCKET_MS * 1000
        from_us, to_us, power_w = start_us + first_ms * 1000, start_us + last_ms * 1000, total_w / n
        own_us = (to_us - from_us) // (n - 1) if n > 1 else 0
        if before is not None and from_us - before[0] <= _GAP_MAX_US:
            segments.append(Segment(before[0], from_us, (before[1] + power_w) / 2))
        else:
            if before is not None and spacing_us:
                segments.append(Segment(before[0], before[0] + spacing_us // 2, before[1]))
            segments.append(Segment(from_us - own_us // 2, from_us, power_w))
        segments.append(Segment(from_us, to_us, power_w))
        before, spacing_us = (to_us, power_w), own_us
        for coded in (soc_first, soc_last):
            if coded is not None:
                socs.append((start_us + coded // _SOC_RADIX * 1000, coded % _SOC_RADIX / 100))
        soc = None if soc_last is None else soc_last % _SOC_RADIX / 100
        low, high = (None if temp is None else temp / 10 for temp in (temp_min, temp_max))
        looks.append((from_us, to_us, power_w, soc, low, high))
    if before is not None:
        segments.append(Segment(before[0], before[0] + spacing_us // 2, before[1]))
    kept = tuple(segment for segment in segments if segment.to_us > segment.from_us)
    return Charge(segments=kept, looks=tuple(looks), socs=tuple(socs))


def _newest(frame: pl.DataFrame, column: str, most: int) -> pl.DataFrame:
    """Return the rows with the highest values, all of those that share the lowest, or none of them."""
    if frame.height <= most:
        return frame
    lowest = frame[column].sort(descending=True)[most]
    return frame.filter(pl.col(column) > lowest)

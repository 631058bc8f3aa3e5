"""The program one would write without Voltgate: aiomqtt, pydantic, Polars, Parquet. The peer of the pipeline benchmark.

    python -m tests.bench.plain_pipeline PORT DIRECTORY WARM_UP MESSAGES

Subscribes to the fleet's telemetry, validates every message, and writes readings and one-minute windows per device as
Parquet files. A window closes when its device is five seconds past it. Nothing is on disk when the broker hears
"received", a restart loses or repeats rows, and no verbatim copy is kept.

Prints `{"stored": n}` when it is subscribed, when the warm-up is stored and when all is, then waits to be stopped.
"""

import asyncio
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import aiomqtt
import polars as pl
from pydantic import AwareDatetime, BaseModel, Field, ValidationError

FLUSH_ROWS = 20_000
FLUSH_S = 5.0
DISORDER = pl.duration(seconds=5)


class Telemetry(BaseModel):
    """One reading as the vehicles send it."""

    device_id: str
    seq: int
    measured_at: AwareDatetime = Field(alias="ts")
    latitude_deg: float | None = Field(None, ge=-90, le=90)
    longitude_deg: float | None = Field(None, ge=-180, le=180)
    speed_kmh: float | None = Field(None, ge=0, le=250)
    odometer_km: float | None = Field(None, ge=0)
    soc_pct: float | None = Field(None, ge=0, le=100)
    power_kw: float | None = Field(None, ge=-1000, le=1000)
    ambient_temp_c: float | None = Field(None, ge=-60, le=80)
    range_km: float | None = Field(None, ge=0)
    ignition: bool | None = None
    doors_open: bool | None = None
    charging: bool | None = None


SCHEMA = pl.Schema(
    {
        "device_id": pl.String(),
        "seq": pl.Int64(),
        "measured_at": pl.Datetime("us", "UTC"),
        "latitude_deg": pl.Float64(),
        "longitude_deg": pl.Float64(),
        "speed_kmh": pl.Float64(),
        "odometer_km": pl.Float64(),
        "soc_pct": pl.Float64(),
        "power_kw": pl.Float64(),
        "ambient_temp_c": pl.Float64(),
        "range_km": pl.Float64(),
        "ignition": pl.Boolean(),
        "doors_open": pl.Boolean(),
        "charging": pl.Boolean(),
        "received_at": pl.Datetime("us", "UTC"),
    }
)


class Store:
    """Rows on their way into files."""

    def __init__(self, directory: Path) -> None:
        self.stored = self.rejected = 0
        self._directory = directory
        self._rows: list[dict[str, object]] = []
        self._open = pl.DataFrame(schema=SCHEMA)
        self._files = 0
        self._flushed_s = time.monotonic()

    def add(self, payload: bytes) -> None:
        """Validate one message and keep it."""
        try:
            row = Telemetry.model_validate_json(payload).model_dump()
        except ValidationError:
            self.rejected += 1
            return
        row["received_at"] = datetime.now(UTC)
        self._rows.append(row)
        if len(self._rows) >= FLUSH_ROWS or time.monotonic() - self._flushed_s > FLUSH_S:
            self.flush()

    @property
    def seen(self) -> int:
        """Messages taken so far, stored or not."""
        return self.stored + self.rejected + len(self._rows)

    def flush(self) -> None:
        """Write the rows, and the windows that they close."""
        self._flushed_s = time.monotonic()
        if not self._rows:
            return
        readings = pl.DataFrame(self._rows, schema=SCHEMA)
        self._rows = []
        self._files += 1
        readings.write_parquet(self._directory / f"readings-{self._files:06d}.parquet")
        self._close_windows(pl.concat([self._open, readings]))
        self.stored += len(readings)

    def _close_windows(self, rows: pl.DataFrame) -> None:
        start = pl.col("measured_at").dt.truncate("1m")
        newest = pl.col("measured_at").max().over("device_id")
        marked = rows.with_columns(window_start=start, closed=start + pl.duration(minutes=1) <= newest - DISORDER)
        self._open = marked.filter(~pl.col("closed")).select(SCHEMA.names())
        windows = (
            marked.filter("closed")
            .sort("device_id", "measured_at")
            .group_by("device_id", "window_start")
            .agg(
                pl.len().alias("n"),
                pl.col("soc_pct").first().alias("soc_first_pct"),
                pl.col("soc_pct").last().alias("soc_last_pct"),
                pl.col("soc_pct").min().alias("soc_min_pct"),
                pl.col("soc_pct").max().alias("soc_max_pct"),
                pl.col("speed_kmh").mean().alias("speed_mean_kmh"),
                pl.col("speed_kmh").max().alias("speed_max_kmh"),
                (pl.col("speed_kmh").sum() / 3600).alias("distance_km"),
                pl.col("power_kw").mean().alias("power_mean_kw"),
                pl.col("power_kw").min().alias("power_min_kw"),
                pl.col("power_kw").max().alias("power_max_kw"),
                (pl.col("power_kw").sum() / 3600).alias("energy_kwh"),
                pl.col("odometer_km").first().alias("odometer_first_km"),
                pl.col("odometer_km").last().alias("odometer_last_km"),
                pl.col("ambient_temp_c").mean().alias("ambient_temp_mean_c"),
                pl.col("latitude_deg").last().alias("latitude_last_deg"),
                pl.col("longitude_deg").last().alias("longitude_last_deg"),
            )
        )
        if len(windows):
            windows.write_parquet(self._directory / f"windows-{self._files:06d}.parquet")


def say(stored: int) -> None:
    """Tell the benchmark."""
    print(f'{{"stored": {stored}}}', flush=True)


async def run(port: int, directory: Path, warm_up: int, messages: int) -> None:
    """Receive `warm_up + messages` messages and store them."""
    store = Store(directory)
    async with aiomqtt.Client("127.0.0.1", port, identifier="pipeline") as client:
        await client.subscribe("v1/+/+/telemetry", qos=1)
        say(0)
        async for message in client.messages:
            store.add(bytes(message.payload))
            if store.seen == warm_up or store.seen == warm_up + messages:
                store.flush()
                say(store.stored)
            if store.seen == warm_up + messages:
                break
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))

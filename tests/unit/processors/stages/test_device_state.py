"""What is kept of a device: its newest values with their age, for a bounded number of devices."""

import polars as pl
import pytest

from gateway.core.errors import CheckpointError
from gateway.core.limits import DEVICES_MAX
from processors.stages.device_state import DeviceState, update_devices
from tests.unit.processors.stages.window_frames import START_S, TIME, readings_of


def seconds(state: DeviceState, *columns: str) -> list[tuple[object, ...]]:
    """Return the columns of each device, times as seconds since the start."""
    assert state.frame is not None
    times = pl.col(TIME).dt.epoch("s") - START_S
    return state.frame.with_columns(times).select("device_id", *columns).rows()


def test_value_that_is_no_longer_sent_keeps_its_age() -> None:
    """A stale value never looks fresh: the field's own time stays while the device's goes on."""
    state = update_devices(DeviceState.empty(), readings_of((1, "a", 10, 50.0), (2, "a", 20, None)))
    assert seconds(state, "measured_at", "speed_kmh", "speed_kmh:at", "readings") == [("a", 20, 50.0, 10, 2)]


def test_older_reading_replaces_nothing_and_counts() -> None:
    """What comes late is a reading, but not news."""
    state = update_devices(DeviceState.empty(), readings_of((1, "a", 20, 50.0)))
    state = update_devices(state, readings_of((2, "a", 10, 40.0)))
    assert seconds(state, "measured_at", "speed_kmh", "speed_kmh:at", "readings") == [("a", 20, 50.0, 20, 2)]


def test_field_of_a_later_contract_is_added_to_known_devices() -> None:
    """A stream may grow a field without losing what is known of the others."""
    old = readings_of((1, "a", 10, 50.0), (2, "b", 10, 60.0))
    new = readings_of((3, "a", 20, None)).with_columns(power_kw=pl.lit(7.0))
    state = update_devices(update_devices(DeviceState.empty(), old), new)
    assert seconds(state, "speed_kmh", "power_kw") == [("a", 50.0, 7.0), ("b", 60.0, None)]


def test_part_of_a_device_has_newest_values_of_its_own() -> None:
    """A charger's connectors do not overwrite each other; what names no part is kept beside them."""
    parts = pl.Series("mode", ["1", "2", None, "1"])
    readings = readings_of((1, "a", 10, 1.0), (2, "a", 20, 2.0), (3, "a", 30, 3.0), (4, "a", 40, 4.0)).with_columns(
        parts
    )
    state = update_devices(DeviceState.empty(), readings, "mode")
    state = DeviceState.from_bytes(state.to_bytes())
    state = update_devices(state, readings_of((5, "a", 50, 5.0)).with_columns(mode=pl.lit(None, pl.String())), "mode")
    assert seconds(state, "mode", "speed_kmh", "readings") == [
        ("a", "1", 4.0, 2),
        ("a", "2", 2.0, 1),
        ("a", None, 5.0, 2),
    ]
    assert state.frame is not None
    assert "mode:at" not in state.frame.columns


def test_devices_not_heard_from_for_longest_are_forgotten_past_the_limit() -> None:
    """Ten devices too many push out the ten that were heard first."""
    n = DEVICES_MAX + 10
    offset = pl.int_range(n, eager=True)
    readings = pl.DataFrame({"offset": offset}).select(
        pl.lit("acme").alias("tenant"),
        pl.format("ev-{}", "offset").alias("device_id"),
        pl.col("offset").cast(TIME).alias("measured_at"),
        pl.col("offset").cast(TIME).alias("received_at"),
        "offset",
        pl.lit(1.0).alias("speed_kmh"),
    )
    frame = update_devices(DeviceState.empty(), readings).frame
    assert frame is not None
    assert (frame.height, frame["offset"].min()) == (DEVICES_MAX, 10)


def test_state_of_another_version_is_refused() -> None:
    """Bytes of another layout are an error with its mend."""
    other = DeviceState.empty().to_bytes().replace(b"\xa7version\x01", b"\xa7version\x02")
    with pytest.raises(CheckpointError, match="is version 2, not 1"):
        DeviceState.from_bytes(other)

"""The newest values of a device do not depend on cuts, restarts or order of arrival."""

import itertools

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.stages.device_state import DeviceState, update_devices

TIME = pl.Datetime("us", "UTC")
SCHEMA = {
    "tenant": pl.String(),
    "device_id": pl.String(),
    "measured_at": TIME,
    "received_at": TIME,
    "offset": pl.Int64(),
    "record": pl.Int32(),
    "flags": pl.String(),
    "soc": pl.Float64(),
    "mode": pl.String(),
}
ROWS = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.integers(0, 9),
        st.none() | st.floats(0, 100),
        st.none() | st.sampled_from(["drive", "neutral"]),
    ),
    max_size=25,
)


def newest(rows: list[tuple]) -> dict[str, dict[str, object]]:
    """The oracle: walk the journal, keep what is not older."""
    devices: dict[str, dict[str, object]] = {}
    for offset, (device, at, soc, mode) in enumerate(rows):
        known = devices.setdefault(device, {"readings": 0, "at": at, "soc": (None, None), "mode": (None, None)})
        known |= {"readings": known["readings"] + 1, "offset": offset, "at": max(known["at"], at)}
        for field, value in (("soc", soc), ("mode", mode)):
            if value is not None and (known[field][1] is None or at >= known[field][1]):
                known[field] = (value, at)
    return devices


@settings(max_examples=40)
@given(ROWS, st.lists(st.integers(0, 25), max_size=3), st.booleans())
def test_state_is_the_newest_value_of_each_field(rows: list[tuple], cuts: list[int], restart: bool) -> None:
    """Value, time, count and offset per device equal the oracle's after any cut and restart."""
    state = DeviceState.empty()
    for low, high in itertools.pairwise([0, *sorted(cuts), len(rows)]):
        part = [("t", d, at, at, low + i, 0, None, soc, mode) for i, (d, at, soc, mode) in enumerate(rows[low:high])]
        state = update_devices(state, pl.DataFrame(part, schema=SCHEMA, orient="row"))
        state = DeviceState.from_bytes(state.to_bytes()) if restart else state
    found = {}
    frame = pl.DataFrame() if state.frame is None else state.frame
    for row in frame.with_columns(pl.col(TIME).dt.epoch("us")).iter_rows(named=True):
        found[row["device_id"]] = {
            "readings": row["readings"],
            "offset": row["offset"],
            "at": row["measured_at"],
            "soc": (row["soc"], row["soc:at"]),
            "mode": (row["mode"], row["mode:at"]),
        }
    assert newest(rows) == found

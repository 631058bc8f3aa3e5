"""What is indexed, under which names."""

from fnmatch import fnmatchcase

import polars as pl
import pytest

from gateway.core.errors import ConfigError
from processors.contracts import load_contracts
from processors.contracts.compare import changes, compare
from processors.contracts.odcs import to_odcs
from processors.indexing.documents import to_bulks
from processors.indexing.plan import DEVICES, IndexField, device_rows
from processors.indexing.templates import mapping
from processors.stages.chain import Chain
from processors.stages.device_state import DeviceState, update_devices
from tests.unit.processors.indexing.plans import START, plan_of, sample, sample_rows


def test_built_in_contracts_index_windows_states_and_events() -> None:
    """Raw readings of 1 Hz streams are not in the plan; what people look for one by one is."""
    expected = {
        "windows_battery_pack": ("vg-windows-battery_pack", "window_start", "window_start"),
        "windows_charger_meter": ("vg-windows-charger_meter", "window_start", "window_start"),
        "windows_vehicle_telemetry": ("vg-windows-vehicle_telemetry", "window_start", "window_start"),
        "charger_status": ("vg-charger_status", "measured_at", "measured_at"),
        "vehicle_event": ("vg-vehicle_event", "measured_at", "measured_at"),
        "charging_session_revisions": ("vg-charging_sessions", None, "started_at"),
        "alert_revisions": ("vg-alerts", None, "fired_at"),
        "rejects": ("vg-rejects", "received_at", "received_at"),
        "devices": ("vg-devices", None, "received_at"),
    }
    assert expected == {name: (t.index, t.day_column, t.time_field) for name, t in plan_of().items()}


@pytest.mark.parametrize("table", sorted(plan_of()))
def test_every_column_of_a_table_is_a_field_or_left_out_on_purpose(table: str) -> None:
    """Payload bytes stay in the lake, everything else that a row says is in its document."""
    indexed = plan_of()[table]
    schema = dict(Chain(load_contracts([])).schemas.get(table, {}))
    assert [name for name in schema if name != "payload"] == list(indexed.columns)
    fields = [field.name for field in indexed.fields if field.type != "geo_point"]
    assert list(indexed.columns or fields) == fields
    assert {indexed.time_field, *indexed.id_columns} <= set(fields)
    assert len(fields) == len(set(fields))


def test_index_key_puts_readings_into_the_plan() -> None:
    """A contract that says nothing about it has windows in the index and no readings."""
    silent = sample(("index: true\n", ""))
    assert {"windows_sample", "sample"} <= plan_of(sample()).keys()
    assert ["windows_sample"] == [name for name in plan_of(silent) if "sample" in name]


def test_index_key_may_change_in_any_version_and_is_exported() -> None:
    """It says where readings are shown, not what they are."""
    old, new = sample(("index: true\n", "")), sample(("version: 1.2.0", "version: 1.2.1"))
    assert ([], ["index"]) == (compare(old, new), [change.place for change in changes(old, new)])
    assert {"property": "searchIndex", "value": True} in to_odcs(new)["customProperties"]


def test_id_of_a_window_names_its_part_and_its_size() -> None:
    """Windows of two connectors, and of two sizes, are different documents."""
    expected = ("tenant", "device_id", "bay", "window_s", "window_start")
    assert expected == plan_of(sample())["windows_sample"].id_columns


def test_field_carries_what_the_contract_says() -> None:
    """Unit, class and description go where the field goes."""
    expected = IndexField(
        name="latitude_deg",
        type="double",
        columns=("latitude_deg",),
        unit="deg",
        classification="location",
        description="",
    )
    assert expected == plan_of(sample())["sample"].field("latitude_deg")


def test_location_of_a_window_is_its_best_known_place() -> None:
    """Where the last position is aggregated that is the place, else the mean."""
    built_in = plan_of()["windows_vehicle_telemetry"].field("location")
    mean = plan_of(sample())["windows_sample"].field("location")
    assert ("latitude_deg_last", "longitude_deg_last") == built_in.columns
    assert ("latitude_deg_mean", "longitude_deg_mean") == mean.columns


def test_a_field_named_location_stays_what_it_is() -> None:
    """Nothing is put in the place of what a contract names."""
    contract = sample(("  mode: ", "  location: {type: str}\n  mode: "))
    assert "keyword" == plan_of(contract)["sample"].field("location").type


def test_devices_of_streams_that_call_one_name_differently_share_an_index() -> None:
    """A field of a device's document stands below its stream, so that two contracts cannot quarrel about a type."""
    other = sample(("stream: sample", "stream: other"), ("soc_pct:       {type: float", "soc_pct:       {type: int"))
    fields = {field.name: field.type for field in plan_of(sample(), other)[DEVICES].fields}
    assert ("double", "long") == (fields["value.sample.soc_pct"], fields["value.other.soc_pct"])


def test_orders_of_people_are_no_state_of_a_device() -> None:
    """The newest command to a charger is not what the charger is."""
    streams = {field.name.split(".")[1] for field in plan_of()[DEVICES].fields if field.name.startswith("value.")}
    assert {"device_command", "alert_order"} == set(load_contracts([]).streams) - streams
    order = next(contract for contract in load_contracts([]) if contract.stream == "alert_order")
    readings = pl.DataFrame(
        {"tenant": ["acme"], "device_id": ["ev-1"], "measured_at": [START], "received_at": [START], "offset": [1]},
        schema_overrides=dict(order.readings_schema()),
    )
    assert 0 == device_rows(order, update_devices(DeviceState.empty(), readings).frame).height


def test_device_row_has_the_part_the_values_and_their_times() -> None:
    """What DeviceState holds of a stream becomes rows of the plan's fields and of no others."""
    readings = sample_rows({"bay": "1", "soc_pct": 50.0}, {"bay": "1", "latitude_deg": 1.0, "longitude_deg": 2.0})
    state = update_devices(DeviceState.empty(), readings.drop("late"), "bay")
    rows = device_rows(sample(), state.frame)
    shown = ["stream", "part", "offset", "readings", "value.sample.soc_pct", "at.sample.soc_pct"]
    assert [("sample", "1", 1, 2, 50.0, START)] == rows.select(shown).rows()
    known = {column for field in plan_of(sample())[DEVICES].fields for column in field.columns}
    assert set(rows.columns) <= known
    assert ["acme/ev-1/sample/1"] == [
        bulk.item(0).document_id for bulk in to_bulks(plan_of(sample())[DEVICES], rows, bytes_max=9999)
    ]


def test_device_row_of_a_stream_without_parts_has_none() -> None:
    """Where a contract names no part, the document has null there."""
    contract = sample(("part: bay\n", ""))
    state = update_devices(DeviceState.empty(), sample_rows({"bay": "1"}).drop("late"))
    rows = device_rows(contract, state.frame)
    assert [(None, "1")] == rows.select("part", "value.sample.bay").rows()


def test_index_of_no_table_matches_the_pattern_of_another() -> None:
    """Templates and deletions of one table never touch another's indices; `windows` is therefore no stream's name."""
    plan = plan_of(sample(), sample(("stream: sample", "stream: sample_more")))
    for table in plan.values():
        index = table.index if table.day_column is None else f"{table.index}-2026.11.22"
        assert [table.table] == [name for name, other in plan.items() if fnmatchcase(index, other.pattern)]
    with pytest.raises(ConfigError, match="'windows' is a table of Voltgate's own"):
        sample(("stream: sample", "stream: windows"))


def test_mapping_has_every_field_once() -> None:
    """Dots of a name are objects of the mapping."""
    properties = mapping(plan_of(sample())[DEVICES])["properties"]
    assert {"type": "double"} == properties["value"]["properties"]["sample"]["properties"]["soc_pct"]
    assert "date" == properties["at"]["properties"]["sample"]["properties"]["soc_pct"]["type"]

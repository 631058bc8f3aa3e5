"""Contracts as files, sets and derived documents."""

import json
from pathlib import Path

import polars as pl
import pytest
from jsonschema import Draft201909Validator

from gateway.core.errors import ConfigError
from processors.contracts import load_contract, load_contracts, parse_contract
from processors.contracts.catalogue import aggregate_comments, reading_comments, to_text
from processors.contracts.compare import Breaking, compare
from processors.contracts.load import ContractSet
from processors.contracts.model import Origin
from processors.contracts.odcs import to_odcs
from processors.contracts.windows import Aggregate, AggregateKind, WindowPlan

ROOT = Path(__file__).parents[4]
EXAMPLES = ROOT / "docs" / "how-to" / "contracts"
ODCS_SCHEMA = ROOT / "tests" / "golden" / "odcs" / "odcs-json-schema-v3.1.0.json"

SAMPLE = """
stream: sample
version: 1.2.0
owner: someone@example.org
source: {mqtt: "fleet/{device_id}/status", encoding: [json, msgpack]}
time: {measured_at: {path: ts, format: epoch_ms}}
key: [device_id, measured_at]
fields:
  soc_pct:   {path: battery.soc, type: float, unit: "%", range: [0, 100], class: personal}
  speed_kmh: {type: float, unit: km/h, required: true, vss: Vehicle.Speed}
  mode:      {type: enum, values: {D: drive, N: neutral}}
windows:
  disorder: 2 s
  lateness: 1 min
  idle: 30 s
  sizes: [1 min, 5 min]
  aggregates: {speed_kmh: [mean, integral], mode: [last, count]}
rules:
  soc-low: {when: "soc_pct < 10 % and not (speed_kmh > 3 or mode == 'drive')", for: 2 min, severity: warning}
"""


def _sample(*changes: tuple[str, str]) -> str:
    text = SAMPLE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def test_windows_are_resolved_to_seconds_and_columns() -> None:
    """The integral knows its unit, its name and its scale from seconds."""
    expected = WindowPlan(
        pane_s=60,
        sizes_s=(60, 300),
        disorder_s=2.0,
        lateness_s=60.0,
        idle_s=30.0,
        gap_max_s=30.0,
        aggregates=(
            Aggregate(field="speed_kmh", kind=AggregateKind.MEAN, column="speed_kmh_mean", unit="km/h"),
            Aggregate(field="speed_kmh", kind=AggregateKind.INTEGRAL, column="distance_km", unit="km", scale=1 / 3600),
            Aggregate(field="mode", kind=AggregateKind.LAST, column="mode_last", unit=""),
            Aggregate(field="mode", kind=AggregateKind.COUNT, column="mode_count", unit="1"),
        ),
    )
    assert expected == parse_contract(SAMPLE, file="f.yaml").windows


def test_readings_schema_is_base_columns_then_fields() -> None:
    """Order and types are what every frame and table of the stream has."""
    time = pl.Datetime("us", "UTC")
    expected = {
        "tenant": pl.String(),
        "device_id": pl.String(),
        "measured_at": time,
        "received_at": time,
        "offset": pl.Int64(),
        "record": pl.Int32(),
        "flags": pl.String(),
        "soc_pct": pl.Float64(),
        "speed_kmh": pl.Float64(),
        "mode": pl.String(),
    }
    assert list(expected.items()) == list(parse_contract(SAMPLE, file="f.yaml").readings_schema().items())


def test_rule_knows_the_fields_it_reads() -> None:
    """Conditions are checked and kept as they were written."""
    (rule,) = parse_contract(SAMPLE, file="f.yaml").rules
    assert (rule.name, rule.hold_s, rule.fields) == ("soc-low", 120.0, ("mode", "soc_pct", "speed_kmh"))


def test_dot_inside_a_key_is_escaped() -> None:
    r"""`v\.b\.soc` is one key."""
    text = _sample(("path: battery.soc", r"path: v\.b\.soc"))
    assert parse_contract(text, file="f.yaml").field("soc_pct").path == ("v.b.soc",)


def test_topic_of_ones_own_stands_for_the_stream_as_channel() -> None:
    """The default grammar comes first, a pattern of one's own names its channel."""
    contracts = ContractSet([parse_contract(SAMPLE, file="f.yaml")])
    assert contracts.patterns() == [("v1/{tenant}/{device_id}/{channel}", None), ("fleet/{device_id}/status", "sample")]
    assert contracts.by_channel("sample") is contracts.by_stream("sample")
    assert contracts.by_channel("status") is None


def test_built_in_streams_have_the_channels_of_the_topic_grammar() -> None:
    """What signals are promised is what is there."""
    channels = {contract.stream: str(contract.channel) for contract in load_contracts([])}
    expected = {
        "vehicle_telemetry": "telemetry",
        "battery_pack": "battery",
        "vehicle_event": "event",
        "device_log": "log",
        "device_command": "command",
        "asset": "asset",
        "alert_order": "alert_order",
        # Nobody may speak on these; their rows are read out of OCPP frames.
        "charger_status": "charger_status",
        "charger_meter": "charger_meter",
        "charger_transaction": "charger_transaction",
    }
    assert expected == channels


def test_only_streams_of_devices_have_topics() -> None:
    """What the gateway or OCPP says has no place in the topic grammar, and no pattern to listen to."""
    contracts = load_contracts([])
    spoken = {contract.origin: set[str]() for contract in contracts}
    for contract in contracts:
        spoken[contract.origin].add(contract.stream)
        assert (contract.topic is None) == (contract.origin is not Origin.DEVICE)
    assert spoken[Origin.OCPP] == {"charger_status", "charger_meter", "charger_transaction"}
    assert spoken[Origin.GATEWAY] == {"device_command", "asset", "alert_order"}
    assert contracts.patterns() == [("v1/{tenant}/{device_id}/{channel}", None)]


def test_part_belongs_to_the_windows() -> None:
    """A stream's part splits its windows, and the comments of its window table name it."""
    meter = load_contracts([]).by_stream("charger_meter")
    assert meter is not None
    assert meter.windows is not None
    assert ("connector", "connector") == (meter.part, meter.windows.part)
    assert next(iter(aggregate_comments(meter))) == "connector"


@pytest.mark.parametrize(
    ("source", "part", "message"),
    [
        ("{from: gateway, mqtt: fleet/{device_id}/x}", "", r"source.mqtt: 'from: gateway' has no topic; delete"),
        ("{from: ocpp}", "", r"source.from: there is no OCPP stream 'sample'; OCPP gives charger_status, charger_m"),
        ("{from: device, channel: x}", "", r"source.channel: a device's channel is in its topic; delete 'channel'"),
        ("{from: gateway, channel: X y}", "", r"source.channel: 'X y' is no name; write snake_case"),
        ("{from: nobody}", "", r"source.from: 'nobody' is not usable; input should be 'device', 'gateway' or 'ocpp'"),
        ("{from: gateway}", "part: soc_pct", r"part: there is no field 'soc_pct' of type str or enum; write"),
        ("{from: gateway}", "part: mod", r"part: there is no field 'mod' of type str or enum; write 'mode'"),
    ],
)
def test_source_and_part_are_checked(source: str, part: str, message: str) -> None:
    """Who speaks and what splits a device are errors with a place and a mend."""
    text = f"""
stream: sample
version: 1.0.0
source: {source}
time: {{measured_at: {{path: ts}}}}
{part}
fields:
  soc_pct: {{type: float, unit: "%"}}
  mode: {{type: str}}
""".replace("mqtt: fleet/{device_id}/x", 'mqtt: "fleet/{device_id}/x"')
    with pytest.raises(ConfigError, match=message):
        parse_contract(text, file="f.yaml")


def test_catalogue_says_who_speaks() -> None:
    """A page of a stream without a topic says where its rows come from."""
    contracts = load_contracts([])
    meter, command = contracts.by_stream("charger_meter"), contracts.by_stream("device_command")
    assert meter is not None
    assert command is not None
    assert "- read out of OCPP frames" in to_text(meter)
    assert "- written by the gateway, on channel `command`" in to_text(command)


def test_a_users_file_adds_a_stream(tmp_path: Path) -> None:
    """One file in a directory is all it takes."""
    (tmp_path / "sample.yml").write_text(SAMPLE, "utf-8")
    (tmp_path / "notes.txt").write_text("not a contract", "utf-8")
    assert "sample" in load_contracts([tmp_path]).streams


def test_two_files_with_one_stream_are_refused(tmp_path: Path) -> None:
    """The second names the first."""
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(SAMPLE, "utf-8")
    with pytest.raises(ConfigError, match=r"b\.yaml:1: stream 'sample' .* is already in .*a\.yaml"):
        load_contracts([tmp_path])


def test_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    """Missing directories, missing files and other encodings are ConfigErrors."""
    (tmp_path / "latin.yaml").write_bytes("description: Müller".encode("latin-1"))
    with pytest.raises(ConfigError, match="is not UTF-8 at byte 14"):
        load_contracts([tmp_path])
    with pytest.raises(ConfigError, match="is not a directory"):
        load_contracts([tmp_path / "gone"])
    with pytest.raises(ConfigError, match="cannot be read"):
        load_contract(tmp_path / "gone.yaml")


@pytest.mark.parametrize("contract", [*load_contracts([EXAMPLES])], ids=lambda contract: contract.stream)
def test_exported_contract_is_a_valid_odcs_document(contract: object) -> None:
    """The document of every contract we ship passes the standard's own JSON Schema."""
    from processors.contracts import Contract

    assert isinstance(contract, Contract)
    validator = Draft201909Validator(json.loads(ODCS_SCHEMA.read_text("utf-8")))
    document = json.loads(json.dumps(to_odcs(contract)))
    assert [error.message for error in validator.iter_errors(document)] == []
    del document["schema"][0]["name"]
    document["slaProperties"][0]["fortune"] = 1
    assert len(list(validator.iter_errors(document))) == 2


def test_odcs_document_carries_units_paths_and_keys() -> None:
    """What the contract knows about a column is in the document."""
    columns = {
        column["name"]: column for column in to_odcs(parse_contract(SAMPLE, file="f.yaml"))["schema"][0]["properties"]
    }
    assert columns["speed_kmh"] == {
        "name": "speed_kmh",
        "logicalType": "number",
        "physicalType": "double",
        "required": False,
        "classification": "internal",
        "customProperties": [{"property": "unit", "value": "km/h"}, {"property": "vss", "value": "Vehicle.Speed"}],
    }
    assert columns["soc_pct"]["logicalTypeOptions"] == {"minimum": 0, "maximum": 100}
    assert columns["measured_at"]["primaryKeyPosition"] == 2
    assert columns["mode"]["quality"][0]["arguments"]["validValues"] == ["drive", "neutral"]


def test_comments_hold_unit_range_path_and_class() -> None:
    """One line per column, for tables and pages."""
    contract = parse_contract(SAMPLE, file="f.yaml")
    comments = reading_comments(contract)
    assert list(contract.readings_schema()) == list(comments)
    assert comments["soc_pct"] == "[%] 0..100, class personal"
    assert comments["speed_kmh"] == "[km/h], VSS Vehicle.Speed"
    assert comments["mode"] == "one of drive, neutral"
    assert aggregate_comments(contract)["distance_km"] == "integral of speed_kmh [km]"
    assert "| mode | enum | one of drive, neutral |" in to_text(contract).splitlines()


COMPARISONS = {
    "removed field": (
        ("  mode:      {type: enum, values: {D: drive, N: neutral}}\n", ""),
        (", mode: [last, count]", ""),
        (" or mode == 'drive'", ""),
        "2.0.0",
    ),
    "narrowed range": (("[0, 100]", "[0, 90]"), "2.0.0"),
    "range where none was": (("unit: km/h,", "unit: km/h, range: [0, 90],"), "2.0.0"),
    "other unit": (("unit: km/h", "unit: mph"), "2.0.0"),
    "required now": (("path: battery.soc,", "path: battery.soc, required: true,"), "2.0.0"),
    "enum value gone": (("{D: drive, N: neutral}", "{D: drive}"), "2.0.0"),
    "enum value renamed": (("{D: drive, N: neutral}", "{D: drive, N: parked}"), "2.0.0"),
    "other place": (("path: battery.soc", "path: soc"), "2.0.0"),
    "other time format": (("epoch_ms", "epoch_s"), "2.0.0"),
    "encoding gone": (("[json, msgpack]", "json"), "2.0.0"),
    "aggregate gone": (("[mean, integral]", "[mean]"), "2.0.0"),
    "window size gone": (("[1 min, 5 min]", "[1 min]"), "2.0.0"),
    "other key": (("key: [device_id, measured_at]\n", ""), "2.0.0"),
    "other topic": (("fleet/{device_id}/status", "fleet/{device_id}/state"), "2.0.0"),
    "parts now": (("key: [device_id, measured_at]\n", "key: [device_id, measured_at]\npart: mode\n"), "2.0.0"),
    "spoken by the gateway": (
        ('{mqtt: "fleet/{device_id}/status", encoding: [json, msgpack]}', "{from: gateway, encoding: [json, msgpack]}"),
        "2.0.0",
    ),
    "new field": (("fields:\n", "fields:\n  altitude_m: {type: float}\n"), "1.3.0"),
    "new required field": (("fields:\n", "fields:\n  altitude_m: {type: float, required: true}\n"), "2.0.0"),
    "wider range": (("[0, 100]", "[-1, 110]"), "1.3.0"),
    "new enum value": (("{D: drive, N: neutral}", "{D: drive, N: neutral, R: reverse}"), "1.3.0"),
    "new aggregate": (("[mean, integral]", "[mean, integral, max]"), "1.3.0"),
    "new encoding": (("[json, msgpack]", "[json, msgpack, columns]"), "1.3.0"),
    "other patience": (("lateness: 1 min", "lateness: 2 min"), "1.2.1"),
    "other rule": (("soc_pct < 10 %", "soc_pct < 12 %"), "1.2.1"),
}


@pytest.mark.parametrize("name", sorted(COMPARISONS))
def test_change_needs_its_version(name: str) -> None:
    """A change under the old number is a finding, under the number it needs it is none."""
    *edits, needs = COMPARISONS[name]
    old = parse_contract(SAMPLE, file="old.yaml")
    changed = _sample(*[edit for edit in edits if isinstance(edit, tuple)])
    findings = compare(old, parse_contract(changed, file="new.yaml"))
    assert {needs} == {finding.needs for finding in findings} - ({"1.3.0", "1.2.1"} if needs == "2.0.0" else set())
    raised = changed.replace("version: 1.2.0", f"version: {needs}")
    assert compare(old, parse_contract(raised, file="new.yaml")) == []


def test_words_may_change_without_a_version() -> None:
    """A description is for people."""
    old = parse_contract(SAMPLE, file="old.yaml")
    new = parse_contract(SAMPLE + "description: the same\n", file="new.yaml")
    assert compare(old, new) == []


def test_finding_says_what_was_and_what_is() -> None:
    """Place, both values and the version that would admit it."""
    old = parse_contract(SAMPLE, file="old.yaml")
    new = parse_contract(_sample(("unit: km/h", "unit: mph"), ("integral", "max")), file="new.yaml")
    assert Breaking(place="fields.speed_kmh.unit", what="was 'km/h', is 'mph'", needs="2.0.0") in compare(old, new)


def test_before_version_1_a_minor_step_admits_everything() -> None:
    """Semantic Versioning 2.0.0, item 4."""
    old = parse_contract(_sample(("1.2.0", "0.2.0")), file="old.yaml")
    new = parse_contract(_sample(("1.2.0", "0.3.0"), ("[0, 100]", "[0, 50]")), file="new.yaml")
    assert compare(old, new) == []

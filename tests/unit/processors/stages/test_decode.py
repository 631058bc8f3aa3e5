"""Payloads become readings or rejections, by the contract."""

import csv
import gzip
import json
import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zstandard

from gateway.core.ids import Channel, DeviceId, Offset, TenantId
from gateway.core.limits import RECORDS_PER_PAYLOAD_MAX, REJECT_PAYLOAD_BYTES_MAX, UNPACKED_BYTES_MAX
from gateway.core.records import EntryBatch, Envelope, Route, to_batch
from processors.contracts import load_contract, load_contracts, parse_contract
from processors.contracts.model import Origin, TimeFormat
from processors.stages.decode import Decoded, StreamDecoder, decode
from processors.stages.records import BatchTooLarge

CONTRACT = """
stream: sample
version: 1.0.0
time: {measured_at: {path: ts}}
fields:
  soc_pct:   {path: soc, type: float, unit: "%", range: [0, 100], required: true}
  count:     {type: int, range: [0, 1000]}
  mode:      {type: enum, values: {D: drive, N: neutral}}
  label:     {type: str}
  on:        {path: battery.on, type: bool}
  current_a: {path: battery.current, type: float, unit: A, scale: 0.1, offset: -1000, sign: -1, missing: [65535]}
"""
TIME = "2026-11-22T10:00:00Z"
AT = datetime(2026, 11, 22, 10, tzinfo=UTC)
RECEIVED_NS = 1_795_341_600_123_456_789
RECEIVED = AT + timedelta(microseconds=123_456)
GOOD: dict[str, Any] = {"ts": TIME, "soc": 50.5}
TWIZY = Path(os.environ.get("VOLTGATE_TEST_DATA", "../shared/data")) / "twizy"
TWIZY_CONTRACT = Path(__file__).parents[4] / "docs" / "how-to" / "contracts" / "twizy.yaml"


def _batch(*payloads: bytes, device: str = "ev-1") -> EntryBatch:
    route = Route(TenantId("t"), DeviceId(device), "mqtt", Channel("sample"))
    return to_batch(Offset(7), [Envelope(received_at_ns=RECEIVED_NS, route=route, payload=p) for p in payloads])


def _decode(*payloads: bytes, contract: str = CONTRACT) -> Decoded:
    return decode(parse_contract(contract, file="f.yaml"), _batch(*payloads))


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _with_time(spec: str) -> str:
    return CONTRACT.replace("{path: ts}", spec)


def test_reading_has_all_columns_of_the_contract() -> None:
    """Who, when, where in the journal, and every field, scaled and named."""
    record = GOOD | {"count": 3, "mode": "D", "label": "a", "battery": {"on": True, "current": 9000}, "else": [1]}
    decoded = _decode(_json(record))
    expected = {
        "tenant": "t",
        "device_id": "ev-1",
        "measured_at": AT,
        "received_at": RECEIVED,
        "offset": 7,
        "record": 0,
        "flags": None,
        "soc_pct": 50.5,
        "count": 3,
        "mode": "drive",
        "label": "a",
        "on": True,
        "current_a": 100.0,
    }
    assert [expected] == decoded.readings.to_dicts()
    assert parse_contract(CONTRACT, file="f.yaml").readings_schema() == dict(decoded.readings.schema)
    assert decoded.records == 1


def test_missing_is_null_and_never_0() -> None:
    """Absent keys, nulls and sentinels are all the same, without a flag."""
    decoded = _decode(
        _json(GOOD),
        _json(GOOD | {"count": None, "mode": None, "label": None, "battery": None}),
        _json(GOOD | {"battery": {"on": None, "current": 65535}}),
    )
    fields = ["count", "mode", "label", "on", "current_a", "flags"]
    assert [dict.fromkeys(fields)] * 3 == decoded.readings.select(fields).to_dicts()


def test_implausible_values_become_null_with_sorted_flags() -> None:
    """Right type, wrong value: the field goes, the row stays, each code is counted."""
    decoded = _decode(
        _json(GOOD | {"soc": 100.1, "count": -1, "mode": "X"}),
        msgpack.packb(GOOD | {"soc": float("nan"), "battery": {"current": float("inf")}}),
        _json(GOOD | {"soc": 100}),
    )
    expected = ["enum:mode,range:count,range:soc_pct", "range:current_a,range:soc_pct", None]
    assert expected == decoded.readings["flags"].to_list()
    assert decoded.readings["soc_pct"].to_list() == [None, None, 100.0]
    assert decoded.flagged == {"enum:mode": 1, "range:count": 1, "range:current_a": 1, "range:soc_pct": 2}


@pytest.mark.parametrize("spread", [lambda x: x, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize("encode", [_json, msgpack.packb], ids=["json", "msgpack"])
@pytest.mark.parametrize(
    "shape",
    [[GOOD, GOOD | {"soc": 51}], {"ts": [TIME, TIME], "soc": [50.5, 51], "device_id": "ev-1"}],
    ids=["array", "columns"],
)
def test_several_records_in_one_payload(spread: Any, encode: Any, shape: object) -> None:
    """Arrays of objects and objects of arrays, in both syntaxes, wrapped or not."""
    decoded = _decode(spread(encode(shape)))
    assert list(decoded.readings.select("record", "soc_pct").iter_rows()) == [(0, 50.5), (1, 51.0)]
    assert decoded.rejections == []


REJECTS: dict[str, tuple[bytes, tuple[str, str, str, str]]] = {
    "no time": (_json({"soc": 1}), ("time", "$.ts", "a value", "nothing")),
    "null time": (_json(GOOD | {"ts": None}), ("time", "$.ts", "str", "null")),
    "number as time": (_json(GOOD | {"ts": 5}), ("time", "$.ts", "str", "int")),
    "no such day": (
        _json(GOOD | {"ts": "2026-02-30T00:00:00Z"}),
        ("time", "$.ts", "iso8601 between 1970-01-01 and 2106-02-07", "2026-02-30T00:00:00Z"),
    ),
    "before 1970": (
        _json(GOOD | {"ts": "1969-12-31T23:59:59Z"}),
        ("time", "$.ts", "iso8601 between 1970-01-01 and 2106-02-07", "1969-12-31T23:59:59Z"),
    ),
    "another device": (_json(GOOD | {"device_id": "x"}), ("identity", "$.device_id", "the sending device", "x")),
    "number as device": (_json(GOOD | {"device_id": 5}), ("identity", "$.device_id", "str | null", "int")),
    "required absent": (_json({"ts": TIME}), ("required", "$.soc", "a value", "nothing")),
    "required null": (_json(GOOD | {"soc": None}), ("required", "$.soc", "float", "null")),
    "required nil": (msgpack.packb(GOOD | {"soc": None}), ("required", "$.soc", "float", "null")),
    "text for a number": (_json(GOOD | {"soc": "5"}), ("type", "$.soc", "float", "str")),
    "fraction for a whole": (_json(GOOD | {"count": 1.5}), ("type", "$.count", "int | null", "float")),
    "number for a bool": (_json(GOOD | {"battery": {"on": 1}}), ("type", "$.battery.on", "bool | null", "int")),
    "text for an object": (_json(GOOD | {"battery": "full"}), ("type", "$.battery", "object | null", "str")),
    "65 bits": (_json(GOOD | {"count": 2**64}), ("type", "$.count", "int <= 9223372036854775807", "another value")),
    "no object": (b"5", ("type", "$", "object", "int")),
    "array of no object": (b"[5]", ("type", "$", "object", "int")),
    "nothing": (b"", ("empty", "$", "a record", "nothing")),
    "spaces": (b" \n ", ("empty", "$", "a record", "nothing")),
    "empty array": (b"[]", ("empty", "$", "a record", "an empty array")),
    "empty columns": (b'{"ts": []}', ("empty", "$", "a record", "an empty array")),
    "columns of two lengths": (b'{"ts": ["a", "b"], "soc": [1]}', ("columns", "$.soc", "2 values", "1 values")),
    "cut JSON": (b'{"ts": "20', ("json", "$", "json", "Input data was truncated")),
    "NaN in JSON": (b'{"soc": NaN}', ("json", "$", "json", "JSON is malformed: invalid character (byte 8)")),
    "cut MessagePack": (b"\x82\xa2ts", ("msgpack", "$", "msgpack", "Input data was truncated")),
    "bytes as key": (b"\x81\xc4\x01a\x01", ("type", "$", "str", "bytes")),
    "latin-1": (b'{"label": "M\xfcller"}', ("json", "$", "text in UTF-8", "invalid start byte")),
    "lone surrogate": (b'{"label": "\\ud800 "}', ("json", "$", "json", "Input data was truncated")),
    "byte order mark": (
        b"\xef\xbb\xbf{}",
        ("json", "$", "json", "JSON is malformed: invalid character (byte 0)"),
    ),
    "depth": (b'{"a":' * 50_000, ("json", "$", "a record", "nested too deep")),
    "depth in an array": (b"[" * 50_000, ("json", "$", "a record", "nested too deep")),
    "cut gzip": (gzip.compress(b"{}")[:-4], ("encoding", "$", "whole gzip or zstd data", "the end is missing")),
}


@pytest.mark.parametrize("name", sorted(REJECTS))
def test_poison_is_rejected_with_its_reason(name: str) -> None:
    """Code, path, expected and got say what to mend; the bytes are kept; a neighbour is unharmed."""
    payload, reason = REJECTS[name]
    decoded = _decode(_json(GOOD), payload, _json(GOOD))
    (rejection,) = decoded.rejections
    assert reason == (rejection.code, rejection.path, rejection.expected, rejection.got)
    assert (rejection.offset, rejection.record, rejection.device_id) == (8, 0, "ev-1")
    assert rejection.payload in {payload, payload.strip(b"[]")}
    assert decoded.readings["offset"].to_list() == [7, 9]
    assert decoded.records == 3


def test_only_the_bad_record_of_a_payload_is_rejected() -> None:
    """With its own bytes and place, as its neighbours became readings."""
    rows = [GOOD, GOOD | {"soc": "x"}, GOOD | {"ts": "soon"}, GOOD]
    for payload in (_json(rows), _json({key: [row[key] for row in rows] for key in GOOD})):
        decoded = _decode(payload)
        assert decoded.readings["record"].to_list() == [0, 3]
        assert [(r.record, r.code) for r in decoded.rejections] == [(1, "type"), (2, "time")]
        assert [rows[1], rows[2]] == [json.loads(r.payload) for r in decoded.rejections]


def test_required_field_with_a_sentinel_is_missing() -> None:
    """A value that stands for missing does not satisfy `required`."""
    contract = CONTRACT.replace("required: true", "required: true, missing: [255]")
    decoded = _decode(_json(GOOD | {"soc": 255}), contract=contract)
    assert [(r.code, r.path) for r in decoded.rejections] == [("required", "$.soc")]


def test_bomb_is_rejected_before_it_unpacks() -> None:
    """256 KiB can hold 256 MiB of zeros; no more than the limit is ever made."""
    for bomb in (gzip.compress(bytes(UNPACKED_BYTES_MAX + 1)), zstandard.compress(bytes(UNPACKED_BYTES_MAX + 1))):
        (rejection,) = _decode(bomb).rejections
        assert ("encoding", f"at most {UNPACKED_BYTES_MAX} bytes unpacked") == (rejection.code, rejection.expected)


@pytest.mark.parametrize(
    "payload",
    [
        b"[" + b"0," * RECORDS_PER_PAYLOAD_MAX + b"0]",
        b"[" + b"{}," * RECORDS_PER_PAYLOAD_MAX + b"{}]",
        b'{"ts": [' + b"0," * RECORDS_PER_PAYLOAD_MAX + b"0]}",
        b"\xdd" + (RECORDS_PER_PAYLOAD_MAX + 1).to_bytes(4, "big") + b"\x80" * (RECORDS_PER_PAYLOAD_MAX + 1),
    ],
    ids=["array", "objects", "columns", "msgpack"],
)
def test_more_records_than_one_payload_may_have_are_one_reject(payload: bytes) -> None:
    """The bound holds before the records are made; the kept bytes are bounded too."""
    (rejection,) = _decode(gzip.compress(payload)).rejections
    assert (rejection.code, rejection.record) == ("records", 0)
    assert len(rejection.payload) <= REJECT_PAYLOAD_BYTES_MAX


@pytest.mark.parametrize(
    ("encoding", "payload", "got"),
    [
        ("json", msgpack.packb(GOOD), "msgpack"),
        ("msgpack", _json(GOOD), "json"),
        ("columns", _json(GOOD), "json"),
        ("columns", _json([GOOD]), "json"),
    ],
)
def test_other_encoding_than_the_contracts_is_rejected(encoding: str, payload: bytes, got: str) -> None:
    """A contract that names an encoding means it."""
    decoded = _decode(payload, contract=CONTRACT + f"source: {{encoding: {encoding}}}\n")
    assert [("encoding", encoding, got)] == [(r.code, r.expected, r.got) for r in decoded.rejections]


@pytest.mark.parametrize(
    ("spec", "value", "expected"),
    [
        ("{path: ts}", "2026-11-22T11:00:00.25+01:00", AT + timedelta(milliseconds=250)),
        ("{path: ts, zone: Europe/Berlin}", "2026-11-22T11:00:00", AT),
        ("{path: ts, zone: Europe/Berlin}", "2026-11-22T10:00:00Z", AT),
        ("{path: ts, format: epoch_s}", 1_795_341_600, AT),
        ("{path: ts, format: epoch_s}", 1_795_341_600.25, AT + timedelta(milliseconds=250)),
        ("{path: ts, format: epoch_ms}", 1_795_341_600_250, AT + timedelta(milliseconds=250)),
        ("{path: ts, format: epoch_us}", 1_795_341_600_000_001, AT + timedelta(microseconds=1)),
        ("{path: ts, format: epoch_ns}", 1_795_341_600_000_001_999, AT + timedelta(microseconds=1)),
        ('{path: ts, format: "%d.%m.%Y %H:%M:%S.%f"}', "22.11.2026 10:00:00.5", AT + timedelta(milliseconds=500)),
        ('{path: ts, format: "%Y-%m-%d %H:%M:%S %z"}', "2026-11-22 12:00:00 +0200", AT),
        ("{path: ts, format: epoch_s}", 4_294_967_295, datetime(2106, 2, 7, 6, 28, 15, tzinfo=UTC)),
        ("{path: ts, format: epoch_s}", 0, datetime(1970, 1, 1, tzinfo=UTC)),
        # In autumn 2026 Berlin's clocks show 02:30 twice, the first time in summer time.
        ("{path: ts, zone: Europe/Berlin}", "2026-10-25T02:30:00", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
    ],
)
def test_times_are_read_in_the_contracts_format(spec: str, value: object, expected: datetime) -> None:
    """Fractions, offsets, zones and the ends of 32-bit clocks."""
    assert [expected] == _decode(_json(GOOD | {"ts": value}), contract=_with_time(spec)).readings[
        "measured_at"
    ].to_list()


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ("{path: ts, format: epoch_s}", 4_294_967_296),
        ("{path: ts, format: epoch_s}", 1_795_341_600_000),
        ("{path: ts, format: epoch_s}", -1),
        ("{path: ts, format: epoch_s}", 1e300),
        ("{path: ts, format: epoch_ms}", "1795341600000"),
        ("{path: ts, format: epoch_us}", 1.5),
        ("{path: ts, format: epoch_ns}", 2**63 - 1),
        # In spring 2026 Berlin's clocks never show 02:30.
        ("{path: ts, zone: Europe/Berlin}", "2026-03-29T02:30:00"),
        ("{path: ts}", "2026-11-22"),
        ("{path: ts}", "now"),
        ("{path: ts}", ""),
    ],
)
def test_time_that_cannot_be_meant_is_a_reject(spec: str, value: object) -> None:
    """A number in the wrong unit, an hour that never was, text of another format."""
    decoded = _decode(_json(GOOD | {"ts": value}), contract=_with_time(spec))
    assert [(r.code, r.path) for r in decoded.rejections] == [("time", "$.ts")]


def test_message_without_a_time_may_count_as_measured_on_receipt() -> None:
    """If the contract says so, and the flag says so; a time that is there and wrong is still a reject."""
    contract = _with_time("{path: ts, absent: received_at}")
    decoded = _decode(_json({"soc": 1}), _json({"soc": 101}), _json(GOOD), _json(GOOD | {"ts": "x"}), contract=contract)
    assert decoded.readings["measured_at"].to_list() == [RECEIVED, RECEIVED, AT]
    assert decoded.readings["flags"].to_list() == ["clock_absent", "clock_absent,range:soc_pct", None]
    assert [(r.offset, r.code) for r in decoded.rejections] == [(10, "time")]


def test_identity_may_be_another_key_or_none() -> None:
    """`source.identity` names the key that must agree with the device."""
    other = _decode(_json(GOOD | {"vin": "x"}), contract=CONTRACT + "source: {identity: vin}\n")
    assert [(r.code, r.path) for r in other.rejections] == [("identity", "$.vin")]
    free = _decode(_json(GOOD | {"device_id": "x"}), contract=CONTRACT + "source: {identity: ~}\n")
    assert free.rejections == []


def test_selected_entries_keep_their_offsets_and_devices() -> None:
    """The entries of one stream lie among those of others."""
    routes = [Route(TenantId("t"), DeviceId(f"ev-{i}"), "mqtt", Channel("sample")) for i in range(4)]
    payloads = [b"of another stream", _json(GOOD), b"poison", _json(GOOD)]
    batch = to_batch(
        Offset(100),
        [Envelope(received_at_ns=RECEIVED_NS, route=r, payload=p) for r, p in zip(routes, payloads, strict=True)],
    )
    decoded = StreamDecoder(parse_contract(CONTRACT, file="f.yaml")).decode(batch, [1, 2, 3])
    assert list(decoded.readings.select("offset", "device_id").iter_rows()) == [(101, "ev-1"), (103, "ev-3")]
    assert [(r.offset, r.device_id, r.code) for r in decoded.rejections] == [(102, "ev-2", "json")]


def test_too_many_records_at_once_are_left_to_a_smaller_batch() -> None:
    """Compressed arrays hold more than fits; one payload alone is bounded by its own limit and always decodes."""
    decoder = StreamDecoder(parse_contract(CONTRACT, file="f.yaml"), records_max=3)
    pair = _json([GOOD, GOOD])
    with pytest.raises(BatchTooLarge, match="2 payloads hold more than 3 records"):
        decoder.decode(_batch(pair, pair))
    assert decoder.decode(_batch(_json([GOOD] * 4))).records == 4


def test_nothing_decodes_to_nothing() -> None:
    """An empty batch has the contract's columns."""
    decoded = _decode()
    assert (decoded.readings.height, decoded.rejections, decoded.records) == (0, [], 0)
    assert parse_contract(CONTRACT, file="f.yaml").readings_schema() == dict(decoded.readings.schema)


@pytest.mark.parametrize(
    "contract",
    [contract for contract in load_contracts([]) if contract.origin is not Origin.OCPP],
    ids=lambda contract: contract.stream,
)
def test_built_in_streams_accept_their_own_field_names(contract: Any) -> None:
    """One message with a plausible value for each field decodes without a flag, in both syntaxes."""
    plausible = {"float": 1.5, "int": 2, "bool": True, "str": "text"}
    (time,) = contract.time.paths[0]
    record: dict[str, Any] = {time: RECEIVED_NS if contract.time.format == TimeFormat.EPOCH_NS else TIME}
    for field in contract.fields:
        record[field.name] = next(iter(field.values)) if field.values else plausible[field.type]
    decoded = decode(contract, _batch(_json(record), msgpack.packb(record)))
    assert decoded.rejections == []
    assert decoded.readings["flags"].to_list() == [None, None]
    assert not any(decoded.readings.select(field.name for field in contract.fields).null_count().row(0))


def _twizy_payload(row: dict[str, str]) -> bytes:
    numbers = {
        key: float(value) for key, value in row.items() if key not in {"Date", "Time", "Mode", "Weather", "Traffic"}
    }
    return _json(row | numbers | {"Traffic": int(row["Traffic"])})


@pytest.mark.skipif(not TWIZY.is_dir(), reason="recordings are not at hand; set VOLTGATE_TEST_DATA")
def test_recorded_trips_decode_to_the_row() -> None:
    """34,372 readings, 44 dates that do not exist, and the first and last charge of each file as in the file."""
    decoder = StreamDecoder(load_contract(TWIZY_CONTRACT))
    rows_total, codes = 0, Counter[str]()
    for file in sorted(TWIZY.glob("*.csv")):
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        decoded = decoder.decode(_batch(*map(_twizy_payload, rows), device=file.stem))
        rows_total += decoded.readings.height
        codes.update(rejection.code for rejection in decoded.rejections)
        assert [float(rows[0]["Soc"]), float(rows[-1]["Soc"])] == decoded.readings["soc_pct"].gather([0, -1]).to_list()
    assert (rows_total, dict(codes)) == (34_372, {"time": 44})

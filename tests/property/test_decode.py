"""Decoding: what a record becomes depends on that record alone, and no bytes surprise it."""

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgpack
import polars as pl
import zstandard
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.core.ids import Channel, DeviceId, Offset, TenantId
from gateway.core.records import EntryBatch, Envelope, Route, to_batch
from processors.contracts import parse_contract
from processors.stages.decode import Decoded, StreamDecoder
from processors.stages.faults import REJECT_CODES
from processors.stages.payloads import JSON

CONTRACT = """
stream: sample
version: 1.0.0
time: {measured_at: {path: ts}}
fields:
  soc_pct:   {path: soc, type: float, unit: "%", range: [0, 100], required: true}
  count:     {type: int, range: [0, 1000]}
  mode:      {type: enum, values: {D: drive, N: neutral}}
  gear:      {type: enum, values: {1: first, 2: second}, missing: [255]}
  label:     {type: str}
  on:        {path: battery.on, type: bool}
  current_a: {path: battery.current, type: float, unit: A, scale: 0.1, offset: -1000, sign: -1, missing: [65535]}
"""
FLAT = "\n".join(line for line in CONTRACT.splitlines() if "battery." not in line)
NESTED_DECODER = StreamDecoder(parse_contract(CONTRACT, file="nested.yaml"))
FLAT_DECODER = StreamDecoder(parse_contract(FLAT, file="flat.yaml"))
JSON_ONLY = StreamDecoder(parse_contract(CONTRACT + "source: {encoding: json}\n", file="json.yaml"))
COLUMNS_ONLY = StreamDecoder(parse_contract(FLAT + "\nsource: {encoding: columns}\n", file="columns.yaml"))
DECODERS = st.sampled_from([NESTED_DECODER, FLAT_DECODER, JSON_ONLY, COLUMNS_ONLY])
ROUTES = [
    Route(TenantId("t"), DeviceId(device), source, Channel("sample"))
    for device, source in (("ev-1", "mqtt"), ("ev-2", "mqtt"))
]

LOCAL = datetime.fromisoformat
times = st.datetimes(LOCAL("1960-01-01"), LOCAL("2120-01-01")).map(lambda t: t.isoformat() + "Z")
junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
good_fields = {
    "soc": st.floats(-10, 110) | st.integers(0, 100),
    "count": st.integers(-5, 1005),
    "mode": st.sampled_from(["D", "N", "X"]),
    "gear": st.sampled_from([1, 2, 3, 255]),
    "label": st.text(max_size=5),
    "battery": st.fixed_dictionaries({}, optional={"on": st.booleans(), "current": st.integers(0, 65535)}),
    "device_id": st.sampled_from(["ev-1", "ev-2"]),
    "later": junk,
}
good_records = st.fixed_dictionaries(
    {"ts": st.just("2026-11-22T10:00:00Z"), "soc": good_fields["soc"]},
    optional={key: good for key, good in good_fields.items() if key not in {"soc", "device_id", "later"}},
)
records = st.one_of(
    st.fixed_dictionaries(
        {"ts": times, "soc": good_fields["soc"]},
        optional={key: good for key, good in good_fields.items() if key != "soc"},
    ),
    st.fixed_dictionaries({}, optional={"ts": times | junk} | {key: good | junk for key, good in good_fields.items()}),
)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _msgpack(value: object) -> bytes:
    return bytes(msgpack.packb(_in_64_bits(value)))


def _in_64_bits(value: object) -> object:
    """MessagePack has no longer integers."""
    match value:
        case int() if not -(2**63) <= value < 2**64:
            return 2**64 - 1
        case dict():
            return {key: _in_64_bits(inner) for key, inner in value.items()}
        case list():
            return [_in_64_bits(inner) for inner in value]
        case _:
            return value


def _columns(rows: list[dict[str, object]]) -> dict[str, object]:
    keys = {key for row in rows for key in row}
    return {key: [row.get(key) for row in rows] for key in sorted(keys)}


encoders: st.SearchStrategy[Callable[[object], bytes]] = st.sampled_from([_json, _msgpack])
wrappers: st.SearchStrategy[Callable[[bytes], bytes]] = st.sampled_from(
    [bytes, bytes, bytes, gzip.compress, zstandard.compress]
)
shapes = st.one_of(
    records,
    st.lists(records | junk, max_size=4),
    st.lists(records, max_size=4).map(_columns),
    junk,
)
well_formed = st.builds(lambda value, encode, wrap: wrap(encode(value)), shapes, encoders, wrappers)
cut = st.builds(lambda payload, n: payload[: n % (len(payload) + 1)], well_formed, st.integers(0, 1000))
payloads = st.one_of(well_formed, well_formed, cut, st.binary(max_size=20))
messages = st.lists(st.tuples(payloads, st.integers(0, 1)), max_size=8)


def _batch(sent: list[tuple[bytes, int]], base_offset: int = 100) -> EntryBatch:
    envelopes = [
        Envelope(received_at_ns=1_795_341_600_000_000_000 + i, route=ROUTES[who], payload=payload)
        for i, (payload, who) in enumerate(sent)
    ]
    return to_batch(Offset(base_offset), envelopes)


def _one_by_one(decoder: StreamDecoder, batch: EntryBatch) -> list[Decoded]:
    return [decoder.decode(batch, [i]) for i in range(len(batch))]


@given(messages, DECODERS)
def test_a_batch_decodes_like_its_entries_alone(sent: list[tuple[bytes, int]], decoder: StreamDecoder) -> None:
    """Neither readings nor rejections depend on the neighbours."""
    batch = _batch(sent)
    whole, parts = decoder.decode(batch), _one_by_one(decoder, batch)
    expected = pl.concat([part.readings for part in parts]) if parts else whole.readings.clear()
    assert expected.equals(whole.readings, null_equal=True)
    assert [rejection for part in parts for rejection in part.rejections] == whole.rejections
    assert sum(part.records for part in parts) == whole.records


@given(messages, DECODERS)
def test_every_entry_gives_a_reading_or_a_rejection(sent: list[tuple[bytes, int]], decoder: StreamDecoder) -> None:
    """Records are conserved, and each is named once by offset and place."""
    batch = _batch(sent)
    decoded = decoder.decode(batch)
    named = list(decoded.readings.select("offset", "record").iter_rows())
    assert {rejection.code for rejection in decoded.rejections} <= set(REJECT_CODES)
    named += [(rejection.offset, rejection.record) for rejection in decoded.rejections]
    assert decoded.records == len(named) == len(set(named))
    assert set(range(100, 100 + len(sent))) == {offset for offset, _ in named}


def _naive(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a good record should become, one value at a time."""
    current = row.get("battery", {}).get("current")
    amperes = None if current in (None, 65535) else -(current / 10 - 1000)
    return {
        "soc_pct": float(row["soc"]) if 0 <= row["soc"] <= 100 else None,
        "count": row["count"] if 0 <= row.get("count", -1) <= 1000 else None,
        "mode": {"D": "drive", "N": "neutral"}.get(row.get("mode", "")),
        "gear": {1: "first", 2: "second"}.get(row.get("gear", 0)),
        "label": row.get("label"),
        "on": row.get("battery", {}).get("on"),
        "current_a": amperes,
    }


@given(st.lists(good_records, max_size=5), encoders)
def test_good_records_become_what_the_contract_says(
    rows: list[dict[str, Any]], encode: Callable[[object], bytes]
) -> None:
    """Scaled, named, without sentinels and implausible values, against an oracle in plain Python."""
    decoded = NESTED_DECODER.decode(_batch([(encode(row), 0) for row in rows]))
    assert [_naive(row) for row in rows] == decoded.readings.select(list(_naive({"soc": 0}))).to_dicts()


@given(st.lists(junk, max_size=5), st.sampled_from([None, 1, "\t"]))
def test_a_json_array_splits_into_the_text_of_its_elements(values: list[object], indent: int | str | None) -> None:
    """Spaces around elements do not matter, and what an element is does not either."""
    parts = JSON.split(f" {json.dumps(values, indent=indent)}\n".encode())
    assert [json.dumps(value) for value in values] == [json.dumps(json.loads(part)) for part in parts]


@given(st.lists(records, min_size=1, max_size=5), encoders)
def test_records_of_an_array_decode_like_records_alone(
    rows: list[dict[str, object]], encode: Callable[[object], bytes]
) -> None:
    """A payload with several records is as good as several payloads."""
    together = NESTED_DECODER.decode(_batch([(encode(rows), 0)]))
    alone = NESTED_DECODER.decode(_batch([(encode(row), 0) for row in rows]))
    same = [column for column in together.readings.columns if column not in {"offset", "record", "received_at"}]
    # An object alone whose time is an array is columns; inside an array it is a record with a bad time.
    if not any(isinstance(row.get("ts"), list) for row in rows):
        assert alone.readings.select(same).equals(together.readings.select(same), null_equal=True)
        assert [(r.code, r.path) for r in alone.rejections] == [(r.code, r.path) for r in together.rejections]


@given(st.lists(records, min_size=1, max_size=5), encoders, st.sampled_from([NESTED_DECODER, FLAT_DECODER]))
def test_columns_decode_like_their_records(
    rows: list[dict[str, object]], encode: Callable[[object], bytes], decoder: StreamDecoder
) -> None:
    """An object of arrays is the array of its records, absent keys being null."""
    rows = [{"ts": None} | {key: value for key, value in row.items() if key != "battery"} for row in rows]
    columns = _columns(rows)
    keys = [key for key in columns if not all(row.get(key) is None for row in rows) or key == "ts"]
    padded = [{key: row.get(key) for key in keys} for row in rows]
    # NaN and Infinity are no JSON: in an array they spoil their record, in columns there is none yet to spoil.
    assume(not any(word in _json(padded) for word in (b"NaN", b"Infinity")))
    by_columns = decoder.decode(_batch([(encode(_columns(padded)), 0)]))
    by_rows = decoder.decode(_batch([(encode(padded), 0)]))
    assert by_rows.readings.equals(by_columns.readings, null_equal=True)
    # Of several faults of one record the first is named, and columns have another order than rows.
    assert [r.record for r in by_rows.rejections] == [r.record for r in by_columns.rejections]


@given(
    st.datetimes(LOCAL("1971-01-01"), LOCAL("2105-01-01")),
    st.none() | st.integers(-14 * 60, 14 * 60),
    st.sampled_from(["T", " "]),
    st.sampled_from(["auto", "milliseconds", "microseconds"]),
)
def test_iso_times_are_those_of_the_standard_library(
    when: datetime, offset_min: int | None, separator: str, precision: str
) -> None:
    """What `datetime.isoformat` writes is read as `fromisoformat` reads it; without an offset it is UTC."""
    zone = UTC if offset_min is None else timezone(timedelta(minutes=offset_min))
    text = (when if offset_min is None else when.replace(tzinfo=zone)).isoformat(separator, precision)
    decoded = NESTED_DECODER.decode(_batch([(_json({"ts": text, "soc": 1}), 0)]))
    read = datetime.fromisoformat(text)
    expected = (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    assert [expected] == decoded.readings["measured_at"].to_list()

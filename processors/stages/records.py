"""Payload bytes to records: the fast way for a batch that is what it should be, the patient way for one that is not.

Each record is decoded independently of its neighbours, in the payload and in the batch, on both ways.
"""

from collections.abc import Callable, Iterable
from itertools import chain, repeat
from typing import Any

import msgspec

from gateway.core.limits import RECORDS_PER_PAYLOAD_MAX
from processors.contracts.model import Contract
from processors.contracts.record_type import Group, columns_type, record_group
from processors.stages.faults import Fault, FaultReader
from processors.stages.payloads import (
    DECODE_ERRORS,
    JSON,
    MSGPACK,
    ColumnSplitter,
    Syntax,
    Unreadable,
    syntax_of,
    unpack,
)


class Records:
    """What was found in a batch of payloads.

    Attributes:
        tuples: One tuple of slot values per record, to be read once.
        entries: Place of each record's payload in the batch; None if record i is payload i.
        places: Place of each record in its payload; empty if `entries` is None.
        count: Number of records.
        faults: Records and payloads that could not be decoded.
    """

    def __init__(self) -> None:
        self._parts: list[Iterable[tuple[Any, ...]]] = []
        self.entries: list[int] | None = []
        self.places: list[int] = []
        self.count = 0
        self.faults: list[Fault] = []

    @property
    def tuples(self) -> Iterable[tuple[Any, ...]]:
        """Slot values of each record."""
        return chain.from_iterable(self._parts)

    def add_objects(self, structs: list[msgspec.Struct], entries: list[int]) -> None:
        """Take one record from each of several payloads."""
        self._add(map(msgspec.structs.astuple, structs), len(structs), entries, repeat(0, len(structs)))

    def add_array(self, structs: list[msgspec.Struct], entry: int, places: Iterable[int]) -> None:
        """Take several records from one payload."""
        self._add(map(msgspec.structs.astuple, structs), len(structs), repeat(entry, len(structs)), places)

    def add_tuples(self, tuples: Iterable[tuple[Any, ...]], count: int, entry: int) -> None:
        """Take `count` records of one payload that are tuples already."""
        self._add(tuples, count, repeat(entry, count), range(count))

    def _add(
        self, tuples: Iterable[tuple[Any, ...]], count: int, entries: Iterable[int], places: Iterable[int]
    ) -> None:
        assert self.entries is not None
        self._parts.append(tuples)
        self.entries.extend(entries)
        self.places.extend(places)
        self.count += count

    @classmethod
    def one_each(cls, structs: list[msgspec.Struct]) -> "Records":
        """Return the records of a batch in which payload i is record i."""
        records = cls()
        records._parts = [map(msgspec.structs.astuple, structs)]
        records.entries = None
        records.count = len(structs)
        return records


class RecordReader:
    """Decodes the payloads of one stream."""

    def __init__(self, contract: Contract) -> None:
        """Build the decoders of a contract, about a millisecond."""
        self.group = record_group(contract)
        self._encodings = contract.encodings
        self._faults = FaultReader(contract)
        self._json = _Decoders(JSON, self.group)
        self._msgpack = _Decoders(MSGPACK, self.group)

    def read(self, payloads: list[bytes]) -> Records:
        """Return the records in the payloads. Never raises for what the payloads hold."""
        if payloads:
            decoders = self._of(payloads[0])
            if decoders.syntax.name in self._encodings:
                try:
                    return Records.one_each(list(map(decoders.one, payloads)))
                except DECODE_ERRORS:
                    pass  # one payload at least is no plain object of that syntax: sort them by what they are
        return self._read_mixed(payloads)

    def record_bytes(self, payload: bytes) -> list[bytes]:
        """Return the bytes of each record of a payload that was read without a fault as a whole."""
        data = unpack(payload)
        decoders = self._of(data)
        if decoders.syntax.is_array(data):
            return decoders.syntax.split(data)
        if "columns" in self._encodings and decoders.columns.rows(data) is not None:
            return decoders.columns.split(data)
        return [payload]

    def _of(self, payload: bytes) -> "_Decoders":
        return self._msgpack if syntax_of(payload) is MSGPACK else self._json

    def _read_mixed(self, payloads: list[bytes]) -> Records:
        """Read plain objects by the run, everything else one by one."""
        records = Records()
        objects: dict[bool, list[int]] = {False: [], True: []}
        alone: list[int] = []
        for entry, payload in enumerate(payloads):
            first = payload[:1]
            is_map = b"\x80" <= first <= b"\x8f" or first in {b"\xde", b"\xdf"}
            (objects[is_map] if is_map or first == b"{" else alone).append(entry)
        for is_map, decoders in ((False, self._json), (True, self._msgpack)):
            entries = objects[is_map]
            if decoders.syntax.name not in self._encodings:
                alone += entries
                continue
            good, bad = decode_each(decoders.one, [payloads[entry] for entry in entries])
            records.add_objects(good, [entry for at, entry in enumerate(entries) if at not in bad])
            alone += [entries[at] for at in bad]
        for entry in alone:
            self._read_alone(payloads[entry], entry, records)
        return records

    def _read_alone(self, payload: bytes, entry: int, records: Records) -> None:
        """Read one payload, whatever it is."""
        data = payload
        try:
            data = unpack(payload)
            self._read_unpacked(data, entry, records)
        except (*DECODE_ERRORS, Unreadable) as exc:
            self._refuse(exc, syntax_of(data), entry, 0, payload, records)

    def _read_unpacked(self, data: bytes, entry: int, records: Records) -> None:
        if not data.strip():
            raise Unreadable("empty", expected="a record", got="nothing")
        decoders = self._of(data)
        is_own = decoders.syntax.name in self._encodings
        if is_own and decoders.syntax.is_array(data):
            self._read_array(decoders, data, entry, records)
        elif "columns" in self._encodings and (rows := decoders.columns.rows(data)) is not None:
            self._read_columns(decoders, data, rows, entry, records)
        elif is_own:
            records.add_array([decoders.one(data)], entry, (0,))
        else:
            raise Unreadable("encoding", expected=" or ".join(sorted(self._encodings)), got=decoders.syntax.name)

    def _read_array(self, decoders: "_Decoders", data: bytes, entry: int, records: Records) -> None:
        if decoders.syntax.record_rows(data) <= RECORDS_PER_PAYLOAD_MAX:
            try:
                structs = decoders.many(data)
            except DECODE_ERRORS:
                structs = []  # one record at least is bad, or all is: take it apart
            if 0 < len(structs) <= RECORDS_PER_PAYLOAD_MAX:
                records.add_array(structs, entry, range(len(structs)))
                return
        self._read_parts(decoders, decoders.syntax.split(data), entry, records)

    def _read_columns(self, decoders: "_Decoders", data: bytes, rows: int, entry: int, records: Records) -> None:
        columns = decoders.whole_columns(data) if rows <= RECORDS_PER_PAYLOAD_MAX else None
        if columns is not None:
            records.add_tuples(zip(*columns, strict=True), len(columns[0]), entry)
        else:
            self._read_parts(decoders, decoders.columns.split(data), entry, records)

    def _read_parts(self, decoders: "_Decoders", parts: list[bytes], entry: int, records: Records) -> None:
        if not parts:
            raise Unreadable("empty", expected="a record", got="an empty array")
        good, bad = decode_each(decoders.one, parts)
        records.add_array(good, entry, [place for place in range(len(parts)) if place not in bad])
        for place, exc in bad.items():
            self._refuse(exc, decoders.syntax, entry, place, parts[place], records)

    def _refuse(self, exc: Exception, syntax: Syntax, entry: int, place: int, payload: bytes, records: Records) -> None:
        fault = self._faults.fault(exc, syntax=syntax.name, entry=entry, record=place, payload=payload)
        records.faults.append(fault)


class _Decoders:
    """The decoders of one contract in one syntax."""

    def __init__(self, syntax: Syntax, group: Group) -> None:
        self.syntax = syntax
        self.one = syntax.decoder(group.type)
        self.many = syntax.decoder(list[group.type])  # type: ignore[name-defined]  # made at run time
        self.columns = ColumnSplitter(syntax, group)
        self._whole = syntax.decoder(columns_type(group)) if group.is_flat else None

    def whole_columns(self, data: bytes) -> list[list[Any]] | None:
        """Return the values of each slot if all arrays decode and are of one length, else None."""
        if self._whole is None:
            return None
        try:
            values = msgspec.structs.astuple(self._whole(data))
        except DECODE_ERRORS:
            return None
        rows = len(values[0])
        if rows == 0 or rows > RECORDS_PER_PAYLOAD_MAX:
            return None
        columns = [value if isinstance(value, list) else [value] * rows for value in values]
        return columns if all(len(column) == rows for column in columns) else None


def decode_each(decode: Callable[[bytes], Any], payloads: list[bytes]) -> tuple[list[Any], dict[int, Exception]]:
    """Return what decodes, in order, and the exception of each payload that does not, by its place.

    `list.extend` keeps what its iterator gave before it raised, so a good run costs what `list(map(...))` costs and a
    bad payload one exception.
    """
    good: list[Any] = []
    bad: dict[int, Exception] = {}
    rest = iter(payloads)
    while True:
        try:
            good.extend(map(decode, rest))
        except DECODE_ERRORS as exc:
            bad[len(good) + len(bad)] = exc
        else:
            return good, bad

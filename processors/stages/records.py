"""Payload bytes to records: the fast way for a batch that is what it should be, the patient way for one that is not.

Each record is decoded independently of its neighbours, in the payload and in the batch, on both ways.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import msgspec

from gateway.core.limits import RECORDS_PER_PAYLOAD_MAX
from processors.contracts.model import Contract
from processors.contracts.record_type import Group, columns_type, flatten, record_group
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
    """What was found in a batch of payloads; grows while they are read.

    Attributes:
        flat: Slot values of all records, record after record.
        entries: Place in the batch of each record's payload.
        places: Place of each record in its payload.
        is_one_each: Whether record i is payload i, for all of them.
        faults: Records and payloads that could not be decoded.
    """

    def __init__(self, faults: FaultReader) -> None:
        """Begin with nothing; `faults` puts exceptions into words."""
        self.flat: list[Any] = []
        self.entries: list[int] = []
        self.places: list[int] = []
        self.is_one_each = False
        self.faults: list[Fault] = []
        self._fault_reader = faults

    def add_objects(self, decoders: "_Decoders", payloads: list[bytes], entries: Sequence[int]) -> list[int]:
        """Take those of the payloads that are one record each; return the entries of the others."""
        is_all = len(entries) == len(payloads)
        bad = decoders.decode_each(payloads if is_all else [payloads[entry] for entry in entries], self.flat)
        self.is_one_each = is_all and not bad
        self.entries += [entry for at, entry in enumerate(entries) if at not in bad] if bad else entries
        self.places += [0] * (len(entries) - len(bad))
        return [entries[at] for at in bad]

    def add_all(self, flat: Iterable[Any], count: int, entry: int) -> None:
        """Take all records of one payload."""
        self.flat.extend(flat)
        self.entries += [entry] * count
        self.places += range(count)

    def add_parts(self, decoders: "_Decoders", parts: list[bytes], entry: int) -> None:
        """Take or refuse each of the records that a payload was split into."""
        if not parts:
            raise Unreadable("empty", expected="a record", got="an empty array")
        bad = decoders.decode_each(parts, self.flat)
        self.entries += [entry] * (len(parts) - len(bad))
        self.places += [place for place in range(len(parts)) if place not in bad]
        for place, exc in bad.items():
            self.refuse(exc, decoders.syntax, parts[place], entry, place)

    def refuse(self, exc: Exception, syntax: Syntax, payload: bytes, entry: int, place: int = 0) -> None:
        """Note why a record, or with place 0 perhaps a whole payload, is refused."""
        fault = self._fault_reader.fault(exc, syntax=syntax.name, entry=entry, record=place, payload=payload)
        self.faults.append(fault)


class BatchTooLarge(Exception):  # a limit of ours, which a smaller batch keeps
    """Several payloads together hold more records than may be in memory at once; decode fewer of them."""

    def __init__(self, payloads: int, records_max: int) -> None:
        super().__init__(f"{payloads} payloads hold more than {records_max} records; decode fewer at once")


class RecordReader:
    """Decodes the payloads of one stream."""

    def __init__(self, contract: Contract, *, records_max: int) -> None:
        """Build the decoders of a contract, about a millisecond; `records_max` holds for several payloads."""
        self._records_max = records_max
        self.group = record_group(contract)
        self._encodings = contract.encodings
        self._faults = FaultReader(contract)
        self._json = _Decoders(JSON, self.group)
        self._msgpack = _Decoders(MSGPACK, self.group)

    def read(self, payloads: list[bytes]) -> Records:
        """Return the records in the payloads.

        Raises:
            BatchTooLarge: They are too many, and several payloads hold them. Nothing else, whatever the bytes are.
        """
        records = Records(self._faults)
        left: Sequence[int] = range(len(payloads))
        # A device does not change its syntax, so try first what the first payload is in; then the other one; what is
        # left is no plain object.
        first = self._of(payloads[0] if payloads else b"")
        for decoders in (first, self._json if first is self._msgpack else self._msgpack):
            if left and decoders.syntax.name in self._encodings:
                left = records.add_objects(decoders, payloads, left)
        for entry in left:
            self._read_alone(payloads[entry], entry, records)
            if len(records.entries) + len(records.faults) > self._records_max and len(payloads) > 1:
                raise BatchTooLarge(len(payloads), self._records_max)
        return records

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

    def _read_alone(self, payload: bytes, entry: int, records: Records) -> None:
        """Read one payload, whatever it is."""
        data = payload
        try:
            data = unpack(payload)
            self._read_unpacked(data, entry, records)
        except (*DECODE_ERRORS, Unreadable) as exc:
            records.refuse(exc, syntax_of(data), payload, entry)

    def _read_unpacked(self, data: bytes, entry: int, records: Records) -> None:
        if not data or data.isspace():
            raise Unreadable("empty", expected="a record", got="nothing")
        decoders = self._of(data)
        is_own = decoders.syntax.name in self._encodings
        if is_own and decoders.syntax.is_array(data):
            self._read_array(decoders, data, entry, records)
        elif "columns" in self._encodings and (rows := decoders.columns.rows(data)) is not None:
            self._read_columns(decoders, data, rows, entry, records)
        elif is_own:
            records.add_all(flatten([decoders.one(data)]), 1, entry)
        else:
            raise Unreadable("encoding", expected=" or ".join(sorted(self._encodings)), got=decoders.syntax.name)

    def _read_array(self, decoders: "_Decoders", data: bytes, entry: int, records: Records) -> None:
        if decoders.syntax.record_rows(data) <= RECORDS_PER_PAYLOAD_MAX:
            try:
                structs = decoders.many(data)
            except DECODE_ERRORS:
                structs = []  # one record at least is bad, or all is: take it apart
            if 0 < len(structs) <= RECORDS_PER_PAYLOAD_MAX:
                records.add_all(flatten(structs), len(structs), entry)
                return
        records.add_parts(decoders, decoders.syntax.split(data), entry)

    def _read_columns(self, decoders: "_Decoders", data: bytes, rows: int, entry: int, records: Records) -> None:
        columns = decoders.whole_columns(data) if rows <= RECORDS_PER_PAYLOAD_MAX else None
        if columns is not None:
            records.add_all(chain.from_iterable(zip(*columns, strict=True)), len(columns[0]), entry)
        else:
            records.add_parts(decoders, decoders.columns.split(data), entry)


class _Decoders:
    """The decoders of one contract in one syntax."""

    def __init__(self, syntax: Syntax, group: Group) -> None:
        self.syntax = syntax
        self.one = syntax.decoder(group.type)
        self.many = syntax.decoder(list[group.type])  # type: ignore[name-defined]  # made at run time
        self.columns = ColumnSplitter(syntax, group)
        self._width = len(group.parts)
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

    def decode_each(self, payloads: list[bytes], flat: list[Any]) -> dict[int, Exception]:
        """Append the slot values of what decodes to `flat`; return the exception of what does not, by its place.

        `list.extend` keeps what its iterator gave before it raised, and a record is flattened only once it is decoded,
        so a good run costs what one call costs, and a bad payload one exception.
        """
        bad: dict[int, Exception] = {}
        before = len(flat)
        rest = iter(payloads)
        while True:
            try:
                flat.extend(flatten(map(self.one, rest)))
            except DECODE_ERRORS as exc:
                bad[(len(flat) - before) // self._width + len(bad)] = exc
            else:
                return bad

"""What changed between two versions of a contract, and whether the version number admits it.

Semantic Versioning 2.0.0, applied to who reads the tables and who sends the messages: major when a row, a value or a
message that was good before may be gone, null or refused now; minor when there is more; patch when only words changed.
Before 1.0.0 a minor step admits everything.
"""

from collections.abc import Iterator
from enum import IntEnum

import msgspec

from processors.contracts.model import Contract, Field


class Step(IntEnum):
    """How far a version number must rise."""

    NONE = 0
    PATCH = 1
    MINOR = 2
    MAJOR = 3


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One difference.

    Attributes:
        place: Dotted place in the contract file.
        what: What changed, from what to what.
        step: How far the version must rise for it.
    """

    place: str
    what: str
    step: Step


class Breaking(msgspec.Struct, frozen=True, kw_only=True):
    """A change that the new version number does not admit; `needs` is the lowest version that does."""

    place: str
    what: str
    needs: str


def compare(old: Contract, new: Contract) -> list[Breaking]:
    """Return the changes that need a higher version than the new contract has; empty if the number is honest."""
    step = _step(old, new)
    return [
        Breaking(place=change.place, what=change.what, needs=_raised(old, change.step))
        for change in changes(old, new)
        if change.step > step
    ]


def changes(old: Contract, new: Contract) -> list[Change]:
    """Return everything that differs for readers and senders, in the order of the file."""
    return [*_contract_changes(old, new), *_field_changes(old, new), *_window_changes(old, new), *_rest(old, new)]


def _step(old: Contract, new: Contract) -> Step:
    if new.version <= old.version:
        return Step.NONE
    if new.version[0] > old.version[0]:
        return Step.MAJOR
    if new.version[1] > old.version[1]:
        return Step.MINOR if old.version[0] else Step.MAJOR
    return Step.PATCH


def _raised(old: Contract, step: Step) -> str:
    major, minor, patch = old.version
    if step is Step.MAJOR and major:
        return f"{major + 1}.0.0"
    return f"{major}.{minor + 1}.0" if step >= Step.MINOR else f"{major}.{minor}.{patch + 1}"


def _contract_changes(old: Contract, new: Contract) -> Iterator[Change]:
    for place, before, after in (
        ("stream", old.stream, new.stream),
        ("source.from", str(old.origin), str(new.origin)),
        ("source.channel", _own_channel(old), _own_channel(new)),
        ("source.mqtt", old.topic, new.topic),
        ("source.identity", old.identity, new.identity),
        ("time.measured_at.path", old.time.paths, new.time.paths),
        ("time.measured_at.format", old.time.format, new.time.format),
        ("time.measured_at.zone", old.time.zone, new.time.zone),
        ("key", old.key, new.key),
        ("part", old.part, new.part),
    ):
        if before != after:
            yield _changed(place, before, after, Step.MAJOR)
    if old.time.absent_is_received != new.time.absent_is_received:
        step = Step.MAJOR if old.time.absent_is_received else Step.MINOR
        yield Change(place="time.measured_at.absent", what="changed", step=step)
    if gone := old.encodings - new.encodings:
        yield Change(place="source.encoding", what=f"no longer {', '.join(sorted(gone))}", step=Step.MAJOR)
    if more := new.encodings - old.encodings:
        yield Change(place="source.encoding", what=f"also {', '.join(sorted(more))}", step=Step.MINOR)


def _own_channel(contract: Contract) -> str | None:
    """Return the channel of a stream that has no topic which names it."""
    return str(contract.channel) if contract.topic is None else None


def _field_changes(old: Contract, new: Contract) -> Iterator[Change]:
    before, after = ({field.name: field for field in contract.fields} for contract in (old, new))
    for name, field in before.items():
        if name not in after:
            yield Change(place=f"fields.{name}", what="is gone", step=Step.MAJOR)
        else:
            yield from _one_field(field, after[name])
    for name, field in after.items():
        if name not in before:
            what = "is new and required" if field.required else "is new"
            yield Change(place=f"fields.{name}", what=what, step=Step.MAJOR if field.required else Step.MINOR)


def _one_field(old: Field, new: Field) -> Iterator[Change]:
    place = f"fields.{old.name}"
    for key, before, after in (
        ("type", str(old.type), str(new.type)),
        ("unit", old.unit_symbol, new.unit_symbol),
        ("path", old.path, new.path),
        ("scale", old.scale, new.scale),
        ("offset", old.offset, new.offset),
        ("sign", old.sign, new.sign),
        ("missing", old.missing, new.missing),
    ):
        if before != after:
            yield _changed(f"{place}.{key}", before, after, Step.MAJOR)
    if old.required != new.required:
        step = Step.MAJOR if new.required else Step.MINOR
        yield _changed(f"{place}.required", old.required, new.required, step)
    if (old.low, old.high) != (new.low, new.high):
        step = Step.MINOR if _covers(new, old) else Step.MAJOR
        yield _changed(f"{place}.range", (old.low, old.high), (new.low, new.high), step)
    codes_before, codes_after = (dict[str | int, str]((f.values or {}).items()) for f in (old, new))
    for code, name in codes_before.items():
        if codes_after.get(code) != name:
            yield _changed(f"{place}.values.{code}", name, codes_after.get(code), Step.MAJOR)
    for code in [code for code in codes_after if code not in codes_before]:
        yield Change(place=f"{place}.values.{code}", what="is new", step=Step.MINOR)


def _covers(outer: Field, inner: Field) -> bool:
    """Tell whether every value plausible for `inner` is so for `outer`."""
    if outer.low is None or outer.high is None:
        return True
    return inner.low is not None and inner.high is not None and outer.low <= inner.low and inner.high <= outer.high


def _window_changes(old: Contract, new: Contract) -> Iterator[Change]:
    before, after = (
        {a.column: (a.field, a.kind, a.unit) for a in contract.windows.aggregates} if contract.windows else {}
        for contract in (old, new)
    )
    for column, aggregate in before.items():
        if after.get(column) != aggregate:
            yield Change(place="windows.aggregates", what=f"column {column} is gone or another", step=Step.MAJOR)
    for column in [column for column in after if column not in before]:
        yield Change(place="windows.aggregates", what=f"column {column} is new", step=Step.MINOR)
    sizes_before, sizes_after = (set(c.windows.sizes_s) if c.windows else set() for c in (old, new))
    for size in sorted(sizes_before ^ sizes_after):
        step = Step.MAJOR if size in sizes_before else Step.MINOR
        yield Change(place="windows.sizes", what=f"{size} s {'is gone' if step is Step.MAJOR else 'is new'}", step=step)


def _rest(old: Contract, new: Contract) -> Iterator[Change]:
    """Yield what changes behaviour but no table or message; any step admits it."""
    timing = [
        (c.time.skew_max_s, *((c.windows.disorder_s, c.windows.lateness_s, c.windows.idle_s) if c.windows else ()))
        for c in (old, new)
    ]
    if timing[0] != timing[1]:
        yield Change(place="windows", what="patience changed", step=Step.PATCH)
    if old.rules != new.rules:
        yield Change(place="rules", what="changed", step=Step.PATCH)
    if old.sampling_s != new.sampling_s:
        yield _changed("sampling", old.sampling_s, new.sampling_s, Step.PATCH)
    if old.index != new.index:
        yield _changed("index", old.index, new.index, Step.PATCH)
    if old.retention != new.retention:
        yield Change(place="retention", what="changed", step=Step.PATCH)


def _changed(place: str, before: object, after: object, step: Step) -> Change:
    return Change(place=place, what=f"was {before!r}, is {after!r}", step=step)

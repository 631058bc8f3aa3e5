"""Peers: a device is held against what others of its fleet showed under like conditions.

Conditions are cut into bins (state of charge by 10 points, ambient temperature by 5 degrees); in each, the newest value
of the devices that were there last is kept. The reference of a sample is the median of the others, and their spread
(1.4826 times the median distance from it, the standard deviation of what is normal), as it was before this tick: what
is looked at together is not held against itself. Fleets of different tenants do not know of each other.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
import numpy as np

from gateway.core.errors import CheckpointError
from gateway.core.limits import PEER_BINS_MAX, PEERS_KEPT
from processors.stages.anomaly_findings import Found
from processors.stages.anomaly_samples import HISTORY_LAYOUT, Samples, history_of, remember, shown
from processors.stages.anomaly_table import Column, Floats, Ints, Table

LAYOUT: Final = {
    **HISTORY_LAYOUT,
    "far": Column("<i4", 0),  # samples in a row that were too far away
    "near": Column("<i4", 0),  # and that were not, while open
    "since_us": Column("<i8", 0),
    "since_offset": Column("<i8", 0),
    "open": Column("?", 0),
}
_BIN_LAYOUT: Final = {
    "codes": Column("<i4", -1, (PEERS_KEPT,)),
    "values": Column("<f8", np.nan, (PEERS_KEPT,)),
    "met": Column("<i8", 0),  # number of the look at which anybody was there last
}
_NORMAL: Final = 1.4826

Bin = tuple[str | int, ...]
"""Tenant, and the place of each condition in widths of its bin."""


class PeersPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule asks for.

    Attributes:
        of: The signal in words.
        unit: Its unit.
        like: What must be alike: name, and width of a bin.
        margin: Distance from the median that is never too far, in the unit of the signal.
        spreads: Spreads that the distance may be beyond the margin.
        least_peers: Others that must be known.
        far_samples: Samples in a row, too far away, that begin an episode.
        near_samples: Samples in a row, near again, that end it.
    """

    of: str
    unit: str
    like: tuple[tuple[str, float], ...]
    margin: float
    spreads: float
    least_peers: int
    far_samples: int
    near_samples: int


class Bins(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is known of like conditions. A value: nothing changes it.

    Attributes:
        places: Tenant and bin of each condition -> its row.
        table: Table of the peers there, newest first.
        looks: Looks so far.
    """

    places: dict[Bin, int] = {}
    table: Table = Table(_BIN_LAYOUT)
    looks: int = 0

    def to_bytes(self) -> bytes:
        """Return the bins as one MessagePack array."""
        return msgspec.msgpack.encode((list(self.places), self.table.to_bytes(), self.looks))

    @classmethod
    def from_bytes(cls, payload: bytes) -> "Bins":
        """Invert `to_bytes`. Raises: CheckpointError: The bytes are no bins."""
        try:
            keys, table, looks = msgspec.msgpack.decode(payload, type=tuple[list[Bin], bytes, int])
        except msgspec.DecodeError as exc:
            raise CheckpointError(f"bins of a detector are unreadable: {exc}") from exc
        places = {key: place for place, key in enumerate(keys)}
        return cls(places=places, table=Table.from_bytes(_BIN_LAYOUT, table), looks=looks)

    def with_codes(self, codes: Ints) -> "Bins":
        """Return the bins after devices have got other codes.

        Args:
            codes: Old code -> new one, -1 for a device that is forgotten.
        """
        table = self.table.copy()
        known = table["codes"]
        table["codes"] = np.where(known < 0, -1, codes[known]).astype(np.int32)
        return msgspec.structs.replace(self, table=table)


class Reference(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What the others showed, for each sample: how many, their median and their spread."""

    peers: Ints
    median: Floats
    spread: Floats


def bins_of(plan: PeersPlan, samples: Samples, tenants: Iterable[str]) -> list[Bin]:
    """Return tenant and conditions of each sample; quantities: the signal, then what must be alike."""
    widths = np.array([width for _, width in plan.like])
    places = np.floor(samples.values[:, 1:] / widths)
    # A condition beyond all reason is in the outermost bin.
    places = places.clip(-(2.0**62), 2.0**62).astype(np.int64)
    return list(zip(tenants, *places.T.tolist(), strict=True))


def refer(bins: Bins, samples: Samples, where: Sequence[Bin]) -> Reference:
    """Return what the other devices in the same conditions showed before."""
    rows = np.array([bins.places.get(one, -1) for one in where], np.int64)
    codes = bins.table["codes"][rows] if bins.table.height else np.full((len(rows), PEERS_KEPT), -1)
    values = bins.table["values"][rows] if bins.table.height else np.full((len(rows), PEERS_KEPT), np.nan)
    is_peer = (codes >= 0) & (codes != samples.codes[:, None]) & (rows >= 0)[:, None]
    peers = is_peer.sum(axis=1)
    median = _medians(np.where(is_peer, values, np.inf), peers)
    distance = np.where(is_peer, np.abs(values - median[:, None]), np.inf)
    return Reference(peers=peers, median=median, spread=_NORMAL * _medians(distance, peers))


def look(plan: PeersPlan, table: Table, samples: Samples, against: Reference, where: Sequence[Bin]) -> Iterator[Found]:
    """Yield what a round of samples begins and ends, and remember it.

    Args:
        plan: What to look for.
        table: Table of LAYOUT; it is changed.
        samples: At most one a device.
        against: What `refer` says of them.
        where: Their conditions.
    """
    rows = samples.codes
    remember(table, samples, 0)
    known = against.peers >= plan.least_peers
    allowed = plan.margin + plan.spreads * against.spread
    is_far = known & (np.abs(samples.values[:, 0] - against.median) > allowed)
    was_open = table["open"][rows]
    # Of a sample without enough peers nothing is known, so it neither continues nor interrupts.
    far = np.where(known, np.where(is_far, table["far"][rows] + 1, 0), table["far"][rows])
    near = np.where(known, np.where(is_far, 0, table["near"][rows] + 1), table["near"][rows])
    first = is_far & (far == 1) & ~was_open
    table["far"][rows], table["near"][rows] = far, near
    table["since_us"][rows] = np.where(first, samples.at_us, table["since_us"][rows])
    table["since_offset"][rows] = np.where(first, samples.offset, table["since_offset"][rows])
    begins = ~was_open & is_far & (far >= plan.far_samples)
    ends = was_open & known & (near >= plan.near_samples)
    table["open"][rows] = (was_open | begins) & ~ends
    for i in np.flatnonzero(begins | ends).tolist():
        yield _found(plan, table, samples, against, i, where[i], begins=bool(begins[i]))


def with_samples(bins: Bins, samples: Samples, where: Sequence[Bin]) -> Bins:
    """Return the bins with the samples in them, of each device and condition the newest."""
    places = dict(bins.places)
    for one in where:
        places.setdefault(one, len(places))
    table = bins.table.copy(len(places))
    rows = np.array([places[one] for one in where], np.int64)
    touched, groups = np.unique(rows, return_inverse=True)
    # Newest first: the samples backwards, then what was known.
    old = np.repeat(np.arange(len(touched)), PEERS_KEPT)
    group = np.concatenate([groups[::-1], old])
    codes = np.concatenate([samples.codes[::-1], table["codes"][touched].ravel()])
    values = np.concatenate([samples.values[::-1, 0], table["values"][touched].ravel()])
    kept = _newest(group, codes)
    kept = kept[np.argsort(group[kept], kind="stable")]
    begins = np.searchsorted(group[kept], np.arange(len(touched)))
    place = np.arange(len(kept)) - begins[group[kept]]
    kept, place = kept[place < PEERS_KEPT], place[place < PEERS_KEPT]
    table["codes"][touched], table["values"][touched] = -1, np.nan
    table["codes"][touched[group[kept]], place] = codes[kept]
    table["values"][touched[group[kept]], place] = values[kept]
    table["met"][touched] = bins.looks + 1
    return _within_limit(Bins(places=places, table=table, looks=bins.looks + 1))


def _newest(group: Ints, codes: Ints) -> Ints:
    """Return the first place of each group and device, ascending; places without a device are left out."""
    places = np.flatnonzero(codes >= 0)
    key = group[places] * (int(codes.max(initial=0)) + 1) + codes[places]
    return np.sort(places[np.unique(key, return_index=True)[1]])


def _within_limit(bins: Bins) -> Bins:
    if len(bins.places) <= PEER_BINS_MAX:
        return bins
    kept = np.sort(np.argsort(-bins.table["met"], kind="stable")[:PEER_BINS_MAX])
    keys = list(bins.places)
    return Bins(
        places={keys[row]: place for place, row in enumerate(kept.tolist())},
        table=bins.table.take(kept),
        looks=bins.looks,
    )


def _medians(values: Floats, counts: Ints) -> Floats:
    """Return the median of the first `counts` values of each row once sorted; 0 without any."""
    ordered = np.sort(values, axis=1)
    rows = np.arange(len(values))
    low, high = ordered[rows, np.maximum(counts - 1, 0) // 2], ordered[rows, np.minimum(counts // 2, PEERS_KEPT - 1)]
    return np.where(counts > 0, (np.where(counts > 0, low, 0.0) + np.where(counts > 0, high, 0.0)) / 2, 0.0)


def _found(
    plan: PeersPlan, table: Table, samples: Samples, against: Reference, i: int, where: Bin, *, begins: bool
) -> Found:
    code, value, median = int(samples.codes[i]), float(samples.values[i, 0]), float(against.median[i])
    allowed = plan.margin + plan.spreads * float(against.spread[i])
    alike = [
        f"{name} from {shown(int(place) * width)} to {shown((int(place) + 1) * width)}"
        for (name, width), place in zip(plan.like, where[1:], strict=True)
    ]
    low, high = shown(median - allowed), shown(median + allowed)
    return Found(
        code=code,
        begins=begins,
        at_us=int(samples.at_us[i]),
        since_us=int(table["since_us"][code]),
        since_offset=int(table["since_offset"][code]),
        value=value,
        limit=median + allowed if value > median else median - allowed,
        evidence={
            "readings": dict(
                zip([plan.of, *(name for name, _ in plan.like)], map(shown, samples.values[i]), strict=True)
            ),
            "limit": f"{plan.of} from {low} to {high} {plan.unit}".rstrip()
            + f" like {int(against.peers[i])} others with {' and '.join(alike)}",
            "low": low,
            "high": high,
            "median": shown(median),
            "peers": int(against.peers[i]),
            "history": history_of(table, code),
        },
    )

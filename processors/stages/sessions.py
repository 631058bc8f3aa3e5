"""Charging sessions: a fold over what chargers and vehicles said, in the order of the journal.

    1 words of chargers by offset   2 at the first tick of a minute: vehicles, time   3 rows

One table, `charging_session_revisions`: each row is what was known of a session when its entry was read, and the newest
revision of a `session_id` is the session. A session is told

- at the entry that starts it, ends it, gives it up, brings it back, or opens or fills a gap in its numbers;
- at the first tick of a minute, if there is news: an ended one at once, one that goes on after a minute or a sixteenth
  of its length, whichever is longer; there, too, sessions are given up for silence and compared with vehicles.

Everything is a function of the journal up to the entry that causes the row, so cuts and restarts do not show.

**Session ids** are 20 hexadecimal characters of a hash: in 1.6 of tenant, charger, connector, time of the start as
sent, id token and register, so that a start sent again after our crash, and given a second transaction id, is one
session; in 2.x of tenant, charger, transaction id and how many sessions the charger gave that id before.

**Status**: `active`; `completed`, an end was told; `abandoned`, `evidence` says why it is taken for ended: a new start
on its connector, its connector Available for 10 min without a word of it, no word for 24 h; `orphan`, no start was
told within 10 min. All but `completed` heal when what was missing comes, within 48 h.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import polars as pl

from gateway.core.errors import CheckpointError
from gateway.core.limits import SESSION_REVISION_S
from processors.stages.session_assets import Asset, Assets, first_placed
from processors.stages.session_fold import Fold
from processors.stages.session_matching import join_vehicles, mark_stale
from processors.stages.session_record import Session
from processors.stages.session_rows import SESSIONS_SCHEMA, measure_session, to_row
from processors.stages.session_samples import pack_array, unpack_array
from processors.stages.session_store import Connector, Memory
from processors.stages.session_track import Track
from processors.stages.session_words import MeterRow, StatusRow, TransactionRow, Word, words_of

__all__ = ["SESSIONS", "SESSIONS_SCHEMA", "SessionState", "fold_sessions"]

SESSIONS: Final = "charging_session_revisions"
"""Table of this stage."""

_VERSION: Final = 1
_MINUTE_US: Final = SESSION_REVISION_S * 1_000_000
_CHARGER_STREAMS: Final = ("charger_transaction", "charger_meter", "charger_status")
_OTHER_STREAMS: Final = ("asset", "battery_pack", "vehicle_telemetry")
_TIMES: Final = [name for name, dtype in SESSIONS_SCHEMA.items() if isinstance(dtype, pl.Datetime)]
_RAW_SCHEMA: Final = {**SESSIONS_SCHEMA, **dict.fromkeys(_TIMES, pl.Int64())}
_MINUTES_BACK: Final = 10
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NO_ROWS: Final = pl.DataFrame(schema=SESSIONS_SCHEMA)


class _Version(msgspec.Struct, frozen=True):
    version: int


class _Packed(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    minute: int
    chargers_from: int | None
    places_from: int | None
    memory: Memory
    assets: list[Asset]
    track: dict[str, bytes]


class SessionState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What sessions remember. A value: `fold_sessions` leaves it as it is.

    Attributes:
        minute: Minute of the last tick that was looked at.
        chargers_from: Offset of the first word of a charger; vehicles are followed from there on, so a fleet without
            chargers pays nothing. None before it.
        places_from: Offset of the first statement where a charger stands; from there on it is noted where vehicles
            stand. None before it.
        memory: Sessions and connectors.
        assets: Facts about vehicles and chargers.
        track: What vehicles did.
    """

    minute: int = -1
    chargers_from: int | None = None
    places_from: int | None = None
    memory: Memory = Memory()
    assets: Assets = Assets()
    track: Track = Track()

    @classmethod
    def empty(cls) -> "SessionState":
        """Return the state before the first entry."""
        return cls()

    def to_bytes(self) -> bytes:
        """Return the state as one MessagePack map."""
        packed = _Packed(
            version=_VERSION,
            minute=self.minute,
            chargers_from=self.chargers_from,
            places_from=self.places_from,
            memory=self.memory,
            assets=self.assets.facts(),
            track=self.track.to_parts(),
        )
        return msgspec.msgpack.encode(packed, enc_hook=pack_array)

    @classmethod
    def from_bytes(cls, payload: bytes) -> "SessionState":
        """Invert `to_bytes`.

        Raises:
            CheckpointError: The bytes are no state of this version.
        """
        try:
            version = msgspec.msgpack.decode(payload, type=_Version).version
            if version != _VERSION:
                raise CheckpointError(
                    f"session state is version {version}, not {_VERSION}; rebuild it from the journal"
                )
            packed = msgspec.msgpack.decode(payload, type=_Packed, dec_hook=unpack_array)
        except msgspec.DecodeError as exc:
            raise CheckpointError(f"session state is unreadable: {exc}; rebuild it from the journal") from exc
        return cls(
            minute=packed.minute,
            chargers_from=packed.chargers_from,
            places_from=packed.places_from,
            memory=packed.memory,
            assets=Assets(packed.assets),
            track=Track.from_parts(packed.track),
        )


def fold_sessions(
    state: SessionState, frames: Mapping[str, pl.DataFrame], ticks: pl.DataFrame
) -> tuple[pl.DataFrame, SessionState]:
    """Return the session revisions that a batch causes, and the state after it.

    Args:
        state: The state after all earlier entries; it is left as it is.
        frames: Stream -> this batch's readings sorted by (offset, record), duplicates dropped, with their contract's
            columns; of `charger_transaction`, `charger_meter`, `charger_status`, `asset`, `battery_pack` and
            `vehicle_telemetry` those that the deployment has. Other streams are ignored.
        ticks: `offset` Int64 and `received_at` of the batch's ticks, sorted by offset.

    Returns: Rows of SESSIONS_SCHEMA in order of `offset`, and the new state.
    """
    has_words = any(_height(frames, name) for name in _CHARGER_STREAMS)
    if not has_words and state.chargers_from is None:
        return _NO_ROWS, _with_assets(state, frames)
    if state.chargers_from is None:
        # Ticks before the first word are not looked at, whether they are in its batch or not.
        ticks = ticks.filter(pl.col("offset") > _first_word(frames))
    looks = _looks(state.minute, ticks)
    if not has_words and not looks and not any(_height(frames, name) for name in _OTHER_STREAMS):
        return _NO_ROWS, state
    return _Batch(state, frames).run(looks)


def _with_assets(state: SessionState, frames: Mapping[str, pl.DataFrame]) -> SessionState:
    if not _height(frames, "asset"):
        return state
    rows, places_from = frames["asset"], state.places_from
    places_from = first_placed(rows) if places_from is None else places_from
    return msgspec.structs.replace(state, assets=state.assets.with_rows(rows), places_from=places_from)


def _first_word(frames: Mapping[str, pl.DataFrame]) -> int:
    offsets = [frames[name]["offset"][0] for name in _CHARGER_STREAMS if _height(frames, name)]
    return int(min(offsets))


def _height(frames: Mapping[str, pl.DataFrame], name: str) -> int:
    return frames[name].height if name in frames else 0


def _looks(minute: int, ticks: pl.DataFrame) -> list[tuple[int, int]]:
    """Return (offset, us) of the first tick of each minute: one after the last, or far before it.

    The latter is a gateway whose clock was ahead: sessions must not wait until it is as late as it once was.
    """
    if ticks.is_empty():
        return []
    # Most batches have no such tick, and asking for both ends is the cheapest there is (to_physical costs 50 us).
    received = ticks["received_at"]
    ends = received.min(), received.max()
    if not any(isinstance(at, datetime) and _is_look(_us(at), minute) for at in ends):
        return []
    looks = []
    for offset, now_us in zip(ticks["offset"], received.to_physical(), strict=True):
        if _is_look(now_us, minute):
            minute = now_us // _MINUTE_US
            looks.append((offset, now_us))
    return looks


def _is_look(now_us: int, minute: int) -> bool:
    return not minute - _MINUTES_BACK <= now_us // _MINUTE_US <= minute


def _us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


class _Batch:
    """Work on one batch: a list of rows that grows while words and ticks are taken in by offset."""

    def __init__(self, state: SessionState, frames: Mapping[str, pl.DataFrame]) -> None:
        self._state, self._frames = state, frames
        self._words = words_of(frames)
        self._chargers_from = state.chargers_from
        if self._chargers_from is None:
            self._chargers_from = _first_word(frames)
        self._places_from = state.places_from
        self._seen: dict[str, int] = {}
        self._assets, self._track, self._minute = state.assets, state.track, state.minute
        self._rows: list[tuple[Any, ...]] = []
        self._fold = Fold(state.memory, self._tell) if self._words else None

    def run(self, looks: list[tuple[int, int]]) -> tuple[pl.DataFrame, SessionState]:
        """Take everything in; see the module's numbers."""
        place = 0
        for offset, now_us in looks:
            place = self._take_words(place, offset)
            self._take_readings(offset)
            self._look(offset, now_us)
        self._take_words(place, None)
        self._take_readings(None)
        return self._to_frame(), SessionState(
            minute=self._minute,
            chargers_from=self._chargers_from,
            places_from=self._places_from,
            memory=self._fold.memory if self._fold else self._state.memory,
            assets=self._assets,
            track=self._track,
        )

    def _take_words(self, place: int, before: int | None) -> int:
        """1: take in the words up to an offset."""
        fold, words = self._fold, self._words
        while place < len(words) and (before is None or words[place][0] < before):
            assert fold is not None
            offset, word = words[place]
            _take(fold, word)
            place += 1
            if place == len(words) or words[place][0] != offset:
                fold.settle_offset(offset, word.received_us)
        return place

    def _look(self, offset: int, now_us: int) -> None:
        """2: compare with vehicles, and let time pass."""
        self._minute = now_us // _MINUTE_US
        self._track, fresh = self._track.looked_at(now_us)
        if self._fold is None:
            if not self._state.memory.sessions:
                return
            self._fold = Fold(self._state.memory, self._tell)
        if fresh is not None:
            mark_stale(self._fold, self._track, fresh, now_us)
        join_vehicles(self._fold, self._track, self._assets, now_us)
        self._fold.tick(offset, now_us)

    def _take_readings(self, before: int | None) -> None:
        self._take_assets(before)
        battery = self._next("battery_pack", self._chargers_from, before)
        if battery is not None:
            self._track = self._track.with_battery(battery)
        if self._places_from is not None and self._chargers_from is not None:
            telemetry = self._next("vehicle_telemetry", max(self._places_from, self._chargers_from), before)
            if telemetry is not None:
                self._track = self._track.with_telemetry(telemetry)

    def _take_assets(self, before: int | None) -> None:
        rows = self._next("asset", None, before)
        if rows is None:
            return
        self._assets = self._assets.with_rows(rows)
        if self._places_from is None:
            self._places_from = first_placed(rows)

    def _next(self, name: str, since: int | None, before: int | None) -> pl.DataFrame | None:
        """Return the rows of a stream that were not taken yet, from an offset to before another; None for no rows."""
        frame = self._frames.get(name)
        if frame is None or frame.is_empty():
            return None
        offsets = frame["offset"]
        begin = self._seen.get(name, 0)
        if since is not None and offsets[0] < since:
            begin = max(begin, offsets.search_sorted(since, side="left"))
        end = frame.height if before is None else offsets.search_sorted(before, side="left")
        if end <= begin:
            return None
        self._seen[name] = end
        return frame.slice(begin, end - begin)

    def _tell(self, session: Session, connector: Connector | None, offset: int, received_us: int) -> None:
        """3: one row, with what was stated until then."""
        self._take_assets(offset)
        asset = self._assets.get(session.tenant, session.charger_id)
        measured = measure_session(session, connector, asset.rated_kw if asset else None)
        # So that a later row does not depend on whether the connector still remembers.
        session.with_states(measured.states)
        session.told_source, session.told_flags = measured.energy.energy_source, measured.energy.flags
        self._rows.append(to_row(session, measured, offset=offset, received_us=received_us))

    def _to_frame(self) -> pl.DataFrame:
        if not self._rows:
            return _NO_ROWS
        frame = pl.DataFrame(self._rows, schema=_RAW_SCHEMA, orient="row")
        return frame.with_columns(pl.col(_TIMES).cast(pl.Datetime("us", "UTC")))


def _take(fold: Fold, word: Word) -> None:
    match word:
        case TransactionRow():
            fold.transaction(word)
        case MeterRow():
            fold.meter(word)
        case StatusRow():
            fold.status(word)

"""Rules over readings: conditions, sequences and silence, of every stream.

    1 codes of devices   2 order   3 previous values   4 samples of the past   5 conditions   6 episodes   7 silence
    8 findings

Readings older than the newest already seen of their device (and part) are left out, except that they break a silence.
Everything is a function of the journal: cuts and restarts do not show. Conditions and functions of all devices are
columns; Python looks only at devices where something is true or open. Of `when`, `clear` and functions see
`rule_columns`, `rule_past` and `rule_previous`, of `for`, `clear_for`, `needs` and `sequence` `rule_episodes`, of
`detect: silent` `rule_silence`.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import polars as pl

from gateway.core.errors import CheckpointError
from gateway.core.limits import DEVICES_MAX
from processors.contracts.conditions import Call
from processors.contracts.load import ContractSet
from processors.stages.findings import NO_FINDINGS
from processors.stages.roster import EMPTY, NAMES
from processors.stages.rule_codes import Codes
from processors.stages.rule_columns import Columns
from processors.stages.rule_episodes import Episode, Episodes, Start, fold_episodes
from processors.stages.rule_findings import FindingRow, of_changes, of_silences, to_findings
from processors.stages.rule_past import Looked, Past, look_back
from processors.stages.rule_plan import PREVIOUS, RulePlan, StreamPlan, plan_stream
from processors.stages.rule_previous import Earlier, Last, look_before
from processors.stages.rule_rows import NEVER, Rows, before, longer, scattered
from processors.stages.rule_silence import SilenceState, Ticks, find_silences
from processors.stages.runs import from_ipc, to_ipc

_VERSION: Final = 1
_KEPT: Final = DEVICES_MAX - DEVICES_MAX // 8
"""Devices kept when there are too many, so that it is not every tick."""
_NO_EPISODES: Final = Episodes()
_NO_AT: Final = pl.Series([], dtype=pl.Int64())


class StreamRules(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What the rules of one stream remember. A value: nothing changes it.

    Attributes:
        devices: Row = device code: the columns that say whose a reading is.
        newest: Device code -> newest time, us.
        heard: Device code -> offset of its last reading.
        looks: Words of the series of `past`.
        past: Samples of the series.
        before: Words of an argument of `previous` -> its newest values.
        episodes: Rule (name and fingerprint) -> what is pending or open.
        senders: Row = sender code of `silence`: tenant, device_id; None where that is `devices`.
        silence: What is known of receipts.
    """

    devices: pl.DataFrame
    newest: pl.Series = _NO_AT
    heard: pl.Series = _NO_AT
    looks: tuple[str, ...] = ()
    past: Past = Past()
    before: Mapping[str, Last] = {}
    episodes: Mapping[str, Episodes] = {}
    senders: pl.DataFrame | None = None
    silence: SilenceState = SilenceState()


class _PackedStream(msgspec.Struct, frozen=True, kw_only=True):
    devices: bytes
    newest: bytes
    looks: dict[str, bytes]
    before: dict[str, bytes]
    episodes: dict[str, dict[int, Episode]]
    senders: bytes
    receipts: bytes
    silent: dict[str, dict[int, Start]]


class _Packed(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    started_us: int
    streams: dict[str, _PackedStream]


class _Version(msgspec.Struct, frozen=True):
    version: int


class RuleState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What the rules of all streams remember. A value: nothing changes it.

    Attributes:
        streams: Stream -> what its rules remember.
        started_us: When the first tick of the gateway's last start was received; 0 before one.
    """

    streams: Mapping[str, StreamRules] = {}
    started_us: int = 0

    @classmethod
    def empty(cls) -> "RuleState":
        """Return the state before the journal's first entry."""
        return cls()

    def to_bytes(self) -> bytes:
        """Return the state as one MessagePack map."""
        streams = {stream: _pack(state) for stream, state in self.streams.items()}
        return msgspec.msgpack.encode(_Packed(version=_VERSION, started_us=self.started_us, streams=streams))

    @classmethod
    def from_bytes(cls, payload: bytes) -> "RuleState":
        """Invert `to_bytes`. What belongs to rules that are gone or changed is dropped at the next run.

        Raises: CheckpointError: The bytes are no state of this version.
        """
        try:
            version = msgspec.msgpack.decode(payload, type=_Version).version
            if version != _VERSION:
                raise CheckpointError(f"rule state is version {version}, not {_VERSION}; rebuild it from the journal")
            packed = msgspec.msgpack.decode(payload, type=_Packed)
        except msgspec.DecodeError as exc:
            raise CheckpointError(f"rule state is unreadable: {exc}; rebuild it from the journal") from exc
        streams = {stream: _unpack(state) for stream, state in packed.streams.items()}
        return cls(streams=streams, started_us=packed.started_us)


def _pack(state: StreamRules) -> _PackedStream:
    parts = state.past.to_parts(state.devices.height, len(state.looks))
    receipts, silent = state.silence.to_parts()
    return _PackedStream(
        devices=to_ipc(state.devices),
        newest=to_ipc(pl.DataFrame([state.newest.alias("newest"), state.heard.alias("heard")])),
        looks=dict(zip(state.looks, parts, strict=True)),
        before={words: last.to_bytes() for words, last in state.before.items()},
        episodes={rule: dict(known.of) for rule, known in state.episodes.items()},
        senders=to_ipc(state.senders),
        receipts=receipts,
        silent=silent,
    )


def _unpack(packed: _PackedStream) -> StreamRules:
    devices, times = from_ipc(packed.devices), from_ipc(packed.newest)
    assert devices is not None
    assert times is not None
    return StreamRules(
        devices=devices,
        newest=times["newest"],
        heard=times["heard"],
        looks=tuple(packed.looks),
        past=Past.from_parts([*packed.looks.values()], devices.height),
        before={words: Last.from_bytes(last) for words, last in packed.before.items()},
        episodes={rule: Episodes.of_devices(known) for rule, known in packed.episodes.items()},
        senders=from_ipc(packed.senders),
        silence=SilenceState.from_parts(packed.receipts, packed.silent),
    )


class RuleStage:
    """The rules with `when`, `sequence` or `detect: silent` of all contracts, made once per process.

    Args:
        contracts: Streams with their rules; rules that are not enabled are left out.
    """

    def __init__(self, contracts: ContractSet) -> None:
        plans = [plan_stream(contract) for contract in contracts]
        self._plans = [plan for plan in plans if plan is not None]
        self._codes = {plan.stream: (Codes(plan.owner), Codes(NAMES)) for plan in self._plans}

    def run(
        self, state: RuleState, frames: Mapping[str, pl.DataFrame], ticks: pl.DataFrame
    ) -> tuple[pl.DataFrame, RuleState]:
        """Return the findings of a batch, rows of FINDINGS_SCHEMA, sorted, and the state after it.

        Args:
            state: The state after all earlier entries; it is left as it is.
            frames: Stream -> this batch's readings after duplicates and clocks, sorted by (offset, record); streams
                without rules are ignored.
            ticks: `offset`, `received_at` and `is_start` of the batch's ticks, sorted by offset.
        """
        told = _to_ticks(ticks, state.started_us)
        streams: dict[str, StreamRules] = {}
        found: list[FindingRow] = []
        for plan in self._plans:
            before, frame = state.streams.get(plan.stream), frames.get(plan.stream)
            if frame is not None and not frame.height:
                frame = None
            if before is None and frame is None:
                continue
            known = _adapted(plan, before)
            findings, streams[plan.stream] = self._run_stream(plan, known, frame, told)
            found += findings
        after = RuleState(streams=streams, started_us=told.started_us[-1] if told.offsets else state.started_us)
        return to_findings(found) if found else NO_FINDINGS, after

    def _run_stream(
        self, plan: StreamPlan, state: StreamRules, frame: pl.DataFrame | None, ticks: Ticks
    ) -> tuple[list[FindingRow], StreamRules]:
        if frame is None and not (plan.silences and ticks.offsets) and state.devices.height <= DEVICES_MAX:
            return [], state
        found, after = self._take(plan, state, frame, ticks)
        crowd = max(after.devices.height, 0 if after.senders is None else after.senders.height)
        if crowd <= DEVICES_MAX or not ticks.offsets:
            return found, after
        # Devices are forgotten at ticks, so that cuts do not show; this is the rare batch where that must be exact.
        found = []
        for place, offset in enumerate(ticks.offsets):
            one = None if frame is None else frame.filter(pl.col("offset") < offset)
            frame = None if frame is None else frame.filter(pl.col("offset") > offset)
            some, state = self._take(plan, state, one, Ticks(*(part[place : place + 1] for part in ticks)))
            found += some
            state = _without_the_quiet(plan, state)
        some, state = self._take(plan, state, frame, Ticks([], [], []))
        return found + some, state

    def _take(
        self, plan: StreamPlan, state: StreamRules, frame: pl.DataFrame | None, ticks: Ticks
    ) -> tuple[list[FindingRow], StreamRules]:
        """Take in readings and ticks; see the module's numbers."""
        if frame is not None and frame.is_empty():
            frame = None
        found: list[FindingRow] = []
        senders = None
        if frame is not None:
            of_devices, of_senders = self._codes[plan.stream]
            devices, codes = of_devices.look_up(state.devices, frame)
            state = msgspec.structs.replace(state, devices=devices)
            rows = senders = Rows.by_device(frame, codes, devices.height)
            if state.senders is not None:
                names, codes = of_senders.look_up(state.senders, frame)
                state = msgspec.structs.replace(state, senders=names)
                senders = Rows.by_device(frame, codes, names.height)
            rows, state = _in_order(state, rows)
            found, state = _evaluate(plan, state, rows)
        if plan.silences:
            names = state.devices if state.senders is None else state.senders
            silences, silence = find_silences(state.silence, plan.silences, senders, ticks, names.height)
            state = msgspec.structs.replace(state, silence=silence)
            found += of_silences(plan.silent_rules, names, silences)
        return found, state


def _to_ticks(ticks: pl.DataFrame, started_us: int) -> Ticks:
    if ticks.is_empty():
        return Ticks([], [], [])
    received = ticks["received_at"].to_physical().to_list()
    starts = ticks["is_start"].to_list() if "is_start" in ticks.columns else [False] * len(received)
    started = []
    for received_us, is_start in zip(received, starts, strict=True):
        started_us = received_us if is_start else started_us
        started.append(started_us)
    return Ticks(ticks["offset"].to_list(), received, started)


def _adapted(plan: StreamPlan, state: StreamRules | None) -> StreamRules:
    """Return the state for the rules of today: what is of no use to them dropped, what they need and is new empty."""
    words = tuple(plan.looks)
    if state is None or tuple(state.devices.columns) != plan.owner:
        schema = dict.fromkeys(plan.owner, pl.String())
        state = StreamRules(devices=pl.DataFrame(schema=schema), looks=words)
    is_idle = not plan.silences and state.silence.heard.receipts.len()
    if (state.senders is not None) != plan.has_senders or is_idle:
        senders = EMPTY if plan.has_senders else None
        state = msgspec.structs.replace(state, senders=senders, silence=SilenceState())
    if state.looks != words:
        devices = state.devices.height
        parts = dict(zip(state.looks, state.past.to_parts(devices, len(state.looks)), strict=True))
        past = Past.from_parts([parts.get(one, b"") for one in words], devices)
        state = msgspec.structs.replace(state, looks=words, past=past)
    if not state.episodes.keys() <= plan.keys:
        episodes = {rule: known for rule, known in state.episodes.items() if rule in plan.keys}
        state = msgspec.structs.replace(state, episodes=episodes)
    if state.before.keys() != plan.befores.keys():
        before = {one: state.before.get(one, Last.empty(dtype)) for one, (_, dtype) in plan.befores.items()}
        state = msgspec.structs.replace(state, before=before)
    return state


def _in_order(state: StreamRules, rows: Rows) -> tuple[Rows, StreamRules]:
    """Return the readings that are not older than the newest before them, and the newest after them."""
    newest, heard = (longer(series, state.devices.height, NEVER) for series in (state.newest, state.heard))
    known = newest[rows.device]
    reached = known if rows.ends is None else known.zip_with(rows.first, before(rows.at))
    if (rows.at < reached).any():
        rows = rows.only(rows.at >= _reached(rows, known))
    device = rows.last(rows.device)
    newest = scattered(newest, device, rows.last(rows.at))
    heard = scattered(heard, device, rows.last(rows.column("offset")))
    return rows, msgspec.structs.replace(state, newest=newest, heard=heard)


def _reached(rows: Rows, known: pl.Series) -> pl.Series:
    """Return the newest time before each row, of its device."""
    frame = pl.DataFrame([rows.device.alias("device"), rows.at.alias("at"), known.alias("known")])
    earlier = pl.col("at").shift(1).over("device").cum_max().over("device")
    return frame.select(pl.max_horizontal("known", earlier)).to_series()


def _evaluate(plan: StreamPlan, state: StreamRules, rows: Rows) -> tuple[list[FindingRow], StreamRules]:
    """Return the episodes that begin or end, and the state after them."""
    if not rows.height or not plan.rules:
        return [], state
    devices = state.devices.height
    fields = _Fields(rows)
    plain = Columns(rows.height, fields.column, {})
    earlier: dict[str, Earlier] = {}
    lasts = dict(state.before)
    for words, (node, dtype) in plan.befores.items():
        argument = plain.column(node).cast(dtype)
        earlier[words], lasts[words] = look_before(lasts[words], rows, argument, devices)
    looked, past = None, state.past
    if plan.looks:
        arguments = [plain.column(plan.arguments[words]).cast(pl.Float64()) for words in plan.looks]
        looked, past = look_back([*plan.looks.values()], past, rows, arguments, devices)
    values = _Values(plan, rows.height, fields, looked, earlier)
    found: list[FindingRow] = []
    episodes: dict[str, Episodes] = {}
    for rule in plan.rules:
        columns, known = values.of(rule), state.episodes.get(rule.key, _NO_EPISODES)
        first = columns.column(rule.holds[0])
        # A sequence begins with its first step, anything else with its one condition.
        if known.of or first.any():
            holds = [first, *(columns.column(node) for node in rule.holds[1:])]
            clear = None if rule.rule.clear is None else columns.column(rule.rule.clear)
            known, changes = fold_episodes(rule.course, known, rows, holds, clear)
            if changes:
                found += of_changes(rule, state.devices, rows, columns, values.histories, changes)
        if known.of:
            episodes[rule.key] = known
    return found, msgspec.structs.replace(state, past=past, before=lasts, episodes=episodes)


class _Fields:
    """Fields of the rows, each fetched once."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._known: dict[str, pl.Series] = {}

    def column(self, name: str) -> pl.Series:
        if name not in self._known:
            self._known[name] = self._rows.column(name)
        return self._known[name]


class _Values:
    """Values of conditions: shared by rules that mean the same by `previous`."""

    def __init__(
        self, plan: StreamPlan, height: int, fields: _Fields, looked: Looked | None, earlier: Mapping[str, Earlier]
    ) -> None:
        self._plan, self._height, self._fields, self._looked, self._earlier = plan, height, fields, looked, earlier
        self._series = {words: place for place, words in enumerate(plan.looks)}
        self._past = {}
        if looked is not None:
            self._past = {call: looked.values(call.function, self._series[words]) for call, words in plan.calls.items()}
        self._columns: dict[int | None, Columns] = {}

    def of(self, rule: RulePlan) -> Columns:
        """Return the values for a rule."""
        most_us = rule.previous_us
        if most_us not in self._columns:
            past = dict(self._past)
            if most_us is not None:
                for words, (argument, _) in self._plan.befores.items():
                    past[Call(PREVIOUS, argument)] = self._earlier[words].within(most_us)
            self._columns[most_us] = Columns(self._height, self._fields.column, past)
        return self._columns[most_us]

    def histories(self, words: str, rows: Sequence[int]) -> dict[int, list[tuple[int, float]]]:
        """Return of readings the samples (us, value) that they saw in a series."""
        return {} if self._looked is None else self._looked.histories(self._series[words], rows)


def _without_the_quiet(plan: StreamPlan, state: StreamRules) -> StreamRules:
    """Return the state without the devices not heard from for longest, if there are more than DEVICES_MAX.

    One with an open episode goes last: nobody would end it.
    """
    devices = state.devices.height
    silent = {code for known in state.silence.silent.values() for code in known}
    if devices > DEVICES_MAX:
        held = {code for known in state.episodes.values() for code, one in known.of.items() if one.is_open}
        codes = _loudest(state.heard, devices, held if plan.has_senders else held | silent)
        place = {code: place for place, code in enumerate(codes)}
        state = msgspec.structs.replace(
            state,
            devices=state.devices[codes],
            newest=longer(state.newest, devices, NEVER)[codes],
            heard=longer(state.heard, devices, NEVER)[codes],
            past=state.past.of_devices(codes, devices, len(state.looks)),
            before={words: last.of_devices(codes, devices) for words, last in state.before.items()},
            episodes={
                rule: Episodes.of_devices({place[code]: one for code, one in known.of.items() if code in place})
                for rule, known in state.episodes.items()
            },
            silence=state.silence if plan.has_senders else state.silence.of_devices(codes, devices),
        )
    senders = state.senders
    if senders is not None and senders.height > DEVICES_MAX:
        codes = _loudest(state.silence.heard.offset, senders.height, silent)
        silence = state.silence.of_devices(codes, senders.height)
        state = msgspec.structs.replace(state, senders=senders[codes], silence=silence)
    return state


def _loudest(heard: pl.Series, devices: int, held: set[int]) -> pl.Series:
    """Return the codes of the devices to keep, sorted."""
    frame = pl.DataFrame([longer(heard, devices, NEVER).head(devices).alias("heard")]).with_row_index("code")
    frame = frame.with_columns(held=pl.col("code").is_in(sorted(held)))
    return frame.sort("held", "heard", "code", descending=True).head(_KEPT)["code"].sort()

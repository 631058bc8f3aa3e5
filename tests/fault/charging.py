"""What must hold of chargers after any number of kills, as functions of tables: no file, no process, no clock.

Frames: `answered` (device_id, message_id, action, digest); `transactions`, `meter`, `status`: the charger streams as
the lake has them; `sessions`: one row per session, its newest revision.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import polars as pl

from simulators.chargers.truth import AnsweredCall, SessionTruth

STREAMS: Final = ("charger_meter", "charger_status", "charger_transaction")
SESSIONS: Final = "charging_session_revisions"
SESSION_KEY: Final = ("session_id", "revision")
SESSION_PLACE: Final = ("device_id", "connector", "started_at")
"""What a session is known by on both sides: a connector begins no two at once. A transaction id of 1.6 is no key,
because a start that is sent again after a crash may be given a second one."""
ENERGY_WH_MAX: Final = 0.5
"""Registers count whole watt-hours, so a session that differs by less is the same."""
HARMLESS: Final = frozenset({"drop", "duplicate", "half_open", "late_meter"})
"""Faults that must not show in a session."""
_NOT_JOURNALLED: Final = "Heartbeat"
_STREAM_OF: Final = {
    "Authorize": "charger_transaction",
    "MeterValues": "charger_meter",
    "StartTransaction": "charger_transaction",
    "StopTransaction": "charger_transaction",
    "TransactionEvent": "charger_transaction",
}
_OTHERWISE: Final = "charger_status"
_ANSWERED: Final = {
    "device_id": pl.String(),
    "message_id": pl.String(),
    "action": pl.String(),
    "digest": pl.Binary(),
    "transaction_id": pl.String(),
}
_TIME: Final = pl.Datetime("us", "UTC")
_SAMPLES: Final = {"device_id": pl.String(), "measured_at": _TIME}
_TRUTH: Final = {
    "device_id": pl.String(),
    "connector": pl.String(),
    "started_at": _TIME,
    "ended_at": _TIME,
    "id_token": pl.String(),
    "energy_wh": pl.Float64(),
    "is_sure": pl.Boolean(),
}
_CAUSE: Final = frozenset({"message_id", "offset", "record", "received_at"})
"""Columns of a row that say which message told it, not what it tells."""


class SessionsVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """How sessions compare with what the chargers know.

    Attributes:
        compared: Sessions that are over and of which every call was answered.
        differing: Of those, not there exactly once, completed, with their end, id token and energy; and sessions in the
            lake that no charger had.
        examples: Some of them, in words.
    """

    compared: int
    differing: int
    examples: tuple[str, ...] = ()


def answered_calls(calls: Iterable[AnsweredCall]) -> pl.DataFrame:
    """Return the calls that were answered by a result and must be kept; an error promises nothing."""
    rows = [
        (call.charger, call.message_id, call.action, bytes.fromhex(call.digest), _text(call.answer))
        for call in calls
        if call.error is None and call.action != _NOT_JOURNALLED
    ]
    return pl.DataFrame(rows, schema=_ANSWERED, orient="row")


def _text(transaction_id: int | None) -> str | None:
    return None if transaction_id is None else str(transaction_id)


def without_row(answered: pl.DataFrame, streams: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Return the answered calls that have no row in their stream."""
    stream = pl.col("action").replace_strict(_STREAM_OF, default=_OTHERWISE, return_dtype=pl.String())
    lost = [
        answered.filter(stream == name).join(streams[name], on=("device_id", "message_id"), how="anti")
        for name in STREAMS
    ]
    return pl.concat(lost)


def without_id(answered: pl.DataFrame, transactions: pl.DataFrame) -> pl.DataFrame:
    """Return the answered starts whose transaction id, which their charger goes by, is not in the lake."""
    answers = transactions.filter(pl.col("event") == "start_answer").select(
        "device_id", pl.col("start_message_id").alias("message_id"), "transaction_id"
    )
    starts = answered.filter(pl.col("transaction_id").is_not_null())
    return starts.join(answers, on=answers.columns, how="anti")


def samples_in(frames: Iterable[tuple[str, bytes]]) -> pl.DataFrame:
    """Return (device_id, measured_at) of every sample in calls of any version.

    Args:
        frames: (device id, frame).
    """
    rows = []
    for device_id, frame in frames:
        said = msgspec.json.decode(frame)
        payload: dict[str, Any] = said[3] if said[0] == 2 else {}
        for name in ("meterValue", "transactionData"):
            rows += [(device_id, value["timestamp"]) for value in payload.get(name) or ()]
    samples = pl.DataFrame(rows, schema={"device_id": pl.String(), "measured_at": pl.String()}, orient="row")
    return samples.with_columns(_time("measured_at")).cast(pl.Schema(_SAMPLES)).unique()


def _time(name: str) -> pl.Expr:
    return pl.col(name).str.to_datetime(time_unit="us", time_zone="UTC")


def told_again(streams: Mapping[str, pl.DataFrame]) -> int:
    """Return how many rows are there beyond the first: of one message, and of one content.

    Our answers to one start are different facts, because a start that is sent again after a crash gets a second id.
    """
    again = 0
    for name in STREAMS:
        rows = streams[name].filter(pl.col("message_id").is_not_null())
        key = ["device_id", "message_id", "record"]
        if name == "charger_transaction":
            rows, key = rows.filter(pl.col("event") != "start_answer"), [*key, "event"]
        content = [column for column in rows.columns if column not in _CAUSE]
        again += max(rows.height - rows.select(key).n_unique(), rows.height - rows.select(content).n_unique())
    return again


def ids_given_twice(transactions: pl.DataFrame) -> pl.DataFrame:
    """Return the 1.6 transaction ids that two starts were answered with, of whichever charger."""
    answers = transactions.filter(pl.col("event") == "start_answer")
    starts = answers.group_by("transaction_id").agg(
        pl.struct("device_id", "start_message_id").n_unique().alias("starts")
    )
    return starts.filter(pl.col("starts") > 1).sort("transaction_id")


def newest_sessions(revisions: pl.DataFrame) -> pl.DataFrame:
    """Return the row with the highest revision of each session, its charger as `device_id`."""
    return revisions.sort("revision").unique("session_id", keep="last").rename({"charger_id": "device_id"})


def true_sessions(truth: Sequence[SessionTruth]) -> pl.DataFrame:
    """Return what the chargers know; `is_sure` where everything of it was answered and nothing may show but itself."""
    rows = [
        (one.charger, one.connector, one.started_at, one.ended_at, one.id_token, one.energy_wh, _is_sure(one))
        for one in truth
    ]
    text = {**_TRUTH, "started_at": pl.String(), "ended_at": pl.String()}
    return pl.DataFrame(rows, schema=text, orient="row").with_columns(_time("started_at"), _time("ended_at"))


def _is_sure(one: SessionTruth) -> bool:
    is_answered = one.started and one.stopped and one.calls == one.answered and not one.unsettled
    return one.is_over and is_answered and one.faults <= HARMLESS


def judge_sessions(truth: pl.DataFrame, sessions: pl.DataFrame, *, examples: int = 5) -> SessionsVerdict:
    """Compare.

    Args:
        truth: As of `true_sessions`.
        sessions: As of `newest_sessions`.
        examples: How many to describe.
    """
    sure = truth.filter("is_sure")
    found = sessions.select(*SESSION_PLACE, "status", pl.col("ended_at", "id_token", "energy_wh").name.suffix("_found"))
    pairs = sure.join(found, on=SESSION_PLACE, how="left")
    is_same = (
        (pl.col("status") == "completed")
        & (pl.col("ended_at") == pl.col("ended_at_found"))
        & (pl.col("id_token") == pl.col("id_token_found"))
        & ((pl.col("energy_wh") - pl.col("energy_wh_found")).abs() <= ENERGY_WH_MAX)
    ).fill_null(value=False)
    judged = pairs.group_by(SESSION_PLACE, maintain_order=True).agg(pl.len(), is_same.all().alias("is_same"), pl.all())
    wrong = judged.filter((pl.col("len") > 1) | ~pl.col("is_same"))
    strange = found.join(truth, on=SESSION_PLACE, how="anti")
    words = [_difference(row) for row in wrong.head(examples).to_dicts()]
    words += [f"{_place(row)}: no charger had this session" for row in strange.head(examples).to_dicts()]
    return SessionsVerdict(
        compared=sure.height, differing=wrong.height + strange.height, examples=tuple(words[:examples])
    )


def _place(row: dict[str, Any]) -> str:
    return f"{row['device_id']} connector {row['connector']} from {row['started_at']}"


def _difference(row: dict[str, Any]) -> str:
    """Describe a session of which `row` lists the columns of both sides, one item for each row that was found."""
    due = f"{row['energy_wh'][0]} Wh until {row['ended_at'][0]} for {row['id_token'][0]}"
    found = [
        f"{status}, {energy_wh} Wh until {ended_at} for {id_token}"
        for status, energy_wh, ended_at, id_token in zip(
            row["status"], row["energy_wh_found"], row["ended_at_found"], row["id_token_found"], strict=True
        )
    ]
    return f"{_place(row)}: due {due}; found {' and '.join(found)}"

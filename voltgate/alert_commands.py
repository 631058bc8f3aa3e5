"""`voltgate alerts`: what is wrong now and why, and what operators say about it.

Alerts of today come from the notifier's database, older ones from the lake; orders go through the running gateway.
"""

import getpass
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from dashboards.queries import history
from gateway.core.limits import ALERT_ROWS_MAX, NOTE_CHARS_MAX, SILENCE_S_MAX
from gateway.core.settings import Settings
from processors.contracts.units import duration_s
from processors.sinks.outbox import read_alerts, read_deliveries, read_silences
from processors.sinks.outbox_schema import Delivery
from processors.stages.alert_orders import ORDERS
from processors.stages.alert_record import SEVERITIES, AlertEvent, MatcherError, read_matchers, silence_id_of
from processors.stages.alert_rows import read_alert
from processors.stages.alerts import ALERTS
from voltgate.alert_view import (
    ALERT_COLUMNS,
    SHORT_CHARS,
    SILENCE_COLUMNS,
    alert_lines,
    alert_row,
    notice_json,
    silence_row,
    silence_state,
)
from voltgate.gateway_port import call_gateway
from voltgate.output import Exit, cell, fail, print_json, print_rows, say

OUTBOX: Final = "notices.sqlite"
"""The notifier's database, in the data directory."""
PREFIX_CHARS_MIN: Final = 4
WAIT_S: Final = 5.0
"""How long a command waits to see that its order took; usually it takes a tenth of it."""
POLL_S: Final = 0.1
OPERATORS: Final = "operators"
"""Device under which orders stand in the journal that are about no device."""
_DELIVERIES_MAX: Final = 10_000
_WORDS: Final[Mapping[str, str]] = {"ack": "acknowledged", "unack": "firing", "resolve": "resolved"}
"""Order -> state of the alert when it took."""
_SHOWN_MAX: Final = 5
"""Alerts that a refusal names."""


class AlertFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which alerts to show; None lets all through.

    Attributes:
        rule: Its name, or `stream/rule`.
    """

    device_id: str | None = None
    rule: str | None = None
    severity: str | None = None
    site: str | None = None

    def lets_through(self, event: AlertEvent) -> bool:
        """Return whether an alert is to be shown."""
        return (
            self.device_id in (None, event.device_id)
            and self.rule in (None, event.rule, event.rule_id)
            and self.severity in (None, event.severity)
            and self.site in (None, event.site)
        )


# ---- to look ---------------------------------------------------------------------------------------------------------
def list_alerts(settings: Settings, wanted: AlertFilter, *, with_resolved: bool, limit: int, as_json: bool) -> None:
    """Print the open alerts, the worst first, with `with_resolved` those that are over too. Needs no gateway."""
    if wanted.severity not in {None, *SEVERITIES}:
        fail(f"--severity {wanted.severity!r} is none of {', '.join(SEVERITIES)}", Exit.USAGE)
    if with_resolved:
        known = _newest([*_of_lake(settings, _conditions(wanted), limit), *read_alerts(outbox_path(settings))])
    else:
        known = _open_alerts(settings)
    events = sorted(filter(wanted.lets_through, known), key=_urgency)
    if as_json:
        for event in events[:limit]:
            print_json(msgspec.to_builtins(event))
        return
    print_rows(ALERT_COLUMNS, [alert_row(event, is_short=True) for event in events[:limit]], as_json=False)
    if len(events) > limit:
        say(f"{len(events) - limit} more; say --limit {len(events)} to see them")


def show_alert(settings: Settings, name: str, *, as_json: bool) -> int:
    """Print all that is known of one alert: what was measured, against what, what to check, what became of it."""
    event = _find(settings, name)
    revisions = {event.revision: event}
    for revision in _of_lake(settings, [f"alert_id = {_quoted(event.alert_id)}"], ALERT_ROWS_MAX, table=ALERTS):
        revisions[revision.revision] = revision
    past = [revisions[number] for number in sorted(revisions)]
    notices = _notices_about(settings, event)
    if as_json:
        shown = [notice_json(notice) for notice in notices]
        print_json({**msgspec.to_builtins(event), "history": msgspec.to_builtins(past), "notices": shown})
        return Exit.OK
    for line in alert_lines(event, past, notices, time.time_ns() // 1000):
        print(line)
    return Exit.OK


def _open_alerts(settings: Settings) -> list[AlertEvent]:
    path = outbox_path(settings)
    if path.exists():
        return read_alerts(path, open_only=True)
    return _of_lake(settings, ["state <> 'resolved'"], ALERT_ROWS_MAX)


def _of_lake(settings: Settings, where: Sequence[str], limit: int, table: str = "alerts") -> list[AlertEvent]:
    lake = settings.lake_directory
    if ALERTS not in history.tables(lake):
        return []
    condition = f" where {' and '.join(where)}" if where else ""
    asked = history.query(
        lake,
        f"select * from {table}{condition} order by fired_at desc, revision desc",  # noqa: S608 - values are quoted
        rows_max=limit,
    )
    return [read_alert(dict(zip(asked.columns, row, strict=True))) for row in asked.rows]


def _conditions(wanted: AlertFilter) -> list[str]:
    rule = wanted.rule
    return [
        *([f"device_id = {_quoted(wanted.device_id)}"] if wanted.device_id else []),
        *([f"{_quoted(rule)} in (rule, stream || '/' || rule)"] if rule else []),
        *([f"severity = {_quoted(wanted.severity)}"] if wanted.severity else []),
        *([f"site = {_quoted(wanted.site)}"] if wanted.site else []),
    ]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _newest(events: Iterable[AlertEvent]) -> list[AlertEvent]:
    """Return the newest revision of each alert."""
    newest: dict[str, AlertEvent] = {}
    for event in events:
        other = newest.get(event.alert_id)
        if other is None or other.revision < event.revision:
            newest[event.alert_id] = event
    return list(newest.values())


def _urgency(event: AlertEvent) -> tuple[bool, int, int]:
    """Order by: open, worse, fired later."""
    return not event.is_open, -SEVERITIES.index(event.severity), -event.fired_at_us


def _find(settings: Settings, name: str) -> AlertEvent:
    """Return the one alert whose id begins with `name`, open or not.

    Raises: SystemExit: There is none, or several.
    """
    prefix = name.strip().lower()
    if len(prefix) < PREFIX_CHARS_MIN:
        fail(f"{name!r} is too short; write at least {PREFIX_CHARS_MIN} characters of the alert's id", Exit.USAGE)
    known = read_alerts(outbox_path(settings))
    found = [event for event in known if event.alert_id.startswith(prefix)]
    if not found:
        found = _of_lake(settings, [f"starts_with(alert_id, {_quoted(prefix)})"], _SHOWN_MAX + 1)
    if len(found) == 1:
        return found[0]
    if found:
        say(f"voltgate: {len(found)} alerts begin with {prefix!r}; write more of the id")
        _say_alerts(found)
        raise SystemExit(Exit.USAGE)
    say(f"voltgate: there is no alert {cell(name)!r}; `voltgate alerts ls --all` lists them")
    _say_alerts(sorted(filter(lambda event: event.is_open, known), key=_urgency))
    raise SystemExit(Exit.NOT_FOUND)


def _say_alerts(events: Sequence[AlertEvent]) -> None:
    for event in events[:_SHOWN_MAX]:
        say(f"  {event.alert_id}  {event.state}  {cell(event.device_id)}  {cell(event.rule_id)}")
    if len(events) > _SHOWN_MAX:
        say(f"  and {len(events) - _SHOWN_MAX} more")


# ---- orders about alerts ---------------------------------------------------------------------------------------------
def change_alerts(
    settings: Settings, kind: str, names: Sequence[str], *, by: str | None, note: str | None, wait: bool, as_json: bool
) -> int:
    """Order `ack`, `unack` or `resolve` for alerts, and wait until it took; return the exit code that says it."""
    _check_note(note)
    wanted = _WORDS[kind]
    code = Exit.OK
    ordered: list[AlertEvent] = []
    for event in _newest(_find(settings, name) for name in names):
        if event.state == wanted:
            say(f"{_named(event)} is {wanted} already{_by_whom(event)}")
        elif not event.is_open:
            say(f"voltgate: {_named(event)} is resolved; nothing is left to {kind}")
            code = Exit.FAILED
        else:
            order = {"kind": kind, "alert_id": event.alert_id, "by": by or operator(), "note": note}
            put_order(settings, event.tenant, event.device_id, order)
            ordered.append(event)
    if not ordered:
        return code
    if not wait:
        say(f"{len(ordered)} ordered; `voltgate alerts ls` shows it in a moment")
        return code
    took = await_states(lambda: read_alerts(outbox_path(settings)), ordered, give_up_s=WAIT_S)
    for event in ordered:
        now = took.get(event.alert_id)
        if as_json:
            state = event.state if now is None else now.state
            print_json({"alert_id": event.alert_id, "state": state, "took": now is not None and now.state == wanted})
        if now is None:
            why = f"is ordered, but not seen to be {wanted} within {WAIT_S:g} s"
            say(f"voltgate: {_named(event)} {why}; does `voltgate run` run? `voltgate status` says how far it is")
            code = Exit.TIMEOUT
        elif now.state == wanted:
            say(f"{_named(now)} is {wanted}{_by_whom(now)}")
        else:
            say(f"voltgate: {_named(now)} is {now.state} now: something else came before the order")
            code = Exit.FAILED
    return code


def await_states(
    read: Callable[[], Iterable[AlertEvent]],
    before: Sequence[AlertEvent],
    *,
    give_up_s: float,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, AlertEvent]:
    """Return, for each of some alerts that has a newer revision, that revision, once all have one or time is up."""
    revisions = {event.alert_id: event.revision for event in before}
    give_up_at_s = now() + give_up_s
    while True:
        newer = {
            event.alert_id: event
            for event in read()
            if event.alert_id in revisions and event.revision > revisions[event.alert_id]
        }
        if len(newer) == len(revisions) or now() >= give_up_at_s:
            return newer
        sleep(POLL_S)


def _named(event: AlertEvent) -> str:
    return f"{event.alert_id[:SHORT_CHARS]} ({cell(event.device_id)}, {cell(event.rule_id)})"


def _by_whom(event: AlertEvent) -> str:
    return f", by {cell(event.by)}" if event.by else ""


def operator() -> str:
    """Return who works at this machine."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        return "unknown"


def _check_note(note: str | None) -> None:
    if note is not None and len(note) > NOTE_CHARS_MAX:
        fail(f"the text has {len(note)} characters, limit is {NOTE_CHARS_MAX}; write less", Exit.USAGE)


def put_order(settings: Settings, tenant: str, device_id: str, order: Mapping[str, object]) -> int:
    """Put an order into the journal; return its offset."""
    said = {name: value for name, value in order.items() if value is not None}
    body: dict[str, object] = {
        "tenant": tenant,
        "device_id": device_id,
        "channel": ORDERS,
        "payload": json.dumps(said, ensure_ascii=False),
    }
    return int(call_gateway(settings, "/ingest", body)["offset"])


# ---- silences --------------------------------------------------------------------------------------------------------
class SilenceOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What `alerts silence` was asked for, as text."""

    tenant: str
    matchers: Sequence[str]
    span: str
    why: str
    by: str | None = None
    starts_at: str | None = None
    is_maintenance: bool = False


def begin_silence(settings: Settings, order: SilenceOrder, *, as_json: bool) -> int:
    """Order that nobody is sent notices about what matches, for a while."""
    _check_note(order.why)
    try:
        matchers = read_matchers(order.matchers)
    except MatcherError as exc:
        fail(str(exc), Exit.USAGE)
    if not order.why.strip():
        fail("say --why: those who come after you want to know", Exit.USAGE)
    now_us = time.time_ns() // 1000
    starts_us = None if order.starts_at is None else _moment_us(order.starts_at)
    begins_us = now_us if starts_us is None else starts_us
    ends_us = begins_us + _span_us(order.span)
    if not now_us < ends_us <= now_us + SILENCE_S_MAX * 1_000_000:
        fail(f"the silence would end {_minute(ends_us)}; it may end within {SILENCE_S_MAX // 86_400} days", Exit.USAGE)
    said = {
        "kind": "silence",
        "by": order.by or operator(),
        "matchers": "\n".join(map(str, matchers)),
        "starts_at_us": starts_us,
        "ends_at_us": ends_us,
        "why": order.why,
        "silence_kind": "maintenance" if order.is_maintenance else "silence",
    }
    silence_id = silence_id_of(put_order(settings, order.tenant, OPERATORS, said))
    hit = [event for event in _open_alerts(settings) if event.tenant == order.tenant]
    hits = sum(all(matcher.matches(event.labels) for matcher in matchers) for event in hit)
    if as_json:
        print_json({"silence_id": silence_id, "ends_at_us": ends_us, "alerts": hits})
    say(f"silence {silence_id} until {_minute(ends_us)}; {hits} open alerts match it now")
    return Exit.OK


def list_silences(settings: Settings, *, with_ended: bool, as_json: bool) -> None:
    """Print the silences that count now or later, with `with_ended` the others too. Needs no gateway."""
    now_us = time.time_ns() // 1000
    silences = read_silences(outbox_path(settings))
    shown = [s for s in silences if with_ended or silence_state(s, now_us) in {"active", "pending"}]
    print_rows(SILENCE_COLUMNS, [silence_row(silence, now_us) for silence in shown], as_json=as_json)


def end_silence(settings: Settings, silence_id: str, *, by: str | None) -> int:
    """Order that a silence counts no more."""
    now_us = time.time_ns() // 1000
    known = {silence.silence_id: silence for silence in read_silences(outbox_path(settings))}
    found = known.get(silence_id)
    if found is None:
        say(f"voltgate: there is no silence {cell(silence_id)!r}; `voltgate alerts silences` lists them")
        return Exit.NOT_FOUND
    if silence_state(found, now_us) in {"removed", "ended"}:
        say(f"silence {silence_id} is {silence_state(found, now_us)} already")
        return Exit.OK
    order = {"kind": "unsilence", "silence_id": silence_id, "by": by or operator()}
    put_order(settings, found.tenant, OPERATORS, order)
    say(f"silence {silence_id} is removed")
    return Exit.OK


def _span_us(text: str) -> int:
    try:
        span_s = duration_s(text)
    except ValueError as exc:
        fail(f"--for: {exc}", Exit.USAGE)
    if not 0 < span_s <= SILENCE_S_MAX:
        fail(f"--for {text!r} is not between 0 and {SILENCE_S_MAX // 86_400} days", Exit.USAGE)
    return round(span_s * 1_000_000)


def _moment_us(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        fail(f"--from {text!r} is no time; write one such as 2026-11-22T22:00, which is UTC", Exit.USAGE)
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def _minute(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="minutes")


def _notices_about(settings: Settings, event: AlertEvent) -> list[Delivery]:
    """Return the deliveries whose body names the alert, newest first."""
    name = event.alert_id[:SHORT_CHARS].encode()
    return [notice for notice in read_deliveries(outbox_path(settings), limit=_DELIVERIES_MAX) if name in notice.body]


def outbox_path(settings: Settings) -> Path:
    """Return where the notifier's database is."""
    return settings.data / OUTBOX

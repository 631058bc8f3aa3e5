"""The console's questions answered by the lake: DuckDB over the Delta tables of this machine, see `history`.

Costs a snapshot of each table asked and a scan of the files that its statistics leave over: milliseconds to seconds,
and nothing while nobody asks. Values of questions are parameters of statements, never text in them.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from dashboards.queries import history
from dashboards.queries.port import (
    AlertFilter,
    AlertRow,
    Device,
    Page,
    RejectCount,
    Scalar,
    SessionFilter,
    SessionRow,
    StreamState,
    Value,
    Window,
    at_millisecond,
    checked_rows,
    checked_stream,
    checked_text,
    checked_texts,
    from_cursor,
    milliseconds,
    to_cursor,
)
from dashboards.queries.shape import Shape
from gateway.core.errors import QueryError
from gateway.core.limits import QUERY_DEVICES_MAX, QUERY_PAGE_ROWS_MAX, QUERY_REASONS_MAX, QUERY_STATES_MAX
from processors.stages.alerts import ALERTS
from processors.stages.chain import REJECTS
from processors.stages.sessions import SESSIONS

_SKEW_MAX: Final = timedelta(days=1)
"""Clocks further ahead are clamped when decoded: what was measured after a time was received after that, less this."""
_TIMEOUT_S: Final = 30.0


class LakeQueries:
    """See `port.Queries`.

    Args:
        lake: Directory of the tables; it need not exist yet.
        shape: What streams, fields and tables there are.
        timeout_s: Most a statement may take; a question is one or a few.
    """

    def __init__(self, *, lake: Path, shape: Shape, timeout_s: float = _TIMEOUT_S) -> None:
        self._lake, self._shape, self._timeout_s = lake, shape, timeout_s

    def fleet(
        self,
        tenant: str,
        *,
        since: datetime,
        device_id: str | None = None,
        rows_max: int = QUERY_DEVICES_MAX,
        cursor: str | None = None,
    ) -> Page[Device]:
        """See `port.Queries`."""
        count = checked_rows(rows_max, QUERY_DEVICES_MAX)
        place = from_cursor("fleet", cursor, (str,))
        asked = _Asked(tenant)
        asked.add("measured_at >= $since::TIMESTAMPTZ", since=at_millisecond(milliseconds(since)).isoformat())
        asked.add("received_date >= $day::DATE", day=(since.astimezone(UTC) - _SKEW_MAX).date().isoformat())
        asked.equal(device_id=device_id)
        held = set(history.tables(self._lake))
        streams = [stream for stream in self._shape.states if stream in held]
        if not streams:
            return Page(rows=(), next_cursor=None)
        after = "" if place is None else "WHERE device_id > $after"
        one_each = " UNION ALL ".join(f'SELECT DISTINCT device_id FROM "{name}" {asked.where}' for name in streams)  # noqa: S608 - contracts' names
        found = self._ask(
            f"SELECT DISTINCT device_id FROM ({one_each}) {after} ORDER BY 1",  # noqa: S608 - contracts' names
            asked.values | ({} if place is None else {"after": place[0]}),
            count + 1,
        )
        ids = [str(row["device_id"]) for row in found]
        states = self._states(streams, asked, ids[:count]) if ids else {}
        devices = tuple(
            Device(device_id=name, measured_at=max(state.measured_at for state in of_it), states=tuple(of_it))
            for name, of_it in states.items()
        )
        return Page(rows=devices, next_cursor=to_cursor("fleet", [ids[count - 1]]) if len(ids) > count else None)

    def _states(self, streams: Sequence[str], asked: "_Asked", ids: Sequence[str]) -> dict[str, list[StreamState]]:
        """Return device -> what it last said, by stream and part."""
        states: dict[str, list[StreamState]] = {name: [] for name in ids}
        left = QUERY_STATES_MAX
        for stream in sorted(streams):
            part, held = self._shape.parts.get(stream), set(history.columns(self._lake, stream))
            fields = [name for name in self._shape.states[stream] if name in held]
            order = '(measured_at, "offset", record)'
            newest = ", ".join(
                f'arg_max("{name}", {order}) AS "{name}", '
                f'arg_max(measured_at, {order}) FILTER ("{name}" IS NOT NULL) AS "{name}:at"'
                for name in fields
            )
            part_name = "NULL::VARCHAR" if part is None else f'"{part}"'
            rows = self._ask(
                f'SELECT device_id, {part_name} AS ":part", max(measured_at) AS ":at", {newest} FROM "{stream}" '  # noqa: S608
                f"{asked.where} AND list_contains($ids, device_id) GROUP BY 1, 2 ORDER BY 1, 2 NULLS FIRST",
                {**asked.values, "ids": list(ids)},
                left + 1,
            )
            left -= len(rows)
            if left < 0:
                raise QueryError(f"{len(ids)} devices have over {QUERY_STATES_MAX} states; ask for fewer devices")
            for row in rows:
                values = {
                    name: Value(value=value, measured_at=row[f"{name}:at"])
                    for name in fields
                    if (value := _plain(row[name])) is not None
                }
                states[row["device_id"]].append(
                    StreamState(stream=stream, part=row[":part"], measured_at=row[":at"], values=values)
                )
        # A device may be without states only when its rows went between the two statements.
        return {name: of_it for name, of_it in states.items() if of_it}

    def windows(
        self,
        tenant: str,
        device_id: str,
        stream: str,
        *,
        window_s: int,
        begin: datetime,
        end: datetime,
        rows_max: int = QUERY_PAGE_ROWS_MAX,
        cursor: str | None = None,
    ) -> Page[Window]:
        """See `port.Queries`."""
        count = checked_rows(rows_max, QUERY_PAGE_ROWS_MAX)
        table = self._shape.windows[checked_stream(stream, self._shape.windows)].table
        place = from_cursor("windows", cursor, (int, str | None))
        part = self._shape.parts.get(stream)
        asked = _Asked(tenant)
        asked.equal(device_id=device_id)
        asked.add("window_s = $window_s", window_s=window_s)
        asked.between("window_start", begin, end)
        start_ms, part_name = _ms("window_start"), "NULL::VARCHAR" if part is None else f'"{part}"'
        if place is not None and place[1] is None:
            asked.add(f"({start_ms} > $at OR {start_ms} = $at AND {part_name} IS NOT NULL)", at=place[0])
        elif place is not None:
            asked.add(f"({start_ms} > $at OR {start_ms} = $at AND {part_name} > $part)", at=place[0], part=place[1])
        if table not in history.tables(self._lake):
            return Page(rows=(), next_cursor=None)
        rows = self._ask(
            f'SELECT * FROM "{table}_latest" {asked.where} ORDER BY {start_ms}, {part_name} NULLS FIRST',  # noqa: S608
            asked.values,
            count + 1,
        )
        names = self._shape.aggregates(stream)
        found = tuple(
            Window(
                window_start=row["window_start"],
                window_s=row["window_s"],
                part=None if part is None else row[part],
                revision=row["revision"],
                values={name: _plain(row.get(name)) for name in names},
            )
            for row in rows[:count]
        )
        more = len(rows) > count
        last = [milliseconds(found[-1].window_start), found[-1].part] if more else []
        return Page(rows=found, next_cursor=to_cursor("windows", last) if more else None)

    def sessions(
        self,
        tenant: str,
        wanted: SessionFilter = SessionFilter(),  # noqa: B008 - frozen
        *,
        rows_max: int = QUERY_PAGE_ROWS_MAX,
        cursor: str | None = None,
    ) -> Page[SessionRow]:
        """See `port.Queries`."""
        count = checked_rows(rows_max, QUERY_PAGE_ROWS_MAX)
        asked = _Asked(tenant)
        asked.equal(charger_id=wanted.charger_id, vehicle_id=wanted.vehicle_id, status=wanted.status)
        asked.between("started_at", wanted.begin, wanted.end)
        asked.behind("started_at", "session_id", from_cursor("sessions", cursor, (int, str)))
        rows = self._newest_first(SESSIONS, "charging_sessions", asked, "started_at", "session_id", count)
        found = tuple(
            SessionRow(**{**_columns(SessionRow, row), "flags": tuple(filter(None, (row["flags"] or "").split(",")))})
            for row in rows[:count]
        )
        more = len(rows) > count
        last = [milliseconds(found[-1].started_at), found[-1].session_id] if more else []
        return Page(rows=found, next_cursor=to_cursor("sessions", last) if more else None)

    def alerts(
        self,
        tenant: str,
        wanted: AlertFilter = AlertFilter(),  # noqa: B008 - frozen
        *,
        rows_max: int = QUERY_PAGE_ROWS_MAX,
        cursor: str | None = None,
    ) -> Page[AlertRow]:
        """See `port.Queries`."""
        count = checked_rows(rows_max, QUERY_PAGE_ROWS_MAX)
        asked = _Asked(tenant)
        asked.equal(device_id=wanted.device_id, site=wanted.site)
        asked.one_of(state=wanted.states, severity=wanted.severities)
        asked.between("fired_at", wanted.begin, wanted.end)
        asked.behind("fired_at", "alert_id", from_cursor("alerts", cursor, (int, str)))
        rows = self._newest_first(ALERTS, "alerts", asked, "fired_at", "alert_id", count)
        found = tuple(AlertRow(**_columns(AlertRow, row)) for row in rows[:count])
        more = len(rows) > count
        last = [milliseconds(found[-1].fired_at), found[-1].alert_id] if more else []
        return Page(rows=found, next_cursor=to_cursor("alerts", last) if more else None)

    def rejects(self, tenant: str, *, begin: datetime, end: datetime) -> tuple[RejectCount, ...]:
        """See `port.Queries`."""
        asked = _Asked(tenant)
        asked.between("received_at", begin, end)
        asked.add("received_date >= $first::DATE", first=begin.astimezone(UTC).date().isoformat())
        if REJECTS not in history.tables(self._lake):
            return ()
        rows = self._ask(
            f"SELECT stage, code, count(*) AS rejects, max(received_at) AS newest_received_at FROM {REJECTS} "  # noqa: S608
            f"{asked.where} GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2",
            asked.values,
            QUERY_REASONS_MAX + 1,
        )
        if len(rows) > QUERY_REASONS_MAX:
            raise QueryError(f"rejects of over {QUERY_REASONS_MAX} reasons; ask for a shorter time")
        return tuple(RejectCount(**row) for row in rows)

    def close(self) -> None:
        """See `port.Queries`."""

    def _newest_first(
        self, table: str, view: str, asked: "_Asked", time: str, key: str, count: int
    ) -> list[dict[str, Any]]:
        """Return one row more than a page has, if there is one."""
        if table not in history.tables(self._lake):
            return []
        sql = f"SELECT * FROM {view} {asked.where} ORDER BY {_ms(time)} DESC, {key}"  # noqa: S608 - our names
        return self._ask(sql, asked.values, count + 1)

    def _ask(self, sql: str, values: Mapping[str, object], rows_max: int) -> list[dict[str, Any]]:
        answer = history.query(self._lake, sql, values=values, rows_max=rows_max, timeout_s=self._timeout_s)
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


class _Asked:
    """Conditions and the values of their parameters."""

    def __init__(self, tenant: str) -> None:
        self._conditions = ["tenant = $tenant"]
        self.values: dict[str, object] = {"tenant": checked_text("tenant", tenant)}

    @property
    def where(self) -> str:
        return f"WHERE {' AND '.join(self._conditions)}"

    def add(self, condition: str, **values: object) -> None:
        self._conditions.append(condition)
        self.values |= values

    def equal(self, **wanted: str | None) -> None:
        for name, text in wanted.items():
            if text is not None:
                self.add(f"{name} = ${name}", **{name: checked_text(name, text)})

    def one_of(self, **wanted: Sequence[str]) -> None:
        for name, texts in wanted.items():
            if texts:
                self.add(f"list_contains(${name}, {name})", **{name: checked_texts(name, texts)})

    def between(self, column: str, begin: datetime | None, end: datetime | None) -> None:
        if begin is not None:
            self.add(f"{column} >= $begin::TIMESTAMPTZ", begin=at_millisecond(milliseconds(begin)).isoformat())
        if end is not None:
            self.add(f"{column} < $end::TIMESTAMPTZ", end=at_millisecond(milliseconds(end)).isoformat())

    def behind(self, time: str, key: str, place: Sequence[Any] | None) -> None:
        """Keep the rows that follow a place, newest first."""
        if place is not None:
            at_ms, name = place
            self.add(f"({_ms(time)} < $at OR {_ms(time)} = $at AND {key} > $key)", at=at_ms, key=name)


def _ms(column: str) -> str:
    """Return the expression for a time in whole milliseconds; `epoch_ms` would round up."""
    return f"(epoch_us({column}) // 1000)"


def _columns(kind: type[SessionRow | AlertRow], row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(row[name]) for name in kind.__struct_fields__}


def _plain(value: Any) -> Scalar:
    plain: Scalar = None if isinstance(value, float) and not math.isfinite(value) else value
    return plain

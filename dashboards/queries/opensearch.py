"""The console's questions answered by OpenSearch, from the indices that the processors fill from the lake.

Asks with term and range filters only, so no text of a question is ever parsed. Pages are continued behind the last
row's place in the order (`search_after`), which is unique, instead of in a snapshot (PIT): a person may look at a page
for an hour, and a snapshot costs the cluster memory for as long.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from dashboards.queries.history import MERGED
from dashboards.queries.port import (
    AlertFilter,
    AlertRow,
    Device,
    Page,
    RejectCount,
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
from gateway.core.errors import QueryError, SinkError
from gateway.core.limits import QUERY_DEVICES_MAX, QUERY_PAGE_ROWS_MAX, QUERY_REASONS_MAX, QUERY_STATES_MAX
from gateway.core.text import peer_text
from processors.indexing.plan import DEVICE_AT, DEVICE_VALUE, DEVICES, IndexedTable
from processors.stages.alerts import ALERTS
from processors.stages.chain import REJECTS
from processors.stages.sessions import SESSIONS

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

_TIMEOUT_S: Final = 30.0
_ASCENDING: Final = "asc"
_DESCENDING: Final = "desc"


def connect(
    *,
    urls: Sequence[str],
    user: str | None = None,
    password: SecretStr | None = None,
    client_certificate: Path | None = None,
    client_key: Path | None = None,
    ca_file: Path | None = None,
    verify_tls: bool = True,
    aws_region: str | None = None,
    aws_service: str = "es",
) -> "OpenSearch":
    """Return a client of a cluster; nothing is asked yet. The arguments are those of `processors.sinks.opensearch`.

    Raises: SinkError: A package is missing.
    """
    try:
        from opensearchpy import OpenSearch, Urllib3AWSV4SignerAuth
    except ImportError as exc:
        mend = "pip install 'voltgate[opensearch]'"
        raise SinkError("opensearch", f"package {exc.name} is not installed", mend=mend) from exc
    given: dict[str, Any] = {}
    if user is not None:
        given["http_auth"] = (user, password.get_secret_value() if password else "")
    if aws_region is not None:
        try:
            from botocore.session import Session  # type: ignore[import-untyped]
        except ImportError as exc:
            mend = "pip install 'voltgate[opensearch,aws]'"
            raise SinkError("opensearch", f"package {exc.name} is not installed", mend=mend) from exc
        given["http_auth"] = Urllib3AWSV4SignerAuth(Session().get_credentials(), aws_region, aws_service)
    files = {"client_cert": client_certificate, "client_key": client_key, "ca_certs": ca_file}
    given |= {name: str(file) for name, file in files.items() if file is not None}
    if any(url.startswith("https") for url in urls):
        given |= {"verify_certs": verify_tls, "ssl_show_warn": False}
    # Reading again where nobody answered is harmless.
    return OpenSearch(list(urls), max_retries=2, retry_on_timeout=False, **given)


class OpenSearchQueries:
    """See `port.Queries`.

    Args:
        client: Connected to the cluster; closed by `close`.
        shape: What streams, fields and indices there are.
        timeout_s: Most a request may take; a question is one or two.
    """

    def __init__(self, *, client: "OpenSearch", shape: Shape, timeout_s: float = _TIMEOUT_S) -> None:
        from opensearchpy.exceptions import OpenSearchException

        self._client, self._shape, self._timeout_s = client, shape, timeout_s
        self._refusal = OpenSearchException

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
        since_at = at_millisecond(milliseconds(since))
        asked = _Asked(tenant)
        asked.equal(device_id=device_id)
        asked.between("measured_at", since, None)
        table = self._shape.tables[DEVICES]
        after = {"after": {"device_id": place[0]}} if place is not None else {}
        one_each = {"size": count + 1, "sources": [{"device_id": {"terms": {"field": "device_id"}}}], **after}
        answer = self._search(table, asked, size=0, aggs={"devices": {"composite": one_each}})
        buckets = answer.get("aggregations", {}).get("devices", {}).get("buckets", [])
        ids = [bucket["key"]["device_id"] for bucket in buckets]
        if not ids:
            return Page(rows=(), next_cursor=None)
        asked.one_of_own("device_id", ids[:count])
        hits = self._search(table, asked, size=QUERY_STATES_MAX, track_total_hits=True)["hits"]
        if hits["total"]["value"] > QUERY_STATES_MAX:
            raise QueryError(f"{len(ids)} devices have over {QUERY_STATES_MAX} states; ask for fewer devices")
        states: dict[str, list[StreamState]] = {name: [] for name in ids[:count]}
        for hit in hits["hits"]:
            states[hit["_source"]["device_id"]].append(self._state(hit["_source"], since_at))
        devices = tuple(
            Device(
                device_id=name,
                measured_at=max(state.measured_at for state in of_it),
                states=tuple(sorted(of_it, key=lambda state: (state.stream, state.part is not None, state.part or ""))),
            )
            for name, of_it in states.items()
            if of_it
        )
        return Page(rows=devices, next_cursor=to_cursor("fleet", [ids[count - 1]]) if len(ids) > count else None)

    def _state(self, document: Mapping[str, Any], since: datetime) -> StreamState:
        stream, values = document["stream"], {}
        types = self._types(DEVICES)
        for name in self._shape.states.get(stream, ()):
            full = f"{DEVICE_VALUE}{stream}.{name}"
            value, at = document.get(full), _time(document.get(f"{DEVICE_AT}{stream}.{name}"))
            if value is not None and at is not None and at >= since:
                values[name] = Value(value=_typed(value, types[full]), measured_at=at)
        return StreamState(
            stream=stream, part=document.get("part"), measured_at=_known(document["measured_at"]), values=values
        )

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
        table = self._shape.windows[checked_stream(stream, self._shape.windows)]
        place = from_cursor("windows", cursor, (int, str | None))
        part = self._shape.parts.get(stream)
        asked = _Asked(tenant)
        asked.equal(device_id=device_id)
        asked.add({"term": {"window_s": window_s}})
        asked.between("window_start", begin, end)
        sort = [_by("window_start", _ASCENDING, "date")]
        if part is not None:
            sort.append(_by(part, _ASCENDING, "keyword"))
        elif place is not None:
            place = place[:1]
        hits = self._page(table, asked, sort, place, count)
        names, types = self._shape.aggregates(stream), self._types(table.table)
        found = tuple(
            Window(
                window_start=_known(row["window_start"]),
                window_s=row["window_s"],
                part=None if part is None else row.get(part),
                revision=row["revision"],
                values={name: _typed(row.get(name), types[name]) for name in names},
            )
            for row in hits[:count]
        )
        more = len(hits) > count
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
        asked.without("flags", MERGED)
        sort = [_by("started_at", _DESCENDING, "date"), _by("session_id", _ASCENDING, "keyword")]
        place = from_cursor("sessions", cursor, (int, str))
        hits = self._page(self._shape.tables[SESSIONS], asked, sort, place, count) if self._has(SESSIONS) else []
        found = tuple(
            SessionRow(**{**self._columns(SESSIONS, SessionRow, row), "flags": tuple(row.get("flags") or ())})
            for row in hits[:count]
        )
        more = len(hits) > count
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
        sort = [_by("fired_at", _DESCENDING, "date"), _by("alert_id", _ASCENDING, "keyword")]
        place = from_cursor("alerts", cursor, (int, str))
        hits = self._page(self._shape.tables[ALERTS], asked, sort, place, count)
        found = tuple(AlertRow(**self._columns(ALERTS, AlertRow, row)) for row in hits[:count])
        more = len(hits) > count
        last = [milliseconds(found[-1].fired_at), found[-1].alert_id] if more else []
        return Page(rows=found, next_cursor=to_cursor("alerts", last) if more else None)

    def rejects(self, tenant: str, *, begin: datetime, end: datetime) -> tuple[RejectCount, ...]:
        """See `port.Queries`."""
        asked = _Asked(tenant)
        asked.between("received_at", begin, end)
        reasons = {
            "size": QUERY_REASONS_MAX + 1,
            "sources": [{name: {"terms": {"field": name}}} for name in ("stage", "code")],
        }
        # The newest row itself, because an aggregated time has lost its microseconds.
        newest = {"top_hits": {"size": 1, "_source": ["received_at"], "sort": [{"received_at": _DESCENDING}]}}
        answer = self._search(
            self._shape.tables[REJECTS],
            asked,
            size=0,
            aggs={"reasons": {"composite": reasons, "aggs": {"newest": newest}}},
        )
        buckets = answer.get("aggregations", {}).get("reasons", {}).get("buckets", [])
        if len(buckets) > QUERY_REASONS_MAX:
            raise QueryError(f"rejects of over {QUERY_REASONS_MAX} reasons; ask for a shorter time")
        counts = [
            RejectCount(
                stage=bucket["key"]["stage"],
                code=bucket["key"]["code"],
                rejects=bucket["doc_count"],
                newest_received_at=_known(bucket["newest"]["hits"]["hits"][0]["_source"]["received_at"]),
            )
            for bucket in buckets
        ]
        return tuple(sorted(counts, key=lambda one: (-one.rejects, one.stage, one.code)))

    def close(self) -> None:
        """See `port.Queries`."""
        self._client.close()

    def _has(self, table: str) -> bool:
        return table in self._shape.tables

    def _types(self, table: str) -> dict[str, str]:
        return {field.name: field.type for field in self._shape.tables[table].fields}

    def _columns(self, table: str, kind: type[SessionRow | AlertRow], row: Mapping[str, Any]) -> dict[str, Any]:
        types = self._types(table)
        return {name: _typed(row.get(name), types[name]) for name in kind.__struct_fields__}

    def _page(
        self,
        table: IndexedTable,
        asked: "_Asked",
        sort: Sequence[Mapping[str, Any]],
        place: Sequence[Any] | None,
        count: int,
    ) -> list[dict[str, Any]]:
        """Return the documents behind a place, one more than a page has if there is one."""
        after = {"search_after": list(place)} if place is not None else {}
        answer = self._search(table, asked, size=count + 1, sort=list(sort), **after)
        return [hit["_source"] for hit in answer["hits"]["hits"]]

    def _search(self, table: IndexedTable, asked: "_Asked", **body: Any) -> dict[str, Any]:
        """Ask one index or all its days; one that is not there yet has no documents.

        Raises: SinkError: The cluster is out of reach or refuses.
        """
        try:
            answer: dict[str, Any] = self._client.search(
                index=table.pattern,
                body={"query": asked.query, "track_total_hits": False} | body,
                params={"ignore_unavailable": "true", "allow_no_indices": "true", "timeout": f"{self._timeout_s:g}s"},
                request_timeout=self._timeout_s,
            )
        except self._refusal as exc:
            raise SinkError("opensearch", f"{table.pattern}: {peer_text(str(exc))}") from exc
        if answer.get("timed_out") or answer["_shards"]["failed"]:
            # Half of an answer looks like all of it.
            what = "no answer in time" if answer.get("timed_out") else f"{answer['_shards']['failed']} shards failed"
            raise SinkError("opensearch", f"{table.pattern}: {what}")
        return answer


class _Asked:
    """Conditions as filters of a search."""

    def __init__(self, tenant: str) -> None:
        self._filters: list[dict[str, Any]] = [{"term": {"tenant": checked_text("tenant", tenant)}}]
        self._without: list[dict[str, Any]] = []

    @property
    def query(self) -> dict[str, Any]:
        return {"bool": {"filter": self._filters, "must_not": self._without}}

    def add(self, condition: dict[str, Any]) -> None:
        self._filters.append(condition)

    def equal(self, **wanted: str | None) -> None:
        for name, text in wanted.items():
            if text is not None:
                self.add({"term": {name: checked_text(name, text)}})

    def one_of(self, **wanted: Sequence[str]) -> None:
        for name, texts in wanted.items():
            if texts:
                self.add({"terms": {name: checked_texts(name, texts)}})

    def one_of_own(self, name: str, texts: Sequence[str]) -> None:
        """Keep rows with one of these values, which are the index's own."""
        self.add({"terms": {name: list(texts)}})

    def without(self, name: str, text: str) -> None:
        self._without.append({"term": {name: text}})

    def between(self, field: str, begin: datetime | None, end: datetime | None) -> None:
        bounds: dict[str, Any] = {"format": "epoch_millis"}
        if begin is not None:
            bounds["gte"] = milliseconds(begin)
        if end is not None:
            bounds["lt"] = milliseconds(end)
        if len(bounds) > 1:
            self.add({"range": {field: bounds}})


def _by(field: str, order: str, kind: str) -> dict[str, Any]:
    """Return one level of an order; what has no value comes first, and an index without the field is no error."""
    return {field: {"order": order, "unmapped_type": kind, "missing": "_first"}}


def _typed(value: Any, kind: str) -> Any:
    """Return a value of a document as the lake has it."""
    if value is None:
        return None
    return _time(value) if kind == "date" else float(value) if kind == "double" else value


def _time(text: str | None) -> datetime | None:
    return None if text is None else _known(text)


def _known(text: str) -> datetime:
    return datetime.fromisoformat(text)

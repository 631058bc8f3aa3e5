"""What every implementation of the console's questions promises, checked on the lake and on a real OpenSearch."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dashboards.queries.lake import LakeQueries
from dashboards.queries.port import (
    AlertFilter,
    Page,
    Queries,
    RejectCount,
    SessionFilter,
    Value,
)
from dashboards.queries.shape import Shape, shape_of
from gateway.core.errors import QueryError
from gateway.core.limits import QUERY_DEVICES_MAX, QUERY_PAGE_ROWS_MAX
from processors.contracts.load import ContractSet, load_contracts
from processors.indexing.documents import to_bulks
from processors.indexing.plan import DEVICES, device_rows
from processors.indexing.templates import template
from processors.sinks.lake import Lake, LakeTable
from processors.stages.alerts import ALERTS
from processors.stages.chain import Chain
from processors.stages.device_state import DeviceState, update_devices
from processors.stages.sessions import SESSIONS
from tests.services import opensearch
from tests.services.require import require

AT = datetime(2026, 11, 22, 8, 0, 0, 123_456, tzinfo=UTC)
S = timedelta(seconds=1)
LONG_AGO = AT - timedelta(days=400)
BULK_BYTES = 5 * 1024 * 1024
STATES = ("vehicle_telemetry", "charger_status")
HOSTILE = (
    "' OR 1=1 --",
    '"; DROP TABLE alerts; --',
    "*",
    "b?s*",
    "bus-1 OR bus-2",
    "device_id:*",
    "/.*/",
    "[a TO z]",
    "\\",
    "$tenant",
    "bus-1\x00",
    "{{7*7}}",
    "%",
    "",
)
"""Text that means something in SQL, in Lucene's syntax, in a pattern or in a template."""


# ---- data ------------------------------------------------------------------------------------------------------------


def tables(chain: Chain) -> dict[str, pl.DataFrame]:
    """Return a small fleet's rows of every table that is asked: two tenants, parts, revisions, equal times."""
    offset = iter(range(1_000_000))

    def rows(table: str, *given: dict[str, Any]) -> pl.DataFrame:
        schema = dict(chain.schemas[table])
        usual = {"tenant": "default", "received_at": AT, "record": 0}
        filled = [usual | {"offset": next(offset)} | one for one in given]
        columns = {name: [one.get(name) for one in filled] for name in schema}
        return pl.DataFrame(columns, schema=pl.Schema(schema), strict=False)

    def session(name: str, at: datetime, **more: Any) -> dict[str, Any]:
        usual = {"session_id": name, "charger_id": "CP-1", "started_at": at, "status": "ended", "revision": 1}
        return usual | {"ended_at": at + 60 * S, "energy_wh": 12_000.5} | more

    def alert(name: str, fired: datetime, **more: Any) -> dict[str, Any]:
        usual = {"device_id": "bus-1", "stream": "vehicle_telemetry", "rule": "soc_low", "severity": "warning"}
        times = {"at": fired, "since": fired - 30 * S, "fired_at": fired}
        words = {"state": "firing", "title": "The battery is nearly empty", "unit": "%", "revision": 1, "value": 9.5}
        return {"alert_id": name, **usual, **times, **words, "limit": 10.0, "site": "depot-1"} | more

    def window(device: str, minute: int, **more: Any) -> dict[str, Any]:
        start = AT.replace(microsecond=0) + minute * 60 * S
        return {"device_id": device, "window_start": start, "window_s": 60, "revision": 0} | more

    return {
        "vehicle_telemetry": rows(
            "vehicle_telemetry",
            {"device_id": "bus-1", "measured_at": AT, "soc_pct": 50.0, "speed_kmh": 30.0, "seq": 2**53 - 1},
            {"device_id": "bus-1", "measured_at": AT + S, "soc_pct": 49.5, "charging": False},
            {"device_id": "bus-1", "measured_at": AT - 5 * S, "soc_pct": 51.0, "cabin_temp_c": 21.0},
            {"device_id": "bus-10", "measured_at": AT, "soc_pct": 10.0},
            {"device_id": "bus-2", "measured_at": AT, "soc_pct": 20.0},
            {"device_id": "bus-old", "measured_at": LONG_AGO, "received_at": LONG_AGO, "soc_pct": 70.0},
            {"device_id": "bus-1", "tenant": "other", "measured_at": AT, "soc_pct": 99.0},
            {"device_id": "bus-ä", "measured_at": AT, "power_kw": -3.25},
        ),
        "charger_status": rows(
            "charger_status",
            {"device_id": "CP-1", "measured_at": AT, "connector": "2", "kind": "status", "status": "Available"},
            {"device_id": "CP-1", "measured_at": AT, "connector": "1", "kind": "status", "status": "Charging"},
            {"device_id": "CP-1", "measured_at": AT + S, "connector": "1", "kind": "status", "status": "Finishing"},
            {"device_id": "CP-1", "measured_at": AT, "connector": None, "kind": "boot", "vendor": "A 'maker'"},
        ),
        "windows_vehicle_telemetry": rows(
            "windows_vehicle_telemetry",
            *(window("bus-1", minute, soc_pct_last=50.0 - minute, soc_pct_min=None) for minute in range(7)),
            window("bus-1", 3, revision=1, soc_pct_last=40.25),
            window("bus-1", 0, window_s=300, soc_pct_last=1.0),
            window("bus-2", 0, soc_pct_last=2.0),
            window("bus-1", 0, tenant="other", soc_pct_last=3.0),
        ),
        "windows_charger_meter": rows(
            "windows_charger_meter",
            *(window("CP-1", minute, connector=part) for minute in range(2) for part in ("2", "10", "1", None)),
        ),
        SESSIONS: rows(
            SESSIONS,
            session("s-1", AT),
            session("s-2", AT + timedelta(microseconds=100), vehicle_id="bus-1", flags="late_stop,seq_gap"),
            session("s-0", AT + timedelta(microseconds=200), charger_id="CP-2"),
            session("s-3", AT + S, status="active", ended_at=None, energy_wh=None),
            session("s-4", AT + 2 * S, status="active"),
            session("s-4", AT + 3 * S, status="ended", revision=2),
            session("s-5", AT + 4 * S),
            session("s-5", AT + 4 * S, revision=2, flags="late_stop,merged"),
            session("s-6", AT + 5 * S, tenant="other"),
        ),
        ALERTS: rows(
            ALERTS,
            *(alert(f"a-{n}", AT + (n // 3) * S) for n in range(8)),
            alert("a-0", AT, revision=2, state="resolved", resolved_at=AT + 9 * S, resolved_by="condition"),
            alert("b", AT - S, severity="critical", device_id="CP-1", site=None, part="1", value=None, limit=None),
            alert("c", AT - 2 * S, state="acknowledged", acknowledged_at=AT, by="anna", site="depot-2"),
            alert("z", AT, tenant="other"),
        ),
        "rejects": rows(
            "rejects",
            *({"device_id": "bus-1", "channel": "telemetry", "stage": "decode", "code": "range"} for _ in range(3)),
            {"device_id": "bus-1", "stage": "decode", "code": "type", "received_at": AT + S},
            {"device_id": "bus-1", "stage": "route", "code": "type", "received_at": AT + 2 * S, "payload": b"\xff"},
            {"device_id": "bus-1", "stage": "decode", "code": "range", "tenant": "other"},
        ),
    }


def device_documents(contracts: ContractSet, rows: dict[str, pl.DataFrame]) -> list[pl.DataFrame]:
    """Return the rows of DEVICES that the processors would hand over."""
    found = []
    for contract in contracts:
        if contract.stream in STATES:
            state = update_devices(DeviceState.empty(), rows[contract.stream], contract.part)
            assert state.frame is not None
            found.append(device_rows(contract, state.frame))
    return found


def fill_lake(directory: Path, chain: Chain, rows: dict[str, pl.DataFrame]) -> None:
    """Write the rows as the processors do."""
    lake = Lake(directory, [LakeTable(name=name, schema=dict(chain.schemas[name])) for name in rows], threads=1)
    for name, frame in rows.items():
        lake.write({name: frame}, end_offset=int(frame["offset"].max()) + 1)  # type: ignore[arg-type]
    lake.close()


def fill_node(node: opensearch.Node, contracts: ContractSet, shape: Shape, rows: dict[str, pl.DataFrame]) -> None:
    """Index the rows as the processors do, all revisions."""
    for table in shape.tables.values():
        put = node.request("PUT", f"/_index_template/{table.index}", template(table, shards=1, replicas=0))
        assert put == {"acknowledged": True}
    batches = [(shape.tables[name], frame) for name, frame in rows.items() if name in shape.tables]
    batches += [(shape.tables[DEVICES], frame) for frame in device_documents(contracts, rows)]
    for table, frame in batches:
        for bulk in to_bulks(table, frame.sort("offset"), bytes_max=BULK_BYTES):
            answer = node.request("POST", "/_bulk", bulk.body)
            assert answer["errors"] is False, answer
    node.request("POST", "/_refresh")


# ---- implementations -------------------------------------------------------------------------------------------------

KINDS = [
    "lake",
    pytest.param("opensearch", marks=[pytest.mark.integration, pytest.mark.xdist_group("opensearch")]),
]


@pytest.fixture(scope="module")
def contracts() -> ContractSet:
    """The streams that Voltgate brings along."""
    return load_contracts([])


@pytest.fixture(scope="module", params=KINDS)
def both(
    request: pytest.FixtureRequest, contracts: ContractSet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Queries, Queries]]:
    """Each implementation over the fleet, and over nothing."""
    chain, shape = Chain(contracts), shape_of(contracts)
    rows = tables(chain)
    if request.param == "lake":
        directory = tmp_path_factory.mktemp("lake")
        fill_lake(directory, chain, rows)
        yield LakeQueries(lake=directory, shape=shape), LakeQueries(lake=directory / "nothing", shape=shape)
        return
    from dashboards.queries.opensearch import OpenSearchQueries, connect

    require(opensearch.why_not(), opensearch.available())
    with opensearch.Node() as node:
        fill_node(node, contracts, shape, rows)
        filled = OpenSearchQueries(client=connect(urls=[node.url]), shape=shape)
        nothing = OpenSearchQueries(client=connect(urls=[node.url]), shape=shape_of(contracts, prefix="nothing"))
        yield filled, nothing
        filled.close()
        nothing.close()


@pytest.fixture
def queries(both: tuple[Queries, Queries]) -> Queries:
    """The implementation over the fleet."""
    return both[0]


@pytest.fixture
def empty(both: tuple[Queries, Queries]) -> Queries:
    """The implementation before anything was stored."""
    return both[1]


# ---- fleet -----------------------------------------------------------------------------------------------------------


def test_fleet_shows_each_devices_newest_values_by_name(queries: Queries) -> None:
    """Names sort by code point, other tenants' and long silent devices are not there."""
    page = queries.fleet("default", since=AT - 60 * S)
    assert ["CP-1", "bus-1", "bus-10", "bus-2", "bus-ä"] == [device.device_id for device in page.rows]
    assert page.next_cursor is None


def test_fields_newest_value_keeps_its_own_time(queries: Queries) -> None:
    """A field that only an older reading has shows that reading's time, to the microsecond."""
    (bus,) = queries.fleet("default", since=AT - 60 * S, device_id="bus-1").rows
    (state,) = bus.states
    expected = {
        "speed_kmh": Value(value=30.0, measured_at=AT),
        "soc_pct": Value(value=49.5, measured_at=AT + S),
        "cabin_temp_c": Value(value=21.0, measured_at=AT - 5 * S),
        "seq": Value(value=2**53 - 1, measured_at=AT),
        "charging": Value(value=False, measured_at=AT + S),
    }
    assert expected == state.values
    assert ("vehicle_telemetry", None, AT + S, AT + S) == (
        state.stream,
        state.part,
        state.measured_at,
        bus.measured_at,
    )


def test_values_measured_before_since_are_not_looked_for(queries: Queries) -> None:
    """What is older is left out, value by value."""
    (bus,) = queries.fleet("default", since=AT + S, device_id="bus-1").rows
    assert ["charging", "soc_pct"] == sorted(bus.states[0].values)


def test_parts_are_told_apart_and_come_in_order(queries: Queries) -> None:
    """A charger has one state per connector, the one without first."""
    (charger,) = queries.fleet("default", since=AT - 60 * S, device_id="CP-1").rows
    shown = [(state.part, state.values["kind"].value, state.values.get("status")) for state in charger.states]
    finishing, available = Value(value="Finishing", measured_at=AT + S), Value(value="Available", measured_at=AT)
    assert [(None, "boot", None), ("1", "status", finishing), ("2", "status", available)] == shown


@pytest.mark.parametrize("rows_max", [1, 2, 3, 5, QUERY_DEVICES_MAX])
def test_fleet_pages_have_no_gaps_and_no_repeats(queries: Queries, rows_max: int) -> None:
    """All pages together are the one large page."""
    ids, cursor, pages = [], None, 0
    while True:
        page = queries.fleet("default", since=AT - 60 * S, rows_max=rows_max, cursor=cursor)
        ids += [device.device_id for device in page.rows]
        cursor, pages = page.next_cursor, pages + 1
        if cursor is None:
            break
    assert (["CP-1", "bus-1", "bus-10", "bus-2", "bus-ä"], -(-5 // rows_max)) == (ids, pages)


# ---- windows ---------------------------------------------------------------------------------------------------------


def test_windows_are_the_newest_revisions_by_start(queries: Queries) -> None:
    """Other sizes, devices and tenants are not there; the end is exclusive."""
    start = AT.replace(microsecond=0)
    page = queries.windows(
        "default", "bus-1", "vehicle_telemetry", window_s=60, begin=start + 60 * S, end=start + 300 * S
    )
    shown = [
        ((one.window_start - start) // (60 * S), one.window_s, one.revision, one.values["soc_pct_last"])
        for one in page.rows
    ]
    assert [(1, 60, 0, 49.0), (2, 60, 0, 48.0), (3, 60, 1, 40.25), (4, 60, 0, 46.0)] == shown
    assert page.rows[0].values["soc_pct_min"] is None
    assert (None, None) == (page.rows[0].part, page.next_cursor)


@pytest.mark.parametrize("rows_max", [1, 3, 8])
def test_windows_of_parts_are_paged_without_gaps(queries: Queries, rows_max: int) -> None:
    """Windows of one start are told apart by their part, the one without first, text by code point."""
    shown: list[tuple[int, str | None]] = []
    page, cursor = None, None
    while page is None or cursor is not None:
        times = {"window_s": 60, "begin": AT - S, "end": AT + 600 * S}
        page = queries.windows("default", "CP-1", "charger_meter", **times, rows_max=rows_max, cursor=cursor)  # type: ignore[arg-type]
        shown += [((one.window_start - AT.replace(microsecond=0)) // (60 * S), one.part) for one in page.rows]
        cursor = page.next_cursor
    assert [(minute, part) for minute in (0, 1) for part in (None, "1", "10", "2")] == shown


# ---- sessions and alerts ---------------------------------------------------------------------------------------------


def session_ids(queries: Queries, wanted: SessionFilter | None = None) -> list[str]:
    """Return the sessions a filter finds, in order."""
    return [row.session_id for row in queries.sessions("default", wanted or SessionFilter()).rows]


def alert_ids(queries: Queries, wanted: AlertFilter | None = None) -> list[str]:
    """Return the alerts a filter finds, in order."""
    return [row.alert_id for row in queries.alerts("default", wanted or AlertFilter()).rows]


def test_sessions_come_newest_first_in_their_newest_revision(queries: Queries) -> None:
    """Starts within one millisecond are ordered by id; merged and foreign sessions are not there."""
    rows = queries.sessions("default").rows
    assert ["s-4", "s-3", "s-0", "s-1", "s-2"] == [row.session_id for row in rows]
    assert ("ended", 2, AT + 3 * S) == (rows[0].status, rows[0].revision, rows[0].started_at)
    assert (None, None, ()) == (rows[1].ended_at, rows[1].energy_wh, rows[1].flags)
    assert ("bus-1", ("late_stop", "seq_gap"), 12_000.5) == (rows[4].vehicle_id, rows[4].flags, rows[4].energy_wh)
    assert AT + timedelta(microseconds=100) == rows[4].started_at


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param(SessionFilter(charger_id="CP-2"), ["s-0"], id="charger"),
        pytest.param(SessionFilter(vehicle_id="bus-1"), ["s-2"], id="vehicle"),
        pytest.param(SessionFilter(status="active"), ["s-3"], id="status-of-the-newest-revision"),
        pytest.param(SessionFilter(begin=AT + S), ["s-4", "s-3"], id="begin"),
        pytest.param(SessionFilter(end=AT + S), ["s-0", "s-1", "s-2"], id="end-is-exclusive"),
        pytest.param(
            SessionFilter(begin=AT + timedelta(microseconds=300)), ["s-4", "s-3", "s-0", "s-1", "s-2"], id="ms"
        ),
        pytest.param(SessionFilter(charger_id="CP-2", status="active"), [], id="both"),
        pytest.param(SessionFilter(charger_id="CP-9"), [], id="nothing"),
        pytest.param(SessionFilter(charger_id="cp-1"), [], id="case"),
    ],
)
def test_session_filters(queries: Queries, wanted: SessionFilter, expected: list[str]) -> None:
    """Each filter narrows; times count in whole milliseconds."""
    assert expected == session_ids(queries, wanted)


def test_alerts_come_newest_first_in_their_newest_revision(queries: Queries) -> None:
    """Alerts that fired within one millisecond are ordered by id."""
    rows = queries.alerts("default").rows
    assert ["a-6", "a-7", "a-3", "a-4", "a-5", "a-0", "a-1", "a-2", "b", "c"] == [row.alert_id for row in rows]
    resolved, critical = rows[5], rows[8]
    assert ("resolved", 2, AT + 9 * S) == (resolved.state, resolved.revision, resolved.resolved_at)
    assert ("critical", "1", None, None) == (critical.severity, critical.part, critical.value, critical.site)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param(AlertFilter(states=("acknowledged",)), ["c"], id="state"),
        pytest.param(AlertFilter(states=("acknowledged", "resolved")), ["a-0", "c"], id="states"),
        pytest.param(AlertFilter(severities=("critical",)), ["b"], id="severity"),
        pytest.param(AlertFilter(device_id="CP-1"), ["b"], id="device"),
        pytest.param(AlertFilter(site="depot-2"), ["c"], id="site"),
        pytest.param(AlertFilter(begin=AT + 2 * S), ["a-6", "a-7"], id="begin"),
        pytest.param(AlertFilter(end=AT - S), ["c"], id="end"),
        pytest.param(AlertFilter(site="depot"), [], id="part-of-a-word"),
    ],
)
def test_alert_filters(queries: Queries, wanted: AlertFilter, expected: list[str]) -> None:
    """Each filter narrows, and words are whole."""
    assert expected == alert_ids(queries, wanted)


@pytest.mark.parametrize("rows_max", [1, 2, 3, 10])
def test_pages_have_no_gaps_and_no_repeats(queries: Queries, rows_max: int) -> None:
    """All pages together are the one large page, filtered or not; no page but the last is short."""
    for wanted, count in ((AlertFilter(), 10), (AlertFilter(states=("firing",)), 8)):
        found, pages = list[str](), list[int]()
        cursor = None
        while not pages or cursor is not None:
            page = queries.alerts("default", wanted, rows_max=rows_max, cursor=cursor)
            found, pages, cursor = (
                [*found, *(row.alert_id for row in page.rows)],
                [*pages, len(page.rows)],
                page.next_cursor,
            )
        assert alert_ids(queries, wanted) == found
        assert (count, {rows_max}) == (sum(pages), {rows_max, *pages[:-1]})


# ---- rejects ---------------------------------------------------------------------------------------------------------


def test_rejects_are_counted_by_stage_and_code(queries: Queries) -> None:
    """The most frequent first, then by name."""
    expected = (
        RejectCount(stage="decode", code="range", rejects=3, newest_received_at=AT),
        RejectCount(stage="decode", code="type", rejects=1, newest_received_at=AT + S),
        RejectCount(stage="route", code="type", rejects=1, newest_received_at=AT + 2 * S),
    )
    assert expected == queries.rejects("default", begin=AT, end=AT + 60 * S)
    assert expected[1:2] == queries.rejects("default", begin=AT + S, end=AT + 2 * S)


# ---- nothing, hostile, wrong -----------------------------------------------------------------------------------------


def test_nothing_stored_is_an_empty_answer(empty: Queries) -> None:
    """No table and no index yet is no error."""
    nothing: Page[Any] = Page(rows=(), next_cursor=None)
    window = {"window_s": 60, "begin": AT, "end": AT + S}
    assert nothing == empty.fleet("default", since=AT)
    assert nothing == empty.windows("default", "bus-1", "vehicle_telemetry", **window)  # type: ignore[arg-type]
    assert nothing == empty.sessions("default")
    assert nothing == empty.alerts("default")
    assert () == empty.rejects("default", begin=AT, end=AT + S)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_only_text(queries: Queries, text: str) -> None:
    """It is equal to no stored value, so every filter and every tenant of that name finds nothing."""
    window = {"window_s": 60, "begin": AT - 60 * S, "end": AT + 600 * S}
    assert () == queries.fleet(text, since=LONG_AGO).rows
    assert () == queries.fleet("default", since=LONG_AGO, device_id=text).rows
    assert () == queries.windows("default", text, "vehicle_telemetry", **window).rows  # type: ignore[arg-type]
    for name in ("charger_id", "vehicle_id", "status"):
        assert [] == session_ids(queries, SessionFilter(**{name: text}))  # type: ignore[arg-type]
    for wanted in (AlertFilter(device_id=text), AlertFilter(site=text), AlertFilter(states=(text, text))):
        assert [] == alert_ids(queries, wanted)
    assert () == queries.rejects(text, begin=LONG_AGO, end=AT + 60 * S)


@pytest.mark.parametrize("cursor", ["", "!", "bm9uZQ", "e30", "W10", "WyJzZXNzaW9ucyIsMSwicyJd", "ä", "A" * 10_000])
def test_foreign_cursor_is_refused(queries: Queries, cursor: str) -> None:
    """What is no cursor, or one of another question, is named; it never begins anew."""
    with pytest.raises(QueryError, match="no cursor of alerts"):
        queries.alerts("default", cursor=cursor)


def test_questions_out_of_bounds_are_refused(queries: Queries) -> None:
    """Limits on rows and text, unknown streams and times without a zone say what to ask instead."""
    for rows_max in (0, -1, QUERY_PAGE_ROWS_MAX + 1):
        with pytest.raises(QueryError, match="rows asked for; ask for 1 to 1000"):
            queries.sessions("default", rows_max=rows_max)
    with pytest.raises(QueryError, match="no stream 'nothing' with windows; there are "):
        queries.windows("default", "bus-1", "nothing", window_s=60, begin=AT, end=AT)
    with pytest.raises(QueryError, match="has no zone"):
        queries.alerts("default", AlertFilter(begin=AT.replace(tzinfo=None)))
    with pytest.raises(QueryError, match="limit is 1024"):
        queries.alerts("default", AlertFilter(site="x" * 1025))
    with pytest.raises(QueryError, match="no Unicode"):
        queries.alerts("default", AlertFilter(site="\udcff"))

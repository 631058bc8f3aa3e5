"""KPI tables over real Delta tables: idempotent, mended by late rows, readable by SQL and by the commands."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import deltalake
import polars as pl
import pytest
from typer.testing import CliRunner

from dashboards.queries import history
from processors.contracts.load import BUILT_IN, load_contract
from processors.contracts.model import BASE_COLUMNS
from processors.jobs.kpi_due import KpiState, due_days
from processors.jobs.kpis import KPI_TABLES, run_kpis
from processors.sinks.lake import Lake, LakeTable
from processors.stages.alert_rows import ALERTS_SCHEMA
from processors.stages.session_rows import SESSIONS_SCHEMA
from voltgate.cli_kpis import kpi

pytestmark = pytest.mark.integration

D1 = datetime(2026, 3, 1, tzinfo=UTC)
NOW = datetime(2026, 3, 3, 6, tzinfo=UTC)
DAYS = [date(2026, 3, 1), date(2026, 3, 2)]
STREAMS = ("vehicle_telemetry", "battery_pack", "charger_status", "alert_order", "asset")
SCHEMAS: dict[str, dict[str, pl.DataType]] = {
    **{
        name: BASE_COLUMNS | {field.name: field.dtype for field in load_contract(BUILT_IN / f"{name}.yaml").fields}
        for name in STREAMS
    },
    "charging_session_revisions": SESSIONS_SCHEMA,
    "alert_revisions": ALERTS_SCHEMA,
    "scooter": BASE_COLUMNS | {"speed_kmh": pl.Float64()},
}


class Writer:
    """A lake as the processors write it, with offsets that rise."""

    def __init__(self, path: Path, *tables: str) -> None:
        self.path = path
        self.lake = Lake(path, [LakeTable(name=name, schema=SCHEMAS[name]) for name in tables or SCHEMAS])
        self.offset = 0

    def write(self, table: str, *rows: Mapping[str, Any]) -> None:
        """Append rows; what they do not name is null."""
        full = []
        for row in rows:
            usual = {"tenant": "t", "offset": self.offset, "record": 0, "received_at": row.get("measured_at", D1)}
            full.append({name: value for name, value in (usual | dict(row)).items() if name in SCHEMAS[table]})
            self.offset += 1
        self.lake.write({table: pl.DataFrame(full, schema=SCHEMAS[table])}, end_offset=self.offset)


def drive(writer: Writer, start: datetime, *, minutes: int = 10, table: str = "vehicle_telemetry") -> None:
    """Write a drive at 60 km/h and 30 kW, one reading in 10 s."""
    at = [start + timedelta(seconds=10 * i) for i in range(minutes * 6 + 1)]
    values = {"device_id": "ev-1", "speed_kmh": 60.0, "power_kw": -30.0, "soc_pct": 70.0}
    writer.write(table, *(values | {"measured_at": moment} for moment in at))


def session(number: int, start: datetime, **values: Any) -> dict[str, Any]:
    """Return an hour of charging 50 of 60 kWh into the vehicle."""
    usual = {"session_id": f"s{number}", "revision": 1, "charger_id": "cp", "connector": "1", "status": "completed",
             "started_at": start, "ended_at": start + timedelta(hours=1), "energy_wh": 52_000.0, "stop_reason": "Local",
             "vehicle_id": "ev-1", "vehicle_energy_wh": 50_000.0, "vehicle_soc_start_pct": 10.0,
             "vehicle_soc_end_pct": 60.0, "received_at": start + timedelta(hours=1)}  # fmt: skip
    return usual | values


@pytest.fixture
def filled(tmp_path: Path) -> Writer:
    """A lake with two days of one vehicle and one charger at a depot."""
    writer = Writer(tmp_path / "lake")
    writer.write("asset", {"device_id": "cp", "measured_at": D1, "kind": "charger", "site": "old"})
    for device in ("cp", "ev-1"):
        writer.write("asset", {"device_id": device, "measured_at": D1, "kind": "charger", "site": "depot"})
    drive(writer, D1 + timedelta(hours=9))
    drive(writer, D1 + timedelta(hours=23, minutes=55))
    writer.write("battery_pack", {"device_id": "ev-1", "measured_at": D1 + timedelta(hours=9), "soh_pct": 96.5})
    said: dict[str, Any] = {"device_id": "cp", "kind": "status", "connector": "1"}
    writer.write("charger_status", said | {"measured_at": D1, "status": "Available"})
    writer.write("charger_status", said | {"measured_at": D1 + timedelta(hours=20), "status": "Faulted"})
    writer.write("charger_status", said | {"measured_at": D1 + timedelta(hours=30), "status": "Available"})
    writer.write("charging_session_revisions", session(1, D1 + timedelta(hours=10)))
    fired = {"alert_id": "a", "device_id": "ev-1", "stream": "battery_pack", "rule": "hot", "severity": "critical",
             "fired_at": D1 + timedelta(hours=9)}  # fmt: skip
    writer.write("alert_revisions", fired | {"revision": 1}, fired | {"revision": 2})
    return writer


def contents(lake: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of all KPI tables, in a fixed order."""
    return {
        name: pl.read_delta(str(lake / name)).sort(pl.all()).to_dicts()
        for name in KPI_TABLES
        if (lake / name / "_delta_log").is_dir()
    }


def one(lake: Path, sql: str) -> tuple[Any, ...]:
    """Return the only row of an answer."""
    (row,) = history.query(lake, sql).rows
    return row


def test_tables_say_what_happened(filled: Writer) -> None:
    """Trips, a vehicle's day, a port's uptime, its site and the fleet, asked with SQL."""
    lake = filled.path
    assert {"trips": 2, "kpi_vehicle_day": 2, "kpi_charger_day": 2, "kpi_site_day": 2, "kpi_fleet_day": 2,
            "battery_health": 1} == run_kpis(lake, days=DAYS, now=NOW)  # fmt: skip
    vehicle = "trips, round(distance_km, 6), round(kwh_per_100km, 6), charged_kwh, soh_last_pct, alerts_critical, site"
    assert (2, 20.0, 50.0, 52.0, 96.5, 1, "depot") == one(
        lake, f"select {vehicle} from kpi_vehicle_day where trips > 0"
    )
    port = "select sessions, success_rate, outage_s, round(uptime, 6) from kpi_charger_day where day = '2026-03-01'"
    assert (1, 1.0, 4 * 3600, round(20 / 24, 6)) == one(lake, port)
    fleet = "select ports, vehicles, sessions, outage_s, trips from kpi_fleet_day where received_date = '2026-03-02'"
    assert (1, 1, 0, 6 * 3600, 0) == one(lake, fleet)
    assert ("depot", 52.0, 20.0) == one(
        lake, "select site, energy_kwh, round(distance_km, 6) from kpi_site_day order by day limit 1"
    )
    assert (100.0, 96.5) == one(lake, "select capacity_kwh, soh_reported_pct from battery_health")


def test_running_again_changes_nothing(filled: Writer) -> None:
    """The same rows, whatever is run: all days again, one of them, or none."""
    run_kpis(filled.path, days=DAYS, now=NOW)
    before = contents(filled.path)
    for days in (DAYS, DAYS[:1], DAYS[1:], []):
        run_kpis(filled.path, days=days, now=NOW)
        assert before == contents(filled.path)


def test_late_row_changes_only_its_day(filled: Writer) -> None:
    """A drive of the first day that comes days later makes that day due, and the others stay as they are."""
    days, state = due_days(filled.path, KpiState(), now=NOW)
    run_kpis(filled.path, days=days, now=NOW)
    before = contents(filled.path)
    late = {"device_id": "ev-1", "received_at": NOW + timedelta(days=3)}
    moments = [D1 + timedelta(hours=13, seconds=10 * i) for i in range(7)]
    filled.write("vehicle_telemetry", *(late | {"measured_at": at, "speed_kmh": 60.0} for at in moments))
    due, _ = due_days(filled.path, state, now=NOW)
    run_kpis(filled.path, days=due, now=NOW)
    after = contents(filled.path)
    assert DAYS[0] in due
    for name in KPI_TABLES:
        assert [row for row in before[name] if row["day"] != DAYS[0]] == [
            row for row in after[name] if row["day"] != DAYS[0]
        ]
    assert (2, 3) == (len(before["trips"]), len(after["trips"]))


def test_days_are_due_that_new_rows_are_about(filled: Writer) -> None:
    """All days with rows at first, and the day before a morning's drive, as a trip may have begun there; then today
    only, then the days of a session that ended."""
    first, state = due_days(filled.path, KpiState(), now=NOW)
    assert [DAYS[0] - timedelta(days=1), *DAYS, NOW.date()] == first
    assert [NOW.date()] == due_days(filled.path, state, now=NOW)[0]
    again = KpiState.from_bytes(state.to_bytes())
    assert state == again
    filled.write("charging_session_revisions", session(2, D1 + timedelta(hours=23, minutes=30)))
    assert [*DAYS, NOW.date()] == due_days(filled.path, again, now=NOW)[0]
    assert [NOW.date(), date(2026, 3, 4)] == due_days(filled.path, state, now=NOW + timedelta(days=1))[0][-2:]


def test_trip_across_midnight_is_one(filled: Writer) -> None:
    """It belongs to the day it began, whichever of the two is computed."""
    run_kpis(filled.path, days=DAYS[1:], now=NOW)
    assert not (filled.path / "trips").exists()
    run_kpis(filled.path, days=DAYS[:1], now=NOW)
    trips = "select duration_s, started_at from trips order by started_at desc limit 1"
    assert (600.0, D1 + timedelta(hours=23, minutes=55)) == one(filled.path, trips)


def test_rows_that_are_gone_leave_the_kpis(filled: Writer) -> None:
    """A day whose readings were deleted has no trips after the next run."""
    run_kpis(filled.path, days=DAYS, now=NOW)
    deltalake.DeltaTable(str(filled.path / "vehicle_telemetry")).delete()
    run_kpis(filled.path, days=DAYS, now=NOW)
    assert [] == contents(filled.path)["trips"]


def test_lake_without_tables_or_columns_is_fine(tmp_path: Path) -> None:
    """A stream of a user's own with nothing but speed gives trips; no lake at all gives nothing."""
    assert dict.fromkeys(KPI_TABLES, 0) == run_kpis(tmp_path / "none", days=DAYS, now=NOW)
    assert [] == due_days(tmp_path / "none", KpiState(), now=NOW)[0]
    writer = Writer(tmp_path / "lake", "scooter")
    drive(writer, D1 + timedelta(hours=9), table="scooter")
    streams = ["scooter", "unknown"]
    due, _ = due_days(writer.path, KpiState(), now=NOW, streams=streams)
    written = run_kpis(writer.path, days=due, now=NOW, streams=streams)
    assert (1, 1, 0) == (written["trips"], written["kpi_vehicle_day"], written["kpi_charger_day"])
    assert ("scooter", "no_power") == one(writer.path, "select stream, flags from trips")


def test_commands_compute_and_show(filled: Writer) -> None:
    """Days that are named are computed, and each table is shown."""
    data = ["--data", str(filled.path.parent)]

    def call(*arguments: str) -> list[dict[str, Any]]:
        result = CliRunner().invoke(kpi, [*arguments, *data, "--json"])
        assert 0 == result.exit_code, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]

    assert [2, 0] == [call("run", "--day", day.isoformat())[0]["rows"]["trips"] for day in DAYS]
    rates = [row["success_rate"] for day in DAYS for row in call("show", "chargers", "--day", day.isoformat())]
    assert [1.0, None] == rates
    assert [52.0] == [row["charged_kwh"] for row in call("show", "vehicles", "--day", "2026-03-01")]
    assert [0] == [row["trips"] for row in call("show", "vehicles")]
    assert 2 == len(call("show", "trips"))
    assert [100.0] == [row["capacity_kwh"] for row in call("show", "health")]
    assert ["depot"] == [row["site"] for row in call("show", "sites", "--day", "2026-03-01")]
    assert [1] == [row["ports"] for row in call("show", "fleet", "--day", "2026-03-01")]
    for what in ("vehicles", "chargers", "sites", "fleet", "trips", "health"):
        table = CliRunner().invoke(kpi, ["show", what, *data])
        assert 0 == table.exit_code and 2 <= len(table.stdout.splitlines())


def test_command_without_days_computes_what_is_new(tmp_path: Path) -> None:
    """The first run finds all days with readings, the second none of them again."""
    drive(Writer(tmp_path / "lake", "vehicle_telemetry"), D1 + timedelta(hours=13))
    runs = []
    for _ in range(2):
        result = CliRunner().invoke(kpi, ["run", "--data", str(tmp_path), "--json"])
        assert 0 == result.exit_code, result.output
        runs.append(json.loads(result.stdout))
    assert (["2026-03-01", "2026-03-02"], 1) == (runs[0]["days"], runs[0]["rows"]["trips"])
    assert "2026-03-01" not in runs[1]["days"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--day", "yesterday"], "'yesterday' is no day"),
        (["run", "--day", "2026-03-01", "--since", "2026-03-01"], "say one of them"),
        (["show", "planes"], "vehicles, chargers"),
        (["show", "trips"], "voltgate kpi run"),
    ],
    ids=["day", "both", "what", "empty"],
)
def test_commands_say_what_is_wrong(tmp_path: Path, arguments: list[str], said: str) -> None:
    """A wrong day, two spans, an unknown table, and nothing computed yet."""
    result = CliRunner().invoke(kpi, [*arguments, "--data", str(tmp_path)])
    assert said in result.output

"""The doctor's conclusions: facts in, a level and a mend out."""

from collections.abc import Callable

import pytest

from voltgate.doctor_checks import (
    GIB,
    MIB,
    CertificateFacts,
    ClockFacts,
    DataFacts,
    DiskFacts,
    Finding,
    LimitFacts,
    MemoryFacts,
    PortFacts,
    check_certificates,
    check_clock,
    check_configuration,
    check_data,
    check_files,
    check_memory,
    check_ports,
    check_space,
    check_sync,
)
from voltgate.doctor_checks_stores import (
    JournalFacts,
    LagFacts,
    LakeFacts,
    NoticeFacts,
    OpenSearchFacts,
    ProgramFacts,
    check_journal,
    check_lag,
    check_lake,
    check_notices,
    check_opensearch,
    check_programs,
)

NOW_NS = 1_795_000_000_000_000_000
DAY_S = 86_400.0


def disk(**more: object) -> DiskFacts:
    """Return a roomy, fast disk but for what is given."""
    usual = {"free_bytes": 50 * GIB, "total_bytes": 100 * GIB, "journal_bytes": GIB, "journal_bytes_max": 16 * GIB}
    return DiskFacts(**{"path": "/data", "sync_p99_s": 0.002, "syncs": 200, **usual, **more})  # type: ignore[arg-type]


def certificate(left_s: float, **more: object) -> CertificateFacts:
    """Return a certificate that is valid for so long."""
    now_s = NOW_NS / 1e9
    usual = {"setting": "gateway.ocpp.certificates", "file": "cp.pem", "not_before_s": now_s - DAY_S}
    return CertificateFacts(**{**usual, "not_after_s": now_s + left_s, **more})  # type: ignore[arg-type]


def port(**more: object) -> PortFacts:
    """Return the MQTT port."""
    return PortFacts(setting="gateway.mqtt.port", host="127.0.0.1", port=1883, **more)  # type: ignore[arg-type]


def cluster(**more: object) -> OpenSearchFacts:
    """Return a cluster that answers."""
    return OpenSearchFacts(url="http://os:9200", version="opensearch 3.8.0 (one)", uuid="u", **more)  # type: ignore[arg-type]


def named(findings: list[Finding], number: int) -> Finding:
    """Return the finding of that number."""
    return next(one for one in findings if one.number == number)


CASES: list[tuple[str, Callable[[], Finding], str, str, str]] = [
    ("config-ok", lambda: check_configuration(None, "", "9 contracts"), "OK", "9 contracts", ""),
    (
        "config-wrong",
        lambda: check_configuration("v.toml:3: no 'prot'", "write port", ""),
        "FAIL",
        "v.toml:3",
        "voltgate check",
    ),
    ("data-ok", lambda: check_data(DataFacts(path="/d", exists=True, owner_uid=0)), "OK", "/d", ""),
    ("data-none", lambda: check_data(DataFacts(path="/d", exists=False)), "WARN", "does not exist", "voltgate run"),
    (
        "data-read-only",
        lambda: check_data(DataFacts(path="/d", exists=True, write_error="Read-only file system")),
        "FAIL",
        "Read-only",
        "chown",
    ),
    (
        "data-foreign",
        lambda: check_data(DataFacts(path="/d", exists=True, owner_uid=7, own_uid=0)),
        "WARN",
        "belongs to user 7",
        "chown -R 0 /d",
    ),
    ("space-ok", lambda: check_space(disk()), "OK", "50.0 GiB of 100.0 GiB free", ""),
    ("space-little", lambda: check_space(disk(free_bytes=GIB)), "WARN", "1.0 GiB", "retention_bytes"),
    ("space-part", lambda: check_space(disk(free_bytes=4 * GIB)), "WARN", "4.0 GiB", "free space"),
    ("space-full", lambda: check_space(disk(free_bytes=10 * MIB)), "FAIL", "10.0 MiB", "free space"),
    ("sync-ok", lambda: check_sync(disk()), "OK", "2.0 ms", ""),
    ("sync-slow", lambda: check_sync(disk(sync_p99_s=0.3)), "WARN", "300.0 ms", "SSD"),
    ("sync-very-slow", lambda: check_sync(disk(sync_p99_s=1.5)), "FAIL", "1500.0 ms", "SSD"),
    ("sync-broken", lambda: check_sync(disk(sync_p99_s=None, sync_error="I/O error")), "FAIL", "I/O error", "SSD"),
    ("clock-ok", lambda: check_clock(ClockFacts(now_ns=NOW_NS, is_synchronised=True)), "OK", "kept", ""),
    ("clock-unknown", lambda: check_clock(ClockFacts(now_ns=NOW_NS)), "OK", "nothing known", ""),
    (
        "clock-before-entry",
        lambda: check_clock(ClockFacts(now_ns=NOW_NS, newest_entry_at_ns=NOW_NS + 90 * 10**9)),
        "FAIL",
        "newest entry of the journal was received at 2026-11-18T",
        "set-ntp",
    ),
    (
        "clock-before-file",
        lambda: check_clock(ClockFacts(now_ns=NOW_NS, newest_file_at_ns=NOW_NS + 10**10)),
        "FAIL",
        "newest file",
        "chrony",
    ),
    (
        "clock-1970",
        lambda: check_clock(ClockFacts(now_ns=0, released_at_ns=NOW_NS)),
        "FAIL",
        "it is 1970-01-01T00:00:00+00:00 here, and this program was installed",
        "set-ntp",
    ),
    ("clock-stepped", lambda: check_clock(ClockFacts(now_ns=NOW_NS, step_s=-3.0)), "WARN", "-3.00 s", "set-ntp"),
    (
        "clock-free",
        lambda: check_clock(ClockFacts(now_ns=NOW_NS, is_synchronised=False)),
        "WARN",
        "no time service",
        "set-ntp",
    ),
    ("ports-ok", lambda: check_ports([port(is_own=True), port()]), "OK", "1 held by our programs, 1 free", ""),
    (
        "port-taken",
        lambda: check_ports([port(taken_by="process 7 (mosquitto)")]),
        "FAIL",
        "gateway.mqtt.port is 127.0.0.1:1883, held by process 7 (mosquitto)",
        "stop process 7 (mosquitto)",
    ),
    (
        "port-foreign-address",
        lambda: check_ports([port(error="Cannot assign requested address")]),
        "FAIL",
        "Cannot assign",
        "gateway.mqtt.port",
    ),
    ("certificates-none", lambda: check_certificates([], now_s=NOW_NS / 1e9), "OK", "none", ""),
    (
        "certificates-ok",
        lambda: check_certificates([certificate(30 * DAY_S)], now_s=NOW_NS / 1e9),
        "OK",
        "1 usable",
        "",
    ),
    (
        "certificate-soon",
        lambda: check_certificates([certificate(2 * DAY_S), certificate(90 * DAY_S)], now_s=NOW_NS / 1e9),
        "WARN",
        "expires in 2.0 days",
        "kill -HUP",
    ),
    (
        "certificate-expired",
        lambda: check_certificates([certificate(2 * DAY_S), certificate(0)], now_s=NOW_NS / 1e9),
        "FAIL",
        "cp.pem expired at 2026-11-18",
        "renew cp.pem",
    ),
    (
        "certificate-not-yet",
        lambda: check_certificates([certificate(DAY_S)], now_s=NOW_NS / 1e9 - 2 * DAY_S),
        "FAIL",
        "valid only from",
        "clock",
    ),
    (
        "certificate-other-key",
        lambda: check_certificates([certificate(0, error="its key is another's")], now_s=0.0),
        "FAIL",
        "its key is another's",
        "gateway.ocpp.certificates",
    ),
    ("files-ok", lambda: check_files(LimitFacts(files_max=65_536, connections_max=20_000)), "OK", "room for 20000", ""),
    (
        "files-few",
        lambda: check_files(LimitFacts(files_max=1_024, connections_max=20_000)),
        "WARN",
        "room for 512 of the 20000",
        "ulimit -n 20512",
    ),
    (
        "files-used-up",
        lambda: check_files(
            LimitFacts(files_max=9, gateway_files_max=1_024, gateway_files=1_000, connections_max=20_000)
        ),
        "FAIL",
        "has 1000",
        "LimitNOFILE=20512",
    ),
    ("memory-ok", lambda: check_memory(MemoryFacts(available_bytes=GIB, total_bytes=GIB)), "OK", "1.0 GiB", ""),
    (
        "memory-low",
        lambda: check_memory(MemoryFacts(available_bytes=MIB, total_bytes=GIB)),
        "WARN",
        "1.0 MiB",
        "ps aux",
    ),
    ("programs-ok", lambda: check_programs([ProgramFacts(name="gateway", is_running=True)], "/d"), "OK", "gateway", ""),
    (
        "programs-stopped",
        lambda: check_programs([ProgramFacts(name=name, is_running=False) for name in "ab"], "/d"),
        "WARN",
        "not running: a, b",
        "voltgate run --data /d",
    ),
    (
        "program-stopped",
        lambda: check_programs([ProgramFacts(name=name, is_running=name == "a") for name in "ab"], "/d"),
        "FAIL",
        "not running: b",
        "voltgate run --data /d",
    ),
    (
        "program-unready",
        lambda: check_programs([ProgramFacts(name="a", is_running=True, not_ready="journal: full")], "/d"),
        "FAIL",
        "a: journal: full",
        "voltgate status",
    ),
    ("journal-ok", lambda: check_journal(JournalFacts(file="0.seg", entries=5)), "OK", "5 entries", ""),
    (
        "journal-damaged",
        lambda: check_journal(JournalFacts(file="0.seg", damages=("bytes 3 to 9: checksum",))),
        "FAIL",
        "bytes 3 to 9",
        "voltgate journal verify",
    ),
    ("journal-unreadable", lambda: check_journal(JournalFacts(file=None, error="EIO")), "FAIL", "EIO", "recover-a"),
    ("lake-ok", lambda: check_lake(LakeFacts(location="/l", tables=9)), "OK", "9 tables at /l", ""),
    (
        "lake-other",
        lambda: check_lake(LakeFacts(location="/l", differences=("t.a is b",))),
        "FAIL",
        "t.a is b",
        "replay",
    ),
    ("lake-away", lambda: check_lake(LakeFacts(location="s3://x", error="403")), "FAIL", "403", "s3://x"),
    ("lag-ok", lambda: check_lag(LagFacts(entries=5, age_s=1.0)), "OK", "5 entries and 1 s", ""),
    ("lag-grows", lambda: check_lag(LagFacts(entries=5, age_s=61.0)), "WARN", "61 s", "voltgate status"),
    ("lag-long", lambda: check_lag(LagFacts(entries=5, age_s=601.0)), "FAIL", "601 s", "voltgate status"),
    ("notices-ok", lambda: check_notices(NoticeFacts()), "OK", "delivered", ""),
    ("notices-dead", lambda: check_notices(NoticeFacts(dead={"team": 3})), "WARN", "3 to team", "retry --all-dead"),
    ("notices-damaged", lambda: check_notices(NoticeFacts(error="malformed")), "FAIL", "malformed", "restart"),
    ("opensearch-none", lambda: named(check_opensearch(OpenSearchFacts()), 15), "OK", "none is configured", ""),
    (
        "opensearch-down",
        lambda: named(check_opensearch(cluster(error="connection refused")), 15),
        "FAIL",
        "connection refused; what waits is in the lake",
        "curl http://os:9200",
    ),
    (
        "opensearch-password",
        lambda: named(check_opensearch(cluster(error="401", status=401)), 15),
        "FAIL",
        "401",
        "opensearch.user",
    ),
    ("opensearch-ok", lambda: named(check_opensearch(cluster()), 17), "OK", "mappings fit", ""),
    (
        "opensearch-rights",
        lambda: named(check_opensearch(cluster(refused=("our role may not search",))), 16),
        "FAIL",
        "may not search",
        "privileges",
    ),
    (
        "opensearch-mapping",
        lambda: named(check_opensearch(cluster(conflicts=("rejects: index x: field 'a' is b",))), 17),
        "FAIL",
        "field 'a' is b",
        "voltgate opensearch reindex rejects --drop",
    ),
    (
        "opensearch-emptied",
        lambda: named(check_opensearch(cluster(known_uuid="other")), 17),
        "FAIL",
        "emptied cluster",
        "voltgate opensearch reindex",
    ),
    ("opensearch-lag", lambda: named(check_opensearch(cluster(lag={"a": 9, "b": 5})), 18), "OK", "a is 9 entries", ""),
    (
        "opensearch-late",
        lambda: named(check_opensearch(cluster(lag={"a": 900_000})), 18),
        "WARN",
        "900000",
        "voltgate opensearch status",
    ),
]


@pytest.mark.parametrize(
    ("judge", "level", "why", "mend"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_facts_have_a_level_a_reason_and_a_mend(judge: Callable[[], Finding], level: str, why: str, mend: str) -> None:
    """What is not OK names what mends it, and what is OK names nothing."""
    found = judge()
    assert (level, True, level == "OK") == (found.level, why in found.why, found.mend == "")
    assert mend in found.mend

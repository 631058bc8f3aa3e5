"""`voltgate doctor` and `status --watch` on a running Voltgate, and on one with each thing that is wrong."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.installation import Installation, environment, run_voltgate
from tests.integration.certificates import Authority
from tests.services import opensearch
from tests.services.require import require
from voltgate.doctor import examine
from voltgate.doctor_checks import Finding

pytestmark = pytest.mark.integration

OF_THE_MACHINE = {"disk space", "disk speed", "clock", "memory", "open files"}
"""Checks whose answer is about this computer, which no test can make well."""


def doctor(data: Path, env: dict[str, str], *, expected_code: int = 6) -> dict[str, dict[str, Any]]:
    """Return check -> finding of `voltgate doctor --json`."""
    lines = run_voltgate("doctor", "--json", data=data, env=env, expected_code=expected_code).splitlines()
    return {one["check"]: one for one in map(json.loads, lines)}


def free_port() -> int:
    """Return a port of the loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_healthy_system_is_all_ok_and_watched(tmp_path: Path) -> None:
    """Every check of ours is OK, in order of its number; the watch prints a line or an object an interval."""
    with Installation(tmp_path / "data") as voltgate:
        command = [sys.executable, "-m", "voltgate", "doctor", "--json", "--data", str(voltgate.data)]
        done = subprocess.run(command, env=voltgate.environment, capture_output=True, text=True, timeout=60)
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert list(range(1, 16)) == [one["number"] for one in found]
        wrong = [one for one in found if one["level"] != "OK"]
        assert [] == [one for one in wrong if one["check"] not in OF_THE_MACHINE]
        assert (6 if wrong else 0) == done.returncode
        watched = ("status", "--watch", "--interval", "0.2", "--count", "2")
        glances = [json.loads(line) for line in voltgate.voltgate(*watched, "--json").splitlines()]
        assert [{"gateway": True, "processors": True}] * 2 == [one["running"] for one in glances]
        assert [0.0, 0.0] == [one["received_per_s"] for one in glances]
        lines = voltgate.voltgate(*watched).splitlines()
        assert [True, True] == ["gateway up  processors up  in 0.0/s" in line for line in lines]
        endless = [*command[:3], "status", "--watch", "--interval", "0.2", "--data", str(voltgate.data)]
        watch = subprocess.Popen(endless, env=voltgate.environment, stdout=subprocess.PIPE, text=True)
        assert watch.stdout is not None
        assert "gateway up" in watch.stdout.readline()
        watch.send_signal(signal.SIGINT)
        assert 0 == watch.wait(20)
        watch.stdout.close()


def test_taken_port_is_named_with_its_holder(tmp_path: Path) -> None:
    """The process is ours to see here, so its number is shown."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        found = doctor(tmp_path, environment(gateway__mqtt__port=port))["ports"]
    assert "FAIL" == found["level"]
    assert f"gateway.mqtt.port is 127.0.0.1:{port}, held by process " in found["why"]
    assert "or set gateway.mqtt.port to another port" in found["mend"]


def test_stopped_opensearch_fails_and_nothing_else_does(tmp_path: Path) -> None:
    """Its line says that nothing is lost, and how to look."""
    url = f"http://127.0.0.1:{free_port()}"
    found = doctor(tmp_path, environment(opensearch__url=url, gateway__mqtt__port=0, gateway__ocpp__port=0))
    assert ["OpenSearch"] == [name for name, one in found.items() if one["level"] == "FAIL"]
    assert "what waits is in the lake and is not lost" in found["OpenSearch"]["why"]
    assert found["OpenSearch"]["mend"]


@pytest.mark.xdist_group("opensearch")
def test_opensearch_is_asked_what_it_allows_and_holds(tmp_path: Path) -> None:
    """Empty and prepared clusters are well; a field of another type and a stopped cluster are named."""
    require(opensearch.why_not(), opensearch.available())
    with opensearch.Node() as node:
        env = environment(opensearch__url=node.url)
        found = doctor(tmp_path, env)
        names = [name for name in found if name.startswith("OpenSearch")]
        assert ["OpenSearch", "OpenSearch rights", "OpenSearch indices", "OpenSearch lag"] == names
        assert ["OK"] * 4 == [found[name]["level"] for name in names]
        (tmp_path / "ingest").mkdir()
        run_voltgate("opensearch", "init", data=tmp_path, env=env)
        found = doctor(tmp_path, env)
        assert ["OK"] * 4 == [found[name]["level"] for name in names], found
        node.request("DELETE", "/voltgate-alerts")
        node.request("PUT", "/voltgate-alerts", {"mappings": {"properties": {"value": {"type": "keyword"}}}})
        other = doctor(tmp_path, env)["OpenSearch indices"]
        assert ("FAIL", True) == (other["level"], "field 'value' is keyword in the index" in other["why"])
        assert "`voltgate opensearch reindex alert_revisions --drop`" in other["mend"]
        node.stop()
        stopped = doctor(tmp_path, env)
        assert ("FAIL", False) == (stopped["OpenSearch"]["level"], "OpenSearch lag" in stopped)


@pytest.mark.parametrize(
    ("valid_to", "level", "why"),
    [
        pytest.param(timedelta(hours=-1), "FAIL", "expired at", id="expired"),
        pytest.param(timedelta(days=3), "WARN", "expires in 3.0 days", id="soon"),
        pytest.param(timedelta(days=30), "OK", "2 usable", id="good"),
    ],
)
def test_certificates_are_read(tmp_path: Path, valid_to: timedelta, level: str, why: str) -> None:
    """An expired certificate fails, one that is about to warns; the file is named."""
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.server(valid_from=timedelta(days=-2), valid_to=valid_to)
    found = certificates(tmp_path, certificate, key, authority)
    assert (level, True) == (found["level"], why in found["why"])
    assert level == "OK" or str(certificate) in found["why"] + found["mend"]


def test_key_of_another_certificate_fails(tmp_path: Path) -> None:
    """A renewal that forgot the key is found before a restart finds it."""
    authority = Authority(tmp_path / "ca")
    certificate, _ = authority.server()
    _, other_key = authority.server()
    found = certificates(tmp_path, certificate, other_key, authority)
    assert ("FAIL", True) == (found["level"], "its key is another certificate's" in found["why"])


def certificates(directory: Path, certificate: Path, key: Path, authority: Authority) -> dict[str, Any]:
    """Return the finding about this certificate of the listener."""
    pair = json.dumps([{"certificate_file": str(certificate), "key_file": str(key)}])
    more = {"gateway__ocpp__tls_port": 0, "gateway__ocpp__client_ca_file": authority.file}
    env = environment(gateway__ocpp__certificates=pair, **more)
    return doctor(directory / "data", env)["certificates"]


def test_wrong_configuration_is_the_only_finding(tmp_path: Path) -> None:
    """Nothing else can be looked at without it."""
    found = doctor(tmp_path, environment(gateway__tick_s="soon"))
    assert ["configuration"] == list(found)
    assert ("FAIL", True) == (found["configuration"]["level"], "voltgate check" in found["configuration"]["mend"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB, where this user may mount one."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(directory)]
    done = subprocess.run(mount, capture_output=True, text=True)
    require(f"permission to mount ({done.stderr.strip()})", done.returncode == 0)
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    """Return check -> finding."""
    return {one.check: one for one in findings}


def test_nearly_full_disk_fails(small_disk: Path) -> None:
    """The line has the bytes and the settings that bound the journal, and the doctor leaves no file behind."""
    found = doctor(small_disk, environment())["disk space"]
    assert ("FAIL", True) == (found["level"], "8.0 MiB" in found["why"])
    assert "journal.disk_bytes_max" in found["mend"]
    assert [] == list(small_disk.iterdir())


def test_clock_before_what_is_stored_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock of 1970, and one that is behind the newest file by a minute."""
    for name in set(os.environ) - set(environment()):
        monkeypatch.delenv(name)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "marker").write_text("")
    written_ns = (tmp_path / "run" / "marker").stat().st_mtime_ns
    assert by_name(examine(None, tmp_path, now_ns=written_ns + 10**9))["clock"].level != "FAIL"
    for now_ns in (0, written_ns - 60 * 10**9):
        found = by_name(examine(None, tmp_path, now_ns=now_ns))["clock"]
        assert ("FAIL", True) == (found.level, "timedatectl set-ntp true" in found.mend)

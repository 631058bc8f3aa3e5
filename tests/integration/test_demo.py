"""`voltgate demo` as a newcomer runs it."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.installation import environment, until

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("demo")]


def start_demo(data: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the demo with few vehicles."""
    command = [
        sys.executable,
        "-m",
        "voltgate",
        "demo",
        "--data",
        str(data),
        "--vehicles",
        "8",
        "--chargers",
        "4",
        "--port",
        "0",
        "--ocpp-port",
        "0",
        *arguments,
    ]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def received(ledger: str) -> int:
    """Return the messages that the ledger counts, after checking that it balances."""
    assert "the ledger balances" in ledger, ledger
    found = re.search(r"(\d+) received = (\d+) in the lake \+ 0 in flight", ledger)
    assert found, ledger
    assert found[1] == found[2]
    return int(found[1])


def test_demo_ends_by_itself_with_a_balanced_ledger_and_runs_again(tmp_path: Path) -> None:
    """Exit 0, a ledger to the message, first readings within 10 s, and a second run adds to the first."""
    counts = []
    for _ in range(2):
        demo = start_demo(tmp_path / "demo", "--duration", "12")
        out, talk = demo.communicate(timeout=60)
        assert demo.returncode == 0, talk
        first = re.search(r"first readings are in the lake after ([\d.]+) s", talk)
        assert first, talk
        assert float(first[1]) < 10
        counts.append(received(out))
    assert counts[1] > counts[0] > 100


def test_interrupt_ends_the_demo_within_ten_seconds_with_the_ledger(tmp_path: Path) -> None:
    """One Ctrl-C stops everything in order."""
    demo = start_demo(tmp_path / "demo")
    try:
        until(
            lambda: any((tmp_path / "demo" / "lake" / "vehicle_telemetry").rglob("*.parquet")),
            what="a reading in the lake",
        )
        demo.send_signal(signal.SIGINT)
        asked_s = time.monotonic()
        out, talk = demo.communicate(timeout=30)
    finally:
        demo.kill()
    assert demo.returncode == 0, talk
    assert time.monotonic() - asked_s < 10
    assert received(out) > 0


def test_battery_fault_is_told_acknowledged_and_resolved(tmp_path: Path) -> None:
    """The alert reaches the demo's receiver before 30 s, signed; the command line acknowledges and resolves it."""
    demo = start_demo(tmp_path / "demo", "--duration", "42")
    out, talk = demo.communicate(timeout=100)
    assert demo.returncode == 0, talk
    told = re.findall(r"alert after ([\d.]+) s  critical (\w+)  \S+  (Thermal runaway).*signature verified", talk)
    assert ["firing", "acknowledged", "resolved"] == [state for _, state, _ in told], talk
    assert float(told[0][0]) < 30
    assert re.search(r"\$ voltgate alerts ack \w+ .*\n(.*\n)*?.*is acknowledged", talk), talk
    assert re.search(r"\$ voltgate alerts resolve \w+ .*\n(.*\n)*?.*is resolved", talk), talk
    assert received(out) > 0

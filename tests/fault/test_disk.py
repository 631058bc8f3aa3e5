"""A disk that fails under the journal, and files that are damaged while nobody looks."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from gateway.core.limits import BATCH_BYTES_MAX, BATCH_ROWS_MAX
from gateway.core.records import TICK_SOURCE
from gateway.journal.disk import segment_files
from gateway.journal.inspect import verify
from gateway.journal.reader import SegmentReader
from gateway.journal.segment import HEADER_BYTES
from tests.fault.programs import answers
from tests.installation import environment
from tests.integration.gateway_process import GatewayProcess, running_gateway
from tests.integration.test_gateway import device
from tests.services.require import require

pytestmark = [pytest.mark.fault, pytest.mark.xdist_group("fault")]

OPEN = {"VOLTGATE__GATEWAY__MQTT__ALLOW_ANONYMOUS": "true", "VOLTGATE__GATEWAY__TICK_S": "3600"}
TOPIC = "v1/default/bus-1/telemetry"


def payloads(data: Path) -> list[bytes]:
    """Return what devices said, in journal order, as far as it can be read."""
    reader = SegmentReader(data / "ingest")
    found: list[bytes] = []
    offset = reader.start_offset()
    while True:
        batch = reader.read(offset, rows_max=BATCH_ROWS_MAX, bytes_max=BATCH_BYTES_MAX)
        if batch.end_offset == offset:
            reader.close()
            return found
        found += [entry.envelope.payload for entry in batch.entries() if entry.envelope.route.source != TICK_SOURCE]
        offset = batch.end_offset


class FailingSync:
    """strace on a running gateway that answers every further fdatasync with EIO."""

    def __init__(self, gateway: GatewayProcess, log: Path) -> None:
        inject = ["-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO"]
        self._gateway = psutil.Process(gateway.process.pid)
        self._strace = subprocess.Popen(
            ["strace", "-f", "-o", str(log), *inject, "-p", str(gateway.process.pid)], stderr=subprocess.PIPE
        )
        assert self._strace.stderr is not None
        line = self._strace.stderr.readline()
        if b"attached" not in line:
            self.end()
            require(f"permission to trace ({line.decode().strip()})", available=False)

    def end(self) -> None:
        """Let fdatasync work again."""
        self._strace.send_signal(signal.SIGINT)
        self._strace.wait(10)
        assert self._strace.stderr is not None
        self._strace.stderr.close()


def test_failed_fdatasync_is_never_acknowledged_and_a_restart_recovers(tmp_path: Path) -> None:
    """That batch and all later ones are refused, readiness and liveness say so, what was acknowledged stays."""
    require("strace", shutil.which("strace"))
    data, traced = tmp_path / "data", tmp_path / "strace"
    with running_gateway(data, environ=OPEN) as gateway, device("bus-1") as bus:
        assert bus.connect(gateway) == 0
        assert bus.publish(TOPIC, b"before") == 0
        disk = FailingSync(gateway, traced)
        assert bus.publish(TOPIC, b"during") == 0x97
        disk.end()
        assert "EIO" in traced.read_text()
        # The same descriptor would now say that all is well, about pages that the kernel may have dropped.
        assert bus.publish(TOPIC, b"after") == 0x97
        status, answer = gateway.get("/readyz")
        assert (503, True) == (status, "fdatasync" in json.loads(answer)["checks"]["journal"])
        assert not answers(gateway.endpoints["observe_port"], "/livez")
        gateway.stop()
    with running_gateway(data, environ=OPEN) as gateway, device("bus-1") as bus:
        assert bus.connect(gateway) == 0
        assert bus.publish(TOPIC, b"again") == 0
        assert answers(gateway.endpoints["observe_port"], "/readyz")
    assert payloads(data) == [b"before", b"again"]


def flip_a_bit(segment: Path) -> None:
    """Damage the first frame that holds entries."""
    content = bytearray(segment.read_bytes())
    content[2 * HEADER_BYTES + 20] ^= 1
    segment.write_bytes(content)


def tear_the_tail(segment: Path) -> None:
    """Leave half of a frame that was never acknowledged, as a lost write does."""
    content = segment.read_bytes()
    segment.write_bytes(content + content[-100:])


def cut_the_tail(segment: Path) -> None:
    """Take away bytes that were acknowledged, as only a lying disk does."""
    segment.write_bytes(segment.read_bytes()[:-10])


def empty_it(segment: Path) -> None:
    """Leave the name alone."""
    segment.write_bytes(b"")


def spoil_the_durable_end(segment: Path) -> None:
    """Write noise where the writer publishes how far it is."""
    segment.with_name("durable").write_bytes(b"\xff" * 8)


@pytest.mark.parametrize(
    ("damage", "kept"),
    [
        (flip_a_bit, [1, 2]),
        (tear_the_tail, [0, 1, 2]),
        (cut_the_tail, [0, 1]),
        (empty_it, []),
        (spoil_the_durable_end, [0, 1, 2]),
    ],
)
def test_damaged_journal_is_stepped_over(tmp_path: Path, damage: Callable[[Path], None], kept: list[int]) -> None:
    """The gateway starts, says what it found, takes new messages; whole entries are read and offsets never repeat."""
    data = tmp_path / "data"
    with running_gateway(data, environ=OPEN) as gateway, device("bus-1") as bus:
        assert bus.connect(gateway) == 0
        assert [bus.publish(TOPIC, b"%d" % i * 50) for i in range(3)] == [0, 0, 0]
        assert gateway.stop() == 0
    ((_, segment),) = segment_files(data / "ingest")
    damage(segment)
    with running_gateway(data, environ=OPEN) as gateway, device("bus-1") as bus:
        assert bus.connect(gateway) == 0
        assert bus.publish(TOPIC, b"new") == 0
        assert answers(gateway.endpoints["observe_port"], "/readyz")
        opened = gateway.events("journal_open")[-2]  # the ingest journal comes before that of the commands
        assert gateway.stop() == 0
    assert [b"%d" % i * 50 for i in kept] + [b"new"] == payloads(data)
    report = verify(data / "ingest")
    gone = 3 - len(kept)
    assert (gone, report.durable_offset) == (report.missing, 4)
    assert (opened["lost"] > 0 or bool(opened["corrupt"])) == (gone > 0)
    assert (opened["torn_bytes"] > 0) == (damage is tear_the_tail)
    # And the processors count what is not there any more instead of waiting for it.
    command = [sys.executable, "-m", "processors", "--data", str(data), "--drain"]
    drained = subprocess.run(command, env=environment(), timeout=60, capture_output=True, text=True)
    assert drained.returncode == 0, drained.stderr
    ledger = json.loads((data / "run" / "processors.json").read_text())["ledger"]
    assert (len(kept) + 1, gone) == (ledger["entries"], ledger["gap_entries"])

"""A real Mosquitto as a child process, which tests may kill and start again on the same port."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.services.require import require

PROGRAM = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")
START_TIMEOUT_S = 10.0
CONF = """\
listener {port} 127.0.0.1
allow_anonymous {anonymous}
persistence false
max_inflight_messages 0
max_queued_messages 0
"""


class MosquittoProcess:
    """Mosquitto on a free port of the loopback, memory only.

    Args:
        directory: For its configuration and log.
        anonymous: Whether clients without credentials may connect.
    """

    def __init__(self, directory: Path, *, anonymous: bool = True) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._conf = directory / "mosquitto.conf"
        self._conf.write_text(CONF.format(port=self.port, anonymous=str(anonymous).lower()))
        self._log: IO[bytes] = (directory / "mosquitto.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it accepts connections."""
        assert PROGRAM is not None
        self._process = subprocess.Popen([PROGRAM, "-c", str(self._conf)], stdout=self._log, stderr=self._log)
        give_up_at_s = time.monotonic() + START_TIMEOUT_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, "mosquitto ended; see mosquitto.log"
            assert time.monotonic() < give_up_at_s, "mosquitto does not listen"
            time.sleep(0.02)

    def kill(self) -> None:
        """End it without a word, as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Kill it and close its log."""
        self.kill()
        self._log.close()


@contextmanager
def running_mosquitto(directory: Path, *, anonymous: bool = True) -> Iterator[MosquittoProcess]:
    """A Mosquitto that accepts connections, killed at the end; skips the test where there is none."""
    require("mosquitto", PROGRAM)
    mosquitto = MosquittoProcess(directory, anonymous=anonymous)
    try:
        mosquitto.start()
        yield mosquitto
    finally:
        mosquitto.close()

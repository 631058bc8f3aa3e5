"""The demo's on-call desk: a webhook receiver that checks every signature, and an operator who uses the command line.

Shows what somebody who receives alerts has to do, with nothing of ours: the signature is the one of Standard Webhooks
1.0.0, the body is a CloudEvent.
"""

import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from gateway.core.text import peer_text
from gateway.observe.run_files import write_private

RECEIVER: Final = "demo"
ALERTS_FILE: Final = "demo-alerts.yaml"
_SECRET_FILE: Final = "demo-webhook-secret"  # noqa: S105 - a file name
_PREFIX: Final = "whsec_"
_AGE_S_MAX: Final = 300
"""An older message may be a recording that somebody sends again."""
_BODY_BYTES_MAX: Final = 1_000_000
_THINK_S: Final = 3.0
"""How long the demo's operator looks at an alert before acknowledging, and again before resolving it."""


def is_signed(secret: str, headers: Mapping[str, str], body: bytes, *, now_s: float) -> bool:
    """Return whether a message is from whoever has the secret, and fresh (Standard Webhooks 1.0.0)."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(now_s - int(timestamp)) > _AGE_S_MAX:
        return False
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    expected = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    given = (one.partition(",") for one in headers.get("webhook-signature", "").split(" "))
    return any(
        version == "v1" and hmac.compare_digest(base64.b64encode(expected).decode(), signature)
        for version, _, signature in given
    )


class AlertDesk:
    """Receives the demo's alerts, and acknowledges and resolves the first critical one; a context manager.

    Args:
        data: Data directory of the demo.
        say: Prints a line; may be replaced.
    """

    def __init__(self, data: Path, say: Callable[[str], None]) -> None:
        self._data, self.say = data, say
        self._secret = _secret(data / "run" / _SECRET_FILE)
        self._ended = threading.Event()
        self._began_s = time.monotonic()
        self._operator: threading.Thread | None = None
        self._lock = threading.Lock()
        desk = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("content-length", 0))
                body = self.rfile.read(length) if 0 <= length <= _BODY_BYTES_MAX else b""
                headers = {name.lower(): value for name, value in self.headers.items()}
                signed = is_signed(desk._secret, headers, body, now_s=time.time())
                self.send_response(204 if signed else 401)
                self.end_headers()
                desk._received(body, signed=signed)

            def log_message(self, *_args: object) -> None:
                """Print nothing: the demo says what it wants to say."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/alerts"
        self.file = data / "run" / ALERTS_FILE
        write_private(self.file, _alerts_yaml(self.url, data / "run" / _SECRET_FILE).encode())

    def __enter__(self) -> Self:
        self._began_s = time.monotonic()
        threading.Thread(target=self._server.serve_forever, name="alert-desk", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the operator go home, and receive nothing more."""
        self._ended.set()
        if self._operator is not None:
            self._operator.join(timeout=10)
        self._server.shutdown()
        self._server.server_close()

    def _received(self, body: bytes, *, signed: bool) -> None:
        if not signed:
            self.say("alert desk: a message with a bad signature was refused")
            return
        event: dict[str, Any] = json.loads(body)
        at_s = time.monotonic() - self._began_s
        for alert in event["data"]["alerts"]:
            value = f": {alert['value']:g} {alert['unit']}" if alert["value"] is not None else ""
            limit = f", limit {alert['limit']:g} {alert['unit']}" if alert["limit"] is not None else ""
            self.say(
                f"alert after {at_s:.1f} s  {alert['severity']} {alert['state']}  {peer_text(alert['device'])}  "
                f"{alert['title']}{value}{limit}  [{alert['alert_id'][:8]}, signature verified]"
            )
        critical = [one for one in event["data"]["alerts"] if (one["severity"], one["state"]) == ("critical", "firing")]
        with self._lock:
            if critical and self._operator is None:
                self._operator = threading.Thread(target=self._work, args=(critical[0]["alert_id"],), daemon=True)
                self._operator.start()

    def _work(self, alert_id: str) -> None:
        """Do what a person on call does, as a person does it: with the command line."""
        name = alert_id[:8]
        if not self._ended.wait(_THINK_S):
            self._run("alerts", "ack", name, "--note", "driver told to stop")
        if not self._ended.wait(_THINK_S):
            self._run("alerts", "resolve", name, "--note", "pack isolated, bus towed")

    def _run(self, *arguments: str) -> None:
        shown = " ".join(f"'{one}'" if " " in one else one for one in arguments)
        self.say(f"$ voltgate {shown}")
        environ = {name: value for name, value in os.environ.items() if not name.startswith("VOLTGATE__")}
        done = subprocess.run(
            [sys.executable, "-m", "voltgate", *arguments, "--data", str(self._data)],
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        for line in (done.stdout + done.stderr).splitlines():
            self.say(f"  {line}")


def _secret(file: Path) -> str:
    """Return the secret that the demo's messages are signed with; it is made once for a data directory."""
    if not file.exists():
        write_private(file, (_PREFIX + base64.b64encode(os.urandom(32)).decode()).encode())
    return file.read_text()


def _alerts_yaml(url: str, secret: Path) -> str:
    return f"""# Written by the demo at each start. Your own belongs into alerts.yaml of your data directory.
receivers:
  {RECEIVER}:
    {{webhook: "{url}", secret: {{file: "{secret.absolute()}"}}, insecure: true, allow_private: [127.0.0.0/8]}}
routes:
  - {{to: [{RECEIVER}], group_by: [device, rule], wait: 0 s, interval: 1 s, repeat: never}}
"""

"""The local port of the running gateway, as commands of the command line call it."""

import json
import urllib.error
import urllib.request
from typing import Any

from gateway.core.settings import Settings
from gateway.observe.run_files import ADMIN_TOKEN
from voltgate.output import Exit, say
from voltgate.status import read_run_file

TIMEOUT_S = 30.0
"""Longer than the gateway takes for any request."""


def post(settings: Settings, path: str, body: dict[str, object]) -> tuple[int, dict[str, Any]]:
    """Post to the running gateway with its token; return the HTTP status and the answer.

    Raises: SystemExit: No gateway runs, or it does not answer.
    """
    endpoints = read_run_file(settings, "gateway")
    if endpoints is None:
        say(f"voltgate: no gateway runs on {settings.data}; start `voltgate run --data {settings.data}` first")
        raise SystemExit(Exit.FAILED)
    try:
        token = (settings.data / "run" / ADMIN_TOKEN).read_text().strip()
        request = urllib.request.Request(
            f"http://{endpoints['observe_host']}:{endpoints['observe_port']}{path}",
            data=json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
            return response.status, json.load(response)
    except urllib.error.HTTPError as exc:
        return exc.code, _problem(exc.read())
    except (urllib.error.URLError, TimeoutError) as exc:
        reason = exc.reason if isinstance(exc, urllib.error.URLError) else exc
        say(f"voltgate: the gateway does not answer ({reason}); is it running?")
        raise SystemExit(Exit.FAILED) from None


def call_gateway(settings: Settings, path: str, body: dict[str, object]) -> dict[str, Any]:
    """Post to the running gateway and return its answer.

    Raises: SystemExit: It does not run, or refuses.
    """
    status, answer = post(settings, path, body)
    if status >= 400:
        say(f"voltgate: the gateway refused: {status} {answer.get('error')}: {answer.get('detail')}")
        raise SystemExit(Exit.FAILED)
    return answer


def _problem(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else {"error": "", "detail": body[:500].decode("utf-8", "replace")}

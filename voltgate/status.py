"""`voltgate status`, `check` and `version`: how things stand, without changing them."""

import importlib.metadata
import json
import os
import platform
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from gateway.core.errors import ConfigError
from gateway.core.settings import Settings
from voltgate import __version__, compose
from voltgate.output import Exit, print_config_error, print_json, print_pairs, say

PROGRAMS = ("gateway", "processors")


def read_run_file(settings: Settings, program: str) -> dict[str, Any] | None:
    """Return what a program says of itself, None when it does not run."""
    try:
        content: dict[str, Any] = json.loads((settings.data / "run" / f"{program}.json").read_text())
        os.kill(content["pid"], 0)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError:
        pass  # it runs as another user
    return content


def readiness(run_file: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of /readyz, `{"ok": bool, "checks": {name: "ok" or why not}}`; if none `ok` and `reason`."""
    url = f"http://{run_file['observe_host']}:{run_file['observe_port']}/readyz"
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            answer: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as exc:
        answer = json.loads(exc.read())
    except (urllib.error.URLError, TimeoutError) as exc:
        return {"ok": False, "reason": f"does not answer: {exc}"}
    return answer


def failing(state: dict[str, Any]) -> str:
    """Return the checks that fail, each with its reason."""
    return "; ".join(f"{name}: {word}" for name, word in state.get("checks", {}).items() if word != "ok")


def show_status(settings: Settings, *, as_json: bool) -> int:
    """Print what runs and how far it is; the exit code says whether everything is well."""
    from gateway.journal import inspect

    if not (settings.data / "ingest").is_dir():
        say(f"voltgate: {settings.data} holds no data yet; `voltgate run --data {settings.data}` makes it")
        return Exit.NOT_FOUND
    shown: dict[str, Any] = {"data": str(settings.data)}
    running = {program: read_run_file(settings, program) for program in PROGRAMS}
    healthy = True
    for program, run_file in running.items():
        state = readiness(run_file) if run_file else {"ok": False, "reason": "not running"}
        shown[program] = {**(run_file or {}), "readiness": state}
        healthy = healthy and bool(state["ok"])
    stats = inspect.stats(settings.data / "ingest")
    shown["journal"] = {"bytes": stats.bytes, "start_offset": stats.start_offset, "end_offset": stats.end_offset}
    if running["processors"] is None:
        from voltgate.ledger import read_balance

        balance = read_balance(settings)
        shown["ledger"] = {"balanced": balance.balanced, "lines": balance.lines()}
        healthy = healthy and balance.balanced
    if settings.opensearch.urls:
        from processors.sinks.index_store import read_counts

        shown["index"] = read_counts(settings.data)
    if as_json:
        print_json(shown)
    else:
        _print_status(shown)
    return Exit.OK if healthy else Exit.FINDINGS


def _print_status(shown: dict[str, Any]) -> None:
    print(f"data        {shown['data']}")
    for program in PROGRAMS:
        part = shown[program]
        state = part["readiness"]
        word = "ready" if state["ok"] else f"NOT READY: {state.get('reason') or failing(state)}"
        pid = f"process {part['pid']}, " if "pid" in part else ""
        print(f"{program:<11} {pid}{word}")
    journal = shown["journal"]
    print(f"journal     offsets {journal['start_offset']} to {journal['end_offset']}, {journal['bytes']} bytes")
    processors = shown["processors"]
    if "offset" in processors:
        behind = journal["end_offset"] - processors["offset"]
        print(f"lake        offset {processors['offset']}, {behind} behind the journal")
    if "index" in shown:
        done, rejected = shown["index"]["done"], shown["index"]["rejected"]
        print(f"index       {done} documents, {rejected} refused; `voltgate opensearch status` shows how far it is")
    for line in shown.get("ledger", {}).get("lines", []):
        print(f"            {line}")


def check_configuration(config: Path | None, data: Path | None, *, as_json: bool) -> int:
    """Check settings and contracts; print the first mistake of each with file, line and mend."""
    from processors.stores import rulings_of

    try:
        settings = compose.load(config, data)
        rulings = rulings_of(settings, os.environ)
    except ConfigError as exc:
        print_config_error(exc, as_json=as_json)
        return Exit.CONFIG
    contracts, plan = rulings.contracts, rulings.plan
    if as_json:
        receivers, rules = list(plan.receivers), [rule.id for contract in contracts for rule in contract.rules]
        print_json({"ok": True, "streams": list(contracts.streams), "rules": rules, "receivers": receivers})
    else:
        print(f"settings and {len(contracts)} contracts are good: {', '.join(contracts.streams)}")
        rules_on = sum(rule.enabled for contract in contracts for rule in contract.rules)
        told = ", ".join(plan.receivers) or "none, so alerts are only shown"
        print(f"{rules_on} rules are looked at; receivers: {told}")
    return Exit.OK


def show_version(*, as_json: bool) -> None:
    """Print versions: what to put into a bug report."""
    names = ("polars", "deltalake", "duckdb", "msgspec", "uvloop")
    versions: dict[str, object] = {"voltgate": __version__, "python": platform.python_version()}
    versions.update({name: importlib.metadata.version(name) for name in names})
    print_pairs(versions, as_json=as_json)

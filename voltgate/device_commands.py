"""`voltgate device`: who may connect."""

import time
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from gateway.configuration import open_registry
from gateway.core.settings import Settings
from voltgate.output import Exit, print_pairs, print_rows, say


def add_device(
    settings: Settings,
    tenant: str,
    device_id: str,
    *,
    username: str | None,
    password_file: Path | None,
    note: str,
    as_json: bool,
) -> None:
    """Register a device and print its credentials, the only time its password is seen."""
    password = password_file.read_text("utf-8").strip() if password_file else None
    with closing(open_registry(settings)) as registry:
        added = registry.add(
            tenant=tenant, device_id=device_id, username=username, password=password, note=note, now_ns=time.time_ns()
        )
    shown = {"tenant": tenant, "device_id": device_id, "username": added.username}
    if password is None:
        shown["password"] = added.password
        say("keep the password: it is not stored and not shown again")
    print_pairs(shown, as_json=as_json)


def list_devices(settings: Settings, *, as_json: bool) -> None:
    """Print the registered devices; nothing secret is among it."""
    with closing(open_registry(settings)) as registry:
        rows = [
            (d.tenant, d.device_id, d.username, "revoked" if d.revoked_at_ns is not None else "active", d.note)
            for d in registry.ls()
        ]
    print_rows(["tenant", "device_id", "username", "state", "note"], rows, as_json=as_json)


def show_device(settings: Settings, tenant: str, device_id: str, *, as_json: bool) -> int:
    """Print the newest value of every field of a device, with when it was measured, as of the last checkpoint."""
    import polars as pl

    from voltgate.ledger import read_state

    chosen = (pl.col("tenant") == tenant) & (pl.col("device_id") == device_id)
    rows: list[tuple[object, ...]] = []
    for stream, state in read_state(settings).streams.items():
        if state.devices.frame is None:
            continue
        for row in state.devices.frame.filter(chosen).iter_rows(named=True):
            rows += [(stream, name, row[name], at) for name, at in _times(row) if at is not None]
    if not rows:
        say(f"voltgate: nothing is known of {device_id!r} of tenant {tenant!r} up to the last checkpoint")
        return Exit.NOT_FOUND
    print_rows(["stream", "field", "value", "measured_at"], rows, as_json=as_json)
    return Exit.OK


def _times(row: Mapping[str, Any]) -> list[tuple[str, datetime | None]]:
    return [(name.removesuffix(":at"), value) for name, value in row.items() if name.endswith(":at")]


def revoke_device(settings: Settings, tenant: str, device_id: str) -> int:
    """Take the right to connect from a device; a live connection is closed when the gateway next looks."""
    with closing(open_registry(settings)) as registry:
        found = registry.revoke(tenant=tenant, device_id=device_id, now_ns=time.time_ns())
    if not found:
        say(f"voltgate: there is no device {device_id!r} of tenant {tenant!r}; `voltgate device ls` lists them")
        return Exit.NOT_FOUND
    say(f"device {device_id} is revoked")
    return Exit.OK

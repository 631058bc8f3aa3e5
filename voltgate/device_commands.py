"""`voltgate device`: who may connect."""

import time
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.configuration import open_registry
from gateway.core.credentials import DeviceKind
from gateway.core.errors import ConfigError
from gateway.core.settings import Settings
from voltgate.output import Exit, print_pairs, print_rows, say

if TYPE_CHECKING:
    from gateway.registry.devices import Device


class Rules(NamedTuple):
    """How a charger must connect, as far as the command line says it; None for what it leaves open."""

    security_profile: int | None
    strictness: str | None
    certificate_name: str | None


def add_device(
    settings: Settings,
    tenant: str,
    device_id: str,
    *,
    username: str | None,
    password_file: Path | None,
    note: str,
    is_charger: bool,
    rules: Rules,
    as_json: bool,
) -> None:
    """Register a device and print its credentials, the only time its password is seen."""
    password = None if password_file is None else _password_of(password_file)
    with closing(open_registry(settings)) as registry:
        added = registry.add(
            tenant=tenant,
            device_id=device_id,
            username=username,
            password=password,
            note=note,
            kind=DeviceKind.CHARGER if is_charger else DeviceKind.VEHICLE,
            now_ns=time.time_ns(),
            **rules._asdict(),
        )
    shown = {"tenant": tenant, "device_id": device_id, "username": added.username}
    if password is None and added.password:
        shown["password"] = added.password
        if is_charger:
            shown["authorization_key"] = added.password.encode().hex()
            say("an OCPP 1.6 charger takes the authorization_key, a 2.x one the password; they are the same")
        say("keep the password: it is not stored and not shown again")
    print_pairs(shown, as_json=as_json)


def change_device(settings: Settings, tenant: str, device_id: str, rules: Rules) -> int:
    """Change how a charger must connect; its password stays."""
    if rules == Rules(None, None, None):
        say("voltgate: nothing to change; give --security-profile, --strictness or --certificate-name")
        return Exit.USAGE
    with closing(open_registry(settings)) as registry:
        found = registry.change_charger(tenant=tenant, device_id=device_id, **rules._asdict())
    if not found:
        return _not_found(tenant, device_id)
    say(f"charger {device_id} is changed")
    return Exit.OK


def list_devices(settings: Settings, *, as_json: bool) -> None:
    """Print the registered devices; nothing secret is among it."""
    with closing(open_registry(settings)) as registry:
        rows = [
            (d.tenant, d.device_id, d.kind, d.username, d.security_profile, d.strictness, _state(d), d.note)
            for d in registry.ls()
        ]
    columns = ["tenant", "device_id", "kind", "username", "security_profile", "strictness", "state", "note"]
    print_rows(columns, rows, as_json=as_json)


def show_device(settings: Settings, tenant: str, device_id: str, *, as_json: bool) -> int:
    """Print what is registered of a device, and its newest values and their times as of the last checkpoint."""
    import polars as pl

    from voltgate.ledger import read_state

    chosen = (pl.col("tenant") == tenant) & (pl.col("device_id") == device_id)
    rows: list[tuple[object, ...]] = []
    with closing(open_registry(settings)) as registry:
        for device in registry.ls(tenant=tenant):
            if device.device_id == device_id:
                rows += [("registry", name, value, None) for name, value in _registered(device).items()]
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
        return _not_found(tenant, device_id)
    say(f"device {device_id} is revoked")
    return Exit.OK


def _not_found(tenant: str, device_id: str) -> int:
    say(f"voltgate: there is no device {device_id!r} of tenant {tenant!r}; `voltgate device ls` lists them")
    return Exit.NOT_FOUND


def _state(device: "Device") -> str:
    return "active" if device.revoked_at_ns is None else "revoked"


def _registered(device: "Device") -> dict[str, object]:
    """Return what people want to know of a registered device; of a vehicle not what only chargers have."""
    known: dict[str, object] = {"kind": device.kind, "username": device.username, "state": _state(device)}
    if device.kind == DeviceKind.CHARGER:
        known["security_profile"] = device.security_profile
        known["strictness"] = device.strictness
        known["certificate_name"] = device.certificate_name or device.username
    return {**known, "note": device.note} if device.note else known


def _password_of(path: Path) -> str:
    """Return the password of a file: text without its line end, or as they are the bytes of a binary AuthorizationKey.

    Bytes that are no text come as `surrogateescape` has them. Raises: ConfigError: It cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as exc:
        what = f"cannot be read: {exc.strerror}"
        raise ConfigError(str(path), 0, what, "give --password-file a readable file") from exc
    try:
        return content.decode("utf-8").strip()
    except UnicodeDecodeError:
        return content.decode("utf-8", "surrogateescape")

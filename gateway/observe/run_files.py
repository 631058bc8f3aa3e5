"""DATA/run: where a running process says who and where it is, for the programs beside it."""

import os
from pathlib import Path
from typing import Final

import msgspec

ADMIN_TOKEN: Final = "admin.token"  # noqa: S105 - a file name
GATEWAY: Final = "gateway.json"


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Where a running gateway is reached: the content of run/gateway.json."""

    pid: int
    mqtt_host: str
    mqtt_port: int
    ocpp_host: str
    ocpp_port: int
    ocpp_path: str
    ocpp_tls_port: int | None = None
    observe_host: str
    observe_port: int


def write_private(path: Path, content: bytes) -> None:
    """Replace a small file that only this user may read; readers see the old or the new content, never half of it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    temporary.replace(path)

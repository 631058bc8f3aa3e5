"""The file `alerts.yaml` as people write it: its keys and their types, and nothing about what they mean together."""

import re
from typing import Annotated, Final

from pydantic import Field, ValidationError

from gateway.core.errors import ConfigError
from gateway.core.limits import ESCALATIONS_MAX, HEADERS_MAX, MAINTENANCE_MAX, RECEIVERS_MAX, ROUTES_MAX
from gateway.core.text import peer_text
from processors.contracts.file import Section, nearest
from processors.contracts.places import Located, Path


class SmtpFile(Section):
    """A mail server."""

    host: str
    port: int | None = None
    username: str | None = None
    password: object = None
    tls: str = "starttls"
    sender: str = Field(alias="from")


class ReceiverFile(Section):
    """Somebody who is told; one of the first five keys says how. What may be a secret is looked at later."""

    webhook: object = None
    slack: object = None
    teams: object = None
    pagerduty: object = None
    email: list[str] | None = None
    secret: object = None
    old_secret: object = None
    headers: Annotated[dict[str, object], Field(max_length=HEADERS_MAX)] | None = None
    url: str | None = None
    smtp: SmtpFile | None = None
    allow_private: list[str] | None = None
    insecure: bool | None = None
    rate_per_minute: int | float | None = None
    timeout: str | None = None


class RouteFile(Section):
    """Which alerts go to whom."""

    match: list[str] = Field(default_factory=list)
    to: list[str]
    group_by: list[str] | None = None
    wait: str = "30 s"
    interval: str = "5 min"
    repeat: str = "4 h"
    goes_on: bool = Field(default=False, alias="continue")


class EscalationFile(Section):
    """Who is told as well when nobody acknowledges."""

    match: list[str] = Field(default_factory=list)
    after: str
    to: list[str]
    group_by: list[str] | None = None
    interval: str = "5 min"


class MaintenanceFile(Section):
    """When nobody is told."""

    match: list[str] = Field(default_factory=list)
    days: list[str] | None = None
    begins: str = Field(alias="from")
    until: str
    zone: str = "UTC"
    why: str = ""


class AlertsFile(Section):
    """All of it. `rules` is read with the contracts."""

    rules: object = None
    receivers: Annotated[dict[str, ReceiverFile], Field(max_length=RECEIVERS_MAX, default_factory=dict)]
    routes: Annotated[list[RouteFile], Field(max_length=ROUTES_MAX, default_factory=list)]
    escalations: Annotated[list[EscalationFile], Field(max_length=ESCALATIONS_MAX, default_factory=list)]
    maintenance: Annotated[list[MaintenanceFile], Field(max_length=MAINTENANCE_MAX, default_factory=list)]


_SECTIONS: Final[dict[Path, type[Section]]] = {
    (): AlertsFile,
    ("receivers", "*"): ReceiverFile,
    ("receivers", "*", "smtp"): SmtpFile,
    ("routes", "*"): RouteFile,
    ("escalations", "*"): EscalationFile,
    ("maintenance", "*"): MaintenanceFile,
}


def read_alerts_file(located: Located) -> AlertsFile:
    """Return the file's content, typed; an empty file has none.

    Raises: ConfigError: A key is unknown or missing or a value has the wrong type; the topmost one in the file.
    """
    try:
        return AlertsFile.model_validate({} if located.value is None else located.value)
    except ValidationError as exc:
        # A misspelt key is both unknown and missing; the first of the two says what to do.
        errors = sorted(exc.errors(), key=lambda error: error["type"] != "extra_forbidden")
        found = [_mistake(located, error["type"], tuple(error["loc"]), error["msg"]) for error in errors]
        raise min(found, key=lambda error: error.line) from exc


def _mistake(located: Located, kind: str, path: Path, message: str) -> ConfigError:
    if kind == "extra_forbidden":
        section = _SECTIONS[path[:-1] if len(path) < 3 else (path[0], "*", *path[2:-1])]
        known = sorted(field.alias or name for name, field in section.model_fields.items())
        return located.error(path, f"unknown key '{peer_text(str(path[-1]))}'", nearest(str(path[-1]), known))
    if kind == "missing":
        return located.error(path[:-1], f"'{path[-1]}' is missing", f"add '{path[-1]}:'")
    # A union's branches are part of pydantic's path but not of the file's.
    inside = path
    while inside and not located.has(inside):
        inside = inside[:-1]
    # What is written there may be a secret in the wrong place, so only its kind is shown.
    kinds = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    shown = kinds.get(type(located.at(inside)), "nothing")
    mend = re.sub(r"valid dictionary or instance of \w+", "mapping of keys", message)
    mend = mend.replace("a valid string", "text; quote it if it looks like a number").replace("valid list", "list")
    return located.error(inside, f"{shown} is not usable here", mend[:1].lower() + mend[1:])

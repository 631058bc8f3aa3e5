"""Whether a command to a charger can be sent at all: checked before it is made durable, and again where it is sent."""

import difflib
from typing import Final

import msgspec

from gateway.core.errors import LimitExceeded, PeerError
from gateway.core.limits import (
    COMMAND_BYTES_MAX,
    COMMAND_DEVICES_MAX,
    COMMAND_EXPIRY_S_MAX,
    COMMAND_TIMEOUT_S_MAX,
)
from gateway.core.text import peer_text
from gateway.wire.ocpp.commands import COMMANDS, check
from gateway.wire.ocpp.versions import Version

_NAME_CHARS_MAX: Final = 128
"""Longest action, and longest name of who ordered it."""


def check_request(action: str, payload: bytes, *, timeout_s: float, expiry_s: float, by: str, devices: int) -> None:
    """Pass what is usable whatever charger it is for.

    Raises: PeerError: What is wrong, and what to write instead.
    """
    if not 1 <= devices <= COMMAND_DEVICES_MAX:
        raise LimitExceeded("devices", f"{devices} chargers; give 1 to {COMMAND_DEVICES_MAX}")
    if not 0 < timeout_s <= COMMAND_TIMEOUT_S_MAX:
        detail = f"timeout_s is {timeout_s:g}; give more than 0, at most {COMMAND_TIMEOUT_S_MAX:g}"
        raise PeerError("timeout_s", detail)
    if not 0 <= expiry_s <= COMMAND_EXPIRY_S_MAX:
        raise PeerError("expiry", f"expiry_s is {expiry_s:g}; give 0 to {COMMAND_EXPIRY_S_MAX:g}")
    if not (0 < len(by) <= _NAME_CHARS_MAX and by.isprintable()):
        raise PeerError("by", f"say who orders it in 'by': 1 to {_NAME_CHARS_MAX} printable characters")
    if len(payload) > COMMAND_BYTES_MAX:
        raise LimitExceeded("bytes", f"payload of {len(payload)} bytes, limit is {COMMAND_BYTES_MAX}")
    if not any(action in actions for actions in COMMANDS.values()):
        raise PeerError("unknown_action", f"no version has the command {peer_text(action)!r}; {_nearest(action)}")
    try:
        fields = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise PeerError("payload", f"the payload is no JSON: {exc}; write an object, {{}} if it is empty") from exc
    if not isinstance(fields, dict):
        raise PeerError("payload", f"the payload is {peer_text(payload, chars_max=40)}; write a JSON object")


class Misfits:
    """Why one command does not fit a version, found out once per version."""

    def __init__(self, action: str, payload: bytes) -> None:
        self._action, self._payload = action, payload
        self._found: dict[Version, PeerError | None] = {}

    def of(self, version: Version) -> PeerError | None:
        """Return why a charger of this version cannot be sent the command, or None."""
        if version not in self._found:
            self._found[version] = misfit(version, self._action, self._payload)
        return self._found[version]

    def of_all(self) -> PeerError | None:
        """Return why no charger whatever its version can be sent the command, or None."""
        found = {version: self.of(version) for version in Version}
        if any(problem is None for problem in found.values()):
            return None
        # The version that has the action says more than the ones that do not.
        return next((found[version] for version in Version if self._action in COMMANDS[version]), None)


def misfit(version: Version, action: str, payload: bytes) -> PeerError | None:
    """Return why a charger of this version cannot be sent the command, or None."""
    if action not in COMMANDS[version]:
        having = [str(other) for other, actions in COMMANDS.items() if action in actions]
        where = f"it belongs to {' and '.join(having)}" if having else "nor has any other version"
        detail = f"{version} has no command {peer_text(action)!r}, {where}; {_nearest(action, version)}"
        return PeerError("unknown_action", detail)
    violation = check(version, action, payload)
    if violation is None:
        return None
    place = violation.path or "the payload"
    detail = f"{action} of {version}: {place}: expected {violation.expected}, got {violation.got}"
    return PeerError("invalid", f"{detail}; mend the payload")


def _nearest(action: str, version: Version | None = None) -> str:
    """Return what to write instead, of one version or of any, with the versions that have it."""
    known = {name for other, actions in COMMANDS.items() if version in (None, other) for name in actions}
    close = difflib.get_close_matches(action, known, n=1)
    if not close:
        return f"write one of {', '.join(sorted(known))}"
    having = [str(other) for other, actions in COMMANDS.items() if close[0] in actions]
    return f"nearest is {close[0]!r} ({', '.join(having)})"

"""Who may connect: what the registry keeps about a device and what a listener needs to know of it."""

from enum import StrEnum
from typing import Final, Literal

import msgspec

from gateway.core.ids import DeviceId, TenantId
from gateway.core.limits import IDENTITY_BYTES_MAX

_FORBIDDEN: Final = frozenset("/+#$")
StrictnessName = Literal["strict", "lenient", "audit"]
"""What becomes of a charger's message that its schema forbids."""


class DeviceKind(StrEnum):
    """What a device is, which says how it proves itself."""

    VEHICLE = "vehicle"
    CHARGER = "charger"


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """One device and how it proves itself.

    Attributes:
        tenant: Owner of the device.
        device_id: Unique within the tenant.
        username: What a vehicle sends in CONNECT, a charger in its URL and as its user name; unique in the registry.
        password_hash: argon2id in the PHC string format, never the password; empty where the device has none.
        revoked_at_ns: When it lost its right to connect, or None.
        kind: Vehicle or charger.
        security_profile: A charger's OCPP security profile, 0 to 3; None for a vehicle.
        strictness: A charger's own strictness, or None for the default of the settings.
        certificate_name: Common name (CN) of a charger's certificate, or None for its username.
    """

    tenant: TenantId
    device_id: DeviceId
    username: str
    password_hash: str
    revoked_at_ns: int | None
    kind: DeviceKind = DeviceKind.VEHICLE
    security_profile: int | None = None
    strictness: StrictnessName | None = None
    certificate_name: str | None = None


def identity_problem(text: str) -> str | None:
    """Return why `text` cannot be a tenant, device id or username, or None when it can.

    It becomes a level of a topic and a value in every row, so the characters that mean something to MQTT (section 4.7)
    and the ones that do not print are out.
    """
    size_bytes = len(text.encode("utf-8", "surrogatepass"))
    if not text:
        return "is empty"
    if size_bytes > IDENTITY_BYTES_MAX:
        return f"is {size_bytes} bytes, limit is {IDENTITY_BYTES_MAX}"
    if bad := sorted({c for c in text if c in _FORBIDDEN or not c.isprintable()}):
        return f"contains {', '.join(repr(c) for c in bad[:5])}; / + # $ and control characters are not allowed"
    return None

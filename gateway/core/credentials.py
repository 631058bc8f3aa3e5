"""Who may connect: what the registry keeps about a device and what a listener needs to know of it."""

from typing import Final

import msgspec

from gateway.core.ids import DeviceId, TenantId
from gateway.core.limits import IDENTITY_BYTES_MAX

_FORBIDDEN: Final = frozenset("/+#$")


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """One device and how it proves itself.

    Attributes:
        tenant: Owner of the device.
        device_id: Unique within the tenant.
        username: What the device sends in CONNECT; unique in the registry.
        password_hash: argon2id in the PHC string format; never the password.
        revoked_at_ns: When it lost its right to connect, or None.
    """

    tenant: TenantId
    device_id: DeviceId
    username: str
    password_hash: str
    revoked_at_ns: int | None


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

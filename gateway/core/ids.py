"""Identifiers that must not be mixed up with other text or numbers."""

from typing import NewType

TenantId = NewType("TenantId", str)
DeviceId = NewType("DeviceId", str)
Channel = NewType("Channel", str)
"""What a device says on: `telemetry`, `battery`, `event`, the last levels of its topic."""

Offset = NewType("Offset", int)
"""Position of one envelope in a journal: 0, 1, 2 ... without gaps, never used twice."""

"""The versions of OCPP that are spoken, by the name of their WebSocket sub-protocol."""

from collections.abc import Sequence
from enum import StrEnum


class Version(StrEnum):
    """One version; the value is the sub-protocol and the first level of the journal's channel."""

    V16 = "ocpp1.6"
    V201 = "ocpp2.0.1"
    V21 = "ocpp2.1"


def choose(offered: Sequence[str]) -> Version | None:
    """Return the first of the offered sub-protocols that we speak, or None.

    The station's order counts (RFC 6455 section 1.9: in order of preference), so that a station which can speak two
    versions gets the one that its maker trusts. Sub-protocol names are compared exactly.
    """
    return next((Version(name) for name in offered if name in _NAMES), None)


_NAMES = frozenset(version.value for version in Version)

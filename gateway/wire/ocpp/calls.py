"""What there is to know about each call that a station may make, looked up once per version and not per message."""

from collections.abc import Mapping
from functools import cache

import msgspec

from gateway.core.ids import Channel
from gateway.wire.ocpp.actions import FROM_STATION
from gateway.wire.ocpp.answers import READ
from gateway.wire.ocpp.plain import PlainCalls
from gateway.wire.ocpp.schemas import Schemas, Validator
from gateway.wire.ocpp.versions import Version


class StationCall(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A call that a station may make.

    Attributes:
        name: Its action.
        channel: Where it is journalled.
        validator: Its schema.
        is_boot: Whether it is the BootNotification.
        is_kept: Whether it is journalled; a Heartbeat is not.
    """

    name: str
    channel: Channel
    validator: Validator
    is_boot: bool
    is_kept: bool


@cache
def calls_of(version: Version) -> Mapping[str, StationCall]:
    """Return every call that a station may make, by action."""
    schemas = Schemas.of(version)
    return {
        name: StationCall(
            name=name,
            channel=Channel(f"{version}/{name}"),
            validator=schemas.request(name),
            is_boot=name == "BootNotification",
            is_kept=name != "Heartbeat",
        )
        for name in FROM_STATION[version]
    }


@cache
def plain_calls(version: Version) -> PlainCalls:
    """Return what reads most calls in one pass; those whose answer depends on their fields are left to `parse`."""
    schemas = Schemas.of(version)
    return PlainCalls({name: schemas.request(name).schema for name in FROM_STATION[version]}, without=READ)

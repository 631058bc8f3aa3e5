"""A message before it is sent: the reading, its bytes, and what must become of it."""

import json
from typing import Literal

import msgpack
import msgspec

from simulators.truth import ONE_ROW, Outcome

Encoding = Literal["json", "msgpack"]

Reading = dict[str, object]
"""Payload keys and values, `ts` first."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What a device is about to publish.

    Attributes:
        channel: Last level of the topic.
        encoding: Of `reading`.
        reading: What it says.
        payload: The bytes; faults may have made them differ from `reading`.
        outcome: What it must become.
        faults: Names of the faults that were put into it.
    """

    channel: str
    encoding: Encoding
    reading: Reading
    payload: bytes
    outcome: Outcome = ONE_ROW
    faults: tuple[str, ...] = ()


def encode(reading: Reading, encoding: Encoding) -> bytes:
    """Return the payload of a reading, by encoders that the gateway does not use."""
    if encoding == "json":
        return json.dumps(reading, separators=(",", ":"), ensure_ascii=False).encode()
    packed: bytes = msgpack.packb(reading)
    return packed


def message(channel: str, reading: Reading, encoding: Encoding) -> Message:
    """Return an honest message."""
    return Message(channel=channel, encoding=encoding, reading=reading, payload=encode(reading, encoding))

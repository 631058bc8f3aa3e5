"""A file of every message whose acknowledgement was received: what the crash oracle holds a server to.

One JSON line `{"format": ..., "devices": [...]}`, then records of 28 bytes: device index (u32), sequence number (u64),
digest of the payload (16 bytes), little endian. Append-only: a torn last record is the only damage a kill can do, and
readers skip it.
"""

import json
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

_FORMAT = "voltgate-acknowledged-1"
_RECORD = struct.Struct("<IQ16s")
_BUFFER_BYTES_MAX = 64 * 1024
FLUSH_S = 0.02

DIGEST_BYTES = 16


class Acknowledged(NamedTuple):
    """One acknowledged message."""

    device_id: str
    seq: int
    digest: bytes


def payload_digest(payload: bytes) -> bytes:
    """Return 16 bytes that stand for the payload: BLAKE2b, so that two payloads never share them."""
    return blake2b(payload, digest_size=DIGEST_BYTES).digest()


class AcknowledgedFile:
    """Writes the file; a record waits no longer than `FLUSH_S` for the next one, and after the last one for `flush`.

    Args:
        path: File to create; an existing one is replaced.
        device_ids: All devices of the run; records refer to them by position.
        now_s: Monotonic clock.
    """

    def __init__(self, path: Path, device_ids: Sequence[str], *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s, self._flushed_at_s = now_s, now_s()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        header = json.dumps({"format": _FORMAT, "devices": list(device_ids)}, separators=(",", ":"))
        self._buffer = bytearray(header.encode() + b"\n")
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def add(self, device_index: int, first_seq: int, payloads: Iterable[bytes]) -> None:
        """Note that the device's messages `first_seq`, `first_seq + 1` ... were acknowledged."""
        for seq, payload in enumerate(payloads, first_seq):
            self._buffer += _RECORD.pack(device_index, seq, payload_digest(payload))
        if len(self._buffer) >= _BUFFER_BYTES_MAX or self._now_s() - self._flushed_at_s >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Hand everything to the kernel; it survives this process, though not a power loss."""
        while self._buffer:
            written = os.write(self._descriptor, self._buffer)
            del self._buffer[:written]
        self._flushed_at_s = self._now_s()

    def close(self) -> None:
        """Flush and close; repeating it does nothing."""
        if self._descriptor >= 0:
            self.flush()
            os.close(self._descriptor)
            self._descriptor = -1


def read_acknowledged(path: Path) -> Iterator[Acknowledged]:
    """Yield the records in the order they were acknowledged, in bounded memory; a torn last record is left out.

    Raises: ValueError: The file is not of this format.
    """
    with path.open("rb") as file:
        try:
            header = json.loads(file.readline())
        except ValueError as exc:
            raise ValueError(f"{path} has no header line; it was not written by `simulate load`") from exc
        if not isinstance(header, dict) or header.get("format") != _FORMAT:
            raise ValueError(f"{path} is not in the format {_FORMAT!r}")
        devices = header["devices"]
        while len(record := file.read(_RECORD.size)) == _RECORD.size:
            index, seq, digest = _RECORD.unpack(record)
            yield Acknowledged(devices[index], seq, digest)

"""When certificates begin and end; Python's `ssl` tells that only of a peer's.

Reads just so much of the encoding (X.690, DER) as stands before the validity of an X.509 certificate. Pure.
"""

import base64
import ssl
from collections.abc import Iterator
from datetime import datetime


def validity(pem: str) -> tuple[float, float]:
    """Return from when to when the first certificate of a file is valid, in seconds since 1970.

    Raises: ValueError, IndexError: There is none.

    RFC 5280 section 4.1: Certificate { TBSCertificate { [0] version, serialNumber, signature, issuer, Validity ...
    """
    begin, end = ssl.PEM_HEADER, ssl.PEM_FOOTER
    if begin not in pem or end not in pem:
        raise ValueError(f"there is no {begin} in it")
    der = base64.b64decode(pem.split(begin, 1)[1].split(end, 1)[0])
    ((_, whole), *_) = _elements(der)
    ((_, signed), *_) = _elements(whole)
    parts = [content for tag, content in _elements(signed) if tag != 0xA0]
    times = [_time_s(tag, content) for tag, content in _elements(parts[3])]
    return times[0], times[1]


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each element of DER."""
    position = 0
    while position < len(der):
        tag, size, position = der[position], der[position + 1], position + 2
        if size & 0x80:
            count = size & 0x7F
            size, position = int.from_bytes(der[position : position + count], "big"), position + count
        yield tag, der[position : position + size]
        position += size


def _time_s(tag: int, content: bytes) -> float:
    text = content.decode("ascii")
    if tag == 0x17:  # UTCTime: years 1950 to 2049
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    return datetime.strptime(f"{text[:14]}+0000", "%Y%m%d%H%M%S%z").timestamp()

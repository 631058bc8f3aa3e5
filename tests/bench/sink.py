"""A server that counts QoS 1 messages and acknowledges them, nothing else: what the generator reaches alone.

python -m tests.bench.sink PORT
"""

import asyncio
import sys
from typing import Final, cast

import uvloop

CONNECT, PUBLISH, PINGREQ = 1, 3, 12
CONNACK: Final = b"\x20\x02\x00\x00"
PINGRESP: Final = b"\xd0\x00"


def answer(data: bytes) -> tuple[bytes, bytes]:
    """Return the answers to the whole packets in `data`, and the rest. QoS 1 is taken for granted."""
    answers = []
    at, end = 0, len(data)
    while at + 2 <= end:
        length, shift, body = data[at + 1], 7, at + 2
        if length & 0x80:
            length &= 0x7F
            while body < end:
                digit = data[body]
                body += 1
                length |= (digit & 0x7F) << shift
                shift += 7
                if not digit & 0x80:
                    break
            else:
                break
        if body + length > end:
            break
        kind = data[at] >> 4
        if kind == PUBLISH:
            packet_id_at = body + 2 + (data[body] << 8 | data[body + 1])
            answers.append(b"\x40\x02" + data[packet_id_at : packet_id_at + 2])
        elif kind == CONNECT:
            answers.append(CONNACK)
        elif kind == PINGREQ:
            answers.append(PINGRESP)
        at = body + length
    return b"".join(answers), data[at:]


class Sink(asyncio.Protocol):
    """One connection."""

    _rest = b""
    _transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        """Acknowledge whatever is whole."""
        answers, self._rest = answer(self._rest + data)
        if answers:
            self._transport.write(answers)


async def serve(port: int) -> None:
    """Accept until cancelled."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))

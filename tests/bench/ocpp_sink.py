"""A server that answers every text frame with one constant CALLRESULT, nothing else: what the generator reaches alone.

python -m tests.bench.ocpp_sink PORT
"""

import asyncio
import sys
from typing import Final, cast

import uvloop
from websockets.utils import accept_key

ANSWER: Final = b'\x81\x0f[3,"any-id",{}]'


def accept(request: bytes) -> bytes:
    """Return the answer to an opening handshake."""
    headers = {line.split(": ", 1)[0].lower(): line.split(": ", 1)[1] for line in request.decode().split("\r\n")[1:-2]}
    lines = (
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_key(headers['sec-websocket-key'])}",
        f"Sec-WebSocket-Protocol: {headers['sec-websocket-protocol']}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Sink(asyncio.Protocol):
    """One connection with one outstanding call: what arrives is taken for the handshake, then for one frame each."""

    _is_open = False
    _transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        """Answer."""
        self._transport.write(ANSWER if self._is_open else accept(data))
        self._is_open = True


async def serve(port: int) -> None:
    """Accept until cancelled."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))

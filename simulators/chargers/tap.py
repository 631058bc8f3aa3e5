"""What lies between the socket and the `ocpp` package: notes what leaves, and what is not for the package."""

import asyncio
import json
from typing import Any

from websockets.asyncio.client import ClientConnection


class Tap:
    """What the `ocpp` package takes for a connection: notes what leaves, and keeps answers that are not for it."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.copies = 1
        self.frame = ""
        """The last call."""
        self.error_code: str | None = None
        """Of the last answer; None for a result."""
        self._own: dict[str, asyncio.Future[list[Any]]] = {}

    async def send(self, text: str) -> None:
        """Write a frame, a call as often as it is to be."""
        if not text.startswith("[2,"):
            await self.socket.send(text)
            return
        self.frame, copies, self.copies = text, self.copies, 1
        for _ in range(copies):
            await self.socket.send(text)

    async def recv(self) -> str:
        """Return the next frame that is for the package."""
        while True:
            frame = await self.socket.recv()
            text = frame if isinstance(frame, str) else frame.decode("utf-8", "replace")
            if text.startswith(("[3", "[4")):
                answer = json.loads(text)
                self.error_code = answer[2] if answer[0] == 4 else None
                if (waiting := self._own.pop(answer[1], None)) is not None:
                    if not waiting.done():
                        waiting.set_result(answer)
                    continue
            return text

    async def exchange(self, message_id: str, frame: str, timeout_s: float) -> list[Any]:
        """Write a call of our own making and return its answer. Raises: TimeoutError: There is none."""
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._own[message_id] = answer
        try:
            await self.send(frame)
            async with asyncio.timeout(timeout_s):
                return await answer
        finally:
            self._own.pop(message_id, None)

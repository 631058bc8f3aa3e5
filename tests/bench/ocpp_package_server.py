"""The peer that most of the field builds on: websockets and the `ocpp` package, validating, keeping nothing.

    python -m tests.bench.ocpp_package_server PORT [--silent]

With `--silent` it is the websockets server alone, whose memory per connection is the peer of ours.
"""

import asyncio
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from ocpp.routing import on
from ocpp.v16 import ChargePoint, call_result
from ocpp.v16.enums import Action, RegistrationStatus
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol


def now() -> str:
    """Return the time as the package's examples write it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class CentralSystem(ChargePoint):  # type: ignore[misc]  # the package has no types
    """One station, seen from the server; payloads are validated by the package before a handler runs."""

    @on(Action.boot_notification)  # type: ignore[untyped-decorator]  # the package has no types
    def boot(self, **_: Any) -> call_result.BootNotification:
        """Accept."""
        return call_result.BootNotification(current_time=now(), interval=300, status=RegistrationStatus.accepted)

    @on(Action.heartbeat)  # type: ignore[untyped-decorator]  # the package has no types
    def heartbeat(self, **_: Any) -> call_result.Heartbeat:
        """Tell the time."""
        return call_result.Heartbeat(current_time=now())

    @on(Action.meter_values)  # type: ignore[untyped-decorator]  # the package has no types
    def meter_values(self, **_: Any) -> call_result.MeterValues:
        """Say that they came."""
        return call_result.MeterValues()

    @on(Action.status_notification)  # type: ignore[untyped-decorator]  # the package has no types
    def status(self, **_: Any) -> call_result.StatusNotification:
        """Say that it came."""
        return call_result.StatusNotification()


async def speak(connection: ServerConnection) -> None:
    """Serve one station."""
    assert connection.request is not None
    try:
        await CentralSystem(connection.request.path.rpartition("/")[2], connection).start()
    except ConnectionClosed:
        return


async def answer_boot(connection: ServerConnection) -> None:
    """Answer everything as a boot, with no more than websockets."""
    async for _ in connection:
        await connection.send(f'[3,"00000000",{{"currentTime":"{now()}","interval":300,"status":"Accepted"}}]')


async def main(port: int, *, silent: bool) -> None:
    """Serve until killed."""
    logging.getLogger("ocpp").setLevel(logging.WARNING)
    handler = answer_boot if silent else speak
    async with serve(handler, "127.0.0.1", port, subprotocols=[Subprotocol("ocpp1.6")], backlog=4096) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), silent="--silent" in sys.argv))

"""Chargers that call as fast as they are answered, or sit idle, in a process of its own beside the server it watches.

    python -m tests.bench.ocpp_load '{"port": 8887, "pid": 4242, "connections": 200, "seconds": 4, "work": "mixed"}'

Each connection is a station of OCPP 1.6 with one outstanding call, as the protocol has it. Every answer must be a
CALLRESULT: anything else ends the run with an error. Prints one JSON object at the end, a `Run`.
"""

import asyncio
import itertools
import json
import sys
import time
from typing import Final, cast

import msgspec
import uvloop

from tests.bench import ocpp_wire as wire
from tests.bench.generator import Run, Sample
from tests.bench.harness import cpu_s, raise_file_limit, rss_bytes, thread_cpu_s
from tests.bench.ocpp_wire import Template

SUBPROTOCOL: Final = "ocpp1.6"
CONNECTING_MAX: Final = 200
CONNECT_TIMEOUT_S: Final = 120.0

SAMPLES: Final = (
    ("4211730", "Energy.Active.Import.Register", "Wh", None),
    ("51420", "Power.Active.Import", "W", None),
    ("74.5", "Current.Import", "A", "L1"),
    ("74.1", "Current.Import", "A", "L2"),
    ("74.3", "Current.Import", "A", "L3"),
    ("230.4", "Voltage", "V", "L1-N"),
    ("231.0", "Voltage", "V", "L2-N"),
    ("229.8", "Voltage", "V", "L3-N"),
    ("63", "SoC", "Percent", None),
    ("31.5", "Temperature", "Celsius", None),
)


def _sampled_value(value: str, measurand: str, unit: str, phase: str | None) -> dict[str, str]:
    sample = {"value": value, "context": "Sample.Periodic", "format": "Raw", "measurand": measurand}
    return sample | ({"phase": phase} if phase else {}) | {"location": "Outlet", "unit": unit}


METER_VALUES_PAYLOAD: Final = json.dumps(
    {
        "connectorId": 1,
        "transactionId": 1,
        "meterValue": [
            {"timestamp": "2026-11-23T10:00:00.000Z", "sampledValue": [_sampled_value(*each) for each in SAMPLES]}
        ],
    },
    separators=(",", ":"),
).encode()
STATUS_PAYLOAD: Final = (
    b'{"connectorId":1,"errorCode":"NoError","status":"Charging","timestamp":"2026-11-23T10:00:00.000Z"}'
)
BOOT: Final = b'[2,"00000000","BootNotification",{"chargePointVendor":"Bench","chargePointModel":"One"}]'

HEARTBEAT: Final = Template("Heartbeat", b"{}")
METER_VALUES: Final = Template("MeterValues", METER_VALUES_PAYLOAD)
STATUS_NOTIFICATION: Final = Template("StatusNotification", STATUS_PAYLOAD)
_M, _H, _S = METER_VALUES, HEARTBEAT, STATUS_NOTIFICATION
WORK: Final = {"heartbeat": [_H], "meter_values": [_M], "mixed": [_M, _M, _H, _M, _M, _S, _M, _H, _M, _M]}
"""Calls of a station, again and again; the mix is 70 % MeterValues of ten samples, 20 % Heartbeat, 10 % status."""


class LoadConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What to do, and which process to watch.

    Attributes:
        port: OCPP port on the loopback.
        pid: Process id of the server.
        connections: Stations.
        seconds: How long to call or to hold.
        work: A key of WORK, or "idle": boot once, compressed, and stay silent.
        path: Path of the server, without the identity.
    """

    port: int
    pid: int
    connections: int
    seconds: float
    work: str
    path: str = "/ocpp"


def identity(index: int) -> str:
    """Return the identity of a station of the benchmarks."""
    return f"CP-{index:05d}"


class Tally:
    """What all stations have done; `failure` is the first thing that must not happen."""

    def __init__(self) -> None:
        self.connected = self.answered = 0
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, what: str) -> None:
        """Keep the first failure."""
        if not self.failure.done():
            self.failure.set_exception(ConnectionError(what))


class Station(asyncio.Protocol):
    """One charger: `ready` resolves when the handshake is done, or the boot answered where it is to be idle."""

    def __init__(self, config: LoadConfig, tally: Tally, index: int) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.name = identity(index)
        self._config, self._tally = config, tally
        self._numbers = itertools.count(1)
        calls = WORK.get(config.work)
        self._calls = itertools.cycle(calls[index % len(calls) :] + calls[: index % len(calls)]) if calls else None
        self._is_open = self._is_running = False
        self._rest = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        config = self._config
        self._transport.write(
            wire.upgrade(
                f"{config.path}/{self.name}", port=config.port, subprotocol=SUBPROTOCOL, deflate=self._calls is None
            )
        )

    def data_received(self, data: bytes) -> None:
        """Count the answer and send the next call."""
        # The usual case in few steps: one short whole uncompressed text frame that holds a CALLRESULT.
        if self._is_running and data[0] == 0x81 and data[1] == len(data) - 2 and data[3] == 0x33:
            self._tally.answered += 1
            self._transport.write(next(self._calls).frame(next(self._numbers)))  # type: ignore[arg-type]  # it runs
            return
        self._rest += data
        if not self._is_open:
            self._open()
        frames, self._rest = wire.split(self._rest) if self._is_open else ([], self._rest)
        for first_byte, payload in frames:
            self._receive(first_byte, payload)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail: nobody here closes."""
        self._tally.connected -= self._is_open
        self._tally.fail(f"{self.name} was disconnected: {exc}")

    def start(self) -> None:
        """Send the first call."""
        assert self._calls is not None
        self._is_running = True
        self._transport.write(next(self._calls).frame(next(self._numbers)))

    def close(self) -> None:
        """Go without a word."""
        self._transport.abort()

    def _open(self) -> None:
        response, end, self._rest = self._rest.partition(b"\r\n\r\n")
        if not end:
            self._rest = response
        elif (why := wire.refusal(response)) is not None:
            self._tally.fail(f"{self.name} was refused: {why}")
        else:
            self._is_open = True
            if self._calls is None:
                self._transport.write(wire.frame(BOOT, deflate=b"permessage-deflate" in response))
            else:
                self._set_ready()

    def _set_ready(self) -> None:
        self._tally.connected += 1
        self.ready.set_result(None)

    def _receive(self, first_byte: int, payload: bytes) -> None:
        opcode = first_byte & 0x0F
        if opcode == wire.PING:
            self._transport.write(wire.frame(payload, opcode=wire.PONG))
        elif opcode != wire.TEXT or not (text := wire.text_of(first_byte, payload)).startswith(b"[3,"):
            self._tally.fail(f"{self.name} received {first_byte:#x} {payload[:200]!r}")
        elif self._is_running:
            self._tally.answered += 1
            self._transport.write(next(self._calls).frame(next(self._numbers)))  # type: ignore[arg-type]  # it runs
        elif not self.ready.done() and text:
            self._set_ready()


async def connect(config: LoadConfig, tally: Tally) -> list[Station]:
    """Open all connections, some at a time. Raises: OSError: The server refused one."""
    loop, slots = asyncio.get_running_loop(), asyncio.Semaphore(CONNECTING_MAX)

    async def one(index: int) -> Station:
        async with slots:
            # No address is bound: with thousands of ports in use the kernel seeks a free one for milliseconds.
            _, station = await loop.create_connection(lambda: Station(config, tally, index), "127.0.0.1", config.port)
            await asyncio.wait({station.ready, tally.failure}, return_when=asyncio.FIRST_COMPLETED)
            return station

    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        stations = await asyncio.gather(*map(one, range(config.connections)))
    if tally.failure.done():
        tally.failure.result()
    return list(stations)


def sample(config: LoadConfig, tally: Tally) -> Sample:
    """Return both sides now."""
    return Sample(
        at_s=time.monotonic(),
        connected=tally.connected,
        acknowledged=tally.answered,
        server_cpu_s=cpu_s(config.pid),
        server_loop_cpu_s=thread_cpu_s(config.pid),
        server_rss_bytes=rss_bytes(config.pid),
        generator_cpu_s=time.process_time(),
    )


async def run(config: LoadConfig) -> Run:
    """Connect, call, and look at the server once a second. Raises: OSError: The server did what it must not."""
    tally = Tally()
    stations = await connect(config, tally)
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    if config.work in WORK:
        for station in stations:
            station.start()
    samples: list[Sample] = []
    while time.monotonic() - began_s < config.seconds:
        await asyncio.wait({tally.failure}, timeout=min(1.0, config.seconds))
        if tally.failure.done():
            tally.failure.result()
        samples.append(sample(config, tally))
    seconds = time.monotonic() - began_s
    result = Run(
        samples=samples,
        rate_per_s=tally.answered / seconds,
        generator_busy=(time.process_time() - began_cpu_s) / seconds,
    )
    tally.fail("the run is over")
    tally.failure.exception()
    for station in stations:
        station.close()
    return result


def main() -> int:
    """Run what the argument says."""
    config = msgspec.json.decode(sys.argv[1], type=LoadConfig)
    raise_file_limit(config.connections + 100)
    print(msgspec.json.encode(uvloop.run(run(config))).decode(), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

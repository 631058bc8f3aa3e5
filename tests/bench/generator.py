"""The load generator in a process of its own; reads the server's CPU and memory at the moment it counts.

    python -m tests.bench.generator '{"port": 1883, "pid": 4242, "connections": 200, "seconds": 4.2}'

Prints one JSON object at the end, a `Run`.
"""

import asyncio
import sys
import time

import msgspec
import uvloop

from simulators.load import LoadConfig, run_load
from simulators.target import Progress, Target
from tests.bench.harness import cpu_s, raise_file_limit, rss_bytes, thread_cpu_s


class GeneratorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What to send, and which process to watch.

    Attributes:
        port: MQTT port on the loopback.
        pid: Process id of the server.
        connections: Devices.
        seconds: How long to send or to hold.
        window: Unacknowledged messages per connection.
        idle: Connect and stay silent.
    """

    port: int
    pid: int
    connections: int
    seconds: float
    window: int = 20
    idle: bool = False


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Both sides at one moment.

    Attributes:
        at_s: Monotonic time, seconds.
        connected: Connections that are up.
        acknowledged: Messages acknowledged so far.
        server_cpu_s: CPU of all threads of the server so far.
        server_loop_cpu_s: Of that, its first thread, which runs the event loop.
        server_rss_bytes: Its resident memory.
        generator_cpu_s: CPU of this process so far.
    """

    at_s: float
    connected: int
    acknowledged: int
    server_cpu_s: float
    server_loop_cpu_s: float
    server_rss_bytes: int
    generator_cpu_s: float


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What the generator saw.

    Attributes:
        samples: Both sides, about once a second while it sent. With over 1,024 sockets always ready, libuv polls up to
            48 times before it looks at a timer, so a very fast server gets few.
        rate_per_s: Messages acknowledged per second of sending, the first second included.
        generator_busy: Share of one CPU that the generator used; near 1 it is the bottleneck.
    """

    samples: list[Sample]
    rate_per_s: float
    generator_busy: float


def main() -> int:
    """Run what the argument says."""
    config = msgspec.json.decode(sys.argv[1], type=GeneratorConfig)
    raise_file_limit(config.connections + 100)

    samples: list[Sample] = []

    def sample(progress: Progress) -> None:
        if progress.elapsed_s >= config.seconds:
            return  # waiting for the last acknowledgements, or closing: no longer what is measured
        now = Sample(
            at_s=time.monotonic(),
            connected=progress.connected,
            acknowledged=progress.acknowledged,
            server_cpu_s=cpu_s(config.pid),
            server_loop_cpu_s=thread_cpu_s(config.pid),
            server_rss_bytes=rss_bytes(config.pid),
            generator_cpu_s=time.process_time(),
        )
        samples.append(now)

    load = LoadConfig(
        target=Target(port=config.port),
        connections=config.connections,
        window=config.window,
        seconds=config.seconds,
        idle=config.idle,
    )
    summary = uvloop.run(run_load(load, stop=asyncio.Event(), on_progress=sample))
    run = Run(samples=samples, rate_per_s=summary.rate_per_s, generator_busy=summary.cpu_s / summary.seconds)
    print(msgspec.json.encode(run).decode(), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

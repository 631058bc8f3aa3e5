"""How long a person waits: from the publish of a reading that fires a rule to the webhook, beside a fleet's load.

A whole installation takes `RATE` messages a second. Meanwhile one bus after the other reports a welded contactor, which
is an alert at once, and a receiver on the loopback notes when it is told.
"""

import json
import time
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.bench.harness import Child, Workspace, percentile, python
from tests.bench.report import Row, row
from tests.installation import Installation, until
from tests.integration.receivers import SECRET, HttpReceiver
from tests.integration.test_alerts import ALERTS

NAME: Final = "alert_latency_s"
RATE: Final = 10_000
ALERTS_COUNT: Final = 200
CONNECTIONS: Final = 200
LOAD_S_MAX: Final = 600
WARM_UP_S: Final = 8.0


def measure(workspace: Workspace, *, quick: bool) -> list[Row]:
    """Return the 99th percentile, the median and the longest wait."""
    directory = workspace.fresh("alerts")
    data = directory / "data"
    data.mkdir()
    secret = directory / "secret"
    secret.write_text(SECRET)
    with HttpReceiver() as receiver:
        text = ALERTS.format(url=receiver.url(), secret=secret)
        # At once, and without the pause that spares a receiver so many alerts.
        text = text.replace("for: 2 s", "for: 0 s").replace("insecure: true", "insecure: true, rate_per_minute: 6000")
        (data / "alerts.yaml").write_text(text)
        with Installation(data, processors__commit_interval_s=5) as installation:
            command = python(
                "simulators", "load", "--port", installation.port, "--rate", RATE,
                "--connections", CONNECTIONS, "--seconds", LOAD_S_MAX,
            )  # fmt: skip
            with Child(command, log=directory / "load.log") as load:
                time.sleep(WARM_UP_S)
                began_s, begin = time.monotonic(), _end_offset(installation)
                count = ALERTS_COUNT // 10 if quick else ALERTS_COUNT
                waits_s = [_wait_s(installation.port, receiver, number) for number in range(count)]
                per_s = (_end_offset(installation) - begin) / (time.monotonic() - began_s)
                load.check()
    workspace.discard(directory)
    return [
        row(NAME, percentile(waits_s, 0.99), "s"),
        row(f"{NAME}/median", median(waits_s), "s"),
        row(f"{NAME}/longest", max(waits_s), "s"),
        row(f"{NAME}/messages_per_s", per_s, "messages/s"),
    ]


def _end_offset(installation: Installation) -> int:
    return int(installation.run_file("processors")["end_offset"])


def _wait_s(port: int, receiver: HttpReceiver, number: int) -> float:
    """Return the seconds from the publish of one bus's bad reading until the receiver has its alert."""
    name = f"bench-bus-{number}"
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for second, contactor in enumerate(("closed", "welded")):
        at = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=second)
        reading = {"ts": at.isoformat(), "contactor": contactor, "seq": second}
        began_s = time.perf_counter()
        client.publish(f"v1/default/{name}/battery", json.dumps(reading), qos=1).wait_for_publish(10)
    until(lambda: any(name.encode() in one.body for one in receiver.seen[-5:]), what=f"the alert of {name}")
    waited_s = time.perf_counter() - began_s
    client.disconnect()
    client.loop_stop()
    return waited_s

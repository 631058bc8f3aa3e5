"""How long a person waits: from the publish of a reading that fires a rule to the webhook, beside a fleet's load.

    python -m tests.bench.alerts [RATE]

A whole installation takes RATE messages a second (10,000 unless said). Meanwhile one bus after the other reports a
welded contactor under a rule without `for`, and a receiver on the loopback notes when it is told. Prints one JSON
object: messages a second, how many alerts, and the median, 99th percentile and longest wait in seconds.
"""

import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.bench.harness import percentile
from tests.installation import Installation, environment, until
from tests.integration.receivers import SECRET, HttpReceiver
from tests.integration.test_alerts import ALERTS

ALERTS_COUNT: Final = 100
CONNECTIONS: Final = 200
WARM_UP_S: Final = 8.0


def main(rate: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="voltgate-bench-") as directory, HttpReceiver() as receiver:
        data = Path(directory) / "data"
        data.mkdir()
        (Path(directory) / "secret").write_text(SECRET)
        text = ALERTS.format(url=receiver.url(), secret=Path(directory) / "secret")
        (data / "alerts.yaml").write_text(text.replace("for: 2 s", "for: 0 s"))
        with Installation(data, processors__commit_interval_s=5) as installation:
            load = subprocess.Popen(
                [sys.executable, "-m", "simulators", "load", "--port", str(installation.port), "--rate", str(rate),
                 "--connections", str(CONNECTIONS), "--seconds", "600"],
                env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                time.sleep(WARM_UP_S)
                waits_s = [wait_s(installation.port, receiver, i) for i in range(ALERTS_COUNT)]
            finally:
                load.terminate()
                load.wait(30)
    print(
        json.dumps(
            {
                "messages_per_s": rate,
                "alerts": len(waits_s),
                "p50_s": round(percentile(waits_s, 0.5), 3),
                "p99_s": round(percentile(waits_s, 0.99), 3),
                "max_s": round(max(waits_s), 3),
            }
        )
    )


def wait_s(port: int, receiver: HttpReceiver, number: int) -> float:
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


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)

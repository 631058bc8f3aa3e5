"""A notifier in a process of its own, to be killed: `python -m tests.integration.notifier_process DATA URL SECRET`."""

import sys
import threading
import time
from pathlib import Path

from pydantic import SecretStr

from gateway.journal.reader import SegmentReader
from gateway.observe.logs import make_logger
from processors.notices.config import NoticePlan, Route
from processors.notifier import Notifier
from processors.sinks.webhook_guard import Lookups
from processors.sinks.webhooks import WebhookSender
from tests.integration.receivers import webhook


def main(data: Path, url: str, secret: str) -> None:
    """Run until killed."""
    receiver = webhook(url, secrets=(SecretStr(secret),))
    route = Route(to=(receiver.name,), group_by=("device",), wait_s=0.0, interval_s=0.0, repeat_s=None)
    notifier = Notifier(
        reader=SegmentReader(data / "results"),
        path=data / "notices.sqlite",
        plan=NoticePlan(receivers={receiver.name: receiver}, routes=(route,)),
        senders={"webhook": WebhookSender(lookups=Lookups(), now_s=time.time)},
        log=make_logger(),
        now_us=lambda: time.time_ns() // 1000,
        chance=lambda: 0.01,
    )
    notifier.start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])

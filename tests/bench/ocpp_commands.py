"""One command to every charger at once: how long until the last one's outcome is durable."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.core.limits import COMMAND_WAIT_S_MAX
from gateway.core.settings import Settings
from tests.bench.harness import BenchError
from voltgate.gateway_port import call_gateway

TIMEOUT_S: Final = 60.0


def command_all(data: Path, identities: Sequence[str]) -> float:
    """Ask connected chargers for a status, wait for every outcome, and return the seconds until the last one.

    Raises: BenchError: A charger did not get its command, or accept it.
    """
    settings = Settings(data=data)
    began_s = time.monotonic()
    request = {
        "device_ids": list(identities),
        "action": "TriggerMessage",
        "payload": {"requestedMessage": "StatusNotification"},
        "by": "benchmark",
        "confirm": True,
    }
    answer = call_gateway(settings, "/charger-commands", request)
    if answer["refused"]:
        raise BenchError(f"{len(answer['refused'])} commands were refused: {next(iter(answer['refused'].values()))}")
    wanted = list(answer["request_ids"].values())
    steps: Counter[str] = Counter()
    while wanted:
        if time.monotonic() - began_s > TIMEOUT_S:
            raise BenchError(f"{len(wanted)} of {len(identities)} commands have no outcome after {TIMEOUT_S:.0f} s")
        known = call_gateway(
            settings, "/charger-commands/outcomes", {"request_ids": wanted, "wait_s": COMMAND_WAIT_S_MAX}
        )
        steps.update(outcome["outcome"] for outcome in known["outcomes"].values())
        wanted = [request_id for request_id in wanted if request_id not in known["outcomes"]]
    took_s = time.monotonic() - began_s
    if {"accepted": len(identities)} != steps:
        raise BenchError(f"of {len(identities)} commands not all were accepted: {dict(steps)}")
    return took_s

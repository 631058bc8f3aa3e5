"""The latest outcomes of commands to chargers, and who waits for one. In memory, bounded; the journal has them all."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.core.command_records import Outcome
from gateway.core.limits import OUTCOMES_KEPT_BYTES_MAX, OUTCOMES_KEPT_MAX

_OVERHEAD_BYTES: Final = 512
"""What a kept outcome costs besides its answer; counts against `OUTCOMES_KEPT_BYTES_MAX`."""


class CommandOutcomes:
    """Outcomes by request id, the oldest forgotten first. All calls on the event loop."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Outcome] = OrderedDict()
        self._bytes = 0
        self._waiters: dict[asyncio.Future[None], set[str]] = {}

    def settle(self, request_id: str, outcome: Outcome) -> None:
        """Keep an outcome that is durable, and wake who waits for it."""
        self._kept[request_id] = outcome
        self._bytes += _cost_bytes(outcome)
        while len(self._kept) > OUTCOMES_KEPT_MAX or self._bytes > OUTCOMES_KEPT_BYTES_MAX:
            self._bytes -= _cost_bytes(self._kept.popitem(last=False)[1])
        for waiter, missing in self._waiters.items():
            missing.discard(request_id)
            if not missing and not waiter.done():
                waiter.set_result(None)

    def known(self, request_ids: Iterable[str]) -> dict[str, Outcome]:
        """Return the outcomes kept among these."""
        kept = self._kept
        return {request_id: kept[request_id] for request_id in request_ids if request_id in kept}

    async def wait(self, request_ids: Sequence[str], wait_s: float) -> None:
        """Wait until all of these open commands have an outcome, at most `wait_s` seconds."""
        missing = {request_id for request_id in request_ids if request_id not in self._kept}
        if not missing or wait_s <= 0:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = missing
        try:
            await asyncio.wait([waiter], timeout=wait_s)
        finally:
            del self._waiters[waiter]


def _cost_bytes(outcome: Outcome) -> int:
    return len(outcome.event.answer) + len(outcome.event.detail) + _OVERHEAD_BYTES

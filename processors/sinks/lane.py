"""One receiver's own queue and worker, so that a receiver that is slow, down or busy holds up nobody else.

Owns when a message is tried: in order within its order key, at the receiver's rate, not while its circuit is open, at
most a few at once. The queue itself is the outbox; nothing but what is under way is in memory.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol, TypeVar

from gateway.core.limits import NOTICE_DOUBTS_MAX, NOTICES_IN_FLIGHT_MAX
from gateway.observe.logs import Logger
from processors.notices.config import Receiver
from processors.sinks.outbox import Outbox
from processors.sinks.outbox_schema import Delivery
from processors.sinks.outcome import Outcome
from processors.sinks.pace import Circuit, CircuitState, Rate, retry_pause_s

T = TypeVar("T")
IDLE_S: Final = 60.0
"""A lane without anything to send looks this often by itself; new deliveries wake it at once."""
_US: Final = 1_000_000
_LEVELS: Final[dict[CircuitState, int]] = {"closed": 0, "half-open": 1, "open": 2}
_DISABLED: Final = 3


class Sender(Protocol):
    """Delivers one message. `WebhookSender` and `MailSender` are two."""

    async def send(self, delivery: Delivery, receiver: Receiver) -> Outcome:
        """Try once, in bounded time; may be cancelled. Never raises for what a receiver does."""
        ...


class Store(Protocol):
    """Runs calls on the outbox, in its thread."""

    async def __call__(self, call: Callable[[Outbox], T]) -> T:
        """Return what the call returns, after as many tries as the disk needs. Raises: Stopping."""
        ...


class Stopping(Exception):
    """The notifier ends, and what was asked of the store was not done."""


class Lane:
    """Sends to one receiver. All calls on one event loop.

    Args:
        receiver: Whom.
        sender: How.
        store: Access to the outbox.
        now_us: UTC microseconds.
        chance: Returns a number in [0, 1), for the jitter of pauses.
        log: Diagnostics.
        sent: Called with each delivery that was taken and the time.
    """

    def __init__(
        self,
        receiver: Receiver,
        *,
        sender: Sender,
        store: Store,
        now_us: Callable[[], int],
        chance: Callable[[], float],
        log: Logger,
        sent: Callable[[Delivery, int], None],
    ) -> None:
        self.receiver = receiver
        self.disabled: str | None = None
        self.last_error: str | None = None
        self.counts: dict[str, int] = {}
        self._sender, self._store, self._now_us, self._chance = sender, store, now_us, chance
        self._log, self._sent = log, sent
        self._loop = asyncio.get_running_loop()
        self._busy = 0
        self._wake = asyncio.Event()
        self._is_stopping = False
        self._under_way: set[asyncio.Timeout] = set()
        self._rate = Rate(per_minute=receiver.rate_per_minute, now_s=self._now_s())
        self._circuit = Circuit()

    @property
    def level(self) -> int:
        """How freely messages go: 0 all, 1 one to ask, 2 none for a while, 3 none until a retry or a reload."""
        return _DISABLED if self.disabled else _LEVELS[self._circuit.state(self._loop.time())]

    @property
    def is_sending(self) -> bool:
        """Whether something is under way, or its end is being stored."""
        return self._busy > 0

    async def run(self) -> None:
        """Send what is due until `stop`."""
        with suppress(Stopping):
            while not self._is_stopping:
                self._wake.clear()
                pause_s = await self._round()
                if pause_s > 0 and not self._is_stopping:
                    await self._sleep(min(pause_s, IDLE_S))

    def wake(self) -> None:
        """Look at once whether something is due."""
        self._wake.set()

    def stop(self) -> None:
        """Begin nothing more; `run` returns once what is under way has ended."""
        self._is_stopping = True
        self._wake.set()

    def abandon(self) -> None:
        """End what is under way; it stays queued and goes again, under the same id."""
        for scope in self._under_way:
            scope.reschedule(self._now_s())

    async def _round(self) -> float:
        """Send once what may be sent now; return the seconds after which something may be due again."""
        now_s = self._now_s()
        wait_s = IDLE_S if self.disabled else max(self._circuit.wait_s(now_s), self._rate.wait_s(now_s))
        if wait_s > 0:
            return wait_s
        is_probe = self._circuit.state(now_s) != "closed"
        limit = 1 if is_probe else min(NOTICES_IN_FLIGHT_MAX, self._rate.available(now_s))
        name = self.receiver.name
        due = await self._store(lambda outbox: outbox.due(name, self._now_us(), limit=max(1, limit)))
        if not due:
            next_at_us = await self._store(lambda outbox: outbox.next_at_us(name))
            return IDLE_S if next_at_us is None else max(0.001, (next_at_us - self._now_us()) / _US)
        self._busy = len(due)
        try:
            async with asyncio.TaskGroup() as group:
                for delivery in due:
                    self._rate.take(now_s)
                    group.create_task(self._try_unless_stopping(delivery), name=f"send {delivery.delivery_id}")
        finally:
            self._busy = 0
        return 0.0

    async def _try_unless_stopping(self, delivery: Delivery) -> None:
        with suppress(Stopping):
            await self._try(delivery)

    async def _try(self, delivery: Delivery) -> None:
        if delivery.kind != self.receiver.kind:
            what = f"was made for a receiver of kind {delivery.kind}, which is {self.receiver.kind} now"
            await self._record(delivery, Outcome(verdict="refused", why=what))
            return
        try:
            async with asyncio.timeout(None) as scope:
                self._under_way.add(scope)
                try:
                    outcome = await self._sender.send(delivery, self.receiver)
                finally:
                    self._under_way.discard(scope)
        except TimeoutError:
            return  # abandoned
        await self._record(delivery, outcome)

    async def _record(self, delivery: Delivery, outcome: Outcome) -> None:
        """Store what became of a try, before anything else is tried."""
        now_us, now_s = self._now_us(), self._now_s()
        message_id, why, status = delivery.delivery_id, outcome.why or "", outcome.status
        if outcome.verdict == "done":
            await self._store(lambda outbox: outbox.sent(message_id, now_us, status=status, note=outcome.why))
            self._count("sent")
            self._sent(delivery, now_us)
            if self._circuit.succeeded():
                self._log.info("receiver_answers_again", receiver=self.receiver.name)
                await self._store(lambda outbox: outbox.hasten(self.receiver.name, now_us))
            return
        self.last_error = why
        if outcome.verdict == "retry":
            self._note_failure(now_s, why)
            if outcome.after_s:
                self._circuit.pause(now_s + outcome.after_s)
        is_doubt = outcome.verdict == "doubt"
        if outcome.verdict == "retry" or (is_doubt and delivery.doubts + 1 < NOTICE_DOUBTS_MAX):
            pause_s = retry_pause_s(delivery.attempts + 1, outcome.after_s, self._chance)
            next_at_us = now_us + int(pause_s * _US)
            await self._store(
                lambda outbox: outbox.failed(
                    message_id, next_at_us=next_at_us, error=why, status=status, is_doubt=is_doubt
                )
            )
            self._count("failed")
            return
        disable = self.receiver.name if outcome.verdict == "gone" else ""
        if disable:
            self.disabled = why
        await self._store(lambda outbox: outbox.dead(message_id, now_us, error=why, status=status, disable=disable))
        self._count("dead")
        self._log.error("notice_dead", receiver=self.receiver.name, delivery=message_id, detail=why)

    def _note_failure(self, now_s: float, why: str) -> None:
        if self._circuit.failed(now_s):
            self._log.error("receiver_left_alone", receiver=self.receiver.name, detail=why)

    def _count(self, outcome: str) -> None:
        self.counts[outcome] = self.counts.get(outcome, 0) + 1

    async def _sleep(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self._wake.wait()
        except TimeoutError:
            return

    def _now_s(self) -> float:
        return self._loop.time()

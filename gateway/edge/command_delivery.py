"""The connections of chargers and their queues: one command at a time goes out, each ends once.

Takes commands that are durable and reports outcomes that are not yet; knows nothing of submissions and of who waits.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from gateway.core.command_records import CommandEvent, CommandStep, ConnectedCharger
from gateway.core.errors import PeerError
from gateway.core.limits import LATE_ANSWERS_MAX
from gateway.core.ports import Counter
from gateway.edge.command_checks import misfit
from gateway.edge.command_steps import CallLater, Key, OpenCommand, StepRecorder
from gateway.edge.station import Station
from gateway.wire.ocpp.commands import CommandOutcome

_NS: Final = 1_000_000_000


class _Charger:
    """The connection of one charger and its open commands.

    Attributes:
        submitting: Commands that hold a place and are not in the queue yet.
    """

    __slots__ = ("connected_at_ns", "sent", "station", "submitting", "waiting")

    def __init__(self) -> None:
        self.station: Station | None = None
        self.connected_at_ns = 0
        self.waiting: dict[str, OpenCommand] = {}
        self.sent: OpenCommand | None = None
        self.submitting = 0

    @property
    def commands(self) -> int:
        return self.submitting + len(self.waiting) + (self.sent is not None)


class CommandDelivery:
    """Chargers that are connected or have open commands. All calls on the event loop.

    Args:
        recorder: Writes what happens.
        now_ns: UTC nanoseconds.
        count: Counts steps by name, and `unmatched` answers.
        call_later: Runs a callback after so many seconds.
    """

    def __init__(
        self, *, recorder: StepRecorder, now_ns: Callable[[], int], count: Counter, call_later: CallLater
    ) -> None:
        self._recorder, self._now_ns, self._count, self._call_later = recorder, now_ns, count, call_later
        self._chargers: dict[Key, _Charger] = {}
        self._timed_out: OrderedDict[str, OpenCommand] = OrderedDict()

    def station(self, key: Key) -> Station | None:
        """Return the charger's connection, or None."""
        charger = self._chargers.get(key)
        return None if charger is None else charger.station

    def commands(self, key: Key) -> int:
        """Return how many open commands the charger has, those with a reserved place too."""
        charger = self._chargers.get(key)
        return 0 if charger is None else charger.commands

    def connected_chargers(self) -> list[ConnectedCharger]:
        """Return who is connected."""
        return [
            ConnectedCharger(
                tenant=station.tenant,
                device_id=station.device_id,
                version=station.version,
                generation=station.generation,
                address=station.address,
                connected_at_ns=charger.connected_at_ns,
            )
            for charger in self._chargers.values()
            if (station := charger.station) is not None
        ]

    # ---- commands come -----------------------------------------------------------------------------------------------
    def reserve(self, key: Key) -> None:
        """Hold a place in the charger's queue."""
        self._chargers.setdefault(key, _Charger()).submitting += 1

    def give_up(self, key: Key) -> None:
        """Take a reserved place back."""
        self._chargers[key].submitting -= 1
        self._forget_idle(key)

    def start(self, command: OpenCommand) -> None:
        """Put a command in its reserved place, and send it if it is its turn."""
        charger = self._chargers[command.key]
        charger.submitting -= 1
        if command.stored.is_redeliverable or (charger.station is command.issued_to is not None):
            self._enqueue(charger, command)
            self._deliver(charger)
        elif command.issued_to is None:
            self._close(command, CommandEvent(CommandStep.OFFLINE, detail="the charger is not connected"))
        else:
            detail = "the connection ended before it was sent"
            self._close(command, CommandEvent(CommandStep.DISCONNECTED, detail=detail))

    def resume(self, command: OpenCommand) -> bool:
        """Go on with a command that an earlier gateway left without an outcome, and return whether it waits.

        It holds a reserved place.
        """
        charger = self._chargers[command.key]
        charger.submitting -= 1
        if not command.stored.is_redeliverable:
            self._close(command, CommandEvent(CommandStep.DISCONNECTED, detail="the gateway restarted"))
        elif self._now_ns() >= command.stored.expires_at_ns:
            self._expire(command)
        else:
            self._enqueue(charger, command)
        return command.request_id in charger.waiting

    # ---- connections come, go and answer -----------------------------------------------------------------------------
    def connected(self, station: Station) -> None:
        """Take note of a connection that can be sent CALLs; what waits for its charger is sent from now on."""
        key = (station.tenant, station.device_id)
        charger = self._chargers.setdefault(key, _Charger())
        if charger.station is not None:
            self._release(charger, charger.station)
            self._chargers[key] = charger  # in case there was nothing left to remember
        charger.station, charger.connected_at_ns = station, self._now_ns()
        self._deliver(charger)

    def disconnected(self, station: Station) -> None:
        """Take note that a connection ended. Safe to repeat, and for one whose successor is there already."""
        key = (station.tenant, station.device_id)
        charger = self._chargers.get(key)
        if charger is not None and charger.station is station:
            self._release(charger, station)
            self._forget_idle(key)

    def answered(self, station: Station, message_id: str, outcome: CommandOutcome) -> None:
        """Take the charger's answer to a CALL of ours, also one that comes too late."""
        charger = self._chargers.get((station.tenant, station.device_id))
        if charger is None or charger.station is not station:
            self._count("unmatched")
            return
        sent = charger.sent
        event = _event(
            CommandStep(outcome.status), station, outcome.detail, answer=outcome.answer, error_code=outcome.error_code
        )
        if sent is not None and sent.request_id == message_id:
            self._close(sent, event)
        elif (late := self._timed_out.pop(message_id, None)) is not None:
            self._count(CommandStep.LATE)
            detail = ": ".join(["after the time-out", event.step, *([event.detail] if event.detail else [])])
            self._recorder.record(late, msgspec.structs.replace(event, step=CommandStep.LATE, detail=detail))
        else:
            self._count("unmatched")
        self._deliver(charger)

    def _release(self, charger: _Charger, station: Station) -> None:
        """Take the connection away: each of its commands waits for another one, or ends."""
        commands = list(charger.waiting.values()) if charger.sent is None else [charger.sent, *charger.waiting.values()]
        sent = charger.sent
        charger.station, charger.sent, charger.waiting = None, None, {}
        for command in commands:
            command.stop_timer()
            if command.stored.is_redeliverable:
                self._enqueue(charger, command)
        for command in commands:
            if command.stored.is_redeliverable:
                continue
            if command is sent:
                event = _event(CommandStep.DISCONNECTED, station, "the connection ended before it was answered")
            else:
                event = CommandEvent(CommandStep.DISCONNECTED, detail="the connection ended before it was sent")
            self._close(command, event)

    # ---- one command -------------------------------------------------------------------------------------------------
    def _enqueue(self, charger: _Charger, command: OpenCommand) -> None:
        charger.waiting[command.request_id] = command
        delay_s = max(0.0, (command.stored.expires_at_ns - self._now_ns()) / _NS)
        command.timer = self._call_later(delay_s, partial(self._expire, command))

    def _deliver(self, charger: _Charger) -> None:
        """Send the charger its next command, if it has none to answer."""
        while charger.waiting and charger.sent is None:
            station = charger.station
            if station is None or station.is_calling:
                return
            command = next(iter(charger.waiting.values()))
            if self._now_ns() >= command.stored.expires_at_ns:
                self._expire(command)
            elif problem := self._misfit(command, station):
                event = _event(CommandStep.REFUSED, station, problem.detail, error_code=problem.reason)
                self._close(command, event)
            else:
                self._send(charger, station, command)

    def _misfit(self, command: OpenCommand, station: Station) -> PeerError | None:
        if command.fits == station.version:
            return None
        return misfit(station.version, command.stored.action, command.stored.payload)

    def _send(self, charger: _Charger, station: Station, command: OpenCommand) -> None:
        del charger.waiting[command.request_id]
        command.stop_timer()
        charger.sent = command
        command.timer = self._call_later(command.stored.timeout_s, partial(self._time_out, command, station))
        self._count(CommandStep.SENT)
        self._recorder.record(command, _event(CommandStep.SENT, station))
        station.call(command.request_id, command.stored.action, command.stored.payload)

    def _expire(self, command: OpenCommand) -> None:
        is_offline = self.station(command.key) is None
        detail = "the charger did not connect in time" if is_offline else "other commands took the charger's time"
        self._close(command, CommandEvent(CommandStep.EXPIRED, detail=detail))

    def _time_out(self, command: OpenCommand, station: Station) -> None:
        charger = self._chargers[command.key]
        # Without its payload, which nobody needs again and which would make this a second queue.
        stored = msgspec.structs.replace(command.stored, payload=b"")
        self._timed_out[command.request_id] = msgspec.structs.replace(command, stored=stored, timer=None)
        while len(self._timed_out) > LATE_ANSWERS_MAX:
            self._timed_out.popitem(last=False)
        station.abandon_call()
        self._close(command, _event(CommandStep.TIMEOUT, station, f"no answer within {command.stored.timeout_s:g} s"))
        self._deliver(charger)

    def _close(self, command: OpenCommand, outcome: CommandEvent) -> None:
        """Write the outcome down; whoever waits sees it once it is durable."""
        command.stop_timer()
        charger = self._chargers.get(command.key)
        if charger is not None:
            charger.waiting.pop(command.request_id, None)
            if charger.sent is command:
                charger.sent = None
            self._forget_idle(command.key)
        self._count(outcome.step)
        self._recorder.record(command, outcome)

    def _forget_idle(self, key: Key) -> None:
        charger = self._chargers.get(key)
        if charger is not None and charger.station is None and not charger.commands:
            del self._chargers[key]


def _event(
    step: CommandStep, station: Station, detail: str = "", *, answer: bytes = b"", error_code: str = ""
) -> CommandEvent:
    return CommandEvent(
        step,
        answer=answer,
        error_code=error_code,
        detail=detail,
        ocpp_version=str(station.version),
        generation=station.generation,
    )

"""The calls of a station that were answered or wait for the disk, so that a resend is never a second row.

Owns which call an id meant and what the answer was. It belongs to the station, not to the connection: a station that
lost its answer resends the call after it has reconnected. It lives in memory: after a restart of ours a resend is a new
call, and the processors make one of both.
"""

from collections import OrderedDict

import msgspec

from gateway.core.limits import OCPP_CALLS_REMEMBERED_MAX, OCPP_STATIONS_REMEMBERED_MAX


class FirstCall(msgspec.Struct, gc=False):
    """A call as it came first.

    Attributes:
        fingerprint: Hash of the frame, which a resend repeats byte by byte. A station may use an id again for another
            call (2.1 allows it, and counters restart at boot), so the id alone says nothing.
        answer: The frame to answer with, once durable.
        connection: Number of the connection it came on.
        waiting: Calls with this id that wait for the disk: 1, or more where an id came again with other content.
    """

    fingerprint: int | None
    answer: bytes
    connection: int
    waiting: int = 1

    @property
    def is_durable(self) -> bool:
        """Whether the answer may be sent."""
        return self.waiting == 0


class AnsweredCalls:
    """The calls of one station.

    At most `OCPP_CALLS_REMEMBERED_MAX` that are answered: the oldest is forgotten. Besides, those that wait for the
    disk, which the edge bounds by not reading on.
    """

    __slots__ = ("_calls", "_connections")

    def __init__(self) -> None:
        self._calls: dict[str, FirstCall] = {}
        self._connections = 0

    def __len__(self) -> int:
        return len(self._calls)

    def connect(self) -> int:
        """Return the number of a new connection of the station."""
        self._connections += 1
        return self._connections

    def find(self, message_id: str, fingerprint: int) -> FirstCall | None:
        """Return the first call with this id and content, or None: this one is new."""
        first = self._calls.get(message_id)
        return first if first is not None and first.fingerprint == fingerprint else None

    def remember(self, message_id: str, fingerprint: int, answer: bytes, connection: int) -> None:
        """Note a new call that waits for the disk."""
        first = self._calls.get(message_id)
        if first is not None:
            if first.waiting:
                # Another call with this id is on its way to the disk. Which of both `settled` means then cannot be
                # told, so neither is remembered: at worst a resend is a second row, never an answer to what is not
                # durable.
                first.fingerprint = None
                first.waiting += 1
                return
            del self._calls[message_id]
        if len(self._calls) >= OCPP_CALLS_REMEMBERED_MAX:
            self._forget_oldest()
        self._calls[message_id] = FirstCall(fingerprint, answer, connection)

    def settled(self, message_id: str) -> None:
        """Note that a call with this id is durable."""
        first = self._calls.get(message_id)
        if first is None or not first.waiting:
            return
        first.waiting -= 1
        if not first.waiting and first.fingerprint is None:
            del self._calls[message_id]

    def failed(self, message_id: str) -> None:
        """Note that a call with this id is certainly not durable: its resend is a new call."""
        first = self._calls.get(message_id)
        if first is None or not first.waiting:
            return
        first.waiting -= 1
        first.fingerprint = None
        if not first.waiting:
            del self._calls[message_id]

    def answer_of(self, message_id: str) -> bytes | None:
        """Return the answer of a durable call, None while it waits, b"" where it is not remembered."""
        first = self._calls.get(message_id)
        if first is None or first.fingerprint is None:
            return b""
        return first.answer if first.is_durable else None

    def _forget_oldest(self) -> None:
        for message_id, call in self._calls.items():
            if not call.waiting:
                del self._calls[message_id]
                return


class AnsweredStations:
    """The `AnsweredCalls` of all stations of a gateway.

    At most `OCPP_STATIONS_REMEMBERED_MAX`: the one that connected longest ago is forgotten, and its next resend is a
    new call.
    """

    def __init__(self) -> None:
        self._stations: OrderedDict[tuple[str, str], AnsweredCalls] = OrderedDict()

    def __len__(self) -> int:
        return len(self._stations)

    def of(self, tenant: str, device_id: str) -> AnsweredCalls:
        """Return those of a station that connects."""
        key = (tenant, device_id)
        known = self._stations.get(key)
        if known is None:
            known = self._stations[key] = AnsweredCalls()
            if len(self._stations) > OCPP_STATIONS_REMEMBERED_MAX:
                self._stations.popitem(last=False)
        else:
            self._stations.move_to_end(key)
        return known

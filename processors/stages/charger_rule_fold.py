"""One batch's work on what is known of chargers: each word changes the facts, then the detectors hear of it."""

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any, Final

from gateway.core.limits import CHARGERS_WATCHED_MAX
from processors.contracts.rules import Rule
from processors.stages.charger_rule_detector import Detector
from processors.stages.charger_rule_limits import with_order, without_session_limits
from processors.stages.charger_rule_link import AuthFailures, Offline, Reboots, SecurityEvents, WrongClock
from processors.stages.charger_rule_power import Derating, RegisterFault, Stalled
from processors.stages.charger_rule_record import (
    AVAILABLE,
    NEVER,
    US_PER_S,
    Charger,
    Findings,
    Key,
    Place,
    Plug,
    Register,
    Stay,
    part_of,
    shown,
    time_text,
)
from processors.stages.charger_rule_use import Ghost, Unusable, Zombie
from processors.stages.charger_rule_words import (
    AssetWord,
    EventWord,
    MeterWord,
    OrderWord,
    PlacedWord,
    SessionWord,
    StatusWord,
)

DETECTORS: Final[dict[str, type[Detector]]] = {
    detector.name: detector
    for detector in (
        *(Offline, Reboots, AuthFailures, SecurityEvents, WrongClock),
        *(Unusable, Ghost, Zombie, Stalled, Derating, RegisterFault),
    )
}
"""Detectors by the names that rules call them by."""

LOOK_US: Final = 10 * US_PER_S
"""Ticks are looked at this often."""
_GAPS_MAX: Final = 16
"""Pauses between sessions that say what is usual."""
_PLUGS_MAX: Final = 16
"""Connectors of one EVSE; there are at most a few."""
_STATE_CHARS_MAX: Final = 32
_OF_V2: Final = frozenset({"Occupied", "Reserved"})
"""What 2.x says of an EVSE with a vehicle, whatever that does there."""


class Hooks:
    """The detectors, and which of them hear of what."""

    def __init__(self, rules: list[Rule]) -> None:
        self.rules = {rule.id: rule for rule in rules}
        self.fingerprints = {rule.id: rule.fingerprint() for rule in rules}
        detectors = [DETECTORS[rule.detector or ""](rule) for rule in rules]

        def hearing(hook: str) -> list[Any]:
            base = getattr(Detector, hook)
            return [getattr(one, hook) for one in detectors if getattr(type(one), hook) is not base]

        self.gone, self.back, self.look = hearing("gone"), hearing("back"), hearing("look")
        self.event, self.meter, self.status = hearing("event"), hearing("meter"), hearing("status")
        self.state, self.order = hearing("state"), hearing("order")
        self.session, self.opened, self.closed = hearing("session"), hearing("opened"), hearing("closed")


class Fold:
    """Work on one batch, on copies of the chargers that it touches.

    Args:
        chargers: What is known of each; left as it is.
        plan: (tick from which it is due, charger), a heap.
        hooks: The detectors.

    Attributes:
        chargers, plan: The same after what was taken in.
        rows: Findings so far, tuples in the order of FINDINGS_SCHEMA with times in us.
    """

    def __init__(self, chargers: dict[Key, Charger], plan: Sequence[tuple[int, Key]], hooks: Hooks) -> None:
        self.chargers, self.plan = chargers.copy(), list(plan)
        self._hooks = hooks
        self._own: dict[Key, Charger] = {}
        self._say = Findings()

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """What was found, in order of finding."""
        return self._say.rows

    def finish(self) -> None:
        """Let go of the copies; the fold must not be used after."""
        for charger in self._own.values():
            charger.owned = []
        if len(self.plan) > 4 * len(self.chargers) + 64:
            self.plan = sorted((one.planned_us, key) for key, one in self.chargers.items() if one.planned_us < NEVER)

    # ---- chargers ----

    def _charger(self, key: Key) -> Charger:
        """Return a charger that may be changed."""
        charger = self._own.get(key)
        if charger is None:
            known = self.chargers.get(key)
            if known is None:
                if len(self.chargers) >= CHARGERS_WATCHED_MAX:
                    self._forget_quiet()
                known = Charger(tenant=key[0], device_id=key[1])
            charger = self._own[key] = self.chargers[key] = known.clone()
        return charger

    def _forget_quiet(self) -> None:
        """Forget the sixteenth of the chargers that was quiet longest, and end what was told of them."""
        quiet = sorted((charger.last_us, key) for key, charger in self.chargers.items())
        for _, key in quiet[: max(CHARGERS_WATCHED_MAX // 16, 1)]:
            charger = self._charger(key)
            for name in sorted(charger.open):
                rule, part = part_of(name)
                evidence = {"why": f"more than {CHARGERS_WATCHED_MAX} chargers are watched"}
                self._say.end(self._hooks.rules[rule], charger, part, evidence=evidence)
            del self.chargers[key], self._own[key]

    def _plan_for(self, charger: Charger) -> None:
        if charger.due_us < charger.planned_us:
            charger.planned_us = charger.due_us
            heappush(self.plan, (charger.due_us, charger.key))

    # ---- 1: words ----

    def take(self, placed: PlacedWord) -> None:
        """1: take in one word."""
        word = placed[3]
        charger = self._charger((word.tenant, word.device_id))
        cause = self._say.cause
        cause.offset, cause.record = word.offset, word.record
        cause.received_us, cause.at_us = word.received_us, word.at_us
        if type(word) is MeterWord:
            self._heard(charger, word)
            self._meter(charger, word)
            self._plan_for(charger)
            return
        match word:
            case EventWord():
                self._heard(charger, word)
                self._event(charger, word)
            case StatusWord():
                self._status(charger, word)
            case SessionWord():
                self._session(charger, word)
            case AssetWord():
                charger.rated_kw = charger.rated_kw if word.rated_kw is None else word.rated_kw
                charger.connectors = charger.connectors if word.connectors is None else word.connectors
            case OrderWord():
                with_order(charger, word)
                if word.event == "accepted":
                    for order in self._hooks.order:
                        order(self._say, charger, word)
        self._plan_for(charger)

    def _heard(self, charger: Charger, word: EventWord | MeterWord | StatusWord) -> None:
        """Note that the charger said something, which shows that it is there."""
        charger.last_us, charger.last_offset = word.received_us, word.offset
        if charger.away_from_us:
            for back in self._hooks.back:
                back(self._say, charger)
            charger.away_us = charger.away_from_us = 0
            charger.away_why = ""
            self._plan_for(charger)

    def _gone(self, charger: Charger, since_us: int, since_offset: int, from_us: int, why: str) -> None:
        charger.away_us, charger.away_offset = since_us, since_offset
        charger.away_from_us, charger.away_why = from_us, why
        for gone in self._hooks.gone:
            gone(self._say, charger)

    def _meter(self, charger: Charger, word: MeterWord) -> None:
        place = charger.place(word.connector)
        if place is None or word.at_us < place.meter_at_us:
            return
        place.meter_at_us = place.word_at_us = word.at_us
        place.word_us, place.word_offset = word.received_us, word.offset
        offered_kw = word.power_kw if word.offered_kw is None else word.offered_kw
        if offered_kw is not None:
            place.offered_kw = offered_kw
        for meter in self._hooks.meter:
            meter(self._say, charger, place, word)

    def _event(self, charger: Charger, word: EventWord) -> None:
        place = charger.place(word.connector)
        if place is not None:
            place.word_us, place.word_offset, place.word_at_us = word.received_us, word.offset, word.at_us
            state = "" if word.event == "end" else word.charging_state
            # In 1.6 the connector's status says it, and here it is null.
            if state is not None and place.state_at_us <= word.at_us and (state or place.state):
                self._does(charger, place, state, word.at_us)
        for event in self._hooks.event:
            event(self._say, charger, place, word)

    def _does(self, charger: Charger, place: Place, state: str, at_us: int) -> None:
        place.state_at_us = at_us
        if state != place.state:
            place.state = state[:_STATE_CHARS_MAX]
            for hook in self._hooks.state:
                hook(self._say, charger, place)

    def _status(self, charger: Charger, word: StatusWord) -> None:
        if word.kind == "disconnected":
            if word.generation is None or word.generation >= charger.generation:
                why = f"disconnected: {shown(word.reason)}" if word.reason else "disconnected"
                self._gone(charger, word.received_us, word.offset, word.received_us, why)
            return
        if word.kind == "connected":
            charger.linked_offset = word.offset
            charger.generation = max(charger.generation, word.generation or 0)
        # What the gateway says of a connection that it refused is no word of the charger.
        if word.kind != "security" or word.action:
            self._heard(charger, word)
        place = charger.place(word.connector) if word.kind == "status" else None
        if place is not None and word.status:
            self._plugged(charger, place, word)
        for status in self._hooks.status:
            status(self._say, charger, place, word)

    def _plugged(self, charger: Charger, place: Place, word: StatusWord) -> None:
        """Take in what a connector says of itself, if it is no older than what it said before."""
        name, text = word.connector or "", (word.status or "")[:_STATE_CHARS_MAX]
        known = place.plugs.get(name)
        if known is not None and word.at_us < known.at_us:
            return
        if known is None and len(place.plugs) >= _PLUGS_MAX:
            return
        plug = Plug(text, word.at_us, word.received_us, word.offset)
        if known is not None and known.status == text:
            plug = Plug(text, word.at_us, known.since_us, known.since_offset)
        elif "/" not in name and text not in _OF_V2:
            # 1.6 has no other word for what a connector does; in 2.x its transactions tell.
            place.state, place.state_at_us = text, max(place.state_at_us, word.at_us)
        place.plugs = place.plugs | {name: plug}
        place.is_plug_free = any(one.status == AVAILABLE for one in place.plugs.values())
        for hook in self._hooks.state:
            hook(self._say, charger, place)

    def _session(self, charger: Charger, word: SessionWord) -> None:
        if word.flags is not None and "merged" in word.flags.split(","):
            return
        say, hooks = self._say, self._hooks
        place = charger.place(word.connector)
        for session in hooks.session:
            session(say, charger, place, word)
        if place is None or word.status == "orphan":
            return
        stay, name = place.stay, word.connector or ""
        is_stay = stay is not None and stay.session_id == word.session_id
        if word.status == "active":
            if not is_stay and (stay is None or stay.started_at_us <= word.started_at_us):
                for opened in hooks.opened:
                    opened(say, charger, place, word)
                _open(place, word)
            return
        if is_stay:
            for closed in hooks.closed:
                closed(say, charger, place, word)
            _close(charger, place, word)
            without_session_limits(charger, place.name)
        if word.ended_at_us is not None and word.ended_at_us >= place.ended_at_us:
            place.ended_at_us, place.ended_offset = word.ended_at_us, word.offset
            if word.meter_stop_wh is not None and (name in place.registers or len(place.registers) < _PLUGS_MAX):
                register = Register(word.meter_stop_wh, word.ended_at_us, word.meter_start_wh == 0)
                place.registers = place.registers | {name: register}

    # ---- 2: ticks ----

    def look(self, offset: int, now_us: int, started_after: int | None) -> None:
        """2: let time pass.

        Args:
            offset: Of the tick.
            now_us: When it was received.
            started_after: Offset of the tick before it, if the gateway started between the two.
        """
        cause = self._say.cause
        cause.offset, cause.record, cause.received_us, cause.at_us = offset, 0, now_us, now_us
        if started_after is not None:
            self._started(now_us, started_after)
        while self.plan and self.plan[0][0] <= now_us:
            planned_us, key = heappop(self.plan)
            known = self.chargers.get(key)
            if known is None or known.planned_us != planned_us:
                continue
            charger = self._charger(key)
            charger.due_us = charger.planned_us = NEVER
            self._expire(charger, now_us)
            for look in self._hooks.look:
                charger.wake(look(self._say, charger, now_us))
            self._plan_for(charger)

    def _expire(self, charger: Charger, now_us: int) -> None:
        """End what nothing has brought back for long enough."""
        for name, episode in sorted(charger.open.items()):
            if episode.until_us <= now_us:
                rule, part = part_of(name)
                evidence = {"why": "not again since", "since": time_text(episode.since_us)}
                self._say.end(self._hooks.rules[rule], charger, part, evidence=evidence)
            else:
                charger.wake(episode.until_us)

    def _started(self, now_us: int, started_after: int) -> None:
        """Take in that the gateway started: who was connected must show that he still is.

        Who connected since the tick before has done so. Who was gone gets the time anew that a reconnect may take,
        because nobody could reconnect while there was no gateway.
        """
        for key, known in list(self.chargers.items()):
            if known.linked_offset > started_after or not known.last_us:
                continue
            charger = self._charger(key)
            if charger.away_from_us:
                self._gone(charger, charger.away_us, charger.away_offset, now_us, charger.away_why)
            else:
                why = "unconfirmed: nothing of it since the gateway started"
                self._gone(charger, charger.last_us, charger.last_offset, now_us, why)
            self._plan_for(charger)


def _open(place: Place, word: SessionWord) -> None:
    """Take in that a session goes on."""
    if place.ended_at_us and word.started_at_us >= place.ended_at_us:
        gap_s = (word.started_at_us - place.ended_at_us) // 1_000_000
        place.gaps_s = [*place.gaps_s, gap_s][-_GAPS_MAX:]
    place.stay = Stay(
        word.session_id, word.transaction_id, word.connector or "", word.started_at_us, word.received_us, word.offset
    )
    if place.word_us < word.received_us:
        place.word_us, place.word_offset, place.word_at_us = word.received_us, word.offset, word.at_us


def _close(charger: Charger, place: Place, word: SessionWord) -> None:
    """Take in that the session of a place is over, which shows the others that people come."""
    place.stay, place.elsewhere, place.elsewhere_at_us = None, 0, 0
    for other in charger.places_now():
        if other is not place:
            other.elsewhere_at_us = other.elsewhere_at_us or word.ended_at_us or 0
            other.elsewhere += 1

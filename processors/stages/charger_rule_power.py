"""Detectors of what flows: nothing where something should, less than the charger is made for, a register that lies."""

from typing import Any, ClassVar, Final

from msgspec.structs import replace

from gateway.core.limits import CHARGE_POWER_MAX_KW
from processors.contracts.rules import Rule
from processors.stages.charger_rule_detector import Detector
from processors.stages.charger_rule_record import (
    US_PER_S,
    Charger,
    Findings,
    Level,
    Place,
    Stretch,
    shown,
    time_text,
    without,
)
from processors.stages.charger_rule_words import MeterWord, SessionWord

CHARGING: Final = "Charging"
_TAKING: Final = frozenset({CHARGING, "SuspendedEVSE"})
_US_PER_H: Final = 3600 * US_PER_S
_GAP_MAX_S: Final = 30 * 60.0
"""Samples further apart than this say nothing of the time between, unless the rule says otherwise: twice the usual
clock-aligned interval."""
_ROUNDING_WH: Final = 10.0
_STEP_WH: Final = 1_000.0
"""What a register that counts whole kWh may gain at once."""
_REGISTER_ALONE: Final = 3
"""A register that counts whole kWh stands still for 16 min at 3.7 kW; without a measured power it is watched so many
times as long."""
_IDLE_KW: Final = 0.05
"""Below this nothing is asked for; the same as in charging sessions."""
_HISTORY_MAX: Final = 20
_BRIM_PCT: Final = 99.0
_UNKNOWN: Final = Level()
_USUAL_AFTER: Final = 50
"""Sessions in a row that get less, after which that is what the place can give."""
_SAME: Final = 0.99
"""A limit of the charger's own is the same in all sessions; what follows the vehicles' wishes is not."""


class _Run(Detector):
    """A detector of samples that all say the same for some time."""

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._span_us = self.span_us("span")
        self._gap_us = round((rule.needs_s or _GAP_MAX_S) * US_PER_S)

    def grown(self, place: Place, word: MeterWord, value: float | None, reading: float | None) -> Stretch:
        """Return the stretch that ends with a sample: a new one if it is the first, or the one before too long ago."""
        known = place.stretches.get(self.id)
        shown_now = () if reading is None else ((word.at_us, round(reading, 3)),)
        if known is None or word.at_us - known.newest_at_us > self._gap_us:
            stretch = Stretch(word.at_us, word.offset, word.at_us, value, shown_now)
        else:
            first = known.value if known.value is not None else value
            history = (known.history + shown_now)[-_HISTORY_MAX:]
            stretch = Stretch(known.since_at_us, known.since_offset, word.at_us, first, history)
        place.stretches = place.stretches | {self.id: stretch}
        return stretch

    def dropped(self, say: Findings, charger: Charger, place: Place, **readings: Any) -> None:
        """Forget the stretch of a place, and end what came of it."""
        if self.id in place.stretches:
            place.stretches = without(place.stretches, self.id)
            say.end(self.rule, charger, place.name, evidence={"readings": {"state": shown(place.state), **readings}})


class Stalled(_Run):
    """A vehicle that would charge, and nothing flows."""

    name: ClassVar[str] = "stalled"

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._below_kw, self._full_pct = self.number("below"), self.number("full")

    def state(self, say: Findings, charger: Charger, place: Place) -> None:
        """End when the connector says that nothing should flow."""
        if place.state not in _TAKING:
            self.dropped(say, charger, place)

    def closed(self, say: Findings, charger: Charger, place: Place, word: SessionWord) -> None:
        """End with the session."""
        self.dropped(say, charger, place, session=word.status)

    def meter(self, say: Findings, charger: Charger, place: Place, word: MeterWord) -> None:
        """Judge a sample."""
        power_kw, energy_wh = word.power_kw, word.energy_wh
        if place.state not in _TAKING or (power_kw is None and energy_wh is None):
            return
        # Where the charger itself says that it holds back, only a vehicle without any room may be left in peace.
        full_pct = self._full_pct if place.state == CHARGING else max(self._full_pct, _BRIM_PCT)
        is_full = word.soc_pct is not None and word.soc_pct >= full_pct
        if is_full or (power_kw is not None and power_kw >= self._below_kw):
            if place.stretches:
                self.dropped(say, charger, place, power_kw=power_kw, soc_pct=word.soc_pct)
            return
        if charger.is_limited(place.name, word.at_us):
            return
        known = place.stretches.get(self.id)
        if known is not None and self._has_gained(known, word):
            self.dropped(say, charger, place, power_kw=power_kw, energy_import_wh=energy_wh)
        stretch = self.grown(place, word, energy_wh, power_kw)
        held_us = word.at_us - stretch.since_at_us
        span_us = self._span_us if power_kw is not None else self._span_us * _REGISTER_ALONE
        if held_us < span_us or say.is_open(self.rule, charger, place.name):
            return
        evidence = {
            "limit": f"below {self._below_kw * 1000:g} W for {span_us // US_PER_S} s while {place.state}",
            "readings": {
                "state": shown(place.state),
                "power_import_kw": power_kw,
                "energy_import_wh": energy_wh,
                "soc_pct": word.soc_pct,
            },
            "history": [[time_text(at_us), kw] for at_us, kw in stretch.history],
            "session": place.stay.session_id if place.stay else None,
        }
        say.begin(
            self.rule,
            charger,
            place.name,
            since=(stretch.since_at_us, stretch.since_offset),
            value=power_kw,
            limit=self._below_kw,
            unit="kW",
            evidence=evidence,
        )

    def _has_gained(self, known: Stretch, word: MeterWord) -> bool:
        """Return whether the register gained more than the power below the limit would have given it."""
        if known.value is None or word.energy_wh is None:
            return False
        least_wh = self._below_kw * 1000 * (word.at_us - known.since_at_us) / _US_PER_H + _ROUNDING_WH
        return word.energy_wh - known.value > least_wh


class Derating(_Run):
    """A charger that gives less than it can while a vehicle would take more, until it gives a vehicle enough again.

    What it can give is its rated power where people stated it and no other place shares it, else what all sessions of
    this place reached before: the same offer in each, or powers no further apart than what counts as too little. Where
    they differ, its vehicles take what they please, and nothing is told.
    """

    name: ClassVar[str] = "derating"

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._share = self.number("share") / 100
        self._full_pct = self.number("full")
        self._sessions = {"offered": int(self.number("sessions")), "power": int(self.number("sessions_measured"))}
        self._level = {kind: f"{rule.id}\n{kind}" for kind in self._sessions}

    def state(self, say: Findings, charger: Charger, place: Place) -> None:
        """Begin anew when the connector charges again; what was told holds until a sample says otherwise."""
        if place.state != CHARGING:
            place.stretches = without(place.stretches, self.id)

    def closed(self, say: Findings, charger: Charger, place: Place, word: SessionWord) -> None:
        """Learn what the session reached. One that was too low does not count, until so many were that it is usual."""
        place.stretches = without(place.stretches, self.id)
        has_energy = (word.energy_wh or 0.0) >= _STEP_WH
        for kind, name in self._level.items():
            level = place.levels.get(name)
            if level is None or not level.peak:
                continue
            if level.sessions >= self._sessions[kind] and level.peak < level.floor * self._share:
                learnt = Level() if level.low + 1 >= _USUAL_AFTER else replace(level, peak=0.0, low=level.low + 1)
            elif has_energy:
                floor_kw = min(level.floor, level.peak) if level.sessions else level.peak
                learnt = Level(0.0, level.sessions + 1, floor_kw, max(level.ceiling, level.peak))
            else:
                learnt = replace(level, peak=0.0)
            place.levels = place.levels | {name: learnt}

    def meter(self, say: Findings, charger: Charger, place: Place, word: MeterWord) -> None:
        """Judge a sample."""
        if place.state != CHARGING or (word.offered_kw is None and word.power_kw is None):
            return
        kind, power_kw = "offered", word.power_kw
        value_kw = word.offered_kw
        if value_kw is None:
            kind, value_kw = "power", power_kw
            if word.soc_pct is None:
                return  # who holds back, the vehicle or the charger, cannot be told
        assert value_kw is not None
        is_full = word.soc_pct is not None and word.soc_pct >= self._full_pct
        is_asked = not is_full and (power_kw is None or power_kw >= _IDLE_KW)
        level = place.levels.get(self._level[kind], _UNKNOWN)
        known_kw, source = self._known_kw(charger, place, kind, level)
        is_low = is_asked and known_kw is not None and value_kw < known_kw * self._share
        is_peak = is_asked and value_kw > level.peak
        is_excused = (is_low or is_peak) and (charger.is_limited(place.name, word.at_us) or self._is_shared(charger))
        if is_peak and not is_excused:
            place.levels = place.levels | {self._level[kind]: replace(level, peak=value_kw)}
        if not is_low or is_excused or known_kw is None:
            place.stretches = without(place.stretches, self.id)
            if charger.open and is_asked and not is_low:
                readings = {"power_offered_kw": word.offered_kw, "power_import_kw": power_kw, "soc_pct": word.soc_pct}
                say.end(self.rule, charger, place.name, value=value_kw, unit="kW", evidence={"readings": readings})
            return
        stretch = self.grown(place, word, known_kw, value_kw)
        if word.at_us - stretch.since_at_us < self._span_us or say.is_open(self.rule, charger, place.name):
            return
        evidence = {
            "limit": f"{self._share * 100:g} % of {known_kw:g} kW for {self._span_us // US_PER_S} s",
            "rated_from": source,
            "readings": {
                "power_offered_kw": word.offered_kw,
                "power_import_kw": power_kw,
                "soc_pct": word.soc_pct,
            },
            "history": [[time_text(at_us), kw] for at_us, kw in stretch.history],
            "session": place.stay.session_id if place.stay else None,
        }
        say.begin(
            self.rule,
            charger,
            place.name,
            since=(stretch.since_at_us, stretch.since_offset),
            value=value_kw,
            limit=known_kw * self._share,
            unit="kW",
            evidence=evidence,
        )

    def _is_shared(self, charger: Charger) -> bool:
        """Return whether other places take the power that one does not get, as those of one cabinet do."""
        if len(charger.places) == 1:
            return False
        charging = [one.offered_kw for one in charger.places.values() if one.state == CHARGING]
        if len(charging) == 1:
            return False
        return charger.rated_kw is None or sum(charging) >= charger.rated_kw * self._share

    def _known_kw(self, charger: Charger, place: Place, kind: str, level: Level) -> tuple[float | None, str]:
        """Return what the place can give, None while nobody knows, and how that is known."""
        if kind == "offered" and charger.rated_kw is not None and _is_alone(charger, place):
            return charger.rated_kw, "its rated power"
        alike = _SAME if kind == "offered" else self._share
        if level.sessions < self._sessions[kind] or level.floor < level.ceiling * alike:
            return None, ""
        return level.floor, "the least peak of its sessions"


def _is_alone(charger: Charger, place: Place) -> bool:
    """Return whether a place has all connectors of its charger, so that the rated power is its own."""
    return charger.connectors == 1 or (len(charger.places) == 1 and charger.connectors == len(place.plugs))


class RegisterFault(Detector):
    """An energy register that falls, jumps or begins at 0: within a session as that says, and between two sessions."""

    name: ClassVar[str] = "register"

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule)
        self._shown_us = self.span_us("shown")

    def session(self, say: Findings, charger: Charger, place: Place | None, word: SessionWord) -> None:
        """Tell what a session found of its own register."""
        found = [flag for flag in (word.flags or "").split(",") if flag.startswith("register_")]
        if place is None or not found or word.status == "orphan":
            return
        readings = {"meter_start_wh": word.meter_start_wh, "meter_stop_wh": word.meter_stop_wh}
        evidence = {
            "limit": "within a session a register only rises, by no more than the charger can give",
            "found": found,
            "session": word.session_id,
            "readings": {**readings, "energy_wh": word.energy_wh},
        }
        self._begin(say, charger, place, word, word.meter_stop_wh, word.meter_start_wh, evidence)

    def opened(self, say: Findings, charger: Charger, place: Place, word: SessionWord) -> None:
        """Compare the register with that at the end of the session before."""
        before, now_wh = place.registers.get(word.connector or ""), word.meter_start_wh
        if before is None or now_wh is None or word.started_at_us < before.at_us:
            return
        before_wh = before.wh
        if now_wh == 0 and before.began_at_zero:
            return  # one that counts each session anew
        limit_kw = CHARGE_POWER_MAX_KW if charger.rated_kw is None else charger.rated_kw * 1.25
        gap_us = word.started_at_us - before.at_us
        most_wh = before_wh + limit_kw * 1000 * gap_us / _US_PER_H + _STEP_WH
        if before_wh - _ROUNDING_WH <= now_wh <= most_wh:
            return
        found = "register_jumped" if now_wh > before_wh else "register_zero" if now_wh == 0 else "register_fell"
        evidence = {
            "limit": f"between {before_wh:g} Wh, where the last session ended, and {most_wh:g} Wh",
            "found": [found],
            "session": word.session_id,
            "readings": {"meter_start_wh": now_wh},
            "ended_at": time_text(before.at_us),
        }
        self._begin(say, charger, place, word, now_wh, before_wh, evidence)

    def closed(self, say: Findings, charger: Charger, place: Place, word: SessionWord) -> None:
        """End with a session whose register is sound from its start to its end."""
        if "register_" in (word.flags or "") or place.stay is None:
            return
        known = charger.open.get(f"{self.id}\n{place.name}")
        if known is not None and known.since_us < place.stay.started_at_us:
            evidence = {"session": word.session_id, "readings": {"energy_wh": word.energy_wh}}
            say.end(self.rule, charger, place.name, evidence=evidence)

    def _begin(
        self,
        say: Findings,
        charger: Charger,
        place: Place,
        word: SessionWord,
        value: float | None,
        limit: float | None,
        evidence: dict[str, Any],
    ) -> None:
        until_us = word.received_us + self._shown_us
        since = (word.started_at_us, word.offset)
        say.begin(
            self.rule,
            charger,
            place.name,
            since=since,
            value=value,
            limit=limit,
            unit="Wh",
            evidence=evidence,
            until_us=until_us,
        )
        charger.wake(until_us)

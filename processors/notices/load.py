"""From `alerts.yaml` to a `NoticePlan`: the checks between the lines, each with its place and its mend."""

import re
from collections.abc import Iterable
from pathlib import Path as FilePath
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gateway.core.errors import ConfigError
from gateway.core.limits import (
    CONFIG_BYTES_MAX,
    ESCALATION_S_MAX,
    NOTICE_INTERVAL_S_MAX,
    NOTICE_REPEAT_S_MAX,
    NOTICE_REPEAT_S_MIN,
    NOTICE_WAIT_S_MAX,
    RECEIVERS_PER_ROUTE_MAX,
)
from gateway.core.text import peer_text
from processors.contracts.file import nearest
from processors.contracts.places import Located, Path
from processors.contracts.units import duration_s
from processors.notices.calendar import DAYS, Maintenance
from processors.notices.config import Escalation, NoticePlan, Receiver, Route
from processors.notices.file import AlertsFile, EscalationFile, MaintenanceFile, RouteFile, read_alerts_file
from processors.notices.receivers import ReadSecret, read_receiver
from processors.stages.alert_record import LABELS, Matcher, MatcherError, read_matchers

_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
_GROUP_BY: Final = ("site", "rule")


def load_alerts(path: FilePath, *, read_secret: ReadSecret) -> tuple[Located | None, NoticePlan]:
    """Return what an `alerts.yaml` says.

    Args:
        path: The file.
        read_secret: Reads secrets, which the file only names; see `ReadSecret`.

    Returns: The file, if it has overrides of rules at the place `("rules",)`, else None; and who is told of what.
    Raises: ConfigError: It cannot be read or used.
    """
    try:
        if path.stat().st_size > CONFIG_BYTES_MAX:
            raise ConfigError(str(path), 0, f"is larger than {CONFIG_BYTES_MAX} bytes", "write fewer routes")
        text = path.read_text("utf-8")
    except UnicodeDecodeError as exc:
        raise ConfigError(str(path), 0, f"is not UTF-8 at byte {exc.start}", "save it as UTF-8") from exc
    except OSError as exc:
        mend = "check the path and its permissions"
        raise ConfigError(str(path), 0, f"cannot be read: {exc.strerror}", mend) from exc
    return parse_alerts(text, file=str(path), read_secret=read_secret)


def parse_alerts(text: str, *, file: str, read_secret: ReadSecret) -> tuple[Located | None, NoticePlan]:
    """Return what a text says; see `load_alerts`. `file` is named in errors. Raises: ConfigError: It cannot be used."""
    located = Located(file, text)
    plan = _Resolver(read_alerts_file(located), located, read_secret).plan()
    return located if located.has(("rules",)) else None, plan


class _Resolver:
    def __init__(self, written: AlertsFile, located: Located, read_secret: ReadSecret) -> None:
        self._written, self._located, self._read_secret = written, located, read_secret
        self._receivers: dict[str, Receiver] = {}

    def plan(self) -> NoticePlan:
        written = self._written
        for name, receiver in written.receivers.items():
            self._receivers[name] = read_receiver(name, receiver, self._located, self._read_secret)
        routes = tuple(self._route(route, ("routes", i)) for i, route in enumerate(written.routes))
        self._all_reachable(routes)
        return NoticePlan(
            receivers=self._receivers,
            routes=routes,
            escalations=tuple(self._escalation(one, ("escalations", i)) for i, one in enumerate(written.escalations)),
            maintenance=tuple(self._maintenance(one, ("maintenance", i)) for i, one in enumerate(written.maintenance)),
        )

    # ---- sections ----------------------------------------------------------------------------------------------------
    def _route(self, written: RouteFile, place: Path) -> Route:
        interval_s = self._span(written.interval, (*place, "interval"), 1, NOTICE_INTERVAL_S_MAX)
        repeat_s = None
        if written.repeat != "never":
            repeat_s = self._span(written.repeat, (*place, "repeat"), NOTICE_REPEAT_S_MIN, NOTICE_REPEAT_S_MAX)
            if repeat_s < interval_s:
                what = f"{written.repeat} is shorter than 'interval', {written.interval}"
                raise self._error((*place, "repeat"), what, "write a longer 'repeat', a shorter 'interval', or never")
        return Route(
            matchers=self._matchers(written.match, (*place, "match")),
            to=self._to(written.to, (*place, "to")),
            group_by=self._group_by(written.group_by, (*place, "group_by")),
            wait_s=self._span(written.wait, (*place, "wait"), 0, NOTICE_WAIT_S_MAX),
            interval_s=interval_s,
            repeat_s=repeat_s,
            goes_on=written.goes_on,
        )

    def _escalation(self, written: EscalationFile, place: Path) -> Escalation:
        return Escalation(
            matchers=self._matchers(written.match, (*place, "match")),
            after_s=self._span(written.after, (*place, "after"), 1, ESCALATION_S_MAX),
            to=self._to(written.to, (*place, "to")),
            group_by=self._group_by(written.group_by, (*place, "group_by")),
            interval_s=self._span(written.interval, (*place, "interval"), 1, NOTICE_INTERVAL_S_MAX),
        )

    def _maintenance(self, written: MaintenanceFile, place: Path) -> Maintenance:
        days = DAYS if written.days is None else written.days
        for i, day in enumerate(days):
            if day not in DAYS:
                mend = f"write some of {', '.join(DAYS)}"
                raise self._error((*place, "days", i), f"there is no day '{peer_text(day)}'", mend)
        if not days:
            raise self._error((*place, "days"), "names no day", f"write some of {', '.join(DAYS)}, or delete it")
        try:
            ZoneInfo(written.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
            what = f"there is no time zone '{peer_text(written.zone)}'"
            raise self._error((*place, "zone"), what, "write an IANA name such as Europe/Berlin or UTC") from exc
        from_min = self._clock(written.begins, (*place, "from"), minutes_max=24 * 60 - 1)
        until_min = self._clock(written.until, (*place, "until"), minutes_max=24 * 60)
        if from_min == until_min:
            what, mend = "begins and ends at once", "write until: '24:00' and from: '00:00' for a whole day"
            raise self._error((*place, "until"), what, mend)
        return Maintenance(
            matchers=self._matchers(written.match, (*place, "match")),
            days=tuple(sorted({DAYS.index(day) for day in days})),
            from_min=from_min,
            until_min=until_min,
            zone=written.zone,
            why=written.why,
        )

    def _all_reachable(self, routes: tuple[Route, ...]) -> None:
        """Refuse a route whose alerts an earlier one keeps for itself."""
        for i, route in enumerate(routes):
            for j, earlier in enumerate(routes[:i]):
                if not earlier.goes_on and set(earlier.matchers) <= set(route.matchers):
                    line = self._located.line(("routes", j))
                    taken = "everything" if not earlier.matchers else "all that this one matches"
                    what = f"is never asked, because the route in line {line} takes {taken}"
                    raise self._error(("routes", i), what, "put it before that one, or write 'continue: true' there")

    # ---- values ------------------------------------------------------------------------------------------------------
    def _matchers(self, texts: list[str], place: Path) -> tuple[Matcher, ...]:
        if not texts:
            return ()
        for i, text in enumerate(texts):
            try:
                read_matchers([text])
            except MatcherError as exc:
                raise self._error((*place, i), exc.what, exc.mend) from exc
        try:
            return read_matchers(texts)
        except MatcherError as exc:
            raise self._error(place, exc.what, exc.mend) from exc

    def _to(self, names: list[str], place: Path) -> tuple[str, ...]:
        if not 1 <= len(names) <= RECEIVERS_PER_ROUTE_MAX:
            what = f"names {len(names)} receivers"
            raise self._error(place, what, f"name 1 to {RECEIVERS_PER_ROUTE_MAX} of 'receivers'")
        for i, name in enumerate(names):
            if name not in self._receivers:
                mend = nearest(name, list(self._receivers)) if self._receivers else "add it under 'receivers'"
                raise self._error((*place, i), f"there is no receiver '{peer_text(name)}'", mend)
        self._once(names, place)
        return tuple(names)

    def _group_by(self, labels: list[str] | None, place: Path) -> tuple[str, ...]:
        if labels is None:
            return _GROUP_BY
        for i, label in enumerate(labels):
            if label not in LABELS:
                what = f"there is no label '{peer_text(label)}'"
                raise self._error((*place, i), what, nearest(label, list(LABELS)))
        self._once(labels, place)
        return tuple(sorted(labels, key=LABELS.index))

    def _once(self, words: Iterable[str], place: Path) -> None:
        seen: set[str] = set()
        for i, word in enumerate(words):
            if word in seen:
                raise self._error((*place, i), f"'{peer_text(word)}' is there twice", "keep one of them")
            seen.add(word)

    def _span(self, text: str, place: Path, low_s: float, high_s: float) -> float:
        try:
            span_s = duration_s(text)
        except ValueError as exc:
            raise self._error(place, f"'{peer_text(text)}' is not a span of time", "write it as in '5 min'") from exc
        if not low_s <= span_s <= high_s:
            what = f"{text} is out of range"
            raise self._error(place, what, f"write {low_s:g} s to {high_s / 3600:g} h")
        return span_s

    def _clock(self, text: str, place: Path, *, minutes_max: int) -> int:
        found = _CLOCK.fullmatch(text)
        if not found or (not found[1] and minutes_max < 24 * 60):
            raise self._error(place, f"'{peer_text(text)}' is no time of day", "write it as in '02:00'")
        return 24 * 60 if not found[1] else int(found[1]) * 60 + int(found[2])

    def _error(self, place: Path, what: str, mend: str) -> ConfigError:
        return self._located.error(place, what, mend)

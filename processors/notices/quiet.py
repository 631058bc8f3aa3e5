"""When notices of an alert are held back by people: silences, and maintenance windows that come back."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from gateway.core.limits import SILENCES_MAX
from processors.notices.calendar import Maintenance
from processors.stages.alert_record import AlertEvent, SilenceEvent

SILENCE: Final = "silence"
MAINTENANCE: Final = "maintenance"


class Quiet:
    """Silences and maintenance windows as of a moment, which only `advance` moves.

    Args:
        maintenance: Windows of the plan.
        silences: Silences known from before.
    """

    def __init__(self, maintenance: Sequence[Maintenance], silences: Iterable[SilenceEvent] = ()) -> None:
        self._maintenance = maintenance
        self._silences = {silence.silence_id: silence for silence in silences}
        self._spans: list[tuple[int, int]] = []
        self._now_us: int | None = None
        self.next_us: int | None = None

    @property
    def silences(self) -> tuple[SilenceEvent, ...]:
        """Silences that have not ended."""
        return tuple(self._silences.values())

    def take(self, event: SilenceEvent) -> bool:
        """Take in a silence as it is from now on; return whether there was room for it."""
        self._silences.pop(event.silence_id, None)
        has_room = event.removed or len(self._silences) < SILENCES_MAX
        if has_room and not event.removed:
            self._silences[event.silence_id] = event
        self._look_ahead()
        return has_room

    def naming(self, event: AlertEvent) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Return which silences and which windows name an alert, whenever they hold."""
        labels = event.labels
        silences = tuple(name for name, silence in self._silences.items() if names(silence, labels))
        windows = tuple(
            i
            for i, window in enumerate(self._maintenance)
            if all(matcher.matches(labels) for matcher in window.matchers)
        )
        return silences, windows

    def reason(self, silences: Iterable[str], windows: Iterable[int]) -> str | None:
        """Return why an alert with these `naming` it is not told now, None where nothing keeps it."""
        now_us = self._now_us
        assert now_us is not None
        known = (self._silences.get(name) for name in silences)
        kinds = {one.kind for one in known if one is not None and one.starts_at_us <= now_us < one.ends_at_us}
        if SILENCE in kinds:
            return SILENCE
        in_window = any(self._spans[i][0] <= now_us < self._spans[i][1] for i in windows)
        return MAINTENANCE if kinds or in_window else None

    def advance(self, now_us: int) -> bool:
        """Move to `now_us`; return whether anything may have begun or ended since the last call."""
        is_new = self._now_us is None or now_us < self._now_us
        passed = is_new or (self.next_us is not None and now_us >= self.next_us)
        self._now_us = now_us
        if passed:
            ended = [name for name, silence in self._silences.items() if silence.ends_at_us <= now_us]
            for name in ended:
                del self._silences[name]
            self._spans = [window.span(now_us) for window in self._maintenance]
            self._look_ahead()
        return passed

    def _look_ahead(self) -> None:
        """Find out when something begins or ends next."""
        if self._now_us is None:
            return
        now_us = self._now_us
        moments = [moment for span in self._spans for moment in span]
        for silence in self._silences.values():
            moments += (silence.starts_at_us, silence.ends_at_us)
        self.next_us = min((moment for moment in moments if moment > now_us), default=None)


def names(silence: SilenceEvent, labels: Mapping[str, str]) -> bool:
    """Return whether a silence covers an alert with these labels, whenever it holds."""
    return silence.tenant == labels["tenant"] and all(matcher.matches(labels) for matcher in silence.matchers)

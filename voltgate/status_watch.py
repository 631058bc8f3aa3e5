"""`voltgate status --watch`: rates, lag, freshness and alerts of the running programs, from their /metrics.

A person at a terminal gets one screen that is drawn anew, everybody else a line, or with --json an object, an interval.
"""

import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from gateway.core.settings import Settings
from voltgate.output import Exit, cell, is_terminal, print_json
from voltgate.status import PROGRAMS, read_run_file

_TIMEOUT_S: Final = 2.0
_BYTES_MAX: Final = 8 * 1024 * 1024

Samples = Mapping[str, Mapping[tuple[tuple[str, str], ...], float]]
"""Metric -> labels -> value."""
_FRESH_SHOWN: Final = 8


class Glance(msgspec.Struct, frozen=True, kw_only=True):
    """How things stand at one moment; what nobody says is None.

    Attributes:
        at: When, ISO 8601.
        running: Program -> whether its metrics answered.
        received_per_s: Messages handed to the journal, since the glance before.
        acknowledged_per_s: Messages that became durable.
        rejected_per_s: Records that became rejects, and messages that were refused.
        lag_entries: Durable entries that are not in the lake.
        lag_s: Age of those, at most.
        index_lag_entries: Rows' entries that the index does not have, of the table that is furthest behind.
        index_lag_s: The same in seconds.
        alerts_firing: Severity -> alerts that fire.
        freshness_s: Table -> age of its newest row.
    """

    at: str
    running: dict[str, bool]
    received_per_s: float | None = None
    acknowledged_per_s: float | None = None
    rejected_per_s: float | None = None
    lag_entries: float | None = None
    lag_s: float | None = None
    index_lag_entries: float | None = None
    index_lag_s: float | None = None
    alerts_firing: dict[str, int] = {}
    freshness_s: dict[str, float] = {}


def watch_status(settings: Settings, *, interval_s: float, count: int | None, as_json: bool) -> int:
    """Show how things stand until Ctrl-C or `count` times; return 0."""
    glances = _glances(settings, interval_s=interval_s, count=count)
    try:
        if as_json or not is_terminal():
            for glance in glances:
                if as_json:
                    print_json(msgspec.to_builtins(glance))
                else:
                    print(to_line(glance), flush=True)
            return Exit.OK
        from rich.live import Live
        from rich.text import Text

        with Live(auto_refresh=False) as live:
            for glance in glances:
                live.update(Text("\n".join(to_screen(glance))), refresh=True)
    except KeyboardInterrupt:
        pass
    return Exit.OK


def _glances(settings: Settings, *, interval_s: float, count: int | None) -> Iterator[Glance]:
    """Yield a glance an interval; the first one after at most a second, so that it has rates, too."""
    before, before_s = _scrape_all(settings), time.monotonic()
    shown = 0
    due_s = before_s + min(1.0, interval_s)
    while count is None or shown < count:
        time.sleep(max(0.0, due_s - time.monotonic()))
        now, now_s = _scrape_all(settings), time.monotonic()
        at = datetime.now(UTC).isoformat(timespec="seconds")
        yield to_glance(before, now, span_s=now_s - before_s, at=at)
        before, before_s, shown = now, now_s, shown + 1
        due_s = max(due_s + interval_s, now_s)


def _scrape_all(settings: Settings) -> dict[str, Samples | None]:
    return {program: _scrape(read_run_file(settings, program)) for program in PROGRAMS}


def _scrape(run_file: Mapping[str, Any] | None) -> Samples | None:
    """Return what a program's /metrics says now, None where it does not answer."""
    if run_file is None:
        return None
    url = f"http://{run_file['observe_host']}:{run_file['observe_port']}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:
            text = response.read(_BYTES_MAX).decode()
    except (OSError, urllib.error.URLError):
        return None
    return read_samples(text)


def read_samples(text: str) -> Samples:
    """Return the samples of an exposition; names are those of samples, with `_total`."""
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def to_glance(
    before: Mapping[str, Samples | None], now: Mapping[str, Samples | None], *, span_s: float, at: str
) -> Glance:
    """Return what two looks at the programs amount to.

    Args:
        before: Program -> its samples then, None where it did not answer.
        now: The same now.
        span_s: Time between the two, positive.
        at: When `now` is.
    """
    gateway, processors = now.get("gateway"), now.get("processors")

    def rate(program: str, *names: str) -> float | None:
        then, later = before.get(program), now.get(program)
        if then is None or later is None:
            return None
        grown = sum(_total(later, name) - _total(then, name) for name in names)
        # Less than before: it started again in between, and counts from 0.
        return round((grown if grown >= 0 else sum(_total(later, name) for name in names)) / span_s, 3)

    rejected = [rate("gateway", "voltgate_rejected_total"), rate("processors", "voltgate_rejects_total")]
    known = [one for one in rejected if one is not None]
    return Glance(
        at=at,
        running={"gateway": gateway is not None, "processors": processors is not None},
        received_per_s=rate("gateway", "voltgate_received_total"),
        acknowledged_per_s=rate("gateway", "voltgate_acknowledged_total"),
        rejected_per_s=round(sum(known), 3) if known else None,
        lag_entries=_largest(processors, "voltgate_cursor_lag_entries"),
        lag_s=_largest(processors, "voltgate_cursor_lag_seconds"),
        index_lag_entries=_largest(processors, "voltgate_index_lag_entries"),
        index_lag_s=_largest(processors, "voltgate_index_lag_seconds"),
        alerts_firing={name: int(n) for name, n in _by(processors, "voltgate_alerts_firing", "severity").items()},
        freshness_s={
            name: round(age, 1) for name, age in _by(processors, "voltgate_freshness_seconds", "table").items()
        },
    )


def to_line(glance: Glance) -> str:
    """Return a glance as one line of text."""
    firing = sum(glance.alerts_firing.values())
    parts = [
        glance.at,
        *(f"{name} {'up' if is_up else 'DOWN'}" for name, is_up in glance.running.items()),
        f"in {_rate(glance.received_per_s)}",
        f"acknowledged {_rate(glance.acknowledged_per_s)}",
        f"rejected {_rate(glance.rejected_per_s)}",
        f"lag {_seconds(glance.lag_s)}",
        f"firing {firing}",
    ]
    if glance.index_lag_entries is not None or glance.index_lag_s is not None:
        parts.append(f"index lag {_seconds(glance.index_lag_s)}")
    return "  ".join(parts)


def to_screen(glance: Glance) -> list[str]:
    """Return a glance as the lines of a screen; nothing in it comes from devices but names of tables."""
    running = ", ".join(f"{name} {'runs' if is_up else 'DOES NOT ANSWER'}" for name, is_up in glance.running.items())
    lines = [
        f"{glance.at}  {running}    Ctrl-C ends",
        "",
        f"received      {_rate(glance.received_per_s):>14}",
        f"acknowledged  {_rate(glance.acknowledged_per_s):>14}",
        f"rejected      {_rate(glance.rejected_per_s):>14}",
        f"lake lag      {_seconds(glance.lag_s):>14}  {_entries(glance.lag_entries)}",
    ]
    if glance.index_lag_entries is not None or glance.index_lag_s is not None:
        lines.append(f"index lag     {_seconds(glance.index_lag_s):>14}  {_entries(glance.index_lag_entries)}")
    firing = ", ".join(f"{count} {name}" for name, count in sorted(glance.alerts_firing.items()) if count)
    lines += [f"alerts firing  {firing or 'none'}", ""]
    freshest = sorted(glance.freshness_s.items(), key=lambda one: one[1])[:_FRESH_SHOWN]
    return [*lines, *(f"{cell(name):<32} newest row {age:>8.1f} s ago" for name, age in freshest)]


def _total(samples: Samples, name: str) -> float:
    return sum(samples.get(name, {}).values())


def _largest(samples: Samples | None, name: str) -> float | None:
    return None if samples is None else max(samples.get(name, {}).values(), default=None)


def _by(samples: Samples | None, name: str, label: str) -> dict[str, float]:
    """Return the sum of a metric's values by one label."""
    found: dict[str, float] = {}
    for labels, value in (samples or {}).get(name, {}).items():
        key = dict(labels).get(label, "")
        found[key] = found.get(key, 0.0) + value
    return found


def _rate(per_s: float | None) -> str:
    return "-" if per_s is None else f"{per_s:.1f}/s"


def _seconds(span_s: float | None) -> str:
    return "-" if span_s is None else f"{span_s:.1f} s"


def _entries(entries: float | None) -> str:
    return "" if entries is None else f"{entries:.0f} entries"

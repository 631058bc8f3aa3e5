"""What was measured over injected faults and healthy days, as figures for machines and as a page for people."""

from collections.abc import Sequence

import msgspec

from tests.quality.fault_score import KindScore

TARGET_PER_DAY = 0.05


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured over one kind of devices.

    Attributes:
        name: Of the devices.
        days: Device-days in which nothing was wrong.
        scores: By kind of fault.
        false: (rule, severity, number).
        explained: Alerts about silence in holes in coverage.
        messages: Processed.
        rejected: Of those, refused.
    """

    name: str
    days: float
    scores: list[KindScore]
    false: list[tuple[str, str, int]]
    explained: int
    messages: int
    rejected: int

    @property
    def false_per_day(self) -> float:
        """False alerts per device-day."""
        return sum(number for _, _, number in self.false) / self.days if self.days else 0.0


def figures(parts: Sequence[Part]) -> dict[str, float]:
    """Return what goes into build/alerts.json."""
    scores = [one for part in parts for one in part.scores]
    vehicles = [part for part in parts if part.name in ("vehicles", "recorded trips")]
    chargers = [part for part in parts if part not in vehicles]
    return {
        "fault_recall": sum(one.noticed for one in scores) / max(sum(one.injected for one in scores), 1),
        "false_alerts_per_vehicle_day": _rate(vehicles),
        "false_alerts_per_charger_day": _rate(chargers),
    }


def _rate(parts: Sequence[Part]) -> float:
    days = sum(part.days for part in parts)
    return round(sum(number for part in parts for _, _, number in part.false) / days, 4) if days else 0.0


def page(parts: Sequence[Part], *, seed: int) -> str:
    """Return the part of the page, Markdown."""
    found = figures(parts)
    injected = sum(one.injected for part in parts for one in part.scores)
    false, of_charger = found["false_alerts_per_vehicle_day"], found["false_alerts_per_charger_day"]
    lines = [
        "## Injected faults and healthy days",
        "",
        "Simulated vehicles and chargers say what real ones would say, with noise, coarse resolution, holes in",
        "coverage, repeats and nights asleep; some of them fail. The processors' own chain makes alerts of it.",
        f"`python -m tests.quality faults --seed {seed}` repeats it exactly.",
        "",
        f"- Noticed in time: **{found['fault_recall']:.1%}** of {injected} faults.",
        f"- False alerts per vehicle-day: **{false:.3f}** (target: under {TARGET_PER_DAY:g}).",
        f"- False alerts per charger-day: **{of_charger:.3f}**.",
        "",
        "| fault | injected | in time | alert after the start: median | longest | before harm: median | least |",
        "|---|---|---|---|---|---|---|",
    ]
    for part in parts:
        for one in part.scores:
            times = (one.after_median_s, one.after_max_s, one.lead_median_s, one.lead_min_s)
            cells = [one.kind, str(one.injected), f"{one.noticed} ({one.recall:.0%})", *map(span, times)]
            lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "A negative time before harm is after it: a cell that is pierced gives no warning. Harm begins when a cell",
        "heats itself by more than 1 K/s, when a weak one has aged to the end, when a touch drives 10 mA; other faults",
        "harm nobody at once.",
        "",
        "| devices | days without a fault | messages | false alerts | per device-day |",
        "|---|---|---|---|---|",
    ]
    for part in parts:
        number = sum(n for _, _, n in part.false)
        lines.append(f"| {part.name} | {part.days:.1f} | {part.messages} | {number} | {part.false_per_day:.3f} |")
    lines += ["", "| false alerts by rule | severity | devices | number |", "|---|---|---|---|"]
    rows = [f"| `{rule}` | {level} | {part.name} | {n} |" for part in parts for rule, level, n in part.false]
    lines += rows or ["| none | | | 0 |"]
    explained = sum(part.explained for part in parts)
    lines += [
        "",
        f"Not counted as false: {explained} alerts that a vehicle is silent while it has no coverage for more than two",
        "minutes, or that nobody charges at the recorded station, in pauses of days of both its plugs.",
    ]
    return "\n".join(lines)


def span(seconds: float | None) -> str:
    """Return a time span for people."""
    if seconds is None:
        return "-"
    if abs(seconds) < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if abs(seconds) < 7_200 else f"{seconds / 3_600:.1f} h"

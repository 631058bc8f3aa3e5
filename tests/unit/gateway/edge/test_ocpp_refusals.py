"""Log lines of refusals: few per station, and none of them lost from the count."""

from gateway.core.limits import (
    FAILURE_BUCKETS_MAX,
    REFUSAL_LINE_REFILL_ALL_S,
    REFUSAL_LINE_REFILL_S,
    REFUSAL_LINES_BURST,
    REFUSAL_LINES_BURST_ALL,
)
from gateway.edge.ocpp_refusals import RefusalLog


class Lines:
    """A log that remembers."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def warning(self, event: str, *_args: object, **fields: object) -> None:
        """See Log."""
        self.lines.append((event, fields))


def test_flood_of_one_station_leaves_room_for_its_neighbour() -> None:
    """A station is limited by itself, and the line that comes through later says how many did not."""
    lines, now_s = Lines(), 0.0
    refusals = RefusalLog(lines, now_s=lambda: now_s)
    for i in range(REFUSAL_LINES_BURST + 7):
        refusals.warn("cp-1", "refused", station="cp-1", number=i)
    refusals.warn("cp-2", "refused", station="cp-2")
    assert REFUSAL_LINES_BURST + 1 == len(lines.lines)
    assert ("refused", {"station": "cp-2"}) == lines.lines[-1]
    now_s = REFUSAL_LINE_REFILL_S
    refusals.warn("cp-1", "refused", station="cp-1")
    assert ("refused", {"station": "cp-1", "suppressed": 7}) == lines.lines[-1]


def test_many_subjects_together_are_limited() -> None:
    """An attacker has as many names as it likes."""
    lines, now_s = Lines(), 0.0
    refusals = RefusalLog(lines, now_s=lambda: now_s)
    for i in range(REFUSAL_LINES_BURST_ALL + 50):
        refusals.warn(i, "refused")
    assert REFUSAL_LINES_BURST_ALL == len(lines.lines)
    now_s = 2 * REFUSAL_LINE_REFILL_ALL_S
    for i in range(5):
        refusals.warn(f"late {i}", "refused")
    assert REFUSAL_LINES_BURST_ALL + 2 == len(lines.lines)


def test_subjects_remembered_are_bounded() -> None:
    """Addresses are cheap for an attacker."""
    lines = Lines()
    refusals = RefusalLog(lines, now_s=lambda: 0.0)
    for i in range(FAILURE_BUCKETS_MAX + 5):
        for _ in range(REFUSAL_LINES_BURST + 1):
            refusals.warn(i, "refused")
    assert FAILURE_BUCKETS_MAX == len(refusals._suppressed)

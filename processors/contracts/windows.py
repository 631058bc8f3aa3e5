"""What the window stage is told by a contract: sizes, patience, and one output column per aggregate."""

from enum import StrEnum

import msgspec


class AggregateKind(StrEnum):
    """How the samples of one field in one window become one number."""

    FIRST = "first"
    LAST = "last"
    MIN = "min"
    MAX = "max"
    MEAN = "mean"
    SUM = "sum"
    COUNT = "count"
    INTEGRAL = "integral"
    TIME_MEAN = "time_mean"


class Aggregate(msgspec.Struct, frozen=True, kw_only=True):
    """One output column of the window table.

    Attributes:
        field: Field of the readings frame.
        kind: How it is aggregated.
        column: Name of the output column, unit last.
        unit: Unit symbol of the output column.
        scale: For `integral`: the value in `unit` is the integral over seconds of the field times `scale`
            (km/h over seconds times 1/3600 is km). 1 for every other kind.
    """

    field: str
    kind: AggregateKind
    column: str
    unit: str
    scale: float = 1.0


class WindowPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How readings of one stream become windows.

    Attributes:
        pane_s: Length of a pane, the smallest window; every size is a multiple of it.
        sizes_s: Window sizes, ascending; the first is `pane_s`.
        disorder_s: How far out of order readings may come before the device's watermark passes them: a pane closes once
            a reading is this far past its end.
        lateness_s: How long after its end a closed pane can still be revised.
        idle_s: A silent device's panes close once a tick is this far past its last receipt.
        gap_max_s: Longest time between two samples over which `integral` and `time_mean` trust a straight line.
        aggregates: Output columns in order.
        part: Text field that splits a device into parts with windows of their own, or None.
    """

    pane_s: int = 60
    sizes_s: tuple[int, ...] = (60, 300, 900, 3600)
    disorder_s: float = 5.0
    lateness_s: float = 600.0
    idle_s: float = 90.0
    gap_max_s: float = 30.0
    aggregates: tuple[Aggregate, ...]
    part: str | None = None

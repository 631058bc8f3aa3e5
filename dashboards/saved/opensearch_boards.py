"""A dashboard: which panels, in which order, how large."""

from collections.abc import Iterator
from typing import Final

import msgspec

from dashboards.saved.opensearch_panels import Bucket, Chart, Drawing, Filter, Metric, Panel, where
from processors.stages.chain import windows_table

__all__ = ["BATTERY", "METER", "TELEMETRY", "Board", "chart"]

Place = tuple[int, int, int, int]
"""x, y, width, height on the grid of 48 columns."""
Sized = tuple[Panel, int]
"""A panel and its width; the panels of a row are as wide as the grid together."""
Placed = tuple[Panel, Place]

TELEMETRY: Final = windows_table("vehicle_telemetry")
BATTERY: Final = windows_table("battery_pack")
METER: Final = windows_table("charger_meter")
_WINDOW_S: Final = 60
"""Windows that panels add up: the shortest, so that a fleet sees itself a minute after it begins."""
_NAVIGATION_HEIGHT: Final = 4


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """One dashboard.

    Attributes:
        name: Ends its id, and begins those of its panels.
        short_title: What links to it are called.
        about: What it answers.
        rows: (height, panels) from the top.
        time_from: What it looks back on when it is opened.
    """

    name: str
    short_title: str
    about: str
    rows: tuple[tuple[int, tuple[Sized, ...]], ...]
    time_from: str = "now-24h"
    navigation_height: int = _NAVIGATION_HEIGHT

    @property
    def title(self) -> str:
        """What people read in a list."""
        return f"Voltgate: {self.short_title}"

    def panels(self) -> Iterator[Placed]:
        """Yield the panels and where they are, below the links."""
        y = self.navigation_height
        for height, panels in self.rows:
            x = 0
            for panel, width in panels:
                yield panel, (x, y, width, height)
                x += width
            y += height


def chart(
    name: str,
    title: str,
    table: str,
    drawing: Drawing,
    *parts: Metric | Bucket | Filter,
    about: str = "",
) -> Chart:
    """Return a chart of its parts: metrics, buckets and filters, each kind in order."""
    from dashboards.saved.opensearch_panels import Bucket

    filters = tuple(part for part in parts if isinstance(part, Filter))
    if table in {TELEMETRY, BATTERY, METER}:
        # One index holds windows of every length; added up together they would count everything several times.
        filters = (where("window_s", _WINDOW_S), *filters)
    return Chart(
        name=name,
        title=title,
        table=table,
        drawing=drawing,
        metrics=tuple(part for part in parts if isinstance(part, Metric)),
        buckets=tuple(part for part in parts if isinstance(part, Bucket)),
        filters=filters,
        about=about,
    )

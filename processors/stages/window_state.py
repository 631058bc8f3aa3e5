"""What the windows of one stream depend on at a place in the journal, and what of it can be forgotten."""

from typing import Any, Final

import msgspec
import polars as pl

from gateway.core.errors import CheckpointError
from processors.contracts.windows import WindowPlan
from processors.stages.roster import EMPTY, owner_of
from processors.stages.runs import Runs, from_ipc, to_ipc, to_runs
from processors.stages.watermarks import Patience

_VERSION: Final = 1
KEY: Final = ("_device", "_panes", "_start")
"""A window: its device, its length and its start, both in panes."""
OPEN_SCHEMA: Final = {
    "_device": pl.UInt32(),
    "_panes": pl.Int64(),
    "_start": pl.Int64(),
    "_events": pl.Int32(),
    "_dirty": pl.Boolean(),
    "_samples": pl.Int64(),
}
_TIMES: Final[dict[str, pl.DataType]] = {"_newest": pl.Int64(), "_received": pl.Int64()}
_DEVICES: Final = EMPTY.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in _TIMES.items())


class WindowState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A value: nothing changes it.

    Attributes:
        plan: The plan it was made under.
        devices: Row = device code; names (of a plan with parts also the part's), `_newest` measured_at, `_received` of
            its last reading (both Int64 us). Kept for ever, one row a device or part.
        open_windows: Windows that have samples and are not closed: key, `_events` so far, `_dirty` (has samples that no
            event has shown), `_samples`.
        closed_windows: Log of closed windows: key, `_events`, `_samples`; rows of one window add up.
        open_samples: Merged readings of open panes (columns as in panes.py).
        closed_samples: Merged readings of closed panes, while a late reading may still revise them.
        panes: Pane rows that a larger window may still need; of one pane the last row counts.
    """

    plan: WindowPlan
    devices: pl.DataFrame = _DEVICES
    open_windows: pl.DataFrame = pl.DataFrame(schema=OPEN_SCHEMA)
    closed_windows: Runs = Runs()
    open_samples: Runs = Runs()
    closed_samples: Runs = Runs()
    panes: Runs = Runs()

    @classmethod
    def empty(cls, plan: WindowPlan) -> "WindowState":
        """Return the state before the journal's first entry."""
        if plan.part is None:
            return cls(plan=plan)
        owner: dict[str, pl.DataType] = dict.fromkeys(owner_of(plan.part), pl.String())
        return cls(plan=plan, devices=pl.DataFrame(schema=owner | _TIMES))

    def to_bytes(self) -> bytes:
        """Return the state as one MessagePack map of Arrow IPC files; what no longer matters is left out."""
        folds = Folds(self.plan, self.devices)
        return msgspec.msgpack.encode(
            {
                "version": _VERSION,
                "plan": msgspec.msgpack.encode(self.plan),
                "devices": to_ipc(self.devices),
                "open_windows": to_ipc(self.open_windows),
                "closed_windows": to_ipc(self.closed_windows.to_frame(folds.windows)),
                "open_samples": to_ipc(self.open_samples.to_frame(folds.nothing)),
                "closed_samples": to_ipc(self.closed_samples.to_frame(folds.samples)),
                "panes": to_ipc(self.panes.to_frame(folds.panes)),
            }
        )

    @classmethod
    def from_bytes(cls, plan: WindowPlan, payload: bytes) -> "WindowState":
        """Invert `to_bytes`.

        Raises:
            CheckpointError: If the bytes are of another version, or were made under another plan: windows that follow
                one plan by half would be true of neither.
        """
        packed: dict[str, Any] = msgspec.msgpack.decode(payload)
        if packed["version"] != _VERSION:
            raise CheckpointError(
                f"window state is version {packed['version']}, not {_VERSION}; rebuild it from the journal"
            )
        # Decoded, because a plan stored before it could name a part is the same plan in other bytes.
        if msgspec.msgpack.decode(packed["plan"], type=WindowPlan) != plan:
            raise CheckpointError("window state was made under another window plan; rebuild it from the journal")
        devices, open_windows = from_ipc(packed["devices"]), from_ipc(packed["open_windows"])
        assert devices is not None
        assert open_windows is not None
        return cls(
            plan=plan,
            devices=devices,
            open_windows=open_windows,
            **{
                name: to_runs(from_ipc(packed[name]))
                for name in ("closed_windows", "open_samples", "closed_samples", "panes")
            },
        )


class Folds:
    """What each pile of a window state may drop or add up, given how far the devices' time has come."""

    def __init__(self, plan: WindowPlan, devices: pl.DataFrame) -> None:
        self._lost = devices.select(Patience.of(plan).lost_pane("_newest")).to_series()
        self._longest = max(plan.sizes_s) // plan.pane_s

    def _revisable(self, frame: pl.DataFrame, end: pl.Expr) -> pl.DataFrame:
        return frame.filter(end > self._lost.gather(frame["_device"]))

    def nothing(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the rows as they are."""
        return frame

    def samples(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the samples of panes that a late reading may still revise."""
        return self._revisable(frame, pl.col("_pane") + 1)

    def panes(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the last row of each pane whose longest window may still be made or revised."""
        live = self._revisable(frame, (pl.col("_pane") // self._longest + 1) * self._longest)
        return live.unique(["_device", "_pane"], keep="last", maintain_order=True)

    def windows(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the sums of each closed window that may still be revised."""
        return self._revisable(frame, pl.col("_start") + pl.col("_panes")).group_by(KEY, maintain_order=True).sum()

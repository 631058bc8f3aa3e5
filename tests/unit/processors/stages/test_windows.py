"""When windows close, what is late, what silence does, and what the state forgets."""

import msgspec
import polars as pl
import pytest

from gateway.core.errors import CheckpointError
from gateway.core.limits import PANE_SAMPLES_MAX
from processors.contracts.windows import AggregateKind
from processors.stages.windows import Advanced, WindowState, advance
from tests.unit.processors.stages.window_frames import START_S, TIME, plan_of, readings_of, said, ticks_of

PLAN = plan_of(("speed_kmh", AggregateKind.MEAN))
MINUTES = plan_of(("speed_kmh", AggregateKind.MEAN), sizes_s=(60,))
NO_TICKS = ticks_of()


def run(plan, *batches: tuple[pl.DataFrame, pl.DataFrame] | pl.DataFrame) -> list[Advanced]:
    """Advance an empty state batch by batch."""
    done, state = [], WindowState.empty(plan)
    for batch in batches:
        readings, ticks = batch if isinstance(batch, tuple) else (batch, NO_TICKS)
        done.append(advance(plan, state, readings, ticks))
        state = done[-1].state
    return done


def test_window_closes_with_the_first_reading_that_moves_the_watermark_to_its_end() -> None:
    """64.9 s is still within the disorder of the first minute; 65 s ends it and gives its offset to the row."""
    (done,) = run(MINUTES, readings_of((1, "a", 10, 2.0), (2, "a", 64.9, 0.0), (3, "a", 65, 0.0), (4, "a", 66, 0.0)))
    assert said(done.windows, "mean") == [("a", 60, 0, 0, 3, 1, 2.0)]


def test_row_carries_the_receipt_of_the_reading_that_closed_it() -> None:
    """The lake's partition follows the causing entry, whatever clock the device has."""
    (done,) = run(MINUTES, readings_of((1, "a", 10, 2.0), (2, "a", 70, 0.0), received={2: 9_000}))
    assert done.windows["received_at"].dt.epoch("us").to_list() == [(START_S + 9_000) * 1_000_000]


def test_reading_out_of_order_within_the_bound_is_on_time() -> None:
    """A reading of the first minute that comes after one of 64 s is part of it."""
    (done,) = run(MINUTES, readings_of((1, "a", 64, 9.0), (2, "a", 10, 1.0), (3, "a", 65, 9.0)))
    assert done.readings["late"].to_list() == [0, 0, 0]
    assert said(done.windows, "mean") == [("a", 60, 0, 0, 3, 1, 1.0)]


def test_late_reading_revises_the_closed_window() -> None:
    """A minute that was said is said again with the late reading, and a higher revision."""
    first, second = run(MINUTES, readings_of((1, "a", 10, 1.0), (2, "a", 70, 9.0)), readings_of((3, "a", 20, 2.0)))
    assert said(first.windows, "mean") == [("a", 60, 0, 0, 2, 1, 1.0)]
    assert said(second.windows, "mean") == [("a", 60, 0, 1, 3, 2, 1.5)]
    assert (second.readings["late"].to_list(), second.late_revised, second.late_dropped) == ([1], 1, 0)


def test_close_and_revision_in_one_batch_give_the_last_word_alone() -> None:
    """The revision counts the close that nobody saw, so that another cut of the journal agrees."""
    (done,) = run(MINUTES, readings_of((1, "a", 10, 1.0), (2, "a", 70, 9.0), (3, "a", 20, 2.0)))
    assert said(done.windows, "mean") == [("a", 60, 0, 1, 3, 2, 1.5)]


def test_late_reading_revises_every_closed_window_that_holds_it() -> None:
    """A late reading of a minute also revises the five minutes around it."""
    done = run(PLAN, readings_of((1, "a", 10, 1.0), (2, "a", 310, 9.0)), readings_of((3, "a", 20, 2.0)))
    assert said(done[1].windows, "mean") == [("a", 60, 0, 1, 3, 2, 1.5), ("a", 300, 0, 1, 3, 2, 1.5)]


def test_late_reading_for_an_open_larger_window_waits_for_its_close() -> None:
    """Five minutes that are still open take the late reading of a closed minute without a word."""
    done = run(
        PLAN,
        readings_of((1, "a", 10, 1.0), (2, "a", 70, 9.0)),
        readings_of((3, "a", 20, 2.0)),
        readings_of((4, "a", 305, 0.0)),
    )
    assert said(done[1].windows, "mean") == [("a", 60, 0, 1, 3, 2, 1.5)]
    assert said(done[2].windows, "mean") == [("a", 60, 60, 0, 4, 1, 9.0), ("a", 300, 0, 0, 4, 3, 4.0)]


def test_late_reading_opens_a_minute_that_nobody_had_seen() -> None:
    """A closed minute without samples is first said when a late reading fills it."""
    (done,) = run(MINUTES, readings_of((1, "a", 100, 1.0), (2, "a", 10, 2.0)))
    assert said(done.windows, "mean") == [("a", 60, 0, 0, 2, 1, 2.0)]


def test_reading_beyond_lateness_is_kept_unmerged() -> None:
    """At a watermark of 360 s the first minute can no longer be revised, at 359 s it can."""
    for newest_s, expected in ((364, 1), (365, 2)):
        (done,) = run(MINUTES, readings_of((1, "a", newest_s, 1.0), (2, "a", 10, 2.0)))
        assert [0, expected] == done.readings["late"].to_list()
        assert (expected == 1, expected == 2) == (done.late_revised == 1, done.late_dropped == 1)
        assert (expected == 1) == (done.windows.height == 1)


def test_late_marks_come_in_the_order_of_the_readings() -> None:
    """The readings keep their order although windows are computed device by device."""
    (done,) = run(MINUTES, readings_of((1, "b", 100, 1.0), (2, "a", 100, 1.0), (3, "b", 10, 1.0), (4, "a", 101, 1.0)))
    assert done.readings["offset"].to_list() == [1, 2, 3, 4]
    assert done.readings["late"].to_list() == [0, 0, 1, 0]


def test_each_device_has_its_own_time() -> None:
    """A bus that comes back with readings two hours old is not late, and closes nobody else's windows."""
    (done,) = run(
        MINUTES, readings_of((1, "now", 7200, 1.0), (2, "bus", 0, 2.0), (3, "bus", 65, 3.0), (4, "now", 7201, 1.0))
    )
    assert done.readings["late"].to_list() == [0, 0, 0, 0]
    assert said(done.windows, "mean") == [("bus", 60, 0, 0, 3, 1, 2.0)]


def test_same_device_name_of_two_tenants_is_two_devices() -> None:
    """A reading of one tenant's device closes no window of the other's."""
    readings = readings_of((1, "a", 10, 1.0), (2, "a", 70, 2.0))
    mixed = readings.with_columns(tenant=pl.Series(["acme", "other"]))
    assert said(advance(MINUTES, WindowState.empty(MINUTES), mixed, NO_TICKS).windows) == []


def test_silent_device_is_said_at_the_first_tick_past_idle() -> None:
    """89 s after the last receipt is too early; the tick at 90 s gives its offset, later ones add nothing."""
    (done,) = run(PLAN, (readings_of((1, "a", 10, 1.0)), ticks_of((2, 99), (3, 100), (4, 105))))
    assert said(done.windows, "mean") == [("a", 60, 0, 0, 3, 1, 1.0), ("a", 300, 0, 0, 3, 1, 1.0)]


def test_silence_is_noticed_across_batches() -> None:
    """The tick may come batches after the last reading."""
    nothing = readings_of()
    done = run(MINUTES, readings_of((1, "a", 10, 1.0)), (nothing, ticks_of((2, 99))), (nothing, ticks_of((3, 100))))
    assert [said(one.windows, "mean") for one in done[1:]] == [[], [("a", 60, 0, 0, 3, 1, 1.0)]]


def test_device_that_returns_after_silence_is_not_late() -> None:
    """An idle window stays open: what comes later is merged and said at the close, as revision 1."""
    returned = readings_of((3, "a", 20, 3.0), (4, "a", 65, 9.0), received={3: 200, 4: 201})
    done = run(MINUTES, (readings_of((1, "a", 10, 1.0)), ticks_of((2, 100))), returned)
    assert said(done[0].windows, "mean") == [("a", 60, 0, 0, 2, 1, 1.0)]
    assert done[1].readings["late"].to_list() == [0, 0]
    assert said(done[1].windows, "mean") == [("a", 60, 0, 1, 4, 2, 2.0)]


def test_idle_window_without_news_is_not_said_again() -> None:
    """The close of a window whose content was said when the device fell silent is silent."""
    done = run(MINUTES, (readings_of((1, "a", 10, 1.0)), ticks_of((2, 100))), readings_of((3, "a", 65, 9.0)))
    assert said(done[1].windows) == []


def test_idle_row_holds_what_came_before_its_tick() -> None:
    """A reading that follows the tick in the same batch is no part of the tick's row."""
    batch = readings_of((1, "a", 10, 1.0), (3, "a", 20, 3.0), received={3: 120})
    (done,) = run(MINUTES, (batch, ticks_of((2, 100))))
    assert said(done.windows, "mean") == [("a", 60, 0, 0, 2, 1, 1.0)]


def test_silence_is_counted_from_receipt_not_from_measurement() -> None:
    """A device that sends old readings is not silent."""
    (done,) = run(MINUTES, (readings_of((1, "a", 0, 1.0), received={1: 1000}), ticks_of((2, 1089))))
    assert said(done.windows) == []


def test_clock_that_goes_back_hides_no_silence() -> None:
    """Each pause is measured on its own, also after the gateway's clock was set back."""
    batch = readings_of((1, "a", 10, 1.0), received={1: 5})
    (done,) = run(MINUTES, (batch, ticks_of((0, 500), (2, 50), (3, 95), (4, 96))))
    assert said(done.windows, "mean") == [("a", 60, 0, 0, 3, 1, 1.0)]


def test_larger_window_is_the_sum_of_its_panes() -> None:
    """Five minutes count and average all readings of their minutes, empty minutes included."""
    (done,) = run(PLAN, readings_of((1, "a", 0, 1.0), (2, "a", 200, 3.0), (3, "a", 210, 5.0), (4, "a", 306, 9.0)))
    assert ("a", 300, 0, 0, 4, 3, 3.0) in said(done.windows, "mean")


def test_state_is_left_as_it_was() -> None:
    """An aborted batch leaves no trace: advancing twice from one state gives the same twice."""
    (done,) = run(PLAN, readings_of((1, "a", 10, 1.0), (2, "a", 70, 2.0)))
    before = done.state.to_bytes()
    twice = [advance(PLAN, done.state, readings_of((3, "a", 20, 5.0), (4, "a", 130, 1.0)), NO_TICKS) for _ in range(2)]
    assert before == done.state.to_bytes()
    assert said(twice[0].windows, "mean") == said(twice[1].windows, "mean")


def test_state_survives_bytes_and_refuses_another_plan() -> None:
    """A checkpoint continues where it stopped; under another plan it would say half-true windows."""
    (done,) = run(MINUTES, readings_of((1, "a", 10, 1.0)))
    state = WindowState.from_bytes(MINUTES, done.state.to_bytes())
    assert said(advance(MINUTES, state, readings_of((2, "a", 70, 0.0)), NO_TICKS).windows, "mean") == [
        ("a", 60, 0, 0, 2, 1, 1.0)
    ]
    with pytest.raises(CheckpointError, match="another window plan"):
        WindowState.from_bytes(PLAN, done.state.to_bytes())


PARTS = plan_of(("speed_kmh", AggregateKind.MEAN), sizes_s=(60,), part="mode")


def test_part_of_a_device_has_windows_of_its_own() -> None:
    """One outlet's time closes nothing of another's, and rows that name no part share their own windows."""
    parts = pl.Series("mode", ["1", "2", "1", None, "2"])
    readings = readings_of(
        (1, "a", 10, 2.0), (2, "a", 20, 5.0), (3, "a", 70, 1.0), (4, "a", 15, 9.0), (5, "a", 30, 7.0)
    )
    first, second = run(PARTS, readings.with_columns(parts), (readings_of(), ticks_of((6, 400))))
    assert [("1", 2.0)] == first.windows.select("mode", "mean").rows()
    assert ["tenant", "device_id", "mode", "window_start"] == first.windows.columns[:4]
    assert [("a", None, 9.0), ("a", "1", 1.0), ("a", "2", 6.0)] == second.windows.select(
        "device_id", "mode", "mean"
    ).sort("mode").rows()


def test_state_of_parts_survives_bytes() -> None:
    """A part that was null is known again, too."""
    readings = readings_of((1, "a", 10, 2.0), (2, "a", 20, 5.0)).with_columns(pl.Series("mode", ["1", None]))
    (done,) = run(PARTS, readings)
    state = WindowState.from_bytes(PARTS, done.state.to_bytes())
    more = readings_of((3, "a", 70, 1.0), (4, "a", 70, 1.0)).with_columns(pl.Series("mode", [None, "1"]))
    windows = advance(PARTS, state, more, NO_TICKS).windows
    assert [(None, 5.0), ("1", 2.0)] == windows.select("mode", "mean").sort("mode").rows()
    assert state.devices.height == 2


def test_plan_stored_before_there_were_parts_is_the_same_plan() -> None:
    """A checkpoint of the program before goes on; nothing begins anew."""
    (done,) = run(MINUTES, readings_of((1, "a", 10, 1.0)))
    packed = msgspec.msgpack.decode(done.state.to_bytes())
    plan = msgspec.msgpack.decode(packed["plan"])
    assert plan.pop("part") is None
    old = msgspec.msgpack.encode(packed | {"plan": msgspec.msgpack.encode(plan)})
    assert WindowState.from_bytes(MINUTES, old).open_windows.equals(done.state.open_windows)


def test_what_can_no_longer_be_revised_is_forgotten() -> None:
    """An hour at 1 Hz leaves the samples of the last six minutes or so, and the rows of as many windows."""
    batches = [readings_of(*((60 * m + s, "a", 60 * m + s, 1.0) for s in range(60))) for m in range(60)]
    state = WindowState.from_bytes(PLAN, run(PLAN, *batches)[-1].state.to_bytes())
    assert 300 <= state.closed_samples.height <= 420
    assert state.open_samples.height <= 120
    assert state.panes.height <= 12
    assert state.closed_windows.height <= 12


def test_full_pane_takes_no_more_samples_whatever_the_cut() -> None:
    """A device whose time stands still fills one pane to its limit; the rest is counted and left to recompute."""
    extra = 5
    rows = [(i, "a", i % 50 + 0.5, 1.0) for i in range(PANE_SAMPLES_MAX + extra)]
    ender = readings_of((10**6, "a", 70, 0.0))
    for cuts in ([rows], [rows[:4_000], rows[4_000:10_002], rows[10_002:]]):
        done = run(MINUTES, *(readings_of(*part) for part in cuts), ender)
        assert extra == sum(one.pane_full for one in done)
        assert [2] * extra == pl.concat(one.readings for one in done)["late"].to_list()[PANE_SAMPLES_MAX:-1]
        assert said(done[-1].windows, "mean") == [("a", 60, 0, 0, 10**6, PANE_SAMPLES_MAX, 1.0)]


def test_full_pane_counts_what_late_readings_added_batch_by_batch() -> None:
    """Late readings of a closed pane fill it no further than readings in time would."""
    opener = readings_of((0, "a", 10, 1.0), (1, "a", 70, 0.0))
    step = PANE_SAMPLES_MAX // 3
    parts = [readings_of(*((2 + k * step + i, "a", i % 50, 1.0) for i in range(step))) for k in range(4)]
    done = run(MINUTES, opener, *parts)
    merged = sum(one.late_revised for one in done)
    assert merged + 1 == PANE_SAMPLES_MAX
    assert 4 * step - merged == sum(one.pane_full for one in done)


def test_output_has_the_documented_columns_also_when_empty() -> None:
    """The lake's schema does not depend on what a batch holds."""
    expected = {
        "tenant": pl.String(),
        "device_id": pl.String(),
        "window_start": TIME,
        "window_s": pl.Int32(),
        "revision": pl.Int32(),
        "n": pl.Int64(),
        "mean": pl.Float64(),
        "offset": pl.Int64(),
        "received_at": TIME,
    }
    for batch in (readings_of(), readings_of((1, "a", 10, 1.0), (2, "a", 400, 1.0))):
        assert expected == dict(run(PLAN, batch)[0].windows.schema)

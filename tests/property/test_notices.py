"""In whatever order things happen: nothing is told twice, all that should be told is, and a restart changes nothing."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processors.notices.config import Escalation, NoticePlan
from processors.notices.engine import Notice
from processors.stages.alert_record import AlertEvent, read_matchers
from tests.unit.processors.notices.desk import Desk, plan, route

WAIT_S, INTERVAL_S, REPEAT_S, AFTER_S = 5, 20, 60, 30
NAMES = [f"{device}-{rule}" for device in ("bus-1", "bus-2") for rule in ("hot", "weak", "gone")]
CHAT = route("chat", group_by=("device",), wait_s=WAIT_S, interval_s=INTERVAL_S, repeat_s=REPEAT_S, goes_on=True)
PLANS = [
    plan(CHAT),
    plan(CHAT, route("chat", "mail", match=["rule=hot"], wait_s=0, interval_s=1, repeat_s=None)),
    plan(CHAT, Escalation(after_s=AFTER_S, to=("boss", "chat"), group_by=("rule",), interval_s=INTERVAL_S)),
]
SHORT = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Act(NamedTuple):
    """Something that happens: an alert's next state, or a silence of its device for so many seconds."""

    name: str
    kind: str
    span_s: int = 0


class Moment(NamedTuple):
    """What happens so many seconds after the moment before."""

    after_s: int
    acts: list[Act]


ALERT_ACTS = st.builds(Act, st.sampled_from(NAMES), st.sampled_from(["fire", "fire", "resolve", "ack", "unack"]))
SILENCES = st.builds(Act, st.sampled_from(NAMES), st.just("silence"), st.integers(1, 60))
ACTS = st.lists(
    st.one_of(ALERT_ACTS, ALERT_ACTS, SILENCES), max_size=5, unique_by=lambda act: (act.name, act.kind == "silence")
)
MOMENTS = st.lists(st.builds(Moment, st.sampled_from([0, 1, 3, 7, 19, 40]), ACTS), min_size=1, max_size=25)


def act_on(desk: Desk, at_s: float, act: Act) -> None:
    """Let it happen, if it can."""
    device, _, rule = act.name.rpartition("-")
    known = desk.alerts.get(act.name)
    if act.kind == "silence":
        desk.silence(at_s, at_s + act.span_s, f"device={device}", silence_id=f"s-{device}-{at_s}-{rule}")
    elif act.kind == "fire" and (known is None or not known.is_open):
        # What is gone inhibits what is weak on the same device.
        inhibits = ("battery_pack/weak",) if rule == "gone" else ()
        desk.fire(at_s, act.name, device_id=device, rule=rule, inhibits=inhibits)
    elif act.kind == "resolve" and known is not None and known.is_open:
        desk.resolve(at_s, act.name)
    elif act.kind == "ack" and known is not None and known.state == "firing":
        desk.ack(at_s, act.name)
    elif act.kind == "unack" and known is not None and known.state == "acknowledged":
        desk.unack(at_s, act.name)


def play(
    notice_plan: NoticePlan, moments: Sequence[Moment], *, each: Callable[[Desk, float], None] | None = None
) -> Desk:
    """Let moments pass second by second, asking once at the end of each; `each` may look at the desk then."""
    desk = Desk(notice_plan)
    at_s = 0
    for moment in [*moments, Moment(200, [])]:
        for _ in range(moment.after_s):
            at_s += 1
            desk.look(at_s)
            if each:
                each(desk, at_s)
        for act in moment.acts:
            act_on(desk, at_s, act)
        desk.look(at_s)
        if each:
            each(desk, at_s)
    return desk


def beliefs(notices: Sequence[Notice]) -> dict[tuple[str, str], str]:
    """Return what each receiver believes of each alert; an escalation is told apart."""
    believed: dict[tuple[str, str], str] = {}
    for notice in notices:
        for event in notice.alerts:
            believed[notice.receiver, event.alert_id] = event.state
    return believed


@SHORT
@given(st.sampled_from(PLANS), MOMENTS)
def test_no_name_stands_for_two_notices(notice_plan: NoticePlan, moments: list[Moment]) -> None:
    """Names are unique over everything that was ever told."""
    notices = play(notice_plan, moments).notices
    assert len(notices) == len({notice.notice_id for notice in notices})


@SHORT
@given(st.sampled_from(PLANS), MOMENTS, st.sets(st.integers(0, 400), max_size=10))
def test_restart_changes_nothing(notice_plan: NoticePlan, moments: list[Moment], restarts: set[int]) -> None:
    """An engine that is restored from bytes again and again makes the very notices of one that never stopped."""

    def restart(desk: Desk, at_s: float) -> None:
        if at_s in restarts:
            desk.restart(at_s)

    assert play(notice_plan, moments).notices == play(notice_plan, moments, each=restart).notices


@SHORT
@given(st.sampled_from(PLANS), MOMENTS, st.randoms(use_true_random=False))
def test_order_within_a_moment_does_not_matter(
    notice_plan: NoticePlan, moments: list[Moment], random: st.DataObject
) -> None:
    """Events of different alerts and silences at one time lead to the same notices in whatever order they come."""
    shuffled = [Moment(moment.after_s, random.sample(moment.acts, len(moment.acts))) for moment in moments]  # type: ignore[attr-defined]
    assert play(notice_plan, moments).notices == play(notice_plan, shuffled).notices


@SHORT
@given(MOMENTS)
def test_each_turn_is_told_once(moments: list[Moment]) -> None:
    """What is told differs from what the receiver believes, unless it is a repeat; an end follows a beginning."""
    believed: dict[str, str] = {}
    for notice in play(PLANS[0], moments).notices:
        for event in notice.alerts:
            before = believed.get(event.alert_id, "resolved")
            assert (before == event.state) == (notice.reason == "repeat"), (before, notice)
            believed[event.alert_id] = event.state


class Naive:
    """For each alert since when a receiver should have been told another state than it believes."""

    def __init__(self) -> None:
        self.since: dict[str, float] = {}

    def __call__(self, desk: Desk, at_s: float) -> None:
        believed = beliefs(desk.notices)
        silences = desk.engine._routing.quiet.silences
        for name, event in desk.alerts.items():
            belief = believed.get(("chat", name), "resolved")
            is_quiet = event.is_open and (
                any(one.matches(event.labels, event.at_us + int(at_s * 1_000_000)) for one in silences)
                or (event.rule == "weak" and _is_open(desk.alerts.get(f"{event.device_id}-gone")))
                or (event.state == "acknowledged" and belief == "resolved")
            )
            if belief == event.state or is_quiet:
                self.since.pop(name, None)
            else:
                since = self.since.setdefault(name, at_s)
                # Nothing waits longer than for company, then for the notice before.
                assert at_s - since <= WAIT_S + INTERVAL_S, (name, since, at_s)


def _is_open(event: AlertEvent | None) -> bool:
    return event is not None and event.is_open


@SHORT
@given(MOMENTS)
def test_whatever_should_be_told_is_told_in_time(moments: list[Moment]) -> None:
    """A state that nothing covers is told within `wait` and `interval`, held against ten lines that know no groups."""
    play(PLANS[0], moments, each=Naive())


@SHORT
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 30)), min_size=1, unique_by=lambda fired: fired[0]))
def test_first_notice_comes_when_the_wait_of_the_first_alert_is_over(fired: list[tuple[str, int]]) -> None:
    """Each device's first notice has all that fired by then, and no alert is in two first notices."""
    desk = Desk(plan(route("chat", group_by=("device",), wait_s=WAIT_S, interval_s=INTERVAL_S, repeat_s=None)))
    for name, at_s in sorted(fired, key=lambda one: one[1]):
        desk.run(at_s - 1)
        desk.fire(at_s, name, device_id=name[:5], rule=name[6:])
    desk.run(1000)
    for device in {name[:5] for name, _ in fired}:
        times = {name: at for name, at in fired if name.startswith(device)}
        told = [notice for notice in desk.notices if notice.group["device"] == device]
        first_s = min(times.values()) + WAIT_S
        assert (first_s * 1_000_000) == told[0].created_at_us - desk.alerts[fired[0][0]].at_us
        assert {name for name, at in times.items() if at < first_s} <= {event.alert_id for event in told[0].alerts}
        assert sorted(times) == sorted(event.alert_id for notice in told for event in notice.alerts)


def test_plans_differ_in_what_they_tell() -> None:
    """The three plans above exercise routes, second receivers and escalations; none is idle."""
    moments = [Moment(0, [Act("bus-1-hot", "fire"), Act("bus-2-weak", "fire")])]
    seen = [{notice.receiver for notice in play(one, moments).notices} for one in PLANS]
    assert [{"chat"}, {"chat", "mail"}, {"chat", "boss"}] == seen
    assert read_matchers(["rule=hot"]) == PLANS[1].routes[1].matchers

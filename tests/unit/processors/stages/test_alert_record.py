"""Matchers, names and labels of alerts."""

import pytest

from processors.stages.alert_record import (
    CHANNELS,
    AlertEvent,
    MatcherError,
    SilenceEvent,
    alert_id_of,
    read_matcher,
    read_matchers,
    silence_id_of,
)
from tests.unit.processors.stages.alert_frames import alerts, begins, run_all


@pytest.mark.parametrize(
    ("text", "site", "matches"),
    [
        pytest.param("site=depot", "depot", True, id="equal"),
        pytest.param("site=depot", "depot-1", False, id="not a beginning"),
        pytest.param("site = north yard ", "north yard", True, id="spaces around"),
        pytest.param("site!=depot", "yard", True, id="other"),
        pytest.param("site!=depot", None, True, id="no label is another"),
        pytest.param("site=", None, True, id="no label is empty"),
        pytest.param("site~depot-(a|b)", "depot-b", True, id="expression"),
        pytest.param("site=~depot-.", "depot-b", True, id="as Alertmanager writes it"),
        pytest.param("site~depot", "depot-b", False, id="of the whole value"),
        pytest.param("site~a|b", "ab", False, id="alternatives of the whole value"),
        pytest.param("site~(a+)+b", "a" * 120, False, id="in linear time"),
    ],
)
def test_matcher_says_what_it_matches(text: str, site: str | None, *, matches: bool) -> None:
    """An expression looks at the whole value, as Alertmanager's does."""
    assert matches is read_matcher(text).matches({} if site is None else {"site": site})


@pytest.mark.parametrize(
    ("text", "what"),
    [
        pytest.param("depot", "'depot' is no matcher", id="no operator"),
        pytest.param("colour=red", "there is no label 'colour'", id="unknown label"),
        pytest.param("site~(", "'(' is no regular expression", id="open group"),
        pytest.param("site~a)(b", "'a)(b' is no regular expression", id="breaks out of the anchors"),
        pytest.param("site=" + "x" * 300, "matcher has 305 characters, limit is 300", id="too long"),
        pytest.param("si\x1bte", "'si\\x1bte' is no matcher", id="control characters"),
    ],
)
def test_matcher_that_cannot_be_used_says_why(text: str, what: str) -> None:
    """And what to write instead."""
    with pytest.raises(MatcherError) as refused:
        read_matcher(text)
    assert what == refused.value.what
    assert refused.value.mend


@pytest.mark.parametrize("count", [0, 17])
def test_number_of_matchers_is_bounded(count: int) -> None:
    """None would silence everything."""
    with pytest.raises(MatcherError, match=f"{count} matchers given"):
        read_matchers(["device=a"] * count)


def test_matcher_reads_what_it_prints() -> None:
    """An order carries matchers as text."""
    for text in ("device=a b", "rule!=silent", "site~x.*"):
        assert text == str(read_matcher(text))


def test_name_of_an_alert_tells_episodes_apart() -> None:
    """Every part of the key counts, and borders between them do."""
    names = {
        alert_id_of("t", "d", None, "s", "r", 1),
        alert_id_of("t", "d", None, "s", "r", 2),
        alert_id_of("t", "d", "", "s", "r", 1),
        alert_id_of("t", "d", "1", "s", "r", 1),
        alert_id_of("t", "ds", None, "", "r", 1),
    }
    assert (5, {20}) == (len(names), {len(name) for name in names})


def test_name_of_an_alert_stays() -> None:
    """Receivers keep it as a key, so another release must give the same."""
    assert "08175c4ef17ec571a0e3" == alert_id_of("default", "bus-1", None, "battery_pack", "hot", 1)


def test_silences_of_one_message_have_names_of_their_own() -> None:
    """A message may hold several orders."""
    assert ["s7", "s7.1"] == [silence_id_of(7), silence_id_of(7, 1)]


def test_labels_are_text_even_where_there_is_none() -> None:
    """What matchers and routes look at."""
    (event,) = alerts(run_all(begins(1)))
    expected = {
        "tenant": "default",
        "device": "bus-1",
        "part": "",
        "site": "",
        "stream": "battery_pack",
        "rule": "hot",
        "severity": "warning",
    }
    assert expected == event.labels


@pytest.mark.parametrize(
    ("at_us", "tenant", "removed", "matches"),
    [
        pytest.param(9, "t", False, False, id="before"),
        pytest.param(10, "t", False, True, id="at its start"),
        pytest.param(20, "t", False, False, id="at its end"),
        pytest.param(15, "u", False, False, id="another tenant"),
        pytest.param(15, "t", True, False, id="removed"),
    ],
)
def test_silence_counts_in_its_time_for_its_tenant(at_us: int, tenant: str, *, removed: bool, matches: bool) -> None:
    """The end is the first moment at which it does not count."""
    silence = SilenceEvent(
        offset=1,
        received_at_us=1,
        silence_id="s1",
        tenant="t",
        matchers=read_matchers(["device=d", "rule!=x"]),
        starts_at_us=10,
        ends_at_us=20,
        by="anna",
        why="x",
        removed=removed,
    )
    assert matches is silence.matches({"tenant": tenant, "device": "d", "rule": "r"}, at_us)


def test_every_event_has_a_channel() -> None:
    """Of the results journal."""
    assert "alert" == CHANNELS[AlertEvent]
    assert 3 == len(set(CHANNELS.values()))

"""The topic grammar against naive oracles."""

import re

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ids import Channel, DeviceId, TenantId
from gateway.wire.topics import DEFAULT_PATTERN, TopicTable, command_topic, is_command_filter, is_filter, is_matching

levels = st.text("abc+#$/\0é", max_size=4)
identifiers = st.text("abé.-_", min_size=1, max_size=5)
topic_texts = st.lists(st.sampled_from(["v1", "t", "d", "", "x", "$S"]), min_size=1, max_size=6).map("/".join)
filter_texts = st.lists(st.sampled_from(["v1", "t", "d", "", "x", "+", "#", "a+"]), min_size=1, max_size=6).map(
    "/".join
)


@given(identifiers, identifiers, st.lists(identifiers, min_size=1, max_size=5).map("/".join))
def test_what_is_resolved_is_found_back(tenant: str, device_id: str, channel: str) -> None:
    """topic_of and resolve are inverse, under each pattern that can say all three."""
    for patterns in ([(DEFAULT_PATTERN, None)], [("x/{device_id}/y/{tenant}/{channel}", None)]):
        table = TopicTable.from_patterns(patterns)
        wanted = (TenantId(tenant), DeviceId(device_id), Channel(channel))
        topic = table.topic_of(*wanted)
        assert topic is not None
        assert wanted == table.resolve(topic)


@given(topic_texts)
def test_default_pattern_agrees_with_a_regular_expression(topic: str) -> None:
    """One level each for tenant and device, the rest is the channel."""
    naive = re.fullmatch(r"v1/([^/+#$\0]+)/([^/+#$\0]+)/(.+)", topic)
    assert (naive and naive.groups()) == TopicTable.from_patterns([(DEFAULT_PATTERN, None)]).resolve(topic)


@given(filter_texts, topic_texts)
def test_matching_agrees_with_a_regular_expression(topic_filter: str, topic: str) -> None:
    """+ is one level, a last # any rest and its parent."""
    if not is_filter(topic_filter):
        return
    pattern = re.escape(topic_filter).replace(r"\+", "[^/]*")
    if pattern == r"\#":
        pattern = ".*"
    pattern = re.sub(r"/\\#$", "(/.*)?", pattern)
    expected = re.fullmatch(pattern, topic) is not None
    if topic.startswith("$") and topic_filter[0] in "+#":
        expected = False
    assert expected == is_matching(topic_filter, topic)


@given(identifiers, identifiers, filter_texts, identifiers, st.lists(identifiers, min_size=1, max_size=3).map("/".join))
def test_no_granted_filter_hears_another_device(
    tenant: str, device_id: str, topic_filter: str, other: str, request_id: str
) -> None:
    """Whatever a device may subscribe to, commands of another device do not match it."""
    own = (TenantId(tenant), DeviceId(device_id))
    for asked in (
        topic_filter,
        f"v1/{tenant}/{device_id}/cmd/{topic_filter}",
        f"v1/{tenant}/{device_id}/{topic_filter}",
    ):
        if is_command_filter(asked, *own) and other != device_id:
            assert not is_matching(asked, command_topic(TenantId(tenant), DeviceId(other), request_id))


@given(levels)
def test_any_text_is_resolved_or_not(text: str) -> None:
    """No topic raises, and identifiers never hold a separator or wildcard."""
    resolved = TopicTable.from_patterns([(DEFAULT_PATTERN, None)]).resolve(f"v1/t/{text}/x")
    if resolved is not None:
        assert not set("/+#$\0") & set(resolved.device_id)

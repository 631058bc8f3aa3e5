"""The topic grammar, by example."""

import pytest

from gateway.core.errors import ProtocolViolation
from gateway.core.ids import Channel, DeviceId, TenantId
from gateway.wire.topics import (
    DEFAULT_PATTERN,
    Resolved,
    TopicTable,
    command_topic,
    is_command_filter,
    is_matching,
    topic_name,
)

TENANT, DEVICE = TenantId("acme"), DeviceId("bus-1")
PATTERNS = [
    (DEFAULT_PATTERN, None),
    ("spBv1.0/{tenant}/DDATA/+/{device_id}", "sparkplug"),
    ("tesla/{device_id}/v/{channel}", None),
    ("ovms/+/{device_id}/metric/#", "metric"),
]


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("v1/acme/bus-1/telemetry", ("acme", "bus-1", "telemetry")),
        ("v1/acme/bus-1/cmd/7/response", ("acme", "bus-1", "cmd/7/response")),
        ("spBv1.0/acme/DDATA/node/bus-1", ("acme", "bus-1", "sparkplug")),
        ("tesla/VIN1/v/Soc", ("default", "VIN1", "Soc")),
        ("ovms/me/van/metric/v/b/soc", ("default", "van", "metric")),
        ("ovms/me/van/metric", ("default", "van", "metric")),
        ("v1/acme/bus-1", None),
        ("v1/acme/bus-1/", None),
        ("v1/acme//telemetry", None),
        ("v1//bus-1/telemetry", None),
        ("v1/acme/bus$1/telemetry", None),
        ("spBv1.0/acme/DDATA/node/bus-1/more", None),
        ("/v1/acme/bus-1/telemetry", None),
        ("", None),
    ],
)
def test_topic_is_resolved_by_the_first_pattern_that_matches(topic: str, expected: tuple[str, str, str] | None) -> None:
    """Identifiers are one level, not empty and without characters that filters use."""
    assert expected == TopicTable.from_patterns(PATTERNS).resolve(topic)


@pytest.mark.parametrize(
    ("pattern", "channel", "what"),
    [
        ("v1/{tenant}/{channel}", None, "needs one {device_id}"),
        ("v1/{device_id}/{device_id}/{channel}", None, "needs one {device_id}"),
        ("{channel}/{device_id}", None, "last"),
        ("v1/#/{device_id}", "x", "last"),
        ("v1/{device_id}", None, "name its channel"),
        ("v1/{device_id}/{channel}", "x", "one of both"),
        ("v1/{device}/{device_id}", "x", "'{device}'"),
        ("v1/a+/{device_id}", "x", "'a+'"),
        ("/".join(["a"] * 16) + "/{device_id}", "x", "17 levels"),
    ],
)
def test_bad_pattern_says_what_is_wrong(pattern: str, channel: str | None, what: str) -> None:
    """The message names the pattern and the mend."""
    with pytest.raises(ValueError, match="topic pattern") as error:
        TopicTable.from_patterns([(pattern, channel)])
    assert what in str(error.value)


def test_topic_is_found_back() -> None:
    """`topic_of` gives a topic that resolves to what was asked, or None."""
    table = TopicTable.from_patterns(PATTERNS)
    assert table.topic_of(TENANT, DEVICE, Channel("a/b")) == "v1/acme/bus-1/a/b"
    only_tesla = TopicTable.from_patterns([("tesla/{device_id}/v/{channel}", None)])
    assert only_tesla.topic_of(TenantId("default"), DEVICE, Channel("Soc")) == "tesla/bus-1/v/Soc"
    assert only_tesla.topic_of(TENANT, DEVICE, Channel("Soc")) is None
    assert only_tesla.topic_of(TenantId("default"), DeviceId("a/b"), Channel("Soc")) is None


def test_own_command_filter_matches_own_commands_only() -> None:
    """A filter that is granted matches no topic of another device."""
    for narrowing in ("#", "+", "abc", "+/x", "abc/#"):
        assert is_command_filter(f"v1/acme/bus-1/cmd/{narrowing}", TENANT, DEVICE)
    for foreign in ("#", "v1/#", "v1/acme/bus-1/cmd/", "v1/acme/bus-1/cmd", "v1/acme/bus-1/cmd/#/x", "v1/acme/+/cmd/#"):
        assert not is_command_filter(foreign, TENANT, DEVICE)
    assert is_matching("v1/acme/bus-1/cmd/#", command_topic(TENANT, DEVICE, "7"))


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/+", "a", False),
        ("+/b", "/b", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("a/b", "a/b", True),
        ("a/b", "a/c", False),
    ],
)
def test_filters_match_as_section_4_7_says(topic_filter: str, topic: str, expected: bool) -> None:
    """Examples of the standard."""
    assert expected == is_matching(topic_filter, topic)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [(b"", "topic_empty"), (b"a\0", "topic_nul"), (b"a/#", "topic_wildcard"), (b"\xed\xa0\x80", "topic_utf8")],
)
def test_topic_name_refuses_what_the_standard_forbids(raw: bytes, reason: str) -> None:
    """Surrogates, NUL, wildcards and nothing at all."""
    with pytest.raises(ProtocolViolation) as error:
        topic_name(raw)
    assert reason == error.value.reason


def test_resolved_is_a_plain_triple() -> None:
    """Callers unpack it."""
    assert Resolved(TENANT, DEVICE, Channel("x")) == ("acme", "bus-1", "x")

"""Topic grammar: which topic belongs to which tenant, device and channel, and back.

A pattern is a topic whose levels may be `{tenant}`, `{device_id}` and, last, `{channel}`, which takes all levels that
are left. `+` stands for any one level and a last `#` for any rest; such a pattern names its channel beside it.
Contracts bring patterns, so that a fleet keeps the topics it has. Knows nothing of packets and of who may publish.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.core.errors import ProtocolViolation
from gateway.core.ids import Channel, DeviceId, TenantId
from gateway.core.limits import TOPIC_BYTES_MAX, TOPIC_LEVELS_MAX

DEFAULT_PATTERN: Final = "v1/{tenant}/{device_id}/{channel}"
TENANT_DEFAULT: Final = TenantId("default")

_PLACES: Final = ("{tenant}", "{device_id}", "{channel}")
_FORBIDDEN_IN_IDS: Final = frozenset("+#$\0")


class Resolved(NamedTuple):
    """What a topic is about."""

    tenant: TenantId
    device_id: DeviceId
    channel: Channel


class TopicTable:
    """Patterns in the order of their precedence: the first that matches wins. Immutable after construction."""

    def __init__(self, patterns: "Sequence[_Pattern]") -> None:
        self._patterns = tuple(patterns)

    @classmethod
    def from_patterns(
        cls, patterns: Sequence[tuple[str, str | None]], *, tenant_default: str = TENANT_DEFAULT
    ) -> "TopicTable":
        """Return the table of `(pattern, channel)`; the channel is None where the pattern has `{channel}`.

        Raises: ValueError: A pattern is no pattern, with what is wrong and what to write; the caller knows the file.
        """
        return cls([_Pattern(pattern, channel, tenant_default) for pattern, channel in patterns])

    def resolve(self, topic: str) -> Resolved | None:
        """Return what the topic is about, or None if no pattern matches or an identifier in it is unusable."""
        levels = topic.split("/")
        if len(levels) > TOPIC_LEVELS_MAX:
            return None
        for pattern in self._patterns:
            resolved = pattern.match(levels)
            if resolved is not None:
                return resolved
        return None

    def topic_of(self, tenant: TenantId, device_id: DeviceId, channel: Channel) -> str | None:
        """Return a topic that resolves to exactly these, or None where no pattern can say them."""
        wanted = Resolved(tenant, device_id, channel)
        for pattern in self._patterns:
            topic = pattern.fill(wanted)
            if topic is not None and self.resolve(topic) == wanted:
                return topic
        return None


class _Pattern:
    """One pattern, taken apart."""

    def __init__(self, pattern: str, channel: str | None, tenant_default: str) -> None:
        levels = pattern.split("/")
        for level in levels:
            if level not in _PLACES and level not in ("+", "#") and not _FORBIDDEN_IN_IDS.union("{}").isdisjoint(level):
                raise ValueError(
                    f"topic pattern {pattern!r}: level {level!r} is neither text, + or # nor one of {_PLACES}"
                )
        if levels.count("{device_id}") != 1 or levels.count("{tenant}") > 1:
            raise ValueError(f"topic pattern {pattern!r}: needs one {{device_id}} and at most one {{tenant}}")
        if any(level in ("{channel}", "#") for level in levels[:-1]):
            raise ValueError(f"topic pattern {pattern!r}: {{channel}} and # take all that is left, so write them last")
        if (levels[-1] == "{channel}") is not (channel is None):
            raise ValueError(f"topic pattern {pattern!r}: end it with {{channel}} or name its channel, one of both")
        if len(levels) > TOPIC_LEVELS_MAX:
            raise ValueError(f"topic pattern {pattern!r}: {len(levels)} levels, at most {TOPIC_LEVELS_MAX}")
        self._levels = levels[:-1] if levels[-1] in ("{channel}", "#") else levels
        self._end = levels[-1]
        self._channel = channel
        self._tenant = tenant_default
        # Literal levels by position: most topics fail here, after one or two comparisons.
        self._literals = [(i, level) for i, level in enumerate(self._levels) if level not in (*_PLACES, "+")]
        self._device_at = self._levels.index("{device_id}")
        self._tenant_at = self._levels.index("{tenant}") if "{tenant}" in self._levels else -1

    def match(self, levels: list[str]) -> Resolved | None:
        """Return what the levels say under this pattern, or None."""
        n, fixed = len(levels), len(self._levels)
        if not (n > fixed if self._end == "{channel}" else n >= fixed if self._end == "#" else n == fixed):
            return None
        for i, literal in self._literals:
            if levels[i] != literal:
                return None
        device_id = levels[self._device_at]
        tenant = levels[self._tenant_at] if self._tenant_at >= 0 else self._tenant
        channel = "/".join(levels[fixed:]) if self._channel is None else self._channel
        if not (is_identifier(device_id) and is_identifier(tenant) and channel):
            return None
        return Resolved(TenantId(tenant), DeviceId(device_id), Channel(channel))

    def fill(self, wanted: Resolved) -> str | None:
        """Return a topic of this pattern for `wanted`; it may say something else, so the caller resolves it back."""
        if "+" in self._levels or (self._channel is not None and self._channel != wanted.channel):
            return None
        said = {"{tenant}": wanted.tenant, "{device_id}": wanted.device_id}
        levels = [said.get(level, level) for level in self._levels]
        if self._end == "{channel}":
            levels.append(wanted.channel)
        return "/".join(levels)


def is_identifier(text: str) -> bool:
    """Return whether the text can be a tenant or device id: one level, not empty, without + # $ and NUL."""
    return text != "" and "/" not in text and _FORBIDDEN_IN_IDS.isdisjoint(text)


def topic_name(raw: bytes) -> str:
    """Return the topic name of a PUBLISH as text.

    Raises: ProtocolViolation: Not UTF-8 [MQTT-1.5.4-1], with NUL [MQTT-1.5.4-2], empty [MQTT-4.7.3-1] or with wildcards
        [MQTT-3.3.2-2]: bytes that the standard forbids (0x81).
    """
    try:
        topic = raw.decode()
    except UnicodeDecodeError as exc:
        raise ProtocolViolation("topic_utf8", f"topic name is not UTF-8 at byte {exc.start}", 0x81) from exc
    if not topic:
        raise ProtocolViolation("topic_empty", "topic name is empty and there is no topic alias", 0x82)
    if "\0" in topic:
        raise ProtocolViolation("topic_nul", "topic name holds U+0000", 0x81)
    if "+" in topic or "#" in topic:
        raise ProtocolViolation("topic_wildcard", "topic name holds a wildcard", 0x81)
    return topic


def is_topic_bounded(raw: bytes) -> bool:
    """Return whether a topic keeps to our own limits on bytes and levels."""
    return len(raw) <= TOPIC_BYTES_MAX and raw.count(b"/") < TOPIC_LEVELS_MAX


def command_topic(tenant: TenantId, device_id: DeviceId, request_id: str) -> str:
    """Return the topic on which the device receives one command."""
    return f"v1/{tenant}/{device_id}/cmd/{request_id}"


def is_command_filter(topic_filter: str, tenant: TenantId, device_id: DeviceId) -> bool:
    """Return whether the filter is `v1/{tenant}/{device_id}/cmd/#` or one that matches no more than that.

    The three levels that say whose commands they are must be literal. A filter with a misplaced wildcard is no filter
    at all [MQTT-4.7.1-1] [MQTT-4.7.1-2].
    """
    own = f"v1/{tenant}/{device_id}/cmd/"
    return topic_filter.startswith(own) and is_filter(topic_filter) and len(topic_filter) > len(own)


def is_filter(topic_filter: str) -> bool:
    """Return whether wildcards stand alone in their level and # is last [MQTT-4.7.1-1] [MQTT-4.7.1-2]."""
    levels = topic_filter.split("/")
    alone = all(level in ("+", "#") or ("+" not in level and "#" not in level) for level in levels)
    return topic_filter != "" and "\0" not in topic_filter and alone and "#" not in levels[:-1]


def is_matching(topic_filter: str, topic: str) -> bool:
    """Return whether a valid filter matches a topic name (section 4.7).

    A first level with $ matches no leading wildcard [MQTT-4.7.2-1].
    """
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for i, level in enumerate(wanted):
        if level == "#":
            return True
        if i >= len(levels) or level not in ("+", levels[i]):
            return False
    return len(wanted) == len(levels)

"""Which topics one connection publishes on: aliases, identity and a bounded memory of what was checked before."""

from typing import Final, cast

from gateway.core.errors import IdentityRefused, PeerError, ProtocolViolation
from gateway.core.ids import DeviceId, TenantId
from gateway.core.limits import TOPIC_ALIASES_MAX, TOPICS_PER_CONNECTION_MAX
from gateway.core.records import Route
from gateway.core.text import peer_text
from gateway.wire.mqtt.packets import Property, Publish, Reason
from gateway.wire.topics import TopicTable, is_topic_bounded

SOURCE: Final = "mqtt"


class DeviceTopics:
    """The topics of one connected device.

    Args:
        topics: Which topic belongs to which device.
        tenant: Tenant of the authenticated identity.
        device_id: Its device; both must stand in every topic it publishes on.

    Attributes:
        memo: Topic as bytes -> route, for topics that were resolved and found to be the device's own.
    """

    __slots__ = ("_aliases", "_topics", "device_id", "memo", "tenant")

    def __init__(self, topics: TopicTable, *, tenant: TenantId, device_id: DeviceId) -> None:
        self._topics = topics
        self.tenant = tenant
        self.device_id = device_id
        self._aliases: dict[int, str] | None = None
        self.memo: dict[bytes, Route] = {}

    def topic_of(self, packet: Publish) -> str:
        """Return the topic of a version 5 publish, by its alias if it has one (section 3.3.2.3.4)."""
        alias = cast("int | None", packet.properties.get(Property.TOPIC_ALIAS))
        if alias is None:
            if not packet.topic:
                raise ProtocolViolation("topic_empty", "neither topic nor alias [MQTT-4.7.3-1]", Reason.PROTOCOL_ERROR)
            return packet.topic
        if alias > TOPIC_ALIASES_MAX:  # 0 did not pass the codec [MQTT-3.3.2-8] [MQTT-3.3.2-9]
            detail = f"topic alias {alias}, the maximum is {TOPIC_ALIASES_MAX}"
            raise ProtocolViolation("topic_alias", detail, Reason.TOPIC_ALIAS_INVALID)
        if self._aliases is None:
            self._aliases = {}
        if packet.topic:
            self._aliases[alias] = packet.topic
        elif alias not in self._aliases:
            raise ProtocolViolation("topic_alias", f"topic alias {alias} was never set", Reason.PROTOCOL_ERROR)
        return self._aliases[alias]

    def route_of(self, topic: str) -> Route | PeerError:
        """Return the route of a topic, or why this device may not publish on it. Only good topics are remembered."""
        raw = topic.encode()
        known = self.memo.get(raw)
        if known is not None:
            return known
        resolved = self._topics.resolve(topic) if is_topic_bounded(raw) else None
        if resolved is None:
            detail = f"topic {peer_text(topic)!r} fits no pattern; add one to a contract, or publish on v1/..."
            return PeerError("topic_unknown", detail, Reason.TOPIC_NAME_INVALID)
        if resolved.tenant != self.tenant or resolved.device_id != self.device_id:
            detail = f"topic {peer_text(topic)!r} is not of device {peer_text(self.device_id)!r}"
            return IdentityRefused("topic_not_own", detail, Reason.NOT_AUTHORIZED)
        if len(self.memo) >= TOPICS_PER_CONNECTION_MAX:
            self.memo.clear()
        route = self.memo[raw] = Route(self.tenant, self.device_id, SOURCE, resolved.channel)
        return route

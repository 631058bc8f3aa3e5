"""Who may be told, who is told of what, and when nobody is: what `alerts.yaml` says, checked. Holds no state."""

import hashlib
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec
from pydantic import SecretStr

from processors.notices.calendar import Maintenance
from processors.stages.alert_record import Matcher

Kind = Literal["webhook", "slack", "teams", "pagerduty", "email"]
Tls = Literal["starttls", "tls", "none"]
Network = IPv4Network | IPv6Network

KINDS: Final[tuple[Kind, ...]] = ("webhook", "slack", "teams", "pagerduty", "email")
ROUTE: Final = "route-"
ESCALATION: Final = "escalation-"
"""How fingerprints begin."""
PAGERDUTY_URL: Final = "https://events.pagerduty.com/v2/enqueue"
"""Where PagerDuty's Events API v2 listens; accounts in Europe have events.eu.pagerduty.com."""


class Smtp(msgspec.Struct, frozen=True, kw_only=True):
    """A mail server.

    Attributes:
        tls: `tls` from the first byte, `starttls` before anything else is said, or `none`.
        sender: Address that mails come from.
    """

    host: str
    port: int
    username: str | None = None
    password: SecretStr | None = None
    tls: Tls = "starttls"
    sender: str


class Receiver(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody or something that is sent notices.

    Attributes:
        url: Where to, of all kinds but `email`. Whole addresses may be credentials; `place` is what may be shown.
        secrets: Of `webhook`: what messages are signed with, newest first; the second while it is being replaced.
        routing_key: Of `pagerduty`: the integration key.
        headers: Further headers of a request.
        allow_private: Networks that are not of the public internet and yet may be connected to.
        insecure: Whether the address may be plain `http`.
        rate_per_minute: Most messages a minute.
        timeout_s: How long one try may take.
        to: Of `email`: addresses.
        smtp: Of `email`: through which server.
    """

    name: str
    kind: Kind
    url: SecretStr | None = None
    secrets: tuple[SecretStr, ...] = ()
    routing_key: SecretStr | None = None
    headers: dict[str, SecretStr] = {}
    allow_private: tuple[Network, ...] = ()
    insecure: bool = False
    rate_per_minute: float = 60.0
    timeout_s: float = 10.0
    to: tuple[str, ...] = ()
    smtp: Smtp | None = None

    @property
    def place(self) -> str:
        """Where notices go, without anything secret: scheme and host, or the mail server."""
        if self.smtp is not None:
            return f"smtp://{self.smtp.host}:{self.smtp.port}"
        if self.url is None:
            return ""
        parts = urlsplit(self.url.get_secret_value())
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}"


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Which alerts go to whom. Routes are asked in order; the first that matches is the last, unless it goes on.

    Attributes:
        matchers: All must match; none matches everything.
        to: Names of receivers.
        group_by: Labels whose values alerts of one notice share; the tenant always is one of them.
        wait_s: How long news waits for company before it is sent.
        interval_s: Shortest time between two notices of one group.
        repeat_s: After this long a group that still fires is told again; None for never.
        goes_on: Whether later routes are asked too (`continue`).
    """

    matchers: tuple[Matcher, ...] = ()
    to: tuple[str, ...]
    group_by: tuple[str, ...] = ("site", "rule")
    wait_s: float = 30.0
    interval_s: float = 300.0
    repeat_s: float | None = 4 * 3600.0
    goes_on: bool = False

    def fingerprint(self) -> str:
        """Return what makes the groups of this route others than those of another; times do not."""
        return ROUTE + _digest([[str(matcher) for matcher in self.matchers], self.group_by])


class Escalation(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told as well when nobody acknowledges. All that match count.

    Attributes:
        matchers: All must match; none matches everything.
        after_s: How long an alert must fire unacknowledged.
        to: Names of receivers.
        group_by: As of a route.
        interval_s: As of a route.
    """

    matchers: tuple[Matcher, ...] = ()
    after_s: float
    to: tuple[str, ...]
    group_by: tuple[str, ...] = ("site", "rule")
    interval_s: float = 300.0

    def fingerprint(self) -> str:
        """Return what makes the groups of this escalation others than those of another."""
        return ESCALATION + _digest([[str(matcher) for matcher in self.matchers], self.group_by, self.after_s])


class NoticePlan(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. The empty plan tells nobody: alerts are only shown.

    Attributes:
        receivers: By name, in the order of the file.
    """

    receivers: dict[str, Receiver] = {}
    routes: tuple[Route, ...] = ()
    escalations: tuple[Escalation, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()

    def digest(self) -> str:
        """Return what tells this plan from another that would lead an alert elsewhere."""
        routes = [[route.fingerprint(), route.to, route.goes_on] for route in self.routes]
        escalations = [[escalation.fingerprint(), escalation.to] for escalation in self.escalations]
        return _digest([sorted(self.receivers), routes, escalations])


def _digest(content: object) -> str:
    return hashlib.blake2b(msgspec.json.encode(content), digest_size=8).hexdigest()

"""Records of alerts: what the life cycle says of one, and what operators order. Refuses to know how they come about.

    AlertEvent     one revision of one alert, whole: who reads the newest needs no older one
    SilenceEvent   a silence began, or was removed
    TestOrder      somebody wants to see whether a receiver is reached

Each travels through the results journal as JSON of the struct, on the channel that CHANNELS names.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final, Literal

import msgspec
import polars as pl

from gateway.core.limits import ALERT_MATCHER_CHARS_MAX, ALERT_MATCHERS_MAX, ALERTS_OPEN_MAX
from gateway.core.text import peer_text

LifeState = Literal["firing", "acknowledged", "resolved"]
Severity = Literal["info", "warning", "critical"]
ResolvedBy = Literal["condition", "operator", "rule"]
SilenceKind = Literal["silence", "maintenance"]
Operator = Literal["=", "!=", "~"]

SEVERITIES: Final[tuple[Severity, ...]] = ("info", "warning", "critical")
"""From the least to the worst."""
LABELS: Final = ("tenant", "device", "part", "site", "stream", "rule", "severity")
"""What a matcher may look at. A label that an alert has not (no part, no site) is empty text."""
_ID_BYTES: Final = 10
_MATCHER: Final = re.compile(r"\s*(?P<label>[a-z]+)\s*(?P<op>!=|=~|=|~)\s*(?P<value>.*?)\s*", re.DOTALL)


class MatcherError(ValueError):
    """A matcher that cannot be used: what is wrong, and what to write."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(f"{what}; {mend}")
        self.what, self.mend = what, mend


class Matcher(msgspec.Struct, frozen=True, kw_only=True):
    """One condition on a label.

    Attributes:
        label: One of LABELS.
        op: `=` the same text, `!=` another text, `~` a regular expression that the whole value matches.
        value: Text, or an expression of Rust's `regex` (like RE2 it takes linear time whatever an operator writes).
    """

    label: str
    op: Operator
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether labels fulfil it; one that is missing is empty text."""
        has = labels.get(self.label, "")
        if self.op == "~":
            return _is_match(self.value, has)
        return (has == self.value) == (self.op == "=")

    def __str__(self) -> str:
        return f"{self.label}{self.op}{self.value}"


class AlertEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One revision of an alert.

    Attributes:
        offset: Entry of the ingest journal that caused the revision.
        received_at_us: When that was received.
        alert_id: 20 hexadecimal characters, the same through all revisions; see `alert_id_of`.
        revision: From 1, without gaps.
        part: Part of the device, None for the device itself.
        site: Where the device belonged when the revision was made, None where nobody said.
        stream: Stream of the rule.
        at_us: Event time of what caused the revision; of an order when it was received.
        since_us: When the condition began to hold, of the newest episode.
        fired_at_us: When the alert fired for the first time: received, not measured.
        value: What was measured when it last began or ended to hold, None where that is no number.
        limit: What it was held against, in the same unit.
        evidence: What a person wants to see, as the detector says it (`readings`, `limit`, `history`, ...), and
            `flaps`: how often the alert came back after its end, where it did.
        source: Where the limit comes from.
        check: What a person looks at first.
        inhibits: Rules (`stream/rule`) that are not worth a notice while this alert is open.
        by: Who ordered what the state is now; None where the condition did it.
        note: What they said.
        resolved_by: Of a resolved alert whether its condition ended, an operator ordered it, or its rule is gone.
        acknowledged_at_us: When it was acknowledged; None while it is not.
        resolved_at_us: When it was resolved; None while it is not.
    """

    offset: int
    received_at_us: int
    alert_id: str
    revision: int
    tenant: str
    device_id: str
    part: str | None
    site: str | None
    stream: str
    rule: str
    severity: Severity
    state: LifeState
    title: str
    at_us: int
    since_us: int
    fired_at_us: int
    value: float | None
    limit: float | None
    unit: str
    evidence: dict[str, Any]
    source: str
    check: str
    inhibits: tuple[str, ...]
    by: str | None = None
    note: str | None = None
    resolved_by: ResolvedBy | None = None
    acknowledged_at_us: int | None = None
    resolved_at_us: int | None = None

    @property
    def event_id(self) -> str:
        """Name of the revision, unique for ever."""
        return f"{self.alert_id}.{self.revision}"

    @property
    def rule_id(self) -> str:
        """`stream/rule`, as `inhibits` names it."""
        return f"{self.stream}/{self.rule}"

    @property
    def is_open(self) -> bool:
        """Whether it still wants somebody's attention."""
        return self.state != "resolved"

    @property
    def labels(self) -> dict[str, str]:
        """LABELS -> values; what there is not is empty text."""
        values = (self.tenant, self.device_id, self.part, self.site, self.stream, self.rule, self.severity)
        return {label: value or "" for label, value in zip(LABELS, values, strict=True)}


class SilenceEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A silence as it is from this entry on; the newest event of a `silence_id` counts.

    Attributes:
        offset: Entry of the ingest journal with the order.
        received_at_us: When that was received.
        silence_id: Name of the silence; see `silence_id_of`.
        matchers: All of them must match; at least one.
        starts_at_us: First moment at which it counts.
        ends_at_us: First moment at which it does not.
        by: Who ordered it; of a removed one who removed it.
        why: Reason for people.
        kind: `maintenance` is work on devices, `silence` is noise that nobody needs.
        removed: Whether it counts no more from now on.
    """

    offset: int
    received_at_us: int
    silence_id: str
    tenant: str
    matchers: tuple[Matcher, ...]
    starts_at_us: int
    ends_at_us: int
    by: str
    why: str
    kind: SilenceKind = "silence"
    removed: bool = False

    def matches(self, labels: Mapping[str, str], at_us: int) -> bool:
        """Return whether it silences an alert with these labels at that moment."""
        is_on = not self.removed and self.starts_at_us <= at_us < self.ends_at_us
        return (
            is_on and labels.get("tenant") == self.tenant and all(matcher.matches(labels) for matcher in self.matchers)
        )


class TestOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order to send a test notice to one receiver."""

    __test__: ClassVar[bool] = False  # pytest takes any class named Test... for a test

    offset: int
    tenant: str
    receiver: str
    by: str
    received_at_us: int = 0


LifeEvent = AlertEvent | SilenceEvent | TestOrder
"""What the life cycle tells the notifier."""

CHANNELS: Final[Mapping[type[msgspec.Struct], str]] = {
    AlertEvent: "alert",
    SilenceEvent: "silence",
    TestOrder: "alert_test",
}
"""Event -> its channel in the results journal."""


def alert_id_of(tenant: str, device_id: str, part: str | None, stream: str, rule: str, since_offset: int) -> str:
    """Return the name of the alert of an episode."""
    key = msgspec.json.encode([tenant, device_id, part, stream, rule, since_offset])
    return hashlib.blake2b(key, digest_size=_ID_BYTES).hexdigest()


def silence_id_of(offset: int, record: int = 0) -> str:
    """Return the name of the silence that the order at this place asks for."""
    return f"s{offset}" if record == 0 else f"s{offset}.{record}"


def read_matcher(text: str) -> Matcher:
    """Return the matcher that a person wrote, such as `device=bus-0042`, `severity!=info`, `site~depot-.*`.

    Raises: MatcherError: It is none.
    """
    if len(text) > ALERT_MATCHER_CHARS_MAX:
        raise MatcherError(f"matcher has {len(text)} characters, limit is {ALERT_MATCHER_CHARS_MAX}", "write less")
    found = _MATCHER.fullmatch(text)
    if found is None:
        raise MatcherError(f"'{peer_text(text)}' is no matcher", "write device=bus-0042, rule!=silent or site~depot-.*")
    label, op, value = found["label"], found["op"], found["value"]
    if label not in LABELS:
        raise MatcherError(f"there is no label '{peer_text(label)}'", f"labels are {', '.join(LABELS)}")
    if op in {"=", "!="}:
        return Matcher(label=label, op="=" if op == "=" else "!=", value=value)
    _check_expression(value)
    return Matcher(label=label, op="~", value=value)


def read_matchers(texts: Sequence[str]) -> tuple[Matcher, ...]:
    """Return the matchers that a person wrote, all of which must match.

    Raises: MatcherError: There is none, there are too many, or one of them cannot be used.
    """
    if not 1 <= len(texts) <= ALERT_MATCHERS_MAX:
        raise MatcherError(f"{len(texts)} matchers given", f"write 1 to {ALERT_MATCHERS_MAX}, such as device=bus-0042")
    return tuple(read_matcher(text) for text in texts)


def _check_expression(pattern: str) -> None:
    nothing = pl.Series([""], dtype=pl.String())
    try:
        # Alone, too: what closes a group that it did not open would end the anchors' group.
        nothing.str.contains(pattern)
        nothing.str.contains(_whole(pattern))
    except pl.exceptions.ComputeError as exc:
        raise MatcherError(f"'{peer_text(pattern)}' is no regular expression", "write site~depot-.*") from exc


@lru_cache(maxsize=ALERTS_OPEN_MAX)  # a call of Polars costs 30 us, and every silence looks at every alert
def _is_match(pattern: str, text: str) -> bool:
    return bool(pl.Series([text], dtype=pl.String()).str.contains(_whole(pattern))[0])


def _whole(pattern: str) -> str:
    return rf"\A(?:{pattern})\z"

"""Who is told of alerts while processes die: a receiver of webhooks on the loopback, and what it must have heard.

It has a route of its own for each alert, so that a notice is about one revision, and a notice under a second id would
be the same news told as another.
"""

from collections import defaultdict
from pathlib import Path
from typing import Final, Self

import msgspec
import polars as pl
from standardwebhooks import Webhook

from tests.installation import until
from tests.integration.receivers import SECRET, HttpReceiver

ALERTS: Final = "alert_revisions"
KEY: Final = ("alert_id", "revision")
PLAN: Final = """
receivers:
  desk:
    webhook: "{url}"
    secret: {{file: "{secret}"}}
    allow_private: [127.0.0.0/8]
    rate_per_minute: 6000
routes:
  - {{to: [desk], group_by: [device, part, stream, rule], wait: 0 s, interval: 1 s, repeat: never}}
"""
TOLD_S: Final = 60.0
"""A receiver that was not there for a moment is tried again after some seconds, then later and later."""


class Told(msgspec.Struct, frozen=True):
    """One message as it came: its id, and the revisions of alerts that it is about."""

    message_id: str
    revisions: tuple[tuple[str, int], ...]


class Desk:
    """Somebody who is told of every alert; a context manager.

    Args:
        data: Data directory of the installation, which gets a plan of who is told.
        secret: File to write the secret of the signature to.
    """

    def __init__(self, data: Path, secret: Path) -> None:
        self._data, self._secret = data, secret
        self._receiver = HttpReceiver()

    def __enter__(self) -> Self:
        self._receiver.__enter__()
        self._data.mkdir(exist_ok=True)
        self._secret.write_text(SECRET)
        (self._data / "alerts.yaml").write_text(PLAN.format(url=self._receiver.url(), secret=self._secret))
        return self

    def __exit__(self, *exc: object) -> None:
        self._receiver.__exit__(*exc)

    def told(self) -> list[Told]:
        """Return all messages so far. Raises: WebhookVerificationError: One has a wrong signature."""
        said = [Webhook(SECRET).verify(one.body, one.headers) for one in self._receiver.seen]
        return [
            Told(event["id"], tuple((alert["alert_id"], alert["revision"]) for alert in event["data"]["alerts"]))
            for event in said
        ]

    def await_all(self) -> None:
        """Return when every alert that is in the lake now, and worth telling, has been told."""
        alerts = worth_telling(pl.scan_delta(str(self._data / "lake" / ALERTS)).collect())
        until(lambda: alerts <= told_alerts(self.told()), timeout_s=TOLD_S, what="a message about every alert")


def told_alerts(told: list[Told]) -> set[str]:
    """Return the ids of the alerts that messages are about."""
    return {alert_id for one in told for alert_id, _ in one.revisions}


def worth_telling(revisions: pl.DataFrame) -> set[str]:
    """Return the alerts that no other one of their device inhibits: those must be told."""
    place = ("tenant", "device_id")
    inhibited = revisions.select(*place, pl.col("inhibits").str.split(",").alias("rule_id")).explode("rule_id").unique()
    named = revisions.with_columns(pl.concat_str("stream", "rule", separator="/").alias("rule_id"))
    return set(named.join(inhibited, on=(*place, "rule_id"), how="anti")["alert_id"])


def judge_told(told: list[Told], revisions: pl.DataFrame) -> tuple[str, ...]:
    """Return what is wrong with what was told, one sentence each.

    Args:
        told: All messages, repeated ones too: a message may come twice, under its id.
        revisions: `alert_revisions` of the lake.
    """
    findings = []
    known = set(revisions.select(KEY).iter_rows())
    ids: dict[tuple[str, int], set[str]] = defaultdict(set)
    bodies: dict[str, set[tuple[tuple[str, int], ...]]] = defaultdict(set)
    for one in told:
        bodies[one.message_id].add(one.revisions)
        for revision in one.revisions:
            ids[revision].add(one.message_id)
    if unknown := sorted(ids.keys() - known):
        findings.append(f"{len(unknown)} revisions of alerts were told that the lake has not: {unknown[:3]}")
    if twice := sorted(key for key, names in ids.items() if len(names) > 1):
        findings.append(f"{len(twice)} revisions of alerts were told under a second id: {twice[:3]}")
    if torn := sorted(name for name, contents in bodies.items() if len(contents) > 1):
        findings.append(f"{len(torn)} messages came again with other contents: {torn[:3]}")
    if untold := sorted(worth_telling(revisions) - told_alerts(told)):
        findings.append(f"{len(untold)} alerts of the lake were never told: {untold[:3]}")
    return tuple(findings)

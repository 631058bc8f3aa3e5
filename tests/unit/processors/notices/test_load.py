"""What `alerts.yaml` says becomes a plan; secrets come from elsewhere and go nowhere."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from gateway.core.errors import ConfigError
from processors.notices.calendar import Maintenance
from processors.notices.config import Escalation, NoticePlan, Route
from processors.notices.load import load_alerts, parse_alerts
from processors.stages.alert_record import read_matchers

SIGNING = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoyMzQ1Njc="
SECRETS = {
    "HOOK_SECRET": SIGNING,
    "/run/old": SIGNING[6:] + "\n",
    "SLACK_URL": "https://hooks.slack.com/services/T0/B0/canary",
    "TEAMS_URL": "https://example.webhook.office.com/webhookb2/canary",
    "PD_KEY": "canary-key",
    "MAIL_PASSWORD": "canary-password",
    "TOKEN": "Bearer canary",
}
EVERYTHING = """
rules:
  battery_pack/soc-low: {enabled: false}
receivers:
  on-call:
    webhook: https://ops.example.org:8443/hook
    secret: {env: HOOK_SECRET}
    old_secret: {file: /run/old}
    headers: {X-Site: nord, Authorization: {env: TOKEN}}
    allow_private: [10.0.0.0/8, "fd00::/8"]
    rate_per_minute: 6
    timeout: 3 s
  chat: {slack: {env: SLACK_URL}}
  teams: {teams: {env: TEAMS_URL}}
  pager: {pagerduty: {env: PD_KEY}, url: https://events.eu.pagerduty.com/v2/enqueue}
  mail:
    email: [ops@example.org, night@example.org]
    smtp: {host: mail.example.org, username: voltgate, password: {env: MAIL_PASSWORD}, from: voltgate@example.org}
routes:
  - {match: [severity=critical], to: [on-call, mail], group_by: [rule, site], wait: 0 s, interval: 1 min,
     repeat: never, continue: true}
  - {to: [chat]}
escalations:
  - {match: [severity=critical], after: 10 min, to: [pager]}
maintenance:
  - {match: [site=depot-nord], days: [sun, sat], from: "22:00", until: "24:00", zone: Europe/Berlin, why: weekly wash}
"""


def read_secret(source: str, name: str) -> str:
    """Stand for the environment and its files."""
    return SECRETS[name]


def load(text: str) -> NoticePlan:
    """Return the plan of a text."""
    return parse_alerts(text, file="alerts.yaml", read_secret=read_secret)[1]


def test_whole_file_becomes_a_plan() -> None:
    """Each key lands where it belongs, with its units turned into seconds and minutes."""
    located, plan = parse_alerts(EVERYTHING, file="alerts.yaml", read_secret=read_secret)
    assert located is not None
    assert {"battery_pack/soc-low": {"enabled": False}} == located.at(("rules",))
    critical = read_matchers(["severity=critical"])
    routes = (
        Route(
            matchers=critical,
            to=("on-call", "mail"),
            group_by=("site", "rule"),
            wait_s=0,
            interval_s=60,
            repeat_s=None,
            goes_on=True,
        ),
        Route(to=("chat",), group_by=("site", "rule"), wait_s=30, interval_s=300, repeat_s=4 * 3600),
    )
    assert routes == plan.routes
    assert (Escalation(matchers=critical, after_s=600, to=("pager",)),) == plan.escalations
    window = Maintenance(
        matchers=read_matchers(["site=depot-nord"]),
        days=(5, 6),
        from_min=22 * 60,
        until_min=24 * 60,
        zone="Europe/Berlin",
        why="weekly wash",
    )
    assert (window,) == plan.maintenance


def test_receivers_know_where_and_with_what() -> None:
    """Addresses, secrets and limits of each kind; what may be shown holds no secret."""
    receivers = load(EVERYTHING).receivers
    hook, mail = receivers["on-call"], receivers["mail"]
    assert (SIGNING, SIGNING[6:]) == tuple(secret.get_secret_value() for secret in hook.secrets)
    assert {"X-Site": "nord", "Authorization": "Bearer canary"} == {
        name: value.get_secret_value() for name, value in hook.headers.items()
    }
    assert (ip_network("10.0.0.0/8"), ip_network("fd00::/8")) == hook.allow_private
    assert (6.0, 3.0) == (hook.rate_per_minute, hook.timeout_s)
    assert ("mail.example.org", 587, "starttls") == (mail.smtp and (mail.smtp.host, mail.smtp.port, mail.smtp.tls))
    assert ["webhook", "slack", "teams", "pagerduty", "email"] == [one.kind for one in receivers.values()]
    assert [
        "https://ops.example.org:8443",
        "https://hooks.slack.com",
        "https://example.webhook.office.com",
        "https://events.eu.pagerduty.com",
        "smtp://mail.example.org:587",
    ] == [one.place for one in receivers.values()]


def test_no_secret_is_in_what_is_shown() -> None:
    """A plan in a log or a traceback gives nothing away."""
    shown = repr(load(EVERYTHING))
    assert [] == [secret for secret in (*SECRETS.values(), "canary") if secret in shown]


@pytest.mark.parametrize("text", ["", "{}", "receivers: {}"], ids=["empty", "mapping", "no receivers"])
def test_file_without_receivers_tells_nobody(text: str) -> None:
    """Alerts are then only shown."""
    assert NoticePlan() == load(text)


@pytest.mark.parametrize(
    ("url", "fields"),
    [
        ("http://127.0.0.1:9/", "allow_private: [127.0.0.0/8]"),
        ("http://localhost:9/", "allow_private: [127.0.0.1/32]"),
        ("http://[::1]:9/", 'allow_private: ["::1/128"]'),
        ("http://ops.example.org/", "insecure: true"),
        ("https://192.168.1.7/", "allow_private: [192.168.0.0/16]"),
        ("https://1.1.1.1/", "rate_per_minute: 1"),
    ],
    ids=["loopback", "localhost", "ipv6", "insecure", "private", "public"],
)
def test_address_that_is_allowed_is_taken(url: str, fields: str) -> None:
    """Plain http and private addresses need a word that says they are meant."""
    plan = load(f"receivers:\n  hook: {{webhook: '{url}', secret: {{env: HOOK_SECRET}}, {fields}}}")
    assert [url] == [one.url.get_secret_value() for one in plan.receivers.values() if one.url]


def test_rules_are_not_among_the_alerts_without_their_key(tmp_path: Path) -> None:
    """A file without overrides has none to hand on."""
    file = tmp_path / "alerts.yaml"
    file.write_text("receivers: {}\n", "utf-8")
    assert (None, NoticePlan()) == load_alerts(file, read_secret=read_secret)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff", "is not UTF-8 at byte 0"),
        (b"#" * 2**20 + b"#", "is larger"),
    ],
    ids=["missing", "not utf-8", "too large"],
)
def test_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, what: str) -> None:
    """The error has the file and the cause."""
    file = tmp_path / "alerts.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=what):
        load_alerts(file, read_secret=read_secret)


@pytest.mark.parametrize(
    ("problem", "what"),
    [
        (KeyError("HOOK_SECRET"), "environment variable 'HOOK_SECRET' is not set"),
        (PermissionError(13, "Permission denied"), "file 'HOOK_SECRET' cannot be read: Permission denied"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"), "file 'HOOK_SECRET' is no text"),
    ],
    ids=["not set", "not readable", "not text"],
)
def test_secret_that_cannot_be_read_is_named(problem: Exception, what: str) -> None:
    """The error names where the secret should be."""

    def fail(source: str, name: str) -> str:
        raise problem

    text = "receivers:\n  hook: {webhook: https://ops.example.org, secret: {env: HOOK_SECRET}}\n"
    with pytest.raises(ConfigError, match=what) as caught:
        parse_alerts(text, file="alerts.yaml", read_secret=fail)
    assert ("alerts.yaml", 2) == (caught.value.file, caught.value.line)


def test_two_plans_that_lead_alike_have_one_digest() -> None:
    """Times and secrets change no way; matchers, receivers and `continue` do."""
    base = load(EVERYTHING)
    assert base.digest() == load(EVERYTHING.replace("interval: 1 min", "interval: 2 min")).digest()
    changed = [
        EVERYTHING.replace("to: [chat]", "to: [teams]"),
        EVERYTHING.replace(", continue: true", ""),
        EVERYTHING.replace("{match: [severity=critical], to", "{match: [severity=warning], to"),
        EVERYTHING.replace("after: 10 min", "after: 11 min"),
    ]
    assert 5 == len({base.digest(), *(load(text).digest() for text in changed)})

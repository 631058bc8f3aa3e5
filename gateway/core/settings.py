"""Every setting of Voltgate, its bound and its default: one document for all processes of an installation.

What a setting means and which values are possible; `settings_layers` makes settings from files, environment and command
line. Relative paths are relative to the working directory of the process.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from gateway.core.credentials import StrictnessName
from gateway.core.errors import ConfigError
from gateway.core.limits import (
    BATCH_ROWS_MAX,
    COMMIT_WINDOW_S,
    FRAME_BYTES_MAX,
    INDEX_REQUESTS_MAX,
    MIB,
    SEGMENT_BYTES_MAX,
)

ENVIRONMENT_PREFIX: Final = "VOLTGATE__"
DAY_S: Final = 86_400.0
GIB: Final = 1024 * MIB

Port = Annotated[int, Field(ge=0, le=65_535, description="TCP port; 0 takes a free one")]
Interval = Annotated[float, Field(gt=0, le=30 * DAY_S, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[^/+#$\x00-\x1f]{1,128}$")]
TlsPolicyName = Literal["modern", "ocpp-strict"]


class Section(BaseModel):
    """A table of the file: frozen, and every key in it must be known."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class TopicSettings(Section):
    """A topic pattern that devices publish on.

    `channel` names what they say there; it is left out where the pattern has a `{channel}` of its own.
    """

    pattern: Annotated[str, Field(min_length=1, max_length=512)]
    channel: Name | None = None


class MqttSettings(Section):
    """The MQTT listener."""

    host: str = "127.0.0.1"
    port: Port = 1883
    allow_anonymous: Annotated[bool, Field(description="the client id is the device id, nobody proves it")] = False
    tenant_default: Annotated[Name, Field(description="tenant where the topic or the device names none")] = "default"
    topics: tuple[TopicSettings, ...] = (TopicSettings(pattern="v1/{tenant}/{device_id}/{channel}"),)


class CertificateSettings(Section):
    """A certificate of ours with the chain up to its root, and its private key; both PEM."""

    certificate_file: Path
    key_file: Path


class OcppSettings(Section):
    """The central system that chargers connect to.

    `port` speaks in clear text (security profiles 0 and 1), `tls_port` under TLS (2 and 3); each has its own address,
    so that the one can stay on this machine while the other is open.
    """

    host: Annotated[str, Field(description="address of the clear text port")] = "127.0.0.1"
    port: Port = 9000
    path: Annotated[
        str,
        Field(pattern=r"^(/[A-Za-z0-9._~-]+)+$", max_length=128, description="a charger connects to PATH/IDENTITY"),
    ] = "/ocpp"
    tls_host: str = "127.0.0.1"
    tls_port: Port | None = None
    tls_policy: Annotated[
        TlsPolicyName, Field(description="ocpp-strict offers exactly the cipher suites that OCPP names")
    ] = "modern"
    certificates: Annotated[tuple[CertificateSettings, ...], Field(description="at most one RSA and one ECDSA")] = ()
    client_ca_file: Annotated[Path | None, Field(description="issuers of charger certificates, PEM")] = None
    client_crl_file: Annotated[Path | None, Field(description="PEM; revocation list of each of those issuers")] = None
    certificate_organization: Annotated[
        str | None, Field(min_length=1, max_length=64, description="what O of a charger certificate must be")
    ] = None
    allow_unauthenticated: Annotated[
        bool, Field(description="admit chargers of security profile 0, and unknown ones from this machine")
    ] = False
    tenant_default: Annotated[Name, Field(description="tenant of unknown chargers")] = "default"
    strictness: Annotated[StrictnessName, Field(description="of chargers that were added without one")] = "lenient"
    newest_wins: Annotated[
        bool, Field(description="a newer connection replaces a living one that only a password proves")
    ] = False
    id_tokens: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=255)], ...],
        Field(description="only these may charge; empty: every one"),
    ] = ()
    heartbeat_interval_s: Annotated[int, Field(ge=1, le=int(DAY_S), description="what a boot is answered with")] = 300
    ping_interval_s: Interval = 30.0
    pong_timeout_s: Annotated[Interval, Field(description="a charger that answers no ping for so long is gone")] = 20.0


class GatewaySettings(Section):
    """The process that devices talk to."""

    tick_s: Annotated[Interval, Field(description="how often time is written into a silent journal")] = 5.0
    insecure: Annotated[bool, Field(description="listen beyond this machine without TLS")] = False
    mqtt: MqttSettings = MqttSettings()
    ocpp: OcppSettings = OcppSettings()


class JournalSettings(Section):
    """The journal of received messages and the one of commands."""

    segment_bytes_max: Annotated[int, Field(ge=MIB, le=4 * GIB)] = SEGMENT_BYTES_MAX
    commit_window_s: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = COMMIT_WINDOW_S
    retention_age_s: Annotated[float, Field(gt=0, le=3650 * DAY_S, allow_inf_nan=False)] = 7 * DAY_S
    retention_bytes: Annotated[int, Field(ge=FRAME_BYTES_MAX, description="kept at most of what is processed")] = (
        16 * GIB
    )
    disk_bytes_max: Annotated[int, Field(ge=FRAME_BYTES_MAX, description="kept at most, processed or not")] = 64 * GIB
    retention_interval_s: Interval = 60.0


class RegistrySettings(Section):
    """Where devices and their credentials are kept; without `url` a SQLite file in the data directory."""

    url: Annotated[str | None, Field(description="SQLAlchemy URL: postgresql+psycopg://voltgate@db/fleet")] = None
    password: SecretStr | None = None
    password_file: Path | None = None


class ProcessorsSettings(Section):
    """The process that computes and writes."""

    interval_s: Annotated[Interval, Field(description="how often the journal is read; alerts wait for so long")] = 0.2
    commit_interval_s: Interval = 5.0
    checkpoint_interval_s: Interval = 30.0
    kpi_interval_s: Annotated[
        float, Field(ge=0, le=7 * DAY_S, allow_inf_nan=False, description="how often `voltgate run` computes KPIs")
    ] = 3600.0
    batch_rows_max: Annotated[int, Field(ge=1, le=16 * BATCH_ROWS_MAX)] = BATCH_ROWS_MAX
    polars_threads: Annotated[int, Field(ge=1, le=256)] = 2


class LakeSettings(Section):
    """The Delta tables; without `url` the directory `lake` in the data directory."""

    url: Annotated[str | None, Field(description="directory or s3://bucket/prefix")] = None
    compact_interval_s: Annotated[Interval, Field(description="how often small files are merged")] = 300.0
    vacuum_after_s: Annotated[Interval, Field(description="how long replaced files stay for readers")] = DAY_S
    raw_retention_s: Annotated[float, Field(gt=0, description="streams say their own in their contract")] = 90 * DAY_S
    rejects_retention_s: Annotated[float, Field(gt=0)] = 365 * DAY_S
    s3_endpoint: str | None = None
    s3_region: str | None = None
    s3_access_key_id: str | None = None
    s3_secret_access_key: SecretStr | None = None
    s3_secret_access_key_file: Path | None = None


class OpenSearchSettings(Section):
    """The search cluster that shows what the lake holds; without `url` nothing is indexed.

    Who we are is a user with a password, a client certificate, or a signature for AWS with the credentials that its
    own tools find on this machine.
    """

    url: Annotated[
        str | None,
        Field(
            pattern=r"^https?://[^\s,/@?#]+(/[^\s,@?#]*)?(,https?://[^\s,/@?#]+(/[^\s,@?#]*)?)*$",
            max_length=2048,
            description="hosts of one cluster, joined by commas",
        ),
    ] = None
    index_prefix: Annotated[
        str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$", description="begins the name of every index")
    ] = "voltgate"
    user: Annotated[str, Field(pattern=r"^[^:\x00-\x1f]{1,128}$")] | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    client_certificate_file: Annotated[Path | None, Field(description="PEM")] = None
    client_key_file: Annotated[Path | None, Field(description="PEM")] = None
    ca_file: Annotated[Path | None, Field(description="issuers of the cluster's certificates, PEM")] = None
    verify_tls: Annotated[bool, Field(description="false takes every server for the right one")] = True
    insecure: Annotated[bool, Field(description="send the password to other machines without TLS")] = False
    aws_region: Annotated[
        str | None, Field(pattern=r"^[a-z0-9-]{1,40}$", description="sign requests for AWS in this region")
    ] = None
    aws_service: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")] = "es"
    retention_days: Annotated[int, Field(ge=1, le=3650, description="the lake keeps what it has")] = 90
    shards: Annotated[int, Field(ge=1, le=64)] = 1
    replicas: Annotated[int, Field(ge=0, le=8, description="0: the lake can make every index anew")] = 0
    timeout_s: Annotated[float, Field(ge=1, le=600, allow_inf_nan=False)] = 30.0
    requests_max: Annotated[int, Field(ge=1, le=INDEX_REQUESTS_MAX, description="bulk requests in flight")] = 4
    bulk_bytes_max: Annotated[int, Field(ge=64 * 1024, le=64 * MIB, description="size of one of them")] = 5 * MIB

    @property
    def urls(self) -> tuple[str, ...]:
        """Each host; none where nothing is indexed."""
        return tuple(self.url.split(",")) if self.url is not None else ()


class ObserveSettings(Section):
    """Metrics, health, logs and the local control routes of each process."""

    host: str = "127.0.0.1"
    gateway_port: Port = 0
    processors_port: Port = 0
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Section):
    """The whole configuration.

    Attributes:
        data: Directory of everything that must survive a restart.
        contracts: Directory of the user's contracts; without it `contracts` in the data directory.
        alerts: File of rules, receivers and routes; without it `alerts.yaml` in the data directory, if it is there.
    """

    data: Path = Path("voltgate-data")
    contracts: Path | None = None
    alerts: Path | None = None
    gateway: GatewaySettings = GatewaySettings()
    journal: JournalSettings = JournalSettings()
    registry: RegistrySettings = RegistrySettings()
    processors: ProcessorsSettings = ProcessorsSettings()
    lake: LakeSettings = LakeSettings()
    opensearch: OpenSearchSettings = OpenSearchSettings()
    observe: ObserveSettings = ObserveSettings()

    @property
    def contracts_directory(self) -> Path:
        """Where the user's contracts are; the directory need not exist."""
        return self.contracts or self.data / "contracts"

    @property
    def alerts_file(self) -> Path | None:
        """The file with receivers and routes; None where nobody named one and there is none in its usual place."""
        usual = self.data / "alerts.yaml"
        return self.alerts or (usual if usual.exists() else None)

    @property
    def lake_url(self) -> str:
        """Directory or object store URL under which the tables are."""
        return self.lake.url or str(self.data / "lake")

    @property
    def has_local_lake(self) -> bool:
        """Whether the lake is a directory."""
        return "://" not in self.lake_url

    @property
    def lake_directory(self) -> Path:
        """The lake on this machine. Raises: ConfigError: It is in an object store, which we do not question."""
        if not self.has_local_lake:
            what = f"{self.lake_url} is not on this machine"
            raise ConfigError(
                "lake.url", 0, what, "ask it with deltalake, Polars or DuckDB; see docs/reference/lake.md"
            )
        return Path(self.lake_url)

    def to_environ(self, *, unlike: "Settings | None" = None) -> dict[str, str]:
        """Return the environment from which `parse_settings` makes equal settings: how a child process gets them.

        Secrets are in it, so it belongs into the environment of a child and nowhere else.

        Args:
            unlike: Settings that the child reads by itself; only what differs from them is returned.
        """
        known = dict(_leaves(unlike.model_dump())) if unlike is not None else {}
        return {
            ENVIRONMENT_PREFIX + "__".join(path).upper(): _environment_text(value)
            for path, value in _leaves(self.model_dump())
            if value is not None and not (path in known and known[path] == value)
        }

    def secrets(self) -> list[str]:
        """Return every secret value, for whoever must keep them out of logs."""
        return [value.get_secret_value() for _, value in _leaves(self.model_dump()) if isinstance(value, SecretStr)]


def settings_schema() -> dict[str, Any]:
    """Return the JSON Schema of the configuration file."""
    return Settings.model_json_schema()


def _leaves(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _environment_text(value: object) -> str:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case list() | tuple():
            return json.dumps(value, default=str)  # a path
        case _:
            return str(value)

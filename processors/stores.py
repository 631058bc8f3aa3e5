"""From settings and contracts to open stores: the lake with its tables, and the jobs that keep it in shape."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from gateway.core.failpoints import FailpointHook
from gateway.core.settings import Settings
from gateway.journal.reader import SegmentReader
from gateway.observe.logs import Logger
from gateway.wire.ocpp.records import TRANSACTION
from processors.contracts.catalogue import aggregate_comments, reading_comments
from processors.contracts.load import ContractSet, load_contracts
from processors.contracts.model import BASE_DESCRIPTIONS
from processors.contracts.rule_overrides import with_rule_overrides
from processors.jobs.upkeep import KeptTable, Upkeep
from processors.notices.config import KINDS, Kind, NoticePlan
from processors.notices.load import load_alerts
from processors.notifier import Notifier
from processors.sinks.lake import Lake, LakeTable
from processors.sinks.lane import Sender
from processors.stages.alert_notes import ALERT_COMMENTS, ALERT_DESCRIPTION
from processors.stages.alerts import ALERTS
from processors.stages.chain import RAW, REJECTS, Chain, windows_table
from processors.stages.session_notes import SESSION_COMMENTS, SESSION_DESCRIPTION
from processors.stages.sessions import SESSIONS
from processors.watch import Watch

if TYPE_CHECKING:
    from processors.indexer import Indexer
    from processors.indexing.plan import IndexedTable
    from processors.sinks.index_rejects import IndexRejects
    from processors.sinks.opensearch import OpenSearch

INDEX_POLICY: Final = "voltgate-retention"
"""Name of the policy that deletes old indices, where the cluster has the plugin for such."""


def contracts_of(settings: Settings) -> ContractSet:
    """Return the contracts of an installation. Raises: ConfigError: One of them cannot be used."""
    directory = settings.contracts_directory
    return load_contracts([directory] if settings.contracts or directory.is_dir() else [])


class Rulings(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What people want to be told of.

    Attributes:
        contracts: All contracts, with the rules as they are overridden.
        plan: Who is told of which alerts.
    """

    contracts: ContractSet
    plan: NoticePlan


def rulings_of(settings: Settings, environ: Mapping[str, str]) -> Rulings:
    """Return contracts and notices of an installation. Raises: ConfigError: Something in its files cannot be used."""
    contracts, plan = contracts_of(settings), NoticePlan()
    if (file := settings.alerts_file) is not None:
        overrides, plan = load_alerts(file, read_secret=partial(_read_secret, environ))
        if overrides is not None:
            contracts = with_rule_overrides(contracts, overrides)
    return Rulings(contracts=contracts, plan=plan)


def _read_secret(environ: Mapping[str, str], kind: Literal["env", "file"], name: str) -> str:
    if kind == "env":
        return environ[name]
    return Path(name).read_text("utf-8").strip()


def make_notifier(
    settings: Settings,
    plan: NoticePlan,
    *,
    log: Logger,
    now_ns: Callable[[], int],
    latency: Callable[[float], None],
) -> Notifier:
    """Return the notifier of an installation, not started; it reads the results journal from where it was."""
    return Notifier(
        reader=SegmentReader(settings.data / "results"),
        path=settings.data / "notices.sqlite",
        plan=plan,
        senders=_Senders(now_s=lambda: now_ns() / 1e9),
        log=log,
        now_us=lambda: now_ns() // 1000,
        latency=latency,
    )


class _Senders(dict[Kind, Sender]):
    """Kind of receiver -> how it is reached, made when first asked for.

    That takes a third of a second of imports, which a restart where nobody is to be told need not wait for.
    """

    def __init__(self, *, now_s: Callable[[], float]) -> None:
        super().__init__()
        self._now_s = now_s

    def __missing__(self, kind: Kind) -> Sender:
        from processors.sinks.mail import MailSender
        from processors.sinks.webhook_guard import Lookups
        from processors.sinks.webhooks import WebhookSender

        lookups = Lookups()
        webhooks = WebhookSender(lookups=lookups, now_s=self._now_s)
        self.update(dict.fromkeys(KINDS, webhooks))
        self["email"] = MailSender(lookups=lookups)
        return self[kind]


def open_lake(settings: Settings, contracts: ContractSet, chain: Chain, failpoint: FailpointHook) -> Lake:
    """Return the lake with a table for everything the chain makes, described by the contracts.

    Raises:
        ConfigError: A table on disk has another type for a column than its contract.
        SinkError: The store cannot be reached.
    """
    comments: dict[str, dict[str, str]] = {SESSIONS: SESSION_COMMENTS, ALERTS: ALERT_COMMENTS}
    for contract in contracts:
        comments[contract.stream] = reading_comments(contract)
        comments[windows_table(contract.stream)] = aggregate_comments(contract)
    descriptions = {SESSIONS: SESSION_DESCRIPTION, ALERTS: ALERT_DESCRIPTION}
    descriptions |= {contract.stream: contract.description for contract in contracts}
    tables = [
        LakeTable(
            name=name,
            schema=schema,
            comments={column: text for column, text in {**BASE_DESCRIPTIONS, **comments.get(name, {})}.items() if text},
            description=descriptions.get(name, ""),
        )
        for name, schema in chain.schemas.items()
    ]
    return Lake(settings.lake_url, tables, storage_options=storage_options(settings), failpoint=failpoint)


def storage_options(settings: Settings) -> dict[str, str]:
    """Return what the object store of the lake is to be told; nothing for a directory."""
    lake = settings.lake
    if not settings.lake_url.startswith("s3://"):
        return {}
    secret = lake.s3_secret_access_key.get_secret_value() if lake.s3_secret_access_key else None
    options = {
        "AWS_ENDPOINT_URL": lake.s3_endpoint,
        "AWS_REGION": lake.s3_region,
        "AWS_ACCESS_KEY_ID": lake.s3_access_key_id,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_ALLOW_HTTP": "true" if (lake.s3_endpoint or "").startswith("http://") else None,
        # Two commits of one version must not both succeed; S3 and its look-alikes can refuse the second by its ETag.
        "aws_conditional_put": "etag",
    }
    return {name: value for name, value in options.items() if value is not None}


def index_plan_of(settings: Settings, contracts: ContractSet, chain: Chain) -> "tuple[IndexedTable, ...]":
    """Return what an installation indexes, or would."""
    from processors.indexing.plan import index_plan

    return index_plan(contracts, chain.schemas, prefix=settings.opensearch.index_prefix)


def connect_opensearch(settings: Settings) -> "OpenSearch":
    """Return the search cluster of an installation. Raises: SinkError: A file, of a certificate, cannot be used."""
    from processors.sinks.opensearch import OpenSearch

    given = settings.opensearch
    return OpenSearch(
        urls=given.urls,
        user=given.user,
        password=given.password,
        client_certificate=given.client_certificate_file,
        client_key=given.client_key_file,
        ca_file=given.ca_file,
        verify_tls=given.verify_tls,
        aws_region=given.aws_region,
        aws_service=given.aws_service,
        timeout_s=given.timeout_s,
        connections_max=given.requests_max + 2,  # retention, and who asks which cluster it is
    )


def make_indexer(
    settings: Settings, contracts: ContractSet, chain: Chain, *, log: Logger, now_ns: Callable[[], int]
) -> "Indexer | None":
    """Return the indexer of an installation, not started; None where it has no search cluster.

    What it needs is imported here, so that it costs nothing where nobody asked for it.
    """
    if not settings.opensearch.urls:
        return None
    from processors.indexer import Indexer
    from processors.sinks.index_desk import IndexDesk, sources_of
    from processors.sinks.index_store import FILE
    from processors.sinks.lake_rows import LakeRows

    given = settings.opensearch

    def now_us() -> int:
        return now_ns() // 1000

    desk = IndexDesk(
        path=settings.data / FILE,
        rows=LakeRows(settings.lake_url, chain.schemas, storage_options(settings)),
        rejects=_index_rejects(settings),
        retention_days=given.retention_days,
        now_us=now_us,
        log=log,
        bytes_max=given.bulk_bytes_max,
    )
    return Indexer(
        connect=partial(connect_opensearch, settings),
        desk=desk,
        sources=sources_of(index_plan_of(settings, contracts, chain), tuple(contracts)),
        log=log,
        now_us=now_us,
        requests_max=given.requests_max,
        shards=given.shards,
        replicas=given.replicas,
        policy=INDEX_POLICY,
        retention_days=given.retention_days,
    )


def _index_rejects(settings: Settings) -> "IndexRejects":
    from processors.sinks.index_rejects import IndexRejects

    return IndexRejects(settings.lake_url, storage_options(settings))


def make_upkeep(
    settings: Settings, contracts: ContractSet, lake: Lake, failpoint: FailpointHook, watch: Watch
) -> Upkeep:
    """Return the jobs for every table of the lake, each keeping what its contract says."""
    keep_s = {RAW: settings.lake.raw_retention_s, REJECTS: settings.lake.rejects_retention_s}
    for contract in contracts:
        # All streams share one raw table, which is cut by whole days: the most patient contract decides.
        keep_s[RAW] = max(keep_s[RAW], contract.retention.raw_s)
        keep_s[contract.stream] = contract.retention.readings_s
        keep_s[windows_table(contract.stream)] = contract.retention.windows_s
    # A session is what its transaction's events add up to, so it is kept as long as what other streams add up to.
    transactions = contracts.by_stream(TRANSACTION)
    keep_s[SESSIONS] = transactions.retention.windows_s if transactions else 0.0
    # Alerts tell what became of readings, as windows do, and there are few of them.
    keep_s[ALERTS] = max(contract.retention.windows_s for contract in contracts)
    tables = [
        KeptTable(name=name, handle=handle, writer=lake.compacted_writer(name), keep_s=keep_s[name])
        for name, handle in lake.handles.items()
    ]
    if settings.opensearch.urls:
        # The indexer may append to it meanwhile, from its own handle: neither commit touches what the other one adds.
        rejects = _index_rejects(settings)
        tables.append(
            KeptTable(
                name="index_rejects",
                handle=rejects.open_handle(),
                writer=rejects.compacted_writer(),
                keep_s=settings.lake.rejects_retention_s,
            )
        )
    return Upkeep(
        tables,
        compact_interval_s=settings.lake.compact_interval_s,
        vacuum_after_hours=max(1, round(settings.lake.vacuum_after_s / 3600)),
        done=watch.job_done,
        failpoint=failpoint,
    )

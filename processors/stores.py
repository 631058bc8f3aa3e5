"""From settings and contracts to open stores: the lake with its tables, and the jobs that keep it in shape."""

from gateway.core.failpoints import FailpointHook
from gateway.core.settings import Settings
from gateway.wire.ocpp.records import TRANSACTION
from processors.contracts.catalogue import aggregate_comments, reading_comments
from processors.contracts.load import ContractSet, load_contracts
from processors.contracts.model import BASE_DESCRIPTIONS
from processors.jobs.upkeep import KeptTable, Upkeep
from processors.sinks.lake import Lake, LakeTable
from processors.stages.chain import RAW, REJECTS, Chain, windows_table
from processors.stages.session_notes import SESSION_COMMENTS, SESSION_DESCRIPTION
from processors.stages.sessions import SESSIONS
from processors.watch import Watch


def contracts_of(settings: Settings) -> ContractSet:
    """Return the contracts of an installation. Raises: ConfigError: One of them cannot be used."""
    directory = settings.contracts_directory
    return load_contracts([directory] if settings.contracts or directory.is_dir() else [])


def open_lake(settings: Settings, contracts: ContractSet, chain: Chain, failpoint: FailpointHook) -> Lake:
    """Return the lake with a table for everything the chain makes, described by the contracts.

    Raises:
        ConfigError: A table on disk has another type for a column than its contract.
        SinkError: The store cannot be reached.
    """
    comments: dict[str, dict[str, str]] = {SESSIONS: SESSION_COMMENTS}
    for contract in contracts:
        comments[contract.stream] = reading_comments(contract)
        comments[windows_table(contract.stream)] = aggregate_comments(contract)
    descriptions = {SESSIONS: SESSION_DESCRIPTION}
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
    return Lake(settings.lake_url, tables, storage_options=_storage_options(settings), failpoint=failpoint)


def _storage_options(settings: Settings) -> dict[str, str]:
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
    return Upkeep(
        [
            KeptTable(name=name, handle=handle, writer=lake.compacted_writer(name), keep_s=keep_s[name])
            for name, handle in lake.handles.items()
        ],
        compact_interval_s=settings.lake.compact_interval_s,
        vacuum_after_hours=max(1, round(settings.lake.vacuum_after_s / 3600)),
        done=watch.job_done,
        failpoint=failpoint,
    )

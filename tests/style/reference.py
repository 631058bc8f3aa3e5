"""Writes the parts of docs/reference that the code already says: `python -m tests.style.reference`.

A page marks such a part with `<!-- generated: NAME -->` and `<!-- end -->`; everything else in it is written by hand.
"""

import argparse
import ast
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, get_args, get_origin

import typer
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dashboards.saved import grafana_board, prometheus_rules
from dashboards.saved.opensearch_objects import saved_objects, to_ndjson
from gateway.core import errors, limits
from gateway.core.settings import ENVIRONMENT_PREFIX, Settings
from gateway.journal.memory import MemoryJournal
from gateway.observe import gateway_metrics
from gateway.observe.logs import make_logger
from gateway.observe.metrics import (
    Counted,
    EventCounter,
    commit_histogram,
    lag_histogram,
    notice_histogram,
    process_registry,
)
from gateway.wire.ocpp.actions import FROM_CENTRAL
from gateway.wire.ocpp.versions import Version
from processors.contracts.catalogue import rule_text, span_text, to_text
from processors.contracts.detectors import DETECTORS, Parameter
from processors.contracts.load import load_contracts
from processors.contracts.units import INTEGRALS, UNITS
from processors.indexing.plan import IndexedTable, IndexField, index_plan
from processors.notices.config import NoticePlan
from processors.notifier import Notifier
from processors.stages.alerts import ALERTS
from processors.stages.chain import RAW, REJECTS, Chain
from processors.stages.faults import REJECT_CODES
from processors.watch import Watch
from simulators.__main__ import _parser as simulators_parser
from voltgate.cli import app

ROOT: Final = Path(__file__).parents[2]
REFERENCE: Final = ROOT / "docs" / "reference"
COMMAND: Final = "python -m tests.style.reference"
MARK: Final = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

SETTINGS: Final = {
    "data": "directory of everything that must survive a restart",
    "contracts": "directory of your contracts; without it `contracts` in the data directory",
    "alerts": "receivers, routes and changed rules; without it `alerts.yaml` in the data directory, if it is there",
    "gateway.tick_s": "how often the time is written into the journal, so that windows of silent devices end",
    "gateway.insecure": "listen beyond this machine without TLS; also `--insecure`",
    "gateway.mqtt.host": "address to listen on; other than the loopback needs `insecure`",
    "gateway.mqtt.port": "MQTT port, 0 takes a free one",
    "gateway.mqtt.allow_anonymous": "the client id is the device id, and nobody proves it",
    "gateway.mqtt.tenant_default": "tenant of anonymous devices, and of topics that name none",
    "gateway.mqtt.topics": "topic patterns that devices publish on, the first match wins; contracts add theirs",
    "gateway.mqtt.topics[].pattern": "levels `{tenant}`, `{device_id}` and, last, `{channel}`; `+` and `#` as in MQTT",
    "gateway.mqtt.topics[].channel": "the channel, where the pattern has no `{channel}`",
    "gateway.ocpp.host": "address of the clear text port for chargers; other than the loopback needs `insecure`",
    "gateway.ocpp.port": "its port, 0 takes a free one",
    "gateway.ocpp.path": "a charger connects to `PATH/IDENTITY`",
    "gateway.ocpp.tls_host": "address of the TLS port; may be open",
    "gateway.ocpp.tls_port": "port under TLS; without it there is none",
    "gateway.ocpp.tls_policy": "cipher suites of TLS 1.2: modern ones, or exactly the four that OCPP names",
    "gateway.ocpp.certificates": "our certificates, at most one RSA and one ECDSA",
    "gateway.ocpp.certificates[].certificate_file": "PEM, ours first, then its issuers",
    "gateway.ocpp.certificates[].key_file": "its private key, PEM, not encrypted",
    "gateway.ocpp.client_ca_file": "issuers of charger certificates (security profile 3)",
    "gateway.ocpp.client_crl_file": "revocation list of each of these issuers",
    "gateway.ocpp.certificate_organization": "what O of a charger certificate must be",
    "gateway.ocpp.allow_unauthenticated": "admit chargers of security profile 0, and unknown ones from this machine",
    "gateway.ocpp.tenant_default": "tenant of unknown chargers",
    "gateway.ocpp.strictness": "what becomes of messages that break their schema, for chargers without their own",
    "gateway.ocpp.newest_wins": "a second connection of an identity replaces a living one that a password proves",
    "gateway.ocpp.id_tokens": "only these may charge; empty: every one",
    "gateway.ocpp.heartbeat_interval_s": "interval that a boot is answered with",
    "gateway.ocpp.ping_interval_s": "how often a charger is pinged",
    "gateway.ocpp.pong_timeout_s": "a charger that answers no ping for so long is gone",
    "journal.segment_bytes_max": "a journal file is closed before it is longer",
    "journal.commit_window_s": "how long the first message of a commit waits for company",
    "journal.retention_age_s": "processed messages are kept in the journal this long",
    "journal.retention_bytes": "processed messages are kept up to this size",
    "journal.disk_bytes_max": "past this size the oldest messages go even if nobody has processed them; counted",
    "journal.retention_interval_s": "how often retention looks",
    "registry.url": "SQLAlchemy address of the device registry without the password; else `DATA/registry.sqlite`",
    "registry.password": "password for `registry.url`; environment only",
    "registry.password_file": "file that holds it",
    "processors.interval_s": "the journal is read this often; alerts wait as long, and each look has its price",
    "processors.commit_interval_s": "rows wait this long for company before they go into the lake",
    "processors.checkpoint_interval_s": "how often the state is stored; a restart repeats at most this much",
    "processors.kpi_interval_s": "`voltgate run` computes the KPIs this often, in a process of its own; 0: never",
    "processors.batch_rows_max": "messages processed at once",
    "processors.polars_threads": "threads of one computation",
    "lake.url": "where the tables are, a directory or `s3://bucket/prefix`; else `lake` in the data directory",
    "lake.compact_interval_s": "how often small files are merged",
    "lake.vacuum_after_s": "how long replaced files stay for readers, by whole hours",
    "lake.raw_retention_s": "messages stay in `raw` this long, or as any contract asks (built-in ones: 90 days)",
    "lake.rejects_retention_s": "rejects are kept this long",
    "lake.s3_endpoint": "address of an object store that is not AWS",
    "lake.s3_region": "its region",
    "lake.s3_access_key_id": "its key",
    "lake.s3_secret_access_key": "its secret; environment only",
    "lake.s3_secret_access_key_file": "file that holds it",
    "opensearch.url": "the cluster that is indexed into, hosts joined by commas; without it nothing is indexed",
    "opensearch.index_prefix": "begins the name of every index and template",
    "opensearch.user": "who we are; needs a password",
    "opensearch.password": "the user's password; environment only",
    "opensearch.password_file": "file that holds it",
    "opensearch.client_certificate_file": "certificate that proves us instead, PEM",
    "opensearch.client_key_file": "its private key; left out where it is in the same file",
    "opensearch.ca_file": "the only authorities that the cluster's certificates may be from; else the system's",
    "opensearch.verify_tls": "false takes every server for the right one: for a try on one machine",
    "opensearch.insecure": "send credentials to other machines over `http://`",
    "opensearch.aws_region": "sign requests for AWS in this region, with the credentials that its own tools find",
    "opensearch.aws_service": "name of the service in those signatures",
    "opensearch.retention_days": "what is older leaves the indices; the lake has a retention of its own",
    "opensearch.shards": "primary shards of each new index",
    "opensearch.replicas": "copies of each shard; the lake can make every index anew, so none are needed",
    "opensearch.timeout_s": "how long a request may take before it is tried again",
    "opensearch.requests_max": "bulk requests in flight at most; fewer while the cluster pushes back",
    "opensearch.bulk_bytes_max": "largest bulk request",
    "observe.host": "address of metrics, health and control routes; other than the loopback needs `insecure`",
    "observe.gateway_port": "the gateway's port, 0 takes a free one, which `run/gateway.json` names",
    "observe.processors_port": "the processors' port, likewise in `run/processors.json`",
    "observe.log_format": "diagnostics on stderr as JSON lines, or as text for people",
    "observe.log_level": "what is logged",
}
"""Setting -> what it is for."""

REJECTS_ELSEWHERE: Final = {
    "unknown_channel": ("route", "no contract names the channel of the message"),
    "crash": ("chain", "the message crashed the processing twice, and alone; a bug of ours, please report it"),
}
"""Codes that come from another stage than decoding."""


# ---- blocks ----------------------------------------------------------------------------------------------------------
def commands() -> str:
    """Every command with its arguments and options."""
    return "\n".join(_commands(typer.main.get_command(app), "voltgate")).strip()


def command_names() -> list[str]:
    """Return every command as it is typed, groups left out."""
    return [line.removeprefix("### `").removesuffix("`") for line in commands().splitlines() if line.startswith("### ")]


def _commands(command: Any, name: str) -> Iterator[str]:
    for short, inner in getattr(command, "commands", {}).items():
        full = f"{name} {short}"
        if hasattr(inner, "commands"):
            yield from ["", f"## {full}", "", inner.help]
            yield from _commands(inner, full)
            continue
        help_text = re.sub(r"Example: (.*?)\.?$", r"Example: `\1`.", " ".join((inner.help or "").split()))
        yield from ["", f"### `{full}`", "", help_text, ""]
        yield from _table(["argument or option", "default", "what"], list(_options(short, inner)))


def _options(short: str, command: Any) -> Iterator[tuple[str, str, str]]:
    if command.context_settings.get("ignore_unknown_options"):
        yield from _simulator_options(short)
        return
    for param in command.params:
        shown = param.opts[0]
        default = "" if param.default in (None, False) else f"`{param.default}`"
        yield f"`{shown}`", default, param.help or "listen beyond this machine without TLS"


def _simulator_options(short: str) -> Iterator[tuple[str, str, str]]:
    parser = simulators_parser("voltgate simulate")
    kinds = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for action in kinds.choices[short]._actions:
        if action.dest != "help":
            default = "" if action.default in (None, False) else f"`{action.default}`"
            yield (
                f"`{(action.option_strings or [action.dest])[-1]}`",
                default,
                (action.help or "").replace("; default: as windows allow", "; else as windows allow"),
            )


def settings() -> str:
    """Every setting in the order of the model."""
    rows = [
        (f"`{name}`", _type(field), _default(field), _bounds(field), _environment(name), SETTINGS.get(name, "?"))
        for name, field in setting_fields()
    ]
    return "\n".join(_table(["setting", "type", "default", "bounds", "environment", "what"], rows))


def setting_fields(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield dotted name and field of every setting; the keys of a list's tables follow it as `list[].key`."""
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from setting_fields(annotation, f"{prefix}{name}.")
            continue
        yield f"{prefix}{name}", field
        if get_origin(annotation) is tuple and _is_table(get_args(annotation)[0]):
            yield from setting_fields(get_args(annotation)[0], f"{prefix}{name}[].")


def _is_table(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _type(field: FieldInfo) -> str:
    annotation: Any = field.annotation
    if get_origin(annotation) is tuple:
        return "list of tables" if _is_table(get_args(annotation)[0]) else "list of texts"
    if get_origin(annotation) is not None and "Literal" in str(annotation):
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    inner = next((a for a in get_args(annotation) if a is not type(None)), annotation)
    inner = get_args(inner)[0] if get_args(inner) else inner
    return {
        "str": "text",
        "int": "integer",
        "float": "number",
        "bool": "true or false",
        "Path": "path",
        "SecretStr": "secret",
    }[inner.__name__]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.default
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ", ".join(f"`{topic.pattern}`" for topic in value)
    return (
        f"`{str(value).lower() if isinstance(value, bool) else f'{value:.12g}' if isinstance(value, float) else value}`"
    )


def _bounds(field: FieldInfo) -> str:
    constraints = list(_constraints([*field.metadata, *(m for a in get_args(field.annotation) for m in _metadata(a))]))
    words = {"ge": "at least", "gt": "over", "le": "at most", "min_length": "at least", "max_length": "at most"}
    parts = []
    for key, value in constraints:
        unit = " characters" if key.endswith("length") else ""
        parts.append(f"{words[key]} {value:.12g}{unit}")
    return ", ".join(dict.fromkeys(parts))


def _metadata(annotation: Any) -> Sequence[Any]:
    return [m for item in getattr(annotation, "__metadata__", ()) for m in getattr(item, "metadata", [item])]


def _constraints(metadata: Sequence[Any]) -> Iterator[tuple[str, float]]:
    for item in metadata:
        for key in ("ge", "gt", "le", "min_length", "max_length"):
            value = getattr(item, key, None)
            if isinstance(value, int | float):
                yield key, value
        if getattr(item, "pattern", None):
            yield "min_length", 1
            yield "max_length", 128


def _environment(name: str) -> str:
    return "" if "[]" in name else f"`{ENVIRONMENT_PREFIX}{name.upper().replace('.', '__')}`"


def streams() -> str:
    """The catalogue page of every built-in stream."""
    pages = [to_text(contract) for contract in load_contracts([])]
    return "\n".join(re.sub(r"^#", "###", page, flags=re.MULTILINE) for page in pages).strip()


def rules() -> str:
    """Every rule of the built-in contracts, with what a person is told."""
    lines: list[str] = []
    for contract in load_contracts([]):
        if not contract.rules:
            continue
        rows = [
            (f"`{rule.name}`", rule.severity, rule.title, rule_text(rule), rule.source, rule.check)
            for rule in contract.rules
        ]
        head = ["rule", "severity", "what is wrong", "fires, and ends", "source", "check first"]
        lines += ["", f"### {contract.stream}", "", *_table(head, rows)]
    return "\n".join(lines).strip()


def detectors() -> str:
    """Every detector with its parameters."""
    lines: list[str] = []
    for name, form in DETECTORS.items():
        where = f" On {', '.join(f'`{stream}`' for stream in form.streams)}." if form.streams else ""
        keys = f" It heeds {', '.join(f'`{key}`' for key in sorted(form.keys))}." if form.keys else ""
        rows = [
            (f"`{parameter}`", spec.kind, _parameter_default(spec), spec.what)
            for parameter, spec in form.parameters.items()
        ]
        lines += ["", f"### {name}", "", f"{form.what}{where}{keys}", ""]
        lines += _table(["parameter", "kind", "default", "what"], rows)
    return "\n".join(lines).strip()


def _parameter_default(spec: Parameter) -> str:
    if spec.default is None:
        return "must be given"
    if isinstance(spec.default, str):
        return f"`{spec.default}`"
    units = {"percent": " %", "power": " kW"}
    return f"`{span_text(spec.default) if spec.kind == 'duration' else f'{spec.default:g}'}{units.get(spec.kind, '')}`"


def units() -> str:
    """Every unit of a contract."""
    dimensions: dict[str, list[str]] = {}
    for unit in UNITS.values():
        dimensions.setdefault(unit.dimension, []).append(f"`{unit.symbol}`")
    rows = [(name, " ".join(symbols)) for name, symbols in dimensions.items()]
    integrals = [
        (f"`{symbol}`", f"`{one.unit}`", f"`{one.quantity}_{one.suffix}`") for symbol, one in INTEGRALS.items()
    ]
    head = ["a field in", "has an integral in", "in a column that ends in"]
    return "\n".join([*_table(["quantity", "units"], rows), "", *_table(head, integrals)])


def metrics() -> str:
    """Every metric of both processes."""
    lines: list[str] = []
    for process, registry in (("gateway", gateway_registry()), ("processors", processors_registry())):
        rows = []
        for family, labels in _families(registry):
            name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
            if name.startswith("voltgate_"):
                rows.append(
                    (f"`{name}`", family.type, " ".join(f"`{label}`" for label in labels), family.documentation)
                )
        lines += ["", f"## {process.capitalize()}", "", *_table(["metric", "type", "labels", "what"], rows)]
    return "\n".join(lines).strip()


def _families(registry: CollectorRegistry) -> Iterator[tuple[Any, list[str]]]:
    collectors = {name: collector for collector, names in registry._collector_to_names.items() for name in names}
    for family in registry.collect():
        collector = collectors.get(family.name)
        labels = collector._labels if isinstance(collector, Counted) else []
        yield family, sorted(family.samples[0].labels) if family.type == "info" else labels


def gateway_registry() -> CollectorRegistry:
    """Return the gateway's metrics with sources that say nothing."""
    registry = process_registry(process="gateway", version="0")
    commit_histogram(registry, journal="ingest")
    lag_histogram(registry)
    empty: dict[str, Any] = {}
    for name, kind in inspect.get_annotations(gateway_metrics.Sources).items():
        if name == "protocols":
            empty[name] = {}
        else:
            empty[name] = EventCounter() if kind is EventCounter else dict if "Mapping" in str(kind) else float
    gateway_metrics.register_gateway(registry, gateway_metrics.Sources(**empty))
    return registry


def processors_registry() -> CollectorRegistry:
    """Return the processors' metrics before anything was processed."""
    registry = process_registry(process="processors", version="0")
    journal = MemoryJournal()
    log = make_logger(form="json", level="error", secrets=[], process="processors")
    chain = Chain(load_contracts([]))
    notice_histogram(registry)
    notifier = Notifier(reader=journal, path=Path("unused"), plan=NoticePlan(), senders={}, log=log, now_us=lambda: 0)
    watch = Watch(log=log, now_ns=lambda: 0, reader=journal, state=chain.empty_state(), notifier=notifier)
    watch.register_metrics(registry)
    return registry


def ocpp_actions() -> str:
    """Every action that may be sent to a charger, and the versions that have it."""
    rows = []
    for action in sorted(set().union(*FROM_CENTRAL.values())):
        rows.append((f"`{action}`", *("yes" if action in FROM_CENTRAL[version] else "" for version in Version)))
    return "\n".join(_table(["action", "1.6", "2.0.1", "2.1"], rows))


def error_classes() -> str:
    """The tree of exceptions, as the module prints it, and the code of each."""
    tree = (errors.__doc__ or "").partition("\n\n")[2].rpartition("\n\nExpected")[0]
    rows = [
        (f"`{kind.__name__}`", f"`{kind.code}`", (kind.__doc__ or "").partition("\n\n")[0].replace("\n", " "))
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.VoltgateError)
    ]
    return "\n".join(["```text", tree.rstrip(), "```", "", *_table(["class", "code", "what"], rows)])


def reject_codes() -> str:
    """Every code of a reject."""
    rows = [(f"`{code}`", "`decode`", what) for code, what in REJECT_CODES.items()]
    rows += [(f"`{code}`", f"`{stage}`", what) for code, (stage, what) in REJECTS_ELSEWHERE.items()]
    return "\n".join(_table(["code", "stage", "what was wrong"], rows))


def limit_rows() -> str:
    """Every bound of limits.py with its reason."""
    lines: list[str] = []
    rows: list[tuple[str, str, str]] = []
    source = inspect.getsource(limits)
    body = ast.parse(source).body
    heads = {i: m[1] for i, text in enumerate(source.splitlines(), 1) if (m := re.match(r"# ---- (.+?) -+$", text))}
    title = ""
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        heading = next((heads[line] for line in sorted(heads, reverse=True) if line < statement.lineno), "")
        if not heading:
            continue
        if heading != title:
            lines += [*_table(["limit", "value", "why"], rows), ""] if rows else []
            lines += [f"## {'MQTT' if heading == 'MQTT' else heading.capitalize()}", ""]
            title, rows = heading, []
        name = statement.target.id
        why = ""
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            why = " ".join(str(following.value.value).split())
        rows.append((f"`{name}`", f"{getattr(limits, name):,.12g}", why))
    return "\n".join([*lines, *_table(["limit", "value", "why"], rows)])


def tables() -> str:
    """Columns of the tables that are there whatever the contracts say."""
    schemas = Chain(load_contracts([])).schemas
    lines: list[str] = []
    for name in (RAW, REJECTS, ALERTS):
        rows = [(f"`{column}`", _dtype(kind), COLUMNS[name].get(column, "")) for column, kind in schemas[name].items()]
        rows.append(("`received_date`", "date", "UTC day of `received_at`; the partition"))
        lines += ["", f"## {name}", "", TABLES[name], "", *_table(["column", "type", "what"], rows)]
    return "\n".join(lines).strip()


TABLES: Final = {
    RAW: "Every message, verbatim, whatever became of it. One row per message.",
    REJECTS: "Every record that could not become a row. Codes: [errors](errors.md#reject-codes).",
    ALERTS: "Every revision of every [alert](../explanation/alerts.md), whole; the highest `revision` counts."
    " In SQL `limit`, `check` and `by` need double quotes.",
}
COLUMNS: Final = {
    RAW: {
        "offset": "place in the ingest journal",
        "received_at": "when the gateway received it",
        "tenant": "whose device it is",
        "device_id": "the device, as it authenticated itself",
        "source": "`mqtt`, or `http` for `POST /ingest` and `rejects retry`",
        "channel": "what the topic says it is about",
        "payload": "the bytes",
    },
    REJECTS: {
        "offset": "place of its message in the ingest journal",
        "record": "place of the record inside its message; 0 for a message refused as a whole",
        "received_at": "when the gateway received the message",
        "tenant": "whose device it is",
        "device_id": "the device, as it authenticated itself",
        "channel": "what the topic says it is about",
        "stage": "which stage refused it",
        "code": "why",
        "path": "where in the record, `$` for all of it",
        "expected": "what the contract asks for",
        "got": "what was there, made inert and short",
        "payload": "the record's own bytes",
    },
    ALERTS: {
        "alert_id": "20 hexadecimal characters, the same through all revisions and in every replay",
        "revision": "from 1, without gaps",
        "state": "`firing`, `acknowledged` or `resolved`",
        "tenant": "whose device it is",
        "device_id": "the device",
        "part": "part of the device, such as a connector; null for the device itself",
        "site": "where the device belonged when the revision was made",
        "stream": "stream of the rule",
        "rule": "its name, see [rules](rules.md)",
        "severity": "`info`, `warning` or `critical`",
        "title": "what people read",
        "offset": "place of the message, of the order or of the tick that made the revision",
        "received_at": "when that was received",
        "at": "event time of what made the revision; of an order when it was received",
        "since": "when the condition began to hold, of the newest episode",
        "fired_at": "when the alert fired for the first time: received, not measured",
        "acknowledged_at": "when it was acknowledged; null while it is not",
        "resolved_at": "when it was resolved; null while it is not",
        "value": "what was measured when the condition last began or ended to hold; null where that is no number",
        "limit": "what it was held against, in the same unit",
        "unit": "of both",
        "evidence": "JSON: readings, limit, history, as the detector says them",
        "source": "where the limit comes from",
        "check": "what a person looks at first",
        "inhibits": "rules (`stream/rule`), by commas, that make no notice while this alert is open",
        "by": "who ordered the state; null where the condition did it",
        "note": "what they said",
        "resolved_by": "`condition`, `operator`, or `rule` where that was changed or switched off",
    },
}


def indices() -> str:
    """Every index with the fields of its documents."""
    contracts = load_contracts([])
    plan = index_plan(contracts, Chain(contracts).schemas, prefix="voltgate")
    rows = [
        (
            f"`{table.table}`",
            f"`{table.index}{'-YYYY.MM.DD' if table.day_column else ''}`",
            "/".join(f"`{name}`" for name in table.id_columns),
            f"`{table.day_column}`" if table.day_column else "",
            f"`{table.time_field}`",
        )
        for table in plan
    ]
    lines = _table(["table", "index", "id", "day of", "time field"], rows)
    for table in plan:
        lines += ["", f"### {table.index}", "", *_table(["field", "type", "what"], list(_index_fields(table)))]
    return "\n".join(lines)


def _index_fields(table: IndexedTable) -> Iterator[tuple[str, str, str]]:
    for field in table.fields:
        if not field.name.startswith("at."):
            yield f"`{field.name}`", field.type, _index_field_note(field)


def _index_field_note(field: IndexField) -> str:
    parts = [f"{field.unit}"] if field.unit else []
    parts += ["list"] if field.is_list else []
    parts += [f"word by word as `{field.name}.text`"] if field.is_searched else []
    parts += ["JSON text, not searched"] if field.is_stored_only else []
    parts += [f"of `{'` and `'.join(field.columns)}`"] if len(field.columns) > 1 else []
    parts += [f"class {field.classification}"] if field.classification in {"personal", "location"} else []
    return ", ".join(parts)


def _dtype(kind: Any) -> str:
    name = str(kind)
    return "timestamp" if name.startswith("Datetime") else name.lower()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = (f" {cell.replace('|', chr(92) + '|')} " if cell else " " for cell in row)
        lines.append(f"|{'|'.join(cells)}|")
    return lines


# ---- pages -----------------------------------------------------------------------------------------------------------
BLOCKS: Final[dict[str, Callable[[], str]]] = {
    "commands": commands,
    "settings": settings,
    "streams": streams,
    "units": units,
    "rules": rules,
    "detectors": detectors,
    "metrics": metrics,
    "ocpp-actions": ocpp_actions,
    "error-classes": error_classes,
    "reject-codes": reject_codes,
    "limits": limit_rows,
    "tables": tables,
    "indices": indices,
}


def refreshed(text: str) -> str:
    """Return a page with its generated parts as the code says them now."""
    return MARK.sub(lambda found: f"{found[1]}{BLOCKS[found['name']]()}\n{found[3]}", text)


def saved_opensearch() -> str:
    """Saved objects of OpenSearch Dashboards for the built-in contracts."""
    contracts = load_contracts([])
    plan = index_plan(contracts, Chain(contracts).schemas, prefix="voltgate")
    return to_ndjson(saved_objects(plan, prefix="voltgate"))


FILES: Final[dict[str, Callable[[], str]]] = {
    "dashboards/saved/opensearch/voltgate.ndjson": saved_opensearch,
    "dashboards/saved/prometheus/rules.yaml": prometheus_rules.rules,
    "dashboards/saved/prometheus/tests.yaml": prometheus_rules.rule_tests,
    "dashboards/saved/grafana/voltgate.json": grafana_board.board,
}
"""Whole files that are generated and committed, so that people who have no Python can use them."""


def main() -> None:
    """Write every page and file anew."""
    for name, to_file in FILES.items():
        file, new = ROOT / name, to_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_text("utf-8") != new:
            file.write_text(new, "utf-8")
            print(f"{name} written")
    for page in sorted(REFERENCE.glob("*.md")):
        text = page.read_text("utf-8")
        if (new := refreshed(text)) != text:
            page.write_text(new, "utf-8")
            print(f"{page.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()

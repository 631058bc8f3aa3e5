"""A contract as an Open Data Contract Standard 3.1 document, so that catalogues and other tools read it.

Source: https://github.com/bitol-io/open-data-contract-standard, version 3.1.0. `required` there means that a column is
never null, which holds for the base columns only: a field that must be sent is null when what was sent is implausible.
"""

from typing import Any, Final

from processors.contracts.catalogue import ColumnNote, aggregate_notes, reading_notes, rule_text
from processors.contracts.model import Contract

API_VERSION: Final = "v3.1.0"

_LOGICAL_TYPES: Final = {
    "float": "number",
    "int": "integer",
    "bool": "boolean",
    "str": "string",
    "enum": "string",
    "time": "timestamp",
}
_PHYSICAL_TYPES: Final = {
    "float": "double",
    "int": "long",
    "bool": "boolean",
    "str": "string",
    "enum": "string",
    "time": "timestamp",
}
_DAY_S: Final = 86_400


def to_odcs(contract: Contract) -> dict[str, Any]:
    """Return the document as plain values, ready for JSON or YAML."""
    key = contract.key or ()
    readings = _table(contract.stream, contract.description, reading_notes(contract), key)
    tables = [readings]
    if contract.windows:
        text = f"Windows of {contract.stream}"
        tables.append(_table(f"windows_{contract.stream}", text, aggregate_notes(contract), ()))
    document: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": "DataContract",
        "id": f"voltgate:{contract.stream}",
        "name": contract.stream,
        "version": contract.version_text,
        "status": "active",
        "description": {"purpose": contract.description},
        "schema": tables,
        "slaProperties": _retention(contract),
        "customProperties": [
            *_source(contract),
            {"property": "searchIndex", "value": contract.index},
            *_rules(contract),
        ],
    }
    if contract.owner:
        document["team"] = {"members": [{"username": contract.owner, "role": "owner"}]}
    return document


def _source(contract: Contract) -> list[dict[str, Any]]:
    if contract.topic is None:
        return [{"property": "source", "value": str(contract.origin)}]
    return [
        {"property": "mqttTopic", "value": contract.topic},
        {"property": "encodings", "value": sorted(contract.encodings)},
    ]


def _rules(contract: Contract) -> list[dict[str, Any]]:
    """Return the alert rules; the quality rules of the standard say what is wrong with data, not with devices."""
    rules = [
        {
            "name": rule.name,
            "title": rule.title,
            "severity": rule.severity,
            "rule": rule_text(rule),
            **({"check": rule.check} if rule.check else {}),
            **({"source": rule.source} if rule.source else {}),
            "enabled": rule.enabled,
        }
        for rule in contract.rules
    ]
    return [{"property": "alertRules", "value": rules}] if rules else []


def _table(name: str, description: str, notes: tuple[ColumnNote, ...], key: tuple[str, ...]) -> dict[str, Any]:
    return {
        "name": name,
        "physicalName": name,
        "logicalType": "object",
        "physicalType": "table",
        "description": description,
        "properties": [_column(note, key) for note in notes],
    }


def _column(note: ColumnNote, key: tuple[str, ...]) -> dict[str, Any]:
    column: dict[str, Any] = {
        "name": note.name,
        "logicalType": _LOGICAL_TYPES[note.type],
        "physicalType": _PHYSICAL_TYPES[note.type],
        "required": not note.nullable,
        "classification": note.classification,
    }
    if note.description:
        column["description"] = note.description
    if note.name in key:
        column |= {"primaryKey": True, "primaryKeyPosition": key.index(note.name) + 1}
    if note.low is not None and note.high is not None:
        column["logicalTypeOptions"] = {"minimum": note.low, "maximum": note.high}
    if note.values:
        arguments = {"validValues": list(note.values)}
        column["quality"] = [
            {"type": "library", "metric": "invalidValues", "mustBe": 0, "arguments": arguments, "unit": "rows"}
        ]
    extras = {"unit": note.unit, "vss": note.vss}
    custom = [{"property": name, "value": value} for name, value in extras.items() if value]
    return column | ({"customProperties": custom} if custom else {})


def _retention(contract: Contract) -> list[dict[str, Any]]:
    kept = {contract.stream: contract.retention.readings_s}
    if contract.windows:
        kept[f"windows_{contract.stream}"] = contract.retention.windows_s
    return [
        {"property": "retention", "value": round(seconds / _DAY_S, 3), "unit": "d", "element": table}
        for table, seconds in kept.items()
    ]

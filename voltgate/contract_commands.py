"""`voltgate contract`: streams, whether their files are right, and what other tools get to read."""

import json
from collections.abc import Sequence
from pathlib import Path

from gateway.core.errors import ConfigError
from gateway.core.settings import Settings
from processors.contracts.catalogue import to_text
from processors.contracts.compare import compare
from processors.contracts.load import ContractSet, load_contract
from processors.contracts.model import Contract
from processors.contracts.odcs import to_odcs
from processors.stores import contracts_of
from voltgate.output import Exit, fail, print_config_error, print_json, print_rows, say


def list_contracts(settings: Settings, *, as_json: bool) -> None:
    """Print one line per stream."""
    rows = [
        (c.stream, c.version_text, c.channel, c.topic, len(c.fields), c.description, c.file)
        for c in contracts_of(settings)
    ]
    print_rows(["stream", "version", "channel", "topic", "fields", "description", "file"], rows, as_json=as_json)


def check_contracts(settings: Settings, files: Sequence[Path], *, against: Path | None, as_json: bool) -> int:
    """Check files, or all contracts in use; with `against` whether one file's version admits its changes.

    Returns: 0; 3 when a file cannot be used; 6 when the version is too low for the changes; 2 for unusable arguments.
    """
    if against is not None and len(files) != 1:
        say("voltgate: --against compares one file: voltgate contract check NEW.yaml --against OLD.yaml")
        return Exit.USAGE
    contracts: list[Contract] = []
    errors: list[ConfigError] = []
    for file in files:
        try:
            contracts.append(load_contract(file))
        except ConfigError as exc:
            errors.append(exc)
    if not files:
        contracts = list(contracts_of(settings))
    for error in errors:
        print_config_error(error, as_json=as_json)
    findings = compare(load_contract(against), contracts[0]) if against and contracts else []
    for finding in findings:
        if as_json:
            print_json({"ok": False, "place": finding.place, "what": finding.what, "needs": finding.needs})
        else:
            print(f"{files[0]}: {finding.place}: {finding.what}; needs version {finding.needs}")
    if errors:
        return Exit.CONFIG
    if findings:
        return Exit.FINDINGS
    say(f"good: {', '.join(c.stream for c in contracts)}")
    return Exit.OK


def export_contract(settings: Settings, stream: str, form: str) -> None:
    """Print a contract in another form."""
    contract = _named(contracts_of(settings), stream)
    match form:
        case "odcs":
            print(json.dumps(to_odcs(contract), indent=2, ensure_ascii=False))
        case "text":
            print(to_text(contract))
        case _:
            fail(f"unknown format {form!r}; write odcs or text", Exit.USAGE)


def _named(contracts: ContractSet, stream: str) -> Contract:
    contract = contracts.by_stream(stream)
    if contract is None:
        fail(f"there is no stream {stream!r}; known: {', '.join(contracts.streams)}", Exit.NOT_FOUND)
    return contract

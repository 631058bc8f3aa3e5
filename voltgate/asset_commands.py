"""`voltgate asset`: facts about vehicles, chargers and sites that they do not tell themselves."""

import json
from collections.abc import Mapping
from typing import Final

from dashboards.queries import history
from gateway.core.settings import Settings
from processors.contracts.load import BUILT_IN, load_contract
from processors.contracts.model import Contract
from voltgate.gateway_port import call_gateway
from voltgate.output import Exit, fail, print_json, print_rows, say

CHANNEL: Final = "asset"
_ROWS_MAX: Final = 100_000


def set_asset(settings: Settings, tenant: str, device_id: str, facts: dict[str, object], *, as_json: bool) -> int:
    """Put facts into the journal through the running gateway; what is not named stays as it was said before."""
    kinds = list(_contract().field("kind").values or ())
    if facts.get("kind") not in kinds:
        fail(f"--kind {facts.get('kind')!r} is none of {', '.join(map(str, kinds))}", Exit.USAGE)
    said, offset = say_asset(settings, tenant, device_id, facts)
    if as_json:
        print_json({"tenant": tenant, "device_id": device_id, **said, "offset": offset})
    say(f"{device_id} is noted; `voltgate asset ls` shows it in a few seconds")
    return Exit.OK


def say_asset(
    settings: Settings, tenant: str, device_id: str, facts: Mapping[str, object]
) -> tuple[dict[str, object], object]:
    """Put the facts that are not None into the journal; return them, and the offset of the message."""
    said = {name: value for name, value in facts.items() if value is not None}
    body: dict[str, object] = {
        "tenant": tenant,
        "device_id": device_id,
        "channel": CHANNEL,
        "payload": json.dumps(said, ensure_ascii=False),
    }
    return said, call_gateway(settings, "/ingest", body)["offset"]


def _contract() -> Contract:
    return load_contract(BUILT_IN / "asset.yaml")


def list_assets(settings: Settings, *, as_json: bool) -> None:
    """Print the newest value of each fact of each asset."""
    facts = [field.name for field in _contract().fields]
    columns = ["tenant", "device_id", *facts, "said_at"]
    rows: list[tuple[object, ...]] = []
    if CHANNEL in history.tables(settings.lake_directory):
        newest = ", ".join(f'arg_max({name}, "offset") filter ({name} is not null) as {name}' for name in facts)
        sql = f"select tenant, device_id, {newest}, max(measured_at) as said_at from asset group by all order by all"  # noqa: S608 - constants
        rows = history.query(settings.lake_directory, sql, rows_max=_ROWS_MAX).rows
    print_rows(columns, rows, as_json=as_json)

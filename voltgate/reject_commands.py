"""`voltgate rejects`: what could not become a row, why, and a second chance for it."""

import base64
from collections.abc import Sequence
from typing import Any

from dashboards.queries import history
from gateway.core.settings import Settings
from voltgate.gateway_port import call_gateway
from voltgate.output import Exit, print_json, print_pairs, print_rows, say

COLUMNS = [
    "offset",
    "record",
    "received_at",
    "tenant",
    "device_id",
    "channel",
    "stage",
    "code",
    "path",
    "expected",
    "got",
]
INDEX_COLUMNS = ["offset", "rejected_at", "table", "index", "document_id", "code", "reason", "generation", "document"]
RETRY_MAX = 10_000
"""Rejects put back by one call."""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _select(settings: Settings, columns: Sequence[str], where: Sequence[str], limit: int) -> list[tuple[Any, ...]]:
    return _rows(settings, "rejects", columns, where, limit, then="record")


def _rows(
    settings: Settings, table: str, columns: Sequence[str], where: Sequence[str], limit: int, *, then: str
) -> list[tuple[Any, ...]]:
    lake = settings.lake_directory
    if table not in history.tables(lake):
        return []
    names = ", ".join(f'"{name}"' for name in columns)
    condition = f" where {' and '.join(where)}" if where else ""
    sql = f'select {names} from {table}{condition} order by "offset" desc, {then}'  # noqa: S608 - values are quoted
    return history.query(lake, sql, rows_max=limit).rows


def list_rejects(settings: Settings, *, code: str | None, device_id: str | None, limit: int, as_json: bool) -> None:
    """Print rejects, newest first, and among them the documents that OpenSearch refused, as those of stage `index`."""
    where = [f"code = {_quoted(code)}"] if code else []
    # A refused document is told from others by its table and id; whose device it was, its row in the lake says.
    of_index = [] if device_id else _rows(settings, "index_rejects", INDEX_COLUMNS, where, limit, then="document_id")
    where += [f"device_id = {_quoted(device_id)}"] if device_id else []
    rows = _select(settings, COLUMNS, where, limit) + [_as_reject(row) for row in of_index]
    newest = sorted(rows, key=lambda row: row[0], reverse=True)[:limit]
    print_rows(COLUMNS, newest, as_json=as_json)


def _as_reject(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a refused document in the columns of rejects."""
    one = dict(zip(INDEX_COLUMNS, row, strict=True))
    told = {
        "offset": one["offset"],
        "received_at": one["rejected_at"],
        "channel": one["table"],
        "stage": "index",
        "code": one["code"],
        "path": f"{one['index']}/{one['document_id']}",
        "got": one["reason"],
    }
    return tuple(told.get(column) for column in COLUMNS)


def show_reject(settings: Settings, offset: int, *, as_json: bool) -> int:
    """Print all rejects of one journal entry with their bytes, and the documents that OpenSearch refused."""
    rows = _select(settings, [*COLUMNS, "payload"], [f'"offset" = {offset}'], RETRY_MAX)
    for row in rows:
        print_pairs(dict(zip([*COLUMNS, "payload"], row, strict=True)), as_json=as_json)
    refused = _rows(settings, "index_rejects", INDEX_COLUMNS, [f'"offset" = {offset}'], RETRY_MAX, then="document_id")
    for row in refused:
        print_pairs(dict(zip(INDEX_COLUMNS, row, strict=True)), as_json=as_json)
    if not rows and not refused:
        say(f"voltgate: no reject at offset {offset}; `voltgate rejects ls` lists them")
        return Exit.NOT_FOUND
    return Exit.OK


def retry_rejects(settings: Settings, offsets: Sequence[int], *, code: str | None, as_json: bool) -> int:
    """Send the payloads of rejects into the journal again, through the running gateway, which alone may write it.

    The old reject stays as history; the payload is a new entry and ends as a row, a reject or a duplicate.
    """
    if not offsets and code is None:
        say("voltgate: name offsets or --code; `voltgate rejects ls` lists both")
        return Exit.USAGE
    where = [f'"offset" in ({", ".join(map(str, offsets))})'] if offsets else []
    where += [f"code = {_quoted(code)}"] if code else []
    rows = _select(settings, ["offset", "record", "tenant", "device_id", "channel", "payload"], where, RETRY_MAX)
    if not rows:
        say("voltgate: no such reject; `voltgate rejects ls` lists them")
        return Exit.NOT_FOUND
    for offset, record, tenant, device_id, channel, payload in rows:
        body = {
            "tenant": tenant,
            "device_id": device_id,
            "channel": channel,
            "payload_base64": base64.b64encode(bytes(payload)).decode(),
        }
        answer = call_gateway(settings, "/ingest", body)
        if as_json:
            print_json({"offset": offset, "record": record, "retried_as": answer["offset"]})
    say(f"{len(rows)} payloads are in the journal again; see `voltgate rejects ls` in a few seconds")
    return Exit.OK

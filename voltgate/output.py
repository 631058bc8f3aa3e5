"""How the command line talks: stdout is data, stderr is talk, `--json` for machines."""

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from enum import IntEnum
from typing import Any, NoReturn

from gateway.core.errors import ConfigError
from gateway.core.text import peer_text


class Exit(IntEnum):
    """What an exit code means, in every command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIG = 3
    NOT_FOUND = 4
    FINDINGS = 6
    REJECTED = 7
    OFFLINE = 8
    TIMEOUT = 9


def say(line: str) -> None:
    """Write one line of talk; where the disk is full or the reader gone it is lost, which must end nobody."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def fail(line: str, code: Exit = Exit.FAILED) -> NoReturn:
    """End the command with a message."""
    say(f"voltgate: {line}")
    raise SystemExit(int(code))


def is_terminal() -> bool:
    """Return whether a person watches stdout and wants colour and motion."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def to_plain(value: object) -> object:
    """Return a value as JSON can carry it: bytes as text where they are, else hexadecimal."""
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value).decode("utf-8")
        except UnicodeDecodeError:
            return bytes(value).hex()
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value


def print_json(value: Any) -> None:
    """Write one JSON document on one line."""
    print(json.dumps(value, default=to_plain, ensure_ascii=False), flush=True)


def cell(value: object) -> str:
    """Return a value as one inert, readable table cell."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return peer_text(str(to_plain(value)), chars_max=120)


def print_config_error(error: ConfigError, *, as_json: bool) -> None:
    """Write a mistake in a file as one line, or with `as_json` as one object."""
    if as_json:
        print_json({"ok": False, "file": error.file, "line": error.line, "what": error.what, "mend": error.mend})
    else:
        print(error)


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[object]], *, as_json: bool) -> None:
    """Write rows as a table, or with `as_json` as one JSON object per line."""
    if as_json:
        for row in rows:
            print_json(dict(zip(columns, row, strict=True)))
        return
    texts = [[cell(value) for value in row] for row in rows]
    widths = [max(len(name), *(len(t[i]) for t in texts)) if texts else len(name) for i, name in enumerate(columns)]
    print("  ".join(name.ljust(w) for name, w in zip(columns, widths, strict=True)).rstrip())
    for text in texts:
        print("  ".join(t.ljust(w) for t, w in zip(text, widths, strict=True)).rstrip())


def print_pairs(pairs: Mapping[str, object], *, as_json: bool) -> None:
    """Write names and values, one a line, or with `as_json` as one object."""
    if as_json:
        print_json(dict(pairs))
        return
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        print(f"{name.ljust(width)}  {cell(value)}")

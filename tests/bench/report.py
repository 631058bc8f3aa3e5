"""Figures on paper: `build/bench.json` and `docs/reference/benchmarks.md`.

A run replaces the rows it measured and leaves the others as they are, in both files. Pure but for `write`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from tests.bench.machine import Machine, SyncLatency

BEGIN: Final = "<!-- rows -->"
END: Final = "<!-- end of rows -->"
MACHINE_BEGIN: Final = "<!-- machine -->"
MACHINE_END: Final = "<!-- end of machine -->"
HEAD: Final = (
    "| name | value | unit | peer | peer's value | ratio | measured |",
    "|---|---:|---|---|---:|---:|---|",
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure and, where there is one, the peer's in the same run.

    Attributes:
        name: `benchmark`, or `benchmark/part` for a part of its figure.
        value: Ours.
        unit: Of both values.
        peer: What was measured beside it, or None where there was nothing.
        peer_value: The peer's figure, None without one.
        ratio: `value / peer_value`, None without one.
    """

    name: str
    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None


def row(name: str, value: float, unit: str, *, peer: str | None = None, peer_value: float | None = None) -> Row:
    """Return a row; the ratio follows from the values."""
    ratio = round(value / peer_value, 3) if peer is not None and peer_value else None
    shown = _rounded(value)
    return Row(
        name=name,
        value=shown,
        unit=unit,
        peer=peer if ratio is not None else None,
        peer_value=_rounded(peer_value) if ratio is not None and peer_value is not None else None,
        ratio=ratio,
    )


def _rounded(value: float) -> float:
    """Return three decimals below a hundred and none above: more would be noise."""
    return round(value, 3) if abs(value) < 100 else float(round(value))


def belongs_to(name: str, only: str) -> bool:
    """Return whether a row is the benchmark `only` or a part of it."""
    return name.partition("/")[0] == only


# ---- bench.json ------------------------------------------------------------------------------------------------------
def merge_rows(kept: Sequence[Row], measured: Sequence[Row]) -> list[Row]:
    """Return the kept rows with the measured benchmarks replaced in place; new ones follow in their order.

    A measured benchmark takes the parts of its older figure with it.
    """
    anew = {each.name.partition("/")[0] for each in measured}
    merged: list[Row] = []
    placed: set[str] = set()
    for each in kept:
        name = each.name.partition("/")[0]
        if name not in anew:
            merged.append(each)
        elif name not in placed:
            placed.add(name)
            merged += [new for new in measured if belongs_to(new.name, name)]
    return merged + [new for new in measured if new.name.partition("/")[0] not in placed]


def rows_to_json(rows: Sequence[Row]) -> str:
    """Return the rows as a JSON list, one row a line."""
    return "[\n" + ",\n".join("  " + json.dumps(msgspec.to_builtins(each)) for each in rows) + "\n]\n"


def rows_from_json(text: str) -> list[Row]:
    """Return the rows of a `bench.json`. Raises: msgspec.ValidationError: It is something else."""
    return msgspec.json.decode(text, type=list[Row])


# ---- benchmarks.md ---------------------------------------------------------------------------------------------------
def merge_page(
    page: str | None, measured: Sequence[Row], machine: Machine, sync: SyncLatency, *, partial: bool, template: str
) -> str:
    """Return the page with the measured rows in it.

    Args:
        page: The page as it is, or None.
        measured: Rows of this run.
        machine: Where it ran.
        sync: Latency of its disk.
        partial: Whether only some benchmarks ran: other rows and the description of the machine stay as they are.
        template: The prose, with `{machine}` and `{rows}` where they belong.
    """
    old = _between(page or "", BEGIN, END)
    lines = {_name_of(line): line for line in old.splitlines() if line.startswith("| `")} if partial else {}
    anew = {each.name.partition("/")[0] for each in measured}
    kept = {name: line for name, line in lines.items() if name.partition("/")[0] not in anew}
    fresh = {each.name: _line(each, machine) for each in measured}
    order = _merged_order(list(lines), list(fresh))
    table = "\n".join([*HEAD, *((fresh | kept)[name] for name in order)])
    about = _between(page or "", MACHINE_BEGIN, MACHINE_END) if partial else ""
    about = _marked(about or _describe(machine, sync), MACHINE_BEGIN, MACHINE_END)
    return template.replace("{machine}", about).replace("{rows}", _marked(table, BEGIN, END))


def _merged_order(old: list[str], new: list[str]) -> list[str]:
    as_rows = [[Row(name=name, value=0.0, unit="") for name in names] for names in (old, new)]
    return [each.name for each in merge_rows(*as_rows)]


def _between(page: str, begin: str, end: str) -> str:
    _, found, rest = page.partition(begin + "\n")
    return rest.partition("\n" + end)[0] if found else ""


def _marked(text: str, begin: str, end: str) -> str:
    return f"{begin}\n{text}\n{end}"


def _name_of(line: str) -> str:
    return line.split("`")[1]


def _line(each: Row, machine: Machine) -> str:
    peer_value = "" if each.peer_value is None else _number(each.peer_value)
    ratio = "" if each.ratio is None else f"{each.ratio:.2f}"
    cells = [
        f"`{each.name}`",
        _number(each.value),
        each.unit,
        each.peer or "",
        peer_value,
        ratio,
        f"{machine.at}, {machine.cpu}",
    ]
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def _describe(machine: Machine, sync: SyncLatency) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in machine.versions.items())
    return f"""\
- Date: {machine.at}
- CPU: {machine.cpu}; {machine.memory_gib:g} GiB of memory
- System: {machine.system}
- Disk: {machine.disk}
- Append of 64 KiB with fdatasync: {sync.p50_us:,.0f} us at the median, {sync.p99_us:,.0f} us at the 99th percentile
- Versions: {versions}"""


_TEMPLATE: Final = Path(__file__).with_name("page.md")


# ---- files -----------------------------------------------------------------------------------------------------------
def write(
    measured: Sequence[Row],
    machine: Machine,
    sync: SyncLatency,
    *,
    json_file: Path,
    page_file: Path | None,
    partial: bool,
) -> None:
    """Merge the rows into both files; without `page_file` only the JSON is written."""
    kept = rows_from_json(json_file.read_text()) if partial and json_file.exists() else []
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(rows_to_json(merge_rows(kept, measured)))
    if page_file is not None:
        page = page_file.read_text() if page_file.exists() else None
        page_file.parent.mkdir(parents=True, exist_ok=True)
        page_file.write_text(merge_page(page, measured, machine, sync, partial=partial, template=_TEMPLATE.read_text()))

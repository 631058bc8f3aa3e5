"""The documentation says what the program does: settings, commands, metrics, codes, links and examples."""

import ast
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic import BaseModel

from gateway.core.settings_layers import ConfigText, parse_settings
from gateway.edge import admission
from gateway.observe import gateway_metrics
from processors.contracts import file as contract_file
from processors.contracts.load import parse_contract
from processors.stages.clocks import CLAMPED
from processors.stages.values import ABSENT_CLOCK
from simulators.__main__ import _parser as simulators_parser
from tests.style import reference
from tests.style.reference import ROOT
from voltgate.cli import app
from voltgate.output import Exit

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!\!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
SHELL = ("console", "bash", "sh")


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def page_text(name: str) -> str:
    return (reference.REFERENCE / name).read_text("utf-8")


def examples(*languages: str) -> list[Any]:
    """Return every fenced block in one of the languages, as parameters (page, first line, text)."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for block in FENCE.finditer(text):
            if block["language"] in languages:
                line = text.count("\n", 0, block.start()) + 1
                body = "\n".join(row.removeprefix(block["indent"]) for row in block["body"].splitlines()) + "\n"
                found.append(pytest.param(page, body, id=f"{page_id(page)}:{line}"))
    return found


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = FENCE.sub("", page.read_text("utf-8"))
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


# ---- reference -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("page", sorted(reference.REFERENCE.glob("*.md")), ids=page_id)
def test_generated_parts_are_current(page: Path) -> None:
    """A page says what the code says; refresh with `python -m tests.style.reference`."""
    text = page.read_text("utf-8")
    assert reference.refreshed(text) == text, f"run {reference.COMMAND}"


def test_every_generated_part_has_a_page() -> None:
    """Nothing is generated for nobody."""
    placed = [m["name"] for page in reference.REFERENCE.glob("*.md") for m in reference.MARK.finditer(page.read_text())]
    assert sorted(reference.BLOCKS) == sorted(placed)


def test_every_setting_says_what_it_is_for() -> None:
    """A new setting needs its sentence, a removed one loses it."""
    assert {name for name, _ in reference.setting_fields()} == set(reference.SETTINGS)


def contract_keys() -> Iterator[tuple[str, str]]:
    sections: dict[str, type[BaseModel]] = {
        "Keys": contract_file.ContractFile,
        "source": contract_file.SourceFile,
        "fields": contract_file.FieldFile,
        "windows": contract_file.WindowsFile,
        "rules": contract_file.RuleFile,
        "retention": contract_file.RetentionFile,
    }
    for section, model in sections.items():
        yield from ((section, field.alias or name) for name, field in model.model_fields.items())
    yield from (("time", f"measured_at.{name}") for name in contract_file.MeasuredAtFile.model_fields)
    yield "time", "skew_max"


@pytest.mark.parametrize(("section", "key"), list(contract_keys()))
def test_every_contract_key_has_a_row(section: str, key: str) -> None:
    """Each key of a contract file is explained in its section."""
    part = re.split(rf"^##+ {section}$", page_text("contracts.md"), flags=re.MULTILINE)[1].split("\n#")[0]
    assert f"\n| `{key}` |" in part


def test_every_contract_section_is_explained() -> None:
    """A section that is added to the file format is added to the page."""
    explained = {"SourceFile", "TimeFile", "MeasuredAtFile", "FieldFile", "WindowsFile", "RuleFile", "RetentionFile"}
    models = {name for name in vars(contract_file) if name.endswith("File")}
    assert models == explained | {"ContractFile"}


def constants(node: ast.expr) -> list[str]:
    return [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def calls(folder: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield name and node of every call in the modules of a folder."""
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                yield name, node


def refusal_reasons() -> set[str]:
    """Return every word under which the gateway counts something on its side of MQTT."""
    found = {*admission.REASONS, *gateway_metrics.DROPPED_REASONS, *gateway_metrics.ENDED_REASONS}
    for name, node in calls("gateway/wire"):
        if name in ("PeerError", "ProtocolViolation", "LimitExceeded", "IdentityRefused", "_count"):
            found.update(constants(node.args[0]))
        if name == "malformed":
            found.update(constants(node.args[1]) if len(node.args) > 1 else ["malformed"])
    for name, node in calls("gateway/edge"):
        if name == "disconnect" and len(node.args) > 1:
            found.update(constants(node.args[1]))
        if name == "count" and len(node.args) in (1, 2):
            found.update(constants(node.args[0]))
    return found - {"will"}  # a will that was published, and no refusal


@pytest.mark.parametrize("reason", sorted(refusal_reasons()))
def test_every_refusal_reason_has_a_row(reason: str) -> None:
    """Whatever the gateway counts a refusal under is explained."""
    rows = [line.split("|")[1] for line in page_text("errors.md").splitlines() if line.startswith("|")]
    assert any(f"`{reason}`" in row for row in rows)


def test_every_command_outcome_is_named() -> None:
    """Whatever becomes of a command is a value of the label."""
    tree = ast.parse((ROOT / "gateway/edge/commands.py").read_text("utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("_count", "_discard"):
            found.update(constants(node.args[-1]))
    assert found
    row = next(line for line in page_text("metrics.md").splitlines() if line.startswith("| `outcome` |"))
    assert set() == {outcome for outcome in found if f"`{outcome}`" not in row}


def test_every_reject_code_is_listed() -> None:
    """Each code that a stage gives a reject is in the table."""
    found = set()
    for name, node in calls("processors/stages"):
        if name in ("Unreadable", "_Lack"):
            found.update(constants(node.args[0]))
        found.update(c for keyword in node.keywords if keyword.arg == "code" for c in constants(keyword.value))
    assert {"json", "msgpack", "type"} | found == set(reference.REJECT_CODES) | set(reference.REJECTS_ELSEWHERE)


def test_every_flag_is_listed() -> None:
    """Each flag that decoding sets is explained."""
    rows = re.findall(r"^\| `([^`]+)` \|", page_text("errors.md").split("## Flags")[1], re.MULTILINE)
    assert {"range:FIELD", "enum:FIELD", CLAMPED, ABSENT_CLOCK} <= set(rows)


def test_every_exit_code_is_explained() -> None:
    """The table of exit codes is complete."""
    rows = re.findall(r"^\| (\d) \|", page_text("cli.md"), re.MULTILINE)
    assert sorted(map(int, Exit)) == sorted(map(int, rows))


@pytest.mark.parametrize("page", ["guarantees.md", "ocpp.md"])
def test_named_tests_exist(page: str) -> None:
    """A guarantee, or a line of a conformance table, names a test that is there."""
    named = re.findall(r"\[`(tests/[\w/]+\.py)::(\w+)`\]\(([^)]+)\)", page_text(page))
    assert named
    assert len(named) == page_text(page).count("::")
    for path, test, link in named:
        assert ROOT / path == (reference.REFERENCE / link).resolve()
        functions = {n.name for n in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(n, ast.FunctionDef)}
        assert test in functions, f"{path} has no {test}"


# ---- links and examples ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_resolve(page: Path) -> None:
    """Every link inside the project leads to a file and a heading that are there."""
    broken = []
    for link in LINK.finditer(FENCE.sub("", page.read_text("utf-8"))):
        path, _, anchor = link["target"].partition("#")
        if "://" in path:
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link["target"])
    assert broken == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=page_id)
def test_every_page_is_linked_from_its_index(page: Path) -> None:
    """Nobody has to guess that a page exists."""
    index = ROOT / "README.md" if page.name == "README.md" or page.parent.name in ("tutorial", "specs") else None
    text = (index or page.parent / "README.md").read_text("utf-8")
    names = (page.name, f"docs/{page.parent.name}/")
    assert any(name in text for name in names)


@pytest.mark.parametrize(("page", "text"), examples("python"))
def test_python_examples_compile(page: Path, text: str) -> None:
    """Python in the documentation is Python."""
    compile(text, page_id(page), "exec")


@pytest.mark.parametrize(("page", "text"), examples("json"))
def test_json_examples_parse(page: Path, text: str) -> None:
    """JSON in the documentation is JSON."""
    json.loads(text)


@pytest.mark.parametrize(("page", "text"), examples("toml"))
def test_toml_examples_are_settings(page: Path, text: str) -> None:
    """TOML in the documentation is a configuration that is taken."""
    tomllib.loads(text)
    parse_settings([ConfigText(page_id(page), text)], {})


@pytest.mark.parametrize(("page", "text"), examples("yaml"))
def test_yaml_examples_are_contracts(page: Path, text: str) -> None:
    """YAML in the documentation is a contract that is taken."""
    yaml.safe_load(text)
    parse_contract(text, file=page_id(page))


@pytest.mark.parametrize("file", sorted((ROOT / "docs").rglob("*.yaml")), ids=page_id)
def test_example_contracts_are_taken(file: Path) -> None:
    """A contract file beside a page is a contract."""
    assert file.stem == parse_contract(file.read_text("utf-8"), file=file.name).stream


def shell_lines(text: str) -> Iterator[str]:
    """Yield the commands in an example: after `$ ` where it has prompts, else every line; continued lines as one."""
    has_prompts = re.search(r"^\$ ", text, re.MULTILINE) is not None
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("$ ") or (line.strip() and not has_prompts):
            yield line.removeprefix("$ ")


def check_command(words: list[str]) -> None:
    """Parse a `voltgate` command line as the program would, without running it."""
    command: Any = typer.main.get_command(app)
    rest = words
    while hasattr(command, "commands") and rest and rest[0] != "--help":
        assert rest[0] in command.commands, f"there is no command {rest[0]!r} in {' '.join(words)!r}"
        command, rest = command.commands[rest[0]], rest[1:]
    if command.context_settings.get("ignore_unknown_options"):
        simulators_parser("voltgate simulate").parse_args(words[1:])
    elif rest != ["--help"]:
        command.make_context("voltgate", rest)


@pytest.mark.parametrize(("page", "text"), examples(*SHELL))
def test_shell_examples_are_commands(page: Path, text: str) -> None:
    """Every `voltgate` line of an example parses, and every `make` line names a target."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for line in shell_lines(text):
        words = shlex.split(line, comments=True)
        if "voltgate" in [Path(word).name for word in words[:4]] and words[0] in ("sudo", "voltgate"):
            start = next(i for i, word in enumerate(words) if Path(word).name == "voltgate" and words[i - 1] != "-u")
            end = next((i for i, word in enumerate(words) if word in (">", "|", "&&")), len(words))
            check_command(words[start + 1 : end])
        elif words and words[0] == "make":
            assert words[1] in targets


@pytest.mark.parametrize("script", [text for param in examples("bash") for text in [param.values[1]]])
def test_bash_examples_are_bash(script: str) -> None:
    """Shell in the documentation has no mistake that the shell itself sees."""
    ran = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert (0, "") == (ran.returncode, ran.stderr)


def test_inline_commands_exist() -> None:
    """A command named in running text is one."""
    unknown = []
    for page in PAGES:
        for command in re.findall(r"`voltgate ([a-z][^`]*)`", FENCE.sub("", page.read_text("utf-8"))):
            words = command.replace("...", "x").split()
            group: Any = typer.main.get_command(app)
            for word in words:
                if not hasattr(group, "commands"):
                    break
                if word not in group.commands:
                    unknown.append(f"{page_id(page)}: voltgate {command}")
                    break
                group = group.commands[word]
    assert unknown == []


def test_service_unit_runs_a_command() -> None:
    """The systemd unit starts something that exists, and gives it more time than it takes to stop."""
    unit = (ROOT / "deploy/systemd/voltgate.service").read_text("utf-8")
    for line in re.findall(r"^ExecStart(?:Pre)?=\S+/voltgate (.+)$", unit, re.MULTILINE):
        check_command(line.split())
    assert unit.count("/voltgate ") == 2
    assert f"RestartPreventExitStatus={Exit.CONFIG:d}" in unit


def test_readme_commands_that_need_nothing_run(tmp_path: Path) -> None:
    """The first commands of a new user work on an empty directory."""
    for arguments, code in ((["device", "add", "bus-0042"], 0), (["check"], 0), (["status"], 4), (["version"], 0)):
        data = [] if arguments == ["version"] else ["--data", str(tmp_path / "fleet")]
        ran = subprocess.run([sys.executable, "-m", "voltgate", *arguments, *data], capture_output=True, text=True)
        assert (code, "") == (ran.returncode, "Traceback" * ("Traceback" in ran.stderr)), ran.stderr

"""Reads docker-compose.yml and the Dockerfile as the programs they are written for do, as far as our files need it."""

import importlib.util
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[3]
VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?:(?P<how>:[-?])(?P<rest>[^}]*))?\})")


def script(path: str) -> ModuleType:
    """Return a script of the checkout as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE_ENV = script("deploy/compose/make_env.py")


def secrets() -> dict[str, str]:
    """Return a value for each variable that must be in `.env`."""
    return dict.fromkeys(MAKE_ENV.PASSWORDS, "a-secret-of-the-test")


def compose(environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return docker-compose.yml with variables replaced; without `environ` as it is written."""
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    return content if environ is None else _interpolated(content, environ)


def _interpolated(node: Any, environ: Mapping[str, str]) -> Any:
    def replaced(found: re.Match[str]) -> str:
        if found["dollar"]:
            return "$"
        if value := environ.get(found["name"]):
            return value
        if found["how"] == ":?":
            raise KeyError(f"{found['name']}: {found['rest']}")
        assert found["how"] == ":-", f"{found[0]} has neither a default nor a complaint"
        return found["rest"]

    match node:
        case dict():
            return {key: _interpolated(value, environ) for key, value in node.items()}
        case list():
            return [_interpolated(value, environ) for value in node]
        case str():
            return VARIABLE.sub(replaced, node)
        case _:
            return node


class Mount(NamedTuple):
    """A volume of a service; `source` is a path of the checkout or the name of a volume."""

    kind: str
    source: str
    target: str
    read_only: bool
    options: dict[str, Any]


def mounts(service: Mapping[str, Any]) -> list[Mount]:
    """Return the volumes of a service, in short and in long form."""
    found = []
    for volume in service.get("volumes", []):
        if isinstance(volume, str):
            source, target = volume.split(":")
            found.append(Mount("volume", source, target, read_only=False, options={}))
        else:
            options = volume.get(volume["type"], {})
            found.append(Mount(volume["type"], volume["source"], volume["target"], volume["read_only"], options))
    return found


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions, each with its arguments on one line."""
    lines = [line for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines() if not re.match(r"\s*(#|$)", line)]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined)]


def stages() -> list[list[tuple[str, str]]]:
    """Return the instructions of each stage, its FROM first."""
    found: list[list[tuple[str, str]]] = []
    for name, rest in instructions():
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append((name, rest))
    return found


def image_environment() -> dict[str, str]:
    """Return the settings that the image sets."""
    pairs = [pair for name, rest in stages()[-1] if name == "ENV" for pair in shlex.split(rest)]
    return dict(pair.split("=", 1) for pair in pairs)


def context_sources() -> list[str]:
    """Return what the Dockerfile copies from the checkout."""
    copies = [rest.split() for name, rest in instructions() if name == "COPY" and not rest.startswith("--from")]
    return [source for words in copies for source in words[:-1]]


def voltgate_environment() -> dict[str, str]:
    """Return the environment in which Compose starts Voltgate, of the image and of the service."""
    service: dict[str, str] = compose(secrets())["services"]["voltgate"]["environment"]
    return {**image_environment(), **service}

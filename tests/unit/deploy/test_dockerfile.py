"""The Dockerfile and .dockerignore: pinned, in stages, not root, and nothing secret goes in."""

import json
import re
import subprocess
from fnmatch import fnmatch

from gateway.core.settings_layers import parse_settings
from tests.style.test_docs import check_command
from tests.unit.deploy.files import ROOT, context_sources, image_environment, instructions, stages
from voltgate import __version__

KNOWN = {
    "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "RUN", "STOPSIGNAL", "USER",
    "VOLUME", "WORKDIR",
}  # fmt: skip


def last(name: str) -> str:
    return [rest for found, rest in stages()[-1] if found == name][-1]


def test_every_line_is_an_instruction() -> None:
    """No line is lost to a missing backslash."""
    assert KNOWN >= {name for name, _ in instructions()}


def test_base_and_dependencies_are_pinned() -> None:
    """One base image of one version, packages by hash, and the wheel without the network."""
    base = dict(rest.split("=") for name, rest in instructions() if name == "ARG")["PYTHON_IMAGE"]
    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+", base)
    assert ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"] == [stage[0][1] for stage in stages()]
    installs = re.findall(r"pip (?:install|wheel) [^&]+", " && ".join(rest for _, rest in instructions()))
    assert 4 == len(installs)
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)


def test_build_tools_come_from_the_lock() -> None:
    """The Dockerfile's own awk finds setuptools and all its hashes, and nothing else."""
    program = next(
        re.search(r"awk '(.+?)' requirements-dev.lock", rest) for name, rest in instructions() if "awk" in rest
    )
    assert program is not None
    ran = subprocess.run(["awk", program[1], str(ROOT / "requirements-dev.lock")], capture_output=True, text=True)
    assert ["setuptools"] == re.findall(r"^(\S+)==", ran.stdout, re.MULTILINE)
    assert 2 <= ran.stdout.count("--hash=sha256:")
    assert not ran.stdout.rstrip().endswith("\\")


def test_the_image_is_not_root_and_stops_politely() -> None:
    """A numeric user, tini as process 1, SIGTERM, a volume for everything that must survive."""
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last("USER"))
    assert "SIGTERM" == last("STOPSIGNAL")
    assert ["tini", "--", "voltgate"] == json.loads(last("ENTRYPOINT"))
    assert image_environment()["VOLTGATE__DATA"] == last("VOLUME") == last("WORKDIR")
    assert f'image.version="{__version__}"' in last("LABEL")


def test_the_image_runs_a_command_with_settings_that_are_taken() -> None:
    """`voltgate run` parses, and what the image sets are settings."""
    check_command(json.loads(last("CMD")))
    parse_settings([], image_environment())


def test_the_health_check_is_in_the_image() -> None:
    """Its script is copied to where it is called, and Compose calls the same."""
    command = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    assert ["python", "/opt/voltgate/ready.py"] == command
    assert "deploy/compose/ready.py /opt/voltgate/ready.py" in [rest for name, rest in stages()[-1] if name == "COPY"]


def test_versions_are_one() -> None:
    """The version stands in the package, the image's label and the tag that `make image` gives."""
    assert f"--tag voltgate:{__version__} " in (ROOT / "Makefile").read_text("utf-8")
    assert f"docker build -t voltgate:{__version__} " in (ROOT / "Dockerfile").read_text("utf-8")


def admitted(path: str) -> bool:
    """Return whether a path of the checkout gets into the build; the last matching line decides."""
    answer = True
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").removeprefix("**/")
            parents = ["/".join(path.split("/")[: end + 1]) for end in range(path.count("/") + 1)]
            names = path.split("/") if "**/" in line else parents
            if any(fnmatch(name, pattern) for name in names):
                answer = line.startswith("!")
    return answer


def test_only_what_is_needed_gets_into_the_build() -> None:
    """Everything that is copied is admitted; secrets, data, tests and history are not."""
    sources = context_sources()
    assert all((ROOT / source).exists() for source in sources)
    assert [] == [source for source in sources if not admitted(source)]
    assert admitted("processors/contracts/vehicle_telemetry.yaml")
    hidden = (".env", "deploy/compose/private/node.key", ".git/config", ".venv/bin/python", "demo-data/registry.sqlite")
    assert [] == [path for path in (*hidden, "tests/conftest.py", "gateway/__pycache__/x.pyc") if admitted(path)]

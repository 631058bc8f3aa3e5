"""What is deployed, as far as it runs without a container engine: the wheel, the scripts, the service unit."""

import base64
import hashlib
import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import sysconfig
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copy, copytree, ignore_patterns, which
from typing import Any

import pytest
import yaml

from processors.sinks.index_http import tls_context
from tests.installation import environment, until
from tests.services.require import require
from tests.unit.deploy.files import MAKE_ENV, ROOT, compose, context_sources, script, secrets, voltgate_environment
from voltgate import __version__

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("deployment")]
GENERATOR = ROOT / "deploy/compose/make_env.py"
IMPORTER = script("deploy/opensearch/import_saved_objects.py")


# ---- compose-env -----------------------------------------------------------------------------------------------------
def make_env(root: Path, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the generator as on a fresh machine: Python alone, without any package that is installed."""
    command = [sys.executable, "-I", "-S", str(GENERATOR), "--root", str(root), *arguments]
    env = {"PATH": os.environ["PATH"] if path is None else path}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which `make compose-env` has run."""
    require("openssl", which("openssl"))
    root = tmp_path_factory.mktemp("compose")
    ran = make_env(root)
    assert (0, "") == (ran.returncode, ran.stdout), ran.stderr
    return root


def env_of(root: Path) -> dict[str, str]:
    lines = (root / ".env").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_compose_starts_with_what_was_made(made: Path) -> None:
    """All that docker-compose.yml asks for is there, private, and different each time."""
    compose(env_of(made))
    assert set(MAKE_ENV.PASSWORDS) == set(env_of(made))
    assert len(MAKE_ENV.PASSWORDS) == len(set(env_of(made).values()))
    assert (0o600, 0o700) == (mode(made / ".env"), mode(made / MAKE_ENV.PRIVATE))
    assert {0o644} == {mode(path) for path in (made / MAKE_ENV.PRIVATE).iterdir()}
    assert [] == list((made / MAKE_ENV.PRIVATE).parent.glob(".new-*"))


def test_passwords_satisfy_opensearch(made: Path) -> None:
    """Each has upper and lower case, a digit and a special character, is long, and needs no quotes anywhere."""
    for password in [*env_of(made).values(), *(MAKE_ENV.make_password() for _ in range(200))]:
        for kind in ("[A-Z]", "[a-z]", "[0-9]", "[^A-Za-z0-9]"):
            assert re.search(kind, password)
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{39}", password)


def test_opensearch_knows_the_passwords(made: Path) -> None:
    """internal_users.yml has the hash of each user's password from .env, with a salt of its own, and no password."""
    text = (made / MAKE_ENV.PRIVATE / "internal_users.yml").read_text("utf-8")
    env, users = env_of(made), yaml.safe_load(text)
    for user, (name, _) in MAKE_ENV.OPENSEARCH_USERS.items():
        salt = base64.b64decode(users[user]["hash"].split("$")[3])
        assert MAKE_ENV.password_hash(env[name], salt) == users[user]["hash"]
    assert 3 == len({user["hash"].split("$")[3] for name, user in users.items() if name != "_meta"})
    assert not any(password in text for password in env.values())


def test_a_hash_is_what_password4j_makes() -> None:
    """The security plugin stores PBKDF2 as password4j writes it; this value was made with its version 1.8.2."""
    expected = "$3$2576980377600256$c2FsdHNhbHRzYWx0c2FsdA==$crqBzssGZtxY13DCV5Ivn1XR8kgjx1jj7W3jy8f66Hk="
    assert expected == MAKE_ENV.password_hash("correct horse", b"saltsaltsaltsalt")


def handshake(root: Path, name: str) -> None:
    """Speak TLS as Voltgate does with OpenSearch. Raises: ssl.SSLError: The certificate is not believed."""
    private = root / MAKE_ENV.PRIVATE
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(private / "node.pem", private / "node.key")
    client_context = tls_context(ca_file=private / "ca.pem", certificate=None, key=None)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    waiting = [client, server]
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass


@pytest.mark.parametrize("name", ["opensearch", "localhost", "127.0.0.1"])
def test_the_certificate_is_believed_under_its_names(made: Path, name: str) -> None:
    """With the authority that was made, Voltgate's own client verifies it."""
    handshake(made, name)


def test_the_certificate_is_for_no_other_name(made: Path) -> None:
    """Who answers in OpenSearch's place under another name is refused."""
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
        handshake(made, "opensearch.example")


def test_opensearch_yml_names_the_certificate(made: Path) -> None:
    """The node is known by the subject that it has, in the order that OpenSearch compares."""
    certificate = str(made / MAKE_ENV.PRIVATE / "node.pem")
    command = ["openssl", "x509", "-in", certificate, "-noout", "-subject", "-nameopt", "RFC2253"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    nodes = yaml.safe_load((ROOT / "deploy/opensearch/opensearch.yml").read_text("utf-8"))["plugins.security.nodes_dn"]
    assert nodes == [ran.stdout.strip().removeprefix("subject=")]


def digests(root: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


def test_nothing_is_overwritten(made: Path) -> None:
    """A second run changes nothing, prints no secret, and says what to do."""
    before = digests(made)
    ran = make_env(made)
    assert (1, "", before) == (ran.returncode, ran.stdout, digests(made))
    assert "docker compose down --volumes" in ran.stderr
    assert not any(password in ran.stderr for password in env_of(made).values())


def test_certificates_are_renewed_alone(tmp_path: Path, made: Path) -> None:
    """New certificates work, and every password stays."""
    copytree(made, tmp_path, dirs_exist_ok=True)
    before = digests(tmp_path)
    ran = make_env(tmp_path, "--certificates")
    assert 0 == ran.returncode, ran.stderr
    changed = {name for name, digest in digests(tmp_path).items() if digest != before[name]}
    assert {"ca.pem", "node.pem", "node.key"} == changed
    handshake(tmp_path, "opensearch")


def test_without_openssl_nothing_is_made(tmp_path: Path) -> None:
    """A machine that cannot make certificates gets a sentence, and no half of an installation."""
    ran = make_env(tmp_path, path=str(tmp_path / "empty"))
    assert (1, "") == (ran.returncode, ran.stdout)
    assert "install the package openssl" in ran.stderr
    assert [] == [path for path in tmp_path.rglob("*") if path.is_file()]


# ---- import of saved objects -----------------------------------------------------------------------------------------
@contextmanager
def dashboards(
    answers: list[tuple[int, dict[str, Any]]],
) -> Iterator[tuple[str, list[tuple[str, dict[str, str], bytes]]]]:
    """Serve these answers, the last one for ever; yield the URL and what was asked."""
    asked: list[tuple[str, dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            status, answer = answers[min(len(asked), len(answers)) - 1]
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_args: object) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def run_import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, float], int]:
    """Import a file of one line at an address, with no pause between tries."""
    monkeypatch.setattr(IMPORTER, "RETRY_S", 0.0)
    file = tmp_path / "objects.ndjson"
    file.write_text('{"type":"dashboard","id":"a"}\n')

    def run(url: str, wait_s: float) -> int:
        settings = {"URL": url, "USER": "admin", "PASSWORD": "pä$$", "WAIT_S": str(wait_s)}
        for name, value in settings.items():
            monkeypatch.setenv(f"DASHBOARDS_{name}", value)
        monkeypatch.setattr(sys, "argv", ["import_saved_objects.py", str(file)])
        code: int = IMPORTER.main()
        return code

    return run


def test_import_waits_until_dashboards_is_up(
    run_import: Callable[[str, float], int], capsys: pytest.CaptureFixture[str]
) -> None:
    """While the server starts the import tries again; then it sends the file once, as an upload, over what is there."""
    starting, done = (503, {"message": "not ready yet"}), (200, {"success": True, "successCount": 1})
    with dashboards([starting, starting, done]) as (url, asked):
        assert 0 == run_import(url, 60)
    path, headers, body = asked[-1]
    assert (3, "/api/saved_objects/_import?overwrite=true") == (len(asked), path)
    assert ("Basic YWRtaW46cMOkJCQ=", "voltgate") == (headers["authorization"], headers["osd-xsrf"])
    boundary = headers["content-type"].removeprefix("multipart/form-data; boundary=").encode()
    head, content = body.removesuffix(b"\r\n--" + boundary + b"--\r\n").split(b"\r\n\r\n", 1)
    assert b'{"type":"dashboard","id":"a"}\n' == content
    assert b'name="file"; filename="objects.ndjson"' in head
    said = capsys.readouterr()
    assert "objects.ndjson: 1 objects\n" == said.out
    assert 1 == said.err.count("not ready yet")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((401, {"message": "Unauthorized"}), "HTTP 401"),
        (
            (200, {"success": False, "errors": [{"id": "a", "error": {"type": "missing_references"}}]}),
            "missing_references",
        ),
    ],
    ids=["login", "objects"],
)
def test_import_says_why_it_is_refused(
    run_import: Callable[[str, float], int],
    capsys: pytest.CaptureFixture[str],
    answer: tuple[int, dict[str, Any]],
    why: str,
) -> None:
    """An answer that waiting does not change ends it at once."""
    with dashboards([answer]) as (url, asked):
        assert (1, 1) == (run_import(url, 60), len(asked))
    assert why in capsys.readouterr().err


def test_import_gives_up_in_the_end(
    run_import: Callable[[str, float], int], capsys: pytest.CaptureFixture[str], free_port: int
) -> None:
    """Where nothing answers, it ends with an error and not with success."""
    assert 1 == run_import(f"http://127.0.0.1:{free_port}", 0)
    assert "was not imported" in capsys.readouterr().err


@pytest.fixture
def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


# ---- the wheel, as the Dockerfile builds and starts it ---------------------------------------------------------------
@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from nothing but what the Dockerfile copies."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in context_sources():
        if (ROOT / name).is_dir():
            copytree(ROOT / name, source / name, ignore=ignore_patterns("__pycache__"))
        elif "/" not in name:
            copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    ran = subprocess.run(
        [*command, "--wheel-dir", str(target), "."], cwd=source, capture_output=True, text=True, timeout=110
    )
    assert 0 == ran.returncode, ran.stderr
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a virtual environment with the wheel and this one's dependencies, but not the checkout."""
    root = tmp_path_factory.mktemp("opt") / "voltgate"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True, timeout=60)
    (site,) = root.glob("lib/python*/site-packages")
    # A directory that a .pth file adds has its own .pth files ignored, so the editable checkout stays out.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [sys.executable, "-m", "pip", "--python", str(root / "bin/python"), "install", "--quiet", "--no-deps"]
    subprocess.run([*install, "--no-index", "--no-compile", str(wheel)], check=True, timeout=60)
    return root / "bin"


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    """Contracts, schemas and everything else that is no module travels too."""
    packages = [name for name in context_sources() if (ROOT / name / "__init__.py").exists()]
    directories = {path.parent for name in packages for path in (ROOT / name).rglob("__init__.py")}
    files = {path.relative_to(ROOT).as_posix() for one in directories for path in one.iterdir() if path.is_file()}
    assert set() == files - set(zipfile.ZipFile(wheel).namelist())
    assert 5 == len(packages)


def outside(**settings: object) -> dict[str, str]:
    """Return an environment in which nothing leads to the checkout."""
    clean = environment(**settings)
    return {name: value for name, value in clean.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}


def test_the_installed_command_is_this_version(installed: Path, tmp_path: Path) -> None:
    """The entry point of the wheel starts, and its code is the wheel's."""
    ran = subprocess.run(
        [installed / "voltgate", "version", "--json"],
        cwd=tmp_path,
        env=outside(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert __version__ == json.loads(ran.stdout)["voltgate"], ran.stderr
    probe = "import gateway, processors, dashboards, simulators, voltgate as v; print(gateway.__file__, v.__file__)"
    ran = subprocess.run(
        [installed / "python", "-c", probe], cwd=tmp_path, env=outside(), capture_output=True, text=True, timeout=60
    )
    assert all(path.startswith(str(installed.parent)) for path in ran.stdout.split()), ran.stdout + ran.stderr


def test_the_installed_command_makes_the_saved_objects(installed: Path, tmp_path: Path) -> None:
    """What the one-shot of docker-compose.yml imports is what the wheel makes of the contracts that are in it."""
    ran = subprocess.run(
        [installed / "voltgate", "bundle", "opensearch"], cwd=tmp_path, env=outside(), capture_output=True, text=True
    )
    assert (ROOT / "dashboards/saved/opensearch/voltgate.ndjson").read_text("utf-8") == ran.stdout, ran.stderr


def free_ports(count: int) -> list[int]:
    """Return ports on which nothing listens, all different."""
    bound = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in bound]
    for one in bound:
        one.close()
    return ports


def test_the_container_command_becomes_ready(installed: Path, made: Path, tmp_path: Path) -> None:
    """`voltgate run` in the environment of docker-compose.yml is ready by its own health check, without OpenSearch.

    Only what a container would bring is replaced: the data directory, ports that may be taken here, where the
    certificate is mounted. It writes nowhere but into its data directory, and ends with 0.
    """
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    elsewhere.mkdir()
    mqtt, ocpp, gateway, processors, nobody = free_ports(5)
    replaced = {
        "VOLTGATE__DATA": str(data),
        "VOLTGATE__GATEWAY__MQTT__PORT": str(mqtt),
        "VOLTGATE__GATEWAY__OCPP__PORT": str(ocpp),
        "VOLTGATE__OBSERVE__GATEWAY_PORT": str(gateway),
        "VOLTGATE__OBSERVE__PROCESSORS_PORT": str(processors),
        "VOLTGATE__OPENSEARCH__URL": f"https://127.0.0.1:{nobody}",
        "VOLTGATE__OPENSEARCH__CA_FILE": str(made / MAKE_ENV.PRIVATE / "ca.pem"),
        "HOME": str(elsewhere),
        "TMPDIR": str(elsewhere),
    }
    of_compose = voltgate_environment()
    assert set(replaced) - {"TMPDIR"} <= set(of_compose)
    env = {**outside(), **of_compose, **replaced, "PATH": f"{installed}:{os.environ['PATH']}"}
    health = compose(secrets())["services"]["voltgate"]["healthcheck"]["test"]
    health = [str(ROOT / "deploy/compose/ready.py") if "ready.py" in word else word for word in health[1:]]

    def ready() -> subprocess.CompletedProcess[str]:
        return subprocess.run(health, cwd=elsewhere, env=env, capture_output=True, text=True, timeout=30)

    early = ready()
    assert 1 == early.returncode
    assert "gateway: http://127.0.0.1" in early.stdout
    with (tmp_path / "run.log").open("wb") as log:
        process = subprocess.Popen(["voltgate", "run"], cwd=elsewhere, env=env, stdout=log, stderr=log)
        try:
            until(lambda: process.poll() is not None or ready().returncode == 0, timeout_s=60, what="readiness")
            assert process.poll() is None, (tmp_path / "run.log").read_text()[-3000:]
            with socket.create_connection(("127.0.0.1", mqtt), timeout=5):
                pass
            process.send_signal(signal.SIGTERM)
            assert 0 == process.wait(40), (tmp_path / "run.log").read_text()[-3000:]
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    assert [] == list(elsewhere.rglob("*"))
    assert (data / "ingest").is_dir()
    assert secrets()["OPENSEARCH_VOLTGATE_PASSWORD"] not in (tmp_path / "run.log").read_text()


# ---- systemd ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The service unit with a program that exists on this machine."""
    require("systemd-analyze", which("systemd-analyze"))
    text = (ROOT / "deploy/systemd/voltgate.service").read_text("utf-8")
    path = tmp_path / "voltgate.service"
    path.write_text(text.replace("/opt/voltgate/bin/voltgate", "/bin/true"))
    return path


def test_systemd_takes_the_unit(unit: Path) -> None:
    """No key is unknown or misplaced."""
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60
    )
    own = [line for line in ran.stderr.splitlines() if "voltgate" in line]
    assert (0, []) == (ran.returncode, own)


def test_systemd_finds_little_exposed(unit: Path) -> None:
    """Its own score, 0 to 10, stays at what a daemon that needs the network can have."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", ran.stdout)
    assert found is not None, ran.stderr
    assert float(found[1]) <= 2.0

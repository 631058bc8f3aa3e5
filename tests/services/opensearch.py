"""A real OpenSearch node as a child process: installed from Maven Central, on free ports of the loopback.

The distribution is the "min" one of the project (no plugins), checked by its hash. It needs a Java of its own, 21 or
newer. OpenSearch refuses to run as root, so a test run that is root starts it as `nobody`, who must reach what it uses.
"""

import fcntl
import hashlib
import http.client
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

VERSION: Final = "3.8.0"
SHA256: Final = "196c3cf4602c394f2e40e6174ccbf2a924eae37246f08fa6bbb6b75f9fd5ff1f"
JAVA_MIN: Final = 21
NEEDS: Final = f"OpenSearch {VERSION} (with Java >= {JAVA_MIN}, and Maven to download it)"
"""What `tests.services.require.require` says is missing."""
START_TIMEOUT_S: Final = 110.0
STOP_TIMEOUT_S: Final = 20.0
HEAP_MB: Final = 512
_COPY: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
_ARTIFACT: Final = f"org.opensearch.distribution.integ-test-zip:opensearch:{VERSION}:zip"
_DOWNLOAD_TIMEOUT_S: Final = 600
_UNUSED: Final = ("ingest-geoip", "transport-grpc")
"""Modules that nothing here asks for, and that are half of the bytes."""
_USER: Final = "nobody"
_JVM_OPTIONS: Final = (
    # Compiled once and lightly: half of the time to start, and no second heap of compiler threads.
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djna.nosys=true",
    "-Dio.netty.noUnsafe=true",
    "-Dlog4j2.disable.jmx=true",
    "-Dlog4j.shutdownHookEnabled=false",
    "-Dfile.encoding=UTF-8",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-modules=jdk.incubator.vector",
    "-Dopensearch.distribution.type=zip",
    "-Dopensearch.bundled_jdk=false",
)


# ---- installation ----------------------------------------------------------------------------------------------------


def java() -> Path | None:
    """Return the program of a Java that is new enough: $JAVA_HOME's, or the newest below /usr/lib/jvm; None without."""
    homes = [Path(home)] if (home := os.environ.get("JAVA_HOME")) else []
    jvm = Path("/usr/lib/jvm")
    homes += sorted(jvm.iterdir()) if jvm.is_dir() else []
    known = [(version, home) for home in homes if (version := _java_version(home)) >= JAVA_MIN]
    return max(known)[1] / "bin" / "java" if known else None


def _java_version(home: Path) -> int:
    """Return the feature version of the Java in a directory, 0 where there is none."""
    try:
        lines = (home / "release").read_text().splitlines()
    except OSError:
        return 0
    found = next((line for line in lines if line.startswith("JAVA_VERSION=")), "")
    version = found.partition("=")[2].strip('"').split(".")[0]
    return int(version) if version.isdigit() and (home / "bin" / "java").exists() else 0


def available() -> bool:
    """Return whether a node can be started here, if need be after a download."""
    return java() is not None and (_archive().exists() or shutil.which("mvn") is not None)


def why_not() -> str:
    """Return what is missing where `available` says no."""
    what = [f"Java >= {JAVA_MIN} below /usr/lib/jvm or in JAVA_HOME"] if java() is None else []
    if not _archive().exists() and shutil.which("mvn") is None:
        what.append("Maven (`mvn`), which downloads it")
    return f"OpenSearch {VERSION} needs {' and '.join(what)}"


def install() -> Path:
    """Return the directory of the distribution, after downloading and unpacking it if need be.

    Raises: RuntimeError: It could not be downloaded, or is not what it should be.
    """
    home = _home()
    marker = home / "installed"
    if marker.exists():
        return home
    archive = _archive()
    archive.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(archive.with_suffix(".lock")):
        if marker.exists():  # another process was faster
            return home
        if not archive.exists():
            _download(archive)
        _unpack(archive, home)
        # Written last, so that an interrupted installation is not taken for one.
        marker.write_text(VERSION)
    return home


def _archive() -> Path:
    return _cache() / f"opensearch-{VERSION}.zip"


def _cache() -> Path:
    """Return where downloads are kept: $VOLTGATE_CACHE, or the user's cache directory."""
    root = os.environ.get("VOLTGATE_CACHE")
    return Path(root) if root else Path.home() / ".cache" / "voltgate"


def _home() -> Path:
    """Return where the distribution is unpacked: in the cache, or where the node's user can reach it."""
    home = _cache() / f"opensearch-{VERSION}"
    return home if os.getuid() != 0 or _is_reachable(home) else _open_directory() / home.name


def _open_directory() -> Path:
    """Return a directory of root's own which everybody can read."""
    directory = Path("/var/tmp/voltgate-services")
    directory.mkdir(mode=0o755, exist_ok=True)
    assert directory.stat().st_uid == 0, f"{directory} belongs to somebody else; remove it"
    assert not directory.is_symlink(), f"{directory} is a link; remove it"
    return directory


def _is_reachable(path: Path) -> bool:
    """Return whether every user may enter all directories above a path."""
    return all(parent.stat().st_mode & 0o001 for parent in path.absolute().parents if parent.exists())


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(archive: Path) -> None:
    mvn = shutil.which("mvn")
    if mvn is None:
        raise RuntimeError(why_not())
    sys.stderr.write(f"downloading OpenSearch {VERSION} from Maven Central (153 MiB) into {archive.parent}\n")
    with tempfile.TemporaryDirectory(dir=archive.parent) as directory:
        command = [mvn, "-q", "-B", _COPY, f"-Dartifact={_ARTIFACT}", f"-DoutputDirectory={directory}"]
        command.append("-Dmdep.useBaseVersion=true")
        try:
            done = subprocess.run(command, capture_output=True, timeout=_DOWNLOAD_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as exc:
            raise RuntimeError(f"no download of {_ARTIFACT} within {_DOWNLOAD_TIMEOUT_S} s") from exc
        found = list(Path(directory).glob("*.zip"))
        if done.returncode != 0 or len(found) != 1:
            said = (done.stdout + done.stderr).decode(errors="replace").strip()[-1000:]
            raise RuntimeError(f"mvn ended with {done.returncode} and did not bring {_ARTIFACT}: {said}")
        with found[0].open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != SHA256:
            raise RuntimeError(f"{_ARTIFACT} has SHA-256 {digest}, expected {SHA256}")
        found[0].replace(archive)


def _unpack(archive: Path, home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent) as directory, zipfile.ZipFile(archive) as packed:
        unused = tuple(f"opensearch-{VERSION}/modules/{name}/" for name in _UNUSED)
        packed.extractall(directory, [name for name in packed.namelist() if not name.startswith(unused)])
        (Path(directory) / f"opensearch-{VERSION}").rename(home)
    for path in (home, *home.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


# ---- a node ----------------------------------------------------------------------------------------------------------


class Node:
    """One node that is a cluster of its own, on a port of the loopback that stays the same over restarts.

    A context manager: entered it answers, left it is gone, and where nobody gave a directory so is its data.

    Args:
        directory: Where its data, logs and configuration go. Where its user cannot reach that, they are in a directory
            of its own, and `directory / "opensearch"` is a link to it for as long as the node exists.
        settings: Lines of opensearch.yml besides those that make it a small cluster.
        heap_mb: Size of Java's heap.
    """

    def __init__(
        self, directory: Path | None = None, *, settings: Mapping[str, object] | None = None, heap_mb: int = HEAP_MB
    ) -> None:
        self._settings, self._heap_mb = dict(settings or {}), heap_mb
        self._process: subprocess.Popen[bytes] | None = None
        self._ports = _free_ports(2)
        self._own, self._link = None, None
        if directory is None or (os.getuid() == 0 and not _is_reachable(directory / "opensearch")):
            self._own = Path(tempfile.mkdtemp(prefix="voltgate-opensearch-", dir="/var/tmp"))
            self._own.chmod(0o755)
            self._state = self._own
            if directory is not None:
                directory.mkdir(parents=True, exist_ok=True)
                self._link = directory / "opensearch"
                self._link.unlink(missing_ok=True)
                self._link.symlink_to(self._state)
        else:
            self._state = directory / "opensearch"

    def __enter__(self) -> "Node":
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def host(self) -> str:
        """Address it listens on."""
        return "127.0.0.1"

    @property
    def port(self) -> int:
        """Port of its HTTP interface."""
        return self._ports[0]

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Its process, None while it does not run."""
        return self._process.pid if self._process is not None else None

    def start(self, *, wait: bool = True) -> None:
        """Start it on the data that is there; by default return when it answers.

        Raises: AssertionError: It runs already, ended, or did not answer in time.
        """
        assert self._process is None, "the node runs already"
        home, program = install(), java()
        assert program is not None, why_not()
        self._prepare(home)
        as_user: dict[str, Any] = {}
        if os.getuid() == 0:
            user = pwd.getpwnam(_USER)
            as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(program, home),
                cwd=self._state,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **as_user,
            )
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when the cluster can be written to."""
        give_up_at_s = time.monotonic() + timeout_s
        while True:
            assert self._process is not None, "the node was not started"
            assert self._process.poll() is None, f"the node ended: {self._log_tail()}"
            try:
                if self.request("GET", "/_cluster/health?wait_for_status=yellow&timeout=1s").get("timed_out") is False:
                    return
            except (OSError, http.client.HTTPException, ValueError):
                pass
            assert time.monotonic() < give_up_at_s, f"no answer within {timeout_s:g} s: {self._log_tail()}"
            time.sleep(0.1)

    def stop(self) -> None:
        """End it in order; its data stays."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it without a word, as a power cut does; its data stays."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it keep its connections and say nothing more, as a machine that hangs does."""
        assert self._process is not None, "the node does not run"
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        assert self._process is not None, "the node does not run"
        self._process.send_signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Empty its disk, so that the next start is a new cluster at the old address. It must not run."""
        assert self._process is None, "stop or kill the node first"
        shutil.rmtree(self._state / "data", ignore_errors=True)

    def clean(self) -> None:
        """Delete all indices and index templates and undo changed settings of the cluster."""
        self.request("DELETE", "/*?expand_wildcards=all")
        self.request("DELETE", "/_index_template/*")
        nothing = {"persistent": {"*": None}, "transient": {"*": None}}
        self.request("PUT", "/_cluster/settings", nothing)

    def request(self, method: str, path: str, body: object = None, *, timeout_s: float = 30.0) -> Any:
        """Return the decoded answer to a request, whatever its status; text where it is no JSON.

        Args:
            method: GET, PUT, POST, DELETE.
            path: Path and query.
            body: What to send as JSON; bytes go as they are, as NDJSON.
            timeout_s: How long the connection may be silent.

        Raises: OSError: It is out of reach.
        """
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            kind = "application/x-ndjson" if isinstance(body, bytes) else "application/json"
            connection.request(method, path, data, {"Content-Type": kind} if data is not None else {})
            answer = connection.getresponse()
            text = answer.read()
            return json.loads(text) if "json" in (answer.getheader("Content-Type") or "") else text.decode()
        finally:
            connection.close()

    def close(self) -> None:
        """Kill it if it runs; delete its directory if that is its own."""
        self.kill()
        if self._link is not None:
            self._link.unlink(missing_ok=True)
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)

    @property
    def _log(self) -> Path:
        return self._state / "output.log"

    def _log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else "no log"

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        if how == signal.SIGTERM:
            process.send_signal(signal.SIGCONT)  # a paused one could not obey
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _prepare(self, home: Path) -> None:
        """Write its configuration, and give it the directories that it writes to."""
        conf = self._state / "conf"
        written = [self._state, conf, *(self._state / name for name in ("data", "logs", "tmp"))]
        for directory in written:
            directory.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(home / "config" / "log4j2.properties", conf / "log4j2.properties")
        lines: dict[str, object] = {
            "cluster.name": "voltgate-tests",
            "node.name": "one",
            "path.data": str(self._state / "data"),
            "path.logs": str(self._state / "logs"),
            "network.host": self.host,
            "http.port": self._ports[0],
            "transport.port": self._ports[1],
            "discovery.type": "single-node",
            # A developer's disk may well be 90 % full; tests that want the watermarks say so.
            "cluster.routing.allocation.disk.threshold_enabled": False,
        }
        text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in (lines | self._settings).items())
        (conf / "opensearch.yml").write_text(text)
        if os.getuid() == 0:
            user = pwd.getpwnam(_USER)
            for path in (*written, *conf.iterdir()):
                os.chown(path, user.pw_uid, user.pw_gid)

    def _command(self, program: Path, home: Path) -> list[str]:
        # `bin/opensearch` would start three more Javas only to compute this line.
        return [
            str(program),
            f"-Xms{self._heap_mb}m",
            f"-Xmx{self._heap_mb}m",
            *_JVM_OPTIONS,
            f"-Djava.io.tmpdir={self._state / 'tmp'}",
            f"-Djna.tmpdir={self._state / 'tmp'}",
            f"-javaagent:{home / 'agent' / 'opensearch-agent.jar'}",
            f"-Dopensearch.path.home={home}",
            f"-Dopensearch.path.conf={self._state / 'conf'}",
            "-cp",
            f"{home / 'lib'}/*",
            "org.opensearch.bootstrap.OpenSearch",
            "-p",
            str(self._state / "pid"),
        ]


def _free_ports(count: int) -> list[int]:
    """Return ports of the loopback that nobody has now."""
    probes: list[socket.socket] = []
    try:
        for _ in range(count):
            probe = socket.socket()
            probes.append(probe)
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()

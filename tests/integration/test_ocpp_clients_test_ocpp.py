"""PyPI test-ocpp, the field's tool for "does this central system answer?", against the whole gateway."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from gateway.configuration import open_registry
from gateway.core.credentials import DeviceKind
from gateway.core.settings import Settings
from gateway.journal.reader import SegmentReader
from tests.integration.certificates import Authority
from tests.integration.gateway_process import GatewayProcess, running_gateway

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]
PROGRAM: Final = Path(sys.executable).with_name("test-ocpp")
TENANT: Final = "acme"
VERSIONS: Final = ("1.6", "2.0.1")
PROFILES: Final = (1, 2, 3)
"""Basic authorization, the same under TLS, a client certificate under TLS."""


class Site:
    """A gateway, its authority, and one charger for each profile and version."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.data.mkdir()
        self.authority = Authority(directory / "certificates")
        registry = open_registry(Settings(data=self.data))
        added = [
            registry.add(
                tenant=TENANT,
                device_id=charger(profile, version),
                now_ns=time.time_ns(),
                kind=DeviceKind.CHARGER,
                security_profile=profile,
            )
            for profile in PROFILES
            for version in VERSIONS
        ]
        registry.close()
        self.passwords: dict[str, str] = {each.device_id: each.password for each in added}
        self.gateway: GatewayProcess

    def environ(self) -> dict[str, str]:
        """Return the settings of its gateway."""
        certificate, key = self.authority.server()
        prefix = "VOLTGATE__GATEWAY__OCPP__"
        return {
            f"{prefix}PORT": "0",
            f"{prefix}TLS_PORT": "0",
            f"{prefix}CERTIFICATES": json.dumps([{"certificate_file": str(certificate), "key_file": str(key)}]),
            f"{prefix}CLIENT_CA_FILE": str(self.authority.file),
        }

    def ask(self, identity: str, version: str, *options: object, tls: bool) -> tuple[int, str]:
        """Run the tool as a charger; return its exit code and what it printed."""
        port = self.gateway.endpoints["ocpp_tls_port" if tls else "ocpp_port"]
        url = f"{'wss' if tls else 'ws'}://127.0.0.1:{port}/ocpp"
        command = [PROGRAM, url, identity, "--ocpp", version, "--timeout", "10", *options]
        command += ["--ca", self.authority.file] if tls else []
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, done.stdout + done.stderr

    def channels(self, identity: str) -> list[str]:
        """Return the channels of the durable entries of a charger, in order."""
        reader = SegmentReader(self.data / "ingest")
        batch = reader.read(reader.start_offset(), rows_max=100_000, bytes_max=1 << 28)
        routes = [entry.envelope.route for entry in batch.entries()]
        return [str(route.channel) for route in routes if (route.tenant, route.device_id) == (TENANT, identity)]

    def connects(self, identity: str) -> int:
        """Return how many connections of a charger were accepted."""
        return self.channels(identity).count("ocpp/connected")


def charger(profile: int, version: str) -> str:
    """Return the identity of a charger."""
    return f"profile-{profile}-{version}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway for all tests of this module."""
    site = Site(tmp_path_factory.mktemp("site"))
    with running_gateway(site.data, environ=site.environ()) as gateway:
        site.gateway = gateway
        yield site


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("profile", PROFILES)
def test_it_finds_nothing_wrong(profile: int, version: str, site: Site) -> None:
    """Boot and heartbeat are answered under each security profile, and the boot is in the journal."""
    identity = charger(profile, version)
    if profile == PROFILES[-1]:
        certificate, key = site.authority.client(identity)
        proof: list[object] = ["--cert", certificate, "--key", key]
    else:
        proof = ["--password", site.passwords[identity]]
    code, said = site.ask(identity, version, *proof, tls=profile > 1)
    assert (0, "SUCCESS") == (code, said.splitlines()[-1]), said
    assert "BootNotification status: Accepted" in said
    assert "WARNING" not in said
    assert ["ocpp/connected", f"ocpp{version}/BootNotification"] == site.channels(identity)[:2]


def test_a_wrong_password_is_refused(site: Site) -> None:
    """The tool sees 401, and no connection was accepted."""
    identity = charger(1, "1.6")
    before = site.connects(identity)
    code, said = site.ask(identity, "1.6", "--password", "wrong-horse-battery-staple", tls=False)
    assert (1, True) == (code, "HTTP 401" in said), said
    assert before == site.connects(identity)


def test_the_certificate_of_another_charger_is_refused(site: Site) -> None:
    """A charger with a good certificate cannot speak for its neighbour."""
    identity = charger(3, "1.6")
    before = site.connects(identity)
    certificate, key = site.authority.client(charger(3, "2.0.1"))
    code, said = site.ask(identity, "1.6", "--cert", certificate, "--key", key, tls=True)
    assert (1, True) == (code, "HTTP 401" in said), said
    assert before == site.connects(identity)


def test_a_password_in_clear_text_is_refused_where_tls_is_registered(site: Site) -> None:
    """The right password of a charger of profile 2 is no way in without TLS."""
    identity = charger(2, "1.6")
    before = site.connects(identity)
    code, said = site.ask(identity, "1.6", "--password", site.passwords[identity], tls=False)
    assert (1, True) == (code, "HTTP 403" in said), said
    assert before == site.connects(identity)

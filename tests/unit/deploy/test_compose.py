"""docker-compose.yml: every image, port, variable, path and address in it agrees with the code, and nothing is open."""

import re
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml

from gateway.core.errors import ConfigError
from gateway.core.settings import Settings
from gateway.core.settings_layers import parse_settings
from tests.unit.deploy.files import (
    MAKE_ENV,
    ROOT,
    compose,
    image_environment,
    mounts,
    secrets,
    stages,
    voltgate_environment,
)
from voltgate import __version__

WRITTEN = compose()
STARTED = compose(secrets())
SERVICES: dict[str, dict[str, Any]] = STARTED["services"]
OURS = f"voltgate:{__version__}"
ONE_SHOTS = {"saved-objects", "minio-owner"}
WRITABLE_ROOT = {"opensearch", "opensearch-dashboards", "kafka"}
"""Their images write into their own directories when they start."""
PROFILES = {"kafka": "kafka", "postgres": "postgres", "minio": "minio", "minio-owner": "minio"}

each_service = pytest.mark.parametrize("name", sorted(SERVICES))


def voltgate_settings() -> Settings:
    return parse_settings([], voltgate_environment())


# ---- what is started -------------------------------------------------------------------------------------------------
def test_the_stack_is_what_the_team_on_duty_looks_at() -> None:
    """`docker compose up` starts five servers and the import; everything else needs a profile."""
    always = {name for name, service in SERVICES.items() if "profiles" not in service}
    expected = {"voltgate", "opensearch", "opensearch-dashboards", "saved-objects", "prometheus", "grafana"}
    assert expected == always
    assert PROFILES == {name: service["profiles"][0] for name, service in SERVICES.items() if "profiles" in service}


@each_service
def test_images_are_pinned(name: str) -> None:
    """An image is one version, ours that of this checkout."""
    image = SERVICES[name]["image"]
    assert re.fullmatch(r"[a-z0-9./-]+:v?[A-Za-z.]*\d[\w.-]*", image)
    if "build" in SERVICES[name]:
        assert OURS == image


@each_service
def test_a_service_has_no_privilege(name: str) -> None:
    """No capability, no way to get one, not root; the exception changes the owner of one volume and has no network."""
    service = SERVICES[name]
    assert ["ALL"] == service["cap_drop"]
    assert ["no-new-privileges:true"] == service["security_opt"]
    assert "privileged" not in service
    if name == "minio-owner":
        assert ("0:0", ["CHOWN"], "none") == (service["user"], service["cap_add"], service["network_mode"])
    else:
        assert re.fullmatch(r"[1-9]\d*:\d+", service["user"])
        assert "cap_add" not in service


@each_service
def test_a_service_is_bounded(name: str) -> None:
    """Memory, processes and log files have a limit."""
    service = SERVICES[name]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["pids_limit"] > 0
    assert {"max-size": "10m", "max-file": "3"} == service["logging"]["options"]


@each_service
def test_the_root_file_system_is_read_only(name: str) -> None:
    """Except where an image is known to write into itself."""
    assert (name not in WRITABLE_ROOT) is SERVICES[name].get("read_only", False)


@each_service
def test_a_service_says_how_it_is(name: str) -> None:
    """A server has a health check; what runs once has none and is not started again."""
    service = SERVICES[name]
    if name in ONE_SHOTS:
        assert ({"disable": True}, "no") == (service["healthcheck"], service["restart"])
    else:
        assert {"test", "interval", "timeout", "start_period", "retries"} == set(service["healthcheck"])
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        assert "unless-stopped" == service["restart"]


def test_voltgate_waits_for_no_other_server() -> None:
    """Devices are answered while everything else is away; who waits for whom exists and says for what."""
    assert "depends_on" not in SERVICES["voltgate"]
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            done = "service_completed_successfully" if other in ONE_SHOTS else "service_healthy"
            assert {"condition": done} == how


# ---- who reaches whom ------------------------------------------------------------------------------------------------
def test_ports_are_published_on_this_machine_alone() -> None:
    """Without a decision of the operator only this computer connects, and each port once."""
    published = [port.split(":") for service in SERVICES.values() for port in service.get("ports", [])]
    assert {"127.0.0.1"} == {address for address, _, _ in published}
    assert len(published) == len({port for _, port, _ in published})
    open_to_all = compose({**secrets(), "VOLTGATE_BIND": "0.0.0.0"})["services"]
    opened = {name for name, service in open_to_all.items() for port in service.get("ports", []) if port[0] == "0"}
    assert {"voltgate"} == opened


def test_ports_are_those_of_the_settings() -> None:
    """What is published and exposed is what Voltgate listens on."""
    settings = voltgate_settings()
    devices = {settings.gateway.mqtt.port, settings.gateway.ocpp.port}
    observe = {settings.observe.gateway_port, settings.observe.processors_port}
    assert devices == {int(port.rsplit(":", 1)[1]) for port in SERVICES["voltgate"]["ports"]}
    exposed = next(rest for name, rest in stages()[-1] if name == "EXPOSE")
    assert devices | observe == {int(port) for port in exposed.split()}


def test_servers_without_a_published_port_are_in_networks_that_lead_nowhere() -> None:
    """OpenSearch and the servers of the profiles are reached by their neighbours alone."""
    internal = {name for name, network in STARTED["networks"].items() if network.get("internal")}
    assert {"index", "metrics", "stores"} == internal
    for name, service in SERVICES.items():
        networks = set(service.get("networks", []))
        assert networks <= set(STARTED["networks"])
        assert bool(service.get("ports")) is bool(networks - internal), name


def test_neighbours_share_a_network() -> None:
    """Every address in the environment of a service is a service that it can reach."""
    pairs = [
        ("voltgate", "opensearch"),
        ("opensearch-dashboards", "opensearch"),
        ("saved-objects", "opensearch-dashboards"),
        ("prometheus", "voltgate"),
        ("grafana", "prometheus"),
        ("voltgate", "minio"),
        ("voltgate", "postgres"),
    ]
    for one, other in pairs:
        assert set(SERVICES[one]["networks"]) & set(SERVICES[other]["networks"]), (one, other)


# ---- Voltgate's settings ---------------------------------------------------------------------------------------------
def test_the_environment_is_settings() -> None:
    """Every variable is a setting with a good value, and they say where the neighbours are."""
    settings = voltgate_settings()
    assert {"0.0.0.0"} == {settings.gateway.mqtt.host, settings.gateway.ocpp.host, settings.observe.host}
    assert not settings.gateway.mqtt.allow_anonymous
    assert not settings.gateway.ocpp.allow_unauthenticated
    assert image_environment()["VOLTGATE__DATA"] == str(settings.data)
    assert str(settings.data) in {mount.target for mount in mounts(SERVICES["voltgate"])}


def test_the_index_is_reached_as_one_user_over_verified_tls() -> None:
    """Voltgate trusts the authority of this installation alone, and is not the administrator."""
    opensearch = voltgate_settings().opensearch
    assert "https://opensearch:9200" == opensearch.url
    assert (opensearch.user, secrets()["OPENSEARCH_VOLTGATE_PASSWORD"]) == (
        "voltgate",
        opensearch.password.get_secret_value() if opensearch.password else None,
    )
    by_target = {mount.target: mount.source for mount in mounts(SERVICES["voltgate"])}
    assert "./deploy/compose/private/ca.pem" == by_target[str(opensearch.ca_file)]


def test_listening_in_clear_text_was_agreed_to() -> None:
    """Without the one setting that says so, the same environment is refused."""
    environment = {name: value for name, value in voltgate_environment().items() if not name.endswith("INSECURE")}
    with pytest.raises(ConfigError, match="without TLS"):
        parse_settings([], environment)


def test_the_page_shows_images_and_addresses_of_the_file() -> None:
    """docs/how-to/run-with-compose.md names no image, service, variable or profile that is not there."""
    page = (ROOT / "docs/how-to/run-with-compose.md").read_text("utf-8")
    images = {service["image"] for service in SERVICES.values()}
    assert set(re.findall(r"inspect ([a-z/]+:[\w.]+)", page)) <= images
    published = {port.replace(":", " ", 1).split(":")[0].replace(" ", ":") for port in all_ports()}
    assert published == set(re.findall(r"127\.0\.0\.1:\d+", page))
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    named = set(re.findall(r"\b(?:VOLTGATE_[A-Z]+|[A-Z]+_)+(?:PORT|BIND|PASSWORD)\b", page.replace("VOLTGATE__", "")))
    assert {name for name in named if not name.startswith("MINIO_ROOT")} <= set(re.findall(r"\$\{(\w+)", text))
    assert {*PROFILES.values()} == set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))


def all_ports() -> list[str]:
    return [port for service in SERVICES.values() for port in service.get("ports", [])]


# ---- secrets ---------------------------------------------------------------------------------------------------------
def test_every_secret_comes_from_the_generated_file() -> None:
    """No variable that names a secret has a value here, and each that is missing stops Compose with what to do."""
    asked = set()
    for service in WRITTEN["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|TOKEN", name):
                found = re.fullmatch(r"\$\{(\w+):\?run make compose-env\}", value)
                assert found, name
                asked.add(found[1])
    assert set(MAKE_ENV.PASSWORDS) == asked


@pytest.mark.parametrize("name", sorted(MAKE_ENV.PASSWORDS))
def test_a_missing_secret_is_said(name: str) -> None:
    """An empty variable is no password."""
    with pytest.raises(KeyError, match="run make compose-env"):
        compose({**secrets(), name: ""})


# ---- files -----------------------------------------------------------------------------------------------------------
def private_files() -> set[str]:
    """Return what `make compose-env` makes, by the names that are mounted."""
    return {f"./{MAKE_ENV.PRIVATE}/{name}" for name in ("ca.pem", "node.pem", "node.key", "internal_users.yml")}


def test_what_is_mounted_is_there() -> None:
    """A file of the checkout or of `make compose-env`, read-only; Docker must not make a directory of a missing one."""
    used = set()
    for service in SERVICES.values():
        for mount in mounts(service):
            if mount.kind == "bind":
                assert mount.read_only
                assert mount.options == {"create_host_path": False}
                used.add(mount.source)
    assert private_files() == {source for source in used if str(MAKE_ENV.PRIVATE) in source}
    assert [] == [source for source in sorted(used - private_files()) if not (ROOT / source).exists()]


def test_volumes_are_named_and_used() -> None:
    """Data that must survive is in a named volume; none is left over."""
    used = {mount.source for service in SERVICES.values() for mount in mounts(service) if mount.kind == "volume"}
    assert used == set(STARTED["volumes"])


def mounted(service: str, target: str) -> Any:
    """Return the content of the YAML file that a service sees at `target`."""
    source = next(mount.source for mount in mounts(SERVICES[service]) if mount.target == target)
    return yaml.safe_load((ROOT / source).read_text("utf-8"))


# ---- OpenSearch and OpenSearch Dashboards ----------------------------------------------------------------------------
CONFIG = PurePosixPath("/usr/share/opensearch/config")


def test_opensearch_has_its_own_certificates_and_users() -> None:
    """What opensearch.yml names is mounted, and the demo ones are not made."""
    content = mounted("opensearch", str(CONFIG / "opensearch.yml"))
    targets = {mount.target for mount in mounts(SERVICES["opensearch"])}
    files = {value for name, value in content.items() if name.endswith("_filepath")}
    assert {"certificates/ca.pem", "certificates/node.pem", "certificates/node.key"} == files
    assert {str(CONFIG / file) for file in files} <= targets
    assert "true" == SERVICES["opensearch"]["environment"]["DISABLE_INSTALL_DEMO_CONFIG"]
    assert content["plugins.security.ssl.http.enabled"] is True
    assert "pbkdf2" == content["plugins.security.password.hashing.algorithm"]


def test_opensearch_users_have_the_roles_they_need() -> None:
    """Each user of `make compose-env` has one role, and the one of Voltgate reaches Voltgate's indices alone."""
    security = CONFIG / "opensearch-security"
    mapping = mounted("opensearch", str(security / "roles_mapping.yml"))
    users = yaml.safe_load(MAKE_ENV.users_text(secrets()))
    roles = {user: role for role, who in mapping.items() for user in who.get("users", [])}
    assert {"kibanaserver": "kibana_server", "voltgate": "voltgate_indexer"} == roles
    assert mapping["all_access"]["backend_roles"] == users["admin"]["backend_roles"]
    assert {"_meta", "admin", *roles} == set(users)
    patterns = mounted("opensearch", str(security / "roles.yml"))["voltgate_indexer"]["index_permissions"]
    assert [f"{voltgate_settings().opensearch.index_prefix}-*"] == [
        name for p in patterns for name in p["index_patterns"]
    ]
    assert not any(fnmatch(".opendistro_security", name) for p in patterns for name in p["index_patterns"])


def test_dashboards_verifies_opensearch() -> None:
    """It asks the service by a name that is in the certificate, trusts our authority, and knows its own secrets."""
    content = mounted("opensearch-dashboards", "/usr/share/opensearch-dashboards/config/opensearch_dashboards.yml")
    assert ["https://opensearch:9200"] == content["opensearch.hosts"]
    assert "DNS:opensearch," in MAKE_ENV.OPENSSL_CONFIG
    assert "full" == content["opensearch.ssl.verificationMode"]
    targets = {mount.target for mount in mounts(SERVICES["opensearch-dashboards"])}
    assert set(content["opensearch.ssl.certificateAuthorities"]) <= targets
    asked = set(re.findall(r"\$\{(\w+)\}", str(content)))
    assert asked <= set(SERVICES["opensearch-dashboards"]["environment"])
    assert content["opensearch.username"] in MAKE_ENV.OPENSEARCH_USERS


def test_saved_objects_are_imported_as_an_administrator() -> None:
    """The one-shot asks the service by its name and port, and is given script and objects."""
    service = SERVICES["saved-objects"]
    assert "http://opensearch-dashboards:5601" == service["environment"]["DASHBOARDS_URL"]
    assert service["environment"]["DASHBOARDS_USER"] in MAKE_ENV.OPENSEARCH_USERS
    targets = {mount.target for mount in mounts(service)}
    assert {service["entrypoint"][1], *service["command"]} <= targets


# ---- Prometheus and Grafana ------------------------------------------------------------------------------------------
def test_prometheus_scrapes_what_voltgate_shows() -> None:
    """Gateway and processors are scraped at their ports, and the rules are where the configuration looks."""
    settings = voltgate_settings()
    content = mounted("prometheus", "/etc/prometheus/prometheus.yml")
    targets = {
        target
        for job in content["scrape_configs"]
        for group in job["static_configs"]
        for target in group["targets"]
    }  # fmt: skip
    ports = (settings.observe.gateway_port, settings.observe.processors_port)
    assert {f"voltgate:{port}" for port in ports} <= targets
    places = {mount.target for mount in mounts(SERVICES["prometheus"])}
    for file in content["rule_files"]:
        assert str(PurePosixPath("/etc/prometheus") / file) in places


def test_grafana_finds_its_source_and_its_dashboards() -> None:
    """What is provisioned names the service and a directory that is mounted."""
    provisioning = next(m for m in mounts(SERVICES["grafana"]) if m.target == "/etc/grafana/provisioning")
    files = sorted((ROOT / provisioning.source).rglob("*.y*ml"))
    contents = [yaml.safe_load(file.read_text("utf-8")) for file in files]
    sources = [source for content in contents for source in content.get("datasources", [])]
    assert ["http://prometheus:9090"] == [source["url"] for source in sources if source["type"] == "prometheus"]
    providers = [provider for content in contents for provider in content.get("providers", [])]
    places = {mount.target: mount.source for mount in mounts(SERVICES["grafana"])}
    for provider in providers:
        assert list((ROOT / places[provider["options"]["path"]]).glob("*.json"))
    assert providers

"""Settings: layers, bounds, places of mistakes, secrets."""

from pathlib import Path

import jsonschema
import pytest

from gateway.core.errors import ConfigError
from gateway.core.settings import Settings, settings_schema
from gateway.core.settings_layers import ConfigText, is_loopback, parse_settings


def parse(text: str = "", **environ: str) -> Settings:
    return parse_settings([ConfigText("v.toml", text)], environ)


def mistake(text: str = "", **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, **environ)
    return str(caught.value)


def test_nothing_configured_gives_the_defaults() -> None:
    """An installation without a file starts, on this machine only and with authentication."""
    settings = parse()
    assert (
        settings.gateway.mqtt.host,
        settings.gateway.mqtt.port,
        settings.gateway.mqtt.allow_anonymous,
    ) == ("127.0.0.1", 1883, False)


def test_later_layers_win() -> None:
    """The command line beats the environment, that beats conf.d, that beats the file; untouched keys stay."""
    settings = parse_settings(
        [
            ConfigText(
                "v.toml", "[gateway.mqtt]\nport = 1\nhost = '127.0.0.2'\n[gateway]\ntick_s = 1\n[lake]\nurl = 'a'"
            ),
            ConfigText(
                "conf.d/10.toml", "[gateway.mqtt]\nport = 2\n[gateway]\ntick_s = 2\n[observe]\ngateway_port = 2"
            ),
        ],
        {
            "VOLTGATE__GATEWAY__MQTT__PORT": "3",
            "VOLTGATE__GATEWAY__TICK_S": "3",
            "VOLTGATE_FAILPOINT": "x",
            "PATH": "y",
        },
        overrides={"gateway.mqtt.port": 4},
    )
    found = (settings.gateway.mqtt.port, settings.gateway.tick_s, settings.observe.gateway_port, settings.lake.url)
    assert found == (4, 3.0, 2, "a")
    assert settings.gateway.mqtt.host == "127.0.0.2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[gateway.mqtt]\n\nprot = 3", "v.toml:3: unknown setting 'gateway.mqtt.prot'; did you mean 'port'?"),
        ("\n\n[gatewy]", "v.toml:3: unknown setting 'gatewy'; did you mean 'gateway'?"),
        ("dat = [\n1,\n2]\n", "v.toml:1: unknown setting 'dat'; did you mean 'data'?"),
        (
            "[gateway]\n# c\nmqtt = {port = 70000}",
            "v.toml:3: gateway.mqtt.port is 70000; it should be less than or equal to",
        ),
        ("gateway.tick_s = 0", "v.toml:1: gateway.tick_s is 0; it should be greater than 0"),
        ("[journal]\nretention_age_s = inf", "v.toml:2: journal.retention_age_s is inf; it should be"),
        ("[journal]\n[gateway\n", "v.toml:2: not TOML: "),
        ("x = ", "v.toml:1: not TOML: "),
        ("[observe]\nlog_level = 'loud'", "v.toml:2: observe.log_level is 'loud'; it should be 'debug', 'info'"),
        (
            "[[gateway.mqtt.topics]]\npattern = 'a'\n\n[[gateway.mqtt.topics]]\npatern = 'b'",
            "v.toml:5: unknown setting 'gateway.mqtt.topics[1].patern'; did you mean 'pattern'?",
        ),
        (
            "[[gateway.mqtt.topics]]\npattern = 'a'\n\n[[gateway.mqtt.topics]]\nchannel = 'b'",
            "v.toml:4: 'gateway.mqtt.topics[1].pattern' is missing; add it",
        ),
        ("[gateway]\nmqtt = 'x'", "v.toml:2: gateway.mqtt is 'x'; it should be"),
    ],
)
def test_a_mistake_names_its_line_and_the_mend(text: str, message: str) -> None:
    """The place is the statement that holds the mistake, in every way TOML can write it."""
    assert mistake(text).startswith(message)


def test_a_mistake_in_the_environment_names_the_variable() -> None:
    """Where no file is to blame, the name of the variable is the place."""
    message = mistake("[gateway.mqtt]\nport = 1", VOLTGATE__GATEWAY__MQTT__PORT="http")
    assert message.startswith(
        "VOLTGATE__GATEWAY__MQTT__PORT: gateway.mqtt.port is 'http'; it should be a valid integer"
    )


def test_a_table_over_a_scalar_does_not_hide_it() -> None:
    """A wrong type in the file is refused even when a stronger layer sets something inside."""
    assert "it should be" in mistake("[gateway]\nmqtt = 'x'", VOLTGATE__GATEWAY__MQTT__PORT="1")


def test_lists_come_from_the_environment_as_json() -> None:
    """A supervisor hands topic patterns to its child."""
    settings = parse(VOLTGATE__GATEWAY__MQTT__TOPICS='[{"pattern": "a/{device_id}", "channel": "x"}]')
    assert [(t.pattern, t.channel) for t in settings.gateway.mqtt.topics] == [("a/{device_id}", "x")]
    assert "not JSON" in mistake(VOLTGATE__GATEWAY__MQTT__TOPICS="[{")


def test_to_environ_gives_a_child_the_same_settings(tmp_path: Path) -> None:
    """Everything survives the way through the environment: paths, lists, secrets, values equal to a default."""
    settings = parse(
        f"data = '{tmp_path}'\n[gateway]\ninsecure = true\n[lake]\ns3_region = 'eu'\n"
        "[[gateway.mqtt.topics]]\npattern = 'a/{tenant}/{device_id}'\nchannel = 'b'\n",
        VOLTGATE__REGISTRY__PASSWORD="hunter2-hunter2",
    )
    assert settings == parse_settings([ConfigText("v.toml", "[gateway]\ntick_s = 1")], settings.to_environ())


def test_to_environ_may_leave_out_what_the_child_knows() -> None:
    """Only the difference is handed over, so a reload of the file still reaches everything else."""
    file, changed = parse("[gateway]\ntick_s = 1"), parse("[gateway]\ntick_s = 1\n[lake]\nurl = 's3://b'")
    assert changed.to_environ(unlike=file) == {"VOLTGATE__LAKE__URL": "s3://b"}


def test_a_secret_in_a_file_is_refused_and_not_repeated() -> None:
    """A configuration file is copied and mailed around; the message about the secret must not carry it either."""
    message = mistake("[registry]\npassword = 'hunter2'")
    assert message.startswith("v.toml:2: registry.password is a secret and may not stand here; write password_file")
    assert "hunter2" not in message


def test_a_secret_in_the_environment_is_taken_as_it_is() -> None:
    """A password that looks like JSON, or like a number, is a password."""
    for password in ('["hunter2"]', "{", "0123", "true"):
        assert parse(VOLTGATE__REGISTRY__PASSWORD=password).secrets() == [password]


def test_a_secret_comes_from_its_file_and_hides_itself() -> None:
    """`password_file` names it, the value is stripped and shows in no representation."""
    document = ConfigText("v.toml", "[registry]\npassword_file = '/run/secrets/db'")
    settings = parse_settings([document], {}, read_secret={Path("/run/secrets/db"): "hunter2\n"}.__getitem__)
    assert settings.registry.password is not None
    assert settings.registry.password.get_secret_value() == "hunter2"
    assert settings.secrets() == ["hunter2"]
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump_json()}"


def test_an_unreadable_secret_names_file_and_line() -> None:
    """The place of the mistake is the setting that names the file."""

    def read(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    with pytest.raises(ConfigError, match=r"v.toml:2: registry.password_file = '/x' cannot be read: .*denied"):
        parse_settings([ConfigText("v.toml", "[registry]\npassword_file = '/x'")], {}, read_secret=read)


@pytest.mark.parametrize(
    "text", ["[gateway.mqtt]\nhost = '0.0.0.0'", "[observe]\nhost = '10.0.0.1'", "[observe]\nhost='x'"]
)
def test_listening_beyond_this_machine_needs_insecure(text: str) -> None:
    """Without TLS every password crosses the network in clear text, so it takes a word of its own."""
    message = mistake(text)
    assert message.startswith("v.toml:2: ")
    assert "--insecure" in message
    assert "no TLS yet" in message
    open_settings = parse_settings([ConfigText("v.toml", text)], {}, overrides={"gateway.insecure": True})
    assert open_settings.gateway.insecure


OCPP_TLS = """
[gateway.ocpp]
tls_host = '0.0.0.0'
tls_port = 9443
client_ca_file = 'ca.pem'
client_crl_file = 'crl.pem'
certificate_organization = 'Fleet'
id_tokens = ['A', 'B']
[[gateway.ocpp.certificates]]
certificate_file = 'rsa.pem'
key_file = 'rsa.key'
[[gateway.ocpp.certificates]]
certificate_file = 'ecdsa.pem'
key_file = 'ecdsa.key'
"""


def test_a_tls_port_may_be_open_without_insecure() -> None:
    """Chargers reach it under TLS alone; the clear text port stays on this machine."""
    ocpp = parse(OCPP_TLS).gateway.ocpp
    assert [(c.certificate_file, c.key_file) for c in ocpp.certificates] == [
        (Path("rsa.pem"), Path("rsa.key")),
        (Path("ecdsa.pem"), Path("ecdsa.key")),
    ]
    assert (ocpp.host, ocpp.tls_host, ocpp.tls_port, ocpp.id_tokens) == ("127.0.0.1", "0.0.0.0", 9443, ("A", "B"))


def test_paths_in_lists_survive_the_environment() -> None:
    """A supervisor hands certificates and id tokens to its child."""
    settings = parse(OCPP_TLS)
    assert settings == parse_settings([], settings.to_environ())


def test_an_open_port_for_chargers_needs_insecure_or_tls() -> None:
    """The mend names the port that may be open; whether nobody needs a password is said as well."""
    text = "[gateway.ocpp]\nhost = '0.0.0.0'\nallow_unauthenticated = true"
    assert mistake(text) == (
        "v.toml:2: gateway.ocpp.host = '0.0.0.0' lets other machines connect without TLS and without a password; leave "
        "it out and open gateway.ocpp.tls_host with tls_port and certificates, or start with --insecure if the network "
        "itself is private"
    )
    assert parse(f"gateway.insecure = true\n{text}").gateway.ocpp.host == "0.0.0.0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tls_port = 0", "v.toml:2: gateway.ocpp.tls_port needs a certificate; add [[gateway.ocpp.certificates]]"),
        (
            "certificates = [{certificate_file = 'a', key_file = 'b'}]",
            "v.toml:2: gateway.ocpp.certificates is used by no listener; add gateway.ocpp.tls_port, or leave it out",
        ),
        ("client_ca_file = 'a'", "v.toml:2: gateway.ocpp.client_ca_file is used by no listener; add"),
        (
            "client_crl_file = 'a'",
            "v.toml:2: gateway.ocpp.client_crl_file revokes nobody's certificates; add client_ca",
        ),
        (
            "certificate_organization = 'a'",
            "v.toml:2: gateway.ocpp.certificate_organization is in nobody's certificate; add client_ca_file",
        ),
        (
            "certificates = [{certificate_file = 'a', key_file = 'b'}]\ntls_port = 9000",
            "v.toml:3: gateway.ocpp.tls_port is the port of clear text too; take two ports",
        ),
        ("certificates = [{certificate_file = 'a'}]", "v.toml:2: 'gateway.ocpp.certificates[0].key_file' is missing"),
        ("path = 'ocpp'", "v.toml:2: gateway.ocpp.path is 'ocpp'; it should match pattern"),
        ("path = '/ocpp/'", "v.toml:2: gateway.ocpp.path is '/ocpp/'; it should match pattern"),
        ("tls_policy = 'old'", "v.toml:2: gateway.ocpp.tls_policy is 'old'; it should be 'modern' or 'ocpp-strict'"),
        (
            "strictness = 'lax'",
            "v.toml:2: gateway.ocpp.strictness is 'lax'; it should be 'strict', 'lenient' or 'audit'",
        ),
        ("id_tokens = ['']", "v.toml:2: gateway.ocpp.id_tokens[0] is ''; it should have at least 1 character"),
        ("heartbeat_interval_s = 0", "v.toml:2: gateway.ocpp.heartbeat_interval_s is 0; it should be greater than"),
    ],
)
def test_half_of_tls_is_a_mistake(text: str, message: str) -> None:
    """A file that nothing reads, or a port that nothing secures, is not what the operator meant."""
    assert mistake(f"[gateway.ocpp]\n{text}").startswith(message)


def test_two_free_ports_are_two_ports() -> None:
    """Port 0 is another one each time."""
    chain = "certificates = [{certificate_file = 'a', key_file = 'b'}]"
    assert parse(f"[gateway.ocpp]\nport = 0\ntls_port = 0\n{chain}").gateway.ocpp.tls_port == 0


def test_nothing_is_indexed_without_an_address() -> None:
    """OpenSearch is off by default; hosts of one cluster are joined by commas, and TLS is verified."""
    hosts = "https://a.example:9200,https://b.example/search"
    off, on = parse().opensearch, parse(f"opensearch.url = '{hosts}'").opensearch
    assert ((), ("https://a.example:9200", "https://b.example/search"), True) == (off.urls, on.urls, on.verify_tls)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "url = 'http://search.example:9200'\nuser = 'fleet'\npassword_file = 'p'",
            "v.toml:2: opensearch.url sends credentials to search.example without TLS; write https://, or set",
        ),
        (
            "url = 'http://search.example'\naws_region = 'eu-central-1'",
            "v.toml:2: opensearch.url sends credentials to search.example without TLS; write https://, or set",
        ),
        (
            "url = 'http://localhost:9200'\nclient_certificate_file = 'c'",
            "v.toml:3: opensearch.client_certificate_file is shown to nobody without TLS; write https://",
        ),
        ("user = 'fleet'", "v.toml:2: opensearch.user needs a password; add opensearch.password_file"),
        ("password_file = 'p'", "v.toml:2: opensearch.password_file is nobody's password; add opensearch.user"),
        ("client_key_file = 'k'", "v.toml:2: opensearch.client_key_file is the key of no certificate"),
        (
            "user = 'a'\npassword_file = 'p'\naws_region = 'eu'",
            "v.toml:4: opensearch.aws_region signs what opensearch.user proves already; write one of the two",
        ),
        ("password = 'secret'", "v.toml:2: opensearch.password is a secret and may not stand here; write"),
        ("url = 'search.example:9200'", "v.toml:2: opensearch.url is 'search.example:9200'; it should match"),
        ("url = 'https://fleet:secret@a.example'", "v.toml:2: opensearch.url is 'https://fleet:secret@a.example'; it"),
        ("index_prefix = 'Fleet-1'", "v.toml:2: opensearch.index_prefix is 'Fleet-1'; it should match pattern"),
        ("requests_max = 17", "v.toml:2: opensearch.requests_max is 17; it should be less than or equal to 16"),
    ],
)
def test_half_of_opensearch_is_a_mistake(text: str, message: str) -> None:
    """Credentials that nobody asks for, or that others would read, are not what the operator meant."""
    assert mistake(f"[opensearch]\n{text}").startswith(message)


@pytest.mark.parametrize(
    "text",
    [
        "url = 'http://127.0.0.1:9200'\nuser = 'fleet'\npassword_file = 'p'",
        "url = 'http://search.example:9200'\nuser = 'fleet'\npassword_file = 'p'\ninsecure = true",
        "url = 'http://search.example:9200'",
        "url = 'https://search.example'\nclient_certificate_file = 'both.pem'",
    ],
    ids=["this-machine", "told-so", "no-credentials", "certificate-with-its-key"],
)
def test_whole_settings_of_opensearch_are_taken(text: str) -> None:
    """Clear text needs the loopback, the word for it, or nothing to hide."""
    assert parse(f"[opensearch]\n{text}").opensearch.urls


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("", False),
        ("::", False),
        ("192.168.0.1", False),
        ("localhost.example.org", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, expected: bool) -> None:
    """The wildcard, names and the empty host count as open."""
    assert expected is is_loopback(host)


def test_a_huge_file_is_refused_before_it_is_parsed() -> None:
    """The wrong file after --config costs a message, not a minute."""
    assert "is this the right file?" in mistake("#" * 2_000_000)


def test_the_json_schema_accepts_what_the_parser_accepts() -> None:
    """Editors complete and check against the published schema."""
    schema = settings_schema()
    jsonschema.validate({"gateway": {"mqtt": {"port": 1883}}, "data": "x"}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"gateway": {"mqtt": {"prot": 1883}}}, schema)

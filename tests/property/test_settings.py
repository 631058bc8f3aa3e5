"""Settings: every value survives the environment, every mistake is found on its line, no text crashes the parser."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import ConfigError
from gateway.core.settings import Settings
from gateway.core.settings_layers import ConfigText, parse_settings

NUMBERS = {
    "gateway.tick_s": st.floats(0.001, 1e6),
    "gateway.mqtt.port": st.integers(0, 65_535),
    "gateway.ocpp.port": st.integers(0, 65_535),
    "gateway.ocpp.ping_interval_s": st.floats(0.001, 1e6),
    "journal.commit_window_s": st.floats(0, 1),
    "journal.retention_bytes": st.integers(16 * 1024 * 1024, 2**62),
    "processors.batch_rows_max": st.integers(1, 131_072),
    "lake.raw_retention_s": st.floats(0.001, 1e12),
}
TEXTS = {
    "data": st.text(min_size=1),
    "lake.url": st.text(),
    "lake.s3_region": st.text(),
    "registry.password": st.text(),
}
TOPICS = st.lists(
    st.fixed_dictionaries({"pattern": st.text(min_size=1, max_size=50)}, optional={"channel": st.just("x y")}),
    max_size=3,
)
ID_TOKENS = st.lists(st.text(min_size=1, max_size=255), max_size=3)
CERTIFICATES = st.lists(
    st.fixed_dictionaries({"certificate_file": st.text(min_size=1), "key_file": st.text(min_size=1)}),
    min_size=1,
    max_size=2,
)
OVERRIDES = st.fixed_dictionaries(
    {}, optional={**NUMBERS, **TEXTS, "gateway.mqtt.topics": TOPICS, "gateway.ocpp.id_tokens": ID_TOKENS}
)
TLS: st.SearchStrategy[dict[str, Any]] = st.just({}) | st.fixed_dictionaries(
    {"gateway.ocpp.tls_port": st.just(0), "gateway.ocpp.certificates": CERTIFICATES},
    optional={"gateway.ocpp.client_ca_file": st.text(min_size=1)},
)


@given(OVERRIDES, TLS)
def test_settings_survive_the_environment(overrides: dict[str, Any], tls: dict[str, Any]) -> None:
    """A child process that is handed the environment has the same settings, whatever the values."""
    settings = parse_settings([], {}, overrides={**overrides, **tls})
    assert parse_settings([], settings.to_environ()) == settings


FILLERS = st.sampled_from(["", "# a comment = [", "   ", "\t# [gateway]"])
GOOD = st.sampled_from(
    [
        ["[[gateway.mqtt.topics]]", "pattern = 'a/#'", "channel = '''", "[gateway]", "'''"],
        ["[[gateway.mqtt.topics]]", 'pattern = """', "wrong = 1", '"""', "channel = 'x'"],
        ["[processors]"],
        ["[journal]", "retention_age_s = 1.5", "retention_bytes = 99_999_999"],
    ]
)
WRONG = st.sampled_from(
    [["wrong = 1"], ["wrong = [", "  1,", "", "]"], ["wrong.a.b = 'x'"], ["wrong = {a = 1}"], ['"wrong" = """', '"""']]
)


@given(
    st.lists(FILLERS, max_size=3),
    GOOD,
    st.lists(FILLERS, max_size=3),
    st.sampled_from(["lake", "observe", "registry"]),
    WRONG,
    GOOD,
)
def test_an_unknown_key_is_found_on_its_line(
    top: list[str], before: list[str], gap: list[str], section: str, wrong: list[str], after: list[str]
) -> None:
    """The line in the message is the one the key was put on, among comments, tables and values of several lines."""
    if before[0] == after[0] and not before[0].startswith("[["):
        after = []
    head = [*top, *before, *gap, f"[{section}]", *gap]
    text = "\n".join([*head, *wrong, *after])
    assert "wrong" in tomllib.loads(text)[section]
    with pytest.raises(ConfigError) as caught:
        parse_settings([ConfigText("v.toml", text)], {})
    assert (caught.value.line, caught.value.what) == (len(head) + 1, f"unknown setting '{section}.wrong'")


@given(
    st.text(max_size=200) | st.lists(st.sampled_from([*"[]{}=\"'\n.#", "gateway", "mqtt", "port", "1"])).map("".join)
)
def test_any_text_is_settings_or_a_placed_mistake(text: str) -> None:
    """No file can do anything else to the parser."""
    try:
        settings = parse_settings([ConfigText("v.toml", text)], {})
    except ConfigError as error:
        assert error.file == "v.toml"
        assert 0 <= error.line <= text.count("\n") + 1
    else:
        assert isinstance(settings, Settings)


@given(
    st.dictionaries(
        st.sampled_from(["DATA", "GATEWAY", "GATEWAY__MQTT", "GATEWAY__MQTT__PORT", "X", "", "__"]), st.text()
    )
)
def test_any_environment_is_settings_or_a_placed_mistake(values: dict[str, str]) -> None:
    """The place is one of the variables."""
    environ = {f"VOLTGATE__{name}": value for name, value in values.items()}
    try:
        settings = parse_settings([], environ)
    except ConfigError as error:
        assert error.file in environ
    else:
        assert isinstance(settings, Settings)

"""`voltgate device`: what chargers need to be told, and what is never told again."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.configuration import open_registry
from gateway.core.credentials import Credential
from gateway.core.errors import ConfigError, RegistryError
from gateway.core.settings import Settings
from voltgate.device_commands import Rules, add_device, change_device, list_devices, show_device
from voltgate.output import Exit

NO_RULES = Rules(None, None, None)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path)


def add(settings: Settings, device_id: str, *, rules: Rules = NO_RULES, **options: Any) -> None:
    given: dict[str, Any] = {"username": None, "password_file": None, "note": "", "is_charger": True, **options}
    add_device(settings, "default", device_id, rules=rules, as_json=True, **given)


def found(settings: Settings, username: str) -> Credential:
    registry = open_registry(settings)
    try:
        credential = registry.find(username)
    finally:
        registry.close()
    assert credential is not None
    return credential


def test_a_charger_is_told_its_password_in_both_spellings(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """OCPP 1.6 takes the key in hexadecimal, 2.x the text; a vehicle has one spelling."""
    add(settings, "CP-1")
    shown = json.loads(capsys.readouterr().out)
    assert bytes.fromhex(shown["authorization_key"]).decode() == shown["password"]
    assert len(shown["password"]) == 20
    add(settings, "ev-1", is_charger=False)
    assert sorted(json.loads(capsys.readouterr().out)) == ["device_id", "password", "tenant", "username"]


@pytest.mark.parametrize(("profile", "keys"), [(1, True), (3, False)])
def test_no_password_is_shown_where_there_is_none(
    settings: Settings, capsys: pytest.CaptureFixture[str], profile: int, *, keys: bool
) -> None:
    """A charger of profile 3 has its certificate."""
    add(settings, "CP-1", rules=Rules(profile, None, "SN-7"))
    assert ("password" in json.loads(capsys.readouterr().out)) is keys


@pytest.mark.parametrize(
    ("content", "hashed"),
    [(b"sixteen bytes ok\n", b"sixteen bytes ok"), (b"\n" + bytes(range(240, 255)), b"\n" + bytes(range(240, 255)))],
)
def test_a_password_file_holds_text_or_the_bytes_of_a_key(
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    hashed: bytes,
) -> None:
    """Text loses its line end; bytes that are no text lose nothing. Neither is printed."""
    monkeypatch.setattr("gateway.registry.devices.hash_password", lambda password: password.hex())
    file = tmp_path / "key"
    file.write_bytes(content)
    add(settings, "CP-1", password_file=file)
    assert sorted(json.loads(capsys.readouterr().out)) == ["device_id", "tenant", "username"]
    assert found(settings, "CP-1").password_hash == hashed.hex()


def test_a_password_file_that_is_not_there_is_named(settings: Settings, tmp_path: Path) -> None:
    """And nothing is added."""
    with pytest.raises(ConfigError, match="no-file: cannot be read: No such file or directory; give --password-file"):
        add(settings, "CP-1", password_file=tmp_path / "no-file")


def test_devices_are_listed_and_shown_with_their_rules(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """Kind and profile stand in both; what only chargers have is null for a vehicle."""
    add(settings, "CP-1", rules=Rules(2, "audit", None), note="bay 3")
    add(settings, "ev-1", is_charger=False)
    capsys.readouterr()
    list_devices(settings, as_json=True)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["device_id"], row["kind"], row["security_profile"], row["strictness"]) for row in rows] == [
        ("CP-1", "charger", 2, "audit"),
        ("ev-1", "vehicle", None, None),
    ]
    assert show_device(settings, "default", "CP-1", as_json=True) == Exit.OK
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["field"]: row["value"] for row in shown if row["stream"] == "registry"} == {
        "kind": "charger",
        "username": "CP-1",
        "state": "active",
        "security_profile": 2,
        "strictness": "audit",
        "certificate_name": "CP-1",
        "note": "bay 3",
    }


def test_a_charger_is_changed_and_keeps_its_password(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """Only what is given changes."""
    add(settings, "CP-1", rules=Rules(1, "strict", None))
    before = found(settings, "CP-1")
    assert change_device(settings, "default", "CP-1", Rules(2, None, "SN-7")) == Exit.OK
    after = found(settings, "CP-1")
    assert (after.security_profile, after.strictness, after.certificate_name) == (2, "strict", "SN-7")
    assert after.password_hash == before.password_hash
    assert "charger CP-1 is changed" in capsys.readouterr().err


def test_a_change_of_nothing_or_of_nobody_says_so(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """Each has its own exit code."""
    assert change_device(settings, "default", "CP-9", NO_RULES) == Exit.USAGE
    assert change_device(settings, "default", "CP-9", Rules(2, None, None)) == Exit.NOT_FOUND
    talk = capsys.readouterr().err
    assert "nothing to change; give --security-profile" in talk
    assert "there is no device 'CP-9'" in talk


def test_rules_of_a_charger_do_not_fit_a_vehicle(settings: Settings) -> None:
    """A forgotten --charger is not silently dropped."""
    with pytest.raises(RegistryError, match="are for chargers; add it with --charger"):
        add(settings, "CP-1", is_charger=False, rules=Rules(2, None, None))

"""The device registry: what is kept, what is refused, how changes are told."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.credentials import Credential, DeviceKind
from gateway.core.errors import RegistryError
from gateway.registry import devices
from gateway.registry.devices import Registry

KEY: dict[str, Any] = {"tenant": "default", "device_id": "ev-1"}
CHARGER: dict[str, Any] = {"tenant": "default", "device_id": "cp-1", "kind": DeviceKind.CHARGER}


@pytest.fixture(autouse=True)
def quick_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashing is not what these tests are about."""
    monkeypatch.setattr(devices, "hash_password", lambda password: f"hash of {password!r}")
    monkeypatch.setattr(devices, "hash_random_password", lambda password: f"quick hash of {password.decode()}")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    it = Registry(tmp_path / "new" / "registry.sqlite")
    yield it
    it.close()


def test_an_added_device_is_found_by_its_username(registry: Registry) -> None:
    """The password comes back once, long and random; only its hash is kept."""
    added = registry.add(**KEY, now_ns=7, note="depot north")
    found = registry.find("ev-1")
    assert found is not None
    assert (found.tenant, found.device_id, found.revoked_at_ns) == ("default", "ev-1", None)
    assert found.password_hash == f"quick hash of {added.password}"
    assert len(added.password) == 32
    assert [(d.device_id, d.created_at_ns, d.note) for d in registry.ls()] == [("ev-1", 7, "depot north")]
    assert registry.find("ev-2") is None


def test_random_password_is_no_option_of_a_command_line(registry, monkeypatch):
    """`tool --password -x` says that an argument is missing."""
    made = iter(["-one", "two"])
    monkeypatch.setattr(devices.secrets, "token_urlsafe", lambda _size: next(made))
    assert "two" == registry.add(**KEY, now_ns=1).password


def test_a_revoked_device_stays_known_and_may_be_added_again(registry: Registry) -> None:
    """Revoking twice changes nothing, adding again gives new credentials."""
    registry.add(**KEY, now_ns=1, password="first password")
    assert [registry.revoke(**KEY, now_ns=5), registry.revoke(**KEY, now_ns=6)] == [True, True]
    assert registry.revoke(tenant="default", device_id="ev-9", now_ns=5) is False
    assert [d.revoked_at_ns for d in registry.ls()] == [5]
    assert registry.is_active(**KEY) is False
    registry.add(**KEY, now_ns=9, password="second password")
    found = registry.find("ev-1")
    assert found is not None
    assert (found.password_hash, found.revoked_at_ns) == ("hash of b'second password'", None)
    assert [d.created_at_ns for d in registry.ls()] == [9]
    assert registry.is_active(**KEY) is True


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"device_id": "ev-1"}, "device 'ev-1' of tenant 'default' exists; revoke it first"),
        ({"device_id": "ev-2", "username": "ev-1"}, "username 'ev-1' belongs to device 'ev-1' of tenant 'default'"),
        ({"device_id": "ev-1", "tenant": "other"}, "username 'ev-1' belongs to device 'ev-1' of tenant 'default'"),
        ({"device_id": "a/b"}, "device id 'a/b' contains '/'"),
        ({"device_id": "ev-2", "tenant": "#"}, "tenant '#' contains '#'"),
        ({"device_id": "ev-2", "username": ""}, "username '' is empty"),
        ({"device_id": "ev-2", "password": "short"}, "the password has 5 bytes, it must have 8 to 1024"),
        ({"device_id": "ev-2", "password": "x" * 1025}, "the password has 1025 bytes"),
        ({"device_id": "ev-2", "note": "x" * 501}, "the note has 501 characters, limit is 500"),
    ],
)
def test_a_wrong_addition_says_why_and_changes_nothing(registry: Registry, wrong: dict[str, Any], message: str) -> None:
    """The error tells what stands against it, and the change counter shows that nothing happened."""
    registry.add(**KEY, now_ns=1)
    with pytest.raises(RegistryError) as refused:
        registry.add(**{"tenant": "default", "now_ns": 2, **wrong})
    assert str(refused.value).startswith(message)
    assert (registry.last_change(), len(registry.ls())) == (1, 1)


def test_the_same_device_id_may_exist_in_two_tenants(registry: Registry) -> None:
    """Usernames are unique in the registry, device ids in their tenant."""
    registry.add(**KEY, now_ns=1)
    registry.add(tenant="other", device_id="ev-1", username="other-ev-1", now_ns=1)
    assert [(d.tenant, d.username) for d in registry.ls()] == [("default", "ev-1"), ("other", "other-ev-1")]
    assert [d.username for d in registry.ls(tenant="other")] == ["other-ev-1"]


def test_changes_are_told_once_and_in_order(registry: Registry) -> None:
    """A poller that keeps the last number sees each device that changed since, in its newest state."""
    registry.add(**KEY, now_ns=1)
    seen, changed = registry.changed_since(0)
    assert ([c.device_id for c in changed], registry.changed_since(seen)) == (["ev-1"], (seen, []))
    registry.add(tenant="default", device_id="ev-2", now_ns=2)
    registry.revoke(**KEY, now_ns=3)
    seen, changed = registry.changed_since(seen)
    assert [(c.device_id, c.revoked_at_ns) for c in changed] == [("ev-2", None), ("ev-1", 3)]
    assert seen == registry.last_change()


def test_another_process_sees_the_change(registry: Registry, tmp_path: Path) -> None:
    """Two registries on one file: the gateway reads what the command line wrote."""
    other = Registry(tmp_path / "new" / "registry.sqlite")
    other.add(**KEY, now_ns=1)
    assert [c.device_id for c in registry.changed_since(0)[1]] == ["ev-1"]
    other.close()


def test_the_file_is_for_its_owner_and_survives_a_power_loss(registry: Registry, tmp_path: Path) -> None:
    """Password hashes are nobody else's business; a confirmed revocation is synced, readers do not block writers."""
    path = tmp_path / "new" / "registry.sqlite"
    assert path.stat().st_mode & 0o777 == 0o600
    with registry._transaction() as connection:
        pragmas = [connection.exec_driver_sql(f"pragma {name}").scalar() for name in ("journal_mode", "synchronous")]
    assert pragmas == ["wal", 2]


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """An older program must not write into tables that it does not know."""
    path = tmp_path / "registry.sqlite"
    Registry(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("update registry_state set schema_version = 3")
    connection.close()
    with pytest.raises(RegistryError, match="has schema version 3, this program knows 2; use the Voltgate release"):
        Registry(path)


def not_a_directory(path: Path) -> Path:
    path.write_text("")
    return path / "registry.sqlite"


def not_a_database(path: Path) -> Path:
    path.write_bytes(b"x" * 5000)
    return path


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (not_a_directory, "cannot be opened"),
        (not_a_database, "file is not a database"),
        (lambda _: "oracle9i://x", "registry.url is not usable"),
        (lambda _: "no url", "registry.url is not usable"),
    ],
)
def test_an_unusable_place_is_one_clear_error(tmp_path: Path, url: Callable[[Path], Path | str], message: str) -> None:
    """Whatever the driver raises, the caller sees a RegistryError with the place."""
    with pytest.raises(RegistryError, match=message):
        Registry(url(tmp_path / "x"))


def test_the_password_of_the_database_is_in_no_message() -> None:
    """Neither the one in the URL nor the one beside it."""
    with pytest.raises(RegistryError) as refused:
        Registry("sqlite://user:hunter2@host/x", password="hunter3")
    assert "hunter" not in str(refused.value)


def known(registry: Registry, username: str = "cp-1") -> Credential:
    found = registry.find(username)
    assert found is not None
    return found


def test_a_vehicle_has_no_rules_of_chargers(registry: Registry) -> None:
    """What is not said is a vehicle."""
    registry.add(**KEY, now_ns=1)
    found = known(registry, "ev-1")
    assert (found.kind, found.security_profile, found.strictness, found.certificate_name) == (
        DeviceKind.VEHICLE,
        None,
        None,
        None,
    )


def test_a_charger_gets_a_password_that_suits_every_version(registry: Registry) -> None:
    """An AuthorizationKey of 1.6 has 16 to 20 bytes, a password of 2.x 16 to 40 characters."""
    added = registry.add(**CHARGER, now_ns=1)
    assert len(added.password.encode()) == 20
    assert all(c.isascii() and (c.isalnum() or c in "-_") for c in added.password)
    found = known(registry)
    assert (found.kind, found.security_profile, found.password_hash) == (
        DeviceKind.CHARGER,
        1,
        f"quick hash of {added.password}",
    )


def test_a_chargers_rules_are_kept_and_shown(registry: Registry) -> None:
    """The gateway and the operator see the same."""
    registry.add(**CHARGER, now_ns=1, security_profile=2, strictness="audit", certificate_name="SN 7")
    (device,) = registry.ls()
    for seen in (known(registry), registry.changed_since(0)[1][0], device):
        assert (seen.kind, seen.security_profile, seen.strictness, seen.certificate_name) == (
            DeviceKind.CHARGER,
            2,
            "audit",
            "SN 7",
        )


@pytest.mark.parametrize("security_profile", [0, 3])
def test_a_charger_that_proves_itself_otherwise_has_no_password(registry: Registry, security_profile: int) -> None:
    """Nobody has to keep a secret that nothing asks for."""
    added = registry.add(**CHARGER, now_ns=1, security_profile=security_profile)
    assert (added.password, known(registry).password_hash) == ("", "")


def test_the_bytes_of_an_authorization_key_need_not_be_text(registry: Registry) -> None:
    """OCPP 1.6 lets a key be any 16 to 20 bytes."""
    key = bytes(range(240, 256))
    registry.add(**CHARGER, now_ns=1, password=key.decode("utf-8", "surrogateescape"))
    assert known(registry).password_hash == f"hash of {key!r}"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"password": "x" * 15}, "the password has 15 bytes, it must have 16 to 40; leave it out"),
        ({"password": "x" * 41}, "the password has 41 bytes, it must have 16 to 40; leave it out"),
        ({"password": "x" * 20, "security_profile": 3}, "a charger of security profile 3 has no password; leave it"),
        ({"security_profile": 4}, "security profile 4 does not exist; OCPP has 0 to 3"),
        ({"security_profile": -1}, "security profile -1 does not exist"),
        ({"strictness": "lax"}, "strictness 'lax' does not exist; write one of strict, lenient, audit"),
        ({"certificate_name": ""}, "certificate name '' is not usable; write the CN"),
        ({"certificate_name": "a\nb"}, "certificate name 'a\\nb' is not usable"),
        ({"certificate_name": "x" * 129}, "certificate name"),
        ({"kind": DeviceKind.VEHICLE, "security_profile": 1}, "security profile, strictness and certificate name are"),
    ],
)
def test_a_wrong_charger_says_why(registry: Registry, wrong: dict[str, Any], message: str) -> None:
    """Nothing is added."""
    with pytest.raises(RegistryError) as refused:
        registry.add(**{**CHARGER, "now_ns": 1, **wrong})
    assert str(refused.value).startswith(message)
    assert registry.ls() == []


def test_a_changed_charger_keeps_its_password_and_what_is_not_said(registry: Registry) -> None:
    """The gateway hears of it, because the charger must come back under the new rules."""
    registry.add(**CHARGER, now_ns=1, security_profile=1, strictness="strict")
    before, seen = known(registry), registry.last_change()
    assert registry.change_charger(tenant="default", device_id="cp-1", security_profile=2, certificate_name="SN 7")
    after = known(registry)
    assert (after.security_profile, after.strictness, after.certificate_name) == (2, "strict", "SN 7")
    assert after.password_hash == before.password_hash
    assert registry.changed_since(seen)[1] == [after]


@pytest.mark.parametrize(
    ("device_id", "security_profile", "message"),
    [
        ("ev-1", 2, "device 'ev-1' of tenant 'default' is a vehicle, not a charger"),
        ("cp-3", 2, "device 'cp-3' has no password, which security profile 2 needs; revoke it and add it again"),
        ("cp-3", 9, "security profile 9 does not exist"),
    ],
)
def test_a_change_that_cannot_be_says_why(
    registry: Registry, device_id: str, security_profile: int, message: str
) -> None:
    """And changes nothing."""
    registry.add(**KEY, now_ns=1)
    registry.add(**{**CHARGER, "device_id": "cp-3"}, now_ns=1, security_profile=3)
    before = registry.ls()
    with pytest.raises(RegistryError) as refused:
        registry.change_charger(tenant="default", device_id=device_id, security_profile=security_profile)
    assert str(refused.value).startswith(message)
    assert registry.ls() == before


def test_nobody_cannot_be_changed(registry: Registry) -> None:
    """A name that does not exist is an answer, not an error."""
    assert registry.change_charger(tenant="default", device_id="cp-9", strictness="audit") is False


def test_a_security_profile_is_raised_and_never_lowered_by_a_connection(registry: Registry) -> None:
    """It is no change that would end the connection which raised it."""
    registry.add(**CHARGER, now_ns=1, security_profile=1)
    change = registry.last_change()
    profiles = []
    for profile in (2, 1, 3, 2):
        registry.raise_security_profile("default", "cp-1", profile)
        profiles.append(known(registry).security_profile)
    assert profiles == [2, 2, 3, 3]
    assert registry.last_change() == change


def test_a_row_that_somebody_wrote_by_hand_is_one_clear_error(registry: Registry, tmp_path: Path) -> None:
    """A word that this program does not know must not become a default."""
    registry.add(**CHARGER, now_ns=1)
    with sqlite3.connect(tmp_path / "new" / "registry.sqlite") as connection:
        connection.execute("update devices set strictness = 'lax'")
    connection.close()
    with pytest.raises(RegistryError, match=r"holds a device that this program cannot read: .*lax"):
        registry.find("cp-1")

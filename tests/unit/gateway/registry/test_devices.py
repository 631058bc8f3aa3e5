"""The device registry: what is kept, what is refused, how changes are told."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import RegistryError
from gateway.registry import devices
from gateway.registry.devices import Registry
from gateway.registry.passwords import decoy_hash, hash_password, verify_password

KEY = {"tenant": "default", "device_id": "ev-1"}


@pytest.fixture(autouse=True)
def quick_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashing is not what these tests are about; the one that is calls it by name."""
    monkeypatch.setattr(devices, "hash_password", lambda password: f"hash of {password.decode()}")


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
    assert found.password_hash == f"hash of {added.password}"
    assert len(added.password) == 32
    assert [(d.device_id, d.created_at_ns, d.note) for d in registry.ls()] == [("ev-1", 7, "depot north")]
    assert registry.find("ev-2") is None


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
    assert (found.password_hash, found.revoked_at_ns) == ("hash of second password", None)
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
        connection.execute("update registry_state set schema_version = 2")
    connection.close()
    with pytest.raises(RegistryError, match="has schema version 2, this program knows 1; use the Voltgate release"):
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


def test_a_hash_is_argon2id_with_its_own_salt_and_verifies_its_password_alone() -> None:
    """The only test that pays for real hashes."""
    first, second = hash_password(b"right"), hash_password(b"right")
    assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert first != second
    outcomes = [
        verify_password(first, b"right"),
        verify_password(first, b"wrong"),
        verify_password("no hash", b"right"),
    ]
    assert outcomes == [True, False, False]
    assert decoy_hash() == decoy_hash()

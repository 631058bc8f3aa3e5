"""Older registries: what version 1 wrote is there after this program opened it."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateColumn

from gateway.core.credentials import Credential, DeviceKind
from gateway.core.ids import DeviceId, TenantId
from gateway.registry.devices import Device, Registry
from gateway.registry.schema import DEVICES, MIGRATIONS, SCHEMA_VERSION

VERSION_1 = """
CREATE TABLE registry_state (
\tid INTEGER NOT NULL,
\tschema_version INTEGER NOT NULL,
\tchange BIGINT NOT NULL,
\tPRIMARY KEY (id)
);
CREATE TABLE devices (
\ttenant VARCHAR(128) NOT NULL,
\tdevice_id VARCHAR(128) NOT NULL,
\tusername VARCHAR(128) NOT NULL,
\tpassword_hash VARCHAR(200) NOT NULL,
\tcreated_at_ns BIGINT NOT NULL,
\trevoked_at_ns BIGINT,
\tnote VARCHAR(500) NOT NULL,
\tchange BIGINT NOT NULL,
\tPRIMARY KEY (tenant, device_id),
\tUNIQUE (username)
);
CREATE INDEX ix_devices_change ON devices (change);
INSERT INTO registry_state VALUES (1, 1, 2);
INSERT INTO devices VALUES ('default', 'ev-1', 'ev-1', 'a hash', 5, NULL, 'depot', 1);
INSERT INTO devices VALUES ('default', 'ev-2', 'two', 'b hash', 6, 7, '', 2);
"""
"""What version 1 made, statement by statement as it is in its database files."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "registry.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(VERSION_1)
    connection.close()
    return path


@pytest.fixture
def registry(path: Path) -> Iterator[Registry]:
    it = Registry(path)
    yield it
    it.close()


def test_devices_of_version_1_are_vehicles_with_all_that_they_had(registry: Registry) -> None:
    """Nobody has to be added again, and changes go on being numbered."""
    assert registry.find("two") == Credential(
        tenant=TenantId("default"),
        device_id=DeviceId("ev-2"),
        username="two",
        password_hash="b hash",
        revoked_at_ns=7,
    )
    assert registry.ls()[0] == Device(
        tenant=TenantId("default"),
        device_id=DeviceId("ev-1"),
        username="ev-1",
        created_at_ns=5,
        revoked_at_ns=None,
        note="depot",
        kind=DeviceKind.VEHICLE,
        security_profile=None,
        strictness=None,
        certificate_name=None,
    )
    registry.add(tenant="default", device_id="cp-1", kind=DeviceKind.CHARGER, now_ns=9)
    assert registry.last_change() == 3


def structure(path: Path) -> list[tuple[object, ...]]:
    with sqlite3.connect(path) as connection:
        rows = [
            (name, kind.lower(), *rest) for _, name, kind, *rest in connection.execute("pragma table_info(devices)")
        ]
        version = connection.execute("select schema_version from registry_state").fetchall()
    connection.close()
    return [*rows, *version]


def test_a_migrated_database_is_like_a_new_one(registry: Registry, path: Path, tmp_path: Path) -> None:
    """Same columns with the same types, defaults and nulls in the same order, and the same version."""
    new = tmp_path / "new.sqlite"
    Registry(new).close()
    assert structure(path) == structure(new)
    assert structure(path)[-1] == (SCHEMA_VERSION,)


def test_opening_again_changes_nothing(registry: Registry, path: Path) -> None:
    """A migration happens once."""
    before = structure(path)
    Registry(path).close()
    assert structure(path) == before


def test_a_migration_that_fails_leaves_version_1(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it or nothing: a half-migrated table would be no version at all."""
    before = structure(path)
    monkeypatch.setitem(MIGRATIONS, 1, (*MIGRATIONS[1], "alter table nowhere add column x integer"))
    with pytest.raises(Exception, match="nowhere"):
        Registry(path)
    assert structure(path) == before


def test_the_statements_make_what_postgresql_would_have_made() -> None:
    """Each added column is written as SQLAlchemy writes it for PostgreSQL, so both ways lead to the same table."""
    added = {name: DEVICES.c[name] for name in ("kind", "security_profile", "strictness", "certificate_name")}
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    expected = [
        f"alter table devices add column {CreateColumn(column).compile(dialect=dialect)}".lower()
        for column in added.values()
    ]
    assert sorted(words(text) for text in expected) == sorted(words(text) for text in MIGRATIONS[1])


def words(statement: str) -> list[str]:
    """Return a column's words in any order: `default` and `not null` may change places."""
    return sorted(statement.split())

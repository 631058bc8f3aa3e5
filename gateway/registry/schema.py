"""The registry's tables, how an older version of them becomes this one, and how a database is reached."""

from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    create_engine,
    event,
    insert,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from gateway.core.credentials import DeviceKind
from gateway.core.errors import RegistryError
from gateway.core.limits import IDENTITY_BYTES_MAX, NOTE_CHARS_MAX

SCHEMA_VERSION: Final = 2
BUSY_TIMEOUT_S: Final = 5.0
"""How long a call waits for another process's write; a command line holds the lock for milliseconds."""
WORD_CHARS_MAX: Final = 16
"""Length of the columns that hold one of a few words."""

METADATA: Final = MetaData()
STATE: Final = Table(
    "registry_state",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("schema_version", Integer, nullable=False),
    Column("change", BigInteger, nullable=False),
)
DEVICES: Final = Table(
    "devices",
    METADATA,
    Column("tenant", String(IDENTITY_BYTES_MAX), nullable=False),
    Column("device_id", String(IDENTITY_BYTES_MAX), nullable=False),
    Column("username", String(IDENTITY_BYTES_MAX), nullable=False, unique=True),
    Column("password_hash", String(200), nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
    Column("revoked_at_ns", BigInteger),
    Column("note", String(NOTE_CHARS_MAX), nullable=False),
    Column("change", BigInteger, nullable=False, index=True),
    Column("kind", String(WORD_CHARS_MAX), nullable=False, server_default=DeviceKind.VEHICLE),
    Column("security_profile", Integer),
    Column("strictness", String(WORD_CHARS_MAX)),
    Column("certificate_name", String(IDENTITY_BYTES_MAX)),
    PrimaryKeyConstraint("tenant", "device_id"),
)
MIGRATIONS: Final = {
    1: (
        f"alter table devices add column kind varchar({WORD_CHARS_MAX}) not null default '{DeviceKind.VEHICLE}'",
        "alter table devices add column security_profile integer",
        f"alter table devices add column strictness varchar({WORD_CHARS_MAX})",
        f"alter table devices add column certificate_name varchar({IDENTITY_BYTES_MAX})",
    ),
}
"""Version -> the statements that make the next one of it, in SQL that SQLite and PostgreSQL share."""


def prepare(connection: Connection, *, place: str) -> None:
    """Make the tables where there are none, and bring older ones to this version, in the transaction of `connection`.

    Raises: RegistryError: The tables are of a newer version than this program.
    """
    if connection.engine.dialect.name == "sqlite":
        connection.exec_driver_sql("begin immediate")  # so that two processes starting at once do not both create
    METADATA.create_all(connection)
    version = connection.execute(select(STATE.c.schema_version).with_for_update()).scalar_one_or_none()
    if version is None:
        connection.execute(insert(STATE).values(id=1, schema_version=SCHEMA_VERSION, change=0))
        return
    if version > SCHEMA_VERSION:
        what = f"registry {place} has schema version {version}, this program knows {SCHEMA_VERSION}"
        raise RegistryError(f"{what}; use the Voltgate release that wrote it")
    for older in range(version, SCHEMA_VERSION):
        for statement in MIGRATIONS[older]:
            connection.exec_driver_sql(statement)
    if version < SCHEMA_VERSION:
        connection.execute(update(STATE).values(schema_version=SCHEMA_VERSION))


def make_engine(url: str | Path, password: str | None) -> Engine:
    """Return the engine of a database; a path is a SQLite file, made for its owner alone when it is missing.

    Raises: RegistryError: The URL is none, its driver is missing, or the file cannot be made.
    """
    if isinstance(url, Path):
        try:
            url.parent.mkdir(parents=True, exist_ok=True)
            url.touch(mode=0o600)
        except OSError as exc:
            raise RegistryError(f"registry {url} cannot be opened: {exc}") from exc
        url = f"sqlite:///{url}"
    try:
        parsed = make_url(url)
        if password is not None:
            parsed = parsed.set(password=password)
        sqlite = parsed.get_backend_name() == "sqlite"
        engine = create_engine(
            parsed,
            hide_parameters=True,  # a password hash in an error message is a password hash in a log
            pool_pre_ping=not sqlite,
            pool_timeout=BUSY_TIMEOUT_S,
            connect_args={"timeout": BUSY_TIMEOUT_S} if sqlite else {"connect_timeout": int(BUSY_TIMEOUT_S)},
        )
    except (ArgumentError, NoSuchModuleError) as exc:
        raise RegistryError(
            f"registry.url is not usable: {exc}; write postgresql+psycopg://user@host/database"
        ) from exc
    except ImportError as exc:
        raise RegistryError(f"registry.url needs a driver: {exc}; install voltgate[postgres]") from exc
    if sqlite:
        event.listen(engine, "connect", _configure_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: object) -> None:
    # WAL: the gateway reads while a command line writes. FULL: a revocation that was confirmed survives a power loss.
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")

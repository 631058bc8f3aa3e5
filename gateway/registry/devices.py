"""The device registry: who may connect, in SQLite beside the journal or in PostgreSQL by URL.

Owns the tables and their version. Every call blocks for a query, so the event loop makes them in a thread. Each change
gets the next number of one counter, so that a gateway learns of revocations by asking for what came after the last
number it saw.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Select,
    String,
    Table,
    create_engine,
    event,
    insert,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from gateway.core.credentials import Credential, identity_problem
from gateway.core.errors import RegistryError
from gateway.core.ids import DeviceId, TenantId
from gateway.core.limits import IDENTITY_BYTES_MAX, NOTE_CHARS_MAX, PASSWORD_BYTES_MAX, PASSWORD_BYTES_MIN
from gateway.registry.passwords import hash_password

SCHEMA_VERSION: Final = 1
BUSY_TIMEOUT_S: Final = 5.0
"""How long a call waits for another process's write; a command line holds the lock for milliseconds."""

_METADATA = MetaData()
_STATE = Table(
    "registry_state",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("schema_version", Integer, nullable=False),
    Column("change", BigInteger, nullable=False),
)
_DEVICES = Table(
    "devices",
    _METADATA,
    Column("tenant", String(IDENTITY_BYTES_MAX), nullable=False),
    Column("device_id", String(IDENTITY_BYTES_MAX), nullable=False),
    Column("username", String(IDENTITY_BYTES_MAX), nullable=False, unique=True),
    Column("password_hash", String(200), nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
    Column("revoked_at_ns", BigInteger),
    Column("note", String(NOTE_CHARS_MAX), nullable=False),
    Column("change", BigInteger, nullable=False, index=True),
    PrimaryKeyConstraint("tenant", "device_id"),
)
_CREDENTIAL = (
    _DEVICES.c.tenant,
    _DEVICES.c.device_id,
    _DEVICES.c.username,
    _DEVICES.c.password_hash,
    _DEVICES.c.revoked_at_ns,
)


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """What people see of a device; nothing secret is in it.

    Attributes:
        tenant: Owner of the device.
        device_id: Unique within the tenant.
        username: What it sends in CONNECT.
        created_at_ns: When its present password was set, UTC nanoseconds.
        revoked_at_ns: When it lost its right to connect, or None.
        note: Free text of the operator.
    """

    tenant: TenantId
    device_id: DeviceId
    username: str
    created_at_ns: int
    revoked_at_ns: int | None
    note: str


class AddedDevice(msgspec.Struct, frozen=True, kw_only=True):
    """Credentials of a device just added; the only time the password is seen."""

    tenant: TenantId
    device_id: DeviceId
    username: str
    password: str


class Registry:
    """Devices in one database. Thread-safe; every method blocks and raises `RegistryError` when the database fails.

    Args:
        url: SQLAlchemy URL, or a path of a SQLite file, which is made with its tables when it is missing.
        password: Database password that is not in the URL.
    """

    def __init__(self, url: str | Path, *, password: str | None = None) -> None:
        self._engine = _engine(url, password)
        self._place = self._engine.url.render_as_string(hide_password=True)
        with self._transaction() as connection:
            if self._engine.dialect.name == "sqlite":
                connection.exec_driver_sql(
                    "begin immediate"
                )  # so that two processes starting at once do not both create
            _METADATA.create_all(connection)
            version = connection.execute(select(_STATE.c.schema_version)).scalar_one_or_none()
            if version is None:
                connection.execute(insert(_STATE).values(id=1, schema_version=SCHEMA_VERSION, change=0))
        if version not in (None, SCHEMA_VERSION):
            what = f"registry {self._place} has schema version {version}, this program knows {SCHEMA_VERSION}"
            raise RegistryError(f"{what}; use the Voltgate release that wrote it")

    def add(
        self,
        *,
        tenant: str,
        device_id: str,
        now_ns: int,
        username: str | None = None,
        password: str | None = None,
        note: str = "",
    ) -> AddedDevice:
        """Let a device connect and return its credentials; a revoked device gets new ones.

        Args:
            tenant: Owner of the device.
            device_id: Unique within the tenant; the level of its topics.
            now_ns: The time, UTC nanoseconds.
            username: What it will send in CONNECT; the device id when left out.
            password: At least 8 bytes; a random one of 32 characters when left out, which is the better choice.
            note: Free text.

        Raises:
            RegistryError: An id or the password is not usable, or the device or its username exists.
        """
        username = device_id if username is None else username
        password = secrets.token_urlsafe(24) if password is None else password
        for name, text in (("tenant", tenant), ("device id", device_id), ("username", username)):
            if problem := identity_problem(text):
                raise RegistryError(f"{name} {text[:IDENTITY_BYTES_MAX]!r} {problem}")
        if not PASSWORD_BYTES_MIN <= len(password.encode()) <= PASSWORD_BYTES_MAX:
            what = f"the password has {len(password.encode())} bytes"
            raise RegistryError(
                f"{what}, it must have {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX}; leave it out for a random one"
            )
        if len(note) > NOTE_CHARS_MAX:
            raise RegistryError(f"the note has {len(note)} characters, limit is {NOTE_CHARS_MAX}")
        key = {"tenant": tenant, "device_id": device_id}
        row = {
            "username": username,
            "password_hash": hash_password(password.encode()),
            "created_at_ns": now_ns,
            "revoked_at_ns": None,
            "note": note,
        }
        with self._transaction() as connection:
            row["change"] = _next_change(connection)
            there = connection.execute(_select_key(tenant, device_id)).first()
            if there is not None and there.revoked_at_ns is None:
                raise RegistryError(
                    f"device {device_id!r} of tenant {tenant!r} exists; revoke it first to give it a new password"
                )
            namesake = connection.execute(select(_DEVICES).where(_DEVICES.c.username == username)).first()
            if namesake is not None and (namesake.tenant, namesake.device_id) != (tenant, device_id):
                whose = f"device {namesake.device_id!r} of tenant {namesake.tenant!r}"
                raise RegistryError(f"username {username!r} belongs to {whose}; give this one another username")
            connection.execute(
                insert(_DEVICES).values(**key, **row) if there is None else _update_key(tenant, device_id).values(**row)
            )
        return AddedDevice(tenant=TenantId(tenant), device_id=DeviceId(device_id), username=username, password=password)

    def revoke(self, *, tenant: str, device_id: str, now_ns: int) -> bool:
        """Take the right to connect from a device; return False when there is no such device. Safe to repeat."""
        with self._transaction() as connection:
            change = _next_change(connection)
            there = connection.execute(_select_key(tenant, device_id)).first()
            if there is not None and there.revoked_at_ns is None:
                connection.execute(_update_key(tenant, device_id).values(revoked_at_ns=now_ns, change=change))
        return there is not None

    def ls(self, *, tenant: str | None = None) -> list[Device]:
        """Return the devices of one tenant or of all, by tenant and device id."""
        columns = [_DEVICES.c[name] for name in Device.__struct_fields__]
        query = select(*columns).order_by(_DEVICES.c.tenant, _DEVICES.c.device_id)
        if tenant is not None:
            query = query.where(_DEVICES.c.tenant == tenant)
        with self._transaction() as connection:
            return [Device(**row) for row in connection.execute(query).mappings()]

    def find(self, username: str) -> Credential | None:
        """Return who connects under a username, revoked or not; None when nobody does."""
        with self._transaction() as connection:
            query = select(*_CREDENTIAL).where(_DEVICES.c.username == username)
            row = connection.execute(query).mappings().first()
        return None if row is None else Credential(**row)

    def is_active(self, *, tenant: str, device_id: str) -> bool:
        """Return whether the device is registered and not revoked."""
        with self._transaction() as connection:
            there = connection.execute(_select_key(tenant, device_id)).first()
        return there is not None and there.revoked_at_ns is None

    def changed_since(self, change: int) -> tuple[int, list[Credential]]:
        """Return the number of the last change, and the devices that changed after the given one.

        Start from `changed_since(latest)` with a number from an earlier call; 0 gives every device ever changed.
        """
        with self._transaction() as connection:
            latest: int = connection.execute(select(_STATE.c.change)).scalar_one()
            if latest == change:
                return change, []
            query = select(*_CREDENTIAL).where(_DEVICES.c.change > change).order_by(_DEVICES.c.change)
            return latest, [Credential(**row) for row in connection.execute(query).mappings()]

    def last_change(self) -> int:
        """Return the number of the last change, to begin polling from."""
        with self._transaction() as connection:
            latest: int = connection.execute(select(_STATE.c.change)).scalar_one()
            return latest

    def close(self) -> None:
        """Give back all connections; the registry is not usable afterwards."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as exc:
            cause = exc.orig if isinstance(exc, DBAPIError) else exc
            raise RegistryError(f"registry {self._place} does not answer: {cause}") from exc


def _engine(url: str | Path, password: str | None) -> Engine:
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


def _next_change(connection: Connection) -> int:
    """Return the number of this transaction's change; first in it: the row lock makes numbers follow commits."""
    connection.execute(update(_STATE).values(change=_STATE.c.change + 1))
    change: int = connection.execute(select(_STATE.c.change)).scalar_one()
    return change


def _select_key(tenant: str, device_id: str) -> Select[Any]:
    return select(_DEVICES).where(_DEVICES.c.tenant == tenant, _DEVICES.c.device_id == device_id)


def _update_key(tenant: str, device_id: str) -> Any:
    return update(_DEVICES).where(_DEVICES.c.tenant == tenant, _DEVICES.c.device_id == device_id)

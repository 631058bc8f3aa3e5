"""The device registry: who may connect, in SQLite beside the journal or in PostgreSQL by URL.

Every call blocks for a query, so the event loop makes them in a thread. Each change
gets the next number of one counter, so that a gateway learns of revocations by asking for what came after the last
number it saw.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

import msgspec
from sqlalchemy import Connection, Select, Update, bindparam, insert, select, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gateway.core.credentials import Credential, DeviceKind, StrictnessName, identity_problem
from gateway.core.errors import RegistryError
from gateway.core.ids import DeviceId, TenantId
from gateway.core.limits import (
    CHARGER_PASSWORD_BYTES_MAX,
    CHARGER_PASSWORD_BYTES_MIN,
    IDENTITY_BYTES_MAX,
    NOTE_CHARS_MAX,
    PASSWORD_BYTES_MAX,
    PASSWORD_BYTES_MIN,
)
from gateway.registry.passwords import hash_password, hash_random_password
from gateway.registry.schema import DEVICES, STATE, make_engine, prepare

Record = TypeVar("Record", bound=msgspec.Struct)
PROFILES_WITH_PASSWORD: Final = (1, 2)
PROFILE_DEFAULT: Final = 1
PROFILE_MAX: Final = 3
_CREDENTIAL: Final = select(*(DEVICES.c[name] for name in Credential.__struct_fields__))
_BY_USERNAME: Final = _CREDENTIAL.where(DEVICES.c.username == bindparam("username"))


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """What people see of a device; nothing secret is in it.

    Attributes:
        tenant: Owner of the device.
        device_id: Unique within the tenant.
        username: What a vehicle sends in CONNECT, a charger in its URL and as its user name.
        created_at_ns: When its present password was set, UTC nanoseconds.
        revoked_at_ns: When it lost its right to connect, or None.
        note: Free text of the operator.
        kind: Vehicle or charger.
        security_profile: The lowest OCPP security profile that a charger may connect with; None for a vehicle.
        strictness: A charger's own strictness, or None for the default of the settings.
        certificate_name: Common name of a charger's certificate, or None for its username.
    """

    tenant: TenantId
    device_id: DeviceId
    username: str
    created_at_ns: int
    revoked_at_ns: int | None
    note: str
    kind: DeviceKind
    security_profile: int | None
    strictness: StrictnessName | None
    certificate_name: str | None


class AddedDevice(msgspec.Struct, frozen=True, kw_only=True):
    """Credentials of a device just added; the only time the password is seen.

    Attributes:
        tenant: Owner of the device.
        device_id: Unique within the tenant.
        username: What it identifies itself with.
        password: What it proves that with; empty for a charger whose security profile knows none.
    """

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
        self._engine = make_engine(url, password)
        self._place = self._engine.url.render_as_string(hide_password=True)
        with self._transaction() as connection:
            prepare(connection, place=self._place)

    def add(
        self,
        *,
        tenant: str,
        device_id: str,
        now_ns: int,
        username: str | None = None,
        password: str | None = None,
        note: str = "",
        kind: DeviceKind = DeviceKind.VEHICLE,
        security_profile: int | None = None,
        strictness: str | None = None,
        certificate_name: str | None = None,
    ) -> AddedDevice:
        """Let a device connect and return its credentials; a revoked device gets new ones.

        Args:
            tenant: Owner of the device.
            device_id: Unique within the tenant; the level of its topics.
            now_ns: The time, UTC nanoseconds.
            username: What it will send in CONNECT, or a charger in its URL; the device id when left out.
            password: At least 8 bytes, of a charger 16 to 40; bytes that are not UTF-8 as `surrogateescape` has them.
                A random one when left out, which is the better choice: 32 characters, of a charger 20, which is an
                AuthorizationKey of OCPP 1.6 and a password of 2.x alike. None of a charger of profile 0 or 3.
            note: Free text.
            kind: Vehicle or charger; the arguments that follow are for chargers alone.
            security_profile: The lowest OCPP security profile it may connect with, 0 to 3; 1 when left out.
            strictness: Its own strictness, else the default of the settings.
            certificate_name: Common name of its certificate, often the serial number; else its username.

        Raises:
            RegistryError: An id or the password is not usable, or the device or its username exists.
        """
        username = device_id if username is None else username
        for name, text in (("tenant", tenant), ("device id", device_id), ("username", username)):
            if problem := identity_problem(text):
                raise RegistryError(f"{name} {text[:IDENTITY_BYTES_MAX]!r} {problem}")
        if len(note) > NOTE_CHARS_MAX:
            raise RegistryError(f"the note has {len(note)} characters, limit is {NOTE_CHARS_MAX}")
        if kind == DeviceKind.CHARGER and security_profile is None:
            security_profile = PROFILE_DEFAULT
        _refuse_wrong_charger(kind, security_profile, strictness, certificate_name)
        password, password_hash = _password_and_hash(kind, security_profile, password)
        row: dict[str, Any] = {
            "username": username,
            "password_hash": password_hash,
            "created_at_ns": now_ns,
            "revoked_at_ns": None,
            "note": note,
            "kind": str(kind),
            "security_profile": security_profile,
            "strictness": strictness,
            "certificate_name": certificate_name,
        }
        with self._transaction() as connection:
            row["change"] = _next_change(connection)
            there = connection.execute(_select_key(tenant, device_id)).first()
            if there is not None and there.revoked_at_ns is None:
                raise RegistryError(
                    f"device {device_id!r} of tenant {tenant!r} exists; revoke it first to give it a new password"
                )
            namesake = connection.execute(select(DEVICES).where(DEVICES.c.username == username)).first()
            if namesake is not None and (namesake.tenant, namesake.device_id) != (tenant, device_id):
                whose = f"device {namesake.device_id!r} of tenant {namesake.tenant!r}"
                raise RegistryError(f"username {username!r} belongs to {whose}; give this one another username")
            connection.execute(
                insert(DEVICES).values(tenant=tenant, device_id=device_id, **row)
                if there is None
                else _update_key(tenant, device_id).values(**row)
            )
        return AddedDevice(tenant=TenantId(tenant), device_id=DeviceId(device_id), username=username, password=password)

    def change_charger(
        self,
        *,
        tenant: str,
        device_id: str,
        security_profile: int | None = None,
        strictness: str | None = None,
        certificate_name: str | None = None,
    ) -> bool:
        """Change what is known of a charger and keep its password; return False when there is no such device.

        What is left out stays as it is. A live connection ends when the gateway next looks, so that the charger comes
        back under the new rules.

        Raises:
            RegistryError: It is no charger, or has no password for the profile.
        """
        given = {
            "security_profile": security_profile,
            "strictness": strictness,
            "certificate_name": certificate_name,
        }
        with self._transaction() as connection:
            change = _next_change(connection)
            there = connection.execute(_select_key(tenant, device_id)).first()
            if there is None:
                return False
            if there.kind != DeviceKind.CHARGER:
                raise RegistryError(f"device {device_id!r} of tenant {tenant!r} is a {there.kind}, not a charger")
            _refuse_wrong_charger(DeviceKind.CHARGER, security_profile, strictness, certificate_name)
            if security_profile in PROFILES_WITH_PASSWORD and not there.password_hash:
                what = f"device {device_id!r} has no password, which security profile {security_profile} needs"
                raise RegistryError(f"{what}; revoke it and add it again")
            changed = {name: value for name, value in given.items() if value is not None}
            connection.execute(_update_key(tenant, device_id).values(**changed, change=change))
        return True

    def raise_security_profile(self, tenant: str, device_id: str, security_profile: int) -> None:
        """Remember that a charger connected with a higher security profile: it may not go back to a lower one.

        OCPP 2.0.1 use case A05. No change that `changed_since` tells, because it must not end the very connection.
        """
        with self._transaction() as connection:
            is_lower = DEVICES.c.security_profile < security_profile
            connection.execute(_update_key(tenant, device_id).where(is_lower).values(security_profile=security_profile))

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
        columns = [DEVICES.c[name] for name in Device.__struct_fields__]
        query = select(*columns).order_by(DEVICES.c.tenant, DEVICES.c.device_id)
        if tenant is not None:
            query = query.where(DEVICES.c.tenant == tenant)
        with self._transaction() as connection:
            return [_record(Device, row) for row in connection.execute(query)]

    def find(self, username: str) -> Credential | None:
        """Return who connects under a username, revoked or not; None when nobody does."""
        with self._transaction() as connection:
            row = connection.execute(_BY_USERNAME, {"username": username}).first()
            return None if row is None else _record(Credential, row)

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
            latest: int = connection.execute(select(STATE.c.change)).scalar_one()
            if latest == change:
                return change, []
            query = _CREDENTIAL.where(DEVICES.c.change > change).order_by(DEVICES.c.change)
            return latest, [_record(Credential, row) for row in connection.execute(query)]

    def last_change(self) -> int:
        """Return the number of the last change, to begin polling from."""
        with self._transaction() as connection:
            latest: int = connection.execute(select(STATE.c.change)).scalar_one()
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
        except msgspec.ValidationError as exc:
            what = f"registry {self._place} holds a device that this program cannot read: {exc}"
            raise RegistryError(f"{what}; somebody wrote it by hand") from exc


def _refuse_wrong_charger(
    kind: DeviceKind, security_profile: int | None, strictness: str | None, certificate_name: str | None
) -> None:
    if kind != DeviceKind.CHARGER and (security_profile, strictness, certificate_name) != (None, None, None):
        raise RegistryError("security profile, strictness and certificate name are for chargers; add it with --charger")
    if security_profile is not None and not 0 <= security_profile <= PROFILE_MAX:
        raise RegistryError(f"security profile {security_profile} does not exist; OCPP has 0 to {PROFILE_MAX}")
    if strictness is not None and strictness not in get_args(StrictnessName):
        words = ", ".join(get_args(StrictnessName))
        raise RegistryError(f"strictness {strictness[:IDENTITY_BYTES_MAX]!r} does not exist; write one of {words}")
    if certificate_name is not None:
        size_bytes = len(certificate_name.encode("utf-8", "surrogatepass"))
        if not 1 <= size_bytes <= IDENTITY_BYTES_MAX or not certificate_name.isprintable():
            what = f"certificate name {certificate_name[:IDENTITY_BYTES_MAX]!r} is not usable"
            raise RegistryError(f"{what}; write the CN of the certificate, 1 to {IDENTITY_BYTES_MAX} printable bytes")


def _password_and_hash(kind: DeviceKind, security_profile: int | None, given: str | None) -> tuple[str, str]:
    """Return the password and its hash, both empty for a charger whose profile knows no password."""
    if kind == DeviceKind.CHARGER and security_profile not in PROFILES_WITH_PASSWORD:
        if given is not None:
            what = f"a charger of security profile {security_profile} has no password"
            raise RegistryError(f"{what}; leave it out, or take profile 1 or 2")
        return "", ""
    if given is None:
        made = _random_password(15 if kind == DeviceKind.CHARGER else 24)
        return made, hash_random_password(made.encode())
    raw = given.encode("utf-8", "surrogateescape")
    least, most = PASSWORD_BYTES_MIN, PASSWORD_BYTES_MAX
    if kind == DeviceKind.CHARGER:
        least, most = CHARGER_PASSWORD_BYTES_MIN, CHARGER_PASSWORD_BYTES_MAX
    if not least <= len(raw) <= most:
        what = f"the password has {len(raw)} bytes, it must have {least} to {most}"
        raise RegistryError(f"{what}; leave it out for a random one")
    return given, hash_password(raw)


def _random_password(size_bytes: int) -> str:
    """Return a password that a command line does not take for an option."""
    while (made := secrets.token_urlsafe(size_bytes)).startswith("-"):
        pass
    return made


def _record(kind: type[Record], row: Sequence[Any]) -> Record:
    """Return a row as the struct whose fields were selected. Raises: msgspec.ValidationError: A value cannot be."""
    return msgspec.convert(dict(zip(kind.__struct_fields__, row, strict=True)), kind)


def _next_change(connection: Connection) -> int:
    """Return the number of this transaction's change; first in it: the row lock makes numbers follow commits."""
    connection.execute(update(STATE).values(change=STATE.c.change + 1))
    change: int = connection.execute(select(STATE.c.change)).scalar_one()
    return change


def _select_key(tenant: str, device_id: str) -> Select[Any]:
    return select(DEVICES).where(DEVICES.c.tenant == tenant, DEVICES.c.device_id == device_id)


def _update_key(tenant: str, device_id: str) -> Update:
    return update(DEVICES).where(DEVICES.c.tenant == tenant, DEVICES.c.device_id == device_id)

"""Decide who a peer is, and keep guessing slow: for the peer, not for us.

An argon2id verification takes 30 ms of a core, so it runs in a few threads behind a bounded queue, and what it proved
is remembered for some minutes under a keyed hash of the password. Failures are limited per address and, much tighter,
per username from one address: a device with an old password behind a fleet's address translator locks out itself alone.
"""

import asyncio
import hmac
from collections import OrderedDict
from collections.abc import Callable, Hashable, Set
from concurrent.futures import Executor
from enum import IntEnum
from ipaddress import ip_address
from typing import Final

import msgspec

from gateway.core.credentials import Credential, identity_problem
from gateway.core.errors import IdentityRefused, RegistryError
from gateway.core.ids import DeviceId, TenantId
from gateway.core.limits import (
    ADDRESS_FAILURE_REFILL_S,
    ADDRESS_FAILURES_BURST,
    FAILURE_BUCKETS_MAX,
    LOGIN_FAILURE_REFILL_S,
    LOGIN_FAILURES_BURST,
    PASSWORD_BYTES_MAX,
    VERIFIED_MAX,
    VERIFIED_TTL_S,
    VERIFY_QUEUE_MAX,
)
from gateway.core.ports import Counter
from gateway.core.text import peer_text


class RefusalCode(IntEnum):
    """Reason codes of a CONNACK that refuses, MQTT 5.0 section 3.2.2.2."""

    CLIENT_ID_NOT_VALID = 0x85
    BAD_USER_NAME_OR_PASSWORD = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    CONNECTION_RATE_EXCEEDED = 0x9F


REASONS: Final = (
    "client_id",
    "no_credentials",
    "unknown_device",
    "wrong_password",
    "revoked",
    "rate_limited",
    "busy",
    "registry_unavailable",
)
"""Every reason an admission is refused for, as it is counted."""
_NOT_THE_PEERS_FAULT: Final = frozenset({"busy", "registry_unavailable"})


class Identity(msgspec.Struct, frozen=True):
    """Who a connection speaks for; its topics must say the same."""

    tenant: TenantId
    device_id: DeviceId


class FailureBuckets:
    """Token buckets, one per key, that failures empty; a full bucket takes no memory.

    Args:
        burst: Tokens of a full bucket.
        refill_s: Seconds until one token comes back.
        buckets_max: Keys remembered; past that the one that failed longest ago is forgotten.
    """

    def __init__(self, *, burst: int, refill_s: float, buckets_max: int = FAILURE_BUCKETS_MAX) -> None:
        self._burst, self._refill_s, self._buckets_max = burst, refill_s, buckets_max
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def allows(self, key: Hashable, *, now_s: float) -> bool:
        """Return whether the key may try now."""
        return self._tokens(key, now_s) >= 1

    def charge(self, key: Hashable, *, now_s: float) -> None:
        """Take a token for a failure; tries that were under way together may leave a debt."""
        tokens = self._tokens(key, now_s) - 1
        self._buckets.pop(key, None)
        self._buckets[key] = (tokens, now_s)
        if len(self._buckets) > self._buckets_max:
            self._buckets.popitem(last=False)

    def _tokens(self, key: Hashable, now_s: float) -> float:
        tokens, at_s = self._buckets.get(key, (float(self._burst), now_s))
        return min(float(self._burst), tokens + max(0.0, now_s - at_s) / self._refill_s)


class Admission:
    """Authenticates peers. All calls on the event loop; `find` and `verify` run in the executor.

    Args:
        find: Returns the credential of a username; blocks; may raise `RegistryError`.
        verify: Returns whether a hash was made from a password; blocks.
        decoy_hash: Verified for unknown usernames, so that they cannot be told from known ones by time.
        cache_key: Random key of this process, under which passwords are remembered.
        executor: Where `find` and `verify` run; its threads bound the cores that guessing can cost.
        now_s: Monotonic seconds.
        count: Counts refusals by reason.
        allow_anonymous: Whether a peer without a username is taken for the device that its client id names.
        tenant_default: Tenant of anonymous peers.
    """

    def __init__(
        self,
        *,
        find: Callable[[str], Credential | None],
        verify: Callable[[str, bytes], bool],
        decoy_hash: str,
        cache_key: bytes,
        executor: Executor,
        now_s: Callable[[], float],
        count: Counter,
        allow_anonymous: bool = False,
        tenant_default: str = "default",
    ) -> None:
        self._find, self._verify, self._decoy_hash = find, verify, decoy_hash
        self._cache_key, self._executor, self._now_s, self._count = cache_key, executor, now_s, count
        self.allow_anonymous = allow_anonymous
        self._tenant_default = TenantId(tenant_default)
        self._verified: OrderedDict[str, tuple[bytes, Identity, float]] = OrderedDict()
        self._by_address = FailureBuckets(burst=ADDRESS_FAILURES_BURST, refill_s=ADDRESS_FAILURE_REFILL_S)
        self._by_login = FailureBuckets(burst=LOGIN_FAILURES_BURST, refill_s=LOGIN_FAILURE_REFILL_S)
        self._waiting = 0
        self._changes = 0

    async def authenticate(
        self, *, client_id: str, username: str | None, password: bytes | None, address: str
    ) -> Identity:
        """Return who the peer is.

        Args:
            client_id: From CONNECT; the device id of an anonymous peer, else not looked at.
            username: From CONNECT, None when absent.
            password: From CONNECT, None when absent.
            address: IP address of the peer, without a port.

        Raises:
            IdentityRefused: With a reason of `REASONS` and the code of the CONNACK; already counted.
        """
        try:
            if username is None:
                return self._anonymous(client_id)
            return await self._known(username, password, address)
        except IdentityRefused as refusal:
            self._count(refusal.reason)
            raise

    def forget(self, changed: Set[Identity]) -> None:
        """Drop what is remembered of devices that were changed or revoked, also of one being verified right now."""
        if not changed:
            return
        for username in [name for name, (_, identity, _) in self._verified.items() if identity in changed]:
            del self._verified[username]
        self._changes += 1

    @property
    def waiting(self) -> int:
        """Logins that are being verified or wait for it."""
        return self._waiting

    @property
    def remembered(self) -> int:
        """Verified logins that need no verification for a while."""
        return len(self._verified)

    def _anonymous(self, client_id: str) -> Identity:
        if not self.allow_anonymous:
            detail = "no username; add the device with `voltgate device add` and send its username and password"
            raise IdentityRefused("no_credentials", detail, RefusalCode.BAD_USER_NAME_OR_PASSWORD)
        if problem := identity_problem(client_id):
            detail = f"client id {peer_text(client_id)!r} {problem}"
            raise IdentityRefused("client_id", detail, RefusalCode.CLIENT_ID_NOT_VALID)
        return Identity(self._tenant_default, DeviceId(client_id))

    async def _known(self, username: str, password: bytes | None, address: str) -> Identity:
        shown = peer_text(username)
        if password is None:
            detail = f"{shown!r} sent no password"
            raise IdentityRefused("no_credentials", detail, RefusalCode.BAD_USER_NAME_OR_PASSWORD)
        proof = hmac.digest(self._cache_key, username.encode() + b"\0" + password, "sha256")
        if (identity := self._remembered_identity(username, proof)) is not None:
            return identity
        limits = ((self._by_login, (network := _network(address), username)), (self._by_address, network))
        for buckets, key in limits:
            if not buckets.allows(key, now_s=self._now_s()):
                detail = (
                    f"too many failed logins of {shown!r} or others at {network}; mend the password, then wait a minute"
                )
                raise IdentityRefused("rate_limited", detail, RefusalCode.CONNECTION_RATE_EXCEEDED)
        guessed = True  # also when the peer leaves before the answer
        try:
            identity = await self._verified_identity(username, password, shown)
            guessed = False
        except IdentityRefused as refusal:
            guessed = refusal.reason not in _NOT_THE_PEERS_FAULT
            raise
        finally:
            if guessed:
                for buckets, key in limits:
                    buckets.charge(key, now_s=self._now_s())
        self._verified[username] = (proof, identity, self._now_s() + VERIFIED_TTL_S)
        if len(self._verified) > VERIFIED_MAX:
            self._verified.popitem(last=False)
        return identity

    def _remembered_identity(self, username: str, proof: bytes) -> Identity | None:
        if (verified := self._verified.get(username)) is None:
            return None
        known_proof, identity, until_s = verified
        if self._now_s() >= until_s:
            del self._verified[username]
            return None
        return identity if hmac.compare_digest(known_proof, proof) else None

    async def _verified_identity(self, username: str, password: bytes, shown: str) -> Identity:
        """Return the identity once a verification ended that no change of the registry overtook."""
        if self._waiting >= VERIFY_QUEUE_MAX:
            detail = f"{self._waiting} logins wait for a verification; try again in some seconds"
            raise IdentityRefused("busy", detail, RefusalCode.SERVER_BUSY)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            changes = -1
            while changes != self._changes:
                changes, credential, matches = await loop.run_in_executor(
                    self._executor, self._check, username, password
                )
        except RegistryError as exc:
            raise IdentityRefused("registry_unavailable", str(exc), RefusalCode.SERVER_UNAVAILABLE) from exc
        finally:
            self._waiting -= 1
        if credential is None:
            detail = f"nobody has the username {shown!r}"
            raise IdentityRefused("unknown_device", detail, RefusalCode.BAD_USER_NAME_OR_PASSWORD)
        if not matches:
            detail = f"wrong password of {shown!r}"
            raise IdentityRefused("wrong_password", detail, RefusalCode.BAD_USER_NAME_OR_PASSWORD)
        if credential.revoked_at_ns is not None:
            raise IdentityRefused("revoked", f"{shown!r} is revoked", RefusalCode.NOT_AUTHORIZED)
        return Identity(credential.tenant, credential.device_id)

    def _check(self, username: str, password: bytes) -> tuple[int, Credential | None, bool]:
        """Return the credential and whether the password is its own, after one verification whatever the username.

        The first value is the number of changes seen before the registry was asked; waiting for a thread is not part of
        the time in which a change makes the answer outdated, or a busy queue would never get shorter.
        """
        changes = self._changes
        credential = None if identity_problem(username) else self._find(username)
        password_hash = self._decoy_hash if credential is None else credential.password_hash
        matches = self._verify(password_hash, password[: PASSWORD_BYTES_MAX + 1])
        return changes, credential, matches and credential is not None


def _network(address: str) -> str:
    """Return what one owner surely holds: an IPv4 address, or the /64 of an IPv6 one, which has 2^64 to choose from."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(ip_address(int(parsed) >> 64 << 64)) + "/64" if parsed.ipv4_mapped is None else str(parsed.ipv4_mapped)

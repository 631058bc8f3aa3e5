"""Decide who a peer is, and keep guessing slow: for the peer, not for us.

An argon2id verification takes up to 30 ms of a core, so it runs in a few threads behind a bounded queue, and what it
proved is remembered for some minutes under a keyed hash of the proof. Failures are limited per address and, much
tighter, per username from one address: a device with an old password behind a fleet's address translator locks out
itself alone. `Logins` does that for every protocol, `Admission` speaks MQTT.
"""

import asyncio
import hmac
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Set
from concurrent.futures import Executor
from enum import IntEnum
from functools import partial
from ipaddress import ip_address
from typing import ClassVar, Final, Generic, NamedTuple, NotRequired, Protocol, TypedDict, TypeVar, Unpack

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


_REFUSALS: Final = {
    "client_id": RefusalCode.CLIENT_ID_NOT_VALID,
    "no_credentials": RefusalCode.BAD_USER_NAME_OR_PASSWORD,
    "unknown_device": RefusalCode.BAD_USER_NAME_OR_PASSWORD,
    "wrong_password": RefusalCode.BAD_USER_NAME_OR_PASSWORD,
    "revoked": RefusalCode.NOT_AUTHORIZED,
    "rate_limited": RefusalCode.CONNECTION_RATE_EXCEEDED,
    "busy": RefusalCode.SERVER_BUSY,
    "registry_unavailable": RefusalCode.SERVER_UNAVAILABLE,
}
REASONS: Final = tuple(_REFUSALS)
"""Every reason an admission is refused for, as it is counted."""
_NOT_THE_PEERS_FAULT: Final = frozenset({"busy", "registry_unavailable"})


class Refusal(NamedTuple):
    """Why a peer is not who it says: a reason as it is counted, and the detail for our log alone."""

    reason: str
    detail: str


class Identity(msgspec.Struct, frozen=True):
    """Who a connection speaks for; its topics must say the same."""

    tenant: TenantId
    device_id: DeviceId


class Known(Protocol):
    """What a login is remembered as; it says whose it is, so that a change of the device can end it."""

    @property
    def tenant(self) -> TenantId:
        """Owner of the device."""
        ...

    @property
    def device_id(self) -> DeviceId:
        """The device."""
        ...


KnownT = TypeVar("KnownT", bound=Known)


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


class LoginsArguments(TypedDict):
    """Arguments of `Logins`, which every admission takes besides its own."""

    find: Callable[[str], Credential | None]
    verify: Callable[[str, bytes], bool]
    decoy_hash: str
    cache_key: bytes
    executor: Executor
    now_s: Callable[[], float]
    count: Counter
    waiting_max: NotRequired[int]


class Logins(Generic[KnownT]):
    """Proves and remembers logins. All calls on the event loop; `find` and proofs run in the executor.

    Args:
        find: Returns the credential of a username; blocks; may raise `RegistryError`.
        verify: Returns whether a hash was made from a password; blocks.
        decoy_hash: Verified for unknown usernames, so that they cannot be told from known ones by time.
        cache_key: Random key of this process, under which proofs are remembered.
        executor: Where `find` and `verify` run; its threads bound the cores that guessing can cost.
        now_s: Monotonic seconds.
        count: Counts refusals by reason.
        waiting_max: Logins that may wait for the executor; the next one is refused as `busy`.
    """

    REFUSALS: ClassVar[Mapping[str, int]]
    """Reason -> the protocol's code."""

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
        waiting_max: int = VERIFY_QUEUE_MAX,
    ) -> None:
        self._find, self._verify, self._decoy_hash = find, verify, decoy_hash
        self._cache_key, self._executor, self._now_s, self._count = cache_key, executor, now_s, count
        self._verified: OrderedDict[str, tuple[bytes, KnownT, float]] = OrderedDict()
        self._by_address = FailureBuckets(burst=ADDRESS_FAILURES_BURST, refill_s=ADDRESS_FAILURE_REFILL_S)
        self._by_login = FailureBuckets(burst=LOGIN_FAILURES_BURST, refill_s=LOGIN_FAILURE_REFILL_S)
        self._waiting, self._waiting_max = 0, waiting_max
        self._changes = 0

    def forget(self, changed: Set["Identity"]) -> None:
        """Drop what is remembered of devices that were changed or revoked, also of one being verified right now."""
        if not changed:
            return
        for username in [
            name for name, (_, known, _) in self._verified.items() if Identity(known.tenant, known.device_id) in changed
        ]:
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

    def refused(self, reason: str, detail: str) -> IdentityRefused:
        """Return the refusal with the protocol's code."""
        return IdentityRefused(reason, detail, self.REFUSALS[reason])

    async def login(
        self, username: str, secret: bytes, address: str, prove: Callable[[Credential | None], KnownT | Refusal]
    ) -> KnownT:
        """Return what `prove` makes of the username's credential, or what it made of the same secret before.

        Args:
            username: Whose credential it is.
            secret: All that `prove` goes by besides the credential; what it proves is remembered under its keyed hash.
            address: IP address of the peer, without a port.
            prove: Called in the executor with the credential, None when nobody has the username; for unknown ones it
                must take as long as for known ones.

        Raises:
            IdentityRefused: With a reason of `REFUSALS`.
        """
        proof = hmac.digest(self._cache_key, username.encode() + b"\0" + secret, "sha256")
        if (known := self._remembered_login(username, proof)) is not None:
            return known
        limits = ((self._by_login, (network := _network(address), username)), (self._by_address, network))
        for buckets, key in limits:
            if not buckets.allows(key, now_s=self._now_s()):
                detail = (
                    f"too many failed logins of {peer_text(username)!r} or others at {network}; "
                    "mend the password, then wait a minute"
                )
                raise self.refused("rate_limited", detail)
        guessed = True  # also when the peer leaves before the answer
        try:
            known = await self._proven(username, prove)
            guessed = False
        except IdentityRefused as refusal:
            guessed = refusal.reason not in _NOT_THE_PEERS_FAULT
            raise
        finally:
            if guessed:
                for buckets, key in limits:
                    buckets.charge(key, now_s=self._now_s())
        self._verified[username] = (proof, known, self._now_s() + VERIFIED_TTL_S)
        if len(self._verified) > VERIFIED_MAX:
            self._verified.popitem(last=False)
        return known

    def has_password(self, credential: Credential | None, password: bytes) -> bool:
        """Return whether the password is the credential's own, after one verification also where there is none."""
        password_hash = self._decoy_hash if credential is None else credential.password_hash
        return self._verify(password_hash, password[: PASSWORD_BYTES_MAX + 1]) and credential is not None

    def _remembered_login(self, username: str, proof: bytes) -> KnownT | None:
        if (verified := self._verified.get(username)) is None:
            return None
        known_proof, known, until_s = verified
        if self._now_s() >= until_s:
            del self._verified[username]
            return None
        return known if hmac.compare_digest(known_proof, proof) else None

    async def _proven(self, username: str, prove: Callable[[Credential | None], KnownT | Refusal]) -> KnownT:
        """Return who the peer is once a proof ended that no change of the registry overtook."""
        if self._waiting >= self._waiting_max:
            detail = f"{self._waiting} logins wait for a verification; try again in some seconds"
            raise self.refused("busy", detail)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            changes = -1
            while changes != self._changes:
                changes, outcome = await loop.run_in_executor(self._executor, self._look_up, username, prove)
        except RegistryError as exc:
            raise self.refused("registry_unavailable", str(exc)) from exc
        finally:
            self._waiting -= 1
        if isinstance(outcome, Refusal):
            raise self.refused(*outcome)
        return outcome

    def _look_up(
        self, username: str, prove: Callable[[Credential | None], KnownT | Refusal]
    ) -> tuple[int, KnownT | Refusal]:
        """Return what the proof came to, after the number of changes seen before the registry was asked.

        Waiting for a thread is not part of the time in which a change makes the answer outdated, or a busy queue would
        never get shorter.
        """
        changes = self._changes
        return changes, prove(None if identity_problem(username) else self._find(username))


class Admission(Logins[Identity]):
    """Authenticates MQTT peers.

    Args:
        allow_anonymous: Whether a peer without a username is taken for the device that its client id names.
        tenant_default: Tenant of anonymous peers.
        logins: See `Logins`.
    """

    REFUSALS = _REFUSALS

    def __init__(
        self, *, allow_anonymous: bool = False, tenant_default: str = "default", **logins: Unpack[LoginsArguments]
    ) -> None:
        super().__init__(**logins)
        self.allow_anonymous = allow_anonymous
        self._tenant_default = TenantId(tenant_default)

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
            if password is None:
                raise self.refused("no_credentials", f"{peer_text(username)!r} sent no password")
            return await self.login(username, password, address, partial(self._prove, username, password))
        except IdentityRefused as refusal:
            self._count(refusal.reason)
            raise

    def _anonymous(self, client_id: str) -> Identity:
        if not self.allow_anonymous:
            detail = "no username; add the device with `voltgate device add` and send its username and password"
            raise self.refused("no_credentials", detail)
        if problem := identity_problem(client_id):
            raise self.refused("client_id", f"client id {peer_text(client_id)!r} {problem}")
        return Identity(self._tenant_default, DeviceId(client_id))

    def _prove(self, username: str, password: bytes, credential: Credential | None) -> Identity | Refusal:
        matches = self.has_password(credential, password)
        if credential is None:
            return Refusal("unknown_device", f"nobody has the username {peer_text(username)!r}")
        if not matches:
            return Refusal("wrong_password", f"wrong password of {peer_text(username)!r}")
        if credential.revoked_at_ns is not None:
            return Refusal("revoked", f"{peer_text(username)!r} is revoked")
        return Identity(credential.tenant, credential.device_id)


def _network(address: str) -> str:
    """Return what one owner surely holds: an IPv4 address, or the /64 of an IPv6 one, which has 2^64 to choose from."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(ip_address(int(parsed) >> 64 << 64)) + "/64" if parsed.ipv4_mapped is None else str(parsed.ipv4_mapped)

"""Admission: who gets in, what guessing costs, what is remembered."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from gateway.core.credentials import Credential
from gateway.core.errors import IdentityRefused, RegistryError
from gateway.core.ids import DeviceId, TenantId
from gateway.core.limits import ADDRESS_FAILURES_BURST, LOGIN_FAILURES_BURST, VERIFIED_TTL_S, VERIFY_QUEUE_MAX
from gateway.edge import admission as admission_module
from gateway.edge.admission import REASONS, Admission, FailureBuckets, Identity, _network
from gateway.observe.metrics import EventCounter

EV = Identity(TenantId("default"), DeviceId("ev-1"))


class InlineExecutor(Executor):
    """Runs work when it is submitted, or when `release` is called."""

    def __init__(self) -> None:
        self.held: list[tuple[Callable[..., Any], tuple[Any, ...], Future[Any]]] | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if self.held is not None:
            self.held.append((fn, args, future))
        else:
            self._run(fn, args, future)
        return future

    def release(self) -> None:
        held, self.held = self.held or [], None
        for fn, args, future in held:
            self._run(fn, args, future)

    def _run(self, fn: Callable[..., Any], args: tuple[Any, ...], future: Future[Any]) -> None:
        try:
            future.set_result(fn(*args))
        except RegistryError as exc:
            future.set_exception(exc)


class Door:
    """An admission over a registry of dictionaries and a clock that stands still."""

    def __init__(self, *, allow_anonymous: bool = False) -> None:
        self.now_s = 1000.0
        self.verifications: list[tuple[str, bytes]] = []
        self.credentials = {"ev-1": credential("ev-1", "right")}
        self.registry_error: RegistryError | None = None
        self.refused = EventCounter()
        self.executor = InlineExecutor()
        self.admission = Admission(
            find=self.find,
            verify=self.verify,
            decoy_hash="decoy",
            cache_key=b"k" * 32,
            executor=self.executor,
            now_s=lambda: self.now_s,
            count=self.refused,
            allow_anonymous=allow_anonymous,
        )

    def find(self, username: str) -> Credential | None:
        if self.registry_error is not None:
            raise self.registry_error
        return self.credentials.get(username)

    def verify(self, password_hash: str, password: bytes) -> bool:
        self.verifications.append((password_hash, password))
        return password_hash == password.decode()

    async def enter(
        self,
        username: str | None = "ev-1",
        password: bytes | None = b"right",
        *,
        address: str = "10.0.0.1",
        client: str = "c",
    ) -> Identity | str:
        """Return the identity, or the reason of the refusal."""
        try:
            return await self.admission.authenticate(
                client_id=client, username=username, password=password, address=address
            )
        except IdentityRefused as refusal:
            assert refusal.reason in REASONS
            assert 0x80 < refusal.reason_code < 0xA0
            return refusal.reason


def credential(username: str, password: str, *, revoked_at_ns: int | None = None) -> Credential:
    return Credential(
        tenant=TenantId("default"),
        device_id=DeviceId(username),
        username=username,
        password_hash=password,
        revoked_at_ns=revoked_at_ns,
    )


def test_the_right_password_gives_the_registered_identity() -> None:
    """The identity comes from the registry, whatever the client id says."""
    assert asyncio.run(Door().enter(client="somebody-else")) == EV


@pytest.mark.parametrize(
    ("username", "password", "reason"),
    [
        ("ev-1", b"wrong", "wrong_password"),
        ("ev-2", b"right", "unknown_device"),
        ("ev-2", b"decoy", "unknown_device"),
        ("a/b\0" * 1000, b"x", "unknown_device"),
        ("ev-1", None, "no_credentials"),
        (None, None, "no_credentials"),
    ],
)
def test_everybody_else_is_refused_and_counted(username: str | None, password: bytes | None, reason: str) -> None:
    """Each cause has its own counter, and knowing the decoy does not help."""
    door = Door()
    assert reason == asyncio.run(door.enter(username, password))
    assert {reason: 1} == door.refused.counts()


def test_an_unknown_user_costs_a_verification_too() -> None:
    """Otherwise the answer's time would tell which usernames exist."""
    door = Door()
    asyncio.run(door.enter("ev-2", b"guess"))
    assert door.verifications == [("decoy", b"guess")]


def test_revocation_shows_only_to_who_knows_the_password() -> None:
    """A guesser learns nothing from the reason."""
    door = Door()
    door.credentials["ev-1"] = credential("ev-1", "right", revoked_at_ns=5)
    assert [asyncio.run(door.enter()), asyncio.run(door.enter(password=b"guess"))] == ["revoked", "wrong_password"]


def test_a_verified_login_is_remembered_for_its_time_and_for_its_password_alone() -> None:
    """A fleet that reconnects costs no argon2id; another password or five minutes later does."""
    door = Door()
    for _ in range(3):
        assert asyncio.run(door.enter()) == EV
    assert len(door.verifications) == 1
    assert asyncio.run(door.enter(password=b"right2")) == "wrong_password"
    door.now_s += VERIFIED_TTL_S
    assert asyncio.run(door.enter()) == EV
    assert [password for _, password in door.verifications] == [b"right", b"right2", b"right"]


def test_passwords_are_not_kept() -> None:
    """What is remembered is keyed by a secret of this process."""
    door = Door()
    asyncio.run(door.enter())
    assert "right" not in repr(door.admission._verified)


def test_a_forgotten_login_is_verified_again() -> None:
    """After a revocation the memory does not let the device in."""
    door = Door()
    asyncio.run(door.enter())
    door.credentials["ev-1"] = credential("ev-1", "right", revoked_at_ns=5)
    door.admission.forget({EV})
    assert asyncio.run(door.enter()) == "revoked"


def test_a_revocation_during_the_verification_wins() -> None:
    """A verification that read the old credential is repeated, and nothing of it is remembered."""

    async def scenario() -> Identity | str:
        door = Door()
        door.executor.held = []
        async with asyncio.TaskGroup() as tasks:
            entering = tasks.create_task(door.enter())
            await asyncio.sleep(0)
            ((fn, args, future),), door.executor.held = door.executor.held, None
            outdated = fn(*args)
            door.credentials["ev-1"] = credential("ev-1", "right", revoked_at_ns=5)
            door.admission.forget({EV})
            future.set_result(outdated)
        assert door.admission.remembered == 0
        return entering.result()

    assert asyncio.run(scenario()) == "revoked"


def test_changes_while_a_login_waits_for_a_thread_cost_nothing() -> None:
    """Only a change between the registry's answer and ours repeats a verification, else a long queue stays long."""

    async def scenario() -> Door:
        door = Door()
        door.executor.held = []
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(door.enter())
            await asyncio.sleep(0)
            door.admission.forget({Identity(TenantId("default"), DeviceId("ev-2"))})
            door.executor.release()
        return door

    assert len(asyncio.run(scenario()).verifications) == 1


def test_a_poll_without_changes_changes_nothing() -> None:
    """The registry is asked every two seconds; most answers are empty."""
    door = Door()
    asyncio.run(door.enter())
    door.admission.forget(set())
    assert (asyncio.run(door.enter()), len(door.verifications)) == (EV, 1)


def test_one_device_that_guesses_locks_out_itself_alone() -> None:
    """Others behind its address still get in; the guesser does not, even with the right password, until it waited."""
    door = Door()
    door.credentials["ev-2"] = credential("ev-2", "right")
    outcomes = [asyncio.run(door.enter(password=b"guess")) for _ in range(LOGIN_FAILURES_BURST + 1)]
    assert outcomes == ["wrong_password"] * LOGIN_FAILURES_BURST + ["rate_limited"]
    assert asyncio.run(door.enter()) == "rate_limited"
    assert asyncio.run(door.enter(address="10.0.0.2")) == EV
    assert Identity(TenantId("default"), DeviceId("ev-2")) == asyncio.run(door.enter("ev-2"))
    assert len(door.verifications) == LOGIN_FAILURES_BURST + 2, "a refused try costs no verification"


def test_guessing_many_usernames_is_limited_by_address() -> None:
    """The second limit counts failures of an address whatever the username."""
    door = Door()
    outcomes = [asyncio.run(door.enter(f"x{i}", b"guess")) for i in range(ADDRESS_FAILURES_BURST + 5)]
    assert outcomes == ["unknown_device"] * ADDRESS_FAILURES_BURST + ["rate_limited"] * 5
    door.now_s += 3.5
    outcomes = [asyncio.run(door.enter(f"y{i}", b"guess")) for i in range(5)]
    assert outcomes == ["unknown_device"] * 3 + ["rate_limited"] * 2


def test_a_remembered_login_enters_a_limited_address() -> None:
    """Known devices are not held off by what others do at their address."""
    door = Door()
    asyncio.run(door.enter())
    for i in range(ADDRESS_FAILURES_BURST):
        asyncio.run(door.enter(f"x{i}", b"guess"))
    assert asyncio.run(door.enter()) == EV


def test_waiting_verifications_are_bounded() -> None:
    """Past the queue's limit a peer is told that the server is busy, and is not charged for it."""

    async def scenario() -> None:
        door = Door()
        door.executor.held = []
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(door.enter()) for _ in range(VERIFY_QUEUE_MAX)]
            await asyncio.sleep(0)
            assert door.admission.waiting == VERIFY_QUEUE_MAX
            assert await door.enter() == "busy"
            door.executor.release()
        assert {EV} == {task.result() for task in waiting}
        assert door.admission.waiting == 0
        assert await door.enter() == EV

    asyncio.run(scenario())


def test_a_peer_that_leaves_early_is_charged() -> None:
    """Hanging up before the answer is not a way around the limit, and frees its place in the queue."""

    async def scenario() -> None:
        door = Door()
        for _ in range(LOGIN_FAILURES_BURST):
            door.executor.held = []
            leaving = asyncio.ensure_future(door.enter(password=b"guess"))
            await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.wait([leaving])
        assert door.admission.waiting == 0
        assert await door.enter() == "rate_limited"

    asyncio.run(scenario())


def test_an_unreachable_registry_is_not_the_peers_fault() -> None:
    """The peer is told to come back, and is not charged."""
    door = Door()
    door.registry_error = RegistryError("no answer")
    for _ in range(LOGIN_FAILURES_BURST + 1):
        assert asyncio.run(door.enter()) == "registry_unavailable"
    door.registry_error = None
    assert asyncio.run(door.enter()) == EV


def test_an_anonymous_peer_is_the_device_that_its_client_id_names() -> None:
    """Where the operator allows it, a topic needs no password; an id that no topic can hold is refused."""
    door = Door(allow_anonymous=True)
    assert Identity(TenantId("default"), DeviceId("bus-1")) == asyncio.run(door.enter(None, None, client="bus-1"))
    assert asyncio.run(door.enter(None, None, client="a/b")) == "client_id"
    assert asyncio.run(door.enter(None, None, client="")) == "client_id"
    assert asyncio.run(door.enter("ev-1", b"guess", client="ev-1")) == "wrong_password"


def test_remembered_logins_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest login is forgotten past the limit."""
    monkeypatch.setattr(admission_module, "VERIFIED_MAX", 2)
    door = Door()
    for name in ("ev-1", "ev-2", "ev-3"):
        door.credentials[name] = credential(name, "right")
        asyncio.run(door.enter(name))
    assert door.admission.remembered == 2


def test_buckets_forget_the_one_that_failed_longest_ago() -> None:
    """Memory of failures is bounded; a clock that goes back refills nothing."""
    buckets = FailureBuckets(burst=1, refill_s=10.0, buckets_max=2)
    for key in ("a", "b", "c"):
        buckets.charge(key, now_s=5.0)
    assert [buckets.allows(key, now_s=5.0) for key in ("a", "b", "c")] == [True, False, False]
    assert [buckets.allows("c", now_s=now_s) for now_s in (1.0, 15.0)] == [False, True]
    assert len(buckets) == 2


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:0:1:aaaa::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_limits_hold_for_what_one_owner_has(address: str, expected: str) -> None:
    """An IPv6 customer has 2^64 addresses, so the network is counted."""
    assert expected == _network(address)

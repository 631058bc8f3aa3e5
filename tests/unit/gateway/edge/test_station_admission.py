"""Station admission: which charger a connection speaks for, by the security profile it was registered with."""

import asyncio
from typing import Any

import msgspec
import pytest

from gateway.core.credentials import Credential, DeviceKind
from gateway.core.errors import IdentityRefused, RegistryError
from gateway.core.ids import DeviceId, TenantId
from gateway.core.limits import ADDRESS_FAILURES_BURST, LOGIN_FAILURES_BURST
from gateway.edge.admission import Identity
from gateway.edge.station_admission import REASONS, StationAdmission, StationIdentity, _is_this_machine
from gateway.edge.tls import PeerCertificate
from gateway.observe.metrics import EventCounter
from tests.unit.gateway.edge.test_admission import InlineExecutor

AWAY, HERE = "10.0.0.1", "127.0.0.1"


def charger(name: str = "CP-1", *, password: str = "right", **rules: Any) -> Credential:
    given = {"security_profile": 1, "strictness": None, "certificate_name": None, "revoked_at_ns": None, **rules}
    return Credential(
        tenant=TenantId("default"),
        device_id=DeviceId(name.lower()),
        username=name,
        password_hash=password,
        **{"kind": DeviceKind.CHARGER, **given},
    )


def certificate(common_name: str = "CP-1", organization: str = "Fleet") -> PeerCertificate:
    return PeerCertificate(
        common_name=common_name, organization=organization, serial_number="0A", not_after_ns=1, fingerprint="f"
    )


def station(profile: int, strictness: Any = "lenient", device_id: str = "cp-1") -> StationIdentity:
    return StationIdentity(TenantId("default"), DeviceId(device_id), profile, strictness)


class Gate:
    """A station admission over a registry of dictionaries and a clock that stands still."""

    def __init__(self, *credentials: Credential, **options: Any) -> None:
        self.now_s = 1000.0
        self.verifications: list[str] = []
        self.lookups = 0
        self.credentials = {one.username: one for one in credentials or (charger(),)}
        self.registry_error: RegistryError | None = None
        self.refused = EventCounter()
        self.executor = InlineExecutor()
        self.admission = StationAdmission(
            find=self.find,
            verify=self.verify,
            decoy_hash="decoy",
            cache_key=b"k" * 32,
            executor=self.executor,
            now_s=lambda: self.now_s,
            count=self.refused,
            raise_security_profile=self.raise_security_profile,
            **options,
        )

    def find(self, username: str) -> Credential | None:
        if self.registry_error is not None:
            raise self.registry_error
        self.lookups += 1
        return self.credentials.get(username)

    def verify(self, password_hash: str, password: bytes) -> bool:
        self.verifications.append(password_hash)
        return password_hash != "" and password_hash == password.decode("latin-1")

    def raise_security_profile(self, tenant: str, device_id: str, profile: int) -> None:
        for name, one in self.credentials.items():
            if (one.tenant, one.device_id) == (tenant, device_id):
                self.credentials[name] = msgspec.structs.replace(one, security_profile=profile)

    async def refusal(self, identity: str = "CP-1", **shown: Any) -> tuple[str, int]:
        """Return reason and HTTP status of a connection that must be refused, and counted once."""
        before = self.refused.counts()
        with pytest.raises(IdentityRefused) as refused:
            await self.enter(identity, **shown)
        reason = refused.value.reason
        assert reason in REASONS
        assert {**before, reason: before.get(reason, 0) + 1} == self.refused.counts()
        return refused.value.reason, refused.value.reason_code

    async def enter(
        self,
        identity: str = "CP-1",
        *,
        password: bytes | None = b"right",
        username: str | None = "",
        certificate: PeerCertificate | None = None,
        is_tls: bool = False,
        address: str = AWAY,
    ) -> StationIdentity:
        """Connect; the user name is the identity unless it is given."""
        return await self.admission.authenticate(
            identity=identity,
            username=identity if username == "" else username,
            password=password,
            certificate=certificate,
            is_tls=is_tls,
            address=address,
        )


NOTHING: dict[str, Any] = {"username": None, "password": None}
PLAIN: dict[str, Any] = {}
TLS: dict[str, Any] = {"is_tls": True}
CERTIFICATE: dict[str, Any] = {**NOTHING, "is_tls": True, "certificate": certificate()}
BOTH: dict[str, Any] = {"is_tls": True, "certificate": certificate()}


@pytest.mark.parametrize(
    ("registered", "shown", "expected"),
    [
        (1, PLAIN, 1),
        (1, TLS, 2),
        (1, CERTIFICATE, 3),
        (1, BOTH, 2),
        (2, PLAIN, ("security_profile", 403)),
        (2, TLS, 2),
        (2, CERTIFICATE, 3),
        (2, BOTH, 2),
        (3, CERTIFICATE, 3),
        (3, BOTH, 3),
        (0, CERTIFICATE, 3),
        (0, NOTHING, ("no_credentials", 401)),
        (1, NOTHING, ("no_credentials", 401)),
        (2, {**NOTHING, "is_tls": True}, ("no_credentials", 401)),
        (3, {**NOTHING, "is_tls": True}, ("no_credentials", 401)),
    ],
)
def test_a_charger_gets_in_with_its_own_profile_or_a_higher_one(
    registered: int, shown: dict[str, Any], expected: object
) -> None:
    """The connection's own profile is told; a lower one than registered is refused, though the password is right."""
    gate = Gate(charger(security_profile=registered))
    if isinstance(expected, int):
        assert asyncio.run(gate.enter(**shown)) == station(expected)
    else:
        assert asyncio.run(gate.refusal(**shown)) == expected


@pytest.mark.parametrize("registered", [0, 3])
@pytest.mark.parametrize("shown", [PLAIN, TLS])
def test_a_password_is_no_way_in_where_none_is_registered(registered: int, shown: dict[str, Any]) -> None:
    """A charger of profile 0 or 3 looks like one that nobody has registered."""
    gate = Gate(charger(password="", security_profile=registered))
    assert asyncio.run(gate.refusal(**shown)) == ("wrong_password", 401)


def test_a_downgrade_after_an_upgrade_is_refused() -> None:
    """Whoever learned the password of the old profile cannot go back to it; what was remembered of it is no way in."""
    gate = Gate(charger(security_profile=1))
    assert asyncio.run(gate.enter(**PLAIN)) == station(1)
    assert asyncio.run(gate.enter(**TLS)) == station(2)
    assert gate.credentials["CP-1"].security_profile == 2
    assert asyncio.run(gate.refusal(**PLAIN)) == ("security_profile", 403)
    assert asyncio.run(gate.enter(**CERTIFICATE)) == station(3)
    gate.admission.forget({Identity(TenantId("default"), DeviceId("cp-1"))})
    assert asyncio.run(gate.refusal(**TLS)) == ("security_profile", 403)


def test_a_profile_that_cannot_be_registered_keeps_the_charger_out_for_now() -> None:
    """Else a restart would open the way back."""
    gate = Gate(charger(security_profile=1))

    def fail(*_: object) -> None:
        raise RegistryError("no answer")

    gate.admission._raise_security_profile = fail
    assert asyncio.run(gate.refusal(**TLS)) == ("registry_unavailable", 503)


@pytest.mark.parametrize(
    ("rules", "shown", "expected"),
    [
        ({}, certificate("CP-1"), 3),
        ({}, certificate("CP-2"), ("certificate", 401)),
        ({}, certificate(""), ("certificate", 401)),
        ({}, certificate("cp-1"), ("certificate", 401)),
        ({"certificate_name": "SN-7"}, certificate("SN-7"), 3),
        ({"certificate_name": "SN-7"}, certificate("CP-1"), ("certificate", 401)),
        ({}, certificate("CP-1", "Other Fleet"), ("certificate", 401)),
        ({}, certificate("CP-1", ""), ("certificate", 401)),
        ({"revoked_at_ns": 5}, certificate("CP-1"), ("revoked", 403)),
    ],
)
def test_a_certificate_opens_its_own_charger_alone(
    rules: dict[str, Any], shown: PeerCertificate, expected: object
) -> None:
    """CN is the registered name, O the operator; the certificate of A on the URL of B is refused."""
    gate = Gate(charger(password="", security_profile=3, **rules), certificate_organization="Fleet")
    given = {**CERTIFICATE, "certificate": shown}
    if isinstance(expected, int):
        assert asyncio.run(gate.enter(**given)) == station(expected)
    else:
        assert asyncio.run(gate.refusal(**given)) == expected


def test_the_right_password_does_not_outweigh_the_certificate_of_another() -> None:
    """Who shows a certificate means it."""
    gate = Gate(charger(security_profile=2))
    shown: dict[str, Any] = {"is_tls": True, "certificate": certificate("CP-2")}
    assert asyncio.run(gate.refusal(**shown)) == ("certificate", 401)


def test_a_certificate_without_tls_is_none() -> None:
    """Nobody has verified it then."""
    gate = Gate(charger(password="", security_profile=3))
    given = {**CERTIFICATE, "is_tls": False}
    assert asyncio.run(gate.refusal(**given)) == ("no_credentials", 401)


@pytest.mark.parametrize(
    ("identity", "shown", "expected"),
    [
        ("CP-1", {"password": b"wrong"}, ("wrong_password", 401)),
        ("CP-9", {}, ("unknown_device", 401)),
        ("CP-9", {"password": b"decoy"}, ("unknown_device", 401)),
        ("CP-9", CERTIFICATE, ("unknown_device", 401)),
        ("CP-1", {"username": "CP-9"}, ("user_name", 401)),
        ("CP-1", {"username": "cp-1"}, ("user_name", 401)),
        ("CP-1", {"password": b""}, ("no_credentials", 401)),
        ("CP-1", {"username": None}, ("no_credentials", 401)),
        ("a/b", {}, ("identity", 404)),
        ("", {}, ("identity", 404)),
        ("x" * 129, {}, ("identity", 404)),
    ],
)
def test_everybody_else_is_refused(identity: str, shown: dict[str, Any], expected: tuple[str, int]) -> None:
    """An unknown charger and a wrong password have the same status; the reason is for our log."""
    assert asyncio.run(Gate().refusal(identity, **shown)) == expected


def test_an_unknown_charger_costs_a_verification_like_a_known_one() -> None:
    """Otherwise the answer's time would tell which identities exist."""
    gate = Gate(charger(), charger("CP-3", password="", security_profile=3))
    for identity in ("CP-1", "CP-3", "CP-9"):
        asyncio.run(gate.refusal(identity, password=b"guess"))
    assert gate.verifications == ["right", "", "decoy"]


def test_who_is_known_shows_only_to_who_proves_it() -> None:
    """Revoked, no charger, wrong profile: a guesser hears of none."""
    gate = Gate(
        charger("A", revoked_at_ns=5),
        charger("B", kind=DeviceKind.VEHICLE, security_profile=None),
        charger("C", security_profile=2),
    )
    proven = [asyncio.run(gate.refusal(name)) for name in "ABC"]
    assert proven == [("revoked", 403), ("not_a_charger", 403), ("security_profile", 403)]
    guessed = [asyncio.run(gate.refusal(name, password=b"guess")) for name in "ABCD"]
    assert {status for _, status in guessed} == {401}


def test_strictness_is_the_chargers_own_or_the_default() -> None:
    """One charger's dirt need not loosen the rules for all."""
    gate = Gate(charger("CP-1", strictness="audit"), charger("CP-2"), strictness="strict")
    assert asyncio.run(gate.enter("CP-1")) == station(1, "audit")
    assert asyncio.run(gate.enter("CP-2")) == station(1, "strict", "cp-2")


def test_a_password_may_be_any_bytes() -> None:
    """An AuthorizationKey of 1.6 is 16 to 20 bytes, not text."""
    key = bytes(range(240, 256))
    assert asyncio.run(Gate(charger(password=key.decode("latin-1"))).enter(password=key)) == station(1)


@pytest.mark.parametrize(
    ("registered", "shown", "address", "expected"),
    [
        (0, NOTHING, AWAY, 0),
        (0, PLAIN, AWAY, 0),
        (0, {**NOTHING, "is_tls": True}, AWAY, 0),
        (1, NOTHING, HERE, ("no_credentials", 401)),
        (2, NOTHING, HERE, ("no_credentials", 401)),
        (3, NOTHING, HERE, ("no_credentials", 401)),
        (1, {"password": b"guess"}, HERE, ("wrong_password", 401)),
        (1, PLAIN, HERE, 1),
    ],
)
def test_who_may_prove_nothing_is_who_was_registered_so(
    registered: int, shown: dict[str, Any], address: str, expected: object
) -> None:
    """Allowing profile 0 does not take the password from those that have one."""
    gate = Gate(charger(security_profile=registered), allow_unauthenticated=True)
    if isinstance(expected, int):
        assert asyncio.run(gate.enter(**shown, address=address)) == station(expected)
    else:
        assert asyncio.run(gate.refusal(**shown, address=address)) == expected


def test_an_unknown_charger_may_prove_nothing_on_this_machine_alone() -> None:
    """A simulator needs no registration; a stranger on the network does, and so does one with a password."""
    gate = Gate(allow_unauthenticated=True, tenant_default="lab", strictness="strict")
    known = StationIdentity(TenantId("lab"), DeviceId("SIM-1"), 0, "strict")
    assert asyncio.run(gate.enter("SIM-1", **NOTHING, address=HERE)) == known
    assert asyncio.run(gate.refusal("SIM-2", **NOTHING, address=AWAY)) == ("no_credentials", 401)
    assert asyncio.run(gate.refusal("SIM-2", address=HERE)) == ("unknown_device", 401)


def test_a_revoked_charger_of_profile_0_is_refused() -> None:
    """It proves nothing, and still may not."""
    gate = Gate(charger(password="", security_profile=0, revoked_at_ns=5), allow_unauthenticated=True)
    assert asyncio.run(gate.refusal(**NOTHING)) == ("revoked", 403)


def test_a_reconnecting_charger_is_not_verified_again() -> None:
    """Same claim, same answer, until the charger is changed."""
    gate = Gate(charger(), charger("CP-2", password="", security_profile=3))
    for _ in range(3):
        assert asyncio.run(gate.enter()) == station(1)
        shown = {**CERTIFICATE, "certificate": certificate("CP-2")}
        assert asyncio.run(gate.enter("CP-2", **shown)) == station(3, device_id="cp-2")
    assert (gate.lookups, gate.verifications) == (2, ["right"])
    gate.credentials["CP-1"] = charger(strictness="audit")
    gate.admission.forget({Identity(TenantId("default"), DeviceId("cp-1"))})
    assert asyncio.run(gate.enter()) == station(1, "audit")


def test_what_one_claim_proved_is_no_proof_of_another() -> None:
    """A remembered certificate lets no password in, a remembered password no certificate of another."""
    gate = Gate(charger(security_profile=2))
    asyncio.run(gate.enter(**TLS))
    assert asyncio.run(gate.refusal(**TLS, password=b"guess")) == ("wrong_password", 401)
    assert asyncio.run(gate.refusal(**{**CERTIFICATE, "certificate": certificate("CP-2")})) == ("certificate", 401)
    assert asyncio.run(gate.refusal(**PLAIN)) == ("security_profile", 403)


def test_guessing_is_limited_per_charger_and_per_address() -> None:
    """The guesser waits with its own charger; the others behind its address go on, until it guesses at all of them."""
    gate = Gate(charger(), charger("CP-2"))
    tries = [asyncio.run(gate.refusal(password=b"guess")) for _ in range(LOGIN_FAILURES_BURST + 1)]
    assert tries == [("wrong_password", 401)] * LOGIN_FAILURES_BURST + [("rate_limited", 429)]
    assert asyncio.run(gate.enter("CP-2")) == station(1, device_id="cp-2")
    for i in range(ADDRESS_FAILURES_BURST - LOGIN_FAILURES_BURST):
        asyncio.run(gate.refusal(f"X-{i}"))
    assert asyncio.run(gate.refusal("X")) == ("rate_limited", 429)
    assert asyncio.run(gate.enter("CP-2")) == station(1, device_id="cp-2")


def test_an_unreachable_registry_is_not_the_chargers_fault() -> None:
    """The charger is told to come back, and is not charged for it."""
    gate = Gate()
    gate.registry_error = RegistryError("no answer")
    for _ in range(LOGIN_FAILURES_BURST + 1):
        assert asyncio.run(gate.refusal()) == ("registry_unavailable", 503)
    gate.registry_error = None
    assert asyncio.run(gate.enter()) == station(1)


def test_waiting_logins_are_bounded() -> None:
    """Past the limit a charger is told that the server is busy."""

    async def scenario() -> None:
        gate = Gate(waiting_max=2)
        gate.executor.held = []
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(gate.enter()) for _ in range(2)]
            await asyncio.sleep(0)
            assert await gate.refusal() == ("busy", 503)
            gate.executor.release()
        assert [station(1)] * 2 == [task.result() for task in waiting]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("unix", False),
    ],
)
def test_this_machine_is_the_loopback_in_every_spelling(address: str, expected: bool) -> None:
    """A socket that speaks both versions shows an IPv4 peer as a mapped address."""
    assert expected is _is_this_machine(address)

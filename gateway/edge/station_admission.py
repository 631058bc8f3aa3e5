"""Decide which charger a connection speaks for, and that its OCPP security profile is the one it was registered with.

| profile | transport | the charger proves itself by |
|---|---|---|
| 0 | any | nothing; admitted only where the operator allows it |
| 1 | clear text | HTTP Basic |
| 2 | TLS | HTTP Basic |
| 3 | TLS | client certificate, whose chain the TLS handshake has verified |

The registered profile is the lowest one a charger may connect with (OCPP 2.0.1 A00.FR.002: another one is refused). A
higher one proves more and is how an upgrade arrives (use case A05); it becomes the registered one, so that there is no
way back for whoever learns the old secret. Up to the proof every refusal is the same to the peer, known or unknown.
"""

from collections.abc import Callable
from functools import partial
from ipaddress import IPv6Address, ip_address
from typing import Final, Unpack

import msgspec

from gateway.core.credentials import Credential, DeviceKind, StrictnessName, identity_problem
from gateway.core.errors import IdentityRefused
from gateway.core.ids import DeviceId, TenantId
from gateway.core.limits import STATION_VERIFY_QUEUE_MAX
from gateway.core.text import peer_text
from gateway.edge.admission import Logins, LoginsArguments, Refusal
from gateway.edge.tls import PeerCertificate

PROFILE_NONE, PROFILE_BASIC, PROFILE_TLS_BASIC, PROFILE_CERTIFICATE = range(4)
_STATUS: Final = {
    "identity": 404,
    "no_credentials": 401,
    "user_name": 401,
    "unknown_device": 401,
    "wrong_password": 401,
    "certificate": 401,
    "revoked": 403,
    "not_a_charger": 403,
    "security_profile": 403,
    "rate_limited": 429,
    "busy": 503,
    "registry_unavailable": 503,
}
REASONS: Final = tuple(_STATUS)
"""Every reason a charger is refused for, as it is counted."""


class StationIdentity(msgspec.Struct, frozen=True):
    """Who a charger's connection speaks for.

    Attributes:
        tenant: Owner of the charger.
        device_id: Unique within the tenant.
        security_profile: The OCPP security profile of this connection, at least the registered one; 3 is a certificate.
        strictness: What becomes of its messages that their schema forbids.
    """

    tenant: TenantId
    device_id: DeviceId
    security_profile: int
    strictness: StrictnessName


class _Claim(msgspec.Struct, frozen=True, kw_only=True):
    """All that a connection shows of itself."""

    identity: str
    password: bytes | None
    certificate: PeerCertificate | None
    is_tls: bool
    is_local: bool

    def to_secret(self) -> bytes:
        """Return the whole claim as bytes, different for different claims."""
        return msgspec.msgpack.encode(self)


class StationAdmission(Logins[StationIdentity]):
    """Authenticates chargers. All calls on the event loop.

    Args:
        strictness: Of chargers that were registered without one.
        certificate_organization: What O of a charger's certificate must be; None for anything.
        allow_unauthenticated: Whether chargers registered with profile 0, and unknown ones from this machine, prove
            nothing. A proxy on this machine makes every charger one from this machine.
        tenant_default: Tenant of unknown chargers.
        raise_security_profile: Registers the higher profile that a charger connected with; blocks; may raise
            `RegistryError`.
        logins: See `Logins`; what one listener admitted is not remembered for another.
    """

    REFUSALS = _STATUS

    def __init__(
        self,
        *,
        strictness: StrictnessName = "lenient",
        certificate_organization: str | None = None,
        allow_unauthenticated: bool = False,
        tenant_default: str = "default",
        raise_security_profile: Callable[[str, str, int], None],
        **logins: Unpack[LoginsArguments],
    ) -> None:
        logins.setdefault("waiting_max", STATION_VERIFY_QUEUE_MAX)
        super().__init__(**logins)
        self.allow_unauthenticated = allow_unauthenticated
        self._strictness, self._organization = strictness, certificate_organization
        self._tenant_default = TenantId(tenant_default)
        self._raise_security_profile = raise_security_profile

    async def authenticate(
        self,
        *,
        identity: str,
        username: str | None,
        password: bytes | None,
        certificate: PeerCertificate | None,
        is_tls: bool,
        address: str,
    ) -> StationIdentity:
        """Return who the charger is. The reason and the detail of a refusal are for our log, never for the charger.

        Args:
            identity: Last level of its URL, percent-decoded.
            username: From HTTP Basic, None when absent.
            password: From HTTP Basic, raw bytes; None when absent, and an empty one is none.
            certificate: Its certificate, verified by TLS; None when it showed none.
            is_tls: Whether the connection is under TLS.
            address: IP address of the peer, without a port.

        Raises:
            IdentityRefused: With a reason of `REASONS` and the HTTP status as code; already counted.
        """
        try:
            shown = peer_text(identity)
            if problem := identity_problem(identity):
                raise self.refused("identity", f"identity {shown!r} {problem}")
            if username is not None and username != identity:
                detail = f"{shown!r} sent the user name {peer_text(username)!r}; it must be the identity in the URL"
                raise self.refused("user_name", detail)
            claim = _Claim(
                identity=identity,
                password=password if username is not None and password else None,
                certificate=certificate if is_tls else None,
                is_tls=is_tls,
                is_local=_is_this_machine(address),
            )
            if claim.password is None and claim.certificate is None and not self.allow_unauthenticated:
                detail = f"{shown!r} sent neither password nor certificate; give it the one from `voltgate device add`"
                raise self.refused("no_credentials", detail)
            return await self.login(identity, claim.to_secret(), address, partial(self._prove, claim))
        except IdentityRefused as refusal:
            self._count(refusal.reason)
            raise

    def _prove(self, claim: _Claim, credential: Credential | None) -> StationIdentity | Refusal:
        """Return who makes a claim; called in the executor."""
        profile = self._proven_profile(claim, credential)
        if isinstance(profile, Refusal):
            return profile
        if credential is None:
            return StationIdentity(self._tenant_default, DeviceId(claim.identity), profile, self._strictness)
        shown = peer_text(claim.identity)
        if credential.revoked_at_ns is not None:
            return Refusal("revoked", f"{shown!r} is revoked")
        if credential.kind != DeviceKind.CHARGER:
            return Refusal("not_a_charger", f"{shown!r} is registered as a {credential.kind}; add it with --charger")
        registered = credential.security_profile or PROFILE_NONE
        if profile < registered:
            detail = f"{shown!r} connected with security profile {profile}, it is registered with {registered}"
            return Refusal("security_profile", f"{detail}; mend the charger, or lower it with `voltgate device change`")
        if profile > registered:
            self._raise_security_profile(credential.tenant, credential.device_id, profile)
        return StationIdentity(
            credential.tenant, credential.device_id, profile, credential.strictness or self._strictness
        )

    def _proven_profile(self, claim: _Claim, credential: Credential | None) -> int | Refusal:
        """Return the security profile that a claim proves; of an unknown charger only where that is allowed."""
        if self.allow_unauthenticated and self._may_prove_nothing(claim, credential):
            return PROFILE_NONE
        shown = peer_text(claim.identity)
        if claim.certificate is not None:
            if credential is None:
                return Refusal("unknown_device", f"nobody has the identity {shown!r}; it showed a valid certificate")
            if problem := self._certificate_problem(claim.certificate, credential):
                return Refusal("certificate", f"{shown!r} showed a certificate {problem}")
            # A charger of profile 2 may show a certificate too; what it proves itself by is the password.
            if claim.password is None or credential.security_profile == PROFILE_CERTIFICATE:
                return PROFILE_CERTIFICATE
        if claim.password is None:
            return Refusal("no_credentials", f"{shown!r} sent neither password nor certificate")
        if self.has_password(credential, claim.password):
            return PROFILE_TLS_BASIC if claim.is_tls else PROFILE_BASIC
        if credential is None:
            return Refusal("unknown_device", f"nobody has the identity {shown!r}")
        return Refusal("wrong_password", f"wrong password of {shown!r}")

    def _may_prove_nothing(self, claim: _Claim, credential: Credential | None) -> bool:
        if credential is None:
            return claim.is_local and claim.password is None and claim.certificate is None
        return credential.kind == DeviceKind.CHARGER and credential.security_profile == PROFILE_NONE

    def _certificate_problem(self, certificate: PeerCertificate, credential: Credential) -> str | None:
        name, cn = credential.certificate_name or credential.username, certificate.common_name
        if cn != name:
            return f"of CN {peer_text(cn)!r}, expected {name!r}; see --certificate-name of `voltgate device change`"
        organization = certificate.organization
        if self._organization is not None and organization != self._organization:
            return f"of O {peer_text(organization)!r}, gateway.ocpp.certificate_organization is {self._organization!r}"
        return None


def _is_this_machine(address: str) -> bool:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return (mapped or parsed).is_loopback

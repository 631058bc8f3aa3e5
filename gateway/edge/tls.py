"""TLS of the listeners: versions and suites, our certificates, whose certificates we take, what one says of its holder.

Our own files are proved at the start by a handshake in memory, so that a wrong key, an expired certificate or a suite
that cannot work is a message to the operator and not to a fleet of chargers.
"""

import hashlib
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypedDict

import msgspec

from gateway.core.errors import ConfigError
from gateway.core.settings import TlsPolicyName

CIPHERS: Final[dict[TlsPolicyName, str]] = {
    # Forward secret and authenticated; what is left of TLS 1.2 after RFC 9325 section 4.2.
    "modern": "ECDHE+AESGCM:ECDHE+CHACHA20",
    # OCPP 2.0.1 part 2 section A: TLS_ECDHE_ECDSA and TLS_RSA, each with AES_128_GCM_SHA256 and AES_256_GCM_SHA384.
    # Python's own choice leaves out the two without forward secrecy, which old chargers need.
    "ocpp-strict": "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:AES128-GCM-SHA256:AES256-GCM-SHA384",
}
"""TLS 1.2 suites of each policy in OpenSSL's words; the suites of TLS 1.3 are always there."""

_VERIFY_REASONS: Final = {
    3: "no_revocation_list",
    9: "certificate_not_yet_valid",
    10: "certificate_expired",
    12: "revocation_list_expired",
    18: "certificate_self_signed",
    19: "certificate_unknown_issuer",
    20: "certificate_unknown_issuer",
    21: "certificate_unknown_issuer",
    23: "certificate_revoked",
}
"""Why OpenSSL refuses a certificate (X509_V_ERR_*) -> the word it is counted under."""
_VERIFY_MENDS: Final = {9: "mend this machine's clock, or wait", 10: "renew it"}
_ALERT_REASONS: Final = {
    "NO_SHARED_CIPHER": "no_shared_cipher",
    "UNSUPPORTED_PROTOCOL": "old_version",
    "HTTP_REQUEST": "no_tls",
    "WRONG_VERSION_NUMBER": "no_tls",
    "TLSV1_ALERT_UNKNOWN_CA": "peer_distrusts_us",
    "SSLV3_ALERT_BAD_CERTIFICATE": "peer_distrusts_us",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "peer_distrusts_us",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "peer_distrusts_us",
}
HANDSHAKE_REASONS: Final = tuple(
    dict.fromkeys(
        [
            *_VERIFY_REASONS.values(),
            "certificate_invalid",
            *_ALERT_REASONS.values(),
            "session_resumed",
            "handshake_failed",
        ]
    )
)
"""Every reason a handshake fails for, as it is counted."""
_ROUND_TRIPS_MAX: Final = 8
"""A TLS 1.2 handshake takes two."""


class PeerCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """What a verified client certificate says of its holder.

    Attributes:
        common_name: CN of the subject; empty where there is none or more than one, which no name equals.
        organization: O of the subject; empty likewise.
        serial_number: Hexadecimal, unique for its issuer.
        not_after_ns: When it expires, UTC nanoseconds.
        fingerprint: SHA-256 of the whole certificate, hexadecimal; equal only for the same certificate.
    """

    common_name: str
    organization: str
    serial_number: str
    not_after_ns: int
    fingerprint: str


class TlsFiles(TypedDict):
    """What `server_context` and `renew` are given of a configuration; see there."""

    chains: Sequence[tuple[Path, Path]]
    client_ca: Path | None
    crl: Path | None
    policy: TlsPolicyName


def server_context(
    *,
    chains: Sequence[tuple[Path, Path]],
    client_ca: Path | None = None,
    crl: Path | None = None,
    policy: TlsPolicyName = "modern",
    on_refused: Callable[[str, str], None] = lambda _reason, _detail: None,
) -> ssl.SSLContext:
    """Return the context of a listener: TLS 1.2 or newer; a client certificate may be shown, and is then verified.

    A client certificate is looked at in each handshake, also one that was revoked since: there are no tickets, and a
    session of TLS 1.2 that was proved by a certificate is not resumed. Its connection ends, the next one is a whole
    handshake.

    Args:
        chains: Certificate file (ours first, then its issuers) and key file of each; at most one RSA and one ECDSA.
        client_ca: Issuers of client certificates; without it none is asked for.
        crl: Revocation list of every issuer in `client_ca`; where one is missing or expired nobody gets in.
        policy: Which suites of TLS 1.2 are offered; `ocpp-strict` needs an RSA and an ECDSA certificate.
        on_refused: Called with a reason of `HANDSHAKE_REASONS` and the detail when a handshake fails; the loop says
            nothing of it. The detail is OpenSSL's text, without anything of the peer's.

    Raises:
        ConfigError: A file of ours cannot be used; with its name and the mend.
    """
    context = _empty_context(policy)
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.sslobject_class = _watched(on_refused)
    if not chains:
        mend = "add [[gateway.ocpp.certificates]] with certificate_file and key_file"
        raise ConfigError("gateway.ocpp.certificates", 0, "there is no certificate", mend)
    algorithms: dict[str, Path] = {}
    for certificate, key in chains:
        algorithm = _proven_algorithm(certificate, key, policy)
        if (other := algorithms.setdefault(algorithm, certificate)) is not certificate:
            what = f"is a second {algorithm} certificate beside {other}"
            raise ConfigError(str(certificate), 0, what, "give one RSA and one ECDSA certificate at most")
    if policy == "ocpp-strict" and len(algorithms) < 2:
        what = f"ocpp-strict promises RSA and ECDSA suites, there is one {', '.join(algorithms)} certificate"
        raise ConfigError("gateway.ocpp.tls_policy", 0, what, 'add the other one, or write tls_policy = "modern"')
    _load_files(context, chains, client_ca, crl)
    return context


def renew(
    context: ssl.SSLContext,
    *,
    chains: Sequence[tuple[Path, Path]],
    client_ca: Path | None = None,
    crl: Path | None = None,
    policy: TlsPolicyName = "modern",
) -> None:
    """Take renewed files for handshakes from now on; a live connection keeps what it has. Safe to repeat.

    Issuers of client certificates are added, and never taken away before a restart; of revocation lists the newest of
    each issuer counts.

    Raises:
        ConfigError: A file cannot be used; the context is as it was.
    """
    server_context(chains=chains, client_ca=client_ca, crl=crl, policy=policy)
    _load_files(context, chains, client_ca, crl)


def peer_certificate(ssl_object: ssl.SSLObject | ssl.SSLSocket | None) -> PeerCertificate | None:
    """Return what the peer's verified certificate says; None without TLS, or where it showed none."""
    if ssl_object is None or not (der := ssl_object.getpeercert(binary_form=True)):
        return None
    # Empty unless the certificate was verified; then a certificate is as good as none.
    if not (shown := ssl_object.getpeercert()):
        return None
    fields: dict[str, Any] = dict(shown)
    return PeerCertificate(
        common_name=_only_name(fields, "commonName"),
        organization=_only_name(fields, "organizationName"),
        serial_number=fields["serialNumber"],
        not_after_ns=ssl.cert_time_to_seconds(fields["notAfter"]) * 10**9,
        fingerprint=hashlib.sha256(der).hexdigest(),
    )


def _only_name(fields: dict[str, Any], attribute: str) -> str:
    values = [value for names in fields["subject"] for name, value in names if name == attribute]
    return values[0] if len(values) == 1 else ""


# ---- contexts --------------------------------------------------------------------------------------------------------
def _empty_context(policy: TlsPolicyName) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(CIPHERS[policy])
    return context


def _load_files(
    context: ssl.SSLContext, chains: Sequence[tuple[Path, Path]], client_ca: Path | None, crl: Path | None
) -> None:
    for certificate, key in chains:
        _load_chain(context, certificate, key)
    if client_ca is None:
        return
    _load_trusted(context, client_ca, "x509_ca", "CA certificate", "give the issuers of the chargers' certificates")
    context.verify_mode = ssl.CERT_OPTIONAL
    if crl is not None:
        _load_trusted(context, crl, "crl", "revocation list", "give a CRL in PEM; openssl crl -inform DER converts one")
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


def _load_chain(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    if b"-----BEGIN CERTIFICATE-----" not in _read(certificate):
        raise ConfigError(str(certificate), 0, "holds no certificate in PEM", "give ours first, then its issuers")
    key_text = _read(key)
    if b"ENCRYPTED" in key_text:
        mend = "decrypt it (openssl pkey), and let only this user read it"
        raise ConfigError(str(key), 0, "is encrypted, and nobody is there to type its password", mend)
    if b"PRIVATE KEY-----" not in key_text:
        raise ConfigError(str(key), 0, "holds no private key in PEM", f"give the key of {certificate}")
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as exc:
        if exc.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
            what = f"is not the key of {certificate}"
            raise ConfigError(str(key), 0, what, "give the key that the certificate was made for") from exc
        what = f"cannot be used with key {key}: {exc.reason or exc}"
        raise ConfigError(str(certificate), 0, what, "make both again") from exc


def _load_trusted(context: ssl.SSLContext, path: Path, kind: str, name: str, mend: str) -> None:
    """Load a file of trust; at least one entry of the kind must be in the context then."""
    _read(path)
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as exc:
        raise ConfigError(str(path), 0, f"holds no {name} in PEM: {exc.reason or exc}", mend) from exc
    if not context.cert_store_stats()[kind]:
        raise ConfigError(str(path), 0, f"holds no {name}", mend)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        what = f"cannot be read: {exc.strerror}"
        raise ConfigError(str(path), 0, what, "name a file that this user can read") from exc


# ---- handshakes ------------------------------------------------------------------------------------------------------
def _proven_algorithm(certificate: Path, key: Path, policy: TlsPolicyName) -> str:
    """Return `RSA` or `ECDSA` after a handshake with a client that trusts this very certificate."""
    server = _empty_context(policy)
    _load_chain(server, certificate, key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.maximum_version = ssl.TLSVersion.TLSv1_2  # whose suites name the algorithm, and are what a policy restricts
    client.set_ciphers(CIPHERS[policy])
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cafile=certificate)
    try:
        suite = _suite_of_handshake(server, client)
    except ssl.SSLCertVerificationError as exc:
        mend = _VERIFY_MENDS.get(exc.verify_code, "give one made for TLS servers")
        raise ConfigError(str(certificate), 0, f"is refused: {exc.verify_message}", mend) from exc
    except ssl.SSLError as exc:
        what = f"does not work with tls_policy {policy!r}: {exc.reason or exc}"
        mend = "give an RSA certificate with keyEncipherment or an ECDSA P-256 one"
        raise ConfigError(str(certificate), 0, what, mend) from exc
    return "ECDSA" if "ECDSA" in suite else "RSA"


def _suite_of_handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> str:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)]
    for _ in range(_ROUND_TRIPS_MAX):
        waiting = [end for end in ends if not _is_done(end)]
        if not waiting:
            break
    suite = ends[0].cipher()
    assert suite is not None, "a handshake in memory neither ends nor fails"
    return suite[0]


def _is_done(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _watched(on_refused: Callable[[str, str], None]) -> type[ssl.SSLObject]:
    """Return the kind of connection that tells of a failed handshake: no protocol is ever made that could."""

    class WatchedHandshake(ssl.SSLObject):
        def do_handshake(self) -> None:
            try:
                super().do_handshake()
                # Python cannot turn off the session cache of TLS 1.2. What is not shut down, OpenSSL drops from it.
                if self.session_reused and self.getpeercert(binary_form=True):
                    raise _ResumedError(0, "a session with a client certificate cannot be resumed")
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as exc:
                on_refused(*_reason_and_detail(exc))
                raise

    return WatchedHandshake


class _ResumedError(ssl.SSLError):
    """The peer resumed a session that a certificate had proved."""


def _reason_and_detail(exc: ssl.SSLError) -> tuple[str, str]:
    if isinstance(exc, ssl.SSLCertVerificationError):
        reason = _VERIFY_REASONS.get(exc.verify_code, "certificate_invalid")
        return reason, f"client certificate refused: {exc.verify_message}"
    if isinstance(exc, _ResumedError):
        return "session_resumed", exc.strerror or ""
    return _ALERT_REASONS.get(exc.reason or "", "handshake_failed"), f"handshake failed: {exc.reason or exc}"

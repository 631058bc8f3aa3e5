"""A small certificate authority: what an operator of chargers has, and what an attacker or a tired operator shows."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
DAY = timedelta(days=1)


def make_key(kind: str) -> Key:
    """Return a new key: `ecdsa` (P-256) or `rsa` (2,048 bits)."""
    return ec.generate_private_key(ec.SECP256R1()) if kind == "ecdsa" else rsa.generate_private_key(65_537, 2048)


class Authority:
    """A root that signs certificates for servers and chargers, and revokes them; all files PEM in one directory.

    Args:
        directory: Where its files go; made when missing.
        name: CN of the root, unique among authorities of a test.
    """

    def __init__(self, directory: Path, name: str = "Test Root") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self._name = directory, name
        self._key = make_key("ecdsa")
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._files = 0
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        root = (
            self._builder(self._subject, self._key, valid_from=-DAY, valid_to=365 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = self._write("root.pem", root.public_bytes(serialization.Encoding.PEM))

    def server(
        self, kind: str = "ecdsa", *, valid_from: timedelta = -DAY, valid_to: timedelta = 30 * DAY
    ) -> tuple[Path, Path]:
        """Return certificate and key file of a server on this machine."""
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
        return self._issue(
            [(NameOID.COMMON_NAME, "localhost")],
            kind,
            ExtendedKeyUsageOID.SERVER_AUTH,
            names,
            valid_from=valid_from,
            valid_to=valid_to,
        )

    def client(
        self,
        common_name: str,
        *,
        organization: str | None = "Fleet Operator",
        kind: str = "ecdsa",
        valid_from: timedelta = -DAY,
        valid_to: timedelta = 30 * DAY,
        extra: Sequence[tuple[x509.ObjectIdentifier, str]] = (),
    ) -> tuple[Path, Path]:
        """Return certificate and key file of a charger."""
        subject = [(NameOID.COMMON_NAME, common_name), *extra]
        if organization is not None:
            subject.append((NameOID.ORGANIZATION_NAME, organization))
        return self._issue(
            subject, kind, ExtendedKeyUsageOID.CLIENT_AUTH, None, valid_from=valid_from, valid_to=valid_to
        )

    def self_signed(self, common_name: str) -> tuple[Path, Path]:
        """Return certificate and key file of somebody who signed for himself."""
        key = make_key("ecdsa")
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        signed = self._builder(name, key, issuer=name, valid_from=-DAY, valid_to=DAY).sign(key, hashes.SHA256())
        return self._pair(signed, key)

    def crl(self, revoked: Sequence[Path] = (), *, age: timedelta = DAY, valid_to: timedelta = 7 * DAY) -> Path:
        """Return the file of a revocation list of some certificate files, made `age` ago."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._subject)
            .last_update(now - age)
            .next_update(now + valid_to)
        )
        for path in revoked:
            serial = x509.load_pem_x509_certificate(path.read_bytes()).serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - age).build()
            builder = builder.add_revoked_certificate(entry)
        signed = builder.sign(self._key, hashes.SHA256())
        return self._write(f"crl-{len(revoked)}-{age}.pem", signed.public_bytes(serialization.Encoding.PEM))

    def _issue(
        self,
        subject: Sequence[tuple[x509.ObjectIdentifier, str]],
        kind: str,
        purpose: x509.ObjectIdentifier,
        names: x509.SubjectAlternativeName | None,
        *,
        valid_from: timedelta,
        valid_to: timedelta,
    ) -> tuple[Path, Path]:
        key = make_key(kind)
        name = x509.Name([x509.NameAttribute(oid, value) for oid, value in subject])
        builder = self._builder(name, key, valid_from=valid_from, valid_to=valid_to)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return self._pair(builder.sign(self._key, hashes.SHA256()), key)

    def _builder(
        self,
        subject: x509.Name,
        key: Key,
        *,
        valid_from: timedelta,
        valid_to: timedelta,
        issuer: x509.Name | None = None,
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer or self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + valid_from)
            .not_valid_after(now + valid_to)
        )

    def _pair(self, certificate: x509.Certificate, key: Key) -> tuple[Path, Path]:
        self._files += 1
        pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        key_text = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
        return (
            self._write(f"{self._files}.pem", certificate.public_bytes(pem)),
            self._write(f"{self._files}.key", key_text),
        )

    def _write(self, name: str, data: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(data)
        return path

"""TLS contexts: what is offered, which of our files are refused, what a certificate says."""

import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.core.errors import ConfigError
from gateway.edge.tls import server_context
from tests.integration.certificates import DAY, Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def ecdsa(authority: Authority) -> tuple[Path, Path]:
    return authority.server("ecdsa")


@pytest.fixture(scope="module")
def rsa(authority: Authority) -> tuple[Path, Path]:
    return authority.server("rsa")


def suites(context: ssl.SSLContext) -> set[str]:
    return {suite["name"] for suite in context.get_ciphers()}


TLS_1_3 = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}


def test_ocpp_strict_offers_the_four_suites_that_ocpp_names(ecdsa: tuple[Path, Path], rsa: tuple[Path, Path]) -> None:
    """Those of TLS 1.2, and the ones of TLS 1.3, which OpenSSL has apart; nothing else."""
    expected = {
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "AES128-GCM-SHA256",
        "AES256-GCM-SHA384",
    }
    assert expected | TLS_1_3 == suites(server_context(chains=[ecdsa, rsa], policy="ocpp-strict"))


def test_modern_offers_forward_secrecy_alone(ecdsa: tuple[Path, Path]) -> None:
    """No suite of TLS 1.2 without an ephemeral key or without authenticated encryption; nothing older than 1.2."""
    context = server_context(chains=[ecdsa])
    assert all(
        name.startswith("ECDHE-") and ("GCM" in name or "CHACHA20" in name) for name in suites(context) - TLS_1_3
    )
    assert ssl.TLSVersion.TLSv1_2 == context.minimum_version


def test_client_certificates_are_asked_for_only_with_issuers(authority: Authority, ecdsa: tuple[Path, Path]) -> None:
    """Without issuers nobody could show one; with them a charger of profile 2 still need not."""
    modes = [server_context(chains=[ecdsa], client_ca=ca).verify_mode for ca in (None, authority.file)]
    assert modes == [ssl.CERT_NONE, ssl.CERT_OPTIONAL]


Files = dict[str, object]
Case = Callable[[Authority, tuple[Path, Path], tuple[Path, Path], Path], Files]


def written(directory: Path, text: str) -> Path:
    path = directory / "written.pem"
    path.write_text(text)
    return path


def encrypted(directory: Path) -> Path:
    return written(directory, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n")


def garbled(directory: Path) -> Path:
    return written(directory, "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")


CASES: list[tuple[Case, str]] = [
    (lambda a, e, r, d: {"chains": []}, "there is no certificate; add [[gateway.ocpp.certificates]]"),
    (lambda a, e, r, d: {"chains": [(d / "x.pem", e[1])]}, "x.pem: cannot be read: No such file or directory; name a"),
    (lambda a, e, r, d: {"chains": [(e[0], d)]}, "cannot be read: Is a directory"),
    (lambda a, e, r, d: {"chains": [(e[1], e[0])]}, ".key: holds no certificate in PEM; give ours first"),
    (lambda a, e, r, d: {"chains": [(e[0], e[0])]}, ".pem: holds no private key in PEM; give the key of"),
    (lambda a, e, r, d: {"chains": [(e[0], encrypted(d))]}, "is encrypted, and nobody is there to type its password"),
    (lambda a, e, r, d: {"chains": [(garbled(d), e[1])]}, "written.pem: cannot be used with key"),
    (lambda a, e, r, d: {"chains": [(e[0], r[1])]}, ".key: is not the key of"),
    (lambda a, e, r, d: {"chains": [(e[0], a.server()[1])]}, ".key: is not the key of"),
    (
        lambda a, e, r, d: {"chains": [a.server(valid_from=-2 * DAY, valid_to=-DAY)]},
        ".pem: is refused: certificate has expired; renew it",
    ),
    (
        lambda a, e, r, d: {"chains": [a.server(valid_from=timedelta(hours=1))]},
        ".pem: is refused: certificate is not yet valid; mend this machine's clock, or wait",
    ),
    (lambda a, e, r, d: {"chains": [a.client("x")]}, ".pem: is refused: unsuitable certificate purpose; give one made"),
    (lambda a, e, r, d: {"chains": [e, a.server()]}, ".pem: is a second ECDSA certificate beside"),
    (
        lambda a, e, r, d: {"chains": [e], "policy": "ocpp-strict"},
        "gateway.ocpp.tls_policy: ocpp-strict promises RSA and ECDSA suites, there is one ECDSA certificate; add the",
    ),
    (lambda a, e, r, d: {"chains": [e], "client_ca": e[0]}, ".pem: holds no CA certificate; give the issuers"),
    (lambda a, e, r, d: {"chains": [e], "client_ca": e[1]}, ".key: holds no CA certificate in PEM"),
    (lambda a, e, r, d: {"chains": [e], "client_ca": d / "x.pem"}, "x.pem: cannot be read"),
    (lambda a, e, r, d: {"chains": [e], "client_ca": a.file, "crl": a.file}, "root.pem: holds no revocation list"),
    (lambda a, e, r, d: {"chains": [e], "client_ca": a.file, "crl": e[1]}, ".key: holds no revocation list in PEM"),
]


@pytest.mark.parametrize(("files", "message"), CASES, ids=[message for _, message in CASES])
def test_a_file_of_ours_that_cannot_work_is_named_with_its_mend(
    authority: Authority,
    ecdsa: tuple[Path, Path],
    rsa: tuple[Path, Path],
    tmp_path: Path,
    files: Case,
    message: str,
) -> None:
    """The operator hears of it at the start, not each charger in its own words."""
    with pytest.raises(ConfigError) as refused:
        server_context(**files(authority, ecdsa, rsa, tmp_path))  # type: ignore[arg-type]
    assert message in str(refused.value)

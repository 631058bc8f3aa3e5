#!/usr/bin/env python3
"""Make what docker-compose.yml needs and what nobody may share: passwords, and certificates for OpenSearch.

Owns `.env` and `deploy/compose/private/`; never changes what is there already. Runs on a fresh machine: plain Python,
and the `openssl` command for the certificates. Prints names, never a secret.

    python3 deploy/compose/make_env.py                   all of it, once
    python3 deploy/compose/make_env.py --certificates    the certificates anew, before they expire
"""

import argparse
import base64
import hashlib
import os
import secrets
import shutil
import string
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRIVATE = Path("deploy/compose/private")
"""Under the checkout. Only its owner may enter it; the files inside are readable, because the users in the containers
that get them one by one have other ids than the owner."""

PASSWORD_LENGTH = 40
PASSWORD_ALPHABET = string.ascii_letters + string.digits + "-_."
"""Without what a shell, Compose or YAML reads as something else: no dollar, quote, hash, backslash or blank."""
PASSWORDS = {
    "OPENSEARCH_ADMIN_PASSWORD": "OpenSearch and OpenSearch Dashboards, user admin",
    "OPENSEARCH_VOLTGATE_PASSWORD": "OpenSearch, user voltgate: writes the indices",
    "OPENSEARCH_DASHBOARDS_PASSWORD": "OpenSearch, user kibanaserver: OpenSearch Dashboards itself",
    "DASHBOARDS_COOKIE_PASSWORD": "encrypts the sessions of OpenSearch Dashboards",
    "GRAFANA_ADMIN_PASSWORD": "Grafana, user admin",
    "POSTGRES_PASSWORD": "PostgreSQL, user voltgate (profile postgres)",
    "MINIO_ROOT_PASSWORD": "MinIO, user voltgate (profile minio)",
}
OPENSEARCH_USERS = {
    "admin": ("OPENSEARCH_ADMIN_PASSWORD", "people who administer"),
    "kibanaserver": ("OPENSEARCH_DASHBOARDS_PASSWORD", "OpenSearch Dashboards itself"),
    "voltgate": ("OPENSEARCH_VOLTGATE_PASSWORD", "writes and reads the indices voltgate-*"),
}

HASH_ITERATIONS = 600_000
"""What OWASP's Password Storage Cheat Sheet asks of PBKDF2 with SHA-256, and OpenSearch's own default for it."""
HASH_BITS = 256
CERTIFICATE_DAYS = 730
OPENSSL_CONFIG = """\
[req]
distinguished_name = subject
prompt = no
[subject]
[ca]
basicConstraints = critical, CA:true, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[node]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:opensearch, DNS:localhost, IP:127.0.0.1
"""


class Refused(Exception):
    """Nothing was changed; the text says why and what to do."""


def make_password() -> str:
    """Return a random password that OpenSearch's rules accept: upper and lower case, a digit, a special character."""
    while True:
        password = "".join(secrets.choice(PASSWORD_ALPHABET) for _ in range(PASSWORD_LENGTH))
        classes = (str.isupper, str.islower, str.isdigit, lambda sign: sign in "-_.")
        # A program would read a leading dash as an option.
        if password[0].isalnum() and all(any(map(belongs, password)) for belongs in classes):
            return password


def password_hash(password: str, salt: bytes) -> str:
    """Return a password's hash as the security plugin stores it where its algorithm is pbkdf2.

    The form is that of password4j's compressed PBKDF2: `$3$` for SHA-256, iterations and bits in one number, salt, key.
    """
    key = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, HASH_ITERATIONS, HASH_BITS // 8)
    parameters = (HASH_ITERATIONS << 32) | HASH_BITS
    return f"$3${parameters}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


def env_text(passwords: dict[str, str]) -> str:
    """Return the text of `.env`."""
    lines = ["# Made by `make compose-env`, for docker-compose.yml alone. Secret: never commit or share it."]
    for name, password in passwords.items():
        lines += [f"# {PASSWORDS[name]}", f"{name}={password}"]
    return "\n".join(lines) + "\n"


def users_text(passwords: dict[str, str]) -> str:
    """Return the security plugin's internal_users.yml: our three users, and none of those that it ships with."""
    lines = ["# Made by `make compose-env`.", "_meta:", "  type: internalusers", "  config_version: 2"]
    for user, (name, description) in OPENSEARCH_USERS.items():
        hashed = password_hash(passwords[name], secrets.token_bytes(16))
        lines += [f"{user}:", f'  hash: "{hashed}"', "  reserved: false", f"  description: {description}"]
        if user == "admin":
            lines += ["  backend_roles:", "    - admin"]
    return "\n".join(lines) + "\n"


def make_certificates(directory: Path) -> None:
    """Write ca.pem, node.pem and node.key (PKCS #8) into an existing directory; the CA's own key is thrown away.

    So nobody can ever sign with it, and new certificates mean a new CA.

    Raises: Refused: There is no openssl, or it fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        config, ca_key, request = (Path(scratch) / name for name in ("openssl.cnf", "ca.key", "node.csr"))
        config.write_text(OPENSSL_CONFIG, "utf-8")
        ca, node, node_key = (directory / name for name in ("ca.pem", "node.pem", "node.key"))
        for key in (ca_key, node_key):
            _openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072", "-out", key)
        dated = ("-sha256", "-days", CERTIFICATE_DAYS)
        subject = ("-config", config, "-subj", "/O=Voltgate/CN=Voltgate compose CA")
        _openssl("req", "-x509", "-new", *dated, "-key", ca_key, *subject, "-extensions", "ca", "-out", ca)
        subject = ("-config", config, "-subj", "/O=Voltgate/CN=opensearch")
        _openssl("req", "-new", "-sha256", "-key", node_key, *subject, "-out", request)
        signed = ("-CA", ca, "-CAkey", ca_key, "-set_serial", f"0x{secrets.token_hex(15)}")
        named = ("-extfile", config, "-extensions", "node")
        _openssl("x509", "-req", *dated, "-in", request, *signed, *named, "-out", node)


def _openssl(*words: object) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        raise Refused("there is no openssl command to make certificates with; install the package openssl")
    done = subprocess.run([openssl, *map(str, words)], capture_output=True, text=True, check=False)  # noqa: S603 - no shell
    if done.returncode:
        raise Refused(f"openssl {words[0]} ended with exit code {done.returncode}: {done.stderr.strip()[-500:]}")


def write_all(root: Path) -> list[Path]:
    """Make `.env` and the private directory under `root`; return what was written.

    Raises: Refused: One of them is there already, or openssl fails; then nothing was changed.
    """
    env, private = root / ".env", root / PRIVATE
    for path in (env, private):
        if path.exists():
            raise Refused(
                f"{path} is there already and may be in use, so nothing was changed; to begin anew run"
                f" `docker compose down --volumes`, which deletes all data, then delete {env} and {private}"
            )
    passwords = {name: make_password() for name in PASSWORDS}
    private.parent.mkdir(parents=True, exist_ok=True)
    with _new_private(private) as fresh:
        (fresh / "internal_users.yml").write_text(users_text(passwords), "utf-8")
        _place(fresh, private)
    # Last and in one step: where it is, everything is. Not even for a moment may others read it.
    with os.fdopen(os.open(env, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(env_text(passwords))
    return [env, *sorted(private.iterdir())]


def renew_certificates(root: Path) -> list[Path]:
    """Replace the certificates under `root` and leave passwords alone; return what was written.

    Raises: Refused: There are none yet, or openssl fails; then nothing was changed.
    """
    private = root / PRIVATE
    if not private.is_dir():
        raise Refused(f"there is no {private} yet; run `make compose-env`")
    with _new_private(private) as fresh:
        written = sorted(fresh.iterdir())
        for path in written:
            path.chmod(0o644)
            path.replace(private / path.name)
    return [private / path.name for path in written]


@contextmanager
def _new_private(private: Path) -> Iterator[Path]:
    """Give a fresh directory with certificates beside the private one; delete it at the end if it is still there."""
    fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=private.parent))
    try:
        make_certificates(fresh)
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _place(fresh: Path, private: Path) -> None:
    for path in fresh.iterdir():
        path.chmod(0o644)
    fresh.rename(private)


def main() -> int:
    """Run the command line; return its exit code: 0 made, 1 refused."""
    parser = argparse.ArgumentParser(description="Make passwords and certificates for docker-compose.yml.")
    parser.add_argument("--certificates", action="store_true", help="make only the certificates, anew")
    parser.add_argument("--root", type=Path, default=ROOT, help="directory of docker-compose.yml (default: this one's)")
    arguments = parser.parse_args()
    try:
        written = renew_certificates(arguments.root) if arguments.certificates else write_all(arguments.root)
    except Refused as refused:
        sys.stderr.write(f"compose-env: {refused}\n")
        return 1
    sys.stderr.write("".join(f"made {path}\n" for path in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""One receiver of `alerts.yaml`: its kind, its address, and its secrets, which the file may only name."""

import base64
import binascii
import re
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from gateway.core.errors import ConfigError
from gateway.core.limits import MAIL_ADDRESSES_MAX
from gateway.core.text import peer_text
from processors.contracts.file import nearest
from processors.contracts.places import Located, Path
from processors.contracts.units import duration_s
from processors.notices.config import KINDS, PAGERDUTY_URL, Kind, Network, Receiver, Smtp, Tls
from processors.notices.file import ReceiverFile, SmtpFile

ReadSecret = Callable[[Literal["env", "file"], str], str]
"""Reads a secret: from an environment variable (LookupError: it is not set) or a file (OSError, ValueError)."""

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}")
_MAIL: Final = re.compile(r"[^@\s<>,;\"]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[?[0-9a-fA-F:]+\]?")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_OWN_HEADERS: Final = frozenset({"host", "content-length", "content-type", "transfer-encoding", "connection"})
_REQUEST: Final = frozenset({"headers", "allow_private", "insecure", "rate_per_minute", "timeout"})
_KEYS: Final[dict[Kind, frozenset[str]]] = {
    "webhook": _REQUEST | {"secret", "old_secret"},
    "slack": _REQUEST,
    "teams": _REQUEST,
    "pagerduty": _REQUEST | {"url"},
    "email": frozenset({"smtp", "allow_private", "rate_per_minute", "timeout"}),
}
_TLS: Final[dict[str, Tls]] = {"starttls": "starttls", "tls": "tls", "none": "none"}
_SMTP_PORTS: Final[dict[Tls, int]] = {"starttls": 587, "tls": 465, "none": 25}
_SECRET_BYTES: Final = (24, 64)
"""Length of a signing secret, from Standard Webhooks 1.0.0."""
_TIMEOUT_S_MAX: Final = 60.0
_RATE_MAX: Final = 6000.0


def read_receiver(name: str, written: ReceiverFile, located: Located, read_secret: ReadSecret) -> Receiver:
    """Return a receiver. Raises: ConfigError: Something in it does not fit together, or a secret cannot be read."""
    return _Reader(name, written, located, read_secret).receiver()


class _Reader:
    def __init__(self, name: str, written: ReceiverFile, located: Located, read_secret: ReadSecret) -> None:
        self._name, self._written, self._located, self._read_secret = name, written, located, read_secret
        self._place: Path = ("receivers", name)

    def receiver(self) -> Receiver:
        written = self._written
        if not _NAME.fullmatch(self._name):
            mend = "use letters, digits, '.', '_' and '-', at most 63"
            raise self._error((), f"'{peer_text(self._name)}' is no name of a receiver", mend)
        kind = self._kind()
        networks = tuple(self._network(text, i) for i, text in enumerate(written.allow_private or ()))
        insecure = bool(written.insecure)
        url: SecretStr | None = None
        to: tuple[str, ...] = ()
        smtp: Smtp | None = None
        if kind == "email":
            to, smtp = self._addresses(), self._smtp()
            self._is_allowed(smtp.host, networks, ("smtp", "host"))
        else:
            url = SecretStr(self._url(kind, networks, insecure=insecure))
        return Receiver(
            name=self._name,
            kind=kind,
            url=url,
            secrets=self._signing_secrets() if kind == "webhook" else (),
            routing_key=SecretStr(self._secret(("pagerduty",))) if kind == "pagerduty" else None,
            headers={header: self._header(header, value) for header, value in (written.headers or {}).items()},
            allow_private=networks,
            insecure=insecure,
            rate_per_minute=self._rate(),
            timeout_s=self._timeout(),
            to=to,
            smtp=smtp,
        )

    def _kind(self) -> Kind:
        given: list[str] = [name for name in ReceiverFile.model_fields if self._located.has((*self._place, name))]
        kinds = [kind for kind in KINDS if kind in given]
        if len(kinds) != 1:
            what = f"is of {len(kinds)} kinds: {', '.join(kinds)}" if kinds else "does not say how it is reached"
            raise self._error((), what, f"write one of {', '.join(KINDS)}")
        kind = kinds[0]
        for key in given:
            if key != kind and key not in _KEYS[kind]:
                mend = f"delete it; {kind} takes {', '.join(sorted(_KEYS[kind]))}"
                raise self._error((key,), f"has no meaning for {kind}", mend)
        return kind

    # ---- addresses ---------------------------------------------------------------------------------------------------
    def _url(self, kind: Kind, networks: tuple[Network, ...], *, insecure: bool) -> str:
        key = "url" if kind == "pagerduty" else kind
        value = getattr(self._written, key)
        if kind == "pagerduty":
            url = self._written.url or PAGERDUTY_URL
        elif kind == "webhook" and isinstance(value, str):
            url = value
        else:
            # The address of a chat channel is its password: who has it may post.
            url = self._secret((key,))
        try:
            parts = urlsplit(url)
            host, user, _ = parts.hostname, parts.username, parts.port
        except ValueError:
            host, user = None, None
        if not host or parts.scheme not in {"http", "https"} or not _HOST.fullmatch(host) or not url.isprintable():
            raise self._error((key,), "is no address of a web server", "write one such as https://ops.example.org/hook")
        if user is not None:
            mend = "delete it, and name it under 'headers' as {env: NAME} or {file: PATH}"
            raise self._error((key,), "has a user or password in its address", mend)
        if parts.scheme == "http" and not (insecure or networks):
            mend = "write https, allow_private for a network of yours, or insecure: true"
            raise self._error((key,), f"'{peer_text(host)}' would be sent to without encryption", mend)
        self._is_allowed(host, networks, (key,))
        return url

    def _is_allowed(self, host: str, networks: tuple[Network, ...], place: Path) -> None:
        """Refuse at once what is refused when sending: an address that is not public. Names are looked at then."""
        text = "127.0.0.1" if host.lower() == "localhost" else host.strip("[]")
        try:
            address = ip_address(text)
        except ValueError:
            return
        if not address.is_global and not any(address in network for network in networks):
            mend = f"add allow_private: [{address}/{address.max_prefixlen}]"
            raise self._error(place, f"{peer_text(host)} is not on the public internet", mend)

    def _network(self, text: str, i: int) -> Network:
        try:
            return ip_network(text)
        except ValueError as exc:
            mend = "write it as in 10.0.0.0/8, without host bits"
            raise self._error(("allow_private", i), f"'{peer_text(text)}' is no network", mend) from exc

    def _addresses(self) -> tuple[str, ...]:
        texts = self._written.email or []
        if not 1 <= len(texts) <= MAIL_ADDRESSES_MAX:
            raise self._error(("email",), f"names {len(texts)} addresses", f"write 1 to {MAIL_ADDRESSES_MAX}")
        return tuple(self._mail(text, ("email", i)) for i, text in enumerate(texts))

    def _mail(self, text: str, place: Path) -> str:
        if not _MAIL.fullmatch(text) or not text.isprintable():
            raise self._error(place, f"'{peer_text(text)}' is no mail address", "write it as in ops@example.org")
        return text

    def _smtp(self) -> Smtp:
        written: SmtpFile | None = self._written.smtp
        if written is None:
            raise self._error((), "'smtp' is missing", "add 'smtp: {host: ..., from: ...}'")
        if not _HOST.fullmatch(written.host):
            raise self._error(("smtp", "host"), f"'{peer_text(written.host)}' is no host", "write a name or an address")
        if written.tls not in _TLS:
            mend = nearest(written.tls, list(_TLS))
            raise self._error(("smtp", "tls"), f"there is no tls '{peer_text(written.tls)}'", mend)
        tls = _TLS[written.tls]
        port = _SMTP_PORTS[tls] if written.port is None else written.port
        if not 1 <= port <= 65535:
            raise self._error(("smtp", "port"), f"{port} is no port", "write 1 to 65535")
        if (written.username is None) != (written.password is None):
            raise self._error(("smtp",), "'username' and 'password' belong together", "write both or neither")
        if written.password is not None and tls == "none":
            raise self._error(("smtp", "tls"), "the password would be sent in clear", "write starttls or tls")
        return Smtp(
            host=written.host,
            port=port,
            username=written.username,
            password=None if written.password is None else SecretStr(self._secret(("smtp", "password"))),
            tls=tls,
            sender=self._mail(written.sender, ("smtp", "from")),
        )

    # ---- secrets -----------------------------------------------------------------------------------------------------
    def _signing_secrets(self) -> tuple[SecretStr, ...]:
        if self._written.secret is None:
            mend = "add 'secret: {env: NAME}' with 32 random bytes in base64, as from: openssl rand -base64 32"
            raise self._error((), "'secret' is missing, with which its messages are signed", mend)
        keys = ("secret",) if self._written.old_secret is None else ("secret", "old_secret")
        return tuple(self._signing_secret((key,)) for key in keys)

    def _signing_secret(self, place: Path) -> SecretStr:
        text = self._secret(place)
        try:
            size = len(base64.b64decode(text.removeprefix("whsec_"), validate=True))
        except (binascii.Error, ValueError):
            size = 0
        low, high = _SECRET_BYTES
        if not low <= size <= high:
            mend = "make one with: openssl rand -base64 32"
            raise self._error(place, f"is not {low} to {high} bytes in base64", mend)
        return SecretStr(text)

    def _header(self, name: str, value: object) -> SecretStr:
        place: Path = ("headers", name)
        if not _HEADER.fullmatch(name) or name.lower() in _OWN_HEADERS or name.lower().startswith("webhook-"):
            raise self._error(place, f"'{peer_text(name)}' cannot be set", "choose another header")
        text = value if isinstance(value, str) and name.lower() != "authorization" else self._secret(place)
        if not text.isascii() or not text.isprintable():
            raise self._error(place, "has characters that a header cannot carry", "use printable ASCII")
        return SecretStr(text)

    def _secret(self, place: Path) -> str:
        """Return a secret that the file names; one that is written into it is an error, and never shown."""
        value = self._located.at((*self._place, *place))
        mend = "write {env: NAME} or {file: /path/to/a/file}"
        if isinstance(value, str | int | float):
            raise self._error(place, "is a secret and must not stand in this file", mend)
        [(source, name)] = value.items() if isinstance(value, dict) and len(value) == 1 else [("", None)]
        if source not in ("env", "file") or not isinstance(name, str) or not name:
            raise self._error(place, "does not say where the secret is", mend)
        try:
            text = self._read_secret("env" if source == "env" else "file", name).strip()
        except LookupError as exc:
            what = f"environment variable '{peer_text(name)}' is not set"
            raise self._error(place, what, "set it where Voltgate is started") from exc
        except OSError as exc:
            what = f"file '{peer_text(name)}' cannot be read: {exc.strerror}"
            raise self._error(place, what, "make it readable for this user") from exc
        except ValueError as exc:
            raise self._error(place, f"file '{peer_text(name)}' is no text", "save it as UTF-8") from exc
        if not text:
            raise self._error(place, f"'{peer_text(name)}' is empty", "put the secret there")
        return text

    # ---- numbers -----------------------------------------------------------------------------------------------------
    def _rate(self) -> float:
        rate = self._written.rate_per_minute
        if rate is None:
            return 60.0
        if not 0 < rate <= _RATE_MAX:
            raise self._error(("rate_per_minute",), f"{rate} is out of range", f"write a number up to {_RATE_MAX:g}")
        return float(rate)

    def _timeout(self) -> float:
        text = self._written.timeout
        if text is None:
            return 10.0
        try:
            timeout_s = duration_s(text)
        except ValueError as exc:
            raise self._error(("timeout",), f"'{peer_text(text)}' is not a span of time", "write '10 s'") from exc
        if not 1 <= timeout_s <= _TIMEOUT_S_MAX:
            raise self._error(("timeout",), f"{text} is out of range", f"write 1 s to {_TIMEOUT_S_MAX:g} s")
        return timeout_s

    def _error(self, place: Path, what: str, mend: str) -> ConfigError:
        return self._located.error((*self._place, *place), what, mend)

"""From text to settings: which layer wins, and where a mistake was made.

Layers, the later one wins: defaults, `voltgate.toml`, `conf.d/*.toml` beside it in name order, the environment
(`VOLTGATE__GATEWAY__MQTT__PORT=1884`), the command line. An unknown key or a value out of bounds is a `ConfigError`
that names file and line. Refuses to know where text comes from: files, environment and secrets are arguments.
"""

import json
import re
import tomllib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr, ValidationError

from gateway.core.errors import ConfigError
from gateway.core.limits import CONFIG_BYTES_MAX
from gateway.core.settings import ENVIRONMENT_PREFIX, Settings

COMMAND_LINE: Final = "command line"

KeyPath = tuple[str | int, ...]


class ConfigText(NamedTuple):
    """One TOML document and the file name to show in errors."""

    file: str
    text: str


class _Layer(NamedTuple):
    """One origin of values; `text` is empty where there are no lines to point at."""

    file: str
    text: str
    values: dict[str, Any]


def parse_settings(
    documents: Sequence[ConfigText],
    environ: Mapping[str, str],
    *,
    overrides: Mapping[str, object] | None = None,
    read_secret: Callable[[Path], str] | None = None,
) -> Settings:
    """Return the settings of all layers together, or the first mistake.

    Args:
        documents: TOML texts, the later one wins.
        environ: The process environment; only names with the prefix `VOLTGATE__` are read.
        overrides: Dotted setting to value, from the command line.
        read_secret: Returns the text of a secret's file; an `OSError` becomes a `ConfigError`.

    Raises:
        ConfigError: A document is no TOML, a setting is unknown, out of bounds or unsafe, or a secret cannot be read.
    """
    layers = [_document_layer(document) for document in documents]
    layers += [
        _environment_layer(name, environ[name]) for name in sorted(environ) if name.startswith(ENVIRONMENT_PREFIX)
    ]
    layers += [_nested_layer(COMMAND_LINE, name.split("."), value) for name, value in (overrides or {}).items()]
    merged: dict[str, Any] = {}
    for layer in layers:
        if layer.text:
            _refuse_plain_secrets(layer)
        _merge(merged, layer.values)
    try:
        settings = Settings.model_validate(_with_secrets(merged, layers, read_secret))
    except ValidationError as exc:
        raise _config_error(exc, layers) from None
    _refuse_open_listeners(settings, layers)
    _refuse_half_of_tls(settings, layers)
    _refuse_half_of_opensearch(settings, layers)
    return settings


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a listener on `host`; a name other than localhost counts as open."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# ---- layers ----------------------------------------------------------------------------------------------------------
def _document_layer(document: ConfigText) -> _Layer:
    size_bytes = len(document.text)
    if size_bytes > CONFIG_BYTES_MAX:
        what = f"the file has {size_bytes} characters, limit is {CONFIG_BYTES_MAX}"
        raise ConfigError(document.file, 0, what, "is this the right file?")
    try:
        return _Layer(document.file, document.text, tomllib.loads(document.text))
    except tomllib.TOMLDecodeError as exc:
        found = re.search(r"\(at line (\d+), column \d+\)", str(exc))
        line = int(found[1]) if found else document.text.count("\n") + 1
        why = re.sub(r" \(at .*\)$", "", str(exc))
        raise ConfigError(document.file, line, f"not TOML: {why}", "see https://toml.io for the syntax") from exc


def _environment_layer(name: str, text: str) -> _Layer:
    keys = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
    value: object = text
    if tuple(keys) in _list_paths():
        try:
            value = json.loads(text)
        except ValueError as exc:
            mend = """write a list, ["a"] or [{"pattern": "a"}]"""
            raise ConfigError(name, 0, f"not JSON: {exc}", mend) from exc
    return _nested_layer(name, keys, value)


def _nested_layer(file: str, keys: Sequence[str], value: object) -> _Layer:
    values: Any = value
    for key in reversed(keys):
        values = {key: values}
    return _Layer(file, "", values)


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            # A table does not mend a layer below that wrote something else there: the model then refuses that layer.
            inner = into.setdefault(key, {})
            if isinstance(inner, dict):
                into[key] = dict(inner)
                _merge(into[key], value)
        else:
            into[key] = value


# ---- secrets ---------------------------------------------------------------------------------------------------------
def _paths(model: type[BaseModel] = Settings, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield path and type of every setting."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _paths(field.annotation, (*path, name))
        else:
            yield (*path, name), field.annotation


def _secret_paths() -> set[tuple[str, ...]]:
    """Return the path of every setting that must never be in a file that people copy, or in a log."""
    return {path for path, annotation in _paths() if SecretStr in get_args(annotation)}


def _list_paths() -> set[tuple[str, ...]]:
    """Return the path of every setting that is a list."""
    return {path for path, annotation in _paths() if get_origin(annotation) is tuple}


def _refuse_plain_secrets(layer: _Layer) -> None:
    for path in sorted(_secret_paths()):
        if _has(layer.values, path):
            name = ".".join(path)
            mend = f"write {path[-1]}_file = '/path/to/a/file', or set {ENVIRONMENT_PREFIX}{'__'.join(path).upper()}"
            raise ConfigError(layer.file, _line_of(layer, path), f"{name} is a secret and may not stand here", mend)


def _with_secrets(
    merged: dict[str, Any], layers: Sequence[_Layer], read_secret: Callable[[Path], str] | None
) -> dict[str, Any]:
    """Return the values with every secret that a `*_file` names read from it; the environment's own value wins."""
    for path in sorted(_secret_paths()):
        path_file = (*path[:-1], f"{path[-1]}_file")
        if read_secret is None or _has(merged, path) or not _has(merged, path_file):
            continue
        section = merged
        for key in path[:-1]:
            section = section[key]
        file = section[path_file[-1]]
        if isinstance(file, str):
            try:
                section[path[-1]] = read_secret(Path(file)).strip()
            except (OSError, UnicodeDecodeError) as exc:
                what = f"{'.'.join(path_file)} = {file!r} cannot be read: {exc}"
                raise _error_at(layers, path_file, what, "make it readable for this user") from exc
    return merged


# ---- errors ----------------------------------------------------------------------------------------------------------
def _has(values: object, path: KeyPath) -> bool:
    for key in path:
        if isinstance(values, dict):
            values = values.get(key)
        elif isinstance(values, list) and isinstance(key, int):
            values = values[key] if key < len(values) else None
        else:
            return False
    return values is not None  # neither TOML nor JSON of ours has a null


def _line_of(layer: _Layer, path: KeyPath) -> int:
    """Return the line, from 1, of the statement that first sets `path`.

    `tomllib` keeps no places, but a document cut after a whole statement is a document. The search halves the
    lines: the first line after which the rest of its statement makes `path` appear is the one.
    """
    lines = layer.text.splitlines(keepends=True)

    def appears_by(end: int) -> bool:
        for whole in range(end, len(lines) + 1):
            try:
                return _has(tomllib.loads("".join(lines[:whole])), path)
            except tomllib.TOMLDecodeError:
                continue
        return False

    return bisect_left(range(len(lines) + 1), 1, key=appears_by)


def _error_at(layers: Sequence[_Layer], path: KeyPath, what: str, mend: str) -> ConfigError:
    """Return the error placed where `path`, or the nearest table around it, was set last."""
    for length in range(len(path), 0, -1):
        for layer in reversed(layers):
            if _has(layer.values, path[:length]):
                line = _line_of(layer, path[:length]) if layer.text else 0
                return ConfigError(layer.file, line, what, mend)
    return ConfigError("default", 0, what, mend)


def _config_error(exc: ValidationError, layers: Sequence[_Layer]) -> ConfigError:
    # An unknown key is the likelier cause where a known one is missing.
    error = min(exc.errors(include_url=False), key=lambda error: error["type"] != "extra_forbidden")
    path: KeyPath = error["loc"]
    name = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")
    if error["type"] == "extra_forbidden":
        known = _known_keys(path[:-1])
        nearest = get_close_matches(str(path[-1]), known, n=1)
        mend = f"did you mean {nearest[0]!r}?" if nearest else f"known here: {', '.join(known)}"
        return _error_at(layers, path, f"unknown setting {name!r}", mend)
    if error["type"] == "missing":
        return _error_at(layers, path, f"{name!r} is missing", "add it")
    shown = "a secret" if path in _secret_paths() else repr(error["input"])[:80]
    mend = error["msg"].replace("Input", "it").replace("String", "it")
    return _error_at(layers, path, f"{name} is {shown}", mend)


def _known_keys(path: KeyPath) -> list[str]:
    """Return the settings that exist in the table at `path`."""
    model: type[BaseModel] = Settings
    for key in path:
        if isinstance(key, str):
            annotation = model.model_fields[key].annotation
            inner = annotation if isinstance(annotation, type) else get_args(annotation)[0]
            model = inner
    return list(model.model_fields)


def _refuse_open_listeners(settings: Settings, layers: Sequence[_Layer]) -> None:
    """Refuse a listener that other machines reach in clear text, unless told so in as many words."""
    gateway = settings.gateway
    if gateway.insecure:
        return
    private = "or start with --insecure if the network itself is private"
    proxy = f"this listener has no TLS yet: bind 127.0.0.1 behind a TLS proxy, {private}"
    own = f"leave it out and open gateway.ocpp.tls_host with tls_port and certificates, {private}"
    hosts: list[tuple[KeyPath, str, bool, str]] = [
        (("gateway", "mqtt", "host"), gateway.mqtt.host, gateway.mqtt.allow_anonymous, proxy),
        (("gateway", "ocpp", "host"), gateway.ocpp.host, gateway.ocpp.allow_unauthenticated, own),
        (("observe", "host"), settings.observe.host, False, proxy),
    ]
    for path, host, anonymous, mend in hosts:
        if not is_loopback(host):
            name = ".".join(str(key) for key in path)
            what = f"{name} = {host!r} lets other machines connect without TLS"
            if anonymous:
                what += " and without a password"
            raise _error_at(layers, path, what, mend)


def _refuse_half_of_tls(settings: Settings, layers: Sequence[_Layer]) -> None:
    """Refuse settings of TLS that are there without what they need, or that nothing uses."""
    ocpp = settings.gateway.ocpp
    has_tls, has_ca = ocpp.tls_port is not None, ocpp.client_ca_file is not None
    certificates = "add [[gateway.ocpp.certificates]] with certificate_file and key_file"
    tls_port, client_ca = "add gateway.ocpp.tls_port, or leave it out", "add client_ca_file, or leave it out"
    same_port = has_tls and ocpp.port == ocpp.tls_port != 0
    halves: list[tuple[bool, str, str, str]] = [
        (has_tls and not ocpp.certificates, "tls_port", "needs a certificate", certificates),
        (bool(ocpp.certificates) and not has_tls, "certificates", "is used by no listener", tls_port),
        (has_ca and not has_tls, "client_ca_file", "is used by no listener", tls_port),
        (
            ocpp.client_crl_file is not None and not has_ca,
            "client_crl_file",
            "revokes nobody's certificates",
            client_ca,
        ),
        (
            ocpp.certificate_organization is not None and not has_ca,
            "certificate_organization",
            "is in nobody's certificate",
            client_ca,
        ),
        (same_port, "tls_port", "is the port of clear text too", "take two ports"),
    ]
    for is_wrong, key, what, mend in halves:
        if is_wrong:
            raise _error_at(layers, ("gateway", "ocpp", key), f"gateway.ocpp.{key} {what}", mend)


def _refuse_half_of_opensearch(settings: Settings, layers: Sequence[_Layer]) -> None:
    """Refuse what the search cluster would never hear, or what others would."""
    search = settings.opensearch
    has_user, has_certificate = search.user is not None, search.client_certificate_file is not None
    has_password = search.password is not None or search.password_file is not None
    hosts = [urlsplit(url) for url in search.urls]
    clear = [host.hostname or "" for host in hosts if host.scheme == "http" and not is_loopback(host.hostname or "")]
    is_known = has_user or search.aws_region is not None
    mend = "write https://, or set opensearch.insecure if the network itself is private"
    mistakes: list[tuple[bool, str, str, str]] = [
        (
            bool(clear) and is_known and not search.insecure,
            "url",
            f"sends credentials to {', '.join(clear)} without TLS",
            mend,
        ),
        (
            has_certificate and any(host.scheme == "http" for host in hosts),
            "client_certificate_file",
            "is shown to nobody without TLS",
            "write https:// in opensearch.url, or leave it out",
        ),
        (has_user and not has_password, "user", "needs a password", "add opensearch.password_file"),
        (
            has_password and not has_user,
            "password_file",
            "is nobody's password",
            "add opensearch.user, or leave it out",
        ),
        (
            search.client_key_file is not None and not has_certificate,
            "client_key_file",
            "is the key of no certificate",
            "add opensearch.client_certificate_file, or leave it out",
        ),
        (
            has_user and search.aws_region is not None,
            "aws_region",
            "signs what opensearch.user proves already",
            "write one of the two",
        ),
    ]
    for is_wrong, key, what, mend in mistakes:
        if is_wrong:
            raise _error_at(layers, ("opensearch", key), f"opensearch.{key} {what}", mend)

"""What every program of an installation needs before it starts: settings, the registry, armed failpoints, exit codes.

Reads files; the environment is an argument.
"""

import itertools
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.core.errors import ConfigError
from gateway.core.failpoints import Failpoint, FailpointHook, no_failpoint
from gateway.core.settings import Settings
from gateway.core.settings_layers import ConfigText, parse_settings

if TYPE_CHECKING:
    from gateway.registry.devices import Registry

EXIT_OK, EXIT_FAILED, EXIT_CONFIG = 0, 1, 3
FAILPOINT_VARIABLE: Final = "VOLTGATE_FAILPOINT"


def load_settings(
    path: Path | None, environ: Mapping[str, str], *, overrides: Mapping[str, object] | None = None
) -> Settings:
    """Return the settings of a TOML file, of `conf.d/*.toml` beside it, the environment and the command line.

    Args:
        path: The file; None for none. The command line's `--config`.
        environ: The process environment.
        overrides: Dotted setting to value, stronger than everything else.

    Raises:
        ConfigError: With file and line, what is wrong and what to write.
    """
    paths = [] if path is None else [path, *sorted((path.parent / "conf.d").glob("*.toml"))]
    documents = [ConfigText(str(file), _read_text(file)) for file in paths]
    return parse_settings(documents, environ, overrides=overrides, read_secret=lambda file: file.read_text("utf-8"))


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as exc:
        raise ConfigError(str(path), 0, f"cannot be read: {exc.strerror}", "give --config a readable file") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(str(path), 0, f"is not UTF-8 at byte {exc.start}", "save it as UTF-8") from exc


def open_registry(settings: Settings) -> "Registry":
    """Return an installation's device registry; the caller closes it. Raises: RegistryError: It does not answer."""
    from gateway.registry.devices import Registry

    password = settings.registry.password
    return Registry(
        settings.registry.url or settings.data / "registry.sqlite",
        password=password.get_secret_value() if password else None,
    )


def failpoint_hook(environ: Mapping[str, str]) -> FailpointHook:
    """Return what kills this process at the nth hit of a failpoint, where VOLTGATE_FAILPOINT=name:nth says so."""
    text = environ.get(FAILPOINT_VARIABLE)
    if not text:
        return no_failpoint
    name, _, nth = text.partition(":")
    if name not in set(Failpoint) or not (nth.isascii() and nth.isdecimal() and int(nth) > 0):
        names = ", ".join(Failpoint)
        raise ConfigError(FAILPOINT_VARIABLE, 0, f"{text!r} is no failpoint", f"write NAME:NTH with one of {names}")
    hits = itertools.count(1)

    def hook(failpoint: Failpoint) -> None:
        if failpoint == name and next(hits) == int(nth):
            os.kill(os.getpid(), signal.SIGKILL)

    return hook

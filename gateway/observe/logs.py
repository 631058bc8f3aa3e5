"""Diagnostics as structured events on stderr: a name and fields, JSON for machines or aligned text for people.

Everything in a field is made inert here, so a peer's text can neither forge a line nor colour a terminal, and secrets
are replaced by name and by value.
"""

import contextlib
import sys
from collections.abc import Collection, MutableMapping
from typing import Any, Final, Literal, TextIO, cast

import structlog

from gateway.core.text import peer_text

REDACTED: Final = "[redacted]"
TRACEBACK_LINES_MAX: Final = 60
_SECRET_NAMES: Final = ("password", "secret", "token", "authorization", "credential", "api_key", "private_key")
_SECRET_CHARS_MIN: Final = 6
"""A shorter secret is not replaced by value: it would eat parts of ordinary words. By name it is."""

EventDict = MutableMapping[str, Any]


Logger = structlog.typing.FilteringBoundLogger
"""What components are given to log with: `log.info("event_name", field=value)`."""


def make_logger(
    *,
    form: Literal["json", "console"] = "json",
    level: Literal["debug", "info", "warning", "error"] = "info",
    secrets: Collection[str] = (),
    stream: TextIO | None = None,
    **context: str,
) -> Logger:
    """Return a logger of its own; nothing global is configured.

    Args:
        form: One JSON object a line, or text.
        level: Events below it are not built.
        secrets: Values that are replaced wherever they appear.
        stream: Where lines go; stderr when left out.
        context: Fields of every event, such as `process="gateway"`.
    """
    stream = sys.stderr if stream is None else stream
    renderer = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)
    )
    logger: Logger = structlog.wrap_logger(
        structlog.WriteLogger(cast("TextIO", _Unfailing(stream))),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            make_inert,
            Redactor(secrets),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        context_class=dict,
    )
    return logger.bind(**context)


class _Unfailing:
    """A stream that loses a line where its disk is full or its reader is gone: that must not end the process."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def make_inert(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Make every text of an event printable, capped and on one line; a traceback keeps its lines."""
    for name, value in event.items():
        if name == "exception":
            lines = str(value).splitlines()[-TRACEBACK_LINES_MAX:]
            event[name] = "\n".join(peer_text(line, chars_max=500) for line in lines)
        else:
            event[name] = _inert(value)
    return event


def _inert(value: object) -> object:
    match value:
        case None | bool() | int() | float():
            return value
        case dict():
            return {peer_text(str(key)): _inert(inner) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_inert(inner) for inner in value]
        case bytes():
            return peer_text(value)
        case _:
            return peer_text(str(value), chars_max=1000)


class Redactor:
    """Replaces secrets in an event, by the field's name and by the value wherever it appears.

    Args:
        secrets: Values that must never be written.
    """

    def __init__(self, secrets: Collection[str]) -> None:
        self._secrets = sorted((s for s in secrets if len(s) >= _SECRET_CHARS_MIN), key=len, reverse=True)

    def __call__(self, _logger: object, _method: str, event: EventDict) -> EventDict:
        """Return the event without secrets."""
        return {name: self._redacted(name, value) for name, value in event.items()}

    def _redacted(self, name: str, value: Any) -> Any:
        # A number by such a name is a count of refusals, `wrong_password`, not a secret.
        if not isinstance(value, int | float) and any(word in name.lower() for word in _SECRET_NAMES):
            return REDACTED
        match value:
            case str():
                for secret in self._secrets:
                    value = value.replace(secret, REDACTED)
                return value
            case dict():
                return {key: self._redacted(str(key), inner) for key, inner in value.items()}
            case list():
                return [self._redacted("", inner) for inner in value]
            case _:
                return value

"""Settings in, programs out: what runs in which process, and what the gateway must know of the contracts."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from gateway.configuration import load_settings
from gateway.core.settings import Settings
from voltgate.supervise import Child


def load(config: Path | None, data: Path | None, overrides: Mapping[str, object] | None = None) -> Settings:
    """Return the settings of file, environment and command line. Raises: ConfigError: One of them is wrong."""
    given = dict(overrides or {})
    if data is not None:
        given["data"] = str(data)
    return load_settings(config, os.environ, overrides=given)


def with_contract_topics(settings: Settings) -> Settings:
    """Return settings whose gateway also listens on the topic patterns that contracts name.

    Raises: ConfigError: A contract is wrong; nothing was started.
    """
    from processors.stores import contracts_of

    contracts = contracts_of(settings)
    mqtt = settings.gateway.mqtt
    known = {topic.pattern for topic in mqtt.topics}
    extra = [
        {"pattern": pattern, "channel": channel}
        for pattern, channel in contracts.patterns()
        if pattern not in known and channel is not None
    ]
    if not extra:
        return settings
    dump = settings.model_dump()
    dump["gateway"]["mqtt"]["topics"] = [*dump["gateway"]["mqtt"]["topics"], *extra]
    return Settings.model_validate(dump)


def children(settings: Settings, config: Path | None = None) -> list[Child]:
    """Return the programs of one installation, in the order data flows; they read `config` again at SIGHUP."""
    environ = _environ(with_contract_topics(settings), config)
    arguments = _arguments(config)
    programs = [
        Child("gateway", ["-m", "gateway", *arguments], environ=environ, reloads=True),
        Child("processors", ["-m", "processors", *arguments], environ=environ, reloads=True),
    ]
    if settings.processors.kpi_interval_s and settings.has_local_lake:
        # A process of its own: seconds of computing must not make an alert wait, and its memory is given back.
        argv = ["-m", "voltgate", "kpi", "run", "--json", *arguments]
        programs.append(Child("kpi", argv, environ=environ, every_s=settings.processors.kpi_interval_s))
    return programs


def become(settings: Settings, program: str, *arguments: str, config: Path | None = None) -> NoReturn:
    """Become one program: same process id, so that a service manager signals the right one."""
    argv = [sys.executable, "-m", program, *_arguments(config), *arguments]
    os.execve(sys.executable, argv, _environ(with_contract_topics(settings), config))  # noqa: S606 - our own interpreter, no shell


def _arguments(config: Path | None) -> list[str]:
    return ["--config", str(config)] if config else []


def _environ(settings: Settings, config: Path | None) -> dict[str, str]:
    """Return our environment and what the programs cannot know from it and from the file."""
    return {**os.environ, **settings.to_environ(unlike=load_settings(config, os.environ))}

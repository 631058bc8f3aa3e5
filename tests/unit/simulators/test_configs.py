"""A run that makes no sense is refused in words, before anything connects."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from simulators.__main__ import main
from simulators.load import LoadConfig, run_load
from simulators.replay import ReplayConfig, run_replay
from simulators.target import SimulationError, Target
from simulators.vehicles.fleet import VehiclesConfig, run_vehicles

NOWHERE = Target(port=1)


def run_of(config: LoadConfig | ReplayConfig | VehiclesConfig) -> Coroutine[Any, Any, object]:
    stop = asyncio.Event()
    match config:
        case LoadConfig():
            return run_load(config, stop=stop)
        case ReplayConfig():
            return run_replay(config, stop=stop)
        case _:
            return run_vehicles(config, stop=stop)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (LoadConfig(target=NOWHERE, window=0), "window is 0; give 1 to 65535"),
        (LoadConfig(target=NOWHERE, window=65_536), "window is 65536"),
        (LoadConfig(target=NOWHERE, connections=0), "connections is 0"),
        (LoadConfig(target=NOWHERE, rate_per_s=0.0), "rate is 0"),
        (ReplayConfig(target=NOWHERE, files=(), window=0), "window is 0"),
        (ReplayConfig(target=NOWHERE, files=(), speed=-1.0), "speed -1"),
        (VehiclesConfig(target=NOWHERE, pace=2.0), "seconds is not given"),
        (VehiclesConfig(target=NOWHERE, pace=0.0, seconds=1.0), "pace is 0"),
        (VehiclesConfig(target=NOWHERE, buses=0, cars=0), "the fleet is empty"),
    ],
)
def test_senseless_run_is_refused_in_words(config: LoadConfig | ReplayConfig | VehiclesConfig, words: str):
    """The value, and what to give instead."""
    with pytest.raises(SimulationError, match=words):
        asyncio.run(run_of(config))


def test_command_line_refuses_what_is_no_probability(capsys: pytest.CaptureFixture[str]):
    """Usage errors exit with 2."""
    with pytest.raises(SystemExit) as ended:
        main(["vehicles", "--garbage", "1.5"])
    assert ended.value.code == 2
    assert "'1.5' is no probability" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["nonsense", '{"bus-001": "password"}', '{"bus-001": ["only a name"]}'])
def test_unusable_credentials_file_is_named_with_its_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
):
    """The run fails with 1 and says what to write."""
    file = tmp_path / "credentials.json"
    file.write_text(content)
    assert main(["load", "--credentials", str(file)]) == 1
    said = capsys.readouterr().err
    assert str(file) in said
    assert '["username", "password"]' in said

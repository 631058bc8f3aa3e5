"""Contract files from directories: the built-in ones and a user's."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from gateway.core.errors import ConfigError
from gateway.core.ids import Channel
from gateway.core.limits import CONFIG_BYTES_MAX
from processors.contracts.file import read_contract_file
from processors.contracts.model import DEFAULT_TOPIC, Contract
from processors.contracts.places import Located
from processors.contracts.resolve import resolve
from processors.contracts.rule_check import check_rules

BUILT_IN: Final = Path(__file__).parent
"""Directory of the contracts that come with Voltgate."""


class ContractSet:
    """The contracts of one run: one per stream, channel and topic."""

    def __init__(self, contracts: Iterable[Contract]) -> None:
        """Take the contracts. Raises: ConfigError: Two of them share a stream, a channel or a topic."""
        self._by_stream: dict[str, Contract] = {}
        self._by_channel: dict[Channel, Contract] = {}
        for contract in contracts:
            same_topic = [other for other in self if contract.topic is not None and other.topic == contract.topic]
            other = next(iter(same_topic), None)
            other = other or self._by_stream.get(contract.stream) or self._by_channel.get(contract.channel)
            if other:
                what = f"stream '{contract.stream}' on channel '{contract.channel}' is already in {other.file}"
                raise ConfigError(contract.file, 1, what, "rename it, or change its topic")
            self._by_stream[contract.stream] = contract
            self._by_channel[contract.channel] = contract

    def __iter__(self) -> Iterator[Contract]:
        return iter(self._by_stream.values())

    def __len__(self) -> int:
        return len(self._by_stream)

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams, built in first, then in the order of their files."""
        return tuple(self._by_stream)

    def by_stream(self, stream: str) -> Contract | None:
        """Return the contract of that stream, or None."""
        return self._by_stream.get(stream)

    def by_channel(self, channel: str) -> Contract | None:
        """Return the contract whose messages arrive on that channel, or None."""
        return self._by_channel.get(Channel(channel))

    def patterns(self) -> list[tuple[str, str | None]]:
        """Return the topic patterns the gateway listens to, each with the channel it stands for.

        The first is the default grammar, whose remaining levels are the channel (None).
        """
        own = [(c.topic, str(c.channel)) for c in self if c.topic is not None and not c.topic.startswith(DEFAULT_TOPIC)]
        return [(DEFAULT_TOPIC + "{channel}", None), *own]


def load_contract(file: Path) -> Contract:
    """Return the contract in one file. Raises: ConfigError: It cannot be read or used."""
    try:
        if file.stat().st_size > CONFIG_BYTES_MAX:
            raise ConfigError(str(file), 0, f"is larger than {CONFIG_BYTES_MAX} bytes", "split the stream")
        text = file.read_text("utf-8")
    except UnicodeDecodeError as exc:
        raise ConfigError(str(file), 0, f"is not UTF-8 at byte {exc.start}", "save it as UTF-8") from exc
    except OSError as exc:
        raise ConfigError(
            str(file), 0, f"cannot be read: {exc.strerror}", "check the path and its permissions"
        ) from exc
    return parse_contract(text, file=str(file))


def parse_contract(text: str, *, file: str) -> Contract:
    """Return the contract in a text; `file` is named in errors. Raises: ConfigError: It cannot be used."""
    located = Located(file, text)
    contract = resolve(read_contract_file(located), located)
    check_rules([contract], is_complete=False)
    return contract


def load_contracts(directories: Sequence[Path]) -> ContractSet:
    """Return the built-in contracts and those of a user's directories (files `*.yaml` and `*.yml`, by name).

    Raises: ConfigError: A directory or file cannot be read, or a contract cannot be used.
    """
    files: list[Path] = []
    for directory in (BUILT_IN, *directories):
        if not directory.is_dir():
            raise ConfigError(str(directory), 0, "is not a directory", "name a directory of contract files")
        files += sorted(f for f in directory.iterdir() if f.suffix in {".yaml", ".yml"})
    contracts = ContractSet(load_contract(file) for file in files)
    check_rules(contracts)
    return contracts

"""YAML text to plain values that remember their lines, so that every error can name one.

The values are those of JSON plus dates as text: `N` and `on` stay text, `1:30` is no number. Anchors, tags and
duplicate keys are errors, because a contract has no use for the first two and the third is a mistake.
"""

import re
from typing import Final

import yaml

from gateway.core.errors import ConfigError
from gateway.core.text import peer_text

Path = tuple[str | int, ...]
Plain = None | bool | int | float | str | list["Plain"] | dict[str | int, "Plain"]

_INT: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})")
_FLOAT: Final = re.compile(r"[-+]?([0-9]*\.[0-9]+|[0-9]+\.?(?=[.eE]))([eE][-+]?[0-9]+)?")
_WORDS: Final[dict[str, bool | None]] = {"": None, "~": None, "null": None, "true": True, "false": False}
_DEPTH_MAX: Final = 12


class Located:
    """The value of one YAML document and the line of every place in it."""

    def __init__(self, file: str, text: str) -> None:
        """Read `text`. Raises: ConfigError: It is not YAML as described above."""
        self.file = file
        self._lines: dict[Path, int] = {(): 1}
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as exc:
            raise self._not_yaml(exc) from exc
        except RecursionError as exc:
            raise ConfigError(file, 0, "is nested too deep", f"write at most {_DEPTH_MAX} levels") from exc
        self._seen: set[int] = set()
        self.value: Plain = None if node is None else self._plain(node, ())

    def line(self, path: Path) -> int:
        """Return the line of the nearest known place at or above `path`."""
        while path not in self._lines:
            path = path[:-1]
        return self._lines[path]

    def has(self, path: Path) -> bool:
        """Tell whether the file has this place."""
        return path in self._lines

    def at(self, path: Path) -> Plain:
        """Return the value at a place of the file."""
        value = self.value
        for part in path:
            assert isinstance(value, dict | list)
            value = value[part]  # type: ignore[index]  # a list's part is an int, a dict's either
        return value

    def error(self, path: Path, what: str, mend: str) -> ConfigError:
        """Return the error for a place; `what` is prefixed with its path."""
        name = ".".join(str(part) for part in path if part != "?")
        return ConfigError(self.file, self.line(path), f"{name}: {what}" if name else what, mend)

    def _not_yaml(self, exc: yaml.YAMLError) -> ConfigError:
        mark = getattr(exc, "problem_mark", None)
        problem = peer_text(str(getattr(exc, "problem", None) or exc).strip())
        return ConfigError(
            self.file, mark.line + 1 if mark else 0, f"is not YAML: {problem}", "check indent and quotes"
        )

    def _plain(self, node: yaml.Node, path: Path) -> Plain:
        line = node.start_mark.line + 1
        self._lines.setdefault(path, line)
        if id(node) in self._seen or len(path) > _DEPTH_MAX:
            raise self.error(path, "repeats another place or is nested too deep", "write it out, without & and *")
        self._seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item, (*path, i)) for i, item in enumerate(node.value)]
        assert isinstance(node, yaml.MappingNode)
        return self._mapping(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str | int, Plain]:
        value: dict[str | int, Plain] = {}
        for key_node, value_node in node.value:
            self._lines[*path, "?"] = key_node.start_mark.line + 1
            key = self._scalar(key_node, (*path, "?")) if isinstance(key_node, yaml.ScalarNode) else None
            if isinstance(key, bool) or not isinstance(key, str | int):
                raise self.error((*path, "?"), "a key is neither a word nor a whole number", "quote it")
            if key in value:
                raise self.error((*path, "?"), f"'{peer_text(str(key))}' is there twice", "keep one of them")
            self._lines[*path, key] = key_node.start_mark.line + 1
            value[key] = self._plain(value_node, (*path, key))
        return value

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Plain:
        text: str = node.value
        if node.style is not None:
            return text
        if not node.tag.startswith("tag:yaml.org,2002:"):
            raise self.error(path, f"has the tag '{peer_text(node.tag)}'", "write plain values")
        if text.lower() in _WORDS:
            return _WORDS[text.lower()]
        if _INT.fullmatch(text):
            return int(text)
        return float(text) if _FLOAT.fullmatch(text) else text

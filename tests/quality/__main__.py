"""`python -m tests.quality nab|faults`: measure how good the alerts are, and write it down."""

import importlib
import sys
from typing import Final

COMMANDS: Final = {
    "nab": "the drift detector on the Numenta Anomaly Benchmark",
    "faults": "recall, lead time and false alerts over injected faults",
}


def main(arguments: list[str]) -> int:
    """Run one command; return its exit code."""
    if not arguments or arguments[0] not in COMMANDS:
        print("usage: python -m tests.quality COMMAND [--json]\n")
        for name, what in COMMANDS.items():
            print(f"  {name:8} {what}")
        return 2
    module = importlib.import_module(f"tests.quality.{arguments[0]}")
    return int(module.main(arguments[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

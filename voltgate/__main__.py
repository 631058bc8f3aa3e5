"""`voltgate` and `python -m voltgate`."""

import sys

from gateway.core.errors import ConfigError, VoltgateError
from voltgate.output import Exit, say


def main() -> int:
    """Run the command line and return the exit code; errors of ours become one line."""
    from voltgate.cli import app

    try:
        app()
    except ConfigError as exc:
        say(f"voltgate: {exc}")
        return Exit.CONFIG
    except VoltgateError as exc:
        say(f"voltgate: {exc}")
        return Exit.FAILED
    except BrokenPipeError:
        return Exit.OK  # the reader of our output, `head` for one, has seen enough
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Say whether the programs in this container are ready: exit code 0, or 1 and the reason. The image's health check.

    python ready.py [gateway] [processors]

Asks /readyz, which asks no other server: an outage of OpenSearch makes no container unhealthy.
"""

import os
import sys
import urllib.error
import urllib.request

PORT_OF = {"gateway": "VOLTGATE__OBSERVE__GATEWAY_PORT", "processors": "VOLTGATE__OBSERVE__PROCESSORS_PORT"}
TIMEOUT_S = 3.0


def why_not_ready(program: str) -> str | None:
    """Return None for a program that is ready, else what it answers, or that it does not."""
    url = f"http://127.0.0.1:{os.environ[PORT_OF[program]]}/readyz"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S):
            return None
    except urllib.error.HTTPError as refused:
        return refused.read(2000).decode(errors="replace").strip()
    except OSError as failed:
        return f"{url} does not answer: {failed}"


def main() -> int:
    """Ask each program that is named, or all; print why one is not ready."""
    reasons = {program: why_not_ready(program) for program in sys.argv[1:] or PORT_OF}
    for program, reason in reasons.items():
        if reason is not None:
            sys.stdout.write(f"{program}: {reason}\n")
    return int(any(reasons.values()))


if __name__ == "__main__":
    sys.exit(main())

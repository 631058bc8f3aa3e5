"""Skip or fail a test whose server or client is not on this machine."""

import os

import pytest


def require(name: str, available: object) -> None:
    """Return if `available` is true; else skip the test, or fail it where VOLTGATE_REQUIRE_SERVICES=1 demands all.

    Args:
        name: What is missing, as a user would install it.
        available: Whether it is here, or its path.
    """
    if available:
        return
    reason = f"{name} is not on this machine; install it to run this test"
    if os.environ.get("VOLTGATE_REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)

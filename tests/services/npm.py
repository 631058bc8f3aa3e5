"""Foreign clients and servers of the JavaScript world, from npm into a cache outside the tree."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

VERSIONS: Final = {"mqtt": "5.14.1", "ocpp-rpc": "2.2.1", "ocpp-ws-cli": "1.1.12"}
"""Packages the tests use, each pinned: a new version may ask other things of a server."""
_INSTALL_TIMEOUT_S: Final = 120


def cache(package: str) -> Path:
    """Return where a package is kept: below $VOLTGATE_CACHE, or the user's cache directory."""
    root = os.environ.get("VOLTGATE_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "voltgate") / f"npm-{package}-{VERSIONS[package]}"


def install(package: str) -> Path | None:
    """Return the node_modules directory that holds a package, after installing it if need be; None where that fails.

    Raises: KeyError: The package is not in VERSIONS.
    """
    directory = cache(package)
    modules = directory / "node_modules"
    marker = directory / "installed"
    if marker.exists():
        return modules
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return None
    directory.mkdir(parents=True, exist_ok=True)
    command = [
        npm,
        "install",
        "--prefix",
        str(directory),
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        f"{package}@{VERSIONS[package]}",
    ]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_INSTALL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode != 0:
        return None
    # Written last, so that an interrupted installation is not taken for one.
    marker.write_text(VERSIONS[package])
    return modules

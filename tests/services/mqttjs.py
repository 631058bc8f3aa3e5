"""MQTT.js, the client of the JavaScript world, from npm into a cache outside the tree."""

import os
import shutil
import subprocess
from pathlib import Path

VERSION = "5.14.1"
_INSTALL_TIMEOUT_S = 120


def cache() -> Path:
    """Return where it is kept: $VOLTGATE_CACHE, or the user's cache directory."""
    root = os.environ.get("VOLTGATE_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "voltgate") / f"mqttjs-{VERSION}"


def install() -> Path | None:
    """Return the directory whose node_modules holds MQTT.js, after installing it if need be; None where that fails."""
    directory = cache()
    marker = directory / "installed"
    if marker.exists():
        return directory
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
        f"mqtt@{VERSION}",
    ]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_INSTALL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode != 0:
        return None
    # Written last, so that an interrupted installation is not taken for one.
    marker.write_text(VERSION)
    return directory

"""Finds promtool, or unpacks it from Debian's package `prometheus` into the cache, without any right of root."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

NEEDS: Final = "promtool (Debian package `prometheus`)"
CACHE: Final = Path.home() / ".cache" / "voltgate" / "prometheus"


def find() -> str | None:
    """Return the path of promtool, None where it is neither installed nor in the cache."""
    kept = CACHE / "usr" / "bin" / "promtool"
    return str(kept) if kept.is_file() else shutil.which("promtool")


def install() -> str | None:
    """Unpack promtool unless it is there; return its path, None where Debian's packages cannot be had."""
    if (found := find()) is not None or shutil.which("apt-get") is None:
        return found
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE.parent) as directory:
        got = subprocess.run(
            ["apt-get", "download", "-qq", "prometheus"], cwd=directory, capture_output=True, check=False
        )
        packages = list(Path(directory).glob("prometheus_*.deb"))
        if got.returncode or not packages:
            return None
        unpacked = Path(directory) / "unpacked"
        subprocess.run(["dpkg", "-x", packages[0], unpacked], check=True)
        if not CACHE.exists():
            unpacked.rename(CACHE)
    return find()

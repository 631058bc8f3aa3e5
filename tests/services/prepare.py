"""Say which optional servers this machine has, and install the foreign clients a registry can give.

Runs before the tests. A missing server skips its tests with a line here, or fails when VOLTGATE_REQUIRE_SERVICES=1.
"""

import os
import shutil
import sys

from tests.services import npm, opensearch, promtool

NEEDED = {
    "mosquitto": "the comparison broker; Debian package `mosquitto`",
    "mosquitto_pub": "a foreign client; Debian package `mosquitto-clients`",
    "node": "runs the foreign clients from npm; Debian packages `nodejs npm`",
}


def main() -> int:
    """Return 0 when everything needed is there or may be missing, 1 otherwise."""
    required = os.environ.get("VOLTGATE_REQUIRE_SERVICES") == "1"
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    missing = {name: why for name, why in NEEDED.items() if shutil.which(name, path=path) is None}
    if "node" not in missing:
        packages = (package for package in npm.VERSIONS if npm.install(package) is None)
        missing |= {f"npm package {package}": "npm could not install it" for package in packages}
    if why := _opensearch_problem():
        missing[f"OpenSearch {opensearch.VERSION}"] = why
    if promtool.install() is None:
        missing["promtool"] = "Debian package `prometheus`"
    for name, why in missing.items():
        verdict = "required" if required else "its tests are skipped"
        sys.stderr.write(f"{name} is not on this machine ({why}): {verdict}\n")
    return 1 if missing and required else 0


def _opensearch_problem() -> str | None:
    """Return why OpenSearch cannot be started here; None after it was installed."""
    if not opensearch.available():
        return opensearch.why_not()
    try:
        opensearch.install()
    except RuntimeError as exc:
        return str(exc)
    return None


if __name__ == "__main__":
    raise SystemExit(main())

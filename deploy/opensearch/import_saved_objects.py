#!/usr/bin/env python3
"""Import saved objects into OpenSearch Dashboards, waiting until it is up. Safe to repeat: what is there is replaced.

    DASHBOARDS_URL=http://opensearch-dashboards:5601 DASHBOARDS_USER=admin DASHBOARDS_PASSWORD=... \
        python import_saved_objects.py FILE.ndjson...

Plain Python, so that it runs in any image that has one. Exit code 0: all were imported. 1: a file was refused, or
nothing answered in time.
"""

import base64
import json
import os
import secrets
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

WAIT_S = 300.0
RETRY_S = 3.0
TIMEOUT_S = 60.0
REFUSED = (400, 401, 403, 404, 413, 415)
"""Answers that stay the same however often one asks. Everything else may be a server that is still starting."""


class Refused(Exception):
    """An answer that waiting does not change."""


def request_of(url: str, name: str, content: bytes, authorization: str) -> urllib.request.Request:
    """Return the request that imports one file over what is there."""
    boundary = secrets.token_hex(16)
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
    body = f"{head}Content-Type: application/ndjson\r\n\r\n".encode() + content + f"\r\n--{boundary}--\r\n".encode()
    headers = {
        "Authorization": authorization,
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "osd-xsrf": "voltgate",  # Dashboards takes no POST without it
        "securitytenant": "global",  # where everybody sees them
    }
    return urllib.request.Request(f"{url}/api/saved_objects/_import?overwrite=true", body, headers)  # noqa: S310


def import_once(request: urllib.request.Request) -> int:
    """Send it; return how many objects were imported.

    Raises:
        Refused: The server answers that it will not take it.
        OSError: It does not answer, or not yet.
    """
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310 - the operator's own address
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        text = error.read(2000).decode(errors="replace")
        if error.code in REFUSED:
            raise Refused(f"HTTP {error.code}: {text}") from error
        raise OSError(f"HTTP {error.code}: {text[:200]}") from error
    if not answer.get("success"):
        raise Refused(json.dumps(answer.get("errors", answer))[:2000])
    return int(answer["successCount"])


def import_file(url: str, path: Path, authorization: str, *, give_up_at_s: float) -> int:
    """Import a file, trying until the monotonic time `give_up_at_s`; return how many objects were imported.

    Raises:
        Refused: The server will not take it.
        OSError: It did not answer in time.
    """
    said = ""
    while True:
        try:
            return import_once(request_of(url, path.name, path.read_bytes(), authorization))
        except OSError as error:
            if time.monotonic() >= give_up_at_s:
                raise
            if str(error) != said:
                said = str(error)
                sys.stderr.write(f"waiting for {url}: {said}\n")
            time.sleep(RETRY_S)


def main() -> int:
    """Import every file that is named."""
    url = os.environ["DASHBOARDS_URL"].rstrip("/")
    login = f"{os.environ['DASHBOARDS_USER']}:{os.environ['DASHBOARDS_PASSWORD']}"
    authorization = "Basic " + base64.b64encode(login.encode()).decode()
    give_up_at_s = time.monotonic() + float(os.environ.get("DASHBOARDS_WAIT_S", WAIT_S))
    paths = [Path(name) for name in sys.argv[1:]]
    if not paths:
        sys.stderr.write("name at least one file of saved objects\n")
        return 1
    for path in paths:
        try:
            count = import_file(url, path, authorization, give_up_at_s=give_up_at_s)
        except (Refused, OSError) as error:
            sys.stderr.write(f"{path} was not imported: {error}\n")
            return 1
        sys.stdout.write(f"{path.name}: {count} objects\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The client of OpenSearch: which host of a cluster is asked, and AWS signatures. The only module that imports it.

It chooses among hosts and lets those rest that do not answer. Connections, bodies, answers and trying again are ours:
it would turn every answer into dictionaries, drop the headers, and repeat a request that somebody else repeats, too.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from yarl import URL

from gateway.core.errors import SinkError
from processors.sinks.index_http import SINK, Answer, Http, Sign, Unanswered

_MISSING: Final = "pip install 'voltgate[opensearch]'"
_MISSING_AWS: Final = "pip install 'voltgate[opensearch,aws]'"


class _AsItIs:
    """Serializer of a client that is given bytes and gets answers."""

    mimetype = "application/json"

    def dumps(self, data: bytes) -> bytes:
        return data

    def loads(self, data: Answer) -> Answer:
        return data


def open_client(urls: Sequence[str], http: Http) -> tuple[Any, type[Any]]:
    """Return a client of these hosts, and its error for a broken connection, whose `info` is our `Unanswered`.

    Raises: SinkError: The package is missing.
    """
    try:
        from opensearchpy import AsyncOpenSearch
        from opensearchpy.exceptions import ConnectionError as BrokenConnection
    except ImportError as exc:
        raise SinkError(SINK, f"package {exc.name} is not installed", mend=_MISSING) from exc

    class Host:
        """One host of the cluster, as the client's pool wants it."""

        def __init__(
            self, host: str, port: int = 9200, *, use_ssl: bool = False, url_prefix: str = "", **_: object
        ) -> None:
            self._base = URL.build(scheme="https" if use_ssl else "http", host=host, port=port)
            self._prefix = f"/{url_prefix.strip('/')}" if url_prefix.strip("/") else ""

        async def perform_request(
            self,
            method: str,
            path: str,
            params: Mapping[str, str] | None = None,
            body: bytes | None = None,
            timeout: float | None = None,  # noqa: ASYNC109  # as the client calls it
            ignore: object = (),
            headers: Mapping[str, str] | None = None,
        ) -> tuple[int, dict[str, str], Answer]:
            query = URL.build(query=dict(params)).raw_query_string if params else ""
            url = URL(f"{self._base}{self._prefix}{path}{f'?{query}' if query else ''}", encoded=True)
            try:
                answer = await http.request(method, url, body, headers or {}, within_s=timeout)
            except Unanswered as exc:
                raise BrokenConnection("N/A", str(exc), exc) from exc
            return answer.status, {}, answer

        async def close(self) -> None:
            """The session is shared, and closed by its owner."""

    # What the client says of dead hosts we say ourselves, once, in words for people.
    logging.getLogger("opensearch").addHandler(logging.NullHandler())
    client = AsyncOpenSearch(
        list(urls),
        connection_class=Host,
        serializer=_AsItIs(),
        max_retries=0,  # the lane's
        retry_on_timeout=True,  # with no retries: a host that does not answer rests, others are asked
    )
    return client, BrokenConnection


def aws_signer(region: str, service: str) -> Sign:
    """Return what signs requests (Signature Version 4) with the credentials that AWS's own tools would find here."""
    try:
        import botocore.session  # type: ignore[import-untyped]
        from opensearchpy import AWSV4SignerAsyncAuth
    except ImportError as exc:
        raise SinkError(SINK, f"package {exc.name} is not installed", mend=_MISSING_AWS) from exc
    session = botocore.session.Session()
    signer: Callable[..., dict[str, str]] | None = None

    def sign(method: str, url: str, body: bytes | None, headers: dict[str, str]) -> dict[str, str]:
        nonlocal signer
        if signer is None:
            credentials = session.get_credentials()
            if credentials is None:
                mend = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role"
                raise Unanswered("there are no AWS credentials to sign requests with", mend)
            signer = AWSV4SignerAsyncAuth(credentials, region, service)
        return signer(method, url, body, headers)

    return sign

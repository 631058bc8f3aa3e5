"""What answers of OpenSearch mean, and what the driver refuses before it asks anybody."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.core.errors import SinkError
from processors.sinks.index_answers import BulkOutcome, Conflict, Rejected, both_halves, error_of, refused, split
from processors.sinks.index_http import Answer, basic_auth, tls_context


def item(status: int, kind: str = "", reason: str = "", cause: str = "") -> dict[str, object]:
    """Return one item of an answer."""
    error = {"type": kind, "reason": reason, **({"caused_by": {"reason": cause}} if cause else {})}
    return {"index": {"status": status, **({"error": error} if kind else {})}}


def said(*items: dict[str, object]) -> bytes:
    """Return the answer to a bulk request, as far as it is asked for."""
    return json.dumps({"errors": any("error" in one["index"] for one in items), "items": items}).encode()  # type: ignore[operator]


def test_statuses_become_done_again_and_rejected() -> None:
    """2xx and 409 are done; 429, 5xx, missing rights, full disks and missing indices come again; other 4xx never."""
    body = said(
        item(201),
        item(200),
        item(409, "version_conflict_engine_exception", "newer"),
        item(429, "rejected_execution_exception", "queue is full"),
        item(503, "unavailable_shards_exception"),
        item(403, "cluster_block_exception", "index read-only"),
        item(403, "security_exception"),
        item(404, "index_not_found_exception"),
        item(400, "strict_dynamic_mapping_exception", "[x] is not allowed"),
        item(400, "mapper_parsing_exception", "failed to parse", "For input string"),
        item(404, "document_missing_exception"),
    )
    outcome = split(body, 11)
    assert (3, (3, 4, 5, 6, 7), 429, True) == (outcome.done, outcome.retry, outcome.status, outcome.has_no_index)
    assert "5 of 11 documents: 429 rejected_execution_exception: queue is full" == outcome.why
    assert (
        Rejected(position=8, code="strict_dynamic_mapping_exception", reason="[x] is not allowed"),
        Rejected(position=9, code="mapper_parsing_exception", reason="failed to parse: For input string"),
        Rejected(position=10, code="document_missing_exception", reason=""),
    ) == outcome.rejected


@pytest.mark.parametrize(("status", "is_faulty"), [(500, True), (501, True), (502, False), (503, False), (429, False)])
def test_failure_of_the_engine_on_one_document_is_told_from_a_cluster_that_is_away(
    status: int, is_faulty: bool
) -> None:
    """Both are sent again, but only the first may be for what the document holds; its reason is kept."""
    outcome = split(said(item(201), item(status, "null_pointer_exception", "a bug of theirs")), 2)
    blamed = (Rejected(position=1, code="null_pointer_exception", reason="a bug of theirs"),) if is_faulty else ()
    assert (1, (1,), (), blamed) == (outcome.done, outcome.retry, outcome.rejected, outcome.faulty)


def test_answer_without_errors_is_not_looked_into() -> None:
    """Where nothing failed the items are not read."""
    assert BulkOutcome(done=7) == split(b'{"errors":false,"items":"unread"}', 7)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"{}", b'{"errors":true}', b'{"errors":true,"items":[{"create":{"status":201}}]}'],
    ids=["empty", "html", "other-json", "no-items", "other-action"],
)
def test_answer_that_cannot_be_read_means_again(body: bytes) -> None:
    """Nothing is done, and nothing rejected, by an answer that is none."""
    outcome = split(body, 1)
    assert (0, (0,), ()) == (outcome.done, outcome.retry, outcome.rejected)


def test_text_of_the_engine_is_made_inert() -> None:
    """Control characters of a document that an error repeats do not reach a terminal."""
    outcome = split(said(item(400, "mapper\x1b[31m", "value '\x1b]0;x\x07' " + "long " * 1000)), 1)
    text = outcome.rejected[0].code + outcome.rejected[0].reason
    assert text.isprintable()
    assert len(text) < 600


def test_halves_are_put_together_at_their_places() -> None:
    """Positions of the second half begin where it was cut; the worse status and the longer wait count."""
    one = Rejected(position=1, code="c", reason="r")
    first = BulkOutcome(done=2, rejected=(one,))
    second = BulkOutcome(done=1, retry=(0, 2), rejected=(one,), status=429, after_s=3.0, why="busy")
    whole = both_halves(first, second, 3)
    assert (3, (3, 5), (1, 4), 429, 3.0, "busy") == (
        whole.done,
        whole.retry,
        tuple(one.position for one in whole.rejected),
        whole.status,
        whole.after_s,
        whole.why,
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error":{"type":"parse","reason":"bad"},"status":400}', ("parse", "bad")),
        (b'{"error":"no handler found"}', ("", "no handler found")),
        (b'{"message":"Forbidden by AWS"}', ("", "Forbidden by AWS")),
        (b"<html>\x1b</html>", ("", "<html>\\x1b</html>")),
        (b"", ("", "")),
    ],
    ids=["engine", "rest-layer", "aws", "proxy", "nothing"],
)
def test_word_for_a_refusal_is_only_the_engines(body: bytes, expected: tuple[str, str]) -> None:
    """What stands in front of the engine blames no document."""
    assert expected == error_of(body)


@pytest.mark.parametrize(
    ("status", "kind", "mend"),
    [
        (401, "", "check opensearch.user"),
        (403, "security_exception", "give the user"),
        (403, "cluster_block_exception", "nearly full"),
        (429, "", "it is busy"),
        (503, "", "the cluster's own logs"),
        (301, "", "redirects are not followed"),
        (404, "", "does opensearch.url lead to a cluster"),
    ],
    ids=["401", "403", "disk", "429", "503", "301", "404"],
)
def test_refused_request_says_what_to_do(status: int, kind: str, mend: str) -> None:
    """An error has the request, the status, the engine's words, and the mend."""
    body = json.dumps({"error": {"type": kind, "reason": "why"}}).encode() if kind else b"why"
    error = refused("GET /_cat/indices", Answer(status=status, body=body, after_s=4.0))
    assert str(error).startswith(f"opensearch: GET /_cat/indices was answered {status}")
    assert "why" in error.detail
    assert (status, 4.0) == (error.status, error.retry_after_s)
    assert mend in error.mend


def test_conflict_names_index_field_and_mend() -> None:
    """What an operator reads leads to the command that helps."""
    conflict = Conflict(table="alerts", index="voltgate-alerts", problems=("field 'x' is long in the index",))
    assert (
        "index voltgate-alerts: field 'x' is long in the index; "
        "voltgate opensearch reindex alerts --drop makes it anew from the lake"
    ) == str(conflict)


def test_basic_authentication_is_rfc_7617() -> None:
    """The example of its section 2.1, with UTF-8."""
    assert "Basic dGVzdDoxMjPCow==" == basic_auth("test", "123£")


def test_unreadable_tls_files_are_named(tmp_path: Path) -> None:
    """A path that leads nowhere and a file that is no certificate stop before anything is asked."""
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    for ca_file in (wrong, tmp_path / "none.pem"):
        with pytest.raises(SinkError, match=str(ca_file)):
            tls_context(ca_file=ca_file, certificate=None, key=None)
    with pytest.raises(SinkError, match="client certificate"):
        tls_context(ca_file=None, certificate=wrong, key=None)


def test_missing_client_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the error is a command to type."""
    from processors.sinks.opensearch import OpenSearch

    monkeypatch.setitem(sys.modules, "opensearchpy", None)
    with pytest.raises(SinkError) as caught:
        OpenSearch(urls=["http://127.0.0.1:1"])
    assert "pip install 'voltgate[opensearch]'" == caught.value.mend
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(SinkError) as caught:
        OpenSearch(urls=["http://127.0.0.1:1"], aws_region="eu-central-1")
    assert "pip install 'voltgate[opensearch,aws]'" == caught.value.mend


def test_driver_imports_no_client_before_it_is_made() -> None:
    """A process without OpenSearch does not pay for its client."""
    code = "import sys, processors.sinks.opensearch; print('opensearchpy' in sys.modules, 'botocore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "False False\n" == done.stdout

"""The driver of OpenSearch: against a real node, and on a real socket what a healthy node never says."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import msgspec
import polars as pl
import pytest
from pydantic import SecretStr

from gateway.core.errors import SinkError
from processors.indexing.documents import Bulk, to_bulks
from processors.indexing.plan import IndexedTable, IndexField
from processors.sinks.index_answers import BulkOutcome
from processors.sinks.index_lane import Lane
from processors.sinks.opensearch import OpenSearch
from tests.integration.certificates import Authority
from tests.integration.receivers import HttpReceiver, Trouble, answer
from tests.services.opensearch import Node

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("opensearch")]

T = TypeVar("T")
DAY = datetime(2026, 11, 22, 12, tzinfo=UTC)
ROOT = json.dumps(
    {"cluster_name": "fake", "cluster_uuid": "u1", "version": {"number": "3.8.0", "distribution": "opensearch"}}
).encode()
NO_ISM = answer(400, b'{"error":"no handler found for uri"}')
MADE = answer(200, b'{"acknowledged":true}')
HELLO = (answer(200, ROOT), NO_ISM)
FIELDS = (
    IndexField(name="name", type="keyword", columns=("name",)),
    IndexField(name="at", type="date", columns=("at",)),
    IndexField(name="received_at", type="date", columns=("received_at",)),
    IndexField(name="soc_pct", type="double", columns=("soc_pct",)),
    IndexField(name="offset", type="long", columns=("offset",)),
)


def a_table(index: str, *, is_daily: bool = True, fields: tuple[IndexField, ...] = FIELDS) -> IndexedTable:
    """Return a table with one document a name."""
    return IndexedTable(
        table="readings",
        index=index,
        day_column="at" if is_daily else None,
        id_columns=("name",),
        latest_only=True,
        fields=fields,
        time_field="at",
        columns=tuple(field.name for field in fields),
    )


def rows(names: Iterable[str], *, offset: int = 1, at: datetime = DAY, **columns: object) -> pl.DataFrame:
    """Return rows of such a table, all of one moment, with offsets from `offset` on."""
    values: dict[str, object] = {"at": at, "received_at": at, "soc_pct": 80.5} | columns
    named = pl.DataFrame({"name": list(names)})
    numbered = named.with_columns((pl.int_range(pl.len()) + offset).alias("offset"))
    return numbered.with_columns(pl.lit(value).alias(name) for name, value in values.items())


def one_bulk(table: IndexedTable, frame: pl.DataFrame) -> Bulk:
    """Return the one request for these rows."""
    (bulk,) = to_bulks(table, frame, bytes_max=5_000_000)
    return bulk


def with_driver(use: Callable[[OpenSearch], Awaitable[T]], url: str, **options: Any) -> T:
    """Run `use` with a driver that is closed afterwards."""

    async def run() -> T:
        driver = OpenSearch(urls=[url], **options)
        try:
            return await use(driver)
        finally:
            await driver.close()

    return asyncio.run(run())


def base(receiver: HttpReceiver) -> str:
    """Return the address of a receiver as a host of a cluster."""
    return receiver.url().removesuffix("/hook")


@pytest.fixture
def node(opensearch_node: Node) -> Node:
    """The real node, empty."""
    opensearch_node.clean()
    return opensearch_node


# ---- a real node -----------------------------------------------------------------------------------------------------


def test_cluster_says_who_it_is(node: Node) -> None:
    """Identity and version are the node's own, and the plain distribution has no plugin for life times."""
    cluster = with_driver(lambda driver: driver.cluster(), node.url)
    expected = node.request("GET", "/")
    assert (expected["cluster_uuid"], expected["version"]["number"], "opensearch", False) == (
        cluster.uuid,
        cluster.version,
        cluster.distribution,
        cluster.has_ism,
    )


def test_repeated_older_and_newer_revisions_end_with_the_newest(node: Node) -> None:
    """A replay and an older revision are done without a change; a newer one overwrites."""
    table = a_table("t-revisions")

    async def use(driver: OpenSearch) -> list[BulkOutcome]:
        await driver.bootstrap([table])
        sent = [(5, 50.0), (5, 50.0), (4, 40.0), (6, 60.0), (5, 50.0)]
        return [
            await driver.bulk(one_bulk(table, rows(["a"], offset=offset, soc_pct=soc_pct))) for offset, soc_pct in sent
        ]

    outcomes = with_driver(use, node.url)
    node.request("POST", "/t-revisions-*/_refresh")
    document = node.request("GET", "/t-revisions-2026.11.22/_doc/a")
    assert [BulkOutcome(done=1)] * 5 == outcomes
    assert (6, 60.0) == (document["_version"], document["_source"]["soc_pct"])


def test_refused_documents_do_not_stop_their_neighbours(node: Node) -> None:
    """A field nobody declared and a value of another type are rejects with the engine's reason; the others are in."""
    table = a_table("t-refused")
    wider = a_table("t-refused", fields=(*FIELDS, IndexField(name="extra", type="keyword", columns=("extra",))))

    async def use(driver: OpenSearch) -> tuple[BulkOutcome, int]:
        await driver.bootstrap([table])
        good = one_bulk(table, rows(["a", "b"]))
        undeclared = one_bulk(wider, rows(["c"], extra="?"))
        mistyped = one_bulk(table, rows(["d"], soc_pct="low"))
        outcome = await driver.bulk(joined(good, undeclared, mistyped, one_bulk(table, rows(["e"]))))
        await driver.refresh(table.pattern)
        return outcome, await driver.count(table.pattern)

    outcome, count = with_driver(use, node.url)
    assert [(2, "strict_dynamic_mapping_exception"), (3, "mapper_parsing_exception")] == [
        (one.position, one.code) for one in outcome.rejected
    ]
    assert "[extra]" in outcome.rejected[0].reason
    assert "soc_pct" in outcome.rejected[1].reason
    assert (3, (), 3) == (outcome.done, outcome.retry, count)


def test_document_that_is_taken_away_stays_away(node: Node) -> None:
    """Also where it never was, where an older revision comes again, and beside a neighbour that is refused."""
    fields = (*FIELDS, IndexField(name="flags", type="keyword", columns=("flags",), is_list=True))
    table = msgspec.structs.replace(a_table("t-gone", is_daily=False, fields=fields), gone_flag="merged")

    async def use(driver: OpenSearch) -> list[BulkOutcome]:
        await driver.bootstrap([table])
        before = one_bulk(table, rows(["a", "b"], offset=1, flags=""))
        after = one_bulk(table, rows(["a", "never"], offset=5, flags="late_stop,merged"))
        mistyped = one_bulk(table, rows(["d"], offset=9, soc_pct="low", flags=""))
        return [await driver.bulk(bulk) for bulk in (before, joined(after, mistyped), before)]

    first, second, third = with_driver(use, node.url)
    node.request("POST", "/t-gone/_refresh")
    found = node.request("GET", "/t-gone/_search")["hits"]["hits"]
    assert ((2, ()), (2, (2,)), (2, ())) == tuple(
        (one.done, tuple(refused.position for refused in one.rejected)) for one in (first, second, third)
    )
    assert ["b"] == [hit["_id"] for hit in found]


def joined(*bulks: Bulk) -> Bulk:
    """Return one request of several; for sending, not for picking from it."""
    return Bulk(
        body=b"".join(bulk.body for bulk in bulks),
        indices=tuple(sorted({name for bulk in bulks for name in bulk.indices})),
        count=sum(bulk.count for bulk in bulks),
        places=pl.concat([bulk.places for bulk in bulks]),
    )


def test_index_is_made_with_its_mapping_before_the_first_document(node: Node) -> None:
    """An index that comes into being with a bulk request is strict, and so is one that was deleted meanwhile."""
    table = a_table("t-made")

    async def use(driver: OpenSearch) -> list[str]:
        await driver.bootstrap([table])
        found = []
        for _ in range(2):
            await driver.bulk(one_bulk(table, rows(["a"])))
            found.append(node.request("GET", "/t-made-2026.11.22")["t-made-2026.11.22"]["mappings"]["dynamic"])
            node.request("DELETE", "/t-made-2026.11.22")
        return found

    assert ["strict", "strict"] == with_driver(use, node.url)


def test_living_indices_get_the_fields_of_a_grown_contract(node: Node) -> None:
    """After another bootstrap an old day's index takes documents with a field that it did not know."""
    table = a_table("t-grown")
    grown = a_table("t-grown", fields=(*FIELDS, IndexField(name="extra", type="keyword", columns=("extra",))))

    async def use(driver: OpenSearch) -> tuple[tuple[str, ...], tuple[str, ...], BulkOutcome]:
        await driver.bootstrap([table])
        await driver.bulk(one_bulk(table, rows(["a"])))
        widened = await driver.bootstrap([grown])
        again = await driver.bootstrap([grown])
        return widened.widened, again.widened, await driver.bulk(one_bulk(grown, rows(["b"], extra="new")))

    assert (("t-grown-2026.11.22",), (), BulkOutcome(done=1)) == with_driver(use, node.url)


def test_field_of_another_type_is_named_and_nothing_is_changed(node: Node) -> None:
    """A table whose living index holds a field otherwise keeps its template; the others get theirs."""
    table, other = a_table("t-conflict"), a_table("t-peaceful")
    changed = tuple(
        msgspec.structs.replace(field, type="keyword") if field.name == "soc_pct" else field for field in FIELDS
    )

    async def use(driver: OpenSearch) -> Any:
        await driver.bootstrap([table])
        await driver.bulk(one_bulk(table, rows(["a"])))
        return await driver.bootstrap([a_table("t-conflict", fields=changed), other])

    done = with_driver(use, node.url)
    template = node.request("GET", "/_index_template/t-conflict")["index_templates"][0]["index_template"]["template"]
    assert [("readings", "t-conflict-2026.11.22")] == [(one.table, one.index) for one in done.conflicts]
    assert "voltgate opensearch reindex readings --drop" in str(done.conflicts[0])
    assert ("t-peaceful",) == done.templates
    assert "double" == template["mappings"]["properties"]["soc_pct"]["type"]


def test_full_disk_is_no_reason_to_reject(node: Node) -> None:
    """What the flood stage watermark forbids is to be sent again, and goes in when there is room."""
    table = a_table("t-full")
    block = "/t-full-2026.11.22/_settings"

    async def use(driver: OpenSearch) -> list[BulkOutcome]:
        await driver.bootstrap([table])
        await driver.bulk(one_bulk(table, rows(["a"])))
        node.request("PUT", block, {"index.blocks.read_only_allow_delete": True})
        blocked = await driver.bulk(one_bulk(table, rows(["b", "c"])))
        node.request("PUT", block, {"index.blocks.read_only_allow_delete": None})
        return [blocked, await driver.bulk(one_bulk(table, rows(["b", "c"])))]

    blocked, freed = with_driver(use, node.url)
    assert (0, (0, 1), ()) == (blocked.done, blocked.retry, blocked.rejected)
    assert blocked.status in {403, 429}
    assert "cluster_block_exception" in (blocked.why or "")
    assert BulkOutcome(done=2) == freed


def test_old_days_and_old_documents_are_deleted_and_nothing_else(node: Node) -> None:
    """Retention takes whole indices of days before its moment, and of an index without days the older documents."""
    daily, single = a_table("t-daily"), a_table("t-single", is_daily=False)
    days = [datetime(2026, 11, day, 23, tzinfo=UTC) for day in (20, 21, 22)]

    async def use(driver: OpenSearch) -> tuple[Any, list[str], int]:
        await driver.bootstrap([daily, single])
        for number, day in enumerate(days):
            await driver.bulk(one_bulk(daily, rows(["a"], at=day)))
            await driver.bulk(one_bulk(single, rows([f"s{number}"], at=day, offset=number)))
        await driver.refresh("t-*")
        deleted = await driver.delete_older([daily, single], before=datetime(2026, 11, 22, 6, tzinfo=UTC))
        left = [size.name for size in await driver.indices("t-*")]
        return deleted, left, await driver.count("t-single")

    deleted, left, count = with_driver(use, node.url)
    assert (("t-daily-2026.11.20", "t-daily-2026.11.21"), 2) == (deleted.indices, deleted.documents)
    assert (["t-daily-2026.11.22", "t-single"], 1) == (left, count)


def test_indices_are_counted_and_deleted_by_pattern(node: Node) -> None:
    """Sizes tell documents; deletion names what it took, and a pattern of nothing is no error."""
    table = a_table("t-sizes")

    async def use(driver: OpenSearch) -> tuple[Any, ...]:
        await driver.bootstrap([table])
        await driver.bulk(one_bulk(table, rows(["a", "b"])))
        await driver.refresh("t-sizes-*")
        sizes = [(size.name, size.documents) for size in await driver.indices("t-sizes-*")]
        gone = await driver.delete_indices("t-sizes-*")
        return sizes, gone, await driver.delete_indices("t-sizes-*"), await driver.indices("t-sizes-*")

    name = "t-sizes-2026.11.22"
    assert ([(name, 2)], (name,), (), []) == with_driver(use, node.url)
    assert 0 == with_driver(lambda driver: driver.count("t-sizes-*"), node.url)


def test_lane_brings_all_documents_in_and_lists_the_refused(node: Node) -> None:
    """Many small requests in flight end with every good document in the index, and each bad one named."""
    table = a_table("t-lane")

    async def use(driver: OpenSearch) -> tuple[int, list[str], int]:
        await driver.bootstrap([table])
        frame = rows([f"d{number:04}" for number in range(2000)])
        bulks = to_bulks(table, frame, bytes_max=20_000)
        bulks.append(one_bulk(table, rows(["bad"], soc_pct="low")))
        lane = Lane(write=driver.bulk, requests_max=4, now_s=asyncio.get_running_loop().time, chance=lambda: 0.0)
        sent = await lane.send(bulks)
        await driver.refresh("t-lane-*")
        return sent.done, [one.item.document_id for one in sent.refused], await driver.count("t-lane-*")

    assert (2000, ["bad"], 2000) == with_driver(use, node.url)


# ---- what a healthy node never says ----------------------------------------------------------------------------------


def test_nothing_is_written_to_a_cluster_that_was_not_prepared(node: Node) -> None:
    """When after a broken connection another cluster answers, the documents stay here until it was prepared."""
    table = a_table("t-other")
    bulk = one_bulk(table, rows(["a"]))
    other = ROOT.replace(b"u1", b"u2")
    prepared = (*HELLO, answer(200, b"{}"), MADE, MADE)  # mappings, template, first index
    acts = (*prepared, Trouble.RESET, answer(200, other))

    async def use(driver: OpenSearch) -> list[BulkOutcome]:
        await driver.bootstrap([table])
        return [await driver.bulk(bulk), await driver.bulk(bulk), await driver.bulk(bulk)]

    with HttpReceiver(*acts) as fake:
        broken, first, second = with_driver(use, base(fake))
        paths = [request.path.partition("?")[0] for request in fake.seen]
    assert (None, False, (0,)) == (broken.status, broken.is_other_cluster, broken.retry)
    assert (True, True) == (first.is_other_cluster, second.is_other_cluster)
    assert "/" == paths[-1]
    assert 1 == paths.count("/_bulk")


def test_silence_is_reason_enough_to_ask_who_answers() -> None:
    """A cluster that was emptied while nobody wrote broke no request of ours, and is found out all the same."""
    table = a_table("t-silent")
    bulk = one_bulk(table, rows(["a"]))
    prepared = (*HELLO, answer(200, b"{}"), MADE)
    written = (answer(200, ROOT), MADE, answer(200, b'{"errors":false}'))

    async def use(driver: OpenSearch) -> list[bool]:
        await driver.bootstrap([table])
        return [(await driver.bulk(bulk)).is_other_cluster for _ in range(2)]

    with HttpReceiver(*prepared, *written, answer(200, ROOT.replace(b"u1", b"u2"))) as fake:
        found = with_driver(use, base(fake), sure_s=0.0)
        bulks = [request for request in fake.seen if request.path.startswith("/_bulk")]
    assert ([False, True], 1) == (found, len(bulks))


@pytest.mark.parametrize(
    ("act", "status", "after_s"),
    [
        pytest.param(answer(503, b"<html>sorry</html>", Retry_After="7"), 503, 7.0, id="unavailable"),
        pytest.param(answer(429, b'{"error":{"type":"circuit_breaking_exception"}}'), 429, None, id="busy"),
        pytest.param(answer(401, b"Unauthorized"), 401, None, id="unknown-user"),
        pytest.param(answer(403, b'{"error":{"type":"security_exception"}}'), 403, None, id="no-rights"),
        pytest.param(answer(404, b'{"error":"nothing here"}'), 404, None, id="no-cluster"),
        pytest.param(answer(400, b"Bad Request"), 400, None, id="bad-request-of-a-proxy"),
        pytest.param(answer(301, b"", Location="https://elsewhere/"), 301, None, id="redirect"),
        pytest.param(answer(200, b"<html>login</html>"), None, None, id="no-json"),
        pytest.param(answer(200, b'{"errors":true,"items":[]}'), None, None, id="too-few-items"),
        pytest.param(Trouble.RESET, None, 1.0, id="reset"),
        pytest.param(Trouble.GARBAGE, None, 1.0, id="no-http"),
        pytest.param(Trouble.HANG, None, 1.0, id="half-open"),
    ],
)
def test_request_that_failed_as_a_whole_rejects_nothing(
    act: bytes | Trouble, status: int | None, after_s: float | None
) -> None:
    """Whatever stands between us and an answer of the engine, every document is to be sent again."""
    bulk = one_bulk(a_table("t"), rows(["a", "b"]))
    with HttpReceiver(answer(200, ROOT), MADE, act) as fake:
        outcome = with_driver(lambda driver: driver.bulk(bulk), base(fake), timeout_s=0.4)
        sent = fake.seen[-1].body
    assert bulk.body == sent
    assert (0, (0, 1), (), status, after_s) == (
        outcome.done,
        outcome.retry,
        outcome.rejected,
        outcome.status,
        outcome.after_s,
    )
    assert outcome.why


def test_one_document_that_spoils_a_request_is_found(node: Node) -> None:
    """Where the engine refuses a whole request for one document, halves are sent until only that one is refused."""
    table = a_table("t-spoilt")
    bulk = one_bulk(table, rows([f"d{number}" for number in range(7)]))
    wrong = bulk.body.replace(b'"_id":"d4"', b'"_id":"' + b"x" * 600 + b'"')
    begin = bulk.places["begin"].to_list()
    grown = len(wrong) - len(bulk.body)
    places = bulk.places.with_columns(
        begin=pl.Series([at + grown * (at > begin[4]) for at in begin]),
        middle=pl.col("middle") + grown * (pl.col("begin") >= begin[4]).cast(pl.Int64),
        end=pl.col("end") + grown * (pl.col("begin") >= begin[4]).cast(pl.Int64),
    )
    spoilt = msgspec.structs.replace(bulk, body=wrong, places=places)

    outcome = with_driver(lambda driver: driver.bulk(spoilt), node.url)
    assert (6, (), [4]) == (outcome.done, outcome.retry, [one.position for one in outcome.rejected])
    assert "action_request_validation_exception" == outcome.rejected[0].code


def test_request_that_is_too_large_together_goes_in_halves() -> None:
    """413 from whatever stands in front sends two smaller requests; one document alone that is refused is a reject."""
    bulk = one_bulk(a_table("t"), rows(["a", "b"]))
    good = answer(200, b'{"errors":false}')
    with HttpReceiver(
        answer(200, ROOT), MADE, answer(413, b"<html>"), answer(413, b"<html>too large</html>"), good
    ) as fake:
        outcome = with_driver(lambda driver: driver.bulk(bulk), base(fake))
    assert (1, (), [(0, "http_413")]) == (
        outcome.done,
        outcome.retry,
        [(one.position, one.code) for one in outcome.rejected],
    )


def test_written_and_never_answered_is_harmless_to_repeat(node: Node) -> None:
    """A request that was applied and whose answer did not come is sent again, and changes nothing."""
    table = a_table("t-applied")
    bulk = one_bulk(table, rows(["a", "b"]))
    node.request("POST", "/_bulk", bulk.body)
    outcome = with_driver(lambda driver: driver.bulk(bulk), node.url)
    node.request("POST", "/t-applied-*/_refresh")
    assert (BulkOutcome(done=2), 2) == (outcome, node.request("GET", "/t-applied-*/_count")["count"])


# ---- who we are ------------------------------------------------------------------------------------------------------


def test_user_and_password_are_sent_as_basic_authentication() -> None:
    """The header is RFC 7617's, with UTF-8."""
    with HttpReceiver(*HELLO) as fake:
        with_driver(lambda driver: driver.cluster(), base(fake), user="fleet", password=SecretStr("päss"))
        header = fake.seen[0].headers["authorization"]
    assert "Basic ZmxlZXQ6cMOkc3M=" == header


def test_wrong_password_says_what_to_check() -> None:
    """The error of a refused user carries the status and the mend."""
    with HttpReceiver(answer(401, b"Unauthorized")) as fake, pytest.raises(SinkError) as caught:
        with_driver(lambda driver: driver.cluster(), base(fake), user="fleet", password=SecretStr("wrong"))
    assert (401, "check opensearch.user and opensearch.password, or the client certificate") == (
        caught.value.status,
        caught.value.mend,
    )
    assert "wrong" not in str(caught.value)


def test_requests_for_aws_carry_the_signature_that_botocore_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over what arrived on the socket botocore's own signer gets the same signature, session token and all."""
    from botocore.auth import SigV4Auth  # type: ignore[import-untyped]
    from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
    from botocore.credentials import Credentials  # type: ignore[import-untyped]

    keys = {"ACCESS_KEY_ID": "AKIDEXAMPLE", "SECRET_ACCESS_KEY": "wJalrXUtnFEMI", "SESSION_TOKEN": "token"}
    for name, value in keys.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    bulk = one_bulk(a_table("t"), rows(["a"]))
    with HttpReceiver(answer(200, ROOT), MADE, answer(200, b'{"errors":false}')) as fake:
        with_driver(lambda driver: driver.bulk(bulk), base(fake), aws_region="eu-central-1")
        request, url = fake.seen[-1], base(fake)
    signed = request.headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    parts = urlsplit(url + request.path)
    again = AWSRequest(
        method="POST",
        url=f"{url}{parts.path}",
        params=dict(parse_qsl(parts.query)),
        data=request.body,
        headers={name: request.headers[name] for name in signed},
    )
    again.context["timestamp"] = request.headers["x-amz-date"]
    signer = SigV4Auth(Credentials(*keys.values()), "es", "eu-central-1")
    text = signer.string_to_sign(again, signer.canonical_request(again))
    assert {"host", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"} <= set(signed)
    assert request.headers["authorization"].endswith(f"Signature={signer.signature(text, again)}")


def test_server_of_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    """TLS is verified unless told otherwise, and the error says which setting mends it."""
    ours, theirs = Authority(tmp_path / "ours", "Ours"), Authority(tmp_path / "theirs", "Theirs")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*theirs.server())

    def hello(fake: HttpReceiver, **options: Any) -> str:
        return with_driver(lambda driver: driver.cluster(), base(fake), **options).uuid

    with HttpReceiver(*HELLO, *HELLO, tls=tls) as fake:
        for ca_file in (None, ours.file):
            with pytest.raises(SinkError, match="certificate is not good") as caught:
                hello(fake, ca_file=ca_file)
            assert "opensearch.ca_file" in caught.value.mend
        assert [] == fake.seen
        assert ["u1", "u1"] == [hello(fake, ca_file=theirs.file), hello(fake, verify_tls=False)]


def test_client_certificate_is_shown(tmp_path: Path) -> None:
    """A server that asks for a certificate gets ours, and without one no answer is had."""
    authority = Authority(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.server())
    tls.load_verify_locations(authority.file)
    tls.verify_mode = ssl.CERT_REQUIRED
    certificate, key = authority.client("voltgate")
    with HttpReceiver(*HELLO, tls=tls) as fake:
        with pytest.raises(SinkError):
            with_driver(lambda driver: driver.cluster(), base(fake), ca_file=authority.file)
        shown = with_driver(
            lambda driver: driver.cluster(),
            base(fake),
            ca_file=authority.file,
            client_certificate=certificate,
            client_key=key,
        )
    assert "u1" == shown.uuid


def test_life_time_policy_is_made_where_the_plugin_is() -> None:
    """With the plugin a policy is put, living indices come under it, and our own retention leaves days alone."""
    table = a_table("t")
    has_ism = answer(200, b'{"policies":[]}')
    acts = (answer(200, ROOT), has_ism, answer(200, b"{}"), MADE, answer(404, b"{}"), MADE, MADE)

    async def use(driver: OpenSearch) -> tuple[str | None, Any]:
        done = await driver.bootstrap([table], policy="voltgate", retention_days=30)
        return done.policy, await driver.delete_older([table], before=datetime(2026, 11, 22, tzinfo=UTC))

    with HttpReceiver(*acts) as fake:
        policy, deleted = with_driver(use, base(fake))
        put, add = fake.seen[-2:]
    assert ("voltgate", ()) == (policy, deleted.indices)
    assert ("/_plugins/_ism/policies/voltgate", "/_plugins/_ism/add/t-*") == (put.path, add.path)
    assert "30d" == json.loads(put.body)["policy"]["states"][0]["transitions"][0]["conditions"]["min_index_age"]
    assert {"policy_id": "voltgate"} == json.loads(add.body)


def test_a_host_that_is_gone_costs_one_try(node: Node) -> None:
    """Of two hosts the one that answers is found, and the other is left alone for a while."""
    with HttpReceiver() as fake:
        gone = base(fake)

    async def use() -> list[str]:
        driver = OpenSearch(urls=[gone, node.url])
        found = []
        try:
            for _ in range(4):
                try:
                    found.append((await driver.cluster()).distribution)
                except SinkError:
                    found.append("gone")
        finally:
            await driver.close()
        return found

    found = asyncio.run(use())
    assert found.count("gone") <= 1
    assert ["opensearch"] * 2 == found[-2:]


def test_daily_index_is_named_by_day() -> None:
    """The rows above are of the day that the names above say."""
    assert date(2026, 11, 22) == DAY.date()
    assert ("t-2026.11.22",) == one_bulk(a_table("t"), rows(["a"])).indices

"""What the central system says."""

import msgspec
import pytest
from jsonschema import Draft6Validator

from gateway.wire.ocpp.actions import FROM_STATION
from gateway.wire.ocpp.answers import START_ANSWER_CHANNEL, Answers, to_text
from gateway.wire.ocpp.schemas import Schemas, load_schema
from gateway.wire.ocpp.versions import Version
from tests.unit.gateway.wire.ocpp.stations import CALLS, NOW, NOW_NS

EVERY_CALL = [(version, action) for version in Version for action in sorted(FROM_STATION[version])]
ODD: list[object] = [None, 5, "text", [], {}, [{}], {"idToken": {"idToken": []}}]


def answers(*, id_token_status: str = "Accepted") -> Answers:
    """Return answers with the given opinion of all id tokens."""
    ids = iter(range(7, 1000))
    return Answers(
        heartbeat_interval_s=lambda: 287,
        next_transaction_id=lambda: next(ids),
        id_token_status=lambda _token: id_token_status,
    )


def reply(version: Version, action: str, payload: dict[str, object], **options: str) -> object:
    """Return the payload of the answer to a call."""
    return msgspec.json.decode(answers(**options).reply(version, action, payload, now_ns=NOW_NS).payload)


@pytest.mark.parametrize(("version", "action"), EVERY_CALL)
def test_every_answer_is_what_its_schema_says(version: Version, action: str) -> None:
    """Both for the validator in use and for one that nobody here chose."""
    said = reply(version, action, CALLS[version][action])
    assert None is Schemas.of(version).response(action).violation(said)
    assert [] == list(Draft6Validator(load_schema(version, action + "Response")).iter_errors(said))


@pytest.mark.parametrize(("version", "action"), EVERY_CALL)
def test_an_answer_is_valid_whatever_it_answers(version: Version, action: str) -> None:
    """In audit a payload may be anything: fields missing, or of any kind."""
    fields = set(CALLS[version][action]) | {"idTag", "idToken", "vatNumber", "certificateStatusRequests"}
    payloads: list[dict[str, object]] = [{}, *(dict.fromkeys(fields, odd) for odd in ODD)]
    for payload in payloads:
        said = reply(version, action, payload)
        assert None is Schemas.of(version).response(action).violation(said), payload


def test_boot_is_accepted_with_time_and_interval() -> None:
    """The interval is asked anew for each station, so that it can be jittered."""
    for version in Version:
        said = reply(version, "BootNotification", CALLS[version]["BootNotification"])
        assert {"currentTime": NOW, "interval": 287, "status": "Accepted"} == said


def test_each_start_gets_its_own_transaction_id_on_the_record() -> None:
    """The answer is journalled: the id is in nothing that the station sent."""
    both = answers()
    first = both.reply(Version.V16, "StartTransaction", CALLS[Version.V16]["StartTransaction"], now_ns=NOW_NS)
    second = both.reply(Version.V16, "StartTransaction", CALLS[Version.V16]["StartTransaction"], now_ns=NOW_NS)
    assert {"transactionId": 7, "idTagInfo": {"status": "Accepted"}} == msgspec.json.decode(first.payload)
    assert {"transactionId": 8, "idTagInfo": {"status": "Accepted"}} == msgspec.json.decode(second.payload)
    assert START_ANSWER_CHANNEL == first.channel == "ocpp1.6/StartTransaction.conf"


def test_the_opinion_of_a_token_reaches_every_call_that_has_one() -> None:
    """Authorize, StartTransaction and StopTransaction of 1.6, Authorize and TransactionEvent of 2.x."""
    for action in ("Authorize", "StartTransaction", "StopTransaction"):
        said = reply(Version.V16, action, CALLS[Version.V16][action], id_token_status="Blocked")
        assert isinstance(said, dict)
        assert {"status": "Blocked"} == said["idTagInfo"]
    for action in ("Authorize", "TransactionEvent"):
        said = reply(Version.V21, action, CALLS[Version.V21][action], id_token_status="Blocked")
        assert isinstance(said, dict)
        assert {"status": "Blocked"} == said["idTokenInfo"]


def test_the_token_that_is_asked_about_is_its_text() -> None:
    """An id token of 2.x is an object; what counts is the text in it, also where it came as a number."""
    asked: list[str] = []

    def note(token: str) -> str:
        asked.append(token)
        return "Accepted"

    ours = Answers(heartbeat_interval_s=lambda: 1, next_transaction_id=lambda: 1, id_token_status=note)
    ours.reply(Version.V16, "Authorize", {"idTag": "A1"}, now_ns=NOW_NS)
    ours.reply(Version.V201, "Authorize", {"idToken": {"idToken": "B2", "type": "Central"}}, now_ns=NOW_NS)
    ours.reply(Version.V201, "Authorize", {"idToken": {"idToken": 3, "type": "Central"}}, now_ns=NOW_NS)
    ours.reply(Version.V16, "Authorize", {}, now_ns=NOW_NS)
    assert ["A1", "B2", "3", ""] == asked


def test_nothing_is_said_about_a_token_that_was_not_sent() -> None:
    """A stop without tag and an event without token are only heard."""
    assert {} == reply(Version.V16, "StopTransaction", {"transactionId": 1})
    assert {} == reply(Version.V201, "TransactionEvent", {"eventType": "Updated"})


def test_nobody_vouches_for_a_contract_certificate() -> None:
    """The token may be accepted, the certificate that came with it was verified by nobody."""
    said = reply(Version.V201, "Authorize", CALLS[Version.V201]["Authorize"])
    assert {"idTokenInfo": {"status": "Accepted"}, "certificateStatus": "NoCertificateAvailable"} == said


def test_what_is_not_offered_is_said_so() -> None:
    """Vendors' dialects, certificates and charging plans."""
    assert {"status": "UnknownVendorId"} == reply(Version.V16, "DataTransfer", {"vendorId": "V"})
    assert {"status": "Rejected"} == reply(Version.V16, "SignCertificate", {"csr": "x"})
    assert {"status": "Failed", "exiResponse": ""} == reply(Version.V201, "Get15118EVCertificate", {})
    assert {"status": "Rejected"} == reply(Version.V201, "NotifyEVChargingNeeds", {})
    assert {"status": "NoChargingProfile"} == reply(Version.V21, "NotifyEVChargingNeeds", {})


def test_a_certificate_chain_is_named_and_failed() -> None:
    """Each certificate that was asked about comes back, with nobody's word for it."""
    asked = CALLS[Version.V21]["GetCertificateChainStatus"]
    assert {
        "certificateStatus": [
            {
                "certificateHashData": {
                    "hashAlgorithm": "SHA256",
                    "issuerNameHash": "a",
                    "issuerKeyHash": "b",
                    "serialNumber": "c",
                },
                "source": "CRL",
                "status": "Failed",
                "nextUpdate": NOW,
            }
        ]
    } == reply(Version.V21, "GetCertificateChainStatus", asked)


def test_an_action_that_no_station_calls_has_no_answer() -> None:
    """The session refuses it before."""
    with pytest.raises(KeyError):
        answers().reply(Version.V16, "RemoteStartTransaction", {}, now_ns=NOW_NS)


@pytest.mark.parametrize(
    ("at_ns", "expected"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (999_999, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000_001_000_000, "2023-11-14T22:13:20.001Z"),
        (1_700_000_000_999_999_999, "2023-11-14T22:13:20.999Z"),
    ],
)
def test_times_are_utc_with_milliseconds(at_ns: int, expected: str) -> None:
    """Cut, not rounded: a time is never in the future."""
    assert expected == to_text(at_ns)

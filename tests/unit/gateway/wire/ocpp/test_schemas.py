"""What a schema forbids, and what real stations may send all the same."""

import msgspec
import pytest

from gateway.wire.ocpp.actions import FROM_CENTRAL, FROM_STATION
from gateway.wire.ocpp.loosen import is_date_time
from gateway.wire.ocpp.rpc import RpcCode
from gateway.wire.ocpp.schemas import VIOLATION_REASONS, Schemas, Validator, load_schema
from gateway.wire.ocpp.versions import Version
from tests.unit.gateway.wire.ocpp.stations import AT, CALLS

METER_16 = Schemas.of(Version.V16).request("MeterValues")
METER_201 = Schemas.of(Version.V201).request("MeterValues")
EVENT = Schemas.of(Version.V201).request("TransactionEvent")
DC_NEEDS = {"evMaxCurrent": 400, "evMaxVoltage": 920}


def meter_16(*, at: object = AT, top: dict[str, object] | None = None, **sample: object) -> dict[str, object]:
    """Return MeterValues of 1.6 with one sampled value."""
    value = {"timestamp": at, "sampledValue": [{"value": "1"} | sample]}
    return {"connectorId": 1, "meterValue": [value]} | (top or {})


def meter_201(**sample: object) -> dict[str, object]:
    """Return MeterValues of 2.0.1 with one sampled value."""
    return {"evseId": 1, "meterValue": [{"timestamp": AT, "sampledValue": [{"value": 1.5} | sample]}]}


@pytest.mark.parametrize("version", list(Version))
def test_every_schema_compiles_strict_and_lenient(version: Version) -> None:
    """Requests of both directions and their responses."""
    schemas = Schemas.of(version)
    validators = [schemas.request(action) for action in FROM_STATION[version] | FROM_CENTRAL[version]]
    validators += [schemas.response(action) for action in FROM_STATION[version] | FROM_CENTRAL[version]]
    for validator in validators:
        assert not validator.is_valid([])
        assert not validator.is_lenient_valid([])


def test_schemas_are_compiled_once() -> None:
    """Asked again, the same validator comes back."""
    assert Schemas.of(Version.V16) is Schemas.of(Version.V16)
    assert METER_16 is Schemas.of(Version.V16).request("MeterValues")


def test_an_action_of_another_version_has_no_schema() -> None:
    """Neither a name that would lead out of the directory."""
    for action in ("TransactionEvent", "../v201/schemas/TransactionEventRequest", "MeterValuesResponse", ""):
        with pytest.raises(KeyError):
            Schemas.of(Version.V16).request(action)
        with pytest.raises(KeyError):
            Schemas.of(Version.V16).response(action)


def test_a_send_has_no_response() -> None:
    """NotifyPeriodicEventStream is only sent."""
    Schemas.of(Version.V21).request("NotifyPeriodicEventStream")
    with pytest.raises(KeyError):
        Schemas.of(Version.V21).response("NotifyPeriodicEventStream")


@pytest.mark.parametrize(
    ("payload", "code", "reason", "path"),
    [
        ({"meterValue": meter_16()["meterValue"]}, RpcCode.OCCURRENCE_CONSTRAINT, "missing_field", ""),
        (meter_16(top={"x": 1}), RpcCode.FORMAT_VIOLATION, "additional_property", ""),
        (meter_16(top={"connectorId": None}), RpcCode.TYPE_CONSTRAINT, "wrong_type", "/connectorId"),
        (meter_16(top={"connectorId": "1"}), RpcCode.TYPE_CONSTRAINT, "number_as_text", "/connectorId"),
        (
            meter_16(value=5),
            RpcCode.TYPE_CONSTRAINT,
            "text_as_number",
            "/meterValue/0/sampledValue/0/value",
        ),
        (
            meter_16(unit="Hz"),
            RpcCode.PROPERTY_CONSTRAINT,
            "unknown_unit",
            "/meterValue/0/sampledValue/0/unit",
        ),
        (meter_16(at="2024-01-01T00:00:00"), RpcCode.PROPERTY_CONSTRAINT, "no_zone", "/meterValue/0/timestamp"),
        (meter_16(at="yesterday"), RpcCode.PROPERTY_CONSTRAINT, "bad_format", "/meterValue/0/timestamp"),
    ],
)
def test_a_violation_names_code_reason_and_place(
    payload: dict[str, object], code: RpcCode, reason: str, path: str
) -> None:
    """Which code goes back, under which word it is counted, and where in the payload it is."""
    violation = METER_16.violation(payload)
    assert violation is not None
    assert (code, reason, path) == (violation.code, violation.reason, violation.path)
    assert reason == METER_16.reason(payload)
    assert reason in VIOLATION_REASONS


def test_a_violation_says_what_was_expected_and_what_came() -> None:
    """Path, expected, got, in one line for the log."""
    violation = METER_16.violation(meter_16(top={"connectorId": "one"}))
    assert '/connectorId: expected integer, got "one"' == str(violation)
    assert "payload: expected field connectorId, got none" == str(METER_16.violation({"meterValue": []}))


def test_other_keywords_have_their_codes() -> None:
    """Too long, out of range, too few items, an unknown word outside of a sampled value."""
    start = Schemas.of(Version.V16).request("StartTransaction")
    begun = CALLS[Version.V16]["StartTransaction"]
    assert "text_too_long" == start.reason(begun | {"idTag": "x" * 21})
    assert "item_count" == METER_201.reason({"evseId": 1, "meterValue": []})
    needs = {"requestedEnergyTransfer": "DC", "dcChargingParameters": DC_NEEDS | {"stateOfCharge": 101}}
    validator = Schemas.of(Version.V201).request("NotifyEVChargingNeeds")
    assert "out_of_range" == validator.reason({"evseId": 1, "chargingNeeds": needs})
    assert "unknown_value" == EVENT.reason(CALLS[Version.V201]["TransactionEvent"] | {"eventType": "Paused"})


@pytest.mark.parametrize(
    ("validator", "payload"),
    [
        (METER_16, meter_16(measurand="Vendor.Thing")),
        (METER_16, meter_16(unit="Hz")),
        (METER_16, meter_16(context="Sample.Odd", location="Roof", format="Odd", phase="L4")),
        (METER_16, meter_16(value=15.5)),
        (METER_16, meter_16(top={"connectorId": "1", "transactionId": "-1"})),
        (METER_16, meter_16(at="2024-01-01T00:00:00.123")),
        (METER_16, meter_16(at="2024-01-01 00:00:00")),
        (METER_16, meter_16(top={"vendorField": {"a": [1]}}, vendorField=1)),
        (METER_201, meter_201(value="15.5", measurand="Vendor.Thing", context="Odd", phase="L4", location="Roof")),
        (METER_201, meter_201(unitOfMeasure={"unit": "kWh" + " " * 77})),
        (EVENT, CALLS[Version.V201]["TransactionEvent"] | {"transactionInfo": {"transactionId": 9223372036854775807}}),
        (EVENT, CALLS[Version.V201]["TransactionEvent"] | {"idToken": {"idToken": 42, "type": "Central"}}),
    ],
)
def test_lenient_takes_the_known_dirt(validator: Validator, payload: dict[str, object]) -> None:
    """Strict refuses each of these, lenient does not."""
    assert not validator.is_valid(payload)
    assert None is validator.lenient_violation(payload)
    assert validator.is_lenient_valid(payload)


@pytest.mark.parametrize(
    ("validator", "payload"),
    [
        (METER_16, {"meterValue": meter_16()["meterValue"]}),
        (METER_16, meter_16(top={"connectorId": "one"})),
        (METER_16, meter_16(top={"connectorId": "1.5"})),
        (METER_16, meter_16(top={"connectorId": None})),
        (METER_16, meter_16(value=None)),
        (METER_16, meter_16(value=True)),
        (METER_16, meter_16(measurand=5)),
        (METER_16, meter_16(measurand="x" * 201)),
        (METER_16, meter_16(at="2024-02-31T00:00:00")),
        (METER_16, meter_16(at="2024-01-01T00:00:00+99:00")),
        (METER_16, meter_16(at=1_700_000_000)),
        (METER_201, meter_201(value="many")),
        (METER_201, meter_201(value="NaN")),
        (METER_201, meter_201(unitOfMeasure={"unit": "k" * 81})),
        (EVENT, CALLS[Version.V201]["TransactionEvent"] | {"eventType": "Paused"}),
        (EVENT, CALLS[Version.V201]["TransactionEvent"] | {"seqNo": "0"}),
    ],
)
def test_lenient_refuses_what_nobody_can_read(validator: Validator, payload: dict[str, object]) -> None:
    """A field that is missing, of the wrong kind, or with a word that decides what a message means."""
    assert not validator.is_lenient_valid(payload)
    assert None is not validator.lenient_violation(payload)


@pytest.mark.parametrize("version", list(Version))
def test_what_is_valid_is_lenient_too(version: Version) -> None:
    """Loosening forbids nothing."""
    for action, payload in CALLS[version].items():
        validator = Schemas.of(version).request(action)
        assert None is validator.violation(payload), action
        assert None is validator.lenient_violation(payload), action


def test_loosening_leaves_the_schema_alone() -> None:
    """The strict validator is as strict after the lenient one was made."""
    validator = Validator(load_schema(Version.V201, "MeterValuesRequest"))
    dirty = meter_201(measurand="Odd", extra=1)
    assert validator.is_lenient_valid(dirty)
    assert not validator.is_valid(dirty)
    assert not Validator(load_schema(Version.V201, "MeterValuesRequest")).is_valid(dirty)


def test_what_a_peer_wrote_is_inert_and_cut() -> None:
    """Neither a name nor a value of a payload reaches a terminal as it came, nor at full length."""
    violation = METER_16.violation(meter_16(top={"\x1b[31m" + "x" * 1000: 1}))
    assert violation is not None
    assert violation.got.isprintable()
    assert len(violation.got) < 250


def test_a_payload_of_faults_costs_no_more_than_one() -> None:
    """The first fault is enough: 100,000 of them come back as one."""
    payload = {"connectorId": 1, "meterValue": [1] * 100_000}
    violation = METER_16.violation(payload)
    assert violation is not None
    assert "/meterValue/0" == violation.path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-02-29T23:59:59Z", True),
        ("2024-02-29T23:59:59.123456789+05:30", True),
        ("2024-02-29T23:59:59", True),
        ("2023-02-29T23:59:59Z", False),
        ("2024-02-29T24:00:00Z", False),
        ("2024-02-29", False),
        ("2024-02-29T23:59:59+0530", False),
        ("\u0662024-02-29T23:59:59Z", False),
        ("2024-02-29T23:59:59Z\n", False),
    ],
)
def test_a_time_is_a_time_with_or_without_zone(text: str, expected: bool) -> None:
    """Real dates only, ASCII digits only, the whole text only."""
    assert expected == is_date_time(text)


def test_integers_beyond_64_bit_are_checked_like_any() -> None:
    """Whatever size the JSON of a station gives a number."""
    payload = msgspec.json.decode(b'{"connectorId":123456789012345678901234567890,"meterValue":[]}')
    assert not Schemas.of(Version.V16).request("Authorize").is_valid(payload)

"""Whatever a charger sends is at least one row or reject, in the contract's columns, and harms no neighbour."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ids import Channel, DeviceId, Offset, TenantId
from gateway.core.records import Envelope, Route, to_batch
from gateway.wire.ocpp.actions import FROM_STATION, SENT_BY_STATION
from processors.contracts.load import load_contracts
from processors.stages.ocpp import OcppDecoder

CONTRACTS = load_contracts([])
DECODER = OcppDecoder(CONTRACTS)
RECEIVED_NS = 1_795_341_600_123_456_789
CHANNELS = [
    *(f"{version}/{action}" for version, actions in FROM_STATION.items() for action in sorted(actions)),
    *(f"{version}/{action}" for version, actions in SENT_BY_STATION.items() for action in sorted(actions)),
    "ocpp1.6/StartTransaction.conf",
    "ocpp/connected",
    "ocpp/disconnected",
    "ocpp/security",
]
NAMES = (
    "connectorId transactionId meterValue timestamp sampledValue value context format measurand phase location unit "
    "unitOfMeasure multiplier signedMeterValue idTag meterStart meterStop reservationId reason transactionData "
    "idTagInfo status errorCode info vendorId evseId evse id eventType triggerReason seqNo offline transactionInfo "
    "chargingState stoppedReason remoteStartId idToken type additionalInfo additionalIdToken requestId eventData "
    "component variable name actualValue techCode chargingStation model serialNumber generatedAt settlementTime "
    "version event address generation costDetails x"
)
KEYS = st.sampled_from(NAMES.split())
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63 - 1, 2**63, -(2**63) - 1, 2**200, -1, 0])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(
        [
            "1",
            "-1",
            "12.5",
            "1e400",
            "nan",
            "٣",
            "kWh",
            "W",
            "L1",
            "L1-N",
            "EV",
            "Power.Active.Import",
            "SoC",
            "Started",
        ]
    )
    | st.sampled_from(["2026-11-22T10:00:00Z", "2026-11-22T10:00:00", "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z"])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=12
)
SAMPLES = st.lists(st.dictionaries(KEYS, SCALARS, max_size=6), max_size=4)
METER_VALUES = st.lists(st.fixed_dictionaries({"timestamp": SCALARS, "sampledValue": SAMPLES}), max_size=3)
PAYLOADS = st.dictionaries(KEYS, VALUES, max_size=6).flatmap(
    lambda payload: (
        st.just(payload)
        | METER_VALUES.map(
            lambda values: payload | {"meterValue": values, "transactionData": values, "eventType": "Ended"}
        )
    )
)


@st.composite
def frames(draw: st.DrawFn) -> tuple[str, bytes]:
    """Return a channel and what came on it: mostly a frame of the right shape."""
    channel, payload = draw(st.sampled_from(CHANNELS)), draw(PAYLOADS)
    if channel.startswith("ocpp/"):
        return channel, json.dumps(payload).encode()
    if channel.endswith(".conf"):
        return channel, json.dumps([3, "m", payload]).encode()
    frame: Any = [draw(st.sampled_from([2, 6, 3])), "m", channel.partition("/")[2], payload]
    return channel, draw(st.just(json.dumps(frame).encode()) | st.binary(max_size=20))


@given(st.lists(frames(), min_size=1, max_size=5))
def test_every_entry_is_a_row_or_a_reject(sent: list[tuple[str, bytes]]) -> None:
    """Counted once, of its own offset; an entry gives the same alone as among others."""
    envelopes = [
        Envelope(
            received_at_ns=RECEIVED_NS,
            route=Route(TenantId("t"), DeviceId("cp"), "ocpp", Channel(channel)),
            payload=payload,
        )
        for channel, payload in sent
    ]
    together = DECODER.decode(to_batch(Offset(0), envelopes), range(len(envelopes)))
    offsets: set[int] = set()
    for stream, decoded in together.items():
        contract = CONTRACTS.by_stream(stream)
        assert contract is not None
        assert contract.readings_schema() == dict(decoded.readings.schema)
        assert decoded.records == decoded.readings.height + len(decoded.rejections)
        offsets |= set(decoded.readings["offset"].to_list()) | {one.offset for one in decoded.rejections}
    assert set(range(len(sent))) == offsets
    for at, envelope in enumerate(envelopes):
        alone = DECODER.decode(to_batch(Offset(at), [envelope]), [0])
        for stream, decoded in alone.items():
            readings = together[stream].readings
            assert decoded.readings.rows() == readings.filter(readings["offset"] == at).rows()
            assert decoded.rejections == [one for one in together[stream].rejections if one.offset == at]

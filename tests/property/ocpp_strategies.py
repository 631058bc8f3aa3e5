"""Valid payloads of the calls that carry a session, and ways to spoil a payload."""

from collections.abc import Mapping
from typing import cast

from hypothesis import strategies as st

from gateway.wire.ocpp.versions import Version

Payload = dict[str, object]

_INT32 = st.integers(-(2**31), 2**31 - 1)
_IDS = st.integers(0, 2**31 - 1)
_TIMES = st.datetimes().map(lambda at: f"{at.isoformat()[:19]}Z")
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_MEASURANDS = st.sampled_from(["Voltage", "SoC", "Energy.Active.Import.Register", "Power.Active.Import"])
_CONTEXTS = st.sampled_from(["Sample.Periodic", "Transaction.Begin", "Transaction.End"])


def _fields(
    required: Mapping[str, st.SearchStrategy[object]], optional: Mapping[str, st.SearchStrategy[object]]
) -> st.SearchStrategy[Payload]:
    return st.fixed_dictionaries(dict(required), optional=dict(optional))


_SAMPLES_16 = _fields(
    {"value": st.floats(-1e6, 1e6).map(str)},
    {"measurand": _MEASURANDS, "context": _CONTEXTS, "phase": st.sampled_from(["L1", "L2-N"]), "unit": st.just("kWh")},
)
_METER_16 = st.lists(
    _fields({"timestamp": _TIMES, "sampledValue": st.lists(_SAMPLES_16, min_size=1, max_size=5)}, {}),
    min_size=1,
    max_size=3,
)
_SAMPLES_2 = _fields(
    {"value": st.floats(-1e6, 1e6)},
    {
        "measurand": _MEASURANDS,
        "context": _CONTEXTS,
        "unitOfMeasure": _fields({}, {"unit": _TEXTS, "multiplier": _INT32}),
    },
)
_METER_2 = st.lists(
    _fields({"timestamp": _TIMES, "sampledValue": st.lists(_SAMPLES_2, min_size=1, max_size=5)}, {}),
    min_size=1,
    max_size=3,
)
_TOKENS = _fields({"idToken": _TEXTS, "type": st.sampled_from(["ISO14443", "Central", "eMAID"])}, {})
_EVSES = _fields({"id": _IDS}, {"connectorId": _IDS})

_CALLS_16: Mapping[str, st.SearchStrategy[Payload]] = {
    "Heartbeat": st.just({}),
    "Authorize": _fields({"idTag": _TEXTS}, {}),
    "BootNotification": _fields({"chargePointVendor": _TEXTS, "chargePointModel": _TEXTS}, {"iccid": _TEXTS}),
    "MeterValues": _fields({"connectorId": _INT32, "meterValue": _METER_16}, {"transactionId": _INT32}),
    "StartTransaction": _fields(
        {"connectorId": _INT32, "idTag": _TEXTS, "meterStart": _INT32, "timestamp": _TIMES}, {"reservationId": _INT32}
    ),
    "StatusNotification": _fields(
        {
            "connectorId": _INT32,
            "errorCode": st.sampled_from(["NoError", "GroundFailure"]),
            "status": st.sampled_from(["Available", "SuspendedEV"]),
        },
        {"info": _TEXTS, "timestamp": _TIMES},
    ),
    "StopTransaction": _fields(
        {"transactionId": _INT32, "meterStop": _INT32, "timestamp": _TIMES},
        {"idTag": _TEXTS, "reason": st.sampled_from(["Local", "PowerLoss"]), "transactionData": _METER_16},
    ),
}
_CALLS_2: Mapping[str, st.SearchStrategy[Payload]] = {
    "Heartbeat": st.just({}),
    "Authorize": _fields({"idToken": _TOKENS}, {}),
    "BootNotification": _fields(
        {"reason": st.just("PowerUp"), "chargingStation": _fields({"model": _TEXTS, "vendorName": _TEXTS}, {})}, {}
    ),
    "MeterValues": _fields({"evseId": _IDS, "meterValue": _METER_2}, {}),
    "StatusNotification": _fields(
        {
            "timestamp": _TIMES,
            "connectorStatus": st.sampled_from(["Available", "Occupied"]),
            "evseId": _IDS,
            "connectorId": _IDS,
        },
        {},
    ),
    "TransactionEvent": _fields(
        {
            "eventType": st.sampled_from(["Started", "Updated", "Ended"]),
            "timestamp": _TIMES,
            "triggerReason": st.sampled_from(["Authorized", "MeterValuePeriodic"]),
            "seqNo": _IDS,
            "transactionInfo": _fields({"transactionId": _TEXTS}, {"stoppedReason": st.just("Local")}),
        },
        {"idToken": _TOKENS, "evse": _EVSES, "meterValue": _METER_2, "offline": st.booleans()},
    ),
}


def _calls(version: Version) -> st.SearchStrategy[tuple[Version, str, Payload]]:
    payloads = _CALLS_16 if version is Version.V16 else _CALLS_2
    one_of = [st.tuples(st.just(version), st.just(action), payload) for action, payload in payloads.items()]
    return st.one_of(one_of)


calls: st.SearchStrategy[tuple[Version, str, Payload]] = st.one_of([_calls(version) for version in Version])
"""Version, action and a payload that its schema allows."""

_ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=600),
    st.just([]), st.just({}), st.just([{}]), st.just({"a": {"b": [1]}}),
)  # fmt: skip


@st.composite
def spoiled(draw: st.DrawFn, payload: Payload) -> Payload:
    """Return a copy of a payload with one place changed: a field gone, added, or of another kind."""
    node: object = payload
    path: list[str | int] = []
    while isinstance(node, dict | list) and node and (not path or draw(st.booleans())):
        keys: list[str | int] = sorted(node) if isinstance(node, dict) else list(range(len(node)))
        path.append(draw(st.sampled_from(keys)))
        node = node[path[-1]]  # type: ignore[index]
    how = draw(st.sampled_from(["drop", "change", "add"])) if path else "add"
    odd = draw(_ODD)
    return cast("Payload", _changed(payload, path, how, odd))


def _changed(node: object, path: list[str | int], how: str, odd: object) -> object:
    if len(path) > 1:
        key, rest = path[0], path[1:]
        items = node.items() if isinstance(node, dict) else enumerate(cast("list[object]", node))
        changed = [(name, _changed(value, rest, how, odd) if name == key else value) for name, value in items]
        return dict(changed) if isinstance(node, dict) else [value for _, value in changed]
    if isinstance(node, dict):
        kept = {name: value for name, value in node.items() if not path or name != path[0]}
        return kept if how == "drop" else kept | {str(path[0]) if how == "change" else "extra": odd}
    values = cast("list[object]", node)
    kept_values = [value for index, value in enumerate(values) if index != path[0]]
    return kept_values if how == "drop" else [*kept_values, odd]


json_values: st.SearchStrategy[object] = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(max_size=50), st.floats(allow_nan=False, allow_infinity=False)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(st.text(max_size=10), inner, max_size=6)),
    max_leaves=20,
)

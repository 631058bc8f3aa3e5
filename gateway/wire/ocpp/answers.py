"""What the central system says to each call of a station.

Owns the answer to every action of a station in the three versions, valid by its schema. Refuses to know the journal: an
answer exists before its call is durable and leaves after. Refuses to decide whom to let charge: `id_token_status` does.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

from gateway.core.ids import Channel
from gateway.wire.ocpp.actions import FROM_STATION
from gateway.wire.ocpp.versions import Version

START_ANSWER_CHANNEL: Final = Channel(f"{Version.V16}/StartTransaction.conf")
"""Where our answer to StartTransaction is journalled: it carries the transaction id, which nothing else does."""

_NS_PER_MS: Final = 1_000_000

Payload = Mapping[str, object]


class Reply(msgspec.Struct, frozen=True, gc=False):
    """The payload of a CALLRESULT, and the channel it is journalled on where it carries a fact of its own."""

    payload: bytes
    channel: Channel | None = None


_Compose = Callable[[Payload, int], Reply]
_EMPTY: Final = Reply(b"{}")


def _status(word: str) -> Reply:
    return Reply(b'{"status":"%b"}' % word.encode())


_FIXED: Final[Mapping[str, Reply]] = {
    # We speak no vendor's dialect; the message is journalled all the same.
    "DataTransfer": Reply(b'{"status":"UnknownVendorId"}'),
    # There is no certificate authority behind this central system, and none is asked in a station's name.
    "SignCertificate": _status("Rejected"),
    "Get15118EVCertificate": Reply(b'{"status":"Failed","exiResponse":""}'),
    "GetCertificateStatus": _status("Failed"),
    # It plans no charging: no schedule will come, and the vehicle's own plan is noted.
    "NotifyEVChargingNeeds": _status("Rejected"),
    "NotifyEVChargingSchedule": _status("Accepted"),
    "PullDynamicScheduleUpdate": _status("Rejected"),
    # Its events are journalled.
    "OpenPeriodicEventStream": _status("Accepted"),
}
"""Answers that do not depend on the call. Any other action is only told that it was heard, by an empty object."""

_FIXED_21: Final[dict[str, Reply | _Compose]] = {
    # 2.1 has a word for it: the vehicle need not wait, nobody will send a profile.
    "NotifyEVChargingNeeds": _status("NoChargingProfile"),
}

READ: Final[Mapping[str, frozenset[str]]] = {
    "Authorize": frozenset({"idTag", "idToken", "certificate", "iso15118CertificateHashData"}),
    "StartTransaction": frozenset({"idTag"}),
    "StopTransaction": frozenset({"idTag"}),
    "TransactionEvent": frozenset({"idToken"}),
    "GetCertificateChainStatus": frozenset({"certificateStatusRequests"}),
    "VatNumberValidation": frozenset({"vatNumber"}),
}
"""Fields of a call that its answer depends on: without them the answer is the one to an empty payload."""


class Answers:
    """What we say; one for all sessions of a gateway.

    Args:
        heartbeat_interval_s: Called per BootNotification: seconds to the next heartbeat, jittered, positive.
        next_transaction_id: Called per 1.6 StartTransaction: a positive int32 that was never given before.
        id_token_status: The authorization status of an id token (its text, "" where the station sent none): a word that
            all versions know: Accepted, Blocked, Expired, Invalid, ConcurrentTx. Default: everybody is accepted.
    """

    def __init__(
        self,
        *,
        heartbeat_interval_s: Callable[[], int],
        next_transaction_id: Callable[[], int],
        id_token_status: Callable[[str], str] = lambda _token: "Accepted",
    ) -> None:
        self._heartbeat_interval_s = heartbeat_interval_s
        self._next_transaction_id = next_transaction_id
        self._id_token_status = id_token_status
        shared: dict[str, Reply | _Compose] = {
            **_FIXED,
            "BootNotification": self._boot_notification,
            "Heartbeat": _heartbeat,
        }
        of_16: dict[str, Reply | _Compose] = {
            "Authorize": self._authorize_16,
            "StartTransaction": self._start_transaction,
            "StopTransaction": self._stop_transaction,
        }
        of_2: dict[str, Reply | _Compose] = {
            "Authorize": self._authorize_2,
            "TransactionEvent": self._transaction_event,
            "GetCertificateChainStatus": _certificate_chain_status,
            "VatNumberValidation": _vat_number_validation,
        }
        self._replies = {
            Version.V16: _only(Version.V16, shared | of_16),
            Version.V201: _only(Version.V201, shared | of_2),
            Version.V21: _only(Version.V21, shared | of_2 | _FIXED_21),
        }

    def reply(self, version: Version, action: str, payload: Payload, *, now_ns: int) -> Reply:
        """Return the answer to a call.

        Takes a new transaction id for a StartTransaction, so ask once per call. `payload` may break its schema in any
        way (strictness `audit`); the answer is valid by its own all the same.
        Raises: KeyError: The action is none that a station may call.
        """
        reply = self._replies[version][action]
        return reply if isinstance(reply, Reply) else reply(payload, now_ns)

    def _boot_notification(self, _payload: Payload, now_ns: int) -> Reply:
        fields = {"currentTime": to_text(now_ns), "interval": self._heartbeat_interval_s(), "status": "Accepted"}
        return Reply(msgspec.json.encode(fields))

    def _authorize_16(self, payload: Payload, _now_ns: int) -> Reply:
        return _encode({"idTagInfo": self._token_info(payload.get("idTag"))})

    def _start_transaction(self, payload: Payload, _now_ns: int) -> Reply:
        info = self._token_info(payload.get("idTag"))
        fields = {"transactionId": self._next_transaction_id(), "idTagInfo": info}
        return Reply(msgspec.json.encode(fields), START_ANSWER_CHANNEL)

    def _stop_transaction(self, payload: Payload, _now_ns: int) -> Reply:
        return _encode({"idTagInfo": self._token_info(payload["idTag"])}) if "idTag" in payload else _EMPTY

    def _authorize_2(self, payload: Payload, _now_ns: int) -> Reply:
        fields: dict[str, object] = {"idTokenInfo": self._token_info(_token_of(payload))}
        if "certificate" in payload or "iso15118CertificateHashData" in payload:
            # The token may be known; the contract certificate that came with it was verified by nobody.
            fields["certificateStatus"] = "NoCertificateAvailable"
        return _encode(fields)

    def _transaction_event(self, payload: Payload, _now_ns: int) -> Reply:
        return _encode({"idTokenInfo": self._token_info(_token_of(payload))}) if "idToken" in payload else _EMPTY

    def _token_info(self, token: object) -> dict[str, str]:
        return {"status": self._id_token_status("" if token is None else str(token))}


def to_text(at_ns: int) -> str:
    """Return a time point as OCPP writes it: UTC, milliseconds, Z."""
    at_s, rest_ms = divmod(at_ns // _NS_PER_MS, 1000)
    return f"{_second_of(at_s)}.{rest_ms:03d}Z"


@lru_cache(maxsize=4)
def _second_of(at_s: int) -> str:
    """Return a second without its zone; kept, because it costs 2 us, and thousands of calls share a second."""
    return datetime.fromtimestamp(at_s, UTC).isoformat()[:19]


def _only(version: Version, known: Mapping[str, Reply | _Compose]) -> dict[str, Reply | _Compose]:
    """Return the answers of one version."""
    return {action: known.get(action, _EMPTY) for action in FROM_STATION[version]}


def _encode(fields: Mapping[str, object]) -> Reply:
    return Reply(msgspec.json.encode(fields))


def _heartbeat(_payload: Payload, now_ns: int) -> Reply:
    return _heartbeat_at(now_ns // _NS_PER_MS)


@lru_cache(maxsize=4)
def _heartbeat_at(at_ms: int) -> Reply:
    """Return the answer within a millisecond; kept, because a busy gateway answers dozens in one."""
    return Reply(b'{"currentTime":"%b"}' % to_text(at_ms * _NS_PER_MS).encode())


def _token_of(payload: Payload) -> object:
    """Return the text of a 2.x id token."""
    token = payload.get("idToken")
    return token.get("idToken") if isinstance(token, dict) else token


def _certificate_chain_status(payload: Payload, now_ns: int) -> Reply:
    """Answer for each certificate that nobody was asked; it is named as far as the answer's schema has room."""
    asked = payload.get("certificateStatusRequests")
    requests = [one for one in asked if isinstance(one, dict)] if isinstance(asked, list) else []
    states = [
        {
            "certificateHashData": _hash_data(one.get("certificateHashData")),
            "source": _word(one.get("source"), _SOURCES),
            "status": "Failed",
            "nextUpdate": to_text(now_ns),
        }
        for one in (requests or [{}])[:_CERTIFICATES_MAX]
    ]
    return _encode({"certificateStatus": states})


_SOURCES: Final = ("OCSP", "CRL")
_HASH_ALGORITHMS: Final = ("SHA256", "SHA384", "SHA512")
_HASH_TEXTS: Final[Mapping[str, int]] = {"issuerNameHash": 128, "issuerKeyHash": 128, "serialNumber": 40}
_CERTIFICATES_MAX: Final = 4
"""From the schema of GetCertificateChainStatusResponse."""


def _hash_data(asked: object) -> dict[str, str]:
    fields = asked if isinstance(asked, dict) else {}
    texts = {name: str(fields.get(name, ""))[:chars_max] for name, chars_max in _HASH_TEXTS.items()}
    return {"hashAlgorithm": _word(fields.get("hashAlgorithm"), _HASH_ALGORITHMS)} | texts


def _word(asked: object, words: tuple[str, ...]) -> str:
    return asked if isinstance(asked, str) and asked in words else words[0]


_VAT_NUMBER_CHARS_MAX: Final = 20


def _vat_number_validation(payload: Payload, _now_ns: int) -> Reply:
    """Answer that the number was not validated: nobody was asked."""
    return _encode({"vatNumber": str(payload.get("vatNumber", ""))[:_VAT_NUMBER_CHARS_MAX], "status": "Rejected"})

"""Password hashes: what matches, and what a refusal costs."""

import pytest

from gateway.registry import passwords
from gateway.registry.passwords import decoy_hash, hash_password, hash_random_password, verify_password

DEAR, QUICK = "$argon2id$v=19$m=19456,t=2,p=1$", "$argon2id$v=19$m=64,t=1,p=1$"


@pytest.mark.parametrize(("make", "parameters"), [(hash_password, DEAR), (hash_random_password, QUICK)])
def test_a_hash_has_its_own_salt_and_matches_its_password_alone(make: object, parameters: str) -> None:
    """Both costs are argon2id in the PHC format, which says how to verify it."""
    assert callable(make)
    first, second = make(b"right"), make(b"right")
    assert first.startswith(parameters)
    assert first != second
    assert [verify_password(first, password) for password in (b"right", b"wrong", b"")] == [True, False, False]


@pytest.mark.parametrize("password_hash", ["", "no hash", "$argon2id$v=19$m=64,t=1,p=1$short"])
def test_what_is_no_hash_matches_nothing(password_hash: str) -> None:
    """A device without a password has none that could be guessed, not even an empty one."""
    assert [verify_password(password_hash, password) for password in (b"", b"right")] == [False, False]


def test_the_bytes_of_a_password_need_not_be_text() -> None:
    """An AuthorizationKey of OCPP 1.6 is any 16 to 20 bytes."""
    key = bytes(range(240, 256)) + b"\0:\n "
    assert verify_password(hash_password(key), key)


@pytest.mark.parametrize("name", ["unknown", "without a password", "dear", "quick"])
def test_every_refusal_costs_one_verification_of_each_kind(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The time of an answer tells neither which names exist nor what kind of password they have."""
    hashes = {
        "unknown": decoy_hash(),
        "without a password": "",
        "dear": hash_password(b"right"),
        "quick": hash_random_password(b"right"),
    }
    verify_password("", b"x")  # the decoys are made at the first use
    costs: list[str] = []

    def matches(password_hash: str, _password: bytes) -> bool:
        costs.append(password_hash[: len(DEAR)] if password_hash.startswith(DEAR) else password_hash[: len(QUICK)])
        return False

    monkeypatch.setattr(passwords, "_matches", matches)
    assert not verify_password(hashes[name], b"wrong")
    assert sorted(cost for cost in costs if cost) == [DEAR, QUICK]


def test_a_right_password_costs_one_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of chargers come back at once after an outage, each with a quick hash."""
    calls: list[str] = []
    real = passwords._matches

    def matches(password_hash: str, password: bytes) -> bool:
        calls.append(password_hash)
        return real(password_hash, password)

    monkeypatch.setattr(passwords, "_matches", matches)
    quick = hash_random_password(b"right")
    assert verify_password(quick, b"right")
    assert calls == [quick]

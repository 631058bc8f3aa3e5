"""Password hashes: the only module that knows argon2.

Stretching makes each guess expensive. It protects a password that a person chose, of which there are few; one that
Voltgate made has 120 random bits or more, and 2^120 guesses are out of reach at any price each. So the second kind is
hashed with the same function at its smallest cost, and a fleet of thousands reconnects after an outage in seconds.
The PHC string carries its own cost, so `verify_password` needs to be told nothing.

What a refusal's time tells: nothing. Every refusal costs one verification of each kind, whether the name is unknown,
has no password, or has one of either kind. Otherwise quick refusals would point out the names that exist, and slow
ones the passwords that are worth guessing. Only an accepted password is cheap, and who has it knows that already.
"""

from functools import cache
from typing import Final

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""argon2id as the OWASP password storage cheat sheet has it: 19 MiB, two passes, one lane; about 30 ms of a core."""
QUICK_HASHER: Final = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
"""The same function over 64 KiB, one pass: under 0.1 ms. For random passwords of at least 120 bits alone."""


def hash_password(password: bytes) -> str:
    """Return a new argon2id hash with its own salt, in the PHC string format. Takes about 30 ms."""
    return HASHER.hash(password)


def hash_random_password(password: bytes) -> str:
    """Return the quick hash of a password that `secrets` made with at least 120 bits; never of one that was given."""
    return QUICK_HASHER.hash(password)


def verify_password(password_hash: str, password: bytes) -> bool:
    """Return whether the hash was made from the password.

    An unreadable hash and an empty one, which a device without a password has, match nothing. A refusal takes as long
    as one verification of each kind.
    """
    if _matches(password_hash, password):
        return True
    if _kind(password_hash) != _kind(decoy_hash()):
        _matches(decoy_hash(), password)
    if _kind(password_hash) != _kind(_quick_decoy_hash()):
        _matches(_quick_decoy_hash(), password)
    return False


@cache
def decoy_hash() -> str:
    """Return a hash that is verified for unknown users, so that they take as long as a wrong password."""
    return hash_password(b"nobody has this password")


@cache
def _quick_decoy_hash() -> str:
    return hash_random_password(b"nobody has this password")


def _matches(password_hash: str, password: bytes) -> bool:
    try:
        return HASHER.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


def _kind(password_hash: str) -> object:
    """Return what tells hashes of different cost apart; None for what is no hash."""
    try:
        return extract_parameters(password_hash)
    except InvalidHashError:
        return None

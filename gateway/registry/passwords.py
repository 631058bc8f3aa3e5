"""Password hashes: the only module that knows argon2."""

from functools import cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""argon2id as the OWASP password storage cheat sheet has it: 19 MiB, two passes, one lane; about 30 ms of a core."""


def hash_password(password: bytes) -> str:
    """Return a new argon2id hash with its own salt, in the PHC string format. Takes about 30 ms."""
    return HASHER.hash(password)


def verify_password(password_hash: str, password: bytes) -> bool:
    """Return whether the hash was made from the password. Takes about 30 ms; an unreadable hash matches nothing."""
    try:
        return HASHER.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


@cache
def decoy_hash() -> str:
    """Return a hash that is verified for unknown users, so that they take as long as a wrong password."""
    return hash_password(b"nobody has this password")

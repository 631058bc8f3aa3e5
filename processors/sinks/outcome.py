"""What became of one try to deliver a message."""

from typing import Literal

import msgspec

Verdict = Literal["done", "retry", "doubt", "refused", "gone"]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one try.

    Attributes:
        verdict: `done` the receiver took it; `retry` it is down, slow or busy: again until the message is too old;
            `doubt` it does not want it, maybe by a mistake that somebody mends: a few times more; `refused` never
            again; `gone` never again, and nothing else there either.
        why: For people; of a message that was taken what they should know besides.
        status: The protocol's code, None where no answer came.
        after_s: How long the receiver asked to be left alone, None where it did not.
    """

    verdict: Verdict
    why: str | None = None
    status: int | None = None
    after_s: float | None = None


def retry(why: str, *, status: int | None = None, after_s: float | None = None) -> Outcome:
    """Return the outcome of a try that may go better later."""
    return Outcome(verdict="retry", why=why, status=status, after_s=after_s)


def doubt(why: str, *, status: int | None = None) -> Outcome:
    """Return the outcome of a try that will not go better by itself."""
    return Outcome(verdict="doubt", why=why, status=status)

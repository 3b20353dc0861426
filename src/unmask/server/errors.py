"""What a request is refused with."""

from __future__ import annotations


class Refusal(Exception):  # noqa: N818 - it is an answer
    """A status, a short code for programs, one clear line for people; perhaps when to try again."""

    def __init__(
        self, status: int, code: str, message: str, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after  # seconds


def overloaded(message: str, seconds: float) -> Refusal:
    """429: there is more work than can be done in time."""
    return Refusal(429, "overloaded", message, max(1.0, seconds))


def bad_input(message: str) -> Refusal:
    """422: the request is well-formed and asks for what cannot be."""
    return Refusal(422, "bad_input", message)

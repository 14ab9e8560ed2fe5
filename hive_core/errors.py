"""The one error type that reaches a user: what is wrong, and what to do about it."""

from __future__ import annotations


class HiveError(Exception):
    """A request or a start that is refused.

    `code` is stable and for programs, `message` says what and why, `hint` says what to do, `status` is the
    HTTP status under which it is told. Raised anywhere below the sockets; turned into the wire's error shape
    in one place (`hive_core.api.endpoint`) and into one line on stderr by the CLI.
    """

    def __init__(self, code: str, message: str, *, hint: str = "", status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.status = status


def bad_request(message: str, hint: str = "") -> HiveError:
    """The request itself is not of the protocol's form."""
    return HiveError("invalid_request", message, hint=hint, status=400)


def not_found(code: str, message: str, hint: str = "") -> HiveError:
    """The thing that the request names does not exist."""
    return HiveError(code, message, hint=hint, status=404)


def forbidden(code: str, message: str, hint: str = "") -> HiveError:
    """The caller is known, and may not do this."""
    return HiveError(code, message, hint=hint, status=403)


def conflict(code: str, message: str, hint: str = "") -> HiveError:
    """The request does not fit the state that the thing is in now."""
    return HiveError(code, message, hint=hint, status=409)

"""The error type for users: a code, a message and a hint."""

from __future__ import annotations

from collections.abc import Sequence


class HiveError(Exception):
    """The refusal of a request or of a start.

    `code` is stable and for programs, `message` describes the problem, `hint` says what to do, `status` is the HTTP
    status of the response. The API converts it to the error form of the protocol (`hive_core.api.endpoint`), the
    command line to one line on stderr. `fields` are pairs of a wrong field of the request and the reason.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str = "",
        status: int = 400,
        fields: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.status = status
        self.fields = fields


def bad_request(message: str, hint: str = "") -> HiveError:
    """Return the error for a request that violates the protocol."""
    return HiveError("invalid_request", message, hint=hint, status=400)


def not_found(code: str, message: str, hint: str = "") -> HiveError:
    """Return the error for a request that names something that does not exist."""
    return HiveError(code, message, hint=hint, status=404)


def forbidden(code: str, message: str, hint: str = "") -> HiveError:
    """Return the error for a caller without the permission."""
    return HiveError(code, message, hint=hint, status=403)


def conflict(code: str, message: str, hint: str = "") -> HiveError:
    """Return the error for a request that conflicts with the current state."""
    return HiveError(code, message, hint=hint, status=409)

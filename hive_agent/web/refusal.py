"""What the page answers instead of what was asked for, in the hive's one shape of errors."""

from __future__ import annotations

from aiohttp import web

from hive_agent.client.connection import CoreError
from hive_core.protocol import ErrorAnswer, ErrorBody


class PageError(Exception):
    """A request is refused: `code` is for programs, `message` says what and why, `hint` what to do."""

    def __init__(self, code: str, message: str, hint: str = "", *, status: int = 400) -> None:
        super().__init__(message)
        self.body = ErrorBody(code=code, message=message, hint=hint)
        self.status = status


def from_hive(error: CoreError) -> PageError:
    """What the daemon refused, as the page tells it."""
    status = error.status if 400 <= error.status < 600 else 503
    return PageError(error.code, error.message, error.hint, status=status)


def answer(error: PageError) -> web.Response:
    """The refusal on the wire."""
    return web.json_response(text=ErrorAnswer(error=error.body).as_json(), status=error.status)

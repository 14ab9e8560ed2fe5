"""Answers and refusals of the fake of the daemon."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web
from pydantic import BaseModel

from hive_core.protocol import ErrorAnswer, ErrorBody, WrongField


class Refusal(Exception):
    """An error answer of the daemon."""

    def __init__(self, status: int, code: str, text: str, hint: str = "", fields: Mapping[str, str] = {}) -> None:
        super().__init__(text)
        self.status = status
        wrong = [WrongField(field=field, reason=reason) for field, reason in fields.items()]
        self.answer = ErrorAnswer(error=ErrorBody(code=code, message=text, hint=hint, fields=wrong))


def answered(model: BaseModel) -> web.Response:
    """`model` as the daemon writes it."""
    return web.Response(text=model.model_dump_json(), content_type="application/json")

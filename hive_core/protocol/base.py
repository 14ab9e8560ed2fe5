"""What every request, query and answer has in common, and the one shape of errors."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

# defer_build: validators are made at their first use. No process uses all of them, and every start would pay for all.


class Request(BaseModel):
    """What a caller sends: closed, and strict about types."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)


class Query(BaseModel):
    """What a caller sends in the query string: closed; text is converted to the field's type."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


class Answer(BaseModel):
    """What the daemon answers: open, so that older readers skip what they do not know."""

    model_config = ConfigDict(extra="ignore", defer_build=True)


class ErrorBody(Answer):
    """`code` is stable and for programs; `message` says what and why; `hint` says what to do."""

    code: str
    message: str
    hint: str = ""


class ErrorAnswer(Answer):
    """The one shape of every error."""

    error: ErrorBody


class Done(Answer):
    """An action without a result of its own was carried out."""

    ok: Literal[True] = True

"""Base classes of the models, shared types of fields, and the body of an error."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
)
from pydantic_core import PydanticCustomError

from hive_core.protocol.names import EVERYONE, RECIPIENT_PATTERN, RESERVED, is_agent_name, why_not

# defer_build: validators are made at their first use. No process uses all of them, and every start would pay for all.


class Request(BaseModel):
    """Base of requests: unknown fields are refused, and types are strict."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)


class Query(BaseModel):
    """The query string of a request. It refuses unknown fields; texts are converted to the field's type."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


class Answer(BaseModel):
    """An answer of the daemon. Unknown fields are ignored, so that older readers understand newer answers."""

    model_config = ConfigDict(extra="ignore", defer_build=True)


class WrongField(Answer):
    """A field of a request that was refused, such as `body.config.memory_max`, and what is wrong with it."""

    field: str
    reason: str


class ErrorBody(Answer):
    """One error. `code` is stable and for programs, `message` describes the error, `hint` says what to do.

    `fields` are the first wrong fields of a request, if it is refused for its form; `message` names them too.
    """

    code: str
    message: str
    hint: str = ""
    fields: list[WrongField] = []


class ErrorAnswer(Answer):
    """The answer to every request that failed."""

    error: ErrorBody

    def as_json(self) -> str:
        """Return the answer as JSON, without `fields` if there are none."""
        return self.model_dump_json(exclude=None if self.error.fields else {"error": {"fields"}})


class Done(Answer):
    """The answer to an action without a result of its own."""

    ok: Literal[True] = True


MAX_BODY_BYTES = 256 * 1024
"""Largest message body, in bytes of UTF-8."""
MAX_REQUEST_BYTES = 2 * 1024 * 1024
"""Largest HTTP request body: a message of only control characters grows six-fold in JSON."""
MAX_LEASED = 1_000
"""Most messages that an instance holds, and that a request about leases names."""
MAX_WAIT_SECONDS = 300.0
"""Longest time that a long poll may ask for."""


def _recipient(text: str) -> str:
    """Refuse a text that is no valid name, with a message that says why."""
    if text == EVERYONE or text in RESERVED or is_agent_name(text):
        return text
    raise PydanticCustomError("bad_name", "{why}", {"why": why_not(text)})


Recipient = Annotated[str, AfterValidator(_recipient), Field(json_schema_extra={"pattern": RECIPIENT_PATTERN})]


def _not_blank(text: str) -> str:
    if not text or text.isspace():
        raise PydanticCustomError("blank", "it is empty")
    return text


MessageBody = Annotated[str, AfterValidator(_not_blank), Field(json_schema_extra={"minLength": 1, "pattern": r"\S"})]
"""Text of a message; it says something."""
MessageId = Annotated[int, Field(ge=1, le=2**63 - 1)]
IdempotencyKey = Annotated[str, StringConstraints(min_length=1, max_length=128)]
"""Chosen by the caller: the same request with the same key is carried out once."""
Instance = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{8,64}$")]
"""One run of a harness; a new process chooses a new one."""
WaitSeconds = Annotated[float, Field(ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False)]

Kind = Literal["agent", "manager"]
Backend = Literal["scripted", "claude", "opencode", "codex", "gemini"]
Lifecycle = Literal["starting", "running", "backoff", "stopping", "stopped", "failed"]
"""State of the container or process: in `backoff` it is restarted after a pause, in `failed` no more."""
HarnessState = Literal["starting", "idle", "thinking", "failed", "paused", "needs_login", "budget", "offline"]
"""State of the harness, as it reports it: in `failed` it tries again by itself, in `paused` it waits for a person.

In `budget` a budget of the hive's does not allow its calls; it goes on with the next day, or when money is added.

The daemon reports `offline` for a harness that does not run.
"""
PAUSED_BY_OPERATOR = "paused by the operator: messages wait until it is resumed"
"""The detail of `paused` for an agent whose operator has paused it, of which nobody else need be told."""

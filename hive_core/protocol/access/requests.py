"""The request of a session, and the answer that carries its descriptor."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from hive_core.protocol.base import Answer, Request

MOST_ARGUMENTS = 4_096
MOST_VARIABLES = 64

_Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=128 * 1024)]
_Path = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=4_095)]
_Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
_Port = Annotated[int, Field(ge=0, le=65_535)]


class TerminalSize(Request):
    """The caller's terminal."""

    columns: Annotated[int, Field(ge=0, le=65_535)]
    rows: Annotated[int, Field(ge=0, le=65_535)]
    term: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")] = "dumb"


class AccessRequest(Request):
    """A session in an agent; `hive_core.protocol.access.opening.Opening` says what the fields mean."""

    kind: Literal["run", "get", "put", "connect", "forward"]
    argv: list[_Text] = Field(default_factory=list, max_length=MOST_ARGUMENTS)
    terminal: TerminalSize | None = None
    directory: _Path = ""
    environment: dict[_Variable, _Text] = Field(default_factory=dict, max_length=MOST_VARIABLES)
    port: _Port = 0
    path: _Path = ""
    name: Annotated[str, StringConstraints(pattern=r"^[^\x00/]*$", max_length=255)] = ""
    into: bool = False


class AccessAnswer(Answer):
    """The answer to an AccessRequest; the descriptor of the session is attached to its bytes (SCM_RIGHTS)."""

    agent: str
    who: str

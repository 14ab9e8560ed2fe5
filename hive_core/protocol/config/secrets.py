"""Models of the secrets of an agent."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, field_validator
from pydantic_core import PydanticCustomError

from hive_core.errors.faults import in_words
from hive_core.protocol.base import Answer, Request

MAX_SECRET_BYTES = 64 * 1024
"""Largest secret: the kernel takes no variable of more than 128 KiB."""
MAX_SECRETS = 100
"""Most secrets of one agent."""
_TAKEN = frozenset({"PATH", "HOME", "TMPDIR"})
_TAKEN_PREFIXES = ("HIVE_", "LD_")


def _not_taken(name: str) -> str:
    if name in _TAKEN or name.startswith(_TAKEN_PREFIXES):
        why = "PATH, HOME, TMPDIR and names that begin with HIVE_ or LD_ have meanings already; choose another name"
        raise PydanticCustomError("taken", "{why}", {"why": why})
    return name


SecretName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"),
    in_words("it must be the name of a variable: A-Z, a-z, 0-9 and _, at most 64 of them, and no digit first"),
    AfterValidator(_not_taken),
]
"""Name of a secret, which is also that of its file and of its variable."""


class SetSecret(Request):
    """Give an agent a secret, or another value for one that it has. `value` are its bytes in Base64."""

    name: SecretName
    value: Annotated[SecretStr, Field(max_length=MAX_SECRET_BYTES * 2)]

    @field_validator("value")
    @classmethod
    def _is_usable(cls, value: SecretStr) -> SecretStr:
        """Refuse what no file and no variable can hold. The text of the error has nothing of the value."""
        try:
            content = base64.b64decode(value.get_secret_value(), validate=True)
        except (binascii.Error, ValueError):
            raise PydanticCustomError("bad_value", "it must be Base64") from None
        if not content:
            raise PydanticCustomError("bad_value", "it is empty")
        if len(content) > MAX_SECRET_BYTES:
            raise PydanticCustomError("bad_value", "it may have at most 64 KiB")
        if b"\0" in content:
            raise PydanticCustomError("bad_value", "it may hold no NUL byte, because no variable can hold one")
        return value

    @property
    def content(self) -> bytes:
        """The bytes of the secret."""
        return base64.b64decode(self.value.get_secret_value())


class RemoveSecret(Request):
    """Take a secret away from an agent, at once."""

    name: SecretName


class SecretEntry(Answer):
    """One secret of an agent, without its value. `problem` says why the agent does not see it; empty if it does."""

    name: str
    changed_at: datetime
    problem: str = ""


class SecretList(Answer):
    """The secrets of an agent. `in_turns` are the names that its agent.toml asks for as variables."""

    agent: str
    secrets: list[SecretEntry]
    in_turns: list[str]

"""Texts that go into git objects: cleaned so that no name and no message can make an object malformed."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME_MOST = 200
_CRUD = " .,:;<>\"\\'"
"""What git itself cuts off the ends of a name."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Person:
    """Who did something, as git writes it: `name <email>`."""

    name: str
    email: str


def person_line(person: Person, when: int) -> bytes:
    """The person and the time (unix seconds, told in UTC) as git's objects hold them."""
    name = _plain(person.name) or "unknown"
    email = _plain(person.email).replace(" ", "")
    return f"{name} <{email}> {max(when, 0)} +0000".encode()


def message_bytes(message: str) -> bytes:
    """A message as git's objects hold it: one newline at its end, control characters but tab and newline replaced."""
    text = _CONTROLS.sub("\ufffd", message.replace("\r\n", "\n"))
    return text.rstrip("\n").encode(errors="replace") + b"\n"


def _plain(text: str) -> str:
    kept = "".join(char for char in text[:_NAME_MOST] if char.isprintable() and char not in "<>")
    return kept.strip(_CRUD)

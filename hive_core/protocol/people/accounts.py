"""Requests and answers to manage accounts, on the host."""

from __future__ import annotations

from datetime import datetime

from hive_core.protocol.base import Answer, Request
from hive_core.protocol.people.sign_in import PersonName, PersonRole


class AddPersonRequest(Request):
    """Make an account, with a link by which the person chooses a password."""

    name: PersonName
    role: PersonRole = "operator"


class SetUpLinkRequest(Request):
    """Make the link by which an admin signs in for the first time, or again. Without a name, the admin chooses one."""

    name: PersonName | None = None


class ResetLinkRequest(Request):
    """Make a link by which a person chooses another password; an earlier link is good no more."""


class RoleRequest(Request):
    """Give a person another role, at once."""

    role: PersonRole


class RemovePersonRequest(Request):
    """Remove an account, and end all that the person is signed in with."""


class SetUpLink(Answer):
    """A set-up link, which is told only here. It is good once; `name` is None if the person chooses it."""

    name: str | None
    role: PersonRole
    url: str
    ends_at: datetime


class PersonAccount(Answer):
    """An account. `ready` is false until its first set-up link was used; `linked` says that a link can be used."""

    name: str
    role: PersonRole
    ready: bool
    linked: bool
    made_at: datetime
    signed_in_at: datetime | None = None
    sessions: int
    tokens: int


class PersonList(Answer):
    """The accounts, by name."""

    people: list[PersonAccount]

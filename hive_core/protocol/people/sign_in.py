"""Requests and answers to sign in and out, and of one's own account."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, StringConstraints
from pydantic_core import PydanticCustomError

from hive_core.protocol.base import Answer, Query, Request
from hive_core.protocol.names import NAME_PATTERN, PERSON_PATTERN, is_person_name, why_no_person_name
from hive_core.protocol.people.passwords import GivenPassword, NewPassword

PersonRole = Literal["viewer", "operator", "admin"]
MOST_TOKEN_DAYS = 365.0
_SECRET_CHARACTERS = 100


def _person(text: str) -> str:
    """Refuse a text that is no name of an account, with a message that says why."""
    if is_person_name(text):
        return text
    raise PydanticCustomError("bad_name", "{why}", {"why": why_no_person_name(text)})


PersonName = Annotated[str, AfterValidator(_person), Field(json_schema_extra={"pattern": PERSON_PATTERN})]
CredentialNumber = Annotated[int, Field(ge=1, le=2**63 - 1)]


class SignInRequest(Request):
    """Sign in with a name and a password. A session that the request comes with ends, if it is this person's."""

    name: Annotated[str, Field(max_length=100)]
    password: GivenPassword


class SetUpRequest(Request):
    """Use a set-up link: choose a password, and a name if the link is for nobody yet, and sign in."""

    token: Annotated[SecretStr, Field(max_length=_SECRET_CHARACTERS)]
    name: PersonName | None = None
    password: NewPassword


class PasswordRequest(Request):
    """Choose another password. All other sessions of the account end."""

    old: GivenPassword
    new: NewPassword


class SignOutRequest(Request):
    """End the session that the request comes with."""


class NewSession(Answer):
    """A session that has begun. `session` is its secret, which is told only here."""

    session: str
    id: int
    name: str
    role: PersonRole
    ends_at: datetime


class Me(Answer):
    """The person that a request comes from. `by` is `host` for the operator on `host.sock`.

    `agents` are those that an API token is for; None means all that the person may see. `ends_at` is when the session
    or the token ends in any case.
    """

    name: str
    role: PersonRole
    by: Literal["session", "token", "host"]
    credential: int | None = None
    agents: list[str] | None = None
    ends_at: datetime | None = None


class SignedInSession(Answer):
    """A session, without its secret. `current` is true for the one that the request comes with."""

    id: int
    person: str
    address: str
    began_at: datetime
    used_at: datetime
    ends_at: datetime
    current: bool = False


class SessionList(Answer):
    """Sessions, the one that was used last first."""

    sessions: list[SignedInSession]


Whose = Annotated[str, Field(pattern=r"^(\*|[a-z]([a-z0-9-]{0,30}[a-z0-9])?)$")]
"""A person, `me`, or `*` for all people. Other people than oneself are for admins and the operator on the host."""


class PersonQuery(Query):
    """The person whose sessions or tokens are listed: oneself unless another is named, on `host.sock` all people."""

    person: Whose | None = None


class RevokeRequest(Request):
    """End a session or an API token, at once."""


class RevokeAllRequest(Request):
    """End the sessions of a person, or of all people.

    `tokens` ends API tokens and set-up links as well, `keep_current` spares the session that the request comes with.
    """

    person: Whose
    tokens: bool = False
    keep_current: bool = False


class Revoked(Answer):
    """The number of sessions, tokens and links that have ended."""

    sessions: int
    tokens: int
    links: int


TokenLabel = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")]


class MakeTokenRequest(Request):
    """Make an API token. Its role is at most that of its owner, and `agents` are the only ones that it is for.

    `person` is its owner, which only the operator on the host may name.
    """

    name: TokenLabel
    role: PersonRole | None = None
    agents: Annotated[list[Annotated[str, Field(pattern=NAME_PATTERN)]], Field(min_length=1, max_length=100)] | None = (
        None
    )
    days: Annotated[float, Field(gt=0, le=MOST_TOKEN_DAYS, allow_inf_nan=False)] | None = None
    person: PersonName | None = None


class ApiToken(Answer):
    """An API token, without its secret. `role` is what it gives today: at most what its owner may."""

    id: int
    person: str
    name: str
    role: PersonRole
    agents: list[str] | None = None
    made_at: datetime
    used_at: datetime | None = None
    ends_at: datetime


class NewToken(ApiToken):
    """An API token that was made. `token` is its secret, which is told only here."""

    token: str


class TokenList(Answer):
    """API tokens, the newest first."""

    tokens: list[ApiToken]

"""A person who is signed in, as the daemon has checked it for one request."""

from __future__ import annotations

from typing import Literal, NamedTuple

Role = Literal["viewer", "operator", "admin"]
"""The rights of an account: a viewer sees, an operator also acts and decides, an admin also manages the hive."""
ROLES: tuple[Role, ...] = ("viewer", "operator", "admin")
"""The roles, each of which may do what those before it may."""


class SignedIn(NamedTuple):
    """A person and the session or API token that the request came with.

    `role` is the account's, or the token's where that has fewer rights. `credential` is the number of the session or
    token, for the audit table and for its revocation; it is no secret. `agents` are the only ones that a token is for;
    None sets no such limit.
    """

    name: str
    role: Role
    by: Literal["session", "token"]
    credential: int
    agents: frozenset[str] | None = None


def least_role(one: Role, other: Role) -> Role:
    """Return the role with fewer rights."""
    return min(one, other, key=ROLES.index)

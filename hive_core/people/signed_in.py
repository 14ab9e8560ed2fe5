"""A person who is signed in, as the daemon has checked it for one request."""

from __future__ import annotations

from typing import Literal, NamedTuple

Role = Literal["viewer", "operator", "admin"]
"""The rights of an account: a viewer sees, an operator also acts and decides, an admin also manages the hive."""


class SignedIn(NamedTuple):
    """A person and the session or API token that the request came with.

    `role` is the account's, or the token's where that has fewer rights. `credential` is the number of the session or
    token, for the audit table and for its revocation; it is no secret.
    """

    name: str
    role: Role
    by: Literal["session", "token"]
    credential: int

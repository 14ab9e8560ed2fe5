"""Owners of agents, and the agents of other owners that may write to each other."""

from __future__ import annotations

from pydantic import Field

from hive_core.protocol.base import Answer, Recipient, Request
from hive_core.protocol.people.sign_in import PersonName


class OwnerRequest(Request):
    """Give an agent to a person; None makes it everybody's."""

    owner: PersonName | None


class ContactRequest(Request):
    """Allow an agent to write with another one that has another owner, or not any more.

    It takes both sides: each owner allows it for their own agent. An admin and the operator on the host allow it for
    both.
    """

    agent: Recipient
    allowed: bool = True


class AgentOwner(Answer):
    """The owner of an agent, and the agents of other owners that its side allows to write with it."""

    agent: str
    owner: str | None
    contacts: list[str] = Field(default_factory=list)

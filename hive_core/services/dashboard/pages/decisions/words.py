"""Proposals, work and requests of the daemon's answers, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hive_core.protocol.names import MANAGER, OPERATOR, WORK_WORDS
from hive_core.services.dashboard.visit import Visitor

Answer = Mapping[str, Any]

_KINDS = {
    "config": "change of the configuration",
    "spawn": "new agent",
    "destroy": "removal of the agent",
    "rollback": "roll back",
    "rebuild": "rebuild",
}
UNDECIDED = frozenset({"proposal", "building", "built"})
"""States of proposals on which a decision may still come."""
BEFORE_BUILT = frozenset({"proposal", "building"})


def kind_in_words(proposal: Answer) -> str:
    """Return the kind of a proposal."""
    kind = str(proposal["kind"])
    return _KINDS.get(kind, kind)


def state_of_work(state: str) -> str:
    """Return a state of work in the words of the commands."""
    return WORK_WORDS.get(state, state)


def state_of_proposal(state: str) -> str:
    """Return a state of a proposal in the words of the commands."""
    return "proposed" if state == "proposal" else state


def decider_in_words(waits_for: str | None) -> str:
    """Return the party that a decision waits for; empty if it waits for none."""
    if waits_for is None:
        return ""
    return waits_for.removeprefix("agent:") if waits_for.startswith("agent:") else f"the {waits_for}"


def waits_for_people(answer: Answer) -> bool:
    """Return True if people are asked to decide, and not the manager or an agent."""
    return bool(answer["waits_for"] == OPERATOR)


def is_by(answer: Answer, visitor: Visitor) -> bool:
    """Return True if the person has proposed it; the daemon decides, and this only chooses which buttons are shown."""
    kind, _, name = str(answer["by"]).partition(":")
    return visitor.name == (OPERATOR if kind == OPERATOR else name) and kind in (OPERATOR, "person")


def needs_to_be_told(answer: Answer) -> bool:
    """Return True if people would decide in the place of the manager or of a reviewing agent."""
    return answer["state"] == "built" and answer["waits_for"] not in (None, OPERATOR)


def name_of_decider(waits_for: str) -> str:
    """Return the name of the agent that a decision waits for."""
    return MANAGER if waits_for == "manager" else waits_for.removeprefix("agent:")

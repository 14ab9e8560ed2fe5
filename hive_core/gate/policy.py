"""The policy: who may propose, decide and withdraw.

Nobody decides on their own proposal. The operator has the last word: they may deny anything that waits, their approval
is enough where only the manager's was asked for, and the agents that they make or remove themselves wait for nobody.
Each person with an account is a party of their own, who decides as the operator does, and not on what they proposed
themselves; whoever speaks on `host.sock` is the party `operator`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from hive_core.errors import HiveError, conflict, forbidden
from hive_core.people.ownership.sight import EVERYTHING, Sight
from hive_core.protocol import Decider, ProposalKind
from hive_core.protocol.names import MANAGER, OPERATOR, is_person
from hive_core.settings import Approval
from hive_core.text import shown

Role = Literal["agent", "manager", "operator", "system"]


@dataclass(frozen=True)
class Principal:
    """A caller. `name` is an agent's, `operator`, `person:<name>` or `system`.

    `actor` is how the audit table and the tags name it. `sees` are the agents of which it may know, by their owners.
    """

    name: str
    role: Role
    actor: str
    sees: Sight = field(default=EVERYTHING, compare=False)

    @property
    def label(self) -> str:
        """Label in tags and proposals: the name of an agent, or `operator` with the name of the user."""
        return self.actor if self.role == "operator" else self.name


SYSTEM = Principal("system", "system", "system")


def name_from_label(label: str) -> str:
    """Return the name of the party with that label."""
    return label if is_person(label) else label.split(":", 1)[0]


def is_operator(name: str) -> bool:
    """Return True if a party of that name decides as the operator: the one of `host.sock`, or a person."""
    return name == OPERATOR or is_person(name)


def principal_of_label(label: str) -> Principal:
    """Return the party with that label, as a tag names it."""
    name = name_from_label(label)
    role: Role = "operator" if is_operator(name) else "manager" if name == MANAGER else "agent"
    return Principal(name, role, label)


def asked(proposer: str, waits_for: Decider | None) -> list[str]:
    """Return the names of the proposer and of the decider that the proposal waited for."""
    names = [name_from_label(proposer)]
    if waits_for is not None:
        names.append(MANAGER if waits_for == "manager" else OPERATOR)
    return list(dict.fromkeys(names))


MAIN_MOVED = "main moved: propose again on top of it"
"""The reason to withdraw a proposal that was made before another one was deployed."""
SUPERSEDED = "what is deployed was built anew: propose again, so that this is, too"
"""The reason to withdraw a proposal that waited while a rebuild, or a rollback to the same commit, was deployed."""
UP_TO_DATE = "nothing to deploy: the build gives what runs already"
"""The reason to withdraw a rebuild that changes nothing."""
EXPIRED = "nobody decided in time: propose again if it is still wanted"
"""The reason to withdraw a proposal that waited for longer than `proposal_days`."""

_RULE = "rule: "
"""Begins the label of an approval by a rule. No party has a space in its name."""
_AGAIN = "as deployed/"
_NAMES: dict[Decider, str] = {"manager": MANAGER, "operator": OPERATOR}


@dataclass(frozen=True)
class DecisionRequest:
    """The properties of a proposal that decide who approves. `proposer` is the name of a party."""

    kind: ProposalKind
    proposer: str
    agent: str
    has_manager: bool


May = Callable[[Approval, DecisionRequest, Sequence[Decider], Principal, str], None]
"""A check of a decision: `check_may_approve` or `check_may_deny`."""


def decision_request(kind: ProposalKind, proposer: str, agent: str, *, has_manager: bool) -> DecisionRequest:
    """Return the decision request of a proposal about `agent`; `proposer` is the label of a party."""
    return DecisionRequest(kind, name_from_label(proposer), agent, has_manager)


def approvals_given(approvals: Sequence[str]) -> list[Decider]:
    """Return the deciders among `approvals`, which are labels of parties and names of rules."""
    names = {OPERATOR if is_operator(name) else name for name in map(name_from_label, approvals)}
    return [decider for decider, name in _NAMES.items() if name in names]


def deciders(approval: Approval, decision: DecisionRequest) -> list[Decider]:
    """Return the deciders who have to approve, in order; the proposer is never among them.

    The list is empty in three cases: for a rollback or a rebuild, of which the commit was approved before; for the
    operator's own spawn or destroy; and for any proposal of the operator in a hive without a manager.
    """
    if decision.kind in ("rollback", "rebuild"):
        return []
    if is_operator(decision.proposer) and decision.kind in ("spawn", "destroy"):
        return []
    rule = _rule(approval, decision)
    wanted: list[Decider] = ["manager", "operator"] if rule == "both" else [rule]
    able = [decider for decider in wanted if _can(decider, decision)]
    # Any decider that is left: a proposal on which nobody may decide would wait forever.
    return able or [other for other in _NAMES if _can(other, decision)]


def next_decider(approval: Approval, decision: DecisionRequest, given: Sequence[Decider]) -> Decider | None:
    """Return the decider whose approval is needed next; None if no approval is missing."""
    if "operator" in given:
        return None  # The operator is the last in every order, and their approval is always enough.
    return next((decider for decider in deciders(approval, decision) if decider not in given), None)


def shown_decider(waits_for: Decider | None, *, has_manager: bool) -> Decider | None:
    """Return whose decision is missing now: the operator decides in place of a manager that was destroyed."""
    return "operator" if waits_for == "manager" and not has_manager else waits_for


def check_may_propose(principal: Principal, agent: str) -> None:
    """Raise `not_yours` unless the party may propose a configuration of `agent`."""
    if principal.name != agent and not _decides(principal):
        raise forbidden(
            "not_yours",
            f"{principal.name} may propose changes of its own configuration only, not of {shown(agent)}",
            "ask that agent or the manager for the change with a message",
        )


def check_may_request(principal: Principal) -> None:
    """Raise `not_yours` unless the party may propose to make or remove an agent."""
    if not _decides(principal):
        raise forbidden(
            "not_yours",
            f"{principal.name} may not ask for agents to be made or removed: the manager and the operator may",
            f"ask {MANAGER} for it with a message",
        )


def check_may_rollback(approval: Approval, principal: Principal, agent: str) -> None:
    """Raise `own_proposal` or `not_decider` unless the party may roll `agent` back.

    The manager may if its approval alone is enough for a change, but not itself: the operator's stricter policy must
    not be bypassed by going back.
    """
    if principal.role == "manager" and principal.name == agent:
        raise forbidden("own_proposal", f"{principal.name} may not roll itself back", "ask the operator with a message")
    if principal.role == "manager" and approval.config != "manager":
        why = f"changes of {shown(agent)} need the operator's approval, and so does going back"
        raise forbidden("not_decider", why, "ask the operator with a message")
    if not _decides(principal):
        raise forbidden(
            "not_decider",
            f"{principal.name} may not roll {shown(agent)} back: the manager and the operator may",
            "propose the older configuration, or ask the manager with a message",
        )


def check_may_rebuild(principal: Principal, agent: str, deployed: ProposalKind) -> None:
    """Raise `not_yours` or `not_decider` unless the party may rebuild `agent`, which runs on a deployment of that kind.

    Only the operator may rebuild an agent that was rolled back.
    """
    if deployed == "rollback" and principal.role != "operator":
        why = f"{shown(agent)} was rolled back to what it runs on, so only the operator may have it built anew"
        raise forbidden("not_decider", why, "ask the operator with a message")
    if not _decides(principal) and principal.role != "system":
        raise forbidden(
            "not_yours",
            f"{principal.name} may not have {shown(agent)} built anew: the manager and the operator may",
            f"ask {MANAGER} for it with a message",
        )


def approval_by_rule(name: str) -> str:
    """Return the label of an approval by the rule of that name."""
    return f"{_RULE}{name}"


def has_approval_by_rule(approvals: Sequence[str]) -> bool:
    """Return True if a rule is among `approvals`."""
    return any(label.startswith(_RULE) for label in approvals)


def inherited_approvals(deployed: int, approvals: Sequence[str]) -> list[str]:
    """Return the approvals of a commit that is deployed again: `approvals`, and the number of the older deployment."""
    return [*(label for label in approvals if not label.startswith(_AGAIN)), f"{_AGAIN}{deployed}"]


def can_see(principal: Principal, agent: str) -> bool:
    """Return True if the party may see the proposals about `agent`."""
    return principal.sees(agent) and (_decides(principal) or principal.name == agent)


def check_may_approve(
    approval: Approval, decision: DecisionRequest, given: Sequence[Decider], principal: Principal, proposal: str
) -> None:
    """Raise `own_proposal` or `not_decider` unless the party may approve `proposal` (such as "ada/3") now.

    The operator may approve their own configuration in a hive without a manager, where it needs no approval: it waited
    for a manager that was destroyed.
    """
    if principal.role == decision.proposer == OPERATOR and decision.kind == "config" and not decision.has_manager:
        return
    _check_decides(decision, principal, proposal, "approve")
    waits_for = next_decider(approval, decision, given)
    if principal.role == waits_for:
        return
    if principal.role == "manager":
        waiting = f"{proposal} waits for the {waits_for}" if waits_for else f"{proposal} waits for nobody's approval"
        hint = "tell the operator what you think of it with a message"
        raise forbidden("not_decider", f"{waiting}, not for the manager", hint)
    if waits_for == "manager" and "operator" in deciders(approval, decision):
        hint = f"approve it when {MANAGER} has; denying it is possible now"
        raise forbidden("not_decider", f"{proposal} waits for the manager first, then for the operator", hint)


def check_may_deny(
    approval: Approval, decision: DecisionRequest, given: Sequence[Decider], principal: Principal, proposal: str
) -> None:
    """Raise `own_proposal` or `not_decider` unless the party may deny `proposal` now.

    The operator may always deny a proposal that is not their own.
    """
    _check_decides(decision, principal, proposal, "deny")
    if principal.role == "manager" and (waits_for := next_decider(approval, decision, given)) != "manager":
        hint = "tell the operator what you think of it with a message"
        raise forbidden("not_decider", f"{proposal} waits for {waits_for or 'nobody'}, not for the manager", hint)


def check_may_withdraw(principal: Principal, proposer: str, proposal: str) -> None:
    """Raise `not_yours` unless the party has made the proposal. `proposer` is the label of the one who has."""
    if principal.role == "system" or principal.name == name_from_label(proposer):
        return
    hint = "deny it instead" if _decides(principal) else "ask who proposed it with a message"
    raise forbidden("not_yours", f"{proposal} was proposed by {proposer}, not by {principal.label}", hint)


def check_may_allow_fetches(principal: Principal, proposal: str) -> None:
    """Raise `not_decider` unless the party may allow the fetches that the build of `proposal` needs."""
    if principal.role != "operator":
        raise forbidden(
            "not_decider",
            f"{principal.name} may not allow what {proposal} fetches from the network: only the operator may",
            "ask the operator with a message",
        )


def main_moved(agent: str, base: str | None) -> HiveError:
    """Return the error for a commit on top of `base`, which is no longer the deployed commit."""
    before = f"{base} is" if base is not None else "nothing is"
    return conflict(
        "not_rebased",
        f"another configuration of {agent} was deployed meanwhile: no longer {before} what it runs on",
        "rebase the commit onto the new main of the applied repository, then propose the new commit",
    )


def _rule(approval: Approval, decision: DecisionRequest) -> Literal["manager", "operator", "both"]:
    if decision.kind == "spawn":
        return approval.spawn
    if decision.kind == "destroy":
        return approval.destroy
    if MANAGER in (decision.proposer, decision.agent):
        return approval.manager_config
    return approval.config


def _can(decider: Decider, decision: DecisionRequest) -> bool:
    return decision.proposer != _NAMES[decider] and (decider == "operator" or decision.has_manager)


def _decides(principal: Principal) -> bool:
    return principal.role in _NAMES


def _check_decides(decision: DecisionRequest, principal: Principal, proposal: str, what: str) -> None:
    if principal.name == decision.proposer:
        other = MANAGER if principal.role == "operator" and decision.has_manager else "the operator"
        if is_person(principal.name):
            other = f"{MANAGER} or another person" if decision.has_manager else "another person"
        raise forbidden(
            "own_proposal",
            f"{principal.label} proposed {proposal}, and nobody may {what} what they proposed",
            f"{other} decides on it: ask with a message, wait, or withdraw it",
        )
    if not _decides(principal):
        raise forbidden(
            "not_decider",
            f"{principal.name} decides on no proposals: the manager and the operator do",
            "tell the manager what you think of it with a message",
        )

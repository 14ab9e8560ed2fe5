"""The policy: who may propose, decide and withdraw.

Nobody decides on their own proposal. The operator has the last word: they may deny anything that waits, their approval
is enough where only the manager's was asked for, and the agents that they make or remove themselves wait for nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from hive_core.errors import HiveError, conflict, forbidden
from hive_core.protocol import Decider, ProposalKind
from hive_core.protocol.names import MANAGER, OPERATOR
from hive_core.settings import Approval
from hive_core.text import shown

Role = Literal["agent", "manager", "operator", "system"]


@dataclass(frozen=True)
class Principal:
    """A caller. `name` is an agent's, `operator` or `system`; `actor` is how the audit table and the tags name it."""

    name: str
    role: Role
    actor: str

    @property
    def label(self) -> str:
        """How tags and proposals name it: an agent by its name, a person by the user's."""
        return self.actor if self.role == "operator" else self.name


SYSTEM = Principal("system", "system", "system")


def name_from_label(label: str) -> str:
    """The name of the party with that label."""
    return label.split(":", 1)[0]


def asked(proposer: str, waits_for: Decider | None) -> list[str]:
    """Whom the fate of a proposal concerns: who made it, and who was asked to decide."""
    names = [name_from_label(proposer)]
    if waits_for is not None:
        names.append(MANAGER if waits_for == "manager" else OPERATOR)
    return list(dict.fromkeys(names))


MAIN_MOVED = "main moved: propose again on top of it"
"""Why a proposal is withdrawn that was made before another one was deployed."""
SUPERSEDED = "what is deployed was built anew: propose again, so that this is, too"
"""Why a proposal is withdrawn that waited while a rebuild, or a rollback to the same commit, was deployed."""
UP_TO_DATE = "nothing to deploy: the build gives what runs already"
"""Why a rebuild is withdrawn that changes nothing."""
EXPIRED = "nobody decided in time: propose again if it is still wanted"
"""Why a proposal is withdrawn that waited for longer than `proposal_days`."""

_AGAIN = "as deployed/"
_NAMES: dict[Decider, str] = {"manager": MANAGER, "operator": OPERATOR}


@dataclass(frozen=True)
class DecisionRequest:
    """What policy has to know of a proposal. `proposer` is a party's name: an agent's or `operator`."""

    kind: ProposalKind
    proposer: str
    agent: str
    has_manager: bool


May = Callable[[Approval, DecisionRequest, Sequence[Decider], Principal, str], None]
"""A check of a decision: `check_may_approve` or `check_may_deny`."""


def decision_request(kind: ProposalKind, proposer: str, agent: str, *, has_manager: bool) -> DecisionRequest:
    """The question that a proposal about `agent` asks; `proposer` is the label of who made it."""
    return DecisionRequest(kind, name_from_label(proposer), agent, has_manager)


def approvals_given(approvals: Sequence[str]) -> list[Decider]:
    """Who of those that can be asked is among `approvals`, which are labels of parties and names of rules."""
    names = {name_from_label(label) for label in approvals}
    return [decider for decider, name in _NAMES.items() if name in names]


def deciders(approval: Approval, decision: DecisionRequest) -> list[Decider]:
    """Who has to approve, in order: never who proposed.

    Empty if nobody has to: what a rollback or a rebuild deploys was approved when it was first deployed, the operator's
    own spawn or destroy is the last word, and where the operator proposes and there is no manager there is nobody else.
    """
    if decision.kind in ("rollback", "rebuild"):
        return []
    if decision.proposer == OPERATOR and decision.kind in ("spawn", "destroy"):
        return []
    rule = _rule(approval, decision)
    wanted: list[Decider] = ["manager", "operator"] if rule == "both" else [rule]
    able = [decider for decider in wanted if _can(decider, decision)]
    # The one who is left, since a proposal on which nobody may decide would wait for ever.
    return able or [other for other in _NAMES if _can(other, decision)]


def next_decider(approval: Approval, decision: DecisionRequest, given: Sequence[Decider]) -> Decider | None:
    """Whose approval is missing next; None if nobody's is."""
    if "operator" in given:
        return None  # The last in every order, and the last word.
    return next((decider for decider in deciders(approval, decision) if decider not in given), None)


def check_may_propose(principal: Principal, agent: str) -> None:
    """Refuse who may not propose a configuration of `agent`: raises `not_yours`."""
    if principal.name != agent and not _decides(principal):
        raise forbidden(
            "not_yours",
            f"{principal.name} may propose changes of its own configuration only, not of {shown(agent)}",
            "ask that agent or the manager for the change with a message",
        )


def check_may_request(principal: Principal) -> None:
    """Refuse who may not propose to make or remove an agent: raises `not_yours`."""
    if not _decides(principal):
        raise forbidden(
            "not_yours",
            f"{principal.name} may not ask for agents to be made or removed: the manager and the operator may",
            f"ask {MANAGER} for it with a message",
        )


def check_may_rollback(approval: Approval, principal: Principal, agent: str) -> None:
    """Refuse who may not roll `agent` back: raises `own_proposal` and `not_decider`.

    The manager may where its approval alone is enough for a change, but not itself: what the operator has tightened
    must not be undone without the operator.
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
    """Refuse who may not have `agent` built anew, which runs on a deployment of that kind.

    Raises `not_yours`, and `not_decider`: only the operator builds anew what somebody went back to.
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


def inherited_approvals(deployed: int, approvals: Sequence[str]) -> list[str]:
    """The approvals of what is deployed again: those of the deployment of that number, which `approvals` are."""
    return [*(label for label in approvals if not label.startswith(_AGAIN)), f"{_AGAIN}{deployed}"]


def can_see(principal: Principal, agent: str) -> bool:
    """Whether the party may see the proposals about `agent`."""
    return _decides(principal) or principal.name == agent


def check_may_approve(
    approval: Approval, decision: DecisionRequest, given: Sequence[Decider], principal: Principal, proposal: str
) -> None:
    """Refuse who may not approve `proposal` (as "ada/3") now: raises `own_proposal` and `not_decider`."""
    _check_decides(decision, principal, proposal, "approve")
    waits_for = next_decider(approval, decision, given)
    if principal.role == waits_for:
        return
    if principal.role == "manager":
        told = f"{proposal} waits for the {waits_for}" if waits_for else f"{proposal} waits for nobody's approval"
        hint = "tell the operator what you think of it with a message"
        raise forbidden("not_decider", f"{told}, not for the manager", hint)
    if waits_for == "manager" and "operator" in deciders(approval, decision):
        hint = f"approve it when {MANAGER} has; denying it is possible now"
        raise forbidden("not_decider", f"{proposal} waits for the manager first, then for the operator", hint)


def check_may_deny(
    approval: Approval, decision: DecisionRequest, given: Sequence[Decider], principal: Principal, proposal: str
) -> None:
    """Refuse who may not deny `proposal` now: raises `own_proposal` and `not_decider`. The operator always may, but
    for their own.
    """
    _check_decides(decision, principal, proposal, "deny")
    if principal.role == "manager" and (waits_for := next_decider(approval, decision, given)) != "manager":
        hint = "tell the operator what you think of it with a message"
        raise forbidden("not_decider", f"{proposal} waits for {waits_for or 'nobody'}, not for the manager", hint)


def check_may_withdraw(principal: Principal, proposer: str, proposal: str) -> None:
    """Refuse who takes back what another proposed: raises `not_yours`. `proposer` is the label of who did."""
    if principal.role == "system" or principal.name == name_from_label(proposer):
        return
    hint = "deny it instead" if _decides(principal) else "ask who proposed it with a message"
    raise forbidden("not_yours", f"{proposal} was proposed by {proposer}, not by {principal.label}", hint)


def main_moved(agent: str, base: str | None) -> HiveError:
    """The refusal of a commit that was made on top of `base`, which is not what is deployed any more."""
    told = f"{base} is" if base is not None else "nothing is"
    return conflict(
        "not_rebased",
        f"another configuration of {agent} was deployed meanwhile: no longer {told} what it runs on",
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
        raise forbidden(
            "own_proposal",
            f"{principal.label} proposed {proposal}, and nobody may {what} what they proposed",
            "wait for the decision, or withdraw it",
        )
    if not _decides(principal):
        raise forbidden(
            "not_decider",
            f"{principal.name} decides on no proposals: the manager and the operator do",
            "tell the manager what you think of it with a message",
        )

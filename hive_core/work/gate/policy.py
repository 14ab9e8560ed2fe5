"""The policy of work: who sees it, decides on it, and withdraws it.

Nobody decides on their own work. The operator has the last word: they may deny anything that waits, and their approval
is enough where the manager's or a reviewing agent's was asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hive_core.errors import HiveError, forbidden, not_found
from hive_core.gate.policy import Principal, is_operator, name_from_label
from hive_core.protocol.names import MANAGER, OPERATOR

AGENT = "agent:"
"""Begins the name of an agent as decider."""
_NAMES = {"manager": MANAGER, "operator": OPERATOR}

EXPIRED = "nobody decided in time: submit it again if it is still wanted"
REPOSITORY_REMOVED = "the operator has removed the repository from the hive"


@dataclass(frozen=True)
class Review:
    """The facts that decide who approves work.

    `rule` is the repository's: `manager`, `operator`, `both`, or `agent:<name>`. `submitter` is the name of the party
    that made the work, and `names` are all agents of the hive.
    """

    rule: str
    submitter: str
    names: Collection[str]


def name_of(decider: str) -> str:
    """Return the name of the party that a decider is."""
    return _NAMES.get(decider) or decider.removeprefix(AGENT)


def describe(decider: str) -> str:
    """Return a decider in words, such as `the manager` or `the agent ada`."""
    return f"the {decider}" if decider in _NAMES else f"the agent {name_of(decider)}"


def deciders(review: Review) -> list[str]:
    """Return the deciders who have to approve, in order; who submitted the work is never among them.

    A reviewer who is gone, or has made the work, is replaced by the manager, and the manager by the operator.
    """
    wanted = ["manager", "operator"] if review.rule == "both" else [review.rule]
    able = [decider for decider in wanted if _can(decider, review)]
    return able or [next(other for other in ("manager", "operator") if other == "operator" or _can(other, review))]


def next_decider(review: Review, approvals: Sequence[str]) -> str | None:
    """Return the decider whose approval is needed next; None if none is missing. `approvals` are labels of parties."""
    given = {OPERATOR if is_operator(name) else name for name in map(name_from_label, approvals)}
    if OPERATOR in given:
        return None  # The operator is the last in every order, and their approval is always enough.
    return next((decider for decider in deciders(review) if name_of(decider) not in given), None)


def shown_decider(waits_for: str | None, names: Collection[str]) -> str | None:
    """Return whose decision is missing now: the operator decides in place of an agent that was destroyed."""
    return waits_for if waits_for is None or name_of(waits_for) in {OPERATOR, *names} else "operator"


def sees_all(principal: Principal) -> bool:
    """Return True if the party sees the work of everybody."""
    return principal.role in ("manager", "operator", "system")


def can_see(principal: Principal, by: str, rule: str) -> bool:
    """Return True if the party may see work that `by` submitted for a repository with the review rule `rule`."""
    submitter = name_from_label(by)
    return principal.sees(submitter) and (
        sees_all(principal) or principal.name == submitter or rule == AGENT + principal.name
    )


def check_may_approve(review: Review, approvals: Sequence[str], principal: Principal, work: str) -> None:
    """Raise `own_proposal` or `not_decider` unless the party may approve `work` (such as "web/3") now."""
    _check_decides(review, principal, work, "approve")
    waits_for = next_decider(review, approvals)
    if waits_for is not None and _is(principal, waits_for):
        return
    if principal.role != "operator":
        waiting = f"{work} waits for {describe(waits_for)}" if waits_for else f"{work} waits for nobody's approval"
        raise forbidden("not_decider", f"{waiting}, not for {principal.name}", "say what you think in a comment")
    if waits_for == "manager" and "operator" in deciders(review):
        hint = f"approve it when {MANAGER} has; denying it is possible now"
        raise forbidden("not_decider", f"{work} waits for the manager first, then for the operator", hint)


def check_may_deny(review: Review, approvals: Sequence[str], principal: Principal, work: str) -> None:
    """Raise `own_proposal` or `not_decider` unless the party may deny `work` now. The operator may always."""
    _check_decides(review, principal, work, "deny")
    waits_for = next_decider(review, approvals)
    if principal.role != "operator" and (waits_for is None or not _is(principal, waits_for)):
        waiting = describe(waits_for) if waits_for else "nobody"
        raise forbidden("not_decider", f"{work} waits for {waiting}", "say what you think in a comment")


def check_may_withdraw(principal: Principal, by: str, work: str) -> None:
    """Raise `not_yours` unless the party has submitted the work. `by` is its label."""
    if principal.role == "system" or principal.name == name_from_label(by):
        return
    hint = "deny it instead" if sees_all(principal) else "ask who submitted it with a message"
    raise forbidden("not_yours", f"{work} was submitted by {by}, not by {principal.label}", hint)


def unknown_work(repo: str, number: int) -> HiveError:
    """Return the error for work that does not exist, or that the caller may not see."""
    hint = '"hive-c0re work list --state all" shows all, and the tool my_work that of an agent'
    return not_found("unknown_work", f"there is no work {repo}/{number}", hint)


def _is(principal: Principal, decider: str) -> bool:
    return principal.name == name_of(decider) or (decider == "operator" and principal.role == "operator")


def _can(decider: str, review: Review) -> bool:
    name = name_of(decider)
    return name != review.submitter and (name == OPERATOR or name in review.names)


def _check_decides(review: Review, principal: Principal, work: str, what: str) -> None:
    if principal.name == review.submitter:
        raise forbidden(
            "own_proposal",
            f"{principal.label} submitted {work}, and nobody may {what} what they submitted",
            "wait for the decision, or withdraw it",
        )
    if principal.role not in ("manager", "operator") and principal.name not in map(name_of, deciders(review)):
        raise forbidden(
            "not_decider",
            f"{principal.name} does not decide on {work}",
            "tell the manager what you think of it with a message",
        )

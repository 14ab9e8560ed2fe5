"""Who may propose, decide and withdraw."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.errors import HiveError
from hive_core.gate import policy
from hive_core.gate.policy import SYSTEM, DecisionRequest, Principal
from hive_core.protocol import Decider, ProposalKind
from hive_core.settings import Approval

ADA = Principal("ada", "agent", "ada")
BOB = Principal("bob", "agent", "bob")
MANAGER = Principal("hm1nd", "manager", "hm1nd")
OPERATOR = Principal("operator", "operator", "operator:alice")
OTHER_USER = Principal("operator", "operator", "operator:carl")
ANNA = Principal("person:anna", "operator", "person:anna")
OTTO = Principal("person:otto", "operator", "person:otto")
NAMES = {"manager": "hm1nd", "operator": "operator"}

rules = st.sampled_from(["manager", "operator", "both"])
approvals = st.builds(Approval, config=rules, manager_config=rules, spawn=rules, destroy=rules)
questions = st.builds(
    DecisionRequest,
    st.sampled_from(get_args(ProposalKind)),
    st.sampled_from(["ada", "hm1nd", "operator", "person:anna"]),
    st.sampled_from(["ada", "bob", "hm1nd"]),
    st.booleans(),
)
parties = st.sampled_from([ADA, BOB, MANAGER, OPERATOR, OTHER_USER, ANNA, OTTO])


def code(call: Callable[[], None]) -> str:
    """The code with which the call is refused; every refusal says what to do instead."""
    try:
        call()
    except HiveError as error:
        assert error.status in (403, 409) and error.hint and error.message
        return error.code
    return ""


def asked(kind: ProposalKind, proposer: str, agent: str = "ada", *, has_manager: bool = True) -> list[Decider]:
    return policy.deciders(Approval(), policy.decision_request(kind, proposer, agent, has_manager=has_manager))


# --- who is asked -----------------------------------------------------------------------------------------------


@given(approvals, questions)
def test_never_the_proposer_never_one_who_is_not_there(approval: Approval, decision: DecisionRequest) -> None:
    """Whatever the settings say, nobody is asked about their own proposal, and no manager that there is not."""
    for decider in policy.deciders(approval, decision):
        assert NAMES[decider] != decision.proposer
        assert decider != "manager" or decision.has_manager


@given(approvals, questions)
def test_never_nobody(approval: Approval, decision: DecisionRequest) -> None:
    """A proposal of an agent, the manager or a person is decided by somebody else; a return is not."""
    if decision.kind not in ("rollback", "rebuild") and decision.proposer in ("ada", "hm1nd"):
        assert policy.deciders(approval, decision)
    if decision.kind == "config" and decision.proposer == ANNA.name:
        assert policy.deciders(approval, decision)


@given(approvals, questions)
def test_asking_ends(approval: Approval, decision: DecisionRequest) -> None:
    """Each approval brings the decision nearer: after two at most nobody is asked any more."""
    given_so_far: list[Decider] = []
    while (decider := policy.next_decider(approval, decision, given_so_far)) is not None:
        assert decider not in given_so_far
        given_so_far.append(decider)
    assert len(given_so_far) <= 2
    assert given_so_far == policy.deciders(approval, decision)


@pytest.mark.parametrize(
    ("kind", "proposer", "agent", "deciders"),
    [
        ("config", "ada", "ada", ["manager"]),
        ("config", "hm1nd", "ada", ["operator"]),
        ("config", "hm1nd", "hm1nd", ["operator"]),
        ("config", "operator:alice", "ada", ["manager"]),
        ("spawn", "hm1nd", "ada", ["operator"]),
        ("destroy", "hm1nd", "ada", ["operator"]),
        ("spawn", "operator:alice", "ada", []),
        ("destroy", "operator:alice", "ada", []),
        ("rollback", "hm1nd", "ada", []),
        ("rebuild", "hm1nd", "ada", []),
        ("rebuild", "system", "ada", []),
    ],
)
def test_the_defaults(kind: ProposalKind, proposer: str, agent: str, deciders: list[Decider]) -> None:
    """Without settings the manager decides on agents' proposals, and the operator on the manager's."""
    assert asked(kind, proposer, agent) == deciders


def test_without_a_manager() -> None:
    """In a hive without a manager the operator decides; on the operator's own proposals there is nobody to ask."""
    assert asked("config", "ada", has_manager=False) == ["operator"]
    assert asked("config", "operator:alice", has_manager=False) == []


def test_both_asks_the_manager_first() -> None:
    """With `both` the manager is asked, then the operator; one of them alone where the other proposed."""
    both = Approval(config="both", manager_config="both")
    decision = policy.decision_request("config", "ada", "ada", has_manager=True)
    assert policy.next_decider(both, decision, []) == "manager"
    assert policy.next_decider(both, decision, policy.approvals_given(["hm1nd"])) == "operator"
    assert policy.next_decider(both, decision, policy.approvals_given(["hm1nd", "operator:alice"])) is None
    assert policy.deciders(both, policy.decision_request("config", "hm1nd", "ada", has_manager=True)) == ["operator"]


def test_given_reads_labels() -> None:
    """Of labels and names of rules, those of parties that can be asked count."""
    assert policy.approvals_given(["operator:alice", "rule: manager", "ada"]) == ["operator"]
    assert policy.approvals_given(["hm1nd"]) == ["manager"]
    assert policy.approvals_given(["person:anna"]) == ["operator"]


# --- who may decide ---------------------------------------------------------------------------------------------


@given(approvals, questions, parties, st.booleans())
def test_nobody_decides_on_their_own(
    approval: Approval, decision: DecisionRequest, principal: Principal, approve: bool
) -> None:
    """Whatever the settings, a proposer is refused, unless nobody else is there; so is an agent without a say."""
    may = policy.check_may_approve if approve else policy.check_may_deny
    refused = code(lambda: may(approval, decision, [], principal, "ada/3"))
    alone = decision.kind == "config" and not decision.has_manager and principal.name == "operator" and approve
    if principal.name == decision.proposer:
        assert refused == ("" if alone else "own_proposal")
    elif principal.role == "agent":
        assert refused == "not_decider"


@given(approvals, questions)
def test_whoever_is_asked_may_decide(approval: Approval, decision: DecisionRequest) -> None:
    """The one whose approval is missing next is refused neither an approval nor a denial."""
    given_so_far: list[Decider] = []
    while (decider := policy.next_decider(approval, decision, given_so_far)) is not None:
        principal = MANAGER if decider == "manager" else OPERATOR
        policy.check_may_approve(approval, decision, given_so_far, principal, "ada/3")
        policy.check_may_deny(approval, decision, given_so_far, principal, "ada/3")
        given_so_far.append(decider)


@given(approvals, questions, st.sampled_from([[], ["manager"]]))
def test_the_operator_may_deny_whatever_waits(
    approval: Approval, decision: DecisionRequest, given: list[Decider]
) -> None:
    """The operator has the last word on all but their own."""
    if decision.proposer != "operator":
        policy.check_may_deny(approval, decision, given, OPERATOR, "ada/3")


def test_the_operator_may_stand_in_for_the_manager() -> None:
    """Where the manager alone is asked, the operator's approval is enough; with `both` the order is kept."""
    decision = policy.decision_request("config", "ada", "ada", has_manager=True)
    policy.check_may_approve(Approval(), decision, [], OPERATOR, "ada/3")
    assert policy.next_decider(Approval(), decision, ["operator"]) is None
    both = Approval(config="both")
    assert code(lambda: policy.check_may_approve(both, decision, [], OPERATOR, "ada/3")) == "not_decider"
    policy.check_may_approve(both, decision, ["manager"], OPERATOR, "ada/3")


def test_the_manager_may_not_stand_in_for_the_operator() -> None:
    """What waits for the operator is not the manager's to approve or deny, neither at first nor for a second time."""
    decision = policy.decision_request("config", "ada", "ada", has_manager=True)
    cases: list[tuple[Approval, list[Decider]]] = [
        (Approval(config="operator"), []),
        (Approval(config="both"), ["manager"]),
    ]
    for approval, so_far in cases:
        for may in (policy.check_may_approve, policy.check_may_deny):
            with pytest.raises(HiveError, match=r"waits for (the )?operator") as refused:
                may(approval, decision, so_far, MANAGER, "ada/3")
            assert refused.value.code == "not_decider"


def test_the_operator_approves_their_own_where_nobody_else_is_there() -> None:
    """An operator's own change that waited for a manager is theirs to approve once there is none, and no agent's is."""
    decision = policy.decision_request("config", OPERATOR.label, "ada", has_manager=False)
    policy.check_may_approve(Approval(config="both"), decision, [], OPERATOR, "ada/3")
    assert code(lambda: policy.check_may_approve(Approval(), decision, [], ADA, "ada/3")) == "not_decider"
    own = policy.decision_request("config", "ada", "ada", has_manager=False)
    assert code(lambda: policy.check_may_approve(Approval(), own, [], ADA, "ada/3")) == "own_proposal"


def test_users_of_the_operator_are_one_party() -> None:
    """Another user of the operator's socket cannot approve what the first proposed."""
    decision = policy.decision_request("config", OPERATOR.label, "ada", has_manager=True)
    assert code(lambda: policy.check_may_approve(Approval(), decision, [], OTHER_USER, "ada/3")) == "own_proposal"


def test_people_are_parties_of_their_own() -> None:
    """A person's proposal is approved by another person, or on `host.sock`, and withdrawn by themselves only."""
    decision = policy.decision_request("config", ANNA.label, "ada", has_manager=False)
    assert policy.deciders(Approval(), decision) == ["operator"]
    assert code(lambda: policy.check_may_approve(Approval(), decision, [], ANNA, "ada/3")) == "own_proposal"
    for other in (OTTO, OPERATOR):
        policy.check_may_approve(Approval(), decision, [], other, "ada/3")
        assert code(lambda by=other: policy.check_may_withdraw(by, ANNA.label, "ada/3")) == "not_yours"  # type: ignore[misc]
    policy.check_may_withdraw(ANNA, ANNA.label, "ada/3")
    assert asked("spawn", ANNA.label) == asked("destroy", ANNA.label) == []
    assert policy.principal_of_label(ANNA.label) == ANNA


# --- who may propose, see and withdraw --------------------------------------------------------------------------


def test_who_may_propose() -> None:
    """An agent for itself; the manager and the operator for anyone, and they alone make, remove and roll back."""
    policy.check_may_propose(ADA, "ada")
    assert code(lambda: policy.check_may_propose(ADA, "bob")) == "not_yours"
    assert code(lambda: policy.check_may_request(ADA)) == "not_yours"
    assert code(lambda: policy.check_may_rollback(Approval(), ADA, "ada")) == "not_decider"
    for principal in (MANAGER, OPERATOR):
        policy.check_may_propose(principal, "ada")
        policy.check_may_request(principal)
        policy.check_may_rollback(Approval(), principal, "ada")


def test_the_manager_cannot_go_back_behind_the_operator() -> None:
    """What the operator has tightened, the manager does not undo: not for itself, nor where the operator decides."""
    assert code(lambda: policy.check_may_rollback(Approval(), MANAGER, MANAGER.name)) == "own_proposal"
    assert code(lambda: policy.check_may_rollback(Approval(config="both"), MANAGER, "ada")) == "not_decider"
    policy.check_may_rollback(Approval(config="both"), OPERATOR, MANAGER.name)


def test_who_may_see() -> None:
    """An agent sees what is proposed about itself, the manager and the operator everything."""
    assert [policy.can_see(principal, "ada") for principal in (ADA, BOB, MANAGER, OPERATOR)] == [
        True,
        False,
        True,
        True,
    ]


def test_who_may_withdraw() -> None:
    """Who proposed, under whatever user, and the hive itself."""
    policy.check_may_withdraw(ADA, "ada", "ada/3")
    policy.check_may_withdraw(OTHER_USER, OPERATOR.label, "ada/3")
    policy.check_may_withdraw(SYSTEM, "ada", "ada/3")
    for principal in (BOB, MANAGER, OPERATOR):
        assert code(lambda party=principal: policy.check_may_withdraw(party, "ada", "ada/3")) == "not_yours"  # type: ignore[misc]


@pytest.mark.parametrize("base", ["a" * 40, None])
def test_a_moved_main_is_told_with_what_to_do(base: str | None) -> None:
    """Who proposed on top of an older main is told to rebase."""
    error = policy.main_moved("ada", base)
    assert (error.code, error.status) == ("not_rebased", 409)
    assert "ada" in error.message and "rebase" in error.hint


def test_only_the_operator_allows_fetches() -> None:
    """Only the operator allows a build to fetch from the network, not even the manager or the hive."""
    for party in (OPERATOR, OTHER_USER):
        assert code(lambda party=party: policy.check_may_allow_fetches(party, "ada/3")) == ""  # type: ignore[misc]
    for party in (ADA, BOB, MANAGER, SYSTEM):
        assert code(lambda party=party: policy.check_may_allow_fetches(party, "ada/3")) == "not_decider"  # type: ignore[misc]

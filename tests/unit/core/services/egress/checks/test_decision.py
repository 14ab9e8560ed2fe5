"""Decisions about hosts and ports by a policy."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from hive_core.protocol.network.policy import EgressPolicy
from hive_core.services.egress.checks.decision import Decider


@pytest.mark.parametrize(
    "policy", [EgressPolicy(allow=["github"], deny=["github.com"]), EgressPolicy(open=True, deny=["github.com"])]
)
def test_a_denied_host_is_reached_on_no_port(policy: EgressPolicy) -> None:
    """A host that is denied is reached over ssh neither, although a set or `open` allows its port."""
    decider = Decider(policy)
    for port in (22, 80, 443, 8443):
        refusal = decider.refuse("github.com", port)
        assert refusal is not None and refusal.reason == "denied"
    assert decider.refuse("api.github.com", 443) is None


def test_rules_end_by_the_clock_of_the_proxy() -> None:
    """A rule, a denial and an open network end at their time, without a word of the daemon, and others hold on."""
    now = [1_000]
    policy = EgressPolicy(
        allow=["lasting.example", "timed.example", "longer.example"],
        allow_ends=[2_000, 4_000],
        deny=["never.example", "denied.example"],
        deny_ends=[3_000],
        open=True,
        open_end=3_500,
    )
    decider = Decider(policy, lambda: now[0])

    def reached() -> str:
        hosts = ("lasting", "timed", "longer", "denied", "never", "other")
        return " ".join(host for host in hosts if decider.refuse(f"{host}.example", 443) is None)

    assert reached() == "lasting timed longer other"
    now[0] = 3_000
    assert reached() == "lasting timed longer denied other"
    now[0] = 3_500
    assert reached() == "lasting longer"
    now[0] = 4_000
    assert reached() == "lasting"
    now[0] = 1_000  # No clock brings an ended rule back.
    assert reached() == "lasting"


def test_a_rule_ends_at_its_time() -> None:
    """A rule holds until the very moment of its end, and not in it."""
    now = [1_000]
    decider = Decider(EgressPolicy(allow=["a.example"], allow_ends=[2_000]), lambda: now[0])
    now[0] = 1_999
    assert decider.refuse("a.example", 443) is None
    now[0] = 2_000
    refusal = decider.refuse("a.example", 443)
    assert refusal is not None and refusal.reason == "no_rule"


def test_more_ends_than_rules_are_no_policy() -> None:
    """A policy whose ends belong to nothing is refused, instead of read in some way."""
    with pytest.raises(ValidationError, match="more ends than entries"):
        EgressPolicy(allow=["a.example"], allow_ends=[1, 2])

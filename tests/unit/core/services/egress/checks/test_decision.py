"""Decisions about hosts and ports by a policy."""

from __future__ import annotations

import pytest

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

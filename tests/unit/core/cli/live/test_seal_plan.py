"""The tries of a sealed agent, and what their outcomes mean."""

from __future__ import annotations

from typing import Any

import pytest

from hive_core.cli.live.seal_plan import Judged, Planned, allowed_host, judge, plan, resolvers_in
from hive_core.protocol.access.probe import Outcome, Tried, Try
from hive_core.protocol.network.named_sets import NAMED_SETS

ANSWER = "only who was here knows this"
LOOPBACK = Planned("loopback", Try("tcp", "127.0.0.1", 4_000), "127.0.0.1")
ABSTRACT = Planned("abstract-socket", Try("unix", "@doctor"), "@doctor")
METADATA = Planned("metadata", Try("tcp", "169.254.169.254", 80))
PUBLIC_UDP = Planned("public-udp", Try("udp", "1.1.1.1", 53))
LOCAL_DNS = Planned("dns", Try("udp", "127.0.0.53", 53))
NIX = Planned("nix-socket", Try("unix", "/nix/var/nix/daemon-socket/socket"))
ALLOWED = Planned("allowed-host", Try("proxy", "a.example", 443))


def judged(planned: Planned, tried: Tried, *seen: str, sealed: bool = True, nix_daemon: bool = False) -> Judged:
    return judge(planned, tried, seen=seen, answer=ANSWER, sealed=sealed, nix_daemon=nix_daemon)


@pytest.mark.parametrize(
    ("planned", "outcome", "held"),
    [
        (LOOPBACK, "refused", True),
        (LOOPBACK, "reached", True),  # A listener of its own: it does not say what the host's does.
        (ABSTRACT, "refused", True),
        (METADATA, "blocked", True),
        (METADATA, "silent", False),
        (METADATA, "refused", False),
        (METADATA, "reached", False),
        (PUBLIC_UDP, "blocked", True),
        (PUBLIC_UDP, "silent", False),
        (LOCAL_DNS, "refused", True),
        (LOCAL_DNS, "reached", False),
        (NIX, "blocked", True),
        (NIX, "refused", True),
        (NIX, "reached", False),
    ],
)
def test_a_seal_holds_only_where_the_kernel_knows_no_way(planned: Planned, outcome: Outcome, held: bool) -> None:
    """A packet that may have left the agent is not kept from it, whether anybody answers or not."""
    assert judged(planned, Tried(outcome)).held is held


@pytest.mark.parametrize("planned", [LOOPBACK, ABSTRACT])
def test_what_this_host_has_seen_counts_whatever_the_agent_says(planned: Planned) -> None:
    """An agent that reports that it reached nothing is not believed against the host's own listener."""
    found = judged(planned, Tried("blocked", "Network is unreachable"), planned.listener)
    assert (found.reached, found.held, found.seen) == (True, False, True)
    assert judged(planned, Tried("reached", answer=ANSWER)).held is False


def test_what_is_approved_has_not_to_hold() -> None:
    """An approved Nix socket, an allowed host, and all that an agent with the host's network reaches."""
    assert judged(NIX, Tried("reached"), nix_daemon=True).held is None
    assert judged(METADATA, Tried("reached"), sealed=False) == Judged(
        "metadata", "169.254.169.254:80", reached=True, held=None, detail=""
    )
    refused = judged(ALLOWED, Tried("refused", "HTTP/1.1 403 Forbidden", "no rule"))
    assert (refused.reached, refused.held, refused.detail) == (False, None, "HTTP/1.1 403 Forbidden no rule")


def test_everything_is_tried() -> None:
    """Every check has a try, of both families where there are two; an address is written with its port."""
    loopback = {"127.0.0.1": ("127.0.0.1", 4_000), "::1": ("::1", 4_001)}
    found = plan(loopback, "d", ["10.1.1.1"], "10.2.2.2", ("a.example", 443))
    assert {each.check for each in found} == {
        *("loopback", "abstract-socket", "metadata", "private-address", "public-tcp", "public-udp"),
        *("dns", "nix-socket", "allowed-host"),
    }
    assert {"[::1]:4001", "@d", "10.2.2.2:9", "10.1.1.1:53", "a.example:443"} <= {each.target for each in found}
    assert [each.check for each in plan({}, "d", [], "", None)].count("private-address") == 1


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ([], None),
        ([{"effect": "allow", "host": "*.example.org"}], None),
        ([{"effect": "allow", "host": "a.example:22"}], ("a.example", 22)),
        ([{"effect": "open", "host": ""}, {"effect": "allow", "host": "npm"}], (NAMED_SETS["npm"][0], 443)),
        ([{"effect": "allow", "host": "a.example"}, {"effect": "deny", "host": "a.example"}], None),
        ([{"effect": "allow", "host": "github"}, {"effect": "deny", "host": "github.com"}], ("api.github.com", 443)),
    ],
)
def test_an_allowed_host_is_one_with_a_name(rules: list[dict[str, Any]], found: tuple[str, int] | None) -> None:
    """It is taken from the rules or the sets that they name, and none that is denied."""
    assert allowed_host(rules) == found


def test_name_servers_are_addresses() -> None:
    """Other lines of resolv.conf, and what is no address, are left out."""
    text = "# x\nsearch a\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\nnameserver\nnameserver name\n"
    assert resolvers_in(text) == ["127.0.0.53", "fe80::1"]

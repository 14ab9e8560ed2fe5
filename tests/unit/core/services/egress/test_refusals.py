"""What agents and the daemon hear of refusals."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.protocol.network.packets import MAX_PACKET, Reason
from hive_core.services.egress.checks.decision import EgressRefusal
from hive_core.services.egress.refusals import RefusalCounter, explain

REASONS: list[Reason] = list(get_args(Reason))


@given(st.sampled_from(REASONS), st.text(), st.text(), st.integers(0, 65_535))
def test_a_response_is_one_whatever_was_asked_for(reason: Reason, host: str, detail: str, port: int) -> None:
    """No word of a request breaks out of the answer: its head has the fixed lines, and its body one line."""
    response = explain(EgressRefusal(reason, host, port, "rule.example.org", detail)).as_response()
    head, _, body = response.partition(b"\r\n\r\n")
    lines = head.decode("ascii").split("\r\n")
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "Content-Type", "Content-Length", "Connection", "Proxy-Connection"
    ]  # fmt: skip
    assert body.count(b"\n") == 1 and body.startswith(b"hyperhive: ") and len(body) == int(lines[2].partition(":")[2])


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_explained(reason: Reason) -> None:
    """Each reason has a text of its own, which ends as a sentence does."""
    texts = {explain(EgressRefusal(each, "a.example.org", 443, detail="x")).text for each in REASONS}
    assert len(texts) >= len(REASONS) - 2  # What TLS does wrong is told by its detail.
    assert explain(EgressRefusal(reason, "a.example.org", 443, detail="x")).text.endswith(".")


def test_refusals_of_one_kind_are_told_together() -> None:
    """The same refusal is told once with its count; another reason or port is another one."""
    counter = RefusalCounter()
    for _ in range(5):
        counter.add("ada", EgressRefusal("no_rule", "a.org", 443, "a.org"))
    counter.add("ada", EgressRefusal("no_rule", "a.org", 22, "a.org:22"))
    counter.add("bob", EgressRefusal("no_rule", "a.org", 443, "a.org"))
    told = [(each.agent, each.port, each.count) for each in counter.take()]
    assert told == [("ada", 443, 5), ("ada", 22, 1), ("bob", 443, 1)]
    assert counter.take() == []
    assert counter.total == {("ada", "no_rule"): 6, ("bob", "no_rule"): 1}


def test_an_agent_that_asks_for_everything() -> None:
    """Many different refusals of one agent are bounded, none is lost from the count, and others' stay apart."""
    counter = RefusalCounter()
    for number in range(10_000):
        counter.add("ada", EgressRefusal("no_rule", f"n{number}.org", 443, f"n{number}.org"))
    counter.add("bob", EgressRefusal("no_rule", "a.org", 443, "a.org"))
    told = []
    while packets := counter.take():
        assert len(packets) <= 20
        told += packets
    assert len(told) <= 70 and sum(each.count for each in told) == 10_001
    assert [each.host for each in told if each.agent == "bob"] == ["a.org"]


@given(
    st.text(min_size=200, max_size=400).map(lambda text: text * 100), st.text(min_size=100).map(lambda text: text * 99)
)
def test_packets_are_small(host: str, detail: str) -> None:
    """Whatever an agent asks for, the packet about it fits."""
    counter = RefusalCounter()
    counter.add("ada", EgressRefusal("not_a_name", host, 443, detail=detail))
    (packet,) = counter.take()
    assert len(packet.model_dump_json().encode()) < MAX_PACKET / 4

"""The endpoints of work: what reaches the gate, from whom, and which paths name no work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from hive_core.api.endpoint import Caller
from hive_core.api.routes.params import principal_of
from hive_core.api.routes.work.proposals import submissions, work_views
from hive_core.protocol import ApproveWork, SubmitWork, WorkList, WorkProposal, WorksQuery
from tests.unit.core.api.call_endpoint import Reply, asking, caller

ADA = caller("agent", "ada")
OPERATOR = caller("operator", "operator")
NOW = datetime.now(UTC)
WORK = WorkProposal(
    repo="web", number=3, state="built", by="ada", title="t", description="", branch="main", commit="c" * 40,
    base="b" * 40, waits_for=None, approvals=[], outcome="", landed=None, link="", created_at=NOW, changed_at=NOW,
    expires_at=None,
)  # fmt: skip


class FakePart:
    """A part of the gate; records the calls of its methods."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self._calls = calls

    def __getattr__(self, name: str) -> Callable[..., Awaitable[object]]:
        async def call(*arguments: object) -> object:
            self._calls.append((name, *arguments))
            return WorkList(work=[WORK], total=1) if name == "works" else WORK

        return call


class FakeWorkGate:
    """A gate of work without rules."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.submissions = self.decisions = self.queries = FakePart(self.calls)


@pytest.fixture
def gate() -> FakeWorkGate:
    return FakeWorkGate()


Ask = Callable[..., Awaitable[Reply]]


@pytest.fixture
async def ask(gate: FakeWorkGate, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ask]:
    """Ask as a caller on the socket that is its own."""
    directory = tmp_path_factory.mktemp("s")
    real = cast(Any, gate)

    async def asked(who: Caller, method: str, path: str, body: object = None) -> Reply:
        offered = [*work_views(real), *(submissions(real) if who.kind != "operator" else [])]
        async with asking(offered, who, directory) as one:
            return await one.ask(method, path, body)

    yield asked


async def test_requests_reach_the_gate(gate: FakeWorkGate, ask: Ask) -> None:
    """The gate gets the request as it was sent, and the party from the socket."""
    body = {"repo": "web", "commit": "c" * 40, "title": "t", "description": "d"}
    assert (await ask(ADA, "POST", "/v1/work", body)).status == 200
    assert gate.calls.pop() == ("submit", SubmitWork.model_validate(body), principal_of(ADA))
    assert (await ask(OPERATOR, "POST", "/v1/work", body)).status in (404, 405)
    assert (await ask(OPERATOR, "GET", "/v1/work?repo=web&state=all")).json["total"] == 1
    assert gate.calls.pop() == ("works", WorksQuery(repo="web", state="all"), principal_of(OPERATOR))
    assert (await ask(ADA, "POST", "/v1/work/web/3/approve", {"expect": "built"})).status == 200
    assert gate.calls == [("approve", "web", 3, ApproveWork(expect="built"), principal_of(ADA))]


@pytest.mark.parametrize(
    "path",
    ["/v1/work/web/x", "/v1/work/web/-1", "/v1/work/web/99999999999999999999", "/v1/work/We%2fb/3", "/v1/work/-x/3"],
)
async def test_paths_that_name_no_work(gate: FakeWorkGate, ask: Ask, path: str) -> None:
    """A repository or number in the path that cannot be one is refused before the gate."""
    reply = await ask(OPERATOR, "POST", f"{path}/withdraw", {})
    assert reply.status in (400, 404)
    assert gate.calls == []


@pytest.mark.parametrize("name", ["", "Web", "a" * 33, "a-", "a/b", "a\n"])
async def test_names_of_no_repository(gate: FakeWorkGate, ask: Ask, name: str) -> None:
    """A body with a name that no repository has is refused with the rule of names."""
    reply = await ask(ADA, "POST", "/v1/work", {"repo": name, "commit": "c" * 40, "title": "t"})
    assert reply.status == 400 and gate.calls == []

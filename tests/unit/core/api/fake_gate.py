"""A fake gate without rules: it records the calls, and answers with something of the right form."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from hive_core.gate.subject.maintenance import Reindexed
from hive_core.protocol import (
    AgentStatus,
    DestroyAnswer,
    History,
    LogsAnswer,
    Proposal,
    ProposalDetail,
    ProposalList,
    PruneAnswer,
)

NOW = datetime.now(UTC)
PROPOSAL: dict[str, Any] = {
    "agent": "ada", "number": 3, "kind": "config", "state": "built", "by": "agent:ada", "note": "why",
    "commit": "c" * 40,
    "base": None, "closure": None, "waits_for": None, "approvals": [], "outcome": "", "created_at": NOW,
    "changed_at": NOW, "expires_at": None,
}  # fmt: skip
DETAIL = ProposalDetail(
    **PROPOSAL, settings=[], closure_changes=[], missing_fetches=[], allowed_fetches=None, diff="", diff_bytes=0
)
STATUS = AgentStatus(
    name="ada", kind="agent", lifecycle="running", state="idle", backend="scripted", model=None, detail="",
    state_since=None, started_at=None, pid=None, restarts=0, exit_cause="", unacked=0, web_port=1, deployment=0,
    confinement="",
)  # fmt: skip
ANSWERS: dict[str, BaseModel | Reindexed] = {
    "proposals": ProposalList(proposals=[], total=0),
    "build_log": LogsAnswer(lines=[], cursor="0"),
    "history": History(agent="ada", deployments=[]),
    "prune": PruneAnswer(agents=[], limit_bytes=1, dry_run=False),
    "reindex": Reindexed(subjects=1, proposals=2, changed=0),
    "spawn": STATUS,
    "destroy": DestroyAnswer(name="ada", purged=False, dropped_messages=0),
    "show": DETAIL,
}


class FakePart:
    """A part of the gate; records the calls of its methods."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self._calls = calls

    def __getattr__(self, name: str) -> Callable[..., Awaitable[BaseModel | Reindexed]]:
        async def call(*arguments: object) -> BaseModel | Reindexed:
            self._calls.append((name, *arguments))
            return ANSWERS.get(name, Proposal(**PROPOSAL))

        return call


class FakeGate:
    """Has the parts of the gate; `calls` holds the name of each called method, and its arguments."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.config_submissions = self.rebuild_submissions = self.agent_submissions = FakePart(self.calls)
        self.fetch_permissions = self.decisions = self.queries = self.maintenance = FakePart(self.calls)
        self.pruning = FakePart(self.calls)

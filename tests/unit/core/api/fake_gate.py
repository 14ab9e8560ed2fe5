"""A gate that keeps no rules: it notes what it was asked for and answers something of the right form."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from hive_core.protocol import (
    AgentStatus,
    DestroyAnswer,
    History,
    LogsAnswer,
    Proposal,
    ProposalDetail,
    ProposalList,
    ReindexAnswer,
)

NOW = datetime.now(UTC)
PROPOSAL: dict[str, Any] = {
    "agent": "ada", "number": 3, "kind": "config", "state": "built", "by": "agent:ada", "note": "why",
    "commit": "c" * 40,
    "base": None, "closure": None, "waits_for": None, "approvals": [], "outcome": "", "created_at": NOW,
    "changed_at": NOW, "expires_at": None,
}  # fmt: skip
DETAIL = ProposalDetail(**PROPOSAL, settings=[], closure_changes=[], diff="", diff_bytes=0)
STATUS = AgentStatus(
    name="ada", kind="agent", lifecycle="running", state="idle", backend="scripted", model=None, detail="",
    state_since=None, started_at=None, pid=None, restarts=0, exit_cause="", unacked=0, web_port=1, deployment=0,
    confinement="",
)  # fmt: skip
ANSWERS: dict[str, BaseModel] = {
    "proposals": ProposalList(proposals=[], total=0),
    "build_log": LogsAnswer(lines=[], cursor="0"),
    "history": History(agent="ada", deployments=[]),
    "reindex": ReindexAnswer(agents=1, proposals=2, changed=0),
    "spawn": STATUS,
    "destroy": DestroyAnswer(name="ada", purged=False, dropped_messages=0),
    "show": DETAIL,
}


class FakeGate:
    """Notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., Awaitable[BaseModel]]:
        async def ask(*arguments: object) -> BaseModel:
            self.asked.append((name, *arguments))
            return ANSWERS.get(name, Proposal(**PROPOSAL))

        return ask

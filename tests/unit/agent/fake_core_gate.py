"""The gate's part of the fake: proposals kept in memory, every request noted. It decides nothing by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from hive_core.protocol import (
    ApproveRequest,
    DenyRequest,
    Deployment,
    DestroyProposal,
    History,
    ProposalDetail,
    ProposalList,
    ProposeRequest,
    RebuildRequest,
    RollbackRequest,
    SpawnProposal,
    WithdrawRequest,
)

Handler = Callable[[web.Request], Awaitable[Any]]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
COMMIT = "c" * 40


def made(**values: Any) -> ProposalDetail:
    """A proposal that is built and waits for the manager, but for `values`."""
    fields: dict[str, Any] = {
        "agent": "ada",
        "number": 3,
        "kind": "config",
        "state": "built",
        "by": "ada",
        "note": "shorter answers",
        "commit": COMMIT,
        "base": "b" * 40,
        "closure": "/closures/ada/1",
        "waits_for": "manager",
        "approvals": [],
        "outcome": "",
        "created_at": NOW,
        "changed_at": NOW,
        "expires_at": None,
        "settings": ["turn_timeout: 3600 becomes 600"],
        "closure_changes": ["prompt.md: +1 line"],
        "missing_fetches": [],
        "allowed_fetches": None,
        "diff": "+Be short.",
        "diff_bytes": 10,
    }
    return ProposalDetail.model_validate(fields | values)


@dataclass
class FakeCoreGate:
    """`asked` are the requests, with the agent and number of their path; `proposals` what is answered from."""

    proposals: list[ProposalDetail] = field(default_factory=list)
    asked: list[tuple[str, BaseModel]] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    deployments: list[int] = field(default_factory=list)

    def routes(self) -> list[tuple[str, str, Handler]]:
        return [
            ("POST", "/v1/proposals", self._propose),
            ("GET", "/v1/proposals", self._list),
            ("GET", "/v1/proposals/{name}/{number}", self._show),
            ("POST", "/v1/proposals/{name}/{number}/withdraw", self._changing(WithdrawRequest, "withdrawn")),
            ("POST", "/v1/proposals/{name}/{number}/approve", self._changing(ApproveRequest, "approved")),
            ("POST", "/v1/proposals/{name}/{number}/deny", self._changing(DenyRequest, "denied")),
            ("POST", "/v1/agents", self._spawn),
            ("POST", "/v1/agents/{name}/destroy", self._asking(DestroyProposal, "destroy")),
            ("POST", "/v1/agents/{name}/rollback", self._asking(RollbackRequest, "rollback")),
            ("POST", "/v1/agents/{name}/rebuild", self._asking(RebuildRequest, "rebuild")),
            ("GET", "/v1/agents/{name}/history", self._history),
        ]

    async def _propose(self, request: web.Request) -> ProposalDetail:
        asked = ProposeRequest.model_validate_json(await request.read())
        self.asked.append(("", asked))
        agent = asked.agent or "alice"
        proposal = made(agent=agent, number=len(self.proposals) + 1, commit=asked.commit, note=asked.note, by="alice")
        self.proposals.append(proposal)
        return proposal

    async def _list(self, request: web.Request) -> ProposalList:
        self.queries.append(request.query_string)
        agent = request.query.get("agent")
        found = [proposal for proposal in self.proposals if agent in {None, proposal.agent}]
        return ProposalList.model_validate({"proposals": [item.model_dump() for item in found], "total": len(found)})

    async def _show(self, request: web.Request) -> Any:
        return self._found(request) or _unknown(request)

    def _changing(self, model: type[BaseModel], state: str) -> Handler:
        async def handler(request: web.Request) -> Any:
            self.asked.append((_subject(request), model.model_validate_json(await request.read())))
            found = self._found(request)
            return _unknown(request) if found is None else made(**found.model_dump() | {"state": state})

        return handler

    def _asking(self, model: type[BaseModel], kind: str) -> Handler:
        async def handler(request: web.Request) -> ProposalDetail:
            asked = model.model_validate_json(await request.read())
            self.asked.append((request.match_info["name"], asked))
            return made(agent=request.match_info["name"], kind=kind, by="hm1nd", waits_for="operator")

        return handler

    async def _spawn(self, request: web.Request) -> ProposalDetail:
        asked = SpawnProposal.model_validate_json(await request.read())
        self.asked.append((asked.name, asked))
        return made(agent=asked.name, number=0, kind="spawn", by="hm1nd", waits_for="operator")

    async def _history(self, request: web.Request) -> History:
        return History(
            agent=request.match_info["name"],
            deployments=[
                Deployment(
                    number=number,
                    kind="config",
                    commit=COMMIT,
                    closure="x",
                    by="ada",
                    approved_by=["hm1nd"],
                    note="",
                    deployed_at=NOW,
                    current=number == self.deployments[0],
                )
                for number in self.deployments
            ],
        )

    def _found(self, request: web.Request) -> ProposalDetail | None:
        for proposal in self.proposals:
            if f"{proposal.agent}/{proposal.number}" == _subject(request):
                return proposal
        return None


def _subject(request: web.Request) -> str:
    return f"{request.match_info['name']}/{request.match_info['number']}"


def _unknown(request: web.Request) -> web.Response:
    error = {"code": "unknown_proposal", "message": f"there is no proposal {_subject(request)}", "hint": ""}
    return web.json_response({"error": error}, status=404)

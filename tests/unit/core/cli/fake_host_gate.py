"""The fake's part that is the gate's: proposals, deployments, the audit table."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

from aiohttp import web
from pydantic import BaseModel

from hive_core.protocol import (
    AllowedFetches,
    AllowFetchesRequest,
    ApproveRequest,
    AuditList,
    AuditQuery,
    AuditRow,
    AuditVerification,
    ConfigurationFiles,
    DenyRequest,
    Deployment,
    EditRequest,
    History,
    HistoryQuery,
    LogsAnswer,
    LogsQuery,
    ProposalDetail,
    ProposalList,
    ProposalQuery,
    ProposalsQuery,
    ProposalState,
    ProposeRequest,
    PruneAnswer,
    PrunedAgent,
    PruneRequest,
    RebuildRequest,
    ReindexAnswer,
    RollbackRequest,
    WithdrawRequest,
)
from tests.unit.core.cli.fake_host_http import Refusal, answered

M = TypeVar("M", bound=BaseModel)

_DECISIONS: dict[str, tuple[type[BaseModel], ProposalState]] = {
    "approve": (ApproveRequest, "approved"),
    "deny": (DenyRequest, "denied"),
    "withdraw": (WithdrawRequest, "withdrawn"),
}


def proposal(agent: str = "ada", number: int = 3, **changes: object) -> ProposalDetail:
    """A proposal of three minutes ago that is built and waits for the operator, with `changes`."""
    now = datetime.now(UTC)
    fields: dict[str, object] = {
        "agent": agent, "number": number, "kind": "config", "state": "built", "by": f"agent:{agent}",
        "note": "Use the small model.", "commit": "c" * 40, "base": "b" * 40, "closure": "/closures/1",
        "waits_for": "operator", "approvals": [], "outcome": "", "created_at": now - timedelta(minutes=3, seconds=5),
        "changed_at": now - timedelta(minutes=2, seconds=5), "expires_at": None, "settings": [],
        "closure_changes": [], "missing_fetches": [], "allowed_fetches": None, "diff": "", "diff_bytes": 0,
    }  # fmt: skip
    return ProposalDetail.model_validate(fields | changes)


class Wire(Protocol):
    """How requests are read and noted."""

    async def body(self, request: web.Request, model: type[M]) -> M: ...

    def query(self, request: web.Request, model: type[M]) -> M: ...

    def noted(self, request: web.Request, body: BaseModel | None = None) -> None: ...


class FakeHostGate:
    """Tests set the public fields."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.proposals: list[ProposalDetail] = []
        self.later: list[ProposalDetail] = []
        """What becomes of a proposal, one for each time that another state is waited for."""
        self.waited_for = asyncio.Event()
        """Another state is waited for, and there is none."""
        self.deployed = "b" * 40
        self.files = {"agent.nix": "{ }\n", "agent.toml": "model = 'x'\n", "prompt.md": "You help.\n"}
        self.executables: set[str] = set()
        self.edited: dict[str, str] = {}
        """The files of the last edit that was proposed."""
        self.waits_for = "operator"
        """The party whose decision an edit needs."""
        self.refused_edit: Refusal | None = None
        self.logs: list[LogsAnswer] = []
        self.deployments: list[Deployment] = []
        self.rows: list[AuditRow] = []
        self.pruned: list[PrunedAgent] = []
        self.verification = AuditVerification(ok=True, rows=12, tags=5, problems=[])

    def routes(self) -> list[web.RouteDef]:
        one = "/v1/proposals/{name}/{number}"
        return [
            web.get("/v1/proposals", self._list),
            web.post("/v1/proposals", self._propose),
            web.post("/v1/proposals/reindex", self._reindex),
            web.post("/v1/proposals/prune", self._prune),
            web.get(one, self._show),
            web.get(f"{one}/log", self._log),
            web.post(one + "/{verb:approve|deny|withdraw}", self._decide),
            web.post(f"{one}/allow-fetches", self._allow_fetches),
            web.post("/v1/agents/{name}/rollback", self._rollback),
            web.post("/v1/agents/{name}/rebuild", self._rebuild),
            web.get("/v1/agents/{name}/history", self._history),
            web.get("/v1/agents/{name}/configuration", self._files),
            web.post("/v1/agents/{name}/configuration", self._edit),
            web.get("/v1/audit", self._audit),
            web.get("/v1/audit/verify", self._verify),
        ]

    async def _files(self, request: web.Request) -> web.Response:
        self._wire.noted(request)
        encoded = {path: base64.b64encode(text.encode()).decode() for path, text in self.files.items()}
        return answered(
            ConfigurationFiles(agent="ada", commit=self.deployed, files=encoded, executables=sorted(self.executables))
        )

    async def _edit(self, request: web.Request) -> web.Response:
        body = await self._wire.body(request, EditRequest)
        if self.refused_edit is not None:
            raise self.refused_edit
        self.edited = {path: base64.b64decode(text).decode() for path, text in body.files.items()}
        made = proposal("ada", note=body.note, by="operator:me", waits_for=self.waits_for)
        self.proposals.append(made)
        return answered(made)

    async def _prune(self, request: web.Request) -> web.Response:
        body = await self._wire.body(request, PruneRequest)
        return answered(PruneAnswer(agents=self.pruned, limit_bytes=64 * 1024 * 1024, dry_run=body.dry_run))

    def _named(self, request: web.Request) -> int:
        name, number = request.match_info["name"], request.match_info["number"]
        for place, one in enumerate(self.proposals):
            if (one.agent, str(one.number)) == (name, number):
                return place
        raise Refusal(404, "unknown_proposal", f"{name} has no proposal {number}", "see the list")

    def _becomes(self, place: int, state: ProposalState) -> web.Response:
        waits_for = self.proposals[place].waits_for if state == "built" else None
        self.proposals[place] = self.proposals[place].model_copy(update={"state": state, "waits_for": waits_for})
        return answered(self.proposals[place])

    async def _list(self, request: web.Request) -> web.Response:
        self._wire.query(request, ProposalsQuery)
        return answered(ProposalList(proposals=list(self.proposals), total=len(self.proposals) + 2))

    async def _propose(self, request: web.Request) -> web.Response:
        body = await self._wire.body(request, ProposeRequest)
        made = proposal(str(body.agent), note=body.note, commit=body.commit, state="proposal", waits_for=None)
        self.proposals.append(made)
        return answered(made)

    async def _show(self, request: web.Request) -> web.Response:
        query = self._wire.query(request, ProposalQuery)
        place = self._named(request)
        if query.unlike == self.proposals[place].state:
            if self.later:
                self.proposals[place] = self.later.pop(0)
            else:
                self.waited_for.set()
                await asyncio.sleep(query.wait_seconds)
        return answered(self.proposals[place])

    async def _log(self, request: web.Request) -> web.Response:
        query = self._wire.query(request, LogsQuery)
        if not self.logs:
            return answered(LogsAnswer(lines=[], cursor=query.cursor or "0"))
        found = self.logs.pop(0)
        if not self.logs:
            self._becomes(self._named(request), "built")  # What was printed last, and the build is over.
        return answered(found)

    async def _decide(self, request: web.Request) -> web.Response:
        model, state = _DECISIONS[request.match_info["verb"]]
        await self._wire.body(request, model)
        return self._becomes(self._named(request), state)

    async def _allow_fetches(self, request: web.Request) -> web.Response:
        await self._wire.body(request, AllowFetchesRequest)
        failed = self.proposals[self._named(request)]
        allowed = AllowedFetches(by="operator:alice", failed=failed.number, fetches=failed.missing_fetches)
        changes = {"state": "proposal", "outcome": "", "missing_fetches": [], "allowed_fetches": allowed, "number": 9}
        self.proposals.append(failed.model_copy(update=changes))
        return answered(self.proposals[-1])

    async def _rollback(self, request: web.Request) -> web.Response:
        body = await self._wire.body(request, RollbackRequest)
        name = request.match_info["name"]
        self.proposals.append(
            proposal(name, 9, kind="rollback", state="approved", note=body.note, waits_for=None, approvals=["operator"])
        )
        return answered(self.proposals[-1])

    async def _rebuild(self, request: web.Request) -> web.Response:
        body = await self._wire.body(request, RebuildRequest)
        name = request.match_info["name"]
        if name == "nobody":
            raise Refusal(404, "unknown_agent", "there is no agent nobody", "see the list")
        self.proposals.append(proposal(name, 9, kind="rebuild", state="proposal", note=body.note, waits_for=None))
        return answered(self.proposals[-1])

    async def _history(self, request: web.Request) -> web.Response:
        self._wire.query(request, HistoryQuery)
        return answered(History(agent=request.match_info["name"], deployments=self.deployments))

    async def _reindex(self, request: web.Request) -> web.Response:
        self._wire.noted(request)
        return answered(ReindexAnswer(agents=2, proposals=7, repositories=1, work=3, changed=1))

    async def _audit(self, request: web.Request) -> web.Response:
        self._wire.query(request, AuditQuery)
        return answered(AuditList(rows=self.rows))

    async def _verify(self, request: web.Request) -> web.Response:
        self._wire.noted(request)
        return answered(self.verification)

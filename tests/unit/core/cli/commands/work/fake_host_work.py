"""The fake's part for repositories and work."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from aiohttp import web

from hive_core.protocol import ProposalQuery, WorkDetail, WorkList, WorkProposal, WorksQuery
from tests.unit.core.cli.fake_host_gate import Wire
from tests.unit.core.cli.fake_host_http import Refusal, answered


def work(**changes: object) -> WorkDetail:
    """Work of three minutes ago by ada that is checked and waits for the manager, with `changes`."""
    now = datetime.now(UTC)
    fields: dict[str, object] = {
        "repo": "web", "number": 3, "state": "built", "by": "ada", "title": "Mend it", "description": "Why.",
        "branch": "main", "commit": "c" * 40, "base": "b" * 40, "waits_for": "manager", "approvals": [], "outcome": "",
        "landed": None, "link": "", "created_at": now - timedelta(minutes=3, seconds=5), "changed_at": now,
        "expires_at": None, "checks": ["test: passed"], "diff": "+one\n", "diff_bytes": 5,
    }  # fmt: skip
    return WorkDetail.model_validate(fields | changes)


class FakeHostWork:
    """Tests set the public fields."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.work: list[WorkDetail] = []
        """The newest first."""
        self.path = ""
        """The places of the repositories on this host."""
        self.users: dict[str, list[str]] = {"web": ["ada"]}
        """The agents that have a repository, by its name."""

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/work", self._list),
            web.get("/v1/work/{repo}/{number}", self._show),
            web.get("/v1/repositories", self._repositories),
            web.get("/v1/repositories/{name}", self._repository),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        self._wire.query(request, WorksQuery)
        found = [WorkProposal.model_validate(each.model_dump()) for each in self.work]
        return answered(WorkList(work=found, total=len(found)))

    async def _show(self, request: web.Request) -> web.Response:
        self._wire.query(request, ProposalQuery)
        name = (request.match_info["repo"], request.match_info["number"])
        for each in self.work:
            if (each.repo, str(each.number)) == name:
                return answered(each)
        raise Refusal(404, "unknown_work", f"there is no work {'/'.join(name)}", "see the list")

    async def _repositories(self, request: web.Request) -> web.Response:
        return web.json_response({"repositories": [{"name": name, "state": "current"} for name in self.users]})

    async def _repository(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.users:
            raise Refusal(404, "unknown_repository", f"there is no repository {name}", "see the list")
        return web.json_response({"name": name, "agents": self.users[name], "path": self.path})

"""The beginning and the end of an agent: what a spawn makes beside its tags, and what a destroy takes away."""

from __future__ import annotations

import asyncio

from hive_core.agents import files
from hive_core.errors import HiveError, conflict
from hive_core.gate import milestones, texts
from hive_core.gate.context import Workplace
from hive_core.gate.intake_ceilings import check_settings
from hive_core.gate.parties import Party
from hive_core.gate.records.commit import in_force
from hive_core.gate.records.index import Row
from hive_core.gate.records.transitions import person, seconds
from hive_core.infra.git.repository import Repository
from hive_core.protocol import AgentStatus, SpawnRequest


class Founding:
    """Makes agents from approved spawns."""

    def __init__(self, place: Workplace) -> None:
        self._place = place

    async def first_commit(self, request: SpawnRequest, party: Party) -> tuple[str, str | None]:
        """Write a new agent's configuration into its applied repository; the commit, and what was deployed before it.

        A repository that an earlier agent of the name left goes on. The commit has no ref yet. Raises `above_ceiling`.
        """
        place = self._place
        check_settings(request.config, place.settings.ceilings)
        path = place.layout.applied_repository(request.name)
        wanted = files.first_files(request)

        def write() -> tuple[str, str | None]:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with Repository.init(path) as repository:
                base = repository.main()
                message = f"Configuration of {request.name}, as spawned\n"
                parents = [base] if base is not None else []
                commit = repository.write_commit(
                    wanted, parents=parents, author=person(party), when=seconds(), message=message
                )
                return commit, base

        return await asyncio.to_thread(write)

    async def create(self, row: Row, *, start: bool = True, actor: str = "system") -> AgentStatus:
        """Make the agent of an approved spawn, with a config repository of its own that starts at the commit.

        An agent that a daemon made which died before it could say so is left as it is.
        """
        place, agent = self._place, row.agent
        if place.agents.exists(agent):
            if place.agents.record(agent).deployment == row.number:
                return place.agents.status(agent)
            raise conflict("agent_exists", f"there is an agent {agent} already", "destroy it first")
        new = await place.with_repository(agent, lambda repository: in_force(repository, row))
        paths = await place.agents.make_place(agent)
        await place.with_repository(agent, lambda repository: repository.clone_to(paths.config, row.sha))
        milestones.reached("agent's place made")
        try:
            status = await place.agents.create(agent, new, start=start, actor=actor)
        except HiveError as error:
            # It is there and cannot be run; a spawn that failed leaves no agent.
            if error.code != "stopping" and place.agents.exists(agent):
                await place.agents.destroy(agent, "system", purge=False)
            raise
        milestones.reached("agent made")
        return status

    async def flags(self, row: Row) -> tuple[bool, bool]:
        """Whether a spawn is to be started, and a destroy to be a purge: `proposal/N` knows."""
        tags = await self._place.with_repository(
            row.agent, lambda repository: repository.read_tags([f"proposal/{row.number}"])
        )
        if not tags:
            raise HiveError("repository_damaged", f"proposal/{row.number} of {row.agent} is gone", status=500)
        data = texts.read(tags[0].message)
        return data.start, data.purge

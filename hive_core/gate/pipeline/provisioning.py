"""Creation and removal of agents on behalf of spawn and destroy proposals."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial

from hive_core.agents import files
from hive_core.errors import HiveError, conflict
from hive_core.gate.context import WHOLE_AGENT, GateContext
from hive_core.gate.intake.agent_toml import check_ceilings
from hive_core.gate.intake.toolchain import PATH as TOOLCHAIN
from hive_core.gate.intake.toolchain import read_toolchain
from hive_core.gate.intake.tree_check import check_files
from hive_core.gate.policy import SYSTEM, Principal
from hive_core.gate.records import index, transitions
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.states import State
from hive_core.gate.records.transitions import Transition, person, seconds
from hive_core.gate.subject.background import is_temporary
from hive_core.infra.concurrency.threads import GATE, LIFECYCLE
from hive_core.infra.git.repository import Repository
from hive_core.protocol import AgentStatus, DestroyAnswer, SpawnRequest
from hive_core.text import shown


class Provisioning:
    """Creates the agents of approved spawns."""

    def __init__(self, context: GateContext) -> None:
        self._context = context

    async def first_commit(self, request: SpawnRequest, principal: Principal) -> tuple[str, str | None]:
        """Write a new agent's configuration into its applied repository, as a commit without a ref.

        The repository of an earlier agent of that name is used again. Raises `above_ceiling`, the errors of
        `DeploymentManager.check_settings`, and those of `check_files`, as the files of a spawn may be an agent's.

        Returns:
            The commit, and the commit that was deployed before; None if there is none.
        """
        content = self.first_files(request)
        path = self._context.layout.applied_repository(request.name)

        def write() -> tuple[str, str | None]:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with Repository.init(path) as repository:
                base = repository.main()
                message = f"Configuration of {request.name}, as spawned\n"
                parents = [base] if base is not None else []
                commit = repository.write_commit(
                    content,
                    parents=parents,
                    author=person(principal),
                    when=seconds(),
                    message=message,
                    executables=request.executables,
                )
                return commit, base

        return await LIFECYCLE.run(write)

    def first_files(self, request: SpawnRequest) -> dict[str, bytes]:
        """Return the files of a new agent's configuration, by path. Raises as `first_commit` does."""
        context = self._context
        check_ceilings(request.config, context.settings.ceilings)
        context.deployments.check_settings(request.config)
        content = files.first_files(request)
        check_files(
            content, request.config.binary_files, context.settings.proposal_bytes, context.settings.proposal_files
        )
        if unknown := sorted(set(request.executables) - content.keys()):
            raise HiveError(
                "bad_tree", f"there is no file {shown(unknown[0])}", hint="name executables among the files"
            )
        return content

    async def complete(self, request: SpawnRequest) -> tuple[SpawnRequest, list[str]]:
        """Add the `agent.nix` of a repository to a request that says nothing of the agent's system.

        Returns the request, and what was added, in words. Raises the errors of `read_toolchain`.
        """
        context = self._context
        if request.agent_nix is not None or request.packages:
            return request, []
        for name in request.config.repos:
            known = context.deployments.find_repository(name)
            found = None if known is None else await read_toolchain(known, context.runtime.bubblewrap)
            if found is not None:
                said = f"agent.nix is {TOOLCHAIN} of the repository {name}, from commit {found.commit[:12]}"
                return request.model_copy(update={"agent_nix": found.text}), [said]
        return request, []

    async def discard_unused_repository(self, agent: str) -> None:
        """Remove an applied repository in which nothing is recorded, after a spawn was refused.

        The caller must hold the agent's lock.
        """
        path = self._context.layout.applied_repository(agent)

        def discard() -> None:
            with Repository.open(path) as repository:
                unused = not repository.tags() and repository.main() is None
            if unused:
                shutil.rmtree(path, ignore_errors=True)

        if await GATE.run(path.exists):
            await LIFECYCLE.run(discard)

    async def create_agent(self, row: ProposalRow, *, actor: str = "system") -> AgentStatus:
        """Create the agent of an approved spawn, with a config repository of its own that starts at the commit.

        If an earlier daemon was killed after it had created the agent, the agent stays as it is. Raises `agent_exists`.
        After an error the agent may exist, with the deployment of `row`; then the caller has to remove it.
        """
        context, agent = self._context, row.agent
        if context.agents.exists(agent):
            if context.agents.record(agent).deployment == row.number:
                return context.agents.status(agent)
            raise conflict("agent_exists", f"there is an agent {agent} already", "destroy it first")
        new = await context.active_config(row)
        made = False
        try:
            paths = await context.deployments.create_directories(agent)
            made = True
            await context.in_repository(
                agent, lambda repository: repository.clone_to(paths.config, row.commit), LIFECYCLE
            )
            transitions.crash_point("agent's place made")
            status = await context.deployments.create(agent, new, start=row.start, actor=actor)
        except Exception:
            if not context.agents.exists(agent):
                await LIFECYCLE.run(partial(files.discard_directories, context.layout.agent(agent), clone=made))
            raise
        transitions.crash_point("agent made")
        return status


_WHY = "the agent was destroyed"


class Removal:
    """Removes agents. Callers must hold the agent's lock."""

    def __init__(self, context: GateContext) -> None:
        self._context = context

    async def remove_agent(
        self, agent: str, *, purge: bool, actor: str, besides: int | None = None
    ) -> DestroyAnswer | None:
        """Destroy the agent, after its open proposals were ended except `besides`, which asked for the removal.

        With `purge` its applied repository and its rows in the index are removed too. Returns None if the agent is
        gone already.
        """
        context = self._context
        opened = await context.database.read(lambda db: index.open_of(db, agent))
        for row in opened:
            if row.number != besides:
                await context.background.cancel(agent, row.number)
        # Without space an agent must go, too: its proposals are ended when there is some.
        await context.end(agent, WHOLE_AGENT, partial(self._end_proposals, opened, besides))
        transitions.crash_point("proposals ended")
        answer = None
        try:
            if context.agents.exists(agent):
                answer = await context.lifecycle.destroy(agent, actor, purge=purge)
            transitions.crash_point("agent destroyed")
        finally:
            # The agent is gone, even if some of its files could not be removed.
            if purge and not context.agents.exists(agent):
                await self._forget(agent)
            await context.transition_log.notify_waiters()
        return answer

    async def remove_kept(self, agent: str, *, actor: str) -> DestroyAnswer:
        """Remove what is kept of a destroyed agent, and the record of its proposals.

        Raises `proposals_open`, and the errors of `AgentLifecycle.purge_kept`.
        """
        context = self._context
        if await context.database.read(lambda db: index.open_of(db, agent)):
            hint = "decide on the proposal to spawn it first"
            raise conflict("proposals_open", f"there is an open proposal about {agent}", hint)
        answer = await context.lifecycle.purge_kept(agent, actor)
        await self._forget(agent)
        return answer

    async def _forget(self, agent: str) -> None:
        """Remove the rows of a purged agent from the index, later if there is no room now."""
        context = self._context
        try:
            await context.database.write(partial(index.forget, agent=agent))
        except HiveError as error:
            if not is_temporary(error):
                raise
            forget = context.locked(agent, partial(self._forget_proposals, agent))
            context.background.start(agent, WHOLE_AGENT, forget)

    async def _end_proposals(self, opened: Sequence[ProposalRow], besides: int | None) -> None:
        """End those of the proposals that are still open, except `besides`."""
        context, changes = self._context, []
        for before in opened:
            row = await context.database.read(partial(index.find, agent=before.agent, number=before.number))
            if row is None or not row.open or row.created_at != before.created_at or row.number == besides:
                continue
            state = State.WITHDRAWN if row.state in (State.PROPOSAL, State.BUILT) else State.FAILED
            changes.append(Transition(row.tag(state, outcome=_WHY, waits_for=None), row.commit, SYSTEM))
        if changes:
            await context.transition_log.record(changes[0].data.agent, changes)

    async def _forget_proposals(self, agent: str) -> None:
        """Remove the rows of a purged agent, unless there is a new one of its name by now."""
        context = self._context
        if not await GATE.run(context.layout.applied_repository(agent).exists):
            await context.database.write(partial(index.forget, agent=agent))

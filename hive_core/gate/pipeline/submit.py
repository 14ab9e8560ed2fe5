"""Submission of proposals: configuration, spawn, destroy, rebuild."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial

from hive_core.errors import HiveError, bad_request, conflict, not_found
from hive_core.gate import policy
from hive_core.gate.context import GateContext, as_request, check_only_one, new_proposal
from hive_core.gate.intake.given_files import commit_given_files, read_given_files
from hive_core.gate.intake.import_commit import CommitImporter
from hive_core.gate.intake.unknown_names import describe_unknown
from hive_core.gate.pipeline.build import BuildStep
from hive_core.gate.pipeline.deploy import DeployStep, Restoration, why_failed
from hive_core.gate.pipeline.provisioning import Provisioning, Removal
from hive_core.gate.pipeline.prune import Pruning
from hive_core.gate.policy import SYSTEM, Principal
from hive_core.gate.records import index
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.states import State
from hive_core.gate.records.transitions import Transition, person, seconds
from hive_core.infra.concurrency.threads import GATE
from hive_core.infra.git.repository import Repository
from hive_core.people.ownership.sight import EVERYTHING, Sight
from hive_core.protocol import (
    AgentConfig,
    DestroyAnswer,
    DestroyProposal,
    DestroyRequest,
    EditRequest,
    Proposal,
    ProposeRequest,
    SpawnAnswer,
    SpawnPreview,
    SpawnProposal,
    SpawnRequest,
)
from hive_core.runtimes.base import BuildFailed, FetchesMissing
from hive_core.text import format_bytes

_MAX_OPEN = 20
"""Number of proposals of one agent that may be open at a time."""
_MAX_PER_HOUR = 60
"""Number of proposals that an agent may make in an hour."""
_PRUNED_DAYS = 1.0
"""Days after which ended proposals are pruned when their agent has no space for another."""


class ConfigSubmissions:
    """Takes in proposals of configurations."""

    def __init__(self, context: GateContext, importer: CommitImporter, build_step: BuildStep, pruning: Pruning) -> None:
        self._context = context
        self._importer = importer
        self._build_step = build_step
        self._pruning = pruning

    @as_request
    async def propose(self, request: ProposeRequest, principal: Principal) -> Proposal:
        """Import a commit and propose it; it is built in the background.

        Raises what intake raises, `nothing_changed`, `already_proposed`, `too_many_proposals`, `not_rebased`.
        """
        context = self._context
        agent = request.agent or principal.name
        if request.agent is None and principal.role == "operator":
            raise bad_request("the operator has no configuration to propose: say of which agent", "name the agent")
        policy.check_may_propose(principal, agent)
        context.agents.record(agent)
        await context.runtime.check_can_build()
        # No pruning removes the commit as long as it has no tag.
        with self._pruning.taking_in(agent, request.commit):
            base = await self._import(agent, request, principal)
            async with context.locks[agent]:
                context.agents.record(agent)
                await self._check_limits(agent, request.commit, principal)
                if await context.in_repository(agent, Repository.main) != base:
                    raise policy.main_moved(agent, base)
                data = await new_proposal(context, "config", agent, principal, request.note, base, expires=True)
                (row,) = await context.transition_log.record(agent, [Transition(data, request.commit, principal)])
        self._build_step.begin(agent, row.number)
        return row.to_protocol()

    @as_request
    async def edit(self, agent: str, request: EditRequest, principal: Principal) -> Proposal:
        """Commit files on top of the deployed commit and propose that; it is built in the background.

        The files pass the same checks as those of a commit. Raises what these raise, `nothing_changed`,
        `too_many_proposals`, and `not_rebased` if another commit than `base` is deployed.
        """
        context, settings = self._context, self._context.settings
        policy.check_may_propose(principal, agent)
        context.agents.record(agent)
        await context.runtime.check_can_build()
        given = await GATE.run(lambda: read_given_files(request.files, request.executables, settings))
        context.deployments.check_settings(given.config)
        async with context.locks[agent]:
            context.agents.record(agent)
            if await context.in_repository(agent, Repository.main) != request.base:
                raise policy.main_moved(agent, request.base)
            author, when = person(principal), seconds()
            commit = await context.in_repository(
                agent,
                lambda repository: commit_given_files(repository, given, request.base, author, when, request.note),
            )
            await self._check_limits(agent, commit, principal)
            data = await new_proposal(context, "config", agent, principal, request.note, request.base, expires=True)
            (row,) = await context.transition_log.record(agent, [Transition(data, commit, principal)])
        self._build_step.begin(agent, row.number)
        return row.to_protocol()

    async def _import(self, agent: str, request: ProposeRequest, principal: Principal) -> str | None:
        """Import the commit into the applied repository. Returns the deployed commit, from which it descends."""
        context = self._context
        # The agent's lock is not held, so that a repository that is slow to read does not delay decisions.
        async with self._pruning.slot(agent):
            await self._check_limits(agent, request.commit, principal)
            try:
                if principal.role != "operator":
                    await self._check_space(agent)
                base = await context.in_repository(agent, Repository.main)
                if request.commit == base:
                    raise conflict(
                        "nothing_changed", f"{agent} runs on {request.commit} already", "commit a change first"
                    )
                await self._import_from_agents(agent, request.commit, base, principal)
            except HiveError:
                context.agents.record(agent)  # Raises `unknown_agent` if the agent was destroyed meanwhile.
                raise
        return base

    async def _check_space(self, agent: str) -> None:
        """Raise `proposal_space_full` if there is no space, also after the proposals that ended long ago are pruned."""
        context, most = self._context, self._context.settings.proposal_space
        if await context.in_repository(agent, Repository.packed_bytes) < most:
            return
        await self._pruning.prune_older(agent, _PRUNED_DAYS, SYSTEM)
        used = await context.in_repository(agent, Repository.packed_bytes)
        if used >= most:
            why = f"the proposals of {agent} take up {format_bytes(used)}, of {format_bytes(most)}"
            hint = (
                f"ask the operator to remove the files of ended ones (hive-c0re proposals prune {agent}), to raise "
                "proposal_space, or to propose this commit"
            )
            raise HiveError("proposal_space_full", why, hint=hint, status=429)

    async def _check_limits(self, agent: str, commit: str, principal: Principal) -> None:
        """Raise `already_proposed` or `too_many_proposals`. Imported objects stay on the disk, so they are limited."""
        opened = await self._context.database.read(lambda db: index.open_of(db, agent))
        for row in opened:
            if row.commit == commit and row.kind == "config":
                raise conflict(
                    "already_proposed",
                    f"{agent}/{row.number} proposes the same commit and is {row.state}",
                    "wait for its decision, or withdraw it",
                )
        if len(opened) >= _MAX_OPEN:
            why, hint = f"{len(opened)} proposals of {agent} are open already", "withdraw those that are not needed"
            raise HiveError("too_many_proposals", why, hint=hint, status=429)
        if principal.role == "agent":
            since = (seconds() - 3_600) * 1_000
            count = await self._context.database.read(lambda db: index.count_since(db, agent, since))
            if count >= _MAX_PER_HOUR:
                why = f"{agent} has made {count} proposals within an hour"
                raise HiveError("too_many_proposals", why, hint="wait; propose what is finished", status=429)

    async def _import_from_agents(self, agent: str, commit: str, base: str | None, principal: Principal) -> None:
        """Take the commit from the agent's repository; the manager's about another agent may lie in its own instead,
        since it must not run git in a repository of which the settings are another's.
        """
        context = self._context
        repository = context.layout.applied_repository(agent)
        if principal.role == "manager" and principal.name != agent:
            try:
                await self._importer.import_commit(
                    context.layout.agent(principal.name).config, repository, commit, base
                )
                return
            except HiveError as error:
                if error.code not in ("no_such_commit", "no_repository"):
                    raise
        await self._importer.import_commit(context.layout.agent(agent).config, repository, commit, base)


class AgentSubmissions:
    """Carries out and proposes spawns and destroys."""

    def __init__(
        self,
        context: GateContext,
        provisioning: Provisioning,
        removal: Removal,
        build_step: BuildStep,
        deploy_step: DeployStep,
    ) -> None:
        self._context = context
        self._provisioning = provisioning
        self._removal = removal
        self._build_step = build_step
        self._deploy_step = deploy_step

    @as_request
    async def spawn(self, request: SpawnRequest, principal: Principal) -> SpawnAnswer:
        """Create an agent for the operator, without a decision. Every step is recorded as for other proposals.

        Raises `bad_name`, `agent_exists`, `agent_being_purged`, `config_in_the_way`, `disk_full`, `build_failed`,
        `above_ceiling`.
        """
        context, agent = self._context, request.name
        await context.deployments.check_new(agent)
        await context.runtime.check_can_build()
        await context.check_room(f"make the agent {agent}")
        async with context.locks[agent]:
            await context.deployments.check_new(agent)
            request, notes = await self._provisioning.complete(request)
            commit, base = await self._provisioning.first_commit(request, principal)
            first = await new_proposal(context, "spawn", agent, principal, "spawned by the operator", base)
            data = replace(first, start=request.start)
            building = replace(data, state=State.BUILDING)
            row = await self._record_first(
                agent, [Transition(data, commit, principal), Transition(building, commit, SYSTEM)]
            )
            row = await self._build_spawn(row, principal)
            try:
                await self._provisioning.create_agent(row, actor=principal.actor)
            except Exception as error:
                why = why_failed(error, "deployment", row)
                await context.end(agent, row.number, partial(self._deploy_step.roll_back, row, why, Restoration()))
                raise
            # The agent exists, so this is no failure any more, even if it can be written down only later.
            await context.end(agent, row.number, partial(self._deploy_step.succeed, row))
            new = context.agents.record(agent)
        warnings = await self._warnings(new.config, request.packages, context.directory.known_to(agent))
        return SpawnAnswer(**context.agents.status(agent).model_dump(), warnings=warnings, notes=notes)

    @as_request
    async def preview(self, request: SpawnRequest, sees: Sight = EVERYTHING) -> SpawnPreview:
        """Return the files that a spawn would begin with. Raises the errors of `spawn` that need no build."""
        await self._context.deployments.check_new(request.name)
        completed, notes = await self._provisioning.complete(request)
        content = self._provisioning.first_files(completed)
        names = list(filter(sees, self._context.agents.names))
        return SpawnPreview(
            files={path: content[path].decode() for path in ("agent.toml", "agent.nix", "prompt.md")},
            warnings=await self._warnings(completed.config, completed.packages, names),
            notes=notes,
        )

    async def _warnings(self, config: AgentConfig, packages: list[str], names: Collection[str]) -> list[str]:
        """Return what in a new agent's settings is known to nobody, in words."""
        context = self._context
        warnings = describe_unknown(config, names, context.settings.egress.allow)
        if missing := await GATE.run(context.runtime.missing_programs, packages):
            warnings.append(
                f"not on this host: {', '.join(missing)}; agents of this runtime have the programs of the host, and "
                "agent.nix adds none: install them there"
            )
        return warnings

    async def _record_first(self, agent: str, changes: list[Transition]) -> ProposalRow:
        """Record the beginning of a spawn. If that fails, nothing of it is left."""
        try:
            (row,) = await self._context.transition_log.record(agent, changes)
        except Exception:
            await self._provisioning.discard_unused_repository(agent)
            raise
        return row

    async def _build_spawn(self, row: ProposalRow, principal: Principal) -> ProposalRow:
        """Build the first configuration of an agent, and approve it. After an error the proposal ends as failed."""
        context, agent = self._context, row.agent
        try:
            done = (await self._build_step.build(row)).tag(row)
            approved = replace(done, state=State.APPROVED, approvals=[principal.label])
            transitions = [Transition(done, row.commit, SYSTEM), Transition(approved, row.commit, principal)]
            (row,) = await context.transition_log.record(agent, transitions)
        except Exception as error:
            why = self._build_step.reason(row, error)
            await context.end(agent, row.number, partial(self._build_step.fail, row, error))
            if not isinstance(error, BuildFailed):
                raise
            hint = "mend the configuration"
            if isinstance(error, FetchesMissing):
                # The other lines of the reason name the fetches, as this command does more readably.
                why = why.partition(":\n")[0]
                command = f"hive-c0re proposals allow-fetches {agent} {row.number}"
                hint += f"; or see the fetches, and how to allow them: {command}"
            raise HiveError("build_failed", why, hint=hint, status=400) from None
        return row

    @as_request
    async def destroy(self, agent: str, request: DestroyRequest, principal: Principal) -> DestroyAnswer:
        """Remove an agent for the operator. Raises the errors of `AgentLifecycle.destroy`."""
        context = self._context
        context.agents.record(agent)
        async with context.locks[agent]:
            context.agents.record(agent)
            answer = await self._removal.remove_agent(agent, purge=request.purge, actor=principal.actor)
        if answer is None:
            raise not_found("unknown_agent", f"there is no agent {agent} any more")
        return answer

    @as_request
    async def purge_kept(self, agent: str, principal: Principal) -> DestroyAnswer:
        """Remove what is kept of a destroyed agent. Raises the errors of `Removal.remove_kept`."""
        async with self._context.locks[agent]:
            return await self._removal.remove_kept(agent, actor=principal.actor)

    @as_request
    async def request_spawn(self, request: SpawnProposal, principal: Principal) -> Proposal:
        """Propose a new agent. Raises the errors of `spawn`, and `already_proposed`."""
        context, agent = self._context, request.name
        if request.owner is not None:
            raise bad_request("only a person or the operator makes an agent for somebody", "leave the owner out")
        policy.check_may_request(principal)
        await context.deployments.check_new(agent)
        await context.runtime.check_can_build()
        async with context.locks[agent]:
            await context.deployments.check_new(agent)
            await check_only_one(context, agent, "spawn")
            completed, _ = await self._provisioning.complete(request)
            commit, base = await self._provisioning.first_commit(completed, principal)
            first = await new_proposal(context, "spawn", agent, principal, request.note, base, expires=True)
            data = replace(first, start=request.start)
            row = await self._record_first(agent, [Transition(data, commit, principal)])
        self._build_step.begin(agent, row.number)
        return row.to_protocol()

    @as_request
    async def request_destroy(self, agent: str, request: DestroyProposal, principal: Principal) -> Proposal:
        """Propose to remove an agent. The proposal is not built and waits for its decision at once."""
        context = self._context
        policy.check_may_request(principal)
        context.agents.record(agent)
        async with context.locks[agent]:
            context.agents.record(agent)
            await check_only_one(context, agent, "destroy")
            main = await context.in_repository(agent, Repository.main)
            if main is None:
                raise conflict("nothing_deployed", f"{agent} has no deployment", "ask the operator to destroy it")
            decision = policy.decision_request("destroy", principal.label, agent, has_manager=context.has_manager)
            decider = policy.next_decider(context.settings.approval, decision, [])
            first = await new_proposal(context, "destroy", agent, principal, request.note, main, expires=True)
            data = replace(first, purge=request.purge)
            built = replace(data, state=State.BUILT, waits_for=decider)
            transitions = [
                Transition(data, main, principal),
                Transition(replace(data, state=State.BUILDING), main, SYSTEM),
                Transition(built, main, SYSTEM),
            ]
            if decider is None:  # The operator proposed it.
                approved = replace(built, state=State.APPROVED, approvals=[principal.label])
                transitions.append(Transition(approved, main, principal))
            (row,) = await context.transition_log.record(agent, transitions)
        if decider is None:
            self._deploy_step.start(agent, row.number)
        return row.to_protocol()

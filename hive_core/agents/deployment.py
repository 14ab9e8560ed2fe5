"""Deploying a configuration to an agent, its first and every later one. The gate decides who may do that."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

import structlog

from hive_core.agents import alerts, files
from hive_core.agents import store as agent_store
from hive_core.agents.grants import networks
from hive_core.agents.grants.grants import Grants, without_vendor_keys
from hive_core.agents.health import HarnessReports
from hive_core.agents.purge import Purging
from hive_core.agents.registry import AgentRegistry, agent_exists, check_name
from hive_core.agents.repositories import FindRepository, KnownRepository, check_repositories, find_mounts, find_none
from hive_core.agents.store import ActiveConfig, AgentRecord, Desired
from hive_core.errors import HiveError
from hive_core.infra.concurrency.threads import LIFECYCLE
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database
from hive_core.infra.database.deferred import DeferredChanges
from hive_core.infra.processes import find_listener
from hive_core.layout import AgentPaths, Layout
from hive_core.protocol import AgentConfig, AgentStatus, Kind
from hive_core.protocol.names import MANAGER
from hive_core.runtimes.base import AgentSpec, Runtime
from hive_core.text import Quoted

log = structlog.get_logger(__name__)

_PORT_SECONDS = 5.0
"""Time between two attempts to get a port that another program has."""
_TRIES_PER_SEARCH = 12
"""Attempts per search for the program, which reads the descriptors of all processes."""
_SHOWN_NAME = 40
_LISTEN_SECONDS = 5.0
"""Time until the daemon tries again to listen for an agent for which it could not."""


class SocketManager(Protocol):
    """Interface to the agents' sockets, as far as this package needs it."""

    async def open(self, name: str) -> None:
        """Listen for the agent."""

    async def close(self, name: str) -> None:
        """Stop listening for the agent."""


class LentSocketManager(Protocol):
    """Interface to the sockets that are lent to agents, as far as this package needs it."""

    def hold(self, name: str) -> None:
        """Listen on the agent's lent sockets, unless that is so already; raises HiveError if that fails."""

    def release(self, name: str) -> None:
        """Remove the agent's lent sockets."""


class PagePortManager(Protocol):
    """Interface to the ports of agents' pages, as far as this package needs it."""

    def hold(self, name: str, port: int) -> None:
        """Listen on the port for the agent, unless it does already; raises HiveError if that fails."""

    def release(self, name: str) -> None:
        """Stop listening on the agent's port."""

    def is_free(self, port: int) -> bool:
        """Return True if nobody listens on the port."""


class DeploymentManager:
    """Deploys configurations to agents and waits until they are healthy."""

    def __init__(
        self,
        registry: AgentRegistry,
        *,
        layout: Layout,
        database: Database,
        runtime: Runtime,
        sockets: SocketManager,
        lent: LentSocketManager,
        page_ports: PagePortManager,
        reports: HarnessReports,
        purging: Purging,
        deferred: DeferredChanges,
        environment: Mapping[str, str],
        grants: Grants,
        find_repository: FindRepository = find_none,
        gateways: Callable[[str], Mapping[str, int]] = lambda _: {},
        listen_seconds: float = _LISTEN_SECONDS,
    ) -> None:
        """Every harness gets the variables of `environment` and what `grants` say.

        `find_repository` finds the repositories that configurations name. `gateways` returns the ports on
        which the harness of an agent has to listen for the gateways, by purpose.

        `listen_seconds` is the time until the daemon tries again to listen for an agent for which it could not.
        """
        self._registry = registry
        self._layout = layout
        self._database = database
        self._runtime = runtime
        self._sockets = sockets
        self._lent = lent
        self._gateways = gateways
        self._page_ports = page_ports
        self._reports = reports
        self._purging = purging
        self._deferred = deferred
        self._environment = environment
        self._grants = grants
        self._find_repository = find_repository
        self._ports_missing = asyncio.Event()
        self._listen_seconds = listen_seconds
        self._not_listening: set[str] = set()

    def find_repository(self, name: str) -> KnownRepository | None:
        """Return the registered repository of this name; None if there is none."""
        return self._find_repository(name)

    def check_settings(self, config: AgentConfig) -> None:
        """Raise HiveError for a setting that cannot be in force here, as `Runtime.check_settings`, `HostOffers.check`,
        `Grants.check_models` and `check_repositories` do.
        """
        self._runtime.check_settings(config)
        self._grants.offers.check(config)
        self._grants.check_models(config)
        check_repositories(config, self._find_repository)

    async def check_new(self, name: str) -> None:
        """Check that an agent of this name can be created.

        Afterwards no files of a purged agent of the name are in the way, and none will be deleted later.

        Raises:
            HiveError: `bad_name`, `agent_exists`, `name_taken`, `agent_being_purged`, `disk_full`.
        """
        check_name(name)
        self._check_free(name)
        if self._registry.is_person(name):
            raise agent_store.name_of_account(name)
        await self._deferred.settle(name)
        if self._purging.pending(name):
            async with self._registry.lock(name):
                await self._purging.make_way(name)

    async def create_directories(self, name: str) -> AgentPaths:
        """Create the directories of a new agent, but for `config`; move that of an earlier agent aside.

        Raises:
            HiveError: as `check_new`, and `config_in_the_way`, `disk_full`.
        """
        check_name(name)
        paths = self._layout.agent(name)
        async with self._registry.lock(name):
            self._check_free(name)
            await self._purging.make_way(name)
            await LIFECYCLE.run(files.create_directories, paths)
        return paths

    async def create(self, name: str, in_force: ActiveConfig, *, start: bool, actor: str) -> AgentStatus:
        """Create an agent whose directories exist, listen for it and, with `start`, run it.

        Raises:
            HiveError: `bad_name`, `agent_exists`; or the runtime's refusal, and then the agent exists.
        """
        check_name(name)
        kind: Kind = "manager" if name == MANAGER else "agent"
        desired: Desired = "running" if start else "stopped"
        config, prompt, number = in_force.config, in_force.prompt, in_force.number
        new = AgentRecord(
            name, kind, desired, config, prompt, number, web_port=0, unsealed=self._runtime.unsealed
        ).with_active_config(in_force)
        detail = {"backend": config.backend, "deployment": number}

        def store(db: sqlite3.Connection) -> AgentRecord:
            audit.append(db, actor=actor, action="spawn", subject=name, detail=detail)
            return agent_store.insert(db, new, self._page_ports.is_free)

        async with self._registry.lock(name):
            self._check_free(name)
            await self._deferred.settle(name)
            await LIFECYCLE.run(self._deferred.files.make, name)
            record = await self._database.write(store)
            self._registry.add(record)
            await self.listen(record)
            if self._grants.secrets is not None:
                await self._grants.secrets.make_directory(name)
            if start:
                await self._activate(record)
        return self._registry.status(name)

    async def deploy(self, name: str, in_force: ActiveConfig) -> bool:
        """Store another active configuration and activate it if the agent should run; returns whether it should.

        Raises:
            HiveError: `unknown_agent`; or the runtime's refusal, and then the configuration is stored all the same.
        """
        self._registry.record(name)
        async with self._registry.lock(name):
            record = self._registry.record(name).with_active_config(in_force)
            await self._database.write(lambda db: agent_store.replace_active_config(db, name, in_force))
            self._registry.replace(record)
            self.hold_view(record)  # An agent that is sealed from now on needs the door for its way out.
            self.hold_port(record)
            wanted = record.desired == "running"
            if wanted:
                await self._activate(record)
        return wanted

    async def settle_network(self, record: AgentRecord, commit: str, *, implied: bool) -> None:
        """Store whether the network of what the agent has run on since before an update is only implied."""
        name, number = record.name, record.deployment
        async with self._registry.lock(name):
            if await self._database.write(lambda db: networks.settle(db, name, number, commit, implied=implied)) and (
                now := self._registry.find(name)
            ):
                self._registry.replace(replace(now, network_implied=implied))

    async def wait_healthy(self, name: str, number: int, seconds: float) -> str:
        """Wait until the agent's harness is ready to work on this deployment; returns "", or the reason why it is not.

        Returns at once if the agent cannot become ready: it was stopped, destroyed, deployed again, or has failed.
        """
        why = await self._reports.health_monitor.wait(name, number, seconds, lambda: self._failure_reason(name, number))
        unit = self._registry.unit(name)
        if not why or unit is None or unit.lifecycle == "failed":
            return why
        crash = self._reports.condition(unit).crash
        cause = crash.cause if crash is not None else unit.exit_cause if unit.lifecycle == "backoff" else ""
        if not cause:
            return why
        first, _, rest = why.partition("\n")
        words = "" if crash is None else alerts.last_line(crash)
        return "\n".join(filter(None, [f"{first}; it crashed, the last time with: {cause}", rest, words]))

    async def listen(self, record: AgentRecord) -> None:
        """Listen on the agent's sockets and on the port of its page; raises HiveError if `core.sock` fails."""
        self.hold_view(record)
        self.hold_port(record)
        await self._sockets.open(record.name)

    async def try_to_listen(self, record: AgentRecord) -> None:
        """Listen for an agent as `listen` does; a failure is logged, and `listen_for_the_rest` tries again."""
        try:
            await self.listen(record)
        except HiveError as error:
            if record.name not in self._not_listening:
                log.error("cannot listen for agent", agent=record.name, error=error.message)
            self._not_listening.add(record.name)
        else:
            self._not_listening.discard(record.name)

    async def listen_for_the_rest(self) -> None:
        """Listen for the agents for which that failed, for example for want of open files, until it succeeds."""
        while self._not_listening:
            await asyncio.sleep(self._listen_seconds)
            for name in sorted(self._not_listening):
                async with self._registry.lock(name):
                    record = self._registry.find(name)
                    if record is None:
                        self._not_listening.discard(name)
                    else:
                        await self.try_to_listen(record)

    async def stop_listening(self, name: str) -> None:
        """Close the agent's sockets and the port of its page."""
        self._lent.release(name)
        self._page_ports.release(name)
        await self._sockets.close(name)

    def hold_view(self, record: AgentRecord) -> None:
        """Listen on the agent's view and access socket, and have the gateways serve it.

        The sockets are new ones where the agent has made them unusable.
        """
        try:
            self._lent.hold(record.name)
        except HiveError as error:
            log.warning("a socket cannot be lent", agent=record.name, code=error.code, error=error.message)

    def hold_port(self, record: AgentRecord) -> bool:
        """Listen on the port of the agent's page, if it is not sealed; returns whether the daemon listens there.

        The network of a sealed agent does not contain the port, so the daemon leaves it to others.
        """
        if record.sealed:
            self._page_ports.release(record.name)
            self._registry.set_page_problem(record.name, "")
            return False
        known = record.name in self._registry.page_problems()
        try:
            self._page_ports.hold(record.name, record.web_port)
        except HiveError as error:
            if not known:
                log.warning(
                    "the page has no port", agent=record.name, code=error.code, error=error.message, hint=error.hint
                )
                taken = f"another program listens on port {record.web_port}"
                problem = taken if error.code == "page_port_taken" else error.message
                self._registry.set_page_problem(record.name, problem)
                self._ports_missing.set()
            return False
        if known:
            log.info("the page has its port", agent=record.name, port=record.web_port)
        self._registry.set_page_problem(record.name, "")
        self._reports.page_has_port(record.name)
        return True

    async def keep_ports(self) -> None:
        """Try again to listen on the ports of pages that other programs have, until cancelled.

        Each is told once, with the program that has it if that can be found out.
        """
        tries = 0
        while True:
            await self._ports_missing.wait()
            for name in self._registry.page_problems():
                record = self._registry.find(name)
                if record is not None and not self.hold_port(record) and tries % _TRIES_PER_SEARCH == 0:
                    await self._find_holder(record)
            tries += 1
            if self._registry.page_problems():
                await asyncio.sleep(_PORT_SECONDS)
            else:
                self._ports_missing.clear()
                tries = 0

    async def _find_holder(self, record: AgentRecord) -> None:
        """Name the program that has the port of the agent's page, in its status and once in a message."""
        name, port = record.name, record.web_port
        holder = await LIFECYCLE.run(find_listener, port)
        if name in self._registry.page_problems():
            if holder is not None:
                known_as = Quoted(holder.name).line(_SHOWN_NAME)
                self._registry.set_page_problem(name, f"process {holder.pid} ({known_as}) listens on port {port}")
            await self._reports.page_lacks_port(name, port, holder)

    async def spec(self, record: AgentRecord) -> AgentSpec:
        """The order to the runtime to run the agent as its record says.

        Raises the errors of `HostOffers`, and of `Grants.check_provider`.
        """
        self._grants.check_provider(record.config)
        name, layout, manager = record.name, self._layout, record.kind == "manager"
        return AgentSpec(
            name,
            record.kind,
            layout.agent(name),
            layout.agent_log(name),
            self._environment if record.config.provider is None else without_vendor_keys(self._environment),
            # The manager reviews the proposals of all agents, and may propose for any of them.
            applied=layout.applied if manager else layout.applied_repository(name),
            closure=record.closure,
            deployment=record.deployment,
            deployed=layout.deployed_files(name, record.deployment),
            limits=self._grants.limits.effective(record.config),
            secrets=None if self._grants.secrets is None else self._grants.secrets.directory(name),
            binds=await LIFECYCLE.run(self._grants.offers.open_binds, record.config),
            devices=self._grants.offers.find_devices(record.config),
            sealed=record.sealed,
            gateways=self._gateways(name),
            services=self._grants.offers.find_services(record.config, sealed=record.sealed),
            nix_daemon=record.nix_daemon,
            web_port=0 if record.sealed else record.web_port,
            dns=None if record.sealed else layout.dns,
            programs=layout.programs,
            repositories=find_mounts(record.config, self._find_repository),
        )

    # --------------------------------------------------------------------------------------------------------

    async def _activate(self, record: AgentRecord) -> None:
        with self._registry.starting(record.name):
            await self._runtime.activate(await self.spec(record))

    def _check_free(self, name: str) -> None:
        if self._registry.find(name) is not None:
            raise agent_exists(name)

    def _failure_reason(self, name: str, number: int) -> str:
        record, unit = self._registry.find(name), self._registry.unit(name)
        if record is None:
            return "it was destroyed"
        if record.deployment != number:
            return f"deployment {record.deployment} took its place"
        if record.desired == "stopped":
            return "it was stopped"
        return f"it failed: {unit.exit_cause}" if unit is not None and unit.lifecycle == "failed" else ""

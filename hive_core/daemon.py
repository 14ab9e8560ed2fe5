"""The composition root, which creates all parts of the daemon and starts and stops them in order."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import structlog
import uvloop

from hive_core import __version__, text
from hive_core.agents import AgentLifecycle, AgentLimits, AgentRegistry, DeploymentManager
from hive_core.agents.grants.grants import Grants
from hive_core.agents.grants.limits import LimitPolicy
from hive_core.agents.grants.offers import HostOffers
from hive_core.agents.grants.secret_files import SecretFiles
from hive_core.agents.grants.secrets import AgentSecrets
from hive_core.agents.health import HarnessReports
from hive_core.agents.lifecycle import missing_environment, passed_environment
from hive_core.agents.page_access import PageAccess
from hive_core.agents.purge import Purging
from hive_core.api.lent_sockets import PagePorts, SocketGroup, UnixSockets
from hive_core.api.refusal_audit import RefusalAudit
from hive_core.api.routes.agents.control import go_on_order
from hive_core.api.routes.agents.harness_view import HarnessViews
from hive_core.api.routes.status_report import StatusReport
from hive_core.api.routes.tables import Services, agents_endpoints, operators_endpoints
from hive_core.api.sockets import CoreSockets, HostSocket, operators_access, people_socket
from hive_core.gate.gate import Gate
from hive_core.gate.intake.import_commit import CommitImporter, IntakeLimits
from hive_core.infra.concurrency.threads import LIFECYCLE
from hive_core.infra.database.copies import DatabaseCopies
from hive_core.infra.database.database import Database
from hive_core.infra.database.deferred import DeferredChanges, IntentFiles
from hive_core.infra.database.reserve import DiskReserve
from hive_core.infra.database.space import DatabaseSpace
from hive_core.infra.processes import allow_many_files, spare_the_collector
from hive_core.infra.storage.credentials import CredentialStore
from hive_core.infra.storage.file_lock import lock_run_dir, lock_state
from hive_core.infra.systemd.descriptor_store import DescriptorStore
from hive_core.infra.systemd.notify import Notifier
from hive_core.infra.telemetry import log_config
from hive_core.infra.telemetry.events import EventHub
from hive_core.infra.telemetry.metrics import Metrics
from hive_core.layout import Layout, make_directories
from hive_core.messaging import Broker, Directory, Questions, Reminders, Scheduler
from hive_core.messaging.scheduler import limit_database, run_retention, tell_operator
from hive_core.outside.check_access import CheckAccess
from hive_core.outside.models.opening import model_checks
from hive_core.outside.opening import open_outside
from hive_core.outside.spending import open_spending
from hive_core.people import People
from hive_core.people.ownership.owners import Owners
from hive_core.protocol.config.limits import memory_bytes
from hive_core.runtimes import open_runtime
from hive_core.runtimes.base import Runtime
from hive_core.runtimes.local.leftovers import kill_leftovers
from hive_core.runtimes.resolver import HostResolver
from hive_core.settings import Settings
from hive_core.work.gate.parts import make_work_gate
from hive_core.work.known_repositories import find_in
from hive_core.work.repositories.opening import open_repositories
from hive_core.work.repositories.upkeep import fetch_regularly, tidy_mirrors

_log = structlog.get_logger(__name__)


def run(settings: Settings) -> int:
    """Run the daemon until SIGTERM, SIGINT or SIGHUP, and return its exit code. Raises HiveError if it cannot start."""
    log_config.configure(settings.log_level)
    return uvloop.run(Daemon(settings).run())


class Daemon:
    """The daemon of one state directory."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._layout = settings.layout
        self._notifier = Notifier()
        self._stop = asyncio.Event()
        self._failed = False

    async def run(self) -> int:
        """Run until a stop is requested or a part fails; return 0 after a request, 1 after a failure."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup(1) ignores it.
            loop.add_signal_handler(signal.SIGHUP, self._stop.set)
        loop.set_exception_handler(self._callback_failed)
        allow_many_files()
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._notifier.ready()
            spare_the_collector()
            _log.info("ready", version=__version__, socket=str(self._layout.host_socket), pid=os.getpid())
            await self._stop.wait()
            self._notifier.stopping()
            _log.info("stopping")
        _log.info("stopped", failed=self._failed)
        return 1 if self._failed else 0

    async def _start(self, stack: AsyncExitStack) -> None:
        """Start all parts. The stack stops them in reverse order, also when the start fails."""
        settings, layout = self._settings, self._layout
        layout.check_socket_lengths()
        make_directories(layout)
        for lock in (lock_state, lock_run_dir):
            stack.callback(lock(layout).release)
        await LIFECYCLE.run(kill_leftovers, layout.state_dir, layout.run_dir)
        reserve = DiskReserve(layout.reserve)
        await LIFECYCLE.run(reserve.release_if_full)
        resolver = HostResolver(layout.dns)
        await resolver.follow()

        # Opening a runtime tests the confinement in child processes; meanwhile the database is checked.
        opening = asyncio.create_task(open_runtime(settings, layout))
        stack.callback(opening.cancel)
        metrics, events = Metrics(), EventHub()
        database = await Database.open(layout.database, metrics.committed, reserve)
        space = DatabaseSpace(database, memory_bytes(settings.database_limit))
        database.committed.append(space.touch)
        stack.push_async_callback(database.close)
        writing = self._part("database writer", database.run())
        stack.push_async_callback(_finish_writing, database, writing)

        owners = Owners()
        directory = Directory(owners.apart)
        broker = Broker(
            database,
            directory,
            events,
            inbox_limit=settings.inbox_limit,
            budgets=settings.budgets,
            space=space,
            lease_seconds=settings.lease_seconds,
        )
        await broker.open()
        await space.measure()
        people = await stack.enter_async_context(People.opened(database, settings.accounts))
        await owners.open(database, people.is_person)
        people.administration.removing.append(owners.give_to_admins)
        people.administration.removed.append(owners.forget)
        questions = Questions(database, broker, directory, events)
        reminders = Reminders(database, broker)
        scheduler = Scheduler(database, questions, reminders)
        refusal_audit = RefusalAudit(database)
        stack.push_async_callback(refusal_audit.report_left_out, all_callers=True)
        refused, timed = refusal_audit.record_refusal, metrics.request
        core = CoreSockets(lambda name: layout.agent(name).core_socket, directory, refused, timed)
        ports = PagePorts(lambda name: layout.agent(name).page_socket, DescriptorStore(self._notifier))
        stack.callback(ports.close)
        mode, group = operators_access(settings.socket_group)
        views = UnixSockets("view socket", layout.view_socket, lambda name: layout.agent(name).view_door, mode, group)
        stack.callback(views.close)
        access = UnixSockets("access socket", layout.access_socket, lambda name: layout.agent(name).access_door, 0o600)
        stack.callback(access.close)
        runtime = await opening
        reports = HarnessReports(events, broker, directory, runtime)
        agents = AgentRegistry(layout=layout, directory=directory, broker=broker, runtime=runtime, reports=reports)
        agents.is_person = people.is_person
        agents.find_owner = owners.owner_of
        outside = await open_outside(settings, layout, database=database, broker=broker, agents=agents, events=events)
        network, ledger = outside.network, outside.ledger
        credentials = CredentialStore(layout.credentials)
        repositories = await open_repositories(
            settings, layout, database, credentials, runtime.bubblewrap, agents.working_on
        )
        stack.push_async_callback(repositories.close)
        find_repository = find_in(repositories)
        deferred = DeferredChanges(database, IntentFiles(layout.intents))
        secrets = AgentSecrets(agents, database, CredentialStore(layout.credentials), SecretFiles(layout))
        page_access, purging = PageAccess(), Purging(layout, database, deferred, secrets)
        offers = HostOffers.read(settings)
        limit_policy = LimitPolicy(settings.limits, settings.ceilings)
        limits = AgentLimits(agents, database=database, runtime=runtime, policy=limit_policy)
        deployments = DeploymentManager(
            agents,
            layout=layout,
            database=database,
            runtime=runtime,
            sockets=core,
            lent=SocketGroup(views, access, outside.gateways),
            gateways=outside.gateways.ports,
            page_ports=ports,
            reports=reports,
            purging=purging,
            deferred=deferred,
            environment=passed_environment(settings.pass_environment),
            grants=Grants(limit_policy, secrets, offers, *model_checks(settings)),
            find_repository=find_repository,
        )
        lifecycle = AgentLifecycle(
            agents,
            deployments,
            layout=layout,
            database=database,
            broker=broker,
            runtime=runtime,
            reports=reports,
            purging=purging,
            page_access=page_access,
            deferred=deferred,
        )

        gate = Gate(
            settings=settings,
            layout=layout,
            database=database,
            directory=directory,
            broker=broker,
            events=events,
            agents=agents,
            deployments=deployments,
            lifecycle=lifecycle,
            runtime=runtime,
            importer=CommitImporter(
                runtime.bubblewrap,
                layout.scratch,
                IntakeLimits(
                    settings.proposal_bytes,
                    settings.proposal_files,
                    ceilings=settings.ceilings,
                    check_settings=deployments.check_settings,
                ),
            ),
        )
        missing = missing_environment(settings.pass_environment)
        if missing:
            _log.warning("variables of pass_environment are not set", names=missing)
        status_report = StatusReport(
            layout,
            database,
            space,
            directory,
            broker,
            agents,
            runtime,
            metrics,
            settings,
            missing,
            outside,
        )
        copies = DatabaseCopies(layout.database, layout.scratch)
        work_gate = make_work_gate(
            settings=settings,
            layout=layout,
            database=database,
            directory=directory,
            broker=broker,
            events=events,
            agents=agents,
            runtime=runtime,
            repositories=repositories,
            access=CheckAccess(outside.egress, network),
        )
        repositories.proposals = work_gate
        harness_views = HarnessViews(layout.view_socket)
        let_go_on = go_on_order(agents, deployments, harness_views)
        spending = open_spending(ledger, settings, agents, broker, reports, let_go_on)
        outside.relay.on_notice = spending.notify
        stack.push_async_callback(spending.close)
        services = Services(
            layout=layout,
            database=database,
            copies=copies,
            directory=directory,
            broker=broker,
            events=events,
            reports=reports,
            questions=questions,
            reminders=reminders,
            scheduler=scheduler,
            agents=agents,
            lifecycle=lifecycle,
            deployments=deployments,
            limits=limits,
            secrets=secrets,
            page_access=page_access,
            access=access,
            harness_views=harness_views,
            gate=gate,
            work_gate=work_gate,
            status_report=status_report,
            repositories=repositories,
            repository_settings=settings.repositories,
            lease_seconds=settings.lease_seconds,
            origin=settings.dashboard.origin,
            find_repository=find_repository,
            network=network,
            spending=spending,
            providers=settings.relay.providers,
            people=people,
            owners=owners,
        )
        await core.serve(agents_endpoints(services))
        stack.push_async_callback(core.close_all)
        stack.push_async_callback(secrets.close, agents_have_ended=runtime.name == "local")
        stack.callback(lifecycle.close)
        await lifecycle.open()
        ports.forget_unused()
        await secrets.open([record.name for record in agents.all()])
        for unit in runtime.units():
            if unit.name not in directory:
                hint = "its agent was destroyed by hand, or in another database; remove it with nixos-container destroy"
                _log.warning(
                    "a container without an agent is running", agent=unit.name, lifecycle=unit.lifecycle, hint=hint
                )
        host = HostSocket(layout.host_socket, settings.socket_group, operators_endpoints(services), refused, timed)
        await host.open()
        stack.push_async_callback(host.close)
        dashboard = people_socket(services, settings.dashboard.group, refused, timed)
        await dashboard.open()
        stack.push_async_callback(dashboard.close)
        # Long polls end first, because closing the sockets waits for them.
        stack.callback(events.close)
        stack.callback(broker.close)
        stack.callback(network.close)
        stack.callback(copies.close)

        # Agents stop while the sockets are still open, so that they can release their leases.
        following = self._part("agent events", reports.follow(runtime.watch(), partial(_last_lines, runtime, layout)))
        stack.push_async_callback(_close_runtime, runtime, following)
        # The gate closes before the agents stop, so that a stopped agent does not count as unhealthy. The next daemon
        # continues the deployments in progress.
        stack.push_async_callback(gate.close)
        stack.push_async_callback(work_gate.close)
        for background in (
            self._part("vacuum", run_retention(broker.vacuum, settings.retention_days)),
            self._part("database limit", limit_database(space, broker, scheduler)),
            self._part("vacuum of questions", run_retention(scheduler.vacuum, settings.retention_days)),
            self._part("vacuum of the network", run_retention(network.vacuum, settings.retention_days)),
            self._part("vacuum of the ledger", run_retention(ledger.delete_old, settings.retention_days)),
            self._part("what time brings", scheduler.run()),
            self._part("sessions of people", people.run()),
            self._part("the world outside", outside.run(runtime)),
            self._part("watchdog", self._notifier.keep_alive(database.alive)),
            self._part("refusals", refusal_audit.run()),
            self._part("trash", lifecycle.empty_trash()),
            self._part("disk reserve", reserve.run(partial(tell_operator, broker))),
            self._part("deferred changes", deferred.run()),
            self._part("the host's DNS", resolver.run()),
            self._part("disk quotas", runtime.disks.run()),
            self._part("agents' start", lifecycle.start_wanted()),
            self._part("ports of pages", deployments.keep_ports()),
            self._part("gate", gate.run()),
            self._part("fetches", fetch_regularly(repositories, settings.repositories.fetch_minutes)),
            self._part("packing of mirrors", tidy_mirrors(repositories)),
            self._part("gate of work", work_gate.run()),
        ):
            stack.callback(background.cancel)

    def _part(self, name: str, running: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a part of the daemon in the background. Stop the daemon if the part fails."""
        task = asyncio.create_task(running, name=name)

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.critical("a part of the daemon failed", part=name, exc_info=error)
                self._failed = True
                self._stop.set()

        task.add_done_callback(ended)
        return task

    def _callback_failed(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log the failure of a callback, without its arguments, which may be messages."""
        error = context.get("exception")
        _log.error("a callback failed", what=context["message"], exc_info=error)
        if "handle" in context and not isinstance(error, OSError):
            # The daemon's own state may be inconsistent. Broken connections are reported here too and are harmless.
            self._failed = True
            self._stop.set()


async def _last_lines(runtime: Runtime, layout: Layout, name: str) -> list[str]:
    lines, _ = await runtime.read_log(name, layout.agent_log(name), text.LOG_LINES, None, 0)
    return lines


async def _finish_writing(database: Database, writing: asyncio.Task[None]) -> None:
    database.finish()
    await asyncio.wait([writing])  # `_part` reports a failure.


async def _close_runtime(runtime: Runtime, following: asyncio.Task[None]) -> None:
    await runtime.close()
    await asyncio.wait([following])

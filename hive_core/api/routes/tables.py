"""The tables of endpoints: for `core.sock`, for `host.sock`, and for people on `dashboard.sock`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from hive_core.agents import AgentLifecycle, AgentLimits, AgentRegistry, DeploymentManager
from hive_core.agents.grants.secrets import AgentSecrets
from hive_core.agents.health import HarnessReports
from hive_core.agents.page_access import PageAccess
from hive_core.agents.repositories import FindRepository
from hive_core.api.endpoint import Endpoint
from hive_core.api.lent_sockets import UnixSockets
from hive_core.api.routes import messages, pages, proposals, system
from hive_core.api.routes import questions as question_routes
from hive_core.api.routes.agents import access, control, harness
from hive_core.api.routes.agents import management as of_agents
from hive_core.api.routes.agents import network as network_routes
from hive_core.api.routes.agents import secrets as secret_routes
from hive_core.api.routes.agents import spending as spending_routes
from hive_core.api.routes.agents.activity import Activities, agent_activity
from hive_core.api.routes.agents.harness_view import HarnessViews
from hive_core.api.routes.people import accounts as account_routes
from hive_core.api.routes.people import credentials as credential_routes
from hive_core.api.routes.people import owners as owner_routes
from hive_core.api.routes.people import sign_in as sign_in_routes
from hive_core.api.routes.status_report import StatusReport
from hive_core.api.routes.work import proposals as of_work
from hive_core.api.routes.work import repositories as of_repositories
from hive_core.gate.gate import Gate
from hive_core.infra.database.copies import DatabaseCopies
from hive_core.infra.database.database import Database
from hive_core.infra.telemetry.events import EventHub
from hive_core.layout import Layout
from hive_core.messaging import Broker, Directory, Questions, Reminders, Scheduler
from hive_core.outside.network.network import Network
from hive_core.outside.spending import ModelSpending
from hive_core.people import People
from hive_core.people.ownership.owners import Owners
from hive_core.protocol.models.providers import ProviderSettings
from hive_core.protocol.work.settings import RepositorySettings
from hive_core.work.gate.gate import WorkGate
from hive_core.work.repositories.registry import Repositories


@dataclass(frozen=True)
class Services:
    """The parts of the daemon that the endpoints use."""

    layout: Layout
    database: Database
    copies: DatabaseCopies
    directory: Directory
    broker: Broker
    events: EventHub
    reports: HarnessReports
    questions: Questions
    reminders: Reminders
    scheduler: Scheduler
    agents: AgentRegistry
    lifecycle: AgentLifecycle
    deployments: DeploymentManager
    limits: AgentLimits
    secrets: AgentSecrets
    page_access: PageAccess
    access: UnixSockets
    harness_views: HarnessViews
    gate: Gate
    work_gate: WorkGate
    status_report: StatusReport
    repositories: Repositories
    repository_settings: RepositorySettings
    lease_seconds: float
    origin: str
    """Of the dashboard, for links."""
    find_repository: FindRepository
    network: Network
    spending: ModelSpending
    providers: Mapping[str, ProviderSettings]
    people: People
    owners: Owners

    @cached_property
    def activities(self) -> Activities:
        """The activities of agents, of which harnesses tell on their sockets, and people ask on theirs."""
        return Activities(self.agents, self.deployments, self.harness_views, self.limits, self.gate.queries.spawners)


def agents_endpoints(services: Services) -> list[Endpoint]:
    """Return the endpoints of every `core.sock`; some are for the manager only."""
    agents, broker, gate, questions = services.agents, services.broker, services.gate, services.questions
    return [
        *messages.sent_messages(broker, services.database),
        *messages.message_leases(broker),
        *messages.wake_messages(broker),
        *harness.harness(
            agents,
            services.lifecycle,
            broker,
            services.reports,
            services.directory,
            services.scheduler,
            services.harness_views,
            services.lease_seconds,
            services.find_repository,
            services.network,
            services.providers,
            services.activities.note,
        ),
        *question_routes.agent_questions(questions, services.reminders, gate),
        *pages.page_actions(services.page_access, broker, questions, services.database),
        *of_agents.peers(agents, services.directory),
        *of_agents.own_log(agents),
        *of_agents.agent_management(agents, services.lifecycle, manager_only=True),
        *of_agents.limit_views(services.limits, manager_only=True),
        *of_agents.deployments(gate, manager_only=True),
        *of_agents.agent_requests(gate),
        *proposals.submissions(gate),
        *proposals.decisions(gate, manager_only=True),
        *of_work.submissions(services.work_gate),
        *of_work.work_views(services.work_gate),
        *spending_routes.own_budget(services.spending),
        *network_routes.host_requests(services.network),
        *network_routes.host_decisions(services.network, manager_only=True),
    ]


def people_endpoints(services: Services) -> list[Endpoint]:
    """Return the endpoints of `dashboard.sock`, which are on `host.sock`, too. Each has a rule."""
    agents, broker, gate, database = services.agents, services.broker, services.gate, services.database
    return [
        *system.hive_status(
            services.status_report.status, database.check, services.status_report.exposition, services.events
        ),
        *of_agents.agent_admin(agents, services.lifecycle, gate, services.spending, services.owners),
        *of_agents.agent_management(agents, services.lifecycle, manager_only=False),
        *agent_activity(services.activities),
        *control.harness_control(
            agents, services.deployments, services.harness_views, database, services.spending.let_go_on
        ),
        *control.message_queues(agents, broker),
        *of_agents.limit_views(services.limits, manager_only=False),
        *of_agents.limit_changes(services.limits),
        *secret_routes.agent_secrets(services.secrets),
        *spending_routes.spending_views(services.spending),
        *spending_routes.budget_changes(services.spending),
        *network_routes.network_views(services.network),
        *network_routes.network_changes(services.network),
        *network_routes.host_decisions(services.network, manager_only=False),
        *of_agents.deployments(gate, manager_only=False),
        *proposals.submissions(gate),
        *proposals.decisions(gate, manager_only=False),
        *of_work.work_views(services.work_gate),
        *of_work.work_files(services.work_gate),
        *proposals.comparisons(gate),
        *proposals.edits(gate),
        *proposals.fetch_permissions(gate),
        *proposals.pruning(gate),
        *of_repositories.repository_views(services.repositories, services.repository_settings.github_client_id),
        *system.audit_log(database, gate, services.work_gate),
        *messages.sent_messages(broker, services.database),
        *messages.operator_inbox(broker),
        *question_routes.operator_answers(services.questions, services.reminders),
        *access.sessions(agents, services.access, database, services.layout),
        *sign_in_routes.sign_in_endpoints(services.people),
        *sign_in_routes.own_account(services.people),
        *credential_routes.session_endpoints(services.people),
        *credential_routes.token_endpoints(services.people),
        *account_routes.account_views(services.people),
        *owner_routes.owner_endpoints(agents, services.owners),
    ]


def operators_endpoints(services: Services) -> list[Endpoint]:
    """Return the endpoints of `host.sock`: those for people, and what only the operator of the host may do."""
    return [
        *people_endpoints(services),
        *account_routes.account_changes(services.people, services.origin),
        *system.database_copies(services.copies, services.database, services.layout),
        *proposals.index_maintenance(services.gate, services.work_gate),
        *of_repositories.repository_changes(services.repositories, services.repository_settings.refs),
        *pages.page_tickets(
            services.agents, services.deployments, services.page_access, services.database, services.layout
        ),
    ]

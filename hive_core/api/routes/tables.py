"""Which endpoints each of the two kinds of sockets has."""

from __future__ import annotations

from dataclasses import dataclass

from hive_core.agents import Agents
from hive_core.agents.health import Reports
from hive_core.api.endpoint import Endpoint
from hive_core.api.routes import agents as of_agents
from hive_core.api.routes import harness, messages, pages, proposals, system
from hive_core.api.routes import questions as question_routes
from hive_core.api.status import Overview
from hive_core.gate.gate import Gate
from hive_core.infra.database.database import Database
from hive_core.infra.telemetry.events import EventHub
from hive_core.layout import Layout
from hive_core.messaging import Broker, Directory, Due, Questions, Reminders


@dataclass(frozen=True)
class Parts:
    """What the endpoints ask."""

    layout: Layout
    database: Database
    directory: Directory
    broker: Broker
    events: EventHub
    reports: Reports
    questions: Questions
    reminders: Reminders
    due: Due
    agents: Agents
    gate: Gate
    overview: Overview
    lease_seconds: float


def agents_endpoints(parts: Parts) -> list[Endpoint]:
    """Those of every `core.sock`; some are the manager's only."""
    agents, broker, gate, questions = parts.agents, parts.broker, parts.gate, parts.questions
    return [
        *messages.sending(broker),
        *messages.receiving(broker),
        *messages.waking(broker),
        *harness.harness(agents, broker, parts.reports, parts.directory, parts.due, parts.lease_seconds),
        *question_routes.asking(questions, parts.reminders, gate),
        *pages.serving_pages(agents, broker, questions, parts.database),
        *of_agents.peers(agents),
        *of_agents.own_log(agents),
        *of_agents.looking_after(agents, manager_only=True),
        *of_agents.seeing_limits(agents, manager_only=True),
        *of_agents.deployments(gate, manager_only=True),
        *of_agents.requesting(gate),
        *proposals.proposing(gate),
        *proposals.deciding(gate, manager_only=True),
    ]


def operators_endpoints(parts: Parts) -> list[Endpoint]:
    """Those of `host.sock`."""
    agents, broker, gate, database = parts.agents, parts.broker, parts.gate, parts.database
    return [
        *system.hive(parts.overview.status, database.check, parts.overview.exposition, parts.events),
        *of_agents.keeping(agents, gate),
        *of_agents.looking_after(agents, manager_only=False),
        *of_agents.seeing_limits(agents, manager_only=False),
        *of_agents.changing_limits(agents),
        *of_agents.deployments(gate, manager_only=False),
        *proposals.proposing(gate),
        *proposals.deciding(gate, manager_only=False),
        *proposals.indexing(gate),
        *system.auditing(database, gate),
        *messages.sending(broker),
        *messages.operators_inbox(broker),
        *question_routes.answering(parts.questions, parts.reminders),
        *pages.opening_pages(agents, database, parts.layout),
    ]

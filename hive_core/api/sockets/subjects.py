"""The agents that requests of people are about: how each subject of a rule is looked up.

What is not there and what belongs to somebody else has the same answer, made in one place.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import TypeVar

from hive_core.agents.registry import AgentRegistry, agent_exists, check_name, unknown_agent
from hive_core.api.endpoint import ApiCall
from hive_core.api.routes.params import agent_name, number_of
from hive_core.api.routes.proposals import proposal_of
from hive_core.api.routes.work.proposals import work_of
from hive_core.api.rules import Subject
from hive_core.api.sockets.authority import SubjectLookup
from hive_core.errors import HiveError
from hive_core.gate.context import unknown_proposal
from hive_core.gate.policy import name_from_label
from hive_core.infra.database.database import Database
from hive_core.messaging import question_store, store
from hive_core.messaging.questions import unknown_question
from hive_core.outside.network import store as network_store
from hive_core.outside.network.texts import unknown_request
from hive_core.protocol import ProposeRequest, SpawnRequest
from hive_core.work.gate.policy import unknown_work
from hive_core.work.gate.records import index as work_index

R = TypeVar("R")


def subject_lookups(agents: AgentRegistry, database: Database) -> Mapping[Subject, SubjectLookup]:
    """Return the look-up of every subject that concerns one agent."""

    async def existing(call: ApiCall) -> str:
        return agents.record(call.path["name"]).name

    async def named(call: ApiCall) -> str:
        return agent_name(call)

    async def proposed(call: ApiCall) -> str | None:
        name = call.read(ProposeRequest).agent
        return None if name is None else agents.record(name).name

    async def of_proposal(call: ApiCall) -> str:
        return proposal_of(call)[0]

    async def of_work(call: ApiCall) -> str:
        repo, number = work_of(call)
        row = await database.read(lambda db: work_index.find(db, repo, number))
        if row is None:
            raise unknown_work(repo, number)
        return name_from_label(row.by)

    def numbered(
        find: Callable[[sqlite3.Connection, int], R | None],
        agent_of: Callable[[R], str],
        unknown: Callable[[int], HiveError],
    ) -> SubjectLookup:
        """Return the look-up of a row by its number in the path."""

        async def of_row(call: ApiCall) -> str:
            number = number_of(call)
            row = await database.read(lambda db: find(db, number))
            if row is None:
                raise unknown(number)
            return agent_of(row)

        return SubjectLookup(of_row, lambda call: unknown(number_of(call)))

    async def made(call: ApiCall) -> str:
        name = call.read(SpawnRequest).name
        check_name(name)
        return name

    def proposed_unknown(call: ApiCall) -> HiveError:
        return unknown_agent(call.read(ProposeRequest).agent or "")

    return {
        "agent": SubjectLookup(existing, lambda call: unknown_agent(call.path["name"])),
        "history": SubjectLookup(named, lambda call: unknown_agent(call.path["name"])),
        "proposal": SubjectLookup(of_proposal, lambda call: unknown_proposal(*proposal_of(call))),
        "proposed_agent": SubjectLookup(proposed, proposed_unknown),
        "work": SubjectLookup(of_work, lambda call: unknown_work(*work_of(call))),
        "question": numbered(question_store.find_question, lambda row: row.agent, unknown_question),
        "network_request": numbered(network_store.find_request, lambda row: row.agent, unknown_request),
        "reply": numbered(store.find_message, lambda row: row.to, store.unknown_message),
        "new_agent": SubjectLookup(made, lambda call: agent_exists(call.read(SpawnRequest).name)),
    }

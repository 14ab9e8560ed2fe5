"""The parts of the use of models, put together."""

from __future__ import annotations

from hive_core.agents import AgentRegistry
from hive_core.infra.database.database import Database
from hive_core.outside.models.access import check_budget, find_access
from hive_core.outside.models.budgets import within
from hive_core.outside.models.ledger import Ledger
from hive_core.protocol import AgentConfig
from hive_core.protocol.models.budgets import SpendingLimits
from hive_core.settings import Settings


def open_ledger(settings: Settings, database: Database, agents: AgentRegistry) -> Ledger:
    """Open the ledger of the hive's providers, with the budgets of active configurations."""
    budget = settings.budget

    def limits_of(name: str) -> SpendingLimits:
        record = agents.find(name)
        own = SpendingLimits() if record is None else record.config.budget
        return within(own, budget.agents, budget.ceilings)

    return Ledger(database, settings.relay.providers, limits_of, budget.hive)


def check_models(settings: Settings, config: AgentConfig) -> None:
    """Raise HiveError if a configuration asks for models or a budget that it cannot have.

    The codes are those of `find_access`, and `above_ceiling`.
    """
    find_access(config, settings.relay.providers)
    check_budget(config.budget, settings.budget.ceilings)

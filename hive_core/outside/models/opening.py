"""The parts of the use of models, put together."""

from __future__ import annotations

from collections.abc import Callable

from hive_core.agents import AgentRegistry
from hive_core.infra.database.database import Database
from hive_core.outside.models.access import check_budget, find_access
from hive_core.outside.models.budgets import within
from hive_core.outside.models.ledger import Ledger
from hive_core.protocol import AgentConfig
from hive_core.protocol.models.limits import SpendingLimits
from hive_core.settings import Settings

CheckConfig = Callable[[AgentConfig], None]


def open_ledger(settings: Settings, database: Database, agents: AgentRegistry) -> Ledger:
    """Open the ledger of the hive's providers, with the budgets of active configurations."""
    budget = settings.budget

    def limits_of(name: str) -> SpendingLimits:
        record = agents.find(name)
        own = SpendingLimits() if record is None else record.config.budget
        return within(own, budget.agents, budget.ceilings)

    return Ledger(database, settings.relay.providers, limits_of, budget.hive)


def model_checks(settings: Settings) -> tuple[CheckConfig, CheckConfig]:
    """Return the check of a configuration that is proposed, and that of one that is started.

    They raise HiveError: both if it cannot use the provider that it names, as `find_access` does, the first also
    `above_ceiling`.
    """

    def check_start(config: AgentConfig) -> None:
        find_access(config, settings.relay.providers)

    def check_proposed(config: AgentConfig) -> None:
        check_start(config)
        check_budget(config.budget, settings.budget.ceilings)

    return check_proposed, check_start

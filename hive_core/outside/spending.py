"""The spending of agents on models, for operators and agents, and the notices about it."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from hive_core.agents import AgentRegistry
from hive_core.agents.health import HarnessReports
from hive_core.agents.registry import unknown_agent
from hive_core.agents.store import AgentRecord
from hive_core.errors import HiveError
from hive_core.gate.policy import Principal
from hive_core.infra.concurrency.tasks import BackgroundTasks
from hive_core.infra.database import audit
from hive_core.messaging import Broker
from hive_core.outside.models.ledger import Ledger, LedgerNotice
from hive_core.outside.models.notices import describe_notice
from hive_core.people.ownership.sight import EVERYTHING, Sight
from hive_core.protocol import AgentStatus, HarnessState
from hive_core.protocol.models.budgets import ALL, AddBudgetRequest, BudgetAnswer, LimitState
from hive_core.protocol.models.usage import CallList, CallsQuery, UsageAnswer, UsageQuery
from hive_core.protocol.names import OPERATOR
from hive_core.settings import Settings

log = structlog.get_logger(__name__)


class SpendingAgents(Protocol):
    """Interface to the agents, as far as this module needs it."""

    def record(self, name: str) -> AgentRecord:
        """Return the agent's record. Raises `unknown_agent`, `bad_name`."""

    def all(self) -> Sequence[AgentRecord]:
        """Return the records of all agents."""


class ModelSpending:
    """The ledger as operators and agents see it. Agents that wait for money are told when there is some."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        agents: SpendingAgents,
        broker: Broker,
        state_of: Callable[[str], HarnessState],
        let_go_on: Callable[[str], Awaitable[object]],
        has_providers: bool,
    ) -> None:
        """`state_of` returns the state of an agent's harness.

        `let_go_on` tells the harness to try again, and raises HiveError if that is not possible.
        """
        self._ledger = ledger
        self._agents = agents
        self._broker = broker
        self._state_of = state_of
        self._let_go_on = let_go_on
        self._has_providers = has_providers
        self._tasks = BackgroundTasks()
        self._added: set[str] = set()
        """Agents whose budget was raised since they last waited for messages or money."""
        ledger.on_resumed = self._resume

    async def close(self) -> None:
        """End what is under way; what was not told is told later."""
        await self._tasks.close()

    # --- for operators ----------------------------------------------------------------------------------------

    async def usage(self, query: UsageQuery, sees: Sight = EVERYTHING) -> UsageAnswer:
        """Return sums of the ledger. Raises `no_providers`, and `unknown_agent` for a name that it does not have."""
        if query.agent is not None:
            await self._check_known(query.agent, sees)
        answer = await self._ledger.usage(query, sees)
        if not answer.groups:
            self._check_providers()
        return answer

    async def calls(self, name: str, query: CallsQuery) -> CallList:
        """Return the newest calls of an agent. Raises as `usage` does."""
        await self._check_known(name)
        answer = await self._ledger.calls(name, query)
        if not answer.calls:
            self._check_providers()
        return answer

    async def budget(self, name: str, sees: Sight = EVERYTHING) -> BudgetAnswer:
        """Return the limits that hold for an agent. Raises `no_providers`, `unknown_agent`, `bad_name`."""
        self._agents.record(name)
        self._check_providers()
        answer = await self._ledger.budget(name)
        return answer if sees.whole else answer.model_copy(update={"limits": _of_one(name, answer.limits)})

    async def all_budgets(self, sees: Sight = EVERYTHING) -> BudgetAnswer:
        """Return the limits of the hive and of all agents. Raises `no_providers`.

        Who does not see all agents gets no limits of the hive, as what is spent of them tells of the others.
        """
        self._check_providers()
        names = [record.name for record in self._agents.all() if sees(record.name)]
        answer = await self._ledger.all_budgets(names)
        if sees.whole:
            return answer
        usage = (await self._ledger.usage(UsageQuery(), sees)).total.cost
        costs = await self._ledger.costs_today()
        return answer.model_copy(
            update={
                "limits": [limit for limit in answer.limits if limit.whose != ALL],
                "stopped": [name for name in answer.stopped if name != ALL],
                "spent_today": sum(costs.get(name, 0.0) for name in names),
                "spent_total": usage,
            }
        )

    async def add(self, whose: str, request: AddBudgetRequest, by: Principal) -> BudgetAnswer:
        """Raise limits of money, of an agent or of the hive (`all`), and let agents that wait for it go on.

        Raises `no_providers`, `unknown_agent`, `bad_name`, and `no_money_limit` if there is none to raise.
        """
        before = await (self.all_budgets() if whose == ALL else self.budget(whose))
        if not any(limit.whose == whose and limit.measure == "money" for limit in before.limits):
            raise _no_limit(whose)
        detail = {"money": request.money, "note": request.note}

        def record(db: sqlite3.Connection) -> None:
            audit.append(db, actor=by.actor, action="budget", subject=whose, detail=detail)

        await self._ledger.add(whose, request.money, record)
        names = [each.name for each in self._agents.all()] if whose == ALL else [whose]
        self._added.update(names)
        self._resume([name for name in names if self._state_of(name) == "budget"])
        return await (self.all_budgets() if whose == ALL else self.budget(whose))

    async def let_go_on(self, name: str) -> bool:
        """Pass the calls of an agent on again that the vendor had refused; return False if they were passed on."""
        if not self._ledger.let_go_on(name):
            return False
        await self._let_go_on(name)
        return True

    # --- for agents' status -----------------------------------------------------------------------------------

    async def with_costs(self, statuses: Sequence[AgentStatus]) -> list[AgentStatus]:
        """Return statuses with what each agent has spent today."""
        if not self._has_providers:
            return list(statuses)
        costs = await self._ledger.costs_today()
        return [each.model_copy(update={"cost_today": costs.get(each.name, 0.0)}) for each in statuses]

    async def with_budget(self, status: AgentStatus, sees: Sight = EVERYTHING) -> AgentStatus:
        """Return a status with what the agent has spent today, and its budget."""
        if not self._has_providers:
            return status
        budget = await self._ledger.budget(status.name)
        limits = budget.limits if sees.whole else _of_one(status.name, budget.limits)
        return status.model_copy(update={"cost_today": budget.spent_today, "budget": limits})

    async def own_budget(self, name: str) -> BudgetAnswer:
        """Return an agent's own limits, as it may see them itself. Raises `no_providers`."""
        answer = await self.budget(name)
        return answer.model_copy(update={"limits": _of_one(name, answer.limits)})

    # --- what happens -----------------------------------------------------------------------------------------

    def notify(self, notice: LedgerNotice) -> None:
        """Tell the operator of a notice; that a limit is told is stored with the message."""
        self._tasks.start(self._tell(notice), name="tell of spending")

    def harness_reported(self, name: str, state: HarnessState) -> None:
        """Let an agent go on whose budget was raised between the refusal of its call and its report of it."""
        if name in self._added and state in ("idle", "budget"):
            self._added.discard(name)
            if state == "budget":
                self._resume([name])

    def agent_changed(self, name: str) -> None:
        """Forget that a destroyed agent's budget was raised, as another agent may get its name."""
        if all(record.name != name for record in self._agents.all()):
            self._added.discard(name)

    def is_stopped(self, name: str) -> bool:
        """Return True if an agent's calls are not passed on, because the vendor has refused many in a row."""
        return self._ledger.is_stopped(name)

    # ----------------------------------------------------------------------------------------------------------

    async def _tell(self, notice: LedgerNotice) -> None:
        text = describe_notice(notice)
        try:
            about = None if notice.whose == ALL else notice.whose
            await self._broker.announce([(OPERATOR, text)], lambda db: self._ledger.set_told(db, notice), about)
        except HiveError as error:
            log.warning("a notice of the ledger is not stored", kind=notice.kind, whose=notice.whose, code=error.code)
        finally:
            self._ledger.end_telling(notice)

    def _resume(self, names: Sequence[str]) -> None:
        for name in names:
            self._tasks.start(self._resume_one(name), name="let an agent go on")

    async def _resume_one(self, name: str) -> None:
        try:
            await self._let_go_on(name)
        except HiveError as error:  # It tries again by itself, later.
            log.warning("an agent was not told that it may go on", agent=name, code=error.code)

    async def _check_known(self, name: str, sees: Sight = EVERYTHING) -> None:
        """Raise `unknown_agent`, or `bad_name`, for a name that neither the hive nor the ledger has."""
        if not sees(name):
            raise unknown_agent(name)
        try:
            self._agents.record(name)
        except HiveError:
            if not await self._ledger.has_calls(name):
                raise

    def _check_providers(self) -> None:
        if not self._has_providers:
            raise HiveError(
                "no_providers",
                "there is no ledger: the settings have no provider of models",
                hint="`relay.providers` in the settings adds one; calls with an agent's own key are in no ledger",
                status=409,
            )


def open_spending(
    ledger: Ledger,
    settings: Settings,
    agents: AgentRegistry,
    broker: Broker,
    reports: HarnessReports,
    let_go_on: Callable[[str], Awaitable[object]],
) -> ModelSpending:
    """Open the spending of agents, which hears of their reports; see `ModelSpending`."""
    spending = ModelSpending(
        ledger,
        agents=agents,
        broker=broker,
        state_of=lambda name: agents.status(name).state,
        let_go_on=let_go_on,
        has_providers=bool(settings.relay.providers),
    )
    reports.reported.append(spending.harness_reported)
    agents.changed.append(spending.agent_changed)
    reports.is_stopped = spending.is_stopped
    return spending


def _of_one(name: str, limits: Sequence[LimitState]) -> list[LimitState]:
    return [limit for limit in limits if limit.whose == name]


def _no_limit(whose: str) -> HiveError:
    whom = "the hive" if whose == ALL else whose
    where = "budget.hive in the settings" if whose == ALL else "[budget] in its agent.toml"
    return HiveError(
        "no_money_limit",
        f"{whom} has no limit of money that could be raised",
        hint=f'money_per_day and money_total of {where} set one; "hive-c0re budget {whose}" shows its limits',
        status=409,
    )

"""Endpoints of the ledger of calls of models, and of budgets."""

from __future__ import annotations

from hive_core.api.endpoint import ApiCall, Endpoint
from hive_core.api.routes.params import principal_of
from hive_core.api.rules import EndpointRule
from hive_core.outside.spending import ModelSpending
from hive_core.protocol.models.budgets import ALL, AddBudgetRequest, BudgetAnswer
from hive_core.protocol.models.usage import CallList, CallsQuery, UsageAnswer, UsageQuery

_OF_ALL, _OF_AGENT = "/v1/budget", "/v1/agents/{name}/budget"
_LISTING = EndpointRule("viewer", "listing")


def spending_views(spending: ModelSpending) -> list[Endpoint]:
    """Return the operator's endpoints that show what agents have spent, and what is left."""

    async def usage(call: ApiCall) -> UsageAnswer:
        return await spending.usage(call.read(UsageQuery), call.caller.sees)

    async def calls(call: ApiCall) -> CallList:
        return await spending.calls(call.path["name"], call.read(CallsQuery))

    async def all_budgets(call: ApiCall) -> BudgetAnswer:
        return await spending.all_budgets(call.caller.sees)

    async def budget(call: ApiCall) -> BudgetAnswer:
        return await spending.budget(call.path["name"], call.caller.sees)

    what = "What was spent on models, by day, model or agent"
    newest = "The newest calls of an agent's models"
    return [
        Endpoint("GET", "/v1/usage", what, usage, UsageAnswer, query=UsageQuery, load="heavy", rule=_LISTING),
        Endpoint(
            "GET",
            "/v1/agents/{name}/calls",
            newest,
            calls,
            CallList,
            query=CallsQuery,
            load="heavy",
            rule=EndpointRule("viewer", "agent"),
        ),
        Endpoint("GET", _OF_ALL, "The budgets of the hive and of all agents", all_budgets, BudgetAnswer, rule=_LISTING),
        Endpoint(
            "GET",
            _OF_AGENT,
            "An agent's budget, and the hive's",
            budget,
            BudgetAnswer,
            rule=EndpointRule("viewer", "agent"),
        ),
    ]


def budget_changes(spending: ModelSpending) -> list[Endpoint]:
    """Return the operator's endpoints that raise limits of money."""

    def adds(path: str, whose: str) -> Endpoint:
        async def add(call: ApiCall) -> BudgetAnswer:
            name = call.path.get("name", ALL)
            return await spending.add(name, call.read(AddBudgetRequest), principal_of(call.caller))

        rule = EndpointRule("admin") if path == _OF_ALL else EndpointRule("admin", "agent")
        summary = f"Raise the limits of money of {whose}, for today and in all"
        return Endpoint("POST", f"{path}/add", summary, add, BudgetAnswer, body=AddBudgetRequest, rule=rule)

    return [adds(_OF_ALL, "the hive"), adds(_OF_AGENT, "an agent")]


def own_budget(spending: ModelSpending) -> list[Endpoint]:
    """Return the endpoint with which an agent sees its own budget."""

    async def budget(call: ApiCall) -> BudgetAnswer:
        return await spending.own_budget(call.caller.name)

    return [Endpoint("GET", _OF_ALL, "The agent's own budget", budget, BudgetAnswer)]

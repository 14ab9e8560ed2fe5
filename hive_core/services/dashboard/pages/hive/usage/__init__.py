"""The ledger of calls of models by day, agent and model, and budgets with their use."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta

from aiohttp import web

from hive_core.errors import HiveError
from hive_core.protocol.models.amounts import FLAGS, dollars, tokens
from hive_core.services.dashboard.hive_client import path_of
from hive_core.services.dashboard.pages.hive.asked import choice_of, decimal_of, number_of, word_of
from hive_core.services.dashboard.pages.hive.usage import figures
from hive_core.services.dashboard.rendering import milliseconds_of
from hive_core.services.dashboard.visit import Visit, WebPage

_SPANS = ("30", "7", "90", "all")
"""Days that a person can choose."""
_MOST, _MOST_DAYS, _CALLS = 100, 92, 100


def first_day(span: str, today: date) -> date | None:
    """Return the first day of a span of days that ends today, None for all time."""
    return None if span == "all" else today - timedelta(days=int(span) - 1)


async def _show_page(visit: Visit, problem: HiveError | None = None, whose: str = "", note: str = "") -> web.Response:
    span, agent = choice_of(visit.query, "span", _SPANS), word_of(visit.query, "agent")
    today = datetime.now(UTC).date()
    first = first_day(span, today)
    query = {"since": first, "agent": agent or None, "limit": _MOST}
    hive, usage = visit.hive, path_of("usage")
    budgets, days, agents, models = await asyncio.gather(
        hive.get(path_of("agents", agent, "budget") if agent else path_of("budget")),
        hive.get(usage, {**query, "by": "day", "limit": _MOST_DAYS}),
        hive.get(usage, {**query, "by": "agent"}),
        hive.get(usage, {**query, "by": "model"}),
    )
    return visit.page(
        "hive/usage/usage.html.j2",
        status=200 if problem is None else problem.status,
        span=span,
        spans=_SPANS,
        agent=agent,
        budgets=budgets,
        limits=[figures.limit_line(limit) for limit in budgets["limits"]],
        spent_today=dollars(budgets["spent_today"]),
        spent_total=dollars(budgets["spent_total"]),
        day_ends_at=milliseconds_of(budgets["day_ends_at"]),
        bars=figures.bars_of_days(days["sums"], today, first),
        field=(figures.WIDTH, figures.HEIGHT),
        tables=[
            ("Agents", "agent", figures.usage_lines(agents["sums"]), figures.shown_part(agents)),
            ("Models", "model", figures.usage_lines(models["sums"]), figures.shown_part(models)),
            ("Days", "day", figures.usage_lines(days["sums"]), figures.shown_part(days)),
        ],
        total=figures.usage_line(days["total"]),
        prices_of=days["prices_of"],
        problem=problem,
        whose=whose,
        note=note,
    )


async def _show(visit: Visit) -> web.StreamResponse:
    return await _show_page(visit)


async def _add(visit: Visit) -> web.StreamResponse:
    fields = await visit.form()
    whose, note = word_of(fields, "whose"), fields.get("note", "").strip()
    try:
        path = path_of("budget", "add") if whose == "all" else path_of("agents", whose, "budget", "add")
        await visit.hive.post(path, {"money": decimal_of(fields, "money", "the amount"), "note": note})
    except HiveError as error:
        if error.status == 401:
            raise
        return await _show_page(visit, error, whose, note)
    return visit.go_to("/usage#budgets")


async def _calls(visit: Visit) -> web.StreamResponse:
    name, before = visit.path["name"], number_of(visit.query, "before")
    answer = await visit.hive.get(path_of("agents", name, "calls"), {"limit": _CALLS, "before": before})
    calls = answer["calls"]
    found = {flag for call in calls for flag in call["flags"]}
    return visit.page(
        "hive/usage/calls.html.j2",
        name=name,
        calls=[(call, milliseconds_of(call["at"]), *_amounts(call)) for call in calls],
        meanings=[(flag, meaning) for flag, meaning in FLAGS.items() if flag in found],
        older=calls[-1]["id"] if len(calls) == _CALLS else None,
        before=before,
        prices_of=answer["prices_of"],
    )


def _amounts(call: figures.Answer) -> tuple[str, str, str]:
    """Return the tokens that were read and written, and the cost, or what is reserved for a call under way."""
    counts = call["tokens"]
    read = sum(int(counts[name]) for name in ("input", "cache_read", "cache_write", "cache_write_hour"))
    cost = call["reserve"] if call["outcome"] is None else call["cost"]
    return tokens(read), tokens(counts["output"]), dollars(cost)


PAGES = [
    WebPage("GET", "/usage", _show),
    WebPage("POST", "/usage/budget", _add),
    WebPage("GET", "/usage/agents/{name}", _calls),
]

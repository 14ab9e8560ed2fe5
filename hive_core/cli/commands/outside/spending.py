"""The commands `usage` and `budget`: what agents have spent on models, and what they may spend."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import click

from hive_core.cli.arguments import complete_agents, json_option, pager_option, print_json
from hive_core.cli.client import Client, agent_path
from hive_core.cli.commands.outside.network import complete_agents_or_all
from hive_core.cli.commands.outside.shown_spending import (
    amount,
    budget_lines,
    budget_notes,
    call_lines,
    call_notes,
    describe_limit,
    spent_limits,
    usage_lines,
    usage_notes,
)
from hive_core.cli.output import coloured_agent, page
from hive_core.protocol.models.amounts import dollars
from hive_core.text import escaped_line

ALL = "all"
_DAYS = re.compile(r"([0-9]{1,4})d")


class _Since(click.ParamType[str]):
    """A day, or how many days with today among them: 2026-11-01, 7d, today. The value is a date in UTC."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        today = datetime.now(UTC).date()
        if value == "today":
            return today.isoformat()
        days = _DAYS.fullmatch(str(value))
        try:
            if days is not None:
                return (today - timedelta(days=max(0, int(days[1]) - 1))).isoformat()
            return date.fromisoformat(str(value)).isoformat()
        except ValueError:
            self.fail(f"{value!r} is no day: write 2026-11-01, 7d or today", param, ctx)


@click.command()
@click.argument("name", required=False, metavar="[AGENT]", shell_complete=complete_agents)
@click.option("--by", type=click.Choice(["day", "model", "agent"]), help="What is summed up: by default days.")
@click.option("--since", type=_Since(), metavar="DAY", help="First day: 2026-11-01, 7d (a week with today) or today.")
@click.option("--calls", is_flag=True, help="Show the newest calls of the agent one by one, with their flags.")
@click.option("--before", type=click.IntRange(min=1), metavar="ID", help="With --calls: show calls older than this.")
@click.option("-n", "--limit", type=click.IntRange(1, 1_000), metavar="N", help="Number of rows to show.")
@pager_option
@json_option
@click.pass_context
def usage(
    context: click.Context,
    name: str | None,
    by: str | None,
    since: str | None,
    calls: bool,
    before: int | None,
    limit: int | None,
    pager: bool,
    as_json: bool,
) -> None:
    """Show what agents have spent on models.

    These are sums of the ledger. INPUT is what models have read without a cache, CACHED from one; OUTPUT is what they
    have written. COST is in US
    dollars, by a table of list prices. It is UNCERTAIN for calls whose cost is not by figures of the vendor's that can
    be believed; their flags, which --calls shows, say why:

    \b
      unknown_model  the model has no price in the table: the dearest of its
                     vendor counts
      reserve        the vendor has told no usable figures: what was reserved
                     counts
      estimated      the answer broke off: the figures so far count, with the
                     text that came
      implausible    the vendor's figures do not fit the request or the answer
      over_reserve   the call cost more than was reserved (it is certain)

    \b
    Examples:
      hive-c0re usage --since 7d
      hive-c0re usage --by agent --since today
      hive-c0re usage ada --by model
      hive-c0re usage ada --calls -n 20
    """
    client = Client(context.obj)
    if calls:
        _show_calls(context, client, name, {"limit": limit, "before": before}, pager=pager, as_json=as_json)
        return
    if before is not None:
        raise click.UsageError("--before is for --calls.")
    answer = client.get("/v1/usage", {"agent": name, "by": by, "since": since, "limit": limit})
    if as_json:
        print_json(answer)
        return
    if not answer.get("sums"):
        whom = "of all agents" if name is None else f"of {escaped_line(name)}"
        click.echo(f"there are no calls {whom}{' since then' if since else ''}", err=True)
        return
    page(list(usage_lines(answer)), pager)
    _note(usage_notes(answer, name or "AGENT"))


def _show_calls(
    context: click.Context, client: Client, name: str | None, query: dict[str, Any], *, pager: bool, as_json: bool
) -> None:
    if name is None or context.params["by"] or context.params["since"]:
        raise click.UsageError("--calls is for one agent, without --by and --since: hive-c0re usage AGENT --calls.")
    answer = client.get(agent_path(name, "calls"), query)
    if as_json:
        print_json(answer)
        return
    if not answer.get("calls"):
        click.echo(f"there are no calls of {escaped_line(name)}", err=True)
        return
    page(list(call_lines(answer)), pager)
    _note(call_notes(answer))


@click.command()
@click.argument("name", required=False, metavar="[AGENT|all]", shell_complete=complete_agents_or_all)
@click.option(
    "--add",
    "money",
    type=click.FloatRange(min=0, max=1_000_000, min_open=True),
    metavar="DOLLARS",
    help="Raise the limits of money by so much, for today and in all.",
)
@click.option("--note", metavar="TEXT", help="With --add: the reason, for the audit log.")
@pager_option
@json_option
@click.pass_context
def budget(
    context: click.Context, name: str | None, money: float | None, note: str | None, pager: bool, as_json: bool
) -> None:
    """Show what agents may spend and what is left, or add money.

    "all" is the hive: its limits hold for all agents together. Limits are set in agent.toml ([budget]), within what the
    settings allow (budget). A call is made if what it may cost at most is left: that is RESERVED while it is under way.
    What is added to a limit of a day is for today; an agent that waits for money goes on at once. Days are those of
    UTC.

    \b
    Examples:
      hive-c0re budget
      hive-c0re budget ada
      hive-c0re budget ada --add 5 --note "finish the report"
      hive-c0re budget all --add 20
    """
    if money is None and note is not None:
        raise click.UsageError("--note is for --add.")
    if money is not None and math.isnan(money):
        raise click.UsageError("nan is no amount of money: write 5 or 2.50.")
    if money is not None and name is None:
        raise click.UsageError('Name the agent that gets the money, or "all": hive-c0re budget AGENT --add DOLLARS.')
    client = Client(context.obj)
    path = "/v1/budget" if name is None or name == ALL else agent_path(name, "budget")
    if money is None:
        answer = client.get(path)
    else:
        answer = client.post(f"{path}/add", {"money": money, **({"note": note} if note else {})})
    if as_json:
        print_json(answer)
        return
    if money is not None:
        whom = "the hive" if name == ALL else coloured_agent(str(name))
        click.echo(f"{whom} may spend {dollars(money)} more, today and in all")
    page(list(budget_lines(answer)), pager)
    _note(budget_notes(answer))
    if money is not None:
        for limit in spent_limits(answer.get("limits", [])):
            if name == ALL and limit.get("whose") != ALL:
                continue
            whose = escaped_line(str(limit.get("whose")))
            left = f"nothing is left of {describe_limit(limit)} ({amount(limit, limit.get('reserved'))} reserved)"
            hint = f': "hive-c0re budget {whose} --add DOLLARS" raises it' if limit.get("measure") == "money" else ""
            click.echo(f"{left}{hint}", err=True)


def _note(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line, err=True)

"""The command `net`: what agents reach of the world, and what was refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

from hive_core.cli.arguments import (
    DURATION,
    ask_for_completion,
    complete_agents,
    json_option,
    note_or_prompt,
    pager_option,
    print_json,
)
from hive_core.cli.client import Client, agent_path
from hive_core.cli.commands.host.monitoring import follow_lines
from hive_core.cli.commands.outside.shown_network import agent_lines, open_lines, overview_lines
from hive_core.cli.errors import Failure
from hive_core.cli.lazy import SuggestingGroup
from hive_core.cli.output import coloured_agent, moment, page, print_lines
from hive_core.text import escaped_line

ALL = "all"
"""The word for all agents, which no agent has as its name."""
Answer = dict[str, Any]


def complete_agents_or_all(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of an agent, or the word for all."""
    every = [CompletionItem(ALL, help="all agents")] if ALL.startswith(incomplete) else []
    return [*complete_agents(ctx, param, incomplete), *every]


def complete_rules(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the host of a rule that was made for the agent of the command."""
    answer = ask_for_completion(ctx, lambda client: client.get(_path(ctx)))
    made = (rule for rule in answer.get("rules", []) if rule.get("id") is not None)
    return _items(((rule.get("host"), rule.get("effect")) for rule in made), incomplete)


def complete_refused(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a rule that was missing when something was refused to the agent of the command."""
    answer = ask_for_completion(ctx, lambda client: client.get(_path(ctx)))
    refused = answer.get("refused", [])
    return _items(((each.get("missing"), f"refused {each.get('count')} times") for each in refused), incomplete)


def complete_requests(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the id of an open request of the agent of the command."""
    answer = ask_for_completion(ctx, lambda client: client.get(_path(ctx)))
    return _items(((each.get("id"), each.get("host")) for each in answer.get("requests", [])), incomplete)


def _items(found: Iterable[tuple[object, object]], incomplete: str) -> list[CompletionItem]:
    named = {str(name): escaped_line(str(text)) for name, text in found if name}
    return [CompletionItem(name, help=text) for name, text in named.items() if name.startswith(incomplete)]


class _NetworkGroup(SuggestingGroup):
    """Takes its own options behind the agent, too, if no command follows."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not any(word in self.commands for word in args):
            ctx.allow_interspersed_args = True
        return super().parse_args(ctx, args)


@click.group(cls=_NetworkGroup, invoke_without_command=True)
@click.argument("name", required=False, metavar="[AGENT|all]", shell_complete=complete_agents_or_all)
@pager_option
@json_option
@click.pass_context
def net(context: click.Context, name: str | None, pager: bool, as_json: bool) -> None:
    """Show and change what agents reach, and decide on requests.

    Sealed agents reach the hosts that a rule allows: of the settings (egress.allow), of their agent.toml
    (allowed_hosts), and made here, mostly for a time. A rule that denies wins over all others. "all" stands for all
    agents. Changes hold from the next connection on.

    Without a command this shows the rules, the connections now, what was refused most, and the requests that wait.

    \b
    Examples:
      hive-c0re net
      hive-c0re net ada
      hive-c0re net ada allow crates.io --for 2h --note "new dependency"
      hive-c0re net ada log -f
    """
    if context.invoked_subcommand is not None:
        if name is None:
            raise click.UsageError(f"Name the agent first: hive-c0re net AGENT {context.invoked_subcommand}.")
        return
    answer = _overview_or_agent(context, name)
    if as_json:
        print_json(answer)
        return
    if name is None or name == ALL:
        page(list(overview_lines(answer)), pager)
        if not answer.get("agents"):
            click.echo('there are no agents: create one with "hive-c0re spawn NAME"', err=True)
    else:
        page(list(agent_lines(answer)), pager)


def _overview_or_agent(context: click.Context, name: str | None) -> Answer:
    client = Client(context.obj)
    if name is None or name == ALL:
        return client.get("/v1/network")
    try:
        return client.get(agent_path(name, "network"))
    except Failure as failure:
        if failure.code in ("unknown_agent", "bad_name") and name in net.list_commands(context):
            raise click.UsageError(f"Name the agent first: hive-c0re net AGENT {name}.") from None
        raise


def _name(context: click.Context) -> str:
    assert context.parent is not None
    return str(context.parent.params["name"])


def _path(context: click.Context, action: str = "") -> str:
    name, behind = _name(context), f"/{action}" if action else ""
    return f"/v1/network{behind}" if name == ALL else agent_path(name, f"network{behind}")


def _whom(context: click.Context) -> str:
    name = _name(context)
    return "all agents" if name == ALL else coloured_agent(name)


for_option = click.option("--for", "hours", type=DURATION, metavar="TIME", help="Time, such as 90m, 2h or 7d.")
reason_option = click.option("--note", metavar="TEXT", help="Reason, which is shown with the rule.")


def _make(context: click.Context, body: Answer, done: str, as_json: bool) -> None:
    given = {key: value for key, value in body.items() if value is not None}
    answer = Client(context.obj).post(_path(context, "rules"), given)
    if as_json:
        print_json(answer)
        return
    rules = [rule for rule in answer.get("rules", []) if rule.get("id") is not None]
    ends = moment(max(rules, key=lambda rule: int(rule["id"])).get("ends_at")) if rules else ""
    click.echo(f"{_whom(context)} {done}{f', until {ends}' if ends else ''}")
    if answer.get("network") == "host":
        click.echo(f"{_name(context)} has the host's network, so no rule holds for it now", err=True)


@net.command("allow")
@click.argument("host", shell_complete=complete_refused)
@for_option
@reason_option
@json_option
@click.pass_context
def allow(context: click.Context, host: str, hours: float | None, note: str | None, as_json: bool) -> None:
    """Allow a host, for a time or until the rule is removed.

    HOST is a name with the ports 80 and 443 (crates.io), with one port (github.com:22), all names below one
    (*.crates.io), or a set that is shipped (pypi, npm, debian, github, nix-cache, anthropic, openai, google). An agent
    can send all that it knows to a host that it reaches.

    \b
    Examples:
      hive-c0re net ada allow crates.io --for 2h --note "new dependency"
      hive-c0re net all allow github --note "everybody clones"
    """
    whom = "all agents" if _name(context) == ALL else _name(context)
    reason = note_or_prompt(context, note, f"Why is {escaped_line(host)} allowed for {whom}?")
    body = {"effect": "allow", "host": host, "hours": hours, "note": reason}
    _make(context, body, f"may reach {escaped_line(host)}", as_json)


@net.command("deny")
@click.argument("host")
@for_option
@reason_option
@json_option
@click.pass_context
def deny(context: click.Context, host: str, hours: float | None, note: str | None, as_json: bool) -> None:
    """Deny a host, whatever allows it: every port of it, or the one that is named.

    It holds from the next connection on; "net AGENT close" ends those that are open.

    \b
    Example:
      hive-c0re net ada deny github.com --note "no pushes today"
    """
    body = {"effect": "deny", "host": host, "hours": hours, "note": note}
    _make(context, body, f"may not reach {escaped_line(host)}", as_json)


@net.command("open")
@click.option(
    "--for", "hours", type=DURATION, metavar="TIME", default="1h", show_default=True, help="Time, such as 2h."
)
@reason_option
@json_option
@click.pass_context
def open_network(context: click.Context, hours: float, note: str | None, as_json: bool) -> None:
    """Open everything that is public, for a time.

    The agent then reaches every host of the internet, and can send everywhere what it knows; denied hosts, private
    addresses and those of this host stay closed. It is shown by "net" and "status" until it ends.

    \b
    Example:
      hive-c0re net ada open --for 30m --note "look for a mirror"
    """
    body = {"effect": "open", "hours": hours, "note": note}
    done = click.style("may reach EVERYTHING that is public", fg="bright_red", bold=True)
    _make(context, body, done, as_json)


@net.command("close")
@json_option
@click.pass_context
def close(context: click.Context, as_json: bool) -> None:
    """End "open" at once, and every connection that no rule allows.

    Connections to hosts that rules allow go on, and so do these rules.

    \b
    Example:
      hive-c0re net ada close
    """
    answer = Client(context.obj).post(_path(context, "close"), {})
    if as_json:
        print_json(answer)
        return
    still = [each for each in answer.get("agents", [answer]) if each.get("open") and each.get("network") != "host"]
    if not still:
        click.echo(f"{_whom(context)} reach{'' if _name(context) == ALL else 'es'} only what rules allow")
    for each in still:
        click.echo("\n".join(open_lines(each)))
    if still and _name(context) != ALL:
        click.echo('it is open for all agents: end that with "hive-c0re net all close"', err=True)


@net.command("remove")
@click.argument("host", shell_complete=complete_rules)
@json_option
@click.pass_context
def remove(context: click.Context, host: str, as_json: bool) -> None:
    """Remove a rule that "allow", "deny" or an approved request has made.

    Those of agent.toml are changed by a proposal, and those of the settings by the operator.

    \b
    Example:
      hive-c0re net ada remove crates.io
    """
    answer = Client(context.obj).post(_path(context, "rules/remove"), {"host": host})
    if as_json:
        print_json(answer)
        return
    click.echo(f"the rule of {_whom(context)} for {escaped_line(host)} is removed")


@net.command("log")
@click.option("-n", "--lines", type=int, default=100, show_default=True, help="Number of lines to show, the last.")
@click.option("-f", "--follow", is_flag=True, help="Show new lines too, until Ctrl-C.")
@json_option
@click.pass_context
def log(context: click.Context, lines: int, follow: bool, as_json: bool) -> None:
    """Show what was refused to an agent, and the rules and requests of it.

    Refusals of one host are one line, with their number. With -f a line is shown again when there are more of them.

    \b
    Examples:
      hive-c0re net ada log
      hive-c0re net ada log -f
    """
    if _name(context) == ALL:
        raise click.UsageError("Name one agent: hive-c0re net AGENT log.")
    client, show = Client(context.obj), print_json if as_json else print_lines
    answer = client.get(_path(context, "log"), {"lines": lines})
    show(answer)
    if follow:
        follow_lines(client, _path(context, "log"), str(answer.get("cursor")), show)


request_argument = click.argument("number", type=click.IntRange(min=1), metavar="ID", shell_complete=complete_requests)


def _decide(context: click.Context, number: int, what: str, body: Answer) -> Answer:
    """Decide on a request, which has to be one of the agent that was named."""
    client, name = Client(context.obj), _name(context)
    if name != ALL:
        found = client.get(_path(context)).get("requests", [])
        if number not in [each.get("id") for each in found]:
            hint = f'see "hive-c0re net {name}" and "hive-c0re net {name} log"'
            raise Failure("unknown_request", f"{name} has no open request {number}", hint=hint)
    return client.post(f"/v1/network/requests/{number}/{what}", body)


@net.command("approve")
@request_argument
@for_option
@click.option("--note", metavar="TEXT", help="What the agent is told with the decision.")
@json_option
@click.pass_context
def approve(context: click.Context, number: int, hours: float | None, note: str | None, as_json: bool) -> None:
    """Approve an agent's request to reach a host.

    The rule holds for as long as the agent asks, or as --for says. "hive-c0re net" shows the requests.

    \b
    Examples:
      hive-c0re net ada approve 7
      hive-c0re net ada approve 7 --for 30m --note "only for the download"
    """
    body = {key: value for key, value in (("hours", hours), ("note", note)) if value is not None}
    answer = _decide(context, number, "approve", body)
    if as_json:
        print_json(answer)
        return
    agent, host = escaped_line(str(answer.get("agent"))), escaped_line(str(answer.get("host")))
    click.echo(f"{coloured_agent(agent)} may reach {host} for {hours or answer.get('hours'):g} h")


@net.command("deny-request")
@request_argument
@click.option("--note", metavar="TEXT", help="Reason, which the agent is told.")
@json_option
@click.pass_context
def deny_request(context: click.Context, number: int, note: str | None, as_json: bool) -> None:
    """Deny an agent's request to reach a host, with a reason.

    \b
    Example:
      hive-c0re net ada deny-request 7 --note "use the mirror that you have"
    """
    reason = note_or_prompt(context, note, f"Why is request {number} denied?")
    answer = _decide(context, number, "deny", {"note": reason})
    if as_json:
        print_json(answer)
        return
    click.echo(f"request {number} of {coloured_agent(escaped_line(str(answer.get('agent'))))} is denied")

"""The commands `list`, `show`, `start`, `stop`, `restart` and `destroy`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import click

from hive_core.cli.arguments import agent_argument, agents_argument, json_option, print_json, waiting_options
from hive_core.cli.client import Client, agent_path
from hive_core.cli.commands.outside.network_notes import network_facts, network_notes
from hive_core.cli.commands.outside.shown_spending import describe_limit
from hive_core.cli.commands.work.work_names import work_name
from hive_core.cli.errors import Failure, NoDaemon
from hive_core.cli.output import (
    Column,
    coloured_agent,
    coloured_state,
    describe_crash,
    dim,
    duration,
    is_interactive,
    now,
    render,
    width,
)
from hive_core.cli.output import moment as shown_moment
from hive_core.cli.waiting import show_progress, wait_until_ready
from hive_core.protocol.models.amounts import dollars
from hive_core.protocol.names import MANAGER
from hive_core.text import escaped_line


def _state(text: str, padded: str) -> str:
    return coloured_state(text.partition(" ")[0], padded)


def _waiting(text: str, padded: str) -> str:
    return dim(padded) if text == "0" else padded


AGENT_COLUMNS = (
    Column("NAME", 9, style=coloured_agent),
    Column("KIND", 2),
    Column("LIFECYCLE", 6, style=_state),
    Column("STATE", 8, style=_state),
    Column("BACKEND", 3),
    Column("UNACKED", 7, right=True, style=_waiting),
    Column("RESTARTS", 4, right=True, style=_waiting),
    Column("TODAY", 6, right=True),
    Column("OWNER", 4),
    Column("DETAIL", 5),
)
_COST, _OWNER = 7, 8
_SOON = timedelta(minutes=2)


@click.command("list")
@json_option
@click.pass_obj
def list_agents(socket: str | None, as_json: bool) -> None:
    """List all agents, the manager first.

    LIFECYCLE is the agent's process, STATE its harness. DETAIL says why the agent does not run, cannot work or has
    no page, whether its network is open and its requests for hosts wait ("hive-c0re net NAME"), and ends with the
    status text that the agent has set; "hive-c0re show NAME" has all of it. UNACKED counts the messages that wait
    for the agent, RESTARTS its restarts after crashes. TODAY is what its calls of models have cost today, if there
    were any. OWNER is the person to whom it belongs. An agent that needs an update was built with an older
    hyperhive: see "hive-c0re rebuild". A narrow terminal shows fewer columns.

    \b
    Examples:
      hive-c0re list
      hive-c0re list --json
    """
    answer = Client(socket).get("/v1/agents")
    if as_json:
        print_json(answer)
        return
    agents = answer.get("agents", [])
    if not agents:
        click.echo('no agents yet: create one with "hive-c0re spawn NAME"', err=True)
        return
    moment = now()
    columns, rows = list(AGENT_COLUMNS), [_agent_row(agent, moment) for agent in agents]
    # The last one first, as the others move up.
    for key, column in (("owner", _OWNER), ("cost_today", _COST)):
        if not any(agent.get(key) for agent in agents):
            columns.pop(column)
            for row in rows:
                row.pop(column)
    for line in render(columns, rows, width()):
        click.echo(line)


def _agent_row(agent: dict[str, Any], moment: datetime) -> list[str]:
    since = duration(agent.get("state_since"), moment)
    state = str(agent.get("state"))
    note = "; ".join(
        words
        for words, told in (("NOT SEALED", agent.get("unsealed")), ("needs an update", agent.get("needs_update")))
        if told
    )
    cells = [
        agent.get("name"),
        agent.get("kind"),
        agent.get("lifecycle"),
        f"{state} ({since})" if since else state,
        agent.get("backend"),
        agent.get("unacked"),
        agent.get("restarts"),
        "" if agent.get("cost_today") is None else dollars(agent.get("cost_today")),
        agent.get("owner") or "",
        "; ".join(
            filter(
                None,
                [
                    *network_notes(agent),
                    note,
                    _goes_on(agent),
                    agent.get("detail") or _last_end(agent),
                    _page_problem(agent),
                    agent.get("status"),
                ],
            )
        ),
    ]
    return [escaped_line(str(cell)) for cell in cells]


@click.command()
@agent_argument
@json_option
@click.pass_obj
def show(socket: str | None, name: str, as_json: bool) -> None:
    """Show one agent: its process, its harness, and what it lacks.

    \b
    Example:
      hive-c0re show ada
    """
    client = Client(socket)
    agent = client.get(agent_path(name))
    if as_json:
        print_json(agent)
        return
    network = client.get(agent_path(name, "network")) if agent.get("network") == "sealed" else {}
    facts = [*_facts(agent, now()), *network_facts(agent, network)]
    facts = [(label, fact) for label, fact in facts if fact]
    wide = max(len(label) for label, _ in facts)
    for label, fact in facts:
        click.echo(f"{dim(label.ljust(wide))}  {fact}")


def _facts(agent: dict[str, Any], moment: datetime) -> list[tuple[str, str]]:
    """Return the facts about an agent with their labels; those that are empty are not shown."""

    def text(key: str) -> str:
        return escaped_line(str(agent.get(key) or ""))

    lifecycle, state = text("lifecycle"), text("state")
    started, since = duration(agent.get("started_at"), moment), duration(agent.get("state_since"), moment)
    process = [coloured_state(lifecycle), f"pid {agent['pid']}" if agent.get("pid") else ""]
    process += [f"for {started}" if started else "", f"restarts after crashes: {agent.get('restarts')}"]
    harness = coloured_state(state) + (f" for {since}" if since else "")
    page = _page_problem(agent) or f'port {agent.get("web_port")} of this host: "hive-c0re open {text("name")}"'
    return [
        ("Agent", f"{coloured_agent(text('name'))}, {text('kind')}"),
        ("Owner", text("owner")),
        ("Process", ", ".join(filter(None, process))),
        ("Harness", f"{harness}: {text('detail')}" if text("detail") else harness),
        ("Goes on", shown_moment(agent.get("goes_on_at"))),
        ("Last end", escaped_line(_last_end(agent)) or text("exit_cause")),
        ("Backend", ", model ".join(filter(None, [text("backend"), text("model")]))),
        ("Spent", _spent(agent)),
        ("Deployment", str(agent.get("deployment")) + (", needs an update" if agent.get("needs_update") else "")),
        ("Messages", f"{agent.get('unacked')} not yet handled"),
        ("Repositories", escaped_line(", ".join(map(str, agent.get("repos") or [])))),
        ("Page", escaped_line(page)),
        ("At work", text("status")),
        ("Confinement", text("confinement")),
        ("Services", escaped_line(_services(agent))),
        ("Secrets", escaped_line(", ".join(map(str, agent.get("secrets") or [])))),
        ("Limits", f'see "hive-c0re limits {text("name")}"'),
    ]


def _goes_on(agent: dict[str, Any]) -> str:
    """Format the time at which an agent tries again, if that is not soon after its last try."""
    at, since = agent.get("goes_on_at"), agent.get("state_since")
    if at is None or since is None or datetime.fromisoformat(at) - datetime.fromisoformat(since) < _SOON:
        return ""
    return f"goes on at {shown_moment(at)}"


def _spent(agent: dict[str, Any]) -> str:
    """Format what an agent has spent today, and of which limits."""
    if agent.get("cost_today") is None:
        return ""
    limits = [describe_limit(limit) for limit in agent.get("budget") or []]
    return "; ".join([f"{dollars(agent.get('cost_today'))} today", *limits])


def _services(agent: dict[str, Any]) -> str:
    names = ", ".join(map(str, agent.get("services") or []))
    return f'{names} of the host: "hive-c0re net {agent.get("name")}" shows where' if names else ""


def _page_problem(agent: dict[str, Any]) -> str:
    problem = agent.get("page_problem")
    return f"no page: {problem}" if problem else ""


def _last_end(agent: dict[str, Any]) -> str:
    """Format how the agent's process ended, if it ended by itself; an end on request explains nothing."""
    crash = describe_crash(agent)
    if crash:
        return f"ended {crash}"
    return str(agent.get("exit_cause") or "") if agent.get("lifecycle") in {"backoff", "failed"} else ""


STOP_SECONDS = 600.0
"""Longest time that settings can give an agent to stop by itself."""


@click.command()
@agents_argument
@waiting_options
@json_option
@click.pass_obj
def start(socket: str | None, names: tuple[str, ...], no_wait: bool, timeout: float, as_json: bool) -> int:
    """Start agents that are stopped.

    Waits until they are ready; the exit code is 1 if one does not become ready. An agent that runs already is not
    started again.

    \b
    Examples:
      hive-c0re start ada
      hive-c0re start ada bob --no-wait
    """
    return _for_each(names, lambda name: _act(socket, name, "start", as_json, None if no_wait else timeout))


@click.command()
@agents_argument
@json_option
@click.pass_obj
def stop(socket: str | None, names: tuple[str, ...], as_json: bool) -> int:
    """Stop agents; their messages wait for them.

    \b
    Examples:
      hive-c0re stop ada
      hive-c0re stop ada bob eve
    """
    return _for_each(names, lambda name: _act(socket, name, "stop", as_json, None))


@click.command()
@agents_argument
@waiting_options
@json_option
@click.pass_obj
def restart(socket: str | None, names: tuple[str, ...], no_wait: bool, timeout: float, as_json: bool) -> int:
    """Stop agents and start them again.

    Waits until they are ready; the exit code is 1 if one does not become ready. Messages that they were working on are
    delivered again.

    \b
    Example:
      hive-c0re restart ada
    """
    return _for_each(names, lambda name: _act(socket, name, "restart", as_json, None if no_wait else timeout))


def _for_each(names: tuple[str, ...], act: Callable[[str], None]) -> int:
    """Act on each agent once; returns the exit code. Of several agents, one that fails does not keep the others."""
    if len(names) == 1:
        act(names[0])
        return 0
    code = 0
    for name in dict.fromkeys(names):
        try:
            act(name)
        except NoDaemon:
            raise
        except Failure as failure:
            failure.show()
            code = 1
    return code


def _act(socket: str | None, name: str, action: str, as_json: bool, timeout: float | None) -> None:
    """Start, stop or restart an agent, and with `timeout` wait so many seconds until it is ready."""
    client = Client(socket)
    status = client.post(agent_path(name, action), {}, wait=STOP_SECONDS)
    key = "lifecycle"
    if timeout is not None:
        was, key = f"was {action}ed", "state"
        with show_progress(name) as on_status:
            hint = f'look with "hive-c0re logs {name}", or stop it with "hive-c0re stop {name}"'
            status = wait_until_ready(client, name, timeout, on_status, was=was, hint=hint)
    if as_json:
        print_json(status)
        return
    click.echo(f"{coloured_agent(name)} is {coloured_state(escaped_line(str(status.get(key))))}")


@click.command()
@agents_argument
@click.option("--purge", is_flag=True, help="Remove its files and waiting messages too. This cannot be undone.")
@click.option("--yes", is_flag=True, help="Purge without asking.")
@json_option
@click.pass_context
def destroy(context: click.Context, names: tuple[str, ...], purge: bool, yes: bool, as_json: bool) -> int:
    """Remove agents; their state is kept unless purged.

    An agent that is spawned again under the same name finds its notes, its login and its waiting messages.

    \b
    Examples:
      hive-c0re destroy ada
      hive-c0re destroy ada bob --purge --yes
    """
    if purge and not yes and not _confirmed(context, ", ".join(names)):
        click.echo("nothing was changed", err=True)
        return 1
    return _for_each(names, lambda name: _destroy(context.obj, name, purge, as_json))


def _destroy(socket: str | None, name: str, purge: bool, as_json: bool) -> None:
    client = Client(socket)
    waiting = _waiting_for_manager(client) if name == MANAGER else []
    answer = client.post(agent_path(name, "destroy"), {"purge": purge}, wait=STOP_SECONDS)
    if as_json:
        print_json(answer)
    elif answer.get("purged"):
        dropped = answer.get("dropped_messages")
        click.echo(f"{coloured_agent(name)} is destroyed and purged; waiting messages dropped: {dropped}")
    else:
        click.echo(f"{coloured_agent(name)} is destroyed; its files and waiting messages are kept")
        again = f'"hive-c0re spawn {name} --no-start", then "hive-c0re destroy {name} --purge"'
        click.echo(f"  an agent that is spawned again as {name} finds them; to remove them: {again}", err=True)
    if waiting and not as_json:
        click.echo(f"these waited for {name} and wait for you now:", err=True)
        click.echo("\n".join(f'  {each}: decide with "hive-c0re {command}"' for each, command in waiting), err=True)


def _waiting_for_manager(client: Client) -> list[tuple[str, str]]:
    """Return the open proposals and work that wait for the manager, each with the command that approves it."""
    found = []
    for each in client.get("/v1/proposals", {"state": "open"}).get("proposals", []):
        if each.get("waits_for") == "manager" and each.get("agent") != MANAGER:
            agent, number = escaped_line(str(each.get("agent"))), each.get("number")
            found.append((f"{agent}/{number}", f"approve {agent} {number}"))
    for each in client.get("/v1/work", {"state": "open"}).get("work", []):
        if each.get("waits_for") == "manager":
            found.append((work_name(each), f"work approve {work_name(each)}"))
    return found


def _confirmed(context: click.Context, name: str) -> bool:
    if not is_interactive():
        raise click.UsageError("--purge needs a confirmation, but there is no terminal: add --yes.", context)
    # click's prompt writes a space to stdout, which must hold only the JSON document with --json.
    sys.stderr.write(f"Remove {escaped_line(name)} with all of its files and waiting messages, permanently? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}

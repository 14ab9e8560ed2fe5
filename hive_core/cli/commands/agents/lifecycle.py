"""The commands `list`, `start`, `stop`, `restart`, `destroy` and `limits`."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import click

from hive_core.cli.arguments import agent_argument, json_option, print_json, waiting_options
from hive_core.cli.client import Client, agent_path
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
from hive_core.cli.waiting import show_progress, wait_until_ready
from hive_core.text import escaped_line, format_bytes


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
    Column("DETAIL", 5),
)


@click.command("list")
@json_option
@click.pass_obj
def list_agents(socket: str | None, as_json: bool) -> None:
    """List all agents, the manager first.

    LIFECYCLE is the agent's process, STATE its harness. DETAIL says why the agent does not run, cannot work or has no
    page, and ends with the status text that the agent has set; "hive-c0re show NAME" has all of it. UNACKED counts the
    messages that wait for the agent, RESTARTS its restarts after crashes. An agent that needs an update was built with
    an older hyperhive: see "hive-c0re rebuild". A narrow terminal shows fewer columns.
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
    for line in render(AGENT_COLUMNS, [_agent_row(agent, moment) for agent in agents], width()):
        click.echo(line)


def _agent_row(agent: dict[str, Any], moment: datetime) -> list[str]:
    since = duration(agent.get("state_since"), moment)
    state = str(agent.get("state"))
    note = "needs an update" if agent.get("needs_update") else ""
    cells = [
        agent.get("name"),
        agent.get("kind"),
        agent.get("lifecycle"),
        f"{state} ({since})" if since else state,
        agent.get("backend"),
        agent.get("unacked"),
        agent.get("restarts"),
        "; ".join(
            filter(None, [note, agent.get("detail") or _last_end(agent), _page_problem(agent), agent.get("status")])
        ),
    ]
    return [escaped_line(str(cell)) for cell in cells]


@click.command()
@agent_argument
@json_option
@click.pass_obj
def show(socket: str | None, name: str, as_json: bool) -> None:
    """Show one agent: its process, its harness, and what it lacks."""
    agent = Client(socket).get(agent_path(name))
    if as_json:
        print_json(agent)
        return
    facts = [(label, fact) for label, fact in _facts(agent, now()) if fact]
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
        ("Process", ", ".join(filter(None, process))),
        ("Harness", f"{harness}: {text('detail')}" if text("detail") else harness),
        ("Last end", escaped_line(_last_end(agent)) or text("exit_cause")),
        ("Backend", ", model ".join(filter(None, [text("backend"), text("model")]))),
        ("Deployment", str(agent.get("deployment")) + (", needs an update" if agent.get("needs_update") else "")),
        ("Messages", f"{agent.get('unacked')} not yet handled"),
        ("Page", escaped_line(page)),
        ("At work", text("status")),
        ("Confinement", text("confinement")),
    ]


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
@agent_argument
@waiting_options
@json_option
@click.pass_obj
def start(socket: str | None, name: str, no_wait: bool, timeout: float, as_json: bool) -> None:
    """Start an agent that is stopped.

    Waits until the agent is ready; the exit code is 1 if it does not become ready. An agent that runs already is not
    started again.
    """
    _act(socket, name, "start", as_json, None if no_wait else timeout)


@click.command()
@agent_argument
@json_option
@click.pass_obj
def stop(socket: str | None, name: str, as_json: bool) -> None:
    """Stop an agent; its messages wait for it."""
    _act(socket, name, "stop", as_json, None)


@click.command()
@agent_argument
@waiting_options
@json_option
@click.pass_obj
def restart(socket: str | None, name: str, no_wait: bool, timeout: float, as_json: bool) -> None:
    """Stop an agent and start it again.

    Waits until the agent is ready; the exit code is 1 if it does not become ready. Messages that it was working on are
    delivered again.
    """
    _act(socket, name, "restart", as_json, None if no_wait else timeout)


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
@agent_argument
@click.option("--purge", is_flag=True, help="Remove its files and waiting messages too. This cannot be undone.")
@click.option("--yes", is_flag=True, help="Purge without asking.")
@json_option
@click.pass_context
def destroy(context: click.Context, name: str, purge: bool, yes: bool, as_json: bool) -> int:
    """Remove an agent; its state is kept unless purged.

    An agent that is spawned again under the same name finds its notes, its login and its waiting messages.
    """
    if purge and not yes and not _confirmed(context, name):
        click.echo("nothing was changed", err=True)
        return 1
    client = Client(context.obj)
    answer = client.post(agent_path(name, "destroy"), {"purge": purge}, wait=STOP_SECONDS)
    if as_json:
        print_json(answer)
    elif answer.get("purged"):
        dropped = answer.get("dropped_messages")
        click.echo(f"{coloured_agent(name)} is destroyed and purged; waiting messages dropped: {dropped}")
    else:
        click.echo(f"{coloured_agent(name)} is destroyed; its files and waiting messages are kept")
    return 0


def _confirmed(context: click.Context, name: str) -> bool:
    if not is_interactive():
        raise click.UsageError("--purge needs a confirmation, but there is no terminal: add --yes.", context)
    # click's prompt writes a space to stdout, which must hold only the JSON document with --json.
    sys.stderr.write(f"Remove {escaped_line(name)} with all of its files and waiting messages, permanently? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


LIMIT_COLUMNS = (Column("LIMIT", 9), Column("CONFIGURED", 7), Column("IN FORCE", 8), Column("USED", 6))


@click.command()
@agent_argument
@click.option("--memory", "memory_max", metavar="SIZE", help="Most memory, in MiB or GiB: 512M, 3G.")
@click.option(
    "--disk", "disk_max", metavar="SIZE", help="All that it can write, in MiB or GiB, where there are disk quotas."
)
@click.option("--cpu", "cpu_quota", type=int, metavar="PERCENT", help="Most processor time, in percent of one core.")
@click.option("--tasks", "tasks_max", type=int, metavar="N", help="Most processes and threads.")
@click.option("--io-weight", type=int, metavar="N", help="Share of the disk; 100 is everybody's.")
@click.option("--reset", is_flag=True, help="Go back to what is configured; the other options are applied after that.")
@json_option
@click.pass_obj
def limits(
    socket: str | None,
    /,
    name: str,
    reset: bool,
    as_json: bool,
    **asked: str | int | None,
) -> None:
    """Show or change an agent's resource limits.

    Without options nothing is changed. A change takes effect at once, without a restart, and lasts until the agent is
    started or deployed again. For a permanent change propose another agent.toml.
    """
    given: dict[str, object] = {key: value for key, value in asked.items() if value is not None}
    client, path = Client(socket), agent_path(name, "limits")
    answer = client.post(path, {**given, "reset": reset}) if given or reset else client.get(path)
    if as_json:
        print_json(answer)
        return
    for line in render(LIMIT_COLUMNS, _limit_rows(answer), width()):
        click.echo(line)
    has_disk = (answer.get("in_force") or {}).get("disk_max") is not None
    if answer.get("enforced") is not True:
        left = "no other limit" if has_disk else "none"
        click.echo(f"the runtime of this hive does not enforce limits, so {coloured_agent(name)} has {left}", err=True)
    if (answer.get("configured") or {}).get("disk_max") is not None and not has_disk:
        why = escaped_line(str(answer.get("disk_problem") or "the agent was not started since the daemon's start"))
        click.echo(f"disk_max is not enforced: {why}", err=True)


def _limit_rows(answer: dict[str, Any]) -> list[list[str]]:
    configured, in_force, usage = (answer.get(key) or {} for key in ("configured", "in_force", "usage"))
    used = {
        "memory_max": _bytes(usage.get("memory_bytes")),
        "disk_max": _bytes(usage.get("disk_bytes")),
        "cpu_quota": _cpu_time(usage.get("cpu_seconds")),
        "tasks_max": _plain(usage.get("tasks")),
        "io_weight": "",
    }
    formats = {
        "memory_max": _plain,
        "disk_max": _plain,
        "cpu_quota": _percent,
        "tasks_max": _plain,
        "io_weight": _plain,
    }
    rows = []
    for key, label in (
        ("memory_max", "memory"),
        ("disk_max", "disk"),
        ("cpu_quota", "cpu"),
        ("tasks_max", "tasks"),
        ("io_weight", "io weight"),
    ):
        cells = [label, formats[key](configured.get(key)), formats[key](in_force.get(key)), used[key]]
        rows.append([escaped_line(cell) for cell in cells])
    return rows


def _plain(value: object) -> str:
    return "-" if value is None else str(value)


def _percent(value: object) -> str:
    return "-" if value is None else f"{value} %"


def _cpu_time(value: object) -> str:
    return f"{value:.1f} s in all" if isinstance(value, int | float) else "-"


def _bytes(value: object) -> str:
    return format_bytes(value) if isinstance(value, int) else "-"

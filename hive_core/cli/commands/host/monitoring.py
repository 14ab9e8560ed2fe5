"""The commands `status`, `logs`, `open` and `audit`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from hive_core.cli.arguments import agent_argument, complete_agents, json_option, pager_option, print_json
from hive_core.cli.client import Client, agent_path
from hive_core.cli.errors import Failure
from hive_core.cli.lazy import SuggestingGroup
from hive_core.cli.output import (
    Column,
    coloured_agent,
    coloured_state,
    dim,
    duration,
    moment,
    now,
    page_lines,
    print_lines,
    render,
    width,
)
from hive_core.protocol.models.amounts import dollars
from hive_core.text import escaped_line, format_bytes

_NEARLY_FULL = 0.8
_SHOWN_AGENTS = 5


@click.command()
@json_option
@click.pass_obj
def status(socket: str | None, as_json: bool) -> None:
    """Show a summary of the daemon and its hive.

    \b
    Examples:
      hive-c0re status
      hive-c0re status --json
    """
    client = Client(socket)
    answer = client.get("/v1/status")
    if as_json:
        print_json(answer)
        return
    facts = _facts(answer)
    agents = client.get("/v1/agents").get("agents", [])
    for one in agents:
        if one.get("status"):
            facts.append(
                ("At work", f"{coloured_agent(escaped_line(str(one.get('name'))))}: {escaped_line(str(one['status']))}")
            )
    spent = sum(float(one.get("cost_today") or 0) for one in agents)
    if spent:
        facts.append(("Models", f'{dollars(spent)} today: see "hive-c0re usage --by agent --since today"'))
    old = sum(bool(one.get("needs_update")) for one in agents)
    if old:
        facts.append(("Updates", f'{old} built with an older hyperhive: see "hive-c0re rebuild --outdated"'))
    wide = max(len(name) for name, _ in facts)
    for name, fact in facts:
        click.echo(f"{dim(name.ljust(wide))}  {fact}")


def _facts(answer: dict[str, Any]) -> list[tuple[str, str]]:
    agents = ", ".join(f"{count} {coloured_state(word)}" for word, count in answer.get("agents", {}).items() if count)
    unread, questions = answer.get("operator_unread", 0), answer.get("open_questions", 0)
    asked = answer.get("network_requests", 0)
    opened = [escaped_line(str(name)) for name in answer.get("open_networks") or []]
    network = [("Network", f'{asked} requests wait for you: see them with "hive-c0re net"')] if asked else []
    if opened:
        which = f"{', '.join(opened)} may reach everything that is public"
        network.append(("OPEN", click.style(f'{which}: see "hive-c0re net"', fg="bright_red", bold=True)))
    if away := [escaped_line(str(name)) for name in answer.get("gateways_away") or []]:
        network.append(("AWAY", click.style(f"{' and '.join(away)}: agents wait for that", fg="bright_red", bold=True)))
    running = duration(answer.get("started_at"), now())
    problem = answer.get("build_problem")
    builds = [("Builds", f"do not work, proposals are refused: {escaped_line(str(problem))}")] if problem else []
    used, limit = answer.get("database_bytes", 0), answer.get("database_limit", 0)
    database = [("Database", f"{format_bytes(used)} of {format_bytes(limit)}")] if limit else []
    proposals, most = answer.get("proposal_bytes") or {}, answer.get("proposal_limit", 0)
    space = [("Proposals", _proposal_space(proposals, most))] if most else []
    return [
        ("Daemon", f"hive-c0re {answer.get('version')}, process {answer.get('pid')}, up for {running}"),
        *_dashboard(answer),
        ("State", escaped_line(str(answer.get("state_dir")))),
        ("Runtime", escaped_line(str(answer.get("runtime")))),
        ("Confinement", escaped_line(str(answer.get("confinement")))),
        ("Sealed", escaped_line(str(answer.get("sealing")))),
        *builds,
        ("Agents", agents or 'none yet: create one with "hive-c0re spawn NAME"'),
        ("Messages", f"{answer.get('messages_stored')} stored, {answer.get('messages_unacked')} not yet handled"),
        *database,
        *space,
        *network,
        ("Questions", f'{questions} open: see them with "hive-c0re questions"' if questions else "none open"),
        ("Inbox", f'{unread} unread: read them with "hive-c0re inbox"' if unread else "nothing unread"),
    ]


def _dashboard(answer: dict[str, Any]) -> list[tuple[str, str]]:
    address, problem = answer.get("dashboard"), answer.get("dashboard_problem")
    if not address:
        return []
    return [("Dashboard", escaped_line(f"does not run: {problem}" if problem else str(address)))]


def _proposal_space(used: dict[str, int], most: int) -> str:
    """Return the space that proposals take up, and the agents that have used most of theirs."""
    text = f"{format_bytes(sum(used.values()))}, at most {format_bytes(most)} for an agent"
    full = sorted((name for name, size in used.items() if size >= _NEARLY_FULL * most), key=lambda name: -used[name])
    if not full:
        return text
    names = ", ".join(
        f"{coloured_agent(escaped_line(name))} {format_bytes(used[name])}" for name in full[:_SHOWN_AGENTS]
    )
    more = f" and {len(full) - _SHOWN_AGENTS} more" if len(full) > _SHOWN_AGENTS else ""
    return f'{text}; nearly full: {names}{more}: make room with "hive-c0re proposals prune"'


_POLL_SECONDS = 60.0
_RETRY_SECONDS = 0.5


@click.command()
@agent_argument
@click.option("-n", "--lines", type=int, default=100, show_default=True, help="Number of lines to show, the last.")
@click.option("-f", "--follow", is_flag=True, help="Show new lines too, until Ctrl-C.")
@pager_option
@json_option
@click.pass_obj
def logs(socket: str | None, name: str, lines: int, follow: bool, pager: bool, as_json: bool) -> None:
    """Show the log of an agent.

    \b
    Examples:
      hive-c0re logs ada
      hive-c0re logs ada -f
    """
    client = Client(socket)
    show = print_json if as_json else print_lines
    answer = client.get(agent_path(name, "logs"), {"lines": lines})
    if follow or as_json:
        show(answer)
    else:
        page_lines(answer, pager)
    if follow:
        follow_lines(client, agent_path(name, "logs"), str(answer.get("cursor")), show)


def follow_lines(client: Client, path: str, cursor: str, show: Callable[[dict[str, Any]], None]) -> None:
    """Show the lines of a log after `cursor` as they come, also across a restart of the daemon."""
    while True:
        query = {"cursor": cursor, "wait_seconds": _POLL_SECONDS}
        try:
            answer = client.get(path, query, wait=_POLL_SECONDS)
        except Failure as failure:
            if not failure.transient:
                raise
            time.sleep(_RETRY_SECONDS)
            continue
        cursor = str(answer.get("cursor"))
        if answer.get("lines"):
            show(answer)


def _browser() -> str | None:
    """Return the program that opens links for a person at this screen; None if there is no such person or program."""
    has_screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return shutil.which("xdg-open") if has_screen and sys.stdout.isatty() else None


@click.command("open")
@agent_argument
@click.option("--print", "only_print", is_flag=True, help="Print the link, also where a browser could be opened.")
@json_option
@click.pass_obj
def open_page(socket: str | None, name: str, only_print: bool, as_json: bool) -> None:
    """Open an agent's page, or print a link to it.

    A browser is opened where stdout is a terminal and there are a display and xdg-open. The link works once, in one
    browser, within two minutes; anyone who has it acts as you on that page. The page listens on this machine only.
    stderr says how to reach it from elsewhere, or if the agent's network is sealed.

    \b
    Examples:
      hive-c0re open ada
      hive-c0re open ada --print
    """
    client = Client(socket)
    agent = client.get(agent_path(name))
    ticket = client.post(agent_path(name, "page-tickets"), {})
    port, path = int(ticket.get("port", 0)), escaped_line(str(ticket.get("socket")))
    if not ticket.get("sealed") and not ticket.get("held", True):
        # The program that has the port would get the ticket, so it is not shown.
        problem = client.get(agent_path(name)).get("page_problem") or f"another program listens on port {port}"
        hint = "give that program another port: the hive takes this one within seconds when it is free"
        raise Failure("page_port_taken", f"the page of {name} cannot be reached: {problem}", hint=hint)
    if as_json:
        print_json(ticket)
        return
    if agent.get("lifecycle") != "running":
        lifecycle = escaped_line(str(agent.get("lifecycle")))
        click.echo(f'{name} is {lifecycle}, so its page does not answer: "hive-c0re start {name}"', err=True)
    if ticket.get("sealed"):
        click.echo("Its network is sealed, so its page has no port. Make it reachable first:", err=True)
        click.echo(f"  socat TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork UNIX-CONNECT:{path}", err=True)
    click.echo(f"From another machine, run first: ssh -L {port}:127.0.0.1:{port} HOST", err=True)
    click.echo(f"Good for one browser, within {float(ticket.get('expires_in', 0)):.0f} s:", err=True)
    link = f"http://127.0.0.1:{port}/enter#{escaped_line(str(ticket.get('ticket')))}"
    click.echo(link)
    browser = None if only_print or ticket.get("sealed") else _browser()
    if browser is not None:
        # Its own words would stand between those of the shell.
        subprocess.Popen(  # noqa: S603
            [browser, link], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


_PATIENCE_SECONDS = 3_600.0


@click.group(cls=SuggestingGroup, options_metavar="")
def audit() -> None:
    """Show and verify the audit log."""


def _outcome(text: str, padded: str) -> str:
    return dim(padded) if text == "ok" else coloured_state("failed", padded)


COLUMNS = (
    Column("ID", 5, right=True),
    Column("AT", 6),
    Column("ACTOR", 8),
    Column("ACTION", 9),
    Column("SUBJECT", 7),
    Column("OUTCOME", 4, style=_outcome),
    Column("DETAIL", 3),
)


@audit.command("show")
@click.option("--subject", metavar="AGENT", shell_complete=complete_agents, help="Show only rows about this agent.")
@click.option("-n", "--limit", type=int, default=100, show_default=True, help="Number of rows to show, the newest.")
@click.option("--before", type=int, metavar="ID", help="Show rows older than this one.")
@json_option
@click.pass_obj
def show(socket: str | None, subject: str | None, limit: int, before: int | None, as_json: bool) -> None:
    """Show all actions and refused attempts, the newest first.

    \b
    Example:
      hive-c0re audit show --subject ada -n 20
    """
    answer = Client(socket).get("/v1/audit", {"subject": subject, "limit": limit, "before": before})
    if as_json:
        print_json(answer)
        return
    rows = answer.get("rows", [])
    if not rows:
        click.echo("no rows to show", err=True)
        return
    for line in render(COLUMNS, [_row(row) for row in rows], width()):
        click.echo(line)


@audit.command("verify")
@json_option
@click.pass_obj
def verify(socket: str | None, as_json: bool) -> int:
    """Verify the hash chain of the audit log, and the tags of proposals against it.

    Finds rows that were changed, removed, inserted or reordered, and tags that were moved or removed. The exit code is
    1 if there is a problem.

    \b
    Example:
      hive-c0re audit verify
    """
    answer = Client(socket).get("/v1/audit/verify", wait=_PATIENCE_SECONDS)
    holds = answer.get("ok") is True
    if as_json:
        print_json(answer)
    elif holds:
        click.echo(f"no problems: {answer.get('rows')} rows, {answer.get('tags')} tags")
    else:
        for problem in answer.get("problems", []):
            click.echo(coloured_state("failed", escaped_line(str(problem))))
        checked = f"{answer.get('rows')} rows and {answer.get('tags')} tags"
        click.echo(f"hive-c0re: the audit log or the tags have been changed; checked: {checked}", err=True)
    return 0 if holds else 1


def _row(row: dict[str, Any]) -> list[str]:
    detail = row.get("detail")
    cells = [
        row.get("id"),
        moment(row.get("at")),
        row.get("actor"),
        row.get("action"),
        row.get("subject"),
        row.get("outcome"),
        json.dumps(detail) if detail else "",
    ]
    return [escaped_line(str(cell)) for cell in cells]

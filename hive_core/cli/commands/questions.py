"""`hive-c0re questions`: what agents ask the operator."""

from __future__ import annotations

from datetime import datetime
from textwrap import indent
from typing import Any

import click

from hive_core.cli import colours
from hive_core.cli.arguments import complete_agents
from hive_core.cli.client import Client
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.times import ago, moment, now
from hive_core.cli.untrusted import one_line, visible


@click.command()
@click.option("--all", "everything", is_flag=True, help="Show questions that were answered or ran out of time, too.")
@click.option("--agent", metavar="AGENT", shell_complete=complete_agents, help="Those of this agent only.")
@click.option("-n", "--limit", type=int, default=100, show_default=True, help="Most questions to show.")
@json_option
@click.pass_obj
def questions(socket: str | None, everything: bool, agent: str | None, limit: int, as_json: bool) -> None:
    """Show what agents ask you and wait for.

    The oldest comes first. Answer with "hive-c0re answer".
    """
    view = "all" if everything else "open"
    answer = Client(socket).get("/v1/questions", {"view": view, "agent": agent, "limit": limit})
    if as_json:
        print_json(answer)
        return
    found: list[dict[str, Any]] = answer.get("questions", [])
    at = now()
    if found:
        click.echo("\n\n".join(_shown(question, at) for question in found))
    else:
        click.echo("no questions" if everything else "no open questions", err=True)
    more = int(answer.get("total", 0)) - len(found)
    if found and more > 0:
        click.echo(f"{'older' if everything else 'newer'} ones beside these: {more}", err=True)


def _shown(question: dict[str, Any], at: datetime) -> str:
    state = one_line(str(question.get("state")))
    head = [
        colours.agent(one_line(str(question.get("agent")))),
        colours.dim(f"#{question.get('id')}"),
        colours.dim(ago(question.get("asked_at"), at)),
    ]
    if state != "open":
        head.append(colours.dim(state))
    elif question.get("expires_at"):
        head.append(colours.dim(f"ends {moment(question['expires_at'])}"))
    lines = [visible(str(question.get("text")))]
    for number, option in enumerate(question.get("options", []), start=1):
        lines.append(f"{number}. {one_line(str(option))}")
    if state == "answered":
        by = colours.dim(f"{one_line(str(question.get('answered_by')))}:")
        lines.append(f"{by} {visible(str(question.get('answer')))}")
    return "  ".join(head) + "\n" + indent("\n".join(lines), "  ")

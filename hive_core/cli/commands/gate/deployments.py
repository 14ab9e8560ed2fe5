"""The commands `rollback`, `rebuild` and `history`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from hive_core.cli.arguments import (
    complete_agents,
    json_option,
    note_option,
    note_or_prompt,
    parse_agent_and_number,
    print_json,
    shown_proposal,
)
from hive_core.cli.client import Client, agent_path
from hive_core.cli.errors import Failure, NoDaemon
from hive_core.cli.output import Column, ago, coloured_agent, coloured_state, now, render, width
from hive_core.cli.waiting import follow, is_over, report, standing
from hive_core.text import escaped_first_line, escaped_line


@click.command()
@click.argument("agent", metavar="AGENT", shell_complete=complete_agents)
@click.argument("number", metavar="[NUMBER]", required=False)
@note_option
@click.option("--no-wait", is_flag=True, help="Do not wait for the deployment.")
@json_option
@click.pass_context
def rollback(
    context: click.Context, agent: str, number: str | None, note: str | None, no_wait: bool, as_json: bool
) -> None:
    """Deploy an earlier deployment of an agent again.

    NUMBER is one of "hive-c0re history AGENT"; without it, the deployment before the current one. Nothing is built; the
    result is a new deployment with its own number. Without --note the reason is asked for on a terminal.

    \b
    Examples:
      hive-c0re rollback ada --note "it forgets its role"
      hive-c0re rollback ada 2 --note "back to the large model"
    """
    name, found = parse_agent_and_number(agent, number)
    path = agent_path(name, "rollback")
    reason = note_or_prompt(context, note, f"Why is {name} rolled back?")
    client = Client(context.obj)
    answer = client.post(path, {"note": reason} | ({"number": found} if found is not None else {}))
    if not no_wait:
        answer = follow(client, answer, is_over, quiet=as_json)
    report(answer, as_json)


Answer = dict[str, Any]


@click.command()
@click.argument("names", metavar="AGENT...", nargs=-1, shell_complete=complete_agents)
@click.option("--outdated", is_flag=True, help="Rebuild all agents that were built with an older hyperhive.")
@click.option("--reason", "note", metavar="TEXT", default="", help="Reason; it is stored in the tag.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the deployments.")
@json_option
@click.pass_obj
def rebuild(
    socket: str | None, names: tuple[str, ...], outdated: bool, note: str, no_wait: bool, as_json: bool
) -> None:
    """Rebuild agents with the current hyperhive and deploy them.

    Their configurations stay unchanged, and no approval is needed. Several agents are rebuilt at the same time. An
    agent that does not start with the new build is restored to the build before.

    \b
    Examples:
      hive-c0re rebuild ada bob
      hive-c0re rebuild --outdated
    """
    if bool(names) == outdated:
        raise click.UsageError("Give names of agents, or --outdated.")
    client = Client(socket)
    if outdated:
        names = tuple(str(agent.get("name")) for agent in client.get("/v1/agents")["agents"] if agent["needs_update"])
    answers: list[Answer] = []
    refused: list[Failure] = []
    for name in dict.fromkeys(names):
        try:
            answers.append(client.post(agent_path(name, "rebuild"), {"note": note}))
        except NoDaemon:
            raise
        except Failure as failure:
            refused.append(failure)  # The others are still rebuilt.
    if not no_wait:
        answers = [follow(client, answer, is_over, quiet=as_json) for answer in answers]
    if as_json:
        print_json({"proposals": answers, "total": len(answers)})
    else:
        for answer in answers:
            click.echo(_outcome_line(answer))
        if not names:
            click.echo("no agent needs an update", err=True)
    if refused:
        messages = "; ".join(failure.message for failure in refused)
        raise Failure(refused[0].code, messages, hint=refused[0].hint)
    failed = [shown_proposal(str(answer["agent"]), answer["number"]) for answer in answers if _has_failed(answer)]
    if failed:
        hint = f'look with "hive-c0re proposals show {failed[0]}" and "hive-c0re proposals log {failed[0]}"'
        raise Failure("proposal_ended", f"not rebuilt: {', '.join(failed)}", hint=hint)


def _has_failed(answer: Answer) -> bool:
    return answer.get("state") == "failed"


def _outcome_line(answer: Answer) -> str:
    if not is_over(answer) or answer.get("state") == "deployed":
        return standing(answer)
    name = shown_proposal(coloured_agent(escaped_line(str(answer.get("agent")))), answer.get("number"))
    return f"{name} {_verb(answer)}: {escaped_line(str(answer.get('outcome')).partition(chr(10))[0])}"


def _verb(answer: Answer) -> str:
    return "failed" if _has_failed(answer) else f"was {escaped_line(str(answer.get('state')))}"


_SHORT_SHA = 12


def _number(text: str, padded: str) -> str:
    return coloured_state("deployed", padded) if text.startswith("*") else padded


COLUMNS = (
    Column("NUMBER", 9, right=True, style=_number),
    Column("KIND", 3),
    Column("DEPLOYED", 8),
    Column("COMMIT", 7),
    Column("BY", 5),
    Column("APPROVED BY", 4),
    Column("NOTE", 6),
)


@click.command()
@click.argument("agent", metavar="AGENT", shell_complete=complete_agents)
@click.option(
    "-n", "--limit", type=int, default=50, show_default=True, help="Number of deployments to show, the newest."
)
@click.option("--offset", type=int, default=0, help="Number of the newest to skip.")
@json_option
@click.pass_obj
def history(socket: str | None, agent: str, limit: int, offset: int, as_json: bool) -> None:
    """Show the deployments of an agent, the newest first.

    The active one is marked with *. "hive-c0re rollback AGENT NUMBER" deploys one of them again.

    \b
    Examples:
      hive-c0re history ada
      hive-c0re history ada -n 5
    """
    answer = Client(socket).get(agent_path(agent, "history"), {"limit": limit, "offset": offset})
    if as_json:
        print_json(answer)
        return
    moment = now()
    deployments = answer.get("deployments", [])
    if not deployments:
        click.echo("no deployments to show", err=True)
        return
    for line in render(COLUMNS, [_row(deployment, moment) for deployment in deployments], width()):
        click.echo(line)


def _row(deployment: dict[str, Any], moment: datetime) -> list[str]:
    cells = [
        f"{'*' if deployment.get('current') else ''}{deployment.get('number')}",
        deployment.get("kind"),
        ago(deployment.get("deployed_at"), moment),
        str(deployment.get("commit"))[:_SHORT_SHA],
        deployment.get("by"),
        ", ".join(str(party) for party in deployment.get("approved_by", [])),
    ]
    return [*(escaped_line(str(cell)) for cell in cells), escaped_first_line(str(deployment.get("note", "")))]

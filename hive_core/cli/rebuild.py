"""`hive-c0re rebuild`: build what agents run on anew, and deploy that."""

from __future__ import annotations

from typing import Any

import click

from hive_core.cli import colours
from hive_core.cli.arguments import complete_agents
from hive_core.cli.client import Client, agent_path
from hive_core.cli.errors import Failure, NoDaemon
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.proposal_names import shown_proposal
from hive_core.cli.untrusted import one_line
from hive_core.cli.waiting import follow, is_over, standing

Answer = dict[str, Any]


@click.command()
@click.argument("names", metavar="AGENT...", nargs=-1, shell_complete=complete_agents)
@click.option("--outdated", is_flag=True, help="All agents that were built with an older hyperhive.")
@click.option("--reason", metavar="TEXT", default="", help="Why; kept in the tag.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the deployments.")
@json_option
@click.pass_obj
def rebuild(
    socket: str | None, names: tuple[str, ...], outdated: bool, reason: str, no_wait: bool, as_json: bool
) -> None:
    """Build what agents run on anew, and deploy that.

    They get the hyperhive of now; their configurations stay as they are, and nobody has to approve. A few agents go
    side by side. An agent that does not come up goes back to what it ran on before.
    """
    if bool(names) == outdated:
        raise click.UsageError("Name agents, or say --outdated.")
    client = Client(socket)
    if outdated:
        names = tuple(str(agent.get("name")) for agent in client.get("/v1/agents")["agents"] if agent["needs_update"])
    answers: list[Answer] = []
    refused: list[Failure] = []
    for name in dict.fromkeys(names):
        try:
            answers.append(client.post(agent_path(name, "rebuild"), {"note": reason}))
        except NoDaemon:
            raise
        except Failure as failure:
            refused.append(failure)  # The others are rebuilt all the same.
    if not no_wait:
        answers = [follow(client, answer, is_over, quiet=as_json) for answer in answers]
    if as_json:
        print_json({"proposals": answers, "total": len(answers)})
    else:
        for answer in answers:
            click.echo(_told(answer))
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


def _told(answer: Answer) -> str:
    if not is_over(answer) or answer.get("state") == "deployed":
        return standing(answer)
    name = shown_proposal(colours.agent(one_line(str(answer.get("agent")))), answer.get("number"))
    return f"{name} {_verb(answer)}: {one_line(str(answer.get('outcome')).partition(chr(10))[0])}"


def _verb(answer: Answer) -> str:
    return "failed" if _has_failed(answer) else f"was {one_line(str(answer.get('state')))}"

"""The commands `propose`, `approve`, `deny` and `withdraw`."""

from __future__ import annotations

import click

from hive_core.cli.arguments import (
    asked_for,
    complete_agents,
    json_option,
    note_option,
    print_json,
    proposal_arguments,
    shown_proposal,
    which_proposal,
)
from hive_core.cli.client import Client, agent_path, proposal_path
from hive_core.cli.waiting import follow, is_over, is_undecided, report, standing

expect_option = click.option(
    "--expect",
    type=click.Choice(["proposal", "building", "built", "approved"]),
    default="built",
    show_default=True,
    help="State that the decision is about; in another one nothing happens.",
)
commit_option = click.option(
    "--commit", metavar="ID", help="Full id of the commit that the decision is about; for another one nothing happens."
)


@click.command()
@proposal_arguments
@expect_option
@commit_option
@note_option
@click.option("--no-wait", is_flag=True, help="Do not wait for the deployment.")
@json_option
@click.pass_obj
def approve(
    socket: str | None,
    agent: str,
    number: str | None,
    expect: str,
    commit: str | None,
    note: str | None,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Approve a proposal and wait until it is deployed.

    It may be said as AGENT/NUMBER, too. What is deployed is exactly what was built and shown. Ctrl-C ends the waiting,
    not the deployment.
    """
    client = Client(socket)
    request = _decision(expect, commit) | ({"note": note} if note else {})
    answer = client.post(proposal_path(*which_proposal(agent, number), "approve"), request)
    if not no_wait:
        # Where two have to agree, the first one's approval leaves it waiting for the second.
        answer = follow(client, answer, lambda proposal: is_over(proposal) or is_undecided(proposal), quiet=as_json)
    report(answer, as_json)


@click.command()
@proposal_arguments
@expect_option
@commit_option
@note_option
@json_option
@click.pass_context
def deny(
    context: click.Context,
    agent: str,
    number: str | None,
    expect: str,
    commit: str | None,
    note: str | None,
    as_json: bool,
) -> None:
    """Deny a proposal, with a reason.

    It may be said as AGENT/NUMBER, too. Who proposed it is told the reason; without --note it is asked for on a
    terminal.
    """
    name, found = which_proposal(agent, number)
    path = proposal_path(name, found, "deny")
    reason = asked_for(context, note, f"Why is {shown_proposal(name, found)} denied?")
    answer = Client(context.obj).post(path, _decision(expect, commit) | {"note": reason})
    if as_json:
        print_json(answer)
    else:
        click.echo(standing(answer))


def _decision(expect: str, commit: str | None) -> dict[str, str]:
    return {"expect": expect} | ({"commit": commit} if commit else {})


@click.command()
@click.argument("agent", metavar="AGENT", shell_complete=complete_agents)
@click.argument("commit")
@note_option
@click.option("--no-wait", is_flag=True, help="Do not wait for the build.")
@json_option
@click.pass_context
def propose(context: click.Context, agent: str, commit: str, note: str | None, no_wait: bool, as_json: bool) -> None:
    """Propose a commit of an agent's configuration.

    COMMIT is the full id of a commit in the agent's config repository. Waits until it is built, and where a rule of
    the settings approves it, until it is deployed. Without --note the reason is asked for on a terminal.
    """
    agent_path(agent)
    reason = asked_for(context, note, "What is the change for?")
    client = Client(context.obj)
    answer = client.post("/v1/proposals", {"agent": agent, "commit": commit, "note": reason})
    if not no_wait:
        answer = follow(client, answer, lambda proposal: is_over(proposal) or is_undecided(proposal), quiet=as_json)
    report(answer, as_json)


@click.command()
@proposal_arguments
@note_option
@json_option
@click.pass_obj
def withdraw(socket: str | None, agent: str, number: str | None, note: str | None, as_json: bool) -> None:
    """Take a proposal of your own back.

    It may be said as AGENT/NUMBER, too.
    """
    path = proposal_path(*which_proposal(agent, number), "withdraw")
    answer = Client(socket).post(path, {"note": note} if note else {})
    if as_json:
        print_json(answer)
    else:
        click.echo(standing(answer))

"""The commands `propose`, `approve`, `deny` and `withdraw`."""

from __future__ import annotations

import click

from hive_core.cli.arguments import (
    complete_agents,
    json_option,
    note_option,
    note_or_prompt,
    parse_proposal,
    print_json,
    proposal_arguments,
    shown_proposal,
)
from hive_core.cli.client import Client, agent_path, proposal_path
from hive_core.cli.waiting import follow, is_over, is_undecided, print_who_decides, report, standing

expect_option = click.option(
    "--expect",
    type=click.Choice(["proposal", "building", "built", "approved"]),
    default="built",
    show_default=True,
    help="State that the proposal must have; in another state nothing happens.",
)
commit_option = click.option(
    "--commit",
    metavar="ID",
    help="Full id of the commit that the proposal must have; with another commit nothing happens.",
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

    AGENT/NUMBER works too. Exactly the build that was shown is deployed. Ctrl-C ends the waiting, not the deployment.

    \b
    Examples:
      hive-c0re approve ada/3
      hive-c0re approve ada/3 --note "as discussed" --no-wait
    """
    client = Client(socket)
    request = _decision(expect, commit) | ({"note": note} if note else {})
    answer = client.post(proposal_path(*parse_proposal(agent, number), "approve"), request)
    if not no_wait:
        # With two approvals needed, the proposal still waits for the second after the first.
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

    AGENT/NUMBER works too. The proposer gets the reason as a message; without --note it is asked for on a terminal.

    \b
    Example:
      hive-c0re deny ada/3 --note "too many tools"
    """
    name, found = parse_proposal(agent, number)
    path = proposal_path(name, found, "deny")
    reason = note_or_prompt(context, note, f"Why is {shown_proposal(name, found)} denied?")
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

    COMMIT is the full id of a commit in the agent's config repository. The command waits until it is built, and until
    it is deployed if a rule of the settings approves it. Without --note the reason is asked for on a terminal.

    \b
    Example:
      hive-c0re propose ada ID --note "a smaller model"
    """
    agent_path(agent)
    reason = note_or_prompt(context, note, "What is the change for?")
    client = Client(context.obj)
    answer = client.post("/v1/proposals", {"agent": agent, "commit": commit, "note": reason})
    if not no_wait:
        answer = follow(client, answer, lambda proposal: is_over(proposal) or is_undecided(proposal), quiet=as_json)
    report(answer, as_json)
    if not as_json:
        print_who_decides(client, answer)


@click.command()
@proposal_arguments
@note_option
@json_option
@click.pass_obj
def withdraw(socket: str | None, agent: str, number: str | None, note: str | None, as_json: bool) -> None:
    """Withdraw your own proposal.

    AGENT/NUMBER works too.

    \b
    Example:
      hive-c0re withdraw ada/3
    """
    path = proposal_path(*parse_proposal(agent, number), "withdraw")
    answer = Client(socket).post(path, {"note": note} if note else {})
    if as_json:
        print_json(answer)
    else:
        click.echo(standing(answer))

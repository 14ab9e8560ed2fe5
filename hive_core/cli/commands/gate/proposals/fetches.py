"""The command `proposals allow-fetches`."""

from __future__ import annotations

from typing import Any

import click

from hive_core.cli.arguments import json_option, parse_proposal, print_json, proposal_arguments, shown_proposal
from hive_core.cli.client import Client, proposal_path
from hive_core.cli.commands.gate.decisions import commit_option
from hive_core.cli.errors import Failure
from hive_core.cli.fetches import fetch_lines
from hive_core.cli.waiting import follow, is_over, is_undecided, report
from hive_core.text import escaped_line


@click.command("allow-fetches")
@proposal_arguments
@commit_option
@click.option("--no-wait", is_flag=True, help="Do not wait for the build.")
@json_option
@click.pass_obj
def allow_fetches(
    socket: str | None, agent: str, number: str | None, commit: str | None, no_wait: bool, as_json: bool
) -> None:
    """Allow the fetches that a build needs, and build again.

    Without --commit it shows what would be allowed, and changes nothing. With it exactly these fetches are allowed, and
    the commit is proposed again, with the same proposer and note. The command waits until that proposal is built, and
    until it is deployed if nobody has to decide on it. AGENT/NUMBER works too.

    \b
    Examples:
      hive-c0re proposals allow-fetches ada/3
      hive-c0re proposals allow-fetches ada/3 --commit ID
    """
    name, found = parse_proposal(agent, number)
    client = Client(socket)
    if commit is None:
        _show(client.get(proposal_path(name, found)), shown_proposal(name, found), as_json)
        return
    answer = client.post(proposal_path(name, found, "allow-fetches"), {"commit": commit})
    if not no_wait:
        answer = follow(client, answer, lambda proposal: is_over(proposal) or is_undecided(proposal), quiet=as_json)
    report(answer, as_json)


def _show(proposal: dict[str, Any], name: str, as_json: bool) -> None:
    """Print the fetches that would be allowed, and how. Raises Failure if there are none."""
    missing = proposal.get("missing_fetches")
    if not missing:
        raise Failure(
            "no_missing_fetches",
            f"{name} is {proposal.get('state')}, and names no fetches that can be allowed",
            hint=f'look with "hive-c0re proposals show {name}"',
        )
    if as_json:
        print_json(proposal)
        return
    before = proposal.get("allowed_fetches") or {}
    fetches = {fetch.get("derivation"): fetch for fetch in (*before.get("fetches", []), *missing)}
    click.echo("\n".join(fetch_lines(list(fetches.values()))))
    command = f"hive-c0re proposals allow-fetches {name} --commit {escaped_line(str(proposal.get('commit')))}"
    click.echo(f"to allow exactly these and build again:\n  {command}", err=True)

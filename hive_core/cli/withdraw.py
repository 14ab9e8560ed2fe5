"""`hive-c0re withdraw`: take a proposal back."""

from __future__ import annotations

import click

from hive_core.cli.client import Client, proposal_path
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.notes import note_option
from hive_core.cli.proposal_names import proposal_arguments, which_proposal
from hive_core.cli.waiting import standing


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

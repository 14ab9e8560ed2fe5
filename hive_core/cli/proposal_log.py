"""`hive-c0re proposals log`: what a build printed."""

from __future__ import annotations

import time
from typing import Any

import click

from hive_core.cli.client import Client, proposal_path
from hive_core.cli.errors import Failure
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.logs import print_lines
from hive_core.cli.proposal_names import proposal_arguments, which_proposal

_POLL_SECONDS = 2.0
_RETRY_SECONDS = 0.5
_TO_COME = frozenset({"proposal", "building"})


@click.command()
@proposal_arguments
@click.option("-n", "--lines", "count", type=int, default=100, show_default=True, help="How many lines, the last.")
@click.option("-f", "--follow", "follows", is_flag=True, help="Go on with what comes, until the build is over.")
@json_option
@click.pass_obj
def log(socket: str | None, agent: str, number: str | None, count: int, follows: bool, as_json: bool) -> None:
    """Show what a proposal's build printed.

    It may be said as AGENT/NUMBER, too.
    """
    client = Client(socket)
    path = proposal_path(*which_proposal(agent, number))
    show = print_json if as_json else print_lines
    going_on = follows and _is_building(client, path)
    answer = client.get(f"{path}/log", {"lines": count})
    show(answer)
    cursor = str(answer.get("cursor"))
    while going_on:
        try:
            # Asked before the lines: what the build prints last is there once its state has changed.
            going_on = _is_building(client, path)
            wait = _POLL_SECONDS if going_on else 0.0
            answer = client.get(f"{path}/log", {"cursor": cursor, "wait_seconds": wait}, wait=wait)
        except Failure as failure:
            if not failure.passing:
                raise
            going_on = True
            time.sleep(_RETRY_SECONDS)
            continue
        cursor = str(answer.get("cursor"))
        if answer.get("lines"):
            show(answer)


def _is_building(client: Client, path: str) -> bool:
    proposal: dict[str, Any] = client.get(path)
    return proposal.get("state") in _TO_COME

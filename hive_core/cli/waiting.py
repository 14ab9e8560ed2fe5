"""Following a proposal to where it stops, and telling on the way what becomes of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click

from hive_core.cli import colours
from hive_core.cli.client import Client, proposal_path
from hive_core.cli.errors import Failure
from hive_core.cli.json_output import print_json
from hive_core.cli.proposal_names import shown_proposal
from hive_core.cli.untrusted import one_line

_POLL_SECONDS = 60.0
_RETRY_SECONDS = 0.5
_ENDED = frozenset({"deployed", "failed", "denied", "withdrawn"})

Answer = dict[str, Any]


def is_over(proposal: Answer) -> bool:
    """Whether nothing more will become of it."""
    return proposal.get("state") in _ENDED


def is_undecided(proposal: Answer) -> bool:
    """Whether it is built and waits for somebody."""
    return proposal.get("state") == "built" and proposal.get("waits_for") is not None


def follow(client: Client, proposal: Answer, stops: Callable[[Answer], bool], *, quiet: bool) -> Answer:
    """The proposal once it `stops`; unless `quiet` each state is a line on stderr. Outlives a restart of the daemon."""
    agent, number = str(proposal.get("agent")), int(proposal.get("number", -1))
    path = proposal_path(agent, number)
    state = ""
    while True:
        if proposal.get("state") != state:
            state = str(proposal.get("state"))
            if not quiet:
                _tell(proposal)
        if stops(proposal):
            return proposal
        query = {"unlike": state, "wait_seconds": _POLL_SECONDS}
        try:
            proposal = client.get(path, query, wait=_POLL_SECONDS)
        except Failure as failure:
            if not failure.passing:
                raise
            time.sleep(_RETRY_SECONDS)


def report(proposal: Answer, as_json: bool) -> None:
    """Where the proposal stands, on stdout. One that ended otherwise than deployed or taken back is a failure."""
    name = shown_proposal(str(proposal.get("agent")), proposal.get("number"))
    state, outcome = str(proposal.get("state")), str(proposal.get("outcome") or "no reason given")
    if as_json:
        print_json(proposal)
    if is_over(proposal) and state != "deployed":
        hint = f'look with "hive-c0re proposals show {name}" and "hive-c0re proposals log {name}"'
        was = "failed" if state == "failed" else f"was {state}"
        raise Failure("proposal_ended", f"proposal {name} {was}: {outcome}", hint=hint)
    if not as_json:
        click.echo(standing(proposal))


def standing(proposal: Answer) -> str:
    """One line: the proposal, its state, and whom it waits for."""
    name = shown_proposal(colours.agent(one_line(str(proposal.get("agent")))), proposal.get("number"))
    waits_for = proposal.get("waits_for")
    waits = f" and waits for the {one_line(str(waits_for))}" if waits_for is not None else ""
    state = one_line(str(proposal.get("state")))
    return f"{name} is {colours.state(state, 'proposed' if state == 'proposal' else state)}{waits}"


def _tell(proposal: Answer) -> None:
    name = shown_proposal(one_line(str(proposal.get("agent"))), proposal.get("number"))
    click.echo(f"{name}: {one_line(str(proposal.get('state')))}", err=True)

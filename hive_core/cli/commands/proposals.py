"""`hive-c0re proposals`: look at proposals. This module is the group and its list."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from hive_core.cli import colours
from hive_core.cli.arguments import complete_agents
from hive_core.cli.client import Client
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.lazy import Lazy, LazyGroup
from hive_core.cli.output import Column, render
from hive_core.cli.proposal_names import shown_proposal
from hive_core.cli.terminal import width
from hive_core.cli.times import ago, now
from hive_core.cli.untrusted import first_line, one_line

COMMANDS = {
    "list": Lazy("hive_core.cli.commands.proposals:list_proposals", "List proposals, the newest first."),
    "show": Lazy("hive_core.cli.proposal_view:show", "Show what a decision on a proposal needs."),
    "diff": Lazy("hive_core.cli.proposal_view:diff", "Show what a proposal changes."),
    "log": Lazy("hive_core.cli.proposal_log:log", "Show what a proposal's build printed."),
    "reindex": Lazy("hive_core.cli.reindex:reindex", "Make the index of proposals anew from the tags."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, default="list", options_metavar="", subcommand_metavar="[COMMAND] [ARGS]...")
def proposals() -> None:
    """List proposals and look at them.

    Without a command it is "list", which takes its options here, too.
    """


def _proposal(text: str, padded: str) -> str:
    return colours.agent(text.partition("/")[0], padded)


COLUMNS = (
    Column("PROPOSAL", 9, style=_proposal),
    Column("KIND", 5),
    Column("STATE", 8, style=colours.state),
    Column("WAITS FOR", 7),
    Column("BY", 4),
    Column("PROPOSED", 3),
    Column("NOTE", 6),
)


@click.command("list")
@click.option("--agent", metavar="AGENT", shell_complete=complete_agents, help="Those of this agent only.")
@click.option(
    "--state",
    type=click.Choice(["open", "ended", "all"]),
    default="open",
    show_default=True,
    help="Those that are under way or wait, those that have ended, or both.",
)
@click.option("-n", "--limit", type=int, default=100, show_default=True, help="Most proposals to show, the newest.")
@click.option("--offset", type=int, default=0, help="Leave out so many of the newest.")
@json_option
@click.pass_obj
def list_proposals(socket: str | None, agent: str | None, state: str, limit: int, offset: int, as_json: bool) -> None:
    """List proposals, the newest first.

    A narrow terminal shows fewer columns.
    """
    query = {"agent": agent, "state": state, "limit": limit, "offset": offset}
    answer = Client(socket).get("/v1/proposals", query)
    if as_json:
        print_json(answer)
        return
    found = answer.get("proposals", [])
    moment = now()
    if found:
        click.echo("\n".join(render(COLUMNS, [_row(proposal, moment) for proposal in found], width())))
    else:
        click.echo("no proposals to show" if state != "open" else "no open proposals (--state all shows all)", err=True)
    more = int(answer.get("total", 0)) - offset - len(found)
    if found and more > 0:
        click.echo(f"older ones beside these: {more}", err=True)


def _row(proposal: dict[str, Any], moment: datetime) -> list[str]:
    cells = [
        shown_proposal(str(proposal.get("agent")), proposal.get("number")),
        proposal.get("kind"),
        proposal.get("state"),
        proposal.get("waits_for") or "",
        proposal.get("by"),
        ago(proposal.get("created_at"), moment),
    ]
    return [*(one_line(str(cell)) for cell in cells), first_line(str(proposal.get("note", "")))]

"""`hive-c0re proposals reindex`: make the index of proposals anew."""

from __future__ import annotations

import click

from hive_core.cli.client import Client
from hive_core.cli.json_output import json_option, print_json

_PATIENCE_SECONDS = 3_600.0


@click.command()
@json_option
@click.pass_obj
def reindex(socket: str | None, as_json: bool) -> None:
    """Make the index of proposals anew from the tags.

    The tags in the applied repositories are the truth; the daemon keeps the index by itself. This is for an index that
    was damaged or restored from an older backup.
    """
    answer = Client(socket).post("/v1/proposals/reindex", {}, wait=_PATIENCE_SECONDS)
    if as_json:
        print_json(answer)
        return
    agents, proposals, changed = (answer.get(key) for key in ("agents", "proposals", "changed"))
    click.echo(f"proposals: {proposals}, of agents: {agents}, told otherwise by the old index: {changed}")

"""`hive-c0re status`: the daemon and its hive at a glance."""

from __future__ import annotations

from typing import Any

import click

from hive_core.cli.client import Client
from hive_core.cli.colours import agent, dim, state
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.times import duration, now
from hive_core.cli.untrusted import one_line


@click.command()
@json_option
@click.pass_obj
def status(socket: str | None, as_json: bool) -> None:
    """Show the daemon and its hive at a glance."""
    client = Client(socket)
    answer = client.get("/v1/status")
    if as_json:
        print_json(answer)
        return
    facts = _facts(answer)
    agents = client.get("/v1/agents").get("agents", [])
    for one in agents:
        if one.get("status"):
            facts.append(("At work", f"{agent(one_line(str(one.get('name'))))}: {one_line(str(one['status']))}"))
    old = sum(bool(one.get("needs_update")) for one in agents)
    if old:
        facts.append(("Updates", f'{old} built with an older hyperhive: see "hive-c0re rebuild --outdated"'))
    wide = max(len(name) for name, _ in facts)
    for name, fact in facts:
        click.echo(f"{dim(name.ljust(wide))}  {fact}")


def _facts(answer: dict[str, Any]) -> list[tuple[str, str]]:
    agents = ", ".join(f"{count} {state(word)}" for word, count in answer.get("agents", {}).items() if count)
    unread, questions = answer.get("operator_unread", 0), answer.get("open_questions", 0)
    running = duration(answer.get("started_at"), now())
    return [
        ("Daemon", f"hive-c0re {answer.get('version')}, process {answer.get('pid')}, up for {running}"),
        ("State", one_line(str(answer.get("state_dir")))),
        ("Runtime", one_line(str(answer.get("runtime")))),
        ("Confinement", one_line(str(answer.get("confinement")))),
        ("Agents", agents or 'none yet: make one with "hive-c0re spawn NAME"'),
        ("Messages", f"{answer.get('messages_stored')} stored, {answer.get('messages_unacked')} not yet handled"),
        ("Questions", f'{questions} open: see them with "hive-c0re questions"' if questions else "none open"),
        ("Inbox", f'{unread} unread: read them with "hive-c0re inbox"' if unread else "nothing unread"),
    ]

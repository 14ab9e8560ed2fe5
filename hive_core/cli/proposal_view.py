"""`hive-c0re proposals show` and `diff`: one proposal."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from textwrap import indent
from typing import Any

import click

from hive_core.cli import colours
from hive_core.cli.client import Client, proposal_path
from hive_core.cli.diff_lines import coloured
from hive_core.cli.json_output import json_option, print_json
from hive_core.cli.proposal_names import proposal_arguments, shown_proposal, which_proposal
from hive_core.cli.times import ago, moment, now
from hive_core.cli.untrusted import one_line, visible

_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""What git calls a tree without files."""
_APPLIED = "STATE_DIR/applied"


@click.command()
@proposal_arguments
@json_option
@click.pass_obj
def show(socket: str | None, agent: str, number: str | None, as_json: bool) -> None:
    """Show what a decision on a proposal needs.

    Who proposed what and why, what it was built to, and the changes of settings in words. It may be said as
    AGENT/NUMBER, too.
    """
    answer = Client(socket).get(proposal_path(*which_proposal(agent, number)))
    if as_json:
        print_json(answer)
        return
    facts = _facts(answer, now())
    wide = max(len(name) for name, _ in facts)
    for name, fact in facts:
        click.echo(f"{colours.dim(name.ljust(wide))}  {fact}")
    _part("Note", [visible(str(answer.get("note", "")))])
    _part("Changes of settings", [one_line(str(line)) for line in answer.get("settings", [])])
    _part("Changes of what is built", [one_line(str(line)) for line in answer.get("closure_changes", [])])


@click.command()
@proposal_arguments
@json_option
@click.pass_obj
def diff(socket: str | None, agent: str, number: str | None, as_json: bool) -> None:
    """Show what a proposal changes.

    What a terminal would act on is shown as an escape; --json has the text as it is. It may be said as AGENT/NUMBER,
    too.
    """
    name, found = which_proposal(agent, number)
    answer = Client(socket).get(proposal_path(name, found))
    if as_json:
        print_json(answer)
        return
    text = str(answer.get("diff", ""))
    for line in coloured(text):
        click.echo(line)
    full, shown = int(answer.get("diff_bytes", 0)), len(text.encode(errors="surrogatepass"))
    if not text:
        click.echo("nothing changes in the files", err=True)
    elif full > shown:
        between = one_line(f"{answer.get('base') or _EMPTY_TREE} {answer.get('commit')}")
        whole = f"git -C {_APPLIED}/{name}.git diff {between}"
        click.echo(f"the first {shown} of {full} bytes; for all of them, on the host:\n  {whole}", err=True)


def _facts(answer: dict[str, Any], present: datetime) -> list[tuple[str, str]]:
    def text(key: str) -> str:
        return one_line(str(answer.get(key)))

    state = text("state")
    facts = [
        ("Proposal", f"{shown_proposal(colours.agent(text('agent')), answer.get('number'))} ({text('kind')})"),
        ("State", f"{colours.state(state)}, {ago(answer.get('changed_at'), present)}"),
        ("Proposed", f"by {text('by')}, {ago(answer.get('created_at'), present)}"),
        ("Commit", text("commit")),
        ("On top of", text("base") if answer.get("base") is not None else "nothing"),
    ]
    if answer.get("closure") is not None:
        facts.append(("Built to", text("closure")))
    if answer.get("approvals"):
        facts.append(("Approved by", one_line(", ".join(str(party) for party in answer["approvals"]))))
    if answer.get("waits_for") is not None:
        until = moment(answer.get("expires_at"))
        facts.append(("Waits for", f"the {text('waits_for')}{', until ' + until if until else ''}"))
    if answer.get("outcome"):
        facts.append(("Outcome", text("outcome")))
    name = shown_proposal(text("agent"), answer.get("number"))
    facts.append(("Diff", f'{answer.get("diff_bytes")} bytes: see them with "hive-c0re proposals diff {name}"'))
    return facts


def _part(title: str, lines: Iterable[str]) -> None:
    text = "\n".join(lines)
    if text.strip():
        click.echo(f"\n{colours.dim(title)}\n{indent(text.rstrip(), '  ')}")

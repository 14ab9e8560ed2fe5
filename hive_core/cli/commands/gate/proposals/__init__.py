"""The commands `proposals list`, `show`, `diff`, `log` and `reindex`; the others have modules of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from textwrap import indent
from typing import Any

import click

from hive_core.cli.arguments import (
    complete_agents,
    json_option,
    pager_option,
    parse_proposal,
    print_json,
    proposal_arguments,
    shown_proposal,
)
from hive_core.cli.client import Client, proposal_path
from hive_core.cli.fetches import fetch_sections
from hive_core.cli.lazy import Lazy, LazyGroup
from hive_core.cli.output import (
    Column,
    ago,
    coloured_agent,
    coloured_state,
    dim,
    moment,
    now,
    page,
    render,
    width,
)
from hive_core.cli.waiting import follow_log
from hive_core.text import PLAIN_DIFF, describe_file, escaped_first_line, escaped_line, is_hidden, visible

COMMANDS = {
    "list": Lazy("hive_core.cli.commands.gate.proposals:list_proposals", "List proposals, the newest first."),
    "show": Lazy("hive_core.cli.commands.gate.proposals:show", "Show a proposal with its facts and changes."),
    "diff": Lazy("hive_core.cli.commands.gate.proposals:diff", "Show the diff of a proposal."),
    "allow-fetches": Lazy(
        "hive_core.cli.commands.gate.proposals.fetches:allow_fetches",
        "Allow the fetches that a build needs, and build again.",
    ),
    "log": Lazy("hive_core.cli.commands.gate.proposals:log", "Show the build log of a proposal."),
    "prune": Lazy("hive_core.cli.commands.gate.proposals.prune:prune", "Remove the files of ended proposals."),
    "reindex": Lazy(
        "hive_core.cli.commands.gate.proposals:reindex", "Rebuild the index of proposals and work from the tags."
    ),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, default="list", options_metavar="", subcommand_metavar="[COMMAND] [ARGS]...")
def proposals() -> None:
    """List and inspect proposals.

    Without a command it runs "list", whose options work here too.
    """


def _proposal(text: str, padded: str) -> str:
    return coloured_agent(text.partition("/")[0], padded)


COLUMNS = (
    Column("PROPOSAL", 9, style=_proposal),
    Column("KIND", 5),
    Column("STATE", 8, style=coloured_state),
    Column("WAITS FOR", 7),
    Column("BY", 4),
    Column("PROPOSED", 3),
    Column("NOTE", 6),
)


@click.command("list")
@click.option("--agent", metavar="AGENT", shell_complete=complete_agents, help="Show only proposals of this agent.")
@click.option(
    "--state",
    type=click.Choice(["open", "ended", "all"]),
    default="open",
    show_default=True,
    help="Show open proposals, ended ones, or both.",
)
@click.option(
    "-n", "--limit", type=int, default=100, show_default=True, help="Number of proposals to show, the newest."
)
@click.option("--offset", type=int, default=0, help="Number of the newest to skip.")
@json_option
@click.pass_obj
def list_proposals(socket: str | None, agent: str | None, state: str, limit: int, offset: int, as_json: bool) -> None:
    """List proposals, the newest first.

    A narrow terminal shows fewer columns.

    \b
    Examples:
      hive-c0re proposals
      hive-c0re proposals list --agent ada --state all
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
        click.echo(f"more, older proposals: {more}", err=True)


def _row(proposal: dict[str, Any], moment: datetime) -> list[str]:
    cells = [
        shown_proposal(str(proposal.get("agent")), proposal.get("number")),
        proposal.get("kind"),
        proposal.get("state"),
        proposal.get("waits_for") or "",
        proposal.get("by"),
        ago(proposal.get("created_at"), moment),
    ]
    return [*(escaped_line(str(cell)) for cell in cells), escaped_first_line(str(proposal.get("note", "")))]


_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""Id of git's empty tree."""
_APPLIED = "STATE_DIR/applied"


@click.command()
@proposal_arguments
@json_option
@click.pass_obj
def show(socket: str | None, agent: str, number: str | None, as_json: bool) -> None:
    """Show a proposal with its facts and changes.

    Shows the proposer, the closure that was built, all changed files, the reason, and the changes of settings and of
    the closure.
    AGENT/NUMBER works too.

    \b
    Example:
      hive-c0re proposals show ada/3
    """
    answer = Client(socket).get(proposal_path(*parse_proposal(agent, number)))
    if as_json:
        print_json(answer)
        return
    facts = _facts(answer, now())
    name_width = max(len(name) for name, _ in facts)
    for name, fact in facts:
        click.echo(f"{dim(name.ljust(name_width))}  {fact}")
    _print_section("Changed files", [line for line, _ in _files(answer)])
    _print_section("Note", [visible(str(answer.get("note", "")))])
    for title, lines in fetch_sections(answer):
        _print_section(title, lines)
    _print_section("Changes of settings", [escaped_line(str(line)) for line in answer.get("settings", [])])
    _print_section("Changes of the closure", [escaped_line(str(line)) for line in answer.get("closure_changes", [])])


@click.command()
@proposal_arguments
@pager_option
@json_option
@click.pass_obj
def diff(socket: str | None, agent: str, number: str | None, pager: bool, as_json: bool) -> None:
    """Show the diff of a proposal.

    Control characters are shown as escapes; --json has the unchanged text. AGENT/NUMBER works too.

    \b
    Example:
      hive-c0re proposals diff ada/3
    """
    name, found = parse_proposal(agent, number)
    answer = Client(socket).get(proposal_path(name, found))
    if as_json:
        print_json(answer)
        return
    files = _files(answer)
    hidden = [line for line, is_cut in files if is_cut]
    if hidden:
        lines = "\n".join(f"  {line}" for line in hidden)
        click.echo(f"files that change: {len(files)}; of these, not all is shown here:\n{lines}", err=True)
    text, full = str(answer.get("diff", "")), int(answer.get("diff_bytes", 0))
    page(list(coloured(text)), pager)
    if not text and not files:
        click.echo("its files were removed" if answer.get("pruned") else "the files do not change", err=True)
    elif hidden or full > len(text.encode(errors="surrogatepass")):
        between = escaped_line(f"{answer.get('base') or _EMPTY_TREE} {answer.get('commit')}")
        whole = f"git -C {_APPLIED}/{name}.git diff {PLAIN_DIFF} {between}"
        click.echo(f"the diff has {full} bytes; to see all of it, run on the host:\n  {whole}", err=True)


def _files(answer: dict[str, Any]) -> list[tuple[str, bool]]:
    """Return a line for each changed file, and True with it if not all of its change is shown."""
    found = []
    for file in answer.get("files", []):
        size, shown, is_text = int(file["size"]), int(file["shown"]), bool(file.get("is_text", True))
        line = describe_file(str(file["path"]), str(file["change"]), size, shown, is_text=is_text)
        found.append((escaped_line(line), is_hidden(size, shown, is_text=is_text)))
    return found


def _facts(answer: dict[str, Any], present: datetime) -> list[tuple[str, str]]:
    def text(key: str) -> str:
        return escaped_line(str(answer.get(key)))

    state = text("state")
    facts = [
        ("Proposal", f"{shown_proposal(coloured_agent(text('agent')), answer.get('number'))} ({text('kind')})"),
        ("State", f"{coloured_state(state)}, {ago(answer.get('changed_at'), present)}"),
        ("Proposed", f"by {text('by')}, {ago(answer.get('created_at'), present)}"),
        ("Commit", text("commit")),
        ("On top of", text("base") if answer.get("base") is not None else "nothing"),
    ]
    if answer.get("closure") is not None:
        facts.append(("Closure", text("closure")))
    if answer.get("approvals"):
        facts.append(("Approved by", escaped_line(", ".join(str(party) for party in answer["approvals"]))))
    if answer.get("waits_for") is not None:
        until = moment(answer.get("expires_at"))
        facts.append(("Waits for", f"the {text('waits_for')}{', until ' + until if until else ''}"))
    if answer.get("outcome"):
        facts.append(("Outcome", text("outcome")))
    name = shown_proposal(text("agent"), answer.get("number"))
    if answer.get("missing_fetches"):
        facts.append(("Fetches", f'allow those below with "hive-c0re proposals allow-fetches {name}"'))
    if answer.get("pruned"):
        facts.append(("Files", 'removed with "hive-c0re proposals prune"; the audit table tells by whom'))
        return facts
    facts.append(("Diff", f'{answer.get("diff_bytes")} bytes: show it with "hive-c0re proposals diff {name}"'))
    return facts


def _print_section(title: str, lines: Iterable[str]) -> None:
    text = "\n".join(lines)
    if text.strip():
        click.echo(f"\n{dim(title)}\n{indent(text.rstrip(), '  ')}")


_IN_HUNK = {"+": "green", "-": "red"}


def coloured(diff: str) -> Iterator[str]:
    """Colour the lines of a unified diff and escape control characters; nothing else is changed."""
    in_hunk = False
    # Within a hunk every line starts with a space, "+", "-" or "\\", so a line of an agent cannot look like a header.
    for line in diff.removesuffix("\n").split("\n") if diff else []:
        shown = visible(line)
        if line.startswith("@@"):
            in_hunk = True
            yield click.style(shown, fg="cyan")
        elif in_hunk and line[:1] in (" ", "+", "-", "\\"):
            colour = _IN_HUNK.get(line[:1])
            yield click.style(shown, fg=colour) if colour else shown
        else:
            in_hunk = False
            yield click.style(shown, bold=True)


@click.command()
@proposal_arguments
@click.option("-n", "--lines", type=int, default=100, show_default=True, help="Number of lines to show, the last.")
@click.option("-f", "--follow", "follows", is_flag=True, help="Show new lines too, until the build ends.")
@pager_option
@json_option
@click.pass_obj
def log(
    socket: str | None, agent: str, number: str | None, lines: int, follows: bool, pager: bool, as_json: bool
) -> None:
    """Show the build log of a proposal.

    AGENT/NUMBER works too.

    \b
    Examples:
      hive-c0re proposals log ada/3
      hive-c0re proposals log ada/3 -f
    """
    path = proposal_path(*parse_proposal(agent, number))
    follow_log(Client(socket), path, lines, follows=follows, pager=pager, as_json=as_json)


_PATIENCE_SECONDS = 3_600.0


@click.command()
@json_option
@click.pass_obj
def reindex(socket: str | None, as_json: bool) -> None:
    """Rebuild the index of proposals and work from the tags.

    The tags in the applied repositories and the work repositories are authoritative, and the daemon keeps the index up
    to date. This is for an index that was damaged or restored from an older backup.

    \b
    Example:
      hive-c0re proposals reindex
    """
    answer = Client(socket).post("/v1/proposals/reindex", {}, wait=_PATIENCE_SECONDS)
    if as_json:
        print_json(answer)
        return
    agents, proposals, changed = (answer.get(key) for key in ("agents", "proposals", "changed"))
    work, repositories = answer.get("work", 0), answer.get("repositories", 0)
    of_work = f", work: {work}, repositories: {repositories}" if repositories else ""
    click.echo(f"proposals: {proposals}, agents: {agents}{of_work}, index entries corrected: {changed}")

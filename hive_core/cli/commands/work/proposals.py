"""The commands `work list`, `show`, `diff` and `log`; those that decide have a module of their own."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import indent
from typing import Any

import click

from hive_core.cli.arguments import complete_repositories, json_option, pager_option, print_json
from hive_core.cli.client import Client, work_path
from hive_core.cli.commands.gate.proposals import coloured
from hive_core.cli.commands.work.work_names import (
    Answer,
    coloured_word,
    decider_of,
    parse_work,
    state_word,
    work_argument,
    work_name,
)
from hive_core.cli.lazy import Lazy, LazyGroup
from hive_core.cli.output import Column, ago, coloured_state, dim, now, page, render, width
from hive_core.cli.waiting import follow_log
from hive_core.text import describe_file, escaped_first_line, escaped_line, visible

_HERE = "hive_core.cli.commands.work.proposals"
_DECISIONS = "hive_core.cli.commands.work.decisions"
COMMANDS = {
    "list": Lazy(f"{_HERE}:list_work", "List work, the newest first."),
    "show": Lazy(f"{_HERE}:show", "Show work with its checks, files and comments."),
    "diff": Lazy(f"{_HERE}:diff", "Show the diff of work."),
    "log": Lazy(f"{_HERE}:log", "Show the log of the checks of work."),
    "approve": Lazy(f"{_DECISIONS}:approve", "Approve work and wait until it has landed."),
    "deny": Lazy(f"{_DECISIONS}:deny", "Deny work, with a reason."),
    "withdraw": Lazy(f"{_DECISIONS}:withdraw", "Withdraw work that you have submitted."),
    "comment": Lazy(f"{_DECISIONS}:comment", "Comment on work, or on a line of it."),
    "retry": Lazy(f"{_DECISIONS}:retry", "Submit failed or withdrawn work again."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, default="list", options_metavar="", subcommand_metavar="[COMMAND] [ARGS]...")
def work() -> None:
    """Review and land the work of agents.

    Work is a commit that an agent submits for a repository. It is named REPO/NUMBER, such as web/3. Without a command
    it runs "list", whose options work here too.
    """


COLUMNS = (
    Column("WORK", 9),
    Column("STATE", 8, style=coloured_word),
    Column("WAITS FOR", 7),
    Column("BY", 4),
    Column("SUBMITTED", 3),
    Column("TITLE", 6),
)


@click.command("list")
@click.option(
    "--repo", metavar="REPO", shell_complete=complete_repositories, help="Show only work for this repository."
)
@click.option(
    "--state",
    type=click.Choice(["open", "ended", "all"]),
    default="open",
    show_default=True,
    help="Show open work, ended work, or both.",
)
@click.option("-n", "--limit", type=int, default=100, show_default=True, help="Number of proposals, the newest.")
@click.option("--offset", type=int, default=0, help="Number of the newest to skip.")
@json_option
@click.pass_obj
def list_work(socket: str | None, repo: str | None, state: str, limit: int, offset: int, as_json: bool) -> None:
    """List work, the newest first.

    A narrow terminal shows fewer columns.

    \b
    Examples:
      hive-c0re work
      hive-c0re work list --repo web --state all
    """
    query = {"repo": repo, "state": state, "limit": limit, "offset": offset}
    answer = Client(socket).get("/v1/work", query)
    if as_json:
        print_json(answer)
        return
    found = answer.get("work", [])
    present = now()
    if not found:
        click.echo("no work to show" if state != "open" else "no open work (--state all shows all)", err=True)
        return
    rows = [
        [
            work_name(item),
            state_word(str(item.get("state"))),
            decider_of(item) or "-",
            escaped_line(str(item.get("by"))),
            ago(item.get("created_at"), present),
            escaped_first_line(str(item.get("title"))),
        ]
        for item in found
    ]
    click.echo("\n".join(render(COLUMNS, rows, width())))
    more = int(answer.get("total", 0)) - offset - len(found)
    if more > 0:
        click.echo(f"more, older work: {more}", err=True)


@click.command()
@work_argument
@json_option
@click.pass_obj
def show(socket: str | None, name: str, as_json: bool) -> None:
    """Show work: its state, its checks, its commits, the files that it changes, and the comments on it.

    \b
    Example:
      hive-c0re work show web/3
    """
    answer = Client(socket).get(work_path(*parse_work(name)))
    if as_json:
        print_json(answer)
        return
    present = now()
    for key, value in _facts(answer, present):
        click.echo(f"{dim(key + ':')} {value}")
    commits = [
        escaped_line(f"{str(item.get('commit'))[:12]} {item.get('subject')} ({item.get('author')})")
        for item in answer.get("commits", [])
    ]
    _print_section("Description, in the words of who submitted it:", [visible(str(answer.get("description", "")))])
    _print_section("Checks:", [escaped_line(str(line)) for line in answer.get("checks", [])] or ["no checks"])
    _print_section("Commits, whose authors are what they claim to be:", commits)
    _print_section("Files:", [file_line(item) for item in answer.get("files", [])])
    _print_section("Comments:", list(_comments(answer.get("comments", []), present)))


@click.command()
@work_argument
@pager_option
@json_option
@click.pass_obj
def diff(socket: str | None, name: str, pager: bool, as_json: bool) -> None:
    """Show the diff of work. Files that are no text are only named.

    Control characters are shown as escapes; --json has the unchanged text.

    \b
    Example:
      hive-c0re work diff web/3
    """
    answer = Client(socket).get(work_path(*parse_work(name)))
    if as_json:
        print_json(answer)
        return
    text, full = str(answer.get("diff", "")), int(answer.get("diff_bytes", 0))
    page(list(coloured(text)), pager)
    if not text:
        click.echo("its files were removed" if answer.get("pruned") else "the files do not change", err=True)
    elif full > len(text.encode(errors="surrogatepass")):
        between = escaped_line(f"{answer.get('base')} {answer.get('commit')}")
        whole = f"git -C /var/lib/hyperhive/work/{escaped_line(str(answer.get('repo')))}.git diff {between}"
        click.echo(f"the diff has {full} bytes; to see all of it, run on the host:\n  {whole}", err=True)


@click.command()
@work_argument
@click.option("-n", "--lines", type=int, default=100, show_default=True, help="Number of lines to show, the last.")
@click.option("-f", "--follow", "follows", is_flag=True, help="Show new lines too, until the checks end.")
@pager_option
@json_option
@click.pass_obj
def log(socket: str | None, name: str, lines: int, follows: bool, pager: bool, as_json: bool) -> None:
    """Show the log of the checks of work.

    \b
    Examples:
      hive-c0re work log web/3
      hive-c0re work log web/3 -f
    """
    follow_log(Client(socket), work_path(*parse_work(name)), lines, follows=follows, pager=pager, as_json=as_json)


def _facts(answer: Answer, present: Any) -> Iterator[tuple[str, str]]:
    def text(key: str) -> str:
        return escaped_line(str(answer.get(key)))

    state = str(answer.get("state"))
    yield "Work", f"{work_name(answer)}, for the branch {text('branch')}"
    yield "Title, as submitted", text("title")
    yield (
        "State",
        f"{coloured_state(state, state_word(state))}, {ago(answer.get('changed_at'), present)}",
    )
    yield "Submitted", f"by {text('by')}, {ago(answer.get('created_at'), present)}"
    yield "Commit", text("commit")
    yield "On top of", text("base")
    if answer.get("landed") is not None:
        yield "Landed as", text("landed")
    if answer.get("link"):
        yield "Published at", text("link")
    if answer.get("problem"):
        what = "Not published yet" if answer.get("landed") is not None else "Not landed yet"
        yield what, f"{text('problem')}; it is tried again"
    if answer.get("approvals"):
        yield "Approved by", escaped_line(", ".join(str(party) for party in answer["approvals"]))
    if decider_of(answer):
        yield "Waits for", decider_of(answer)
    if answer.get("outcome"):
        yield "Outcome", text("outcome")
    if answer.get("pruned"):
        yield "Files", "removed, to free space; the audit table tells by whom"
    else:
        yield "Diff", f'{answer.get("diff_bytes")} bytes: show it with "hive-c0re work diff {work_name(answer)}"'


def file_line(item: Answer) -> str:
    """Format a changed file as one line."""
    size, part, is_text = int(item["size"]), int(item["shown"]), bool(item.get("is_text", True))
    notes = [str(item.get("kind"))] if item.get("kind") not in (None, "file") else []
    notes += ["binary"] if item.get("binary") else []
    said = f"{', '.join(notes)}: " if notes else ""
    return escaped_line(said + describe_file(str(item["path"]), str(item["change"]), size, part, is_text=is_text))


def _comments(items: list[Answer], present: Any) -> Iterator[str]:
    for item in items:
        place = ""
        if item.get("path") is not None:
            line = f":{item['line']}" if item.get("line") is not None else ""
            place = f" on {escaped_line(str(item['path']))}{line}"
        yield f"{escaped_line(str(item.get('by')))}{place}, {ago(item.get('at'), present)}:"
        yield indent(visible(str(item.get("text"))), "  ")


def _print_section(title: str, lines: list[str]) -> None:
    text = "\n".join(lines)
    if text.strip():
        click.echo(f"\n{dim(title)}\n{indent(text.rstrip(), '  ')}")

"""The commands `work list`, `show`, `diff`, `log`, `approve`, `deny`, `withdraw`, `comment` and `retry`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from textwrap import indent
from typing import Any, TypeVar

import click

from hive_core.cli.arguments import json_option, note_option, note_or_prompt, print_json
from hive_core.cli.client import Client, work_path
from hive_core.cli.commands.gate.decisions import commit_option, expect_option
from hive_core.cli.commands.gate.proposals import coloured
from hive_core.cli.errors import Failure
from hive_core.cli.lazy import Lazy, LazyGroup
from hive_core.cli.output import Column, ago, coloured_state, dim, now, print_lines, render, width
from hive_core.text import describe_file, escaped_first_line, escaped_line, shown, visible

_HERE = "hive_core.cli.commands.work.proposals"
COMMANDS = {
    "list": Lazy(f"{_HERE}:list_work", "List work, the newest first."),
    "show": Lazy(f"{_HERE}:show", "Show work with its checks, files and comments."),
    "diff": Lazy(f"{_HERE}:diff", "Show the diff of work."),
    "log": Lazy(f"{_HERE}:log", "Show the log of the checks of work."),
    "approve": Lazy(f"{_HERE}:approve", "Approve work and wait until it has landed."),
    "deny": Lazy(f"{_HERE}:deny", "Deny work, with a reason."),
    "withdraw": Lazy(f"{_HERE}:withdraw", "Withdraw work that you have submitted."),
    "comment": Lazy(f"{_HERE}:comment", "Comment on work, or on a line of it."),
    "retry": Lazy(f"{_HERE}:retry", "Submit failed or withdrawn work again."),
}

F = TypeVar("F", bound=Callable[..., Any])
Answer = dict[str, Any]
_POLL_SECONDS = 60.0
_LOG_SECONDS = 2.0
_RETRY_SECONDS = 0.5
_ENDED = frozenset({"deployed", "failed", "denied", "withdrawn"})
_BEFORE_CHECKED = frozenset({"proposal", "building"})
_WORDS = {"proposal": "submitted", "building": "checking", "built": "checked", "deployed": "landed"}
_LARGEST = 2**63 - 1


@click.group(cls=LazyGroup, lazy=COMMANDS, default="list", options_metavar="", subcommand_metavar="[COMMAND] [ARGS]...")
def work() -> None:
    """Review and land the work of agents: commits that they submit for a repository.

    Without a command it runs "list", whose options work here too. Work is named REPO/NUMBER, such as web/3.
    """


work_argument = click.argument("name", metavar="REPO/NUMBER")
"""Argument REPO/NUMBER: work, for `parse_work`."""


def parse_work(name: str) -> tuple[str, int]:
    """Parse `REPO/NUMBER`. Raises UsageError."""
    repo, _, number = name.partition("/")
    if not (repo and number.isascii() and number.isdigit() and len(number) < 20 and int(number) <= _LARGEST):
        raise click.UsageError(f"{shown(name)} is not the name of work: write REPO/NUMBER, such as web/3.")
    return repo, int(number)


COLUMNS = (
    Column("WORK", 9),
    Column("STATE", 8, style=coloured_state),
    Column("WAITS FOR", 7),
    Column("BY", 4),
    Column("SUBMITTED", 3),
    Column("TITLE", 6),
)


@click.command("list")
@click.option("--repo", metavar="REPO", help="Show only work for this repository.")
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
            _name(item),
            escaped_line(str(item.get("state"))),
            _decider(item) or "-",
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
    """Show work: its state, its checks, its commits, the files that it changes, and the comments on it."""
    answer = Client(socket).get(work_path(*parse_work(name)))
    if as_json:
        print_json(answer)
        return
    present = now()
    for key, value in _facts(answer, present):
        click.echo(f"{dim(key + ':')} {value}")
    commits = [
        f"{str(item.get('commit'))[:12]} {escaped_line(str(item.get('subject')))} ({escaped_line(str(item.get('author')))})"
        for item in answer.get("commits", [])
    ]
    _print_section("Description, in the words of who submitted it:", [visible(str(answer.get("description", "")))])
    _print_section("Checks:", [escaped_line(str(line)) for line in answer.get("checks", [])] or ["no checks"])
    _print_section("Commits, whose authors are what they claim to be:", commits)
    _print_section("Files:", [_file(item) for item in answer.get("files", [])])
    _print_section("Comments:", list(_comments(answer.get("comments", []), present)))


@click.command()
@work_argument
@json_option
@click.pass_obj
def diff(socket: str | None, name: str, as_json: bool) -> None:
    """Show the diff of work. Files that are no text are only named.

    Control characters are shown as escapes; --json has the unchanged text.
    """
    answer = Client(socket).get(work_path(*parse_work(name)))
    if as_json:
        print_json(answer)
        return
    text, full = str(answer.get("diff", "")), int(answer.get("diff_bytes", 0))
    for line in coloured(text):
        click.echo(line)
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
@json_option
@click.pass_obj
def log(socket: str | None, name: str, lines: int, follows: bool, as_json: bool) -> None:
    """Show the log of the checks of work."""
    client = Client(socket)
    path = work_path(*parse_work(name))
    output = print_json if as_json else print_lines
    going_on = follows and _is_checked(client, path)
    answer = client.get(f"{path}/log", {"lines": lines})
    output(answer)
    cursor = str(answer.get("cursor"))
    while going_on:
        try:
            # The state is read before the lines: the last lines of checks are there when the state changes.
            going_on = _is_checked(client, path)
            wait = _LOG_SECONDS if going_on else 0.0
            answer = client.get(f"{path}/log", {"cursor": cursor, "wait_seconds": wait}, wait=wait)
        except Failure as failure:
            if not failure.transient:
                raise
            going_on = True
            time.sleep(_RETRY_SECONDS)
            continue
        cursor = str(answer.get("cursor"))
        if answer.get("lines"):
            output(answer)


@click.command()
@work_argument
@expect_option
@commit_option
@note_option
@click.option("--no-wait", is_flag=True, help="Do not wait for the landing.")
@json_option
@click.pass_obj
def approve(
    socket: str | None,
    name: str,
    expect: str,
    commit: str | None,
    note: str | None,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Approve work and wait until it has landed.

    Exactly the commit that was shown lands, or a merge that has exactly its content. Ctrl-C ends the waiting, not the
    landing.
    """
    client = Client(socket)
    request = _decision(expect, commit) | ({"note": note} if note else {})
    answer = client.post(work_path(*parse_work(name), "approve"), request)
    if not no_wait:
        answer = _follow(client, answer, quiet=as_json)
    _report(answer, as_json)


@click.command()
@work_argument
@expect_option
@commit_option
@note_option
@json_option
@click.pass_context
def deny(context: click.Context, name: str, expect: str, commit: str | None, note: str | None, as_json: bool) -> None:
    """Deny work, with a reason.

    Who submitted it gets the reason as a message; without --note it is asked for on a terminal.
    """
    path = work_path(*parse_work(name), "deny")
    reason = note_or_prompt(context, note, f"Why is {name} denied?")
    _print(Client(context.obj).post(path, _decision(expect, commit) | {"note": reason}), as_json)


@click.command()
@work_argument
@note_option
@json_option
@click.pass_obj
def withdraw(socket: str | None, name: str, note: str | None, as_json: bool) -> None:
    """Withdraw work that you have submitted. That of others is denied."""
    path = work_path(*parse_work(name), "withdraw")
    _print(Client(socket).post(path, {"note": note} if note else {}), as_json)


@click.command()
@work_argument
@click.argument("arguments", nargs=-1, required=True, metavar="[PATH[:LINE]] TEXT")
@json_option
@click.pass_obj
def comment(socket: str | None, name: str, arguments: tuple[str, ...], as_json: bool) -> None:
    """Comment on work: hive-c0re work comment web/3 src/app.py:12 "Why two?"

    Without PATH the comment is about the whole. Who submitted it gets the comment as a message.
    """
    if len(arguments) > 2:
        raise click.UsageError("Write PATH:LINE and TEXT, with the text in quotes.")
    request: Answer = {"text": arguments[-1]}
    if len(arguments) == 2:
        path, colon, line = arguments[0].rpartition(":")
        if colon and line.isascii() and line.isdigit() and 0 < int(line[:12]) <= 100_000_000:
            request |= {"path": path, "line": int(line)}
        else:
            request |= {"path": arguments[0]}
    answer = Client(socket).post(work_path(*parse_work(name), "comments"), request)
    if as_json:
        print_json(answer)
    else:
        click.echo(f"comment {answer.get('id')} is kept with {escaped_line(name)}")


@click.command()
@work_argument
@json_option
@click.pass_obj
def retry(socket: str | None, name: str, as_json: bool) -> None:
    """Submit the commit of failed or withdrawn work again, as new work of the same agent."""
    _print(Client(socket).post(work_path(*parse_work(name), "retry"), {}), as_json)


def _decision(expect: str, commit: str | None) -> dict[str, str]:
    return {"expect": expect} | ({"commit": commit} if commit else {})


def _follow(client: Client, answer: Answer, *, quiet: bool) -> Answer:
    """Poll the work until it has ended or waits for another decision, also across a restart of the daemon."""
    path = work_path(str(answer.get("repo")), int(answer.get("number", -1)))
    state = ""
    while True:
        if answer.get("state") != state:
            state = str(answer.get("state"))
            if not quiet:
                click.echo(f"{_name(answer)}: {escaped_line(_WORDS.get(state, state))}", err=True)
        if state in _ENDED or (state == "built" and answer.get("waits_for") is not None):
            return answer
        try:
            answer = client.get(path, {"unlike": state, "wait_seconds": _POLL_SECONDS}, wait=_POLL_SECONDS)
        except Failure as failure:
            if not failure.transient:
                raise
            time.sleep(_RETRY_SECONDS)


def _report(answer: Answer, as_json: bool) -> None:
    """Print the state of work. Raises Failure if it has ended without landing."""
    state, outcome = str(answer.get("state")), str(answer.get("outcome") or "no reason given")
    if as_json:
        print_json(answer)
    if state in _ENDED - {"deployed"}:
        name = _name(answer)
        hint = f'look with "hive-c0re work show {name}" and "hive-c0re work log {name}"'
        was = "failed" if state == "failed" else f"was {state}"
        raise Failure("proposal_ended", f"work {name} {was}: {outcome}", hint=hint)
    if not as_json:
        click.echo(_standing(answer))


def _print(answer: Answer, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        click.echo(_standing(answer))


def _standing(answer: Answer) -> str:
    decider = _decider(answer)
    waits = f" and waits for {decider}" if decider else ""
    state = str(answer.get("state"))
    landed = f": the branch is at {answer['landed']}" if answer.get("landed") else ""
    return (
        f"{_name(answer)} has {coloured_state(state, 'landed')}{landed}"
        if landed
        else (f"{_name(answer)} is {coloured_state(state, escaped_line(_WORDS.get(state, state)))}{waits}")
    )


def _name(answer: Answer) -> str:
    return escaped_line(f"{answer.get('repo')}/{answer.get('number')}")


def _decider(answer: Answer) -> str:
    waits_for = answer.get("waits_for")
    if waits_for is None:
        return ""
    text = escaped_line(str(waits_for))
    return text.removeprefix("agent:") if text.startswith("agent:") else f"the {text}"


def _is_checked(client: Client, path: str) -> bool:
    answer: Answer = client.get(path)
    return answer.get("state") in _BEFORE_CHECKED


def _facts(answer: Answer, present: Any) -> Iterator[tuple[str, str]]:
    def text(key: str) -> str:
        return escaped_line(str(answer.get(key)))

    state = str(answer.get("state"))
    yield "Work", f"{_name(answer)}, for the branch {text('branch')}"
    yield "Title, as submitted", text("title")
    yield (
        "State",
        f"{coloured_state(state, escaped_line(_WORDS.get(state, state)))}, {ago(answer.get('changed_at'), present)}",
    )
    yield "Submitted", f"by {text('by')}, {ago(answer.get('created_at'), present)}"
    yield "Commit", text("commit")
    yield "On top of", text("base")
    if answer.get("landed") is not None:
        yield "Landed as", text("landed")
    if answer.get("link"):
        yield "Published at", text("link")
    if answer.get("approvals"):
        yield "Approved by", escaped_line(", ".join(str(party) for party in answer["approvals"]))
    if _decider(answer):
        yield "Waits for", _decider(answer)
    if answer.get("outcome"):
        yield "Outcome", text("outcome")
    if answer.get("pruned"):
        yield "Files", "removed, to free space; the audit table tells by whom"
    else:
        yield "Diff", f'{answer.get("diff_bytes")} bytes: show it with "hive-c0re work diff {_name(answer)}"'


def _file(item: Answer) -> str:
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

"""The commands `work approve`, `deny`, `withdraw`, `comment` and `retry`."""

from __future__ import annotations

import time
from contextlib import suppress

import click

from hive_core.cli.arguments import json_option, note_option, note_or_prompt, print_json
from hive_core.cli.client import Client, work_path
from hive_core.cli.commands.gate.decisions import commit_option
from hive_core.cli.commands.work.fetching import update_from_path
from hive_core.cli.commands.work.repositories import repository_path
from hive_core.cli.commands.work.work_names import (
    Answer,
    parse_work,
    standing,
    state_word,
    work_argument,
    work_expect_option,
    work_name,
)
from hive_core.cli.errors import Failure
from hive_core.text import escaped_line

_POLL_SECONDS = 60.0
_RETRY_SECONDS = 0.5
_ENDED = frozenset({"deployed", "failed", "denied", "withdrawn"})


@click.command()
@work_argument
@work_expect_option
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

    Exactly the commit that was shown lands, or a merge that has exactly its content. A repository that was registered
    by its path is fetched before, so that the work lands on what you have committed there. Ctrl-C ends the waiting,
    not the landing.

    \b
    Example:
      hive-c0re work approve web/3
    """
    client = Client(socket)
    request = _decision(expect, commit) | ({"note": note} if note else {})
    repo, number = parse_work(name)
    with suppress(Failure):  # The approval itself says what is wrong with the name.
        update_from_path(client, client.get(repository_path(repo)), quiet=as_json)
    answer = client.post(work_path(repo, number, "approve"), request)
    if not no_wait:
        answer = _follow(client, answer, quiet=as_json)
    _report(answer, as_json)


@click.command()
@work_argument
@work_expect_option
@commit_option
@note_option
@json_option
@click.pass_context
def deny(context: click.Context, name: str, expect: str, commit: str | None, note: str | None, as_json: bool) -> None:
    """Deny work, with a reason.

    Who submitted it gets the reason as a message; without --note it is asked for on a terminal.

    \b
    Example:
      hive-c0re work deny web/3 --note "see the comments"
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
    """Withdraw work that you have submitted. That of others is denied.

    \b
    Example:
      hive-c0re work withdraw web/3
    """
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

    \b
    Examples:
      hive-c0re work comment web/3 "please add a test"
      hive-c0re work comment web/3 src/app.py:12 "this can be None"
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
    """Submit the commit of failed or withdrawn work again, as new work of the same agent.

    Of landed work that is not published yet, the publication is tried again now.

    \b
    Example:
      hive-c0re work retry web/3
    """
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
                click.echo(f"{work_name(answer)}: {state_word(state)}", err=True)
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
        name = work_name(answer)
        hint = f'look with "hive-c0re work show {name}" and "hive-c0re work log {name}"'
        was = "failed" if state == "failed" else f"was {state}"
        raise Failure("proposal_ended", f"work {name} {was}: {outcome}", hint=hint)
    if not as_json:
        click.echo(standing(answer))


def _print(answer: Answer, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        click.echo(standing(answer))

"""The command `edit`: a person's own change of an agent's configuration."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from hive_core.cli.arguments import agent_argument, json_option, note_option, note_or_prompt
from hive_core.cli.client import Client, agent_path
from hive_core.cli.commands.gate.edit_directory import FIRST, EditDirectory, decode_answer
from hive_core.cli.errors import Failure
from hive_core.cli.output import is_interactive
from hive_core.cli.waiting import follow, is_over, is_undecided, print_who_decides, report
from hive_core.text import escaped_line

T = TypeVar("T")

_EDITORS = ("sensible-editor", "nano", "vim", "vi")


@click.command()
@agent_argument
@note_option
@click.option(
    "--continue",
    "directory",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Go on with an edit that was refused or broken off: the directory that it has printed.",
)
@click.option("--no-wait", is_flag=True, help="Do not wait for the build.")
@json_option
@click.pass_context
def edit(
    context: click.Context, name: str, note: str | None, directory: Path | None, no_wait: bool, as_json: bool
) -> None:
    """Change an agent's configuration in your editor.

    The editor ($VISUAL, $EDITOR) opens agent.nix, agent.toml and prompt.md as they are deployed, in a directory that
    only you can enter; all other files are there too. When it ends, the change is proposed in your name and goes
    through the gate as every proposal does. If nothing was changed, nothing is proposed. If the change is refused, the
    directory stays and its path is printed.

    \b
    Examples:
      hive-c0re edit ada
      hive-c0re edit ada --note "a smaller model"
      hive-c0re edit ada --continue /tmp/hive-edit-ada-x1y2z3
      EDITOR="code --wait" hive-c0re edit ada
    """
    if note is None and not is_interactive():
        raise click.UsageError("A reason is needed: add --note TEXT.", context)
    client = Client(context.obj)
    path = agent_path(name, "configuration")
    deployed = client.get(path)
    files, commit = decode_answer(deployed), str(deployed.get("commit"))
    if directory is None:
        editing = EditDirectory.make(name, commit, files)
    else:
        editing = EditDirectory.open(directory, name)
        if editing.base != commit:
            _tell_of_both(editing, _kept(editing, lambda: editing.take_over(commit, files)))
    click.echo(f"editing {editing.files}", err=True)
    _run_editor(editing, to_stderr=as_json)
    changed = _kept(editing, editing.changed)
    if not changed:
        editing.remove()
        click.echo("nothing was changed", err=True)
        return
    click.echo(f"changed: {escaped_line(', '.join(changed))}", err=True)
    try:
        reason = note_or_prompt(context, note, "What is the change for?")
    except (click.UsageError, click.Abort, KeyboardInterrupt):
        click.echo(_hint(editing), err=True)
        raise
    request = {"base": editing.base, "note": reason, **editing.read().encoded()}
    answer = _kept(editing, lambda: client.post(path, request))
    editing.remove()
    if not no_wait:
        answer = follow(client, answer, lambda proposal: is_over(proposal) or is_undecided(proposal), quiet=as_json)
    report(answer, as_json)
    if not as_json:
        print_who_decides(client, answer)


def _tell_of_both(editing: EditDirectory, both: Sequence[str]) -> None:
    """Warn of files that were changed here and by a deployment meanwhile."""
    if both:
        names = escaped_line(", ".join(both))
        click.echo(
            f"another configuration was deployed meanwhile, which changes these files too: {names}\n"
            f"  yours will replace them: take over what you want to keep from {editing.deployed}",
            err=True,
        )


def _run_editor(editing: EditDirectory, *, to_stderr: bool) -> None:
    """Let the person edit the files. Raises Failure `editor_failed`; the files stay."""
    given = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
    try:
        words = shlex.split(given) if given.strip() else [next(filter(shutil.which, _EDITORS), "vi")]
        # With --json, stdout is for the answer only.
        ended = subprocess.run(  # noqa: S603 - it is the person's own editor
            [*words, *FIRST], cwd=editing.files, stdout=sys.stderr.fileno() if to_stderr else None, check=False
        )
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise Failure(
            "editor_failed", f"the editor {given or 'vi'} cannot be started: {why}", hint=_hint(editing)
        ) from None
    if ended.returncode:
        why = f"the editor {words[0]} has failed with exit code {ended.returncode}, so nothing is proposed"
        raise Failure("editor_failed", why, hint=_hint(editing))


def _kept(editing: EditDirectory, do: Callable[[], T]) -> T:
    """Do it; a Failure says where the files are."""
    try:
        return do()
    except Failure as failure:
        failure.hint = "; ".join(part for part in (failure.hint, _hint(editing)) if part)
        raise


def _hint(editing: EditDirectory) -> str:
    again = f"hive-c0re edit {editing.agent} --continue {shlex.quote(str(editing.path))}"
    return f'your files are kept; go on with "{again}"'

"""What the demo shows, and how."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from hive_core.cli import PROGRAM, colours
from hive_core.cli.event_lines import lines
from hive_core.cli.terminal import width
from hive_core.cli.untrusted import visible

_NAME = 11

INTRO = (
    ("you", "operator", "ask the manager for release notes"),
    ("hm1nd", "hm1nd", "the manager, gives the job to ada"),
    ("ada", "ada", "writes a draft, and asks bob for a review"),
    ("bob", "bob", "finds something to put right"),
    ("hm1nd", "hm1nd", "brings you the result"),
)
"""The job, as a person would tell it: who is named, whose colour that is, and what they do."""


def say(text: str = "") -> None:
    """One line (or more) on stdout, with colours if it is a terminal that wants them."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    click.echo(text, color=False if plain else None)


def heading(text: str) -> None:
    """What comes next."""
    say()
    say(click.style(text, bold=True))


def intro(access: str | None) -> None:
    """What is going to happen, and what drives the agents: Claude Code with `access`, or a script."""
    driven = "They follow a script; no model is asked."
    if access is not None:
        driven = f"Claude Code drives them, with {access}: about ten calls of the model."
    say(f"{click.style('A hive: a manager and two agents do a small job together.', bold=True)}\n{driven}\n")
    for shown, name, does in INTRO:
        say(f"  {colours.agent(name, shown.ljust(_NAME))}{does}")


def command(*arguments: str) -> None:
    """A command that is being carried out."""
    say(colours.dim(f"$ {PROGRAM} {shlex.join(arguments)}"))


def event(happened: Mapping[str, Any]) -> None:
    """One event, as `hive-c0re watch` shows it."""
    for line in lines(happened, width(), every=False):
        say(line)


def log(text: list[str]) -> None:
    """The end of a log; it may quote agents."""
    for line in text:
        say(f"  {visible(line)}")


def fact(name: str, text: str) -> None:
    """One line of a summary."""
    say(f"  {colours.dim(name.ljust(13))}{text}")


def how_to_talk(socket: Path) -> None:
    """What to paste into another terminal."""
    heading("The hive stays up. Talk to it from another terminal:")
    export = f"export HIVE_SOCKET={shlex.quote(str(socket))}"
    installed = Path(sys.executable).with_name(PROGRAM)
    if installed.exists():
        program = PROGRAM
        export += f" PATH={shlex.quote(str(installed.parent))}:$PATH"
    else:
        program = f"{shlex.quote(sys.executable)} -m hive_core"
    say()
    say(f"  {export}")
    for arguments in ("list", "inbox", 'ask hm1nd "release notes for 2.0"', "logs ada", "watch"):
        say(f"  {program} {arguments}")
    say()
    say(f"Below goes on what `{PROGRAM} watch` shows. {click.style('Ctrl-C', bold=True)} ends the demo.")

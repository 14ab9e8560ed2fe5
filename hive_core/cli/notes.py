"""Why something is done, in the operator's words: other people and agents read it in the tag for ever."""

from __future__ import annotations

import sys

import click

from hive_core.cli.terminal import can_ask

note_option = click.option("--note", metavar="TEXT", help="Why; kept in the tag.")
"""A note that may be left out, or that is asked for."""


def asked_for(context: click.Context, note: str | None, question: str) -> str:
    """The note that was given, or the answer to `question` on the terminal; wrong usage if there is neither."""
    if note is None and can_ask():
        # Written by hand: click's prompt puts a space on stdout, where --json promises nothing else.
        sys.stderr.write(f"{question} ")
        sys.stderr.flush()
        note = sys.stdin.readline().strip()
    if not note:
        raise click.UsageError("A reason is needed: add --note TEXT.", context)
    return note

"""A diff as lines for a terminal, in git's colours. The text is an agent's."""

from __future__ import annotations

from collections.abc import Iterator

import click

from hive_core.cli.untrusted import visible

_IN_HUNK = {"+": "green", "-": "red"}


def coloured(diff: str) -> Iterator[str]:
    """The lines of a unified diff. Without the colours they are the diff's own, but for what a terminal acts on."""
    in_hunk = False
    # Within a hunk every line starts with a space, "+", "-" or "\\", so an agent's line cannot pass for a header.
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

"""Colours with one meaning each. click leaves them out where stdout is no terminal."""

from __future__ import annotations

import click

from hive_core.protocol.names import MANAGER, OPERATOR

_AGENTS = ("cyan", "blue", "green", "bright_cyan", "bright_blue", "bright_green")
_WORDS = {
    "idle": "green",
    "running": "green",
    "thinking": "yellow",
    "starting": "yellow",
    "stopping": "yellow",
    "backoff": "bright_red",
    "failed": "bright_red",
    "needs_login": "bright_magenta",
    "paused": "bright_magenta",
    "proposal": "yellow",
    "building": "yellow",
    "built": "bright_magenta",
    "approved": "yellow",
    "deployed": "green",
}


def agent(name: str, padded: str | None = None) -> str:
    """A name in a colour that stays its own; `padded` is what to show in its place."""
    shown = name if padded is None else padded
    if name == OPERATOR:
        return click.style(shown, bold=True)
    if name == MANAGER:
        return click.style(shown, fg="magenta", bold=True)
    return click.style(shown, fg=_AGENTS[sum(name.encode()) % len(_AGENTS)])


def state(word: str, shown: str | None = None) -> str:
    """A lifecycle or state: green is well, yellow on its way, red in trouble, magenta waits for you, dim not there."""
    text = word if shown is None else shown
    colour = _WORDS.get(word)
    return click.style(text, fg=colour) if colour else dim(text)


def dim(text: str) -> str:
    """What matters less."""
    return click.style(text, dim=True)

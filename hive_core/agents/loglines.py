"""The end of an agent's log in a message of the hive's: few lines, marked as the agent's words, safe to show.

What an agent prints may be made for whoever reads it: to look like the hive's own words, or to move a terminal's
cursor.
"""

from __future__ import annotations

from collections.abc import Sequence

LINES = 10
"""How many lines of a log are of use to who hears of a crash."""
_WIDTH = 200


def quoted(lines: Sequence[str]) -> list[str]:
    """The last of `lines`, each behind a mark, cut, and with everything escaped that a terminal would act on."""
    return [f"> {_shown(line)}" for line in lines[-LINES:]]


def _shown(line: str) -> str:
    cut = line[:_WIDTH]
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in cut
    )
    return f"{shown[:_WIDTH]} [...]" if len(line) > _WIDTH or len(shown) > _WIDTH else shown

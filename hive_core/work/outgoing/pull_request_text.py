"""The texts of a pull request. Pure.

An agent has written title and description. The title begins with the name of the proposal, so that it is never a
command to the server (`WIP:`, `Draft:`). The description is in a code block, in which nobody is mentioned, no issue is
closed and no picture is loaded.
"""

from __future__ import annotations

import re

from hive_core.text import one_line, visible

_TITLE_MOST = 200
_BODY_MOST = 20_000
_CUT = "[...]"


def title_of(name: str, title: str) -> str:
    """Return the title for the proposal `name` (such as `web/3`)."""
    return f"{name}: {one_line(title, _TITLE_MOST)}"


def body_of(name: str, agent: str, commit: str, description: str) -> str:
    """Return the text of a pull request with the description of the agent, marked as its words."""
    sentence = (
        f"The agent `{agent}` of a hyperhive has made this change. It was checked, approved and landed there as "
        f"`{name}`, at commit {commit}."
    )
    text = visible(description[:_BODY_MOST]).strip("\n")
    if not text.strip():
        return f"{sentence}\n"
    if len(description) > _BODY_MOST:
        text += f"\n{_CUT}"
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{sentence}\n\nThe agent describes it in these words:\n\n{fence}text\n{text}\n{fence}\n"

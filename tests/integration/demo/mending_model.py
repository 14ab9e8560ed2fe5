"""A stand-in for a model that mends the demo's repository: it commits and submits, with the tools of its CLI."""

from __future__ import annotations

import re
from typing import Any

from tests.helpers.fake_messages_api import Blocks, Text, ToolUse, tool_results

_REPO = re.compile(r"`/code/([a-z0-9-]+)` is your clone|clone of the repository `([a-z0-9-]+)`")


def mend(request: dict[str, Any], path: str, command: str) -> Blocks:
    """Answer the operator's wish: run `command` in the clone, commit `path`, submit the commit, and say so."""
    if "from operator" not in str(request["messages"]):
        return [Text("Done.")]
    results = [text_of(result) for result in tool_results(request)]
    if not results:
        commit = f"git commit --quiet --message='Count every item' {path} && git rev-parse HEAD"
        return [ToolUse("Bash", {"command": f"{command} && {commit}", "description": "Mend, test and commit"})]
    found = _REPO.search(str(request["system"]))
    commit_id = re.search(r"^[0-9a-f]{40}$", results[0], re.MULTILINE)
    assert found is not None and commit_id is not None, results
    if len(results) == 1:
        work = {"repo": found[1] or found[2], "commit": commit_id[0], "title": "Count every item", "description": ""}
        return [ToolUse("mcp__hive__submit_work", work)]
    return [Text("I have submitted the change.")]


def text_of(result: dict[str, Any]) -> str:
    """The text of a tool's result."""
    content = result.get("content", "")
    return content if isinstance(content, str) else "\n".join(str(part.get("text", "")) for part in content)

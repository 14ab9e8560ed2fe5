"""Where a session begins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hive_agent.access.environment import default_directory


@pytest.mark.parametrize(
    ("repositories", "there", "begins"),
    [
        ([], ["code/web"], "state"),
        (["web"], ["code/web"], "code/web"),
        (["web"], ["code"], "code"),
        (["web"], [], "state"),
        (["web", "app"], ["code/web", "code/app"], "code"),
    ],
)
def test_sessions_begin_where_the_code_is(
    tmp_path: Path, repositories: list[str], there: list[str], begins: str
) -> None:
    """A session begins in the clone of the only repository, else where all clones are, else in the agent's state."""
    for directory in there:
        (tmp_path / directory).mkdir(parents=True)
    variables = {
        "HIVE_AGENT_STATE": str(tmp_path / "state"),
        "HIVE_AGENT_CODE": str(tmp_path / "code"),
        "HIVE_AGENT_REPOS": json.dumps({name: f"/repos/{name}.git" for name in repositories}),
    }
    assert default_directory(variables) == str(tmp_path / begins)
    assert default_directory({**variables, "HIVE_AGENT_REPOS": "no JSON"}) == str(tmp_path / "state")

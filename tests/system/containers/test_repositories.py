"""An agent in a container with a repository: its mirror, its clone and git in a user namespace of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.git_repos import git
from tests.system.host_hive import HostHive, call, inside

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_container_has_its_repositories(hive: HostHive, tmp_path: Path) -> None:
    """The container's root reads the mirror, cannot write it, and has a clone of its own that follows the mirror."""
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    (tmp_path / "one.txt").touch()
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    call("hive-c0re", "repo", "add", "web", str(tmp_path))
    await hive.spawn_with("fox", repos=["web"])
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "two")
    call("hive-c0re", "repo", "fetch", "web")
    assert inside("fox", "git", "-C", "/code/web", "status", "--short", "--branch") == "## fox/work...origin/main\n"
    inside("fox", "git", "-C", "/code/web", "pull", "--quiet")
    assert inside("fox", "git", "-C", "/code/web", "log", "--format=%s").split() == ["two", "one"]
    assert inside("fox", "stat", "-c", "%u", "/code/web/one.txt").strip() == "0"
    assert "Read-only file system" in inside("fox", "sh", "-c", "touch /repos/web.git/made 2>&1 || true")
    await hive.ask("POST", "/v1/agents/fox/destroy", {"purge": True})
    call("hive-c0re", "repo", "remove", "web")

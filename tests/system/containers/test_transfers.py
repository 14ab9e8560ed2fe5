"""Traffic with the upstream of a repository, on a host where units of systemd carry it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.git_repos import git
from tests.integration.repositories.upstream_servers import ssh_upstream
from tests.system.host_hive import STATE, HostHive, call, program, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

FIRST_DYNAMIC_UID = 61184
RECORDING = """\
#!/bin/sh
ps -C ssh -o uid= >>{seen}
exec sh -c "$SSH_ORIGINAL_COMMAND"
"""
"""Run by the server for every connection: it writes down the users of the clients."""


async def test_upstream_traffic_has_a_user_of_its_own(hive: HostHive, tmp_path: Path) -> None:
    """A repository is added and fetched over SSH by a unit of a user of its own, which is gone after the transfer."""
    bare, clone = tmp_path / "api.git", tmp_path / "clone"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    git(tmp_path, "clone", "--quiet", str(bare), str(clone))
    seen, script = tmp_path / "seen", tmp_path / "record"
    script.write_text(RECORDING.format(seen=seen))
    script.chmod(0o755)

    def push(text: str) -> str:
        git(clone, "commit", "--quiet", "--allow-empty", "--message", text)
        git(clone, "push", "--quiet", "origin", "HEAD:refs/heads/main")
        return git(clone, "rev-parse", "HEAD")

    first = push("one")
    with ssh_upstream(tmp_path / "sshd", forced=str(script)) as server:
        fingerprint = call("ssh-keygen", "-lf", str(server.home / "host_key.pub")).split()[1]
        access = ("--ssh-key", str(server.home / "key"), "--host-key", fingerprint)
        await program("hive-c0re", "repo", "add", "api", server.url(bare), *access)
        mirror = STATE / "repos" / "api.git"
        assert call("git", "-C", str(mirror), "rev-parse", "main").strip() == first
        second = push("two")
        await program("hive-c0re", "repo", "fetch", "api")
        assert call("git", "-C", str(mirror), "rev-parse", "main").strip() == second
    users = {int(word) for word in seen.read_text().split()}
    assert users and min(users) >= FIRST_DYNAMIC_UID, users
    await until(lambda: call("systemctl", "list-units", "--all", "--no-legend", "hive-upstream-*") == "")
    assert [*STATE.rglob("upstream-*")] == []
    await program("hive-c0re", "repo", "remove", "api")

"""Fetches from real servers: sshd of OpenSSH, and nginx with git-http-backend."""

from __future__ import annotations

import stat

import pytest

from hive_core.errors import HiveError
from hive_core.protocol import AddRepositoryRequest
from tests.helpers.git_repos import git
from tests.integration.repositories.conftest import Hive, OpenHive, Upstream
from tests.integration.repositories.upstream_servers import TOKEN, HttpsUpstream, SshUpstream


def ssh_request(ssh: SshUpstream, upstream: Upstream, **others: object) -> AddRepositoryRequest:
    values: dict[str, object] = {
        "name": "web",
        "source": ssh.url(upstream.bare),
        "ssh_key": ssh.key,
        "host_keys": [ssh.host_key],
    }
    return AddRepositoryRequest.model_validate({**values, **others})


@pytest.mark.parametrize("confined", [True, False], ids=["bubblewrap", "plain"])
async def test_fetch_over_ssh(open_hive: OpenHive, ssh: SshUpstream, upstream: Upstream, confined: bool) -> None:
    """A fetch over ssh brings commits, branches and tags, and a second one only what is new."""
    hive = await (open_hive() if confined else open_hive(bwrap=None))
    first = git(upstream.clone, "rev-parse", "HEAD")
    git(upstream.clone, "tag", "v1")
    upstream.push("v1", "HEAD:refs/heads/fix/a+b@c")
    await hive.repositories.add(ssh_request(ssh, upstream), "operator:test")
    result = await hive.repositories.fetch("web")
    mirror = hive.repositories.mirror("web")
    assert (result.branch, result.state, result.before, result.commit) == ("main", "current", None, first)
    held = {line.split()[1]: line.split()[0] for line in git(mirror, "show-ref").splitlines()}
    assert held == {
        "refs/heads/main": first,
        "refs/tags/v1": first,
        "refs/upstream/heads/main": first,
        "refs/upstream/heads/fix/a+b@c": first,
    }
    second = upstream.commit("second")
    result = await hive.repositories.fetch("web")
    assert (result.before, result.commit, result.refs_changed) == (first, second, 1)
    assert (await hive.repositories.fetch("web")).refs_changed == 0
    git(mirror, "fsck", "--strict")
    assert list(hive.layout.scratch.iterdir()) == list(hive.layout.lent_credentials.iterdir()) == []


async def test_fetch_over_https(hive: Hive, https: HttpsUpstream, upstream: Upstream) -> None:
    """A token is given to the registered server when it asks, and is in no argument, row or file."""
    url = https.url(upstream.bare, "closed")
    request = AddRepositoryRequest(name="web", source=url, token=TOKEN)
    await hive.repositories.add(request, "operator:test")
    assert (await hive.repositories.fetch("web")).state == "current"
    assert any(line.startswith("x-access-token GET /closed/") for line in https.requests)
    rows = await hive.database.read(lambda db: str(db.execute("SELECT * FROM audit").fetchall()))
    assert TOKEN not in rows
    found = [
        path for path in hive.layout.state_dir.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()
    ]
    assert found == []


async def test_agents_can_read_a_mirror(hive: Hive, https: HttpsUpstream, upstream: Upstream) -> None:
    """Everybody can read a mirror, and only the daemon can write it."""
    await hive.repositories.add(AddRepositoryRequest(name="web", source=https.url(upstream.bare)), "operator:test")
    await hive.repositories.fetch("web")
    mirror = hive.repositories.mirror("web")
    for path in (mirror, *(each for each in mirror.rglob("*") if each.name != "hive.lock")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode & 0o022 == 0 and mode & 0o044 == 0o044, path
        assert not path.is_dir() or mode & 0o011 == 0o011, path


async def test_wrong_token(hive: Hive, https: HttpsUpstream, upstream: Upstream) -> None:
    """A server that refuses the credential is told from one that cannot be reached."""
    url = https.url(upstream.bare, "closed")
    await hive.repositories.add(AddRepositoryRequest(name="web", source=url, token="wrong"), "operator:test")
    with pytest.raises(HiveError) as refused:
        await hive.repositories.fetch("web")
    assert refused.value.code == "upstream_refused"
    assert hive.repositories.record("web").facts.code == "upstream_refused"


async def test_redirects_are_not_followed(hive: Hive, https: HttpsUpstream, upstream: Upstream) -> None:
    """A server that redirects is not followed, and gets no token elsewhere."""
    url = https.url(upstream.bare, "away")
    await hive.repositories.add(AddRepositoryRequest(name="web", source=url, token=TOKEN), "operator:test")
    with pytest.raises(HiveError) as refused:
        await hive.repositories.fetch("web")
    assert refused.value.code == "upstream_redirects"
    assert not any("/open/" in line for line in https.requests)


async def test_another_host_key_is_refused(hive: Hive, ssh: SshUpstream, upstream: Upstream) -> None:
    """A server with another SSH key than the accepted one gets nothing."""
    other = ssh.host_key.rsplit(" ", 1)[0] + " AAAAC3NzaC1lZDI1NTE5AAAAIJ6QFYs5n0bXlbbzwlKZnHcWn6cvJxgbLkUNwQX8vW3Z"
    await hive.repositories.add(ssh_request(ssh, upstream, host_keys=[other]), "operator:test")
    with pytest.raises(HiveError) as refused:
        await hive.repositories.fetch("web")
    assert refused.value.code == "host_key_changed"


async def test_keys_of_a_server_are_asked_for(hive: Hive, ssh: SshUpstream, upstream: Upstream) -> None:
    """The keys that a server shows are those of its files."""
    _, lines = await hive.repositories.host_keys(ssh.url(upstream.bare))
    assert lines == [ssh.host_key]


async def test_push(hive: Hive, https: HttpsUpstream, upstream: Upstream) -> None:
    """A commit is pushed once, never over another one, and only over the expected one."""
    url = https.url(upstream.bare, "closed")
    await hive.repositories.add(AddRepositoryRequest(name="web", source=url, token=TOKEN), "operator:test")
    first = (await hive.repositories.fetch("web")).commit
    assert first is not None
    mirror = hive.repositories.mirror("web")
    tree = git(mirror, "rev-parse", f"{first}^{{tree}}")
    commit = git(mirror, "commit-tree", tree, "-p", first, "-m", "landed")
    other = git(mirror, "commit-tree", tree, "-m", "elsewhere")
    for _ in range(2):
        await hive.repositories.push("web", commit, "refs/heads/hive/1", expected=None if _ == 0 else commit)
    assert git(upstream.bare, "rev-parse", "refs/heads/hive/1") == commit
    with pytest.raises(HiveError) as refused:
        await hive.repositories.push("web", other, "refs/heads/hive/1")
    assert refused.value.code == "upstream_moved"
    with pytest.raises(HiveError) as refused:
        await hive.repositories.push("web", other, "refs/heads/hive/2", expected=first)
    assert refused.value.code == "upstream_moved"
    assert git(upstream.bare, "rev-parse", "refs/heads/hive/1") == commit


async def test_rewritten_history_loses_nothing(hive: Hive, https: HttpsUpstream, upstream: Upstream) -> None:
    """A rewritten upstream leaves the branch alone until the operator takes it, and its commit stays below a ref."""
    await hive.repositories.add(AddRepositoryRequest(name="web", source=https.url(upstream.bare)), "operator:test")
    first = (await hive.repositories.fetch("web")).commit
    git(upstream.clone, "commit", "--quiet", "--amend", "-m", "rewritten")
    upstream.push("HEAD:main")
    now = git(upstream.clone, "rev-parse", "HEAD")
    result = await hive.repositories.fetch("web")
    assert (result.state, result.commit, result.upstream) == ("diverged", first, now)
    assert "--take-upstream" in hive.repositories.record("web").facts.advice
    result = await hive.repositories.fetch("web", take_upstream=True)
    assert (result.state, result.commit) == ("current", now)
    mirror = hive.repositories.mirror("web")
    assert str(first) in git(mirror, "for-each-ref", "--format=%(objectname)", "refs/landed/")


async def test_removal(hive: Hive, https: HttpsUpstream, upstream: Upstream) -> None:
    """A removed repository leaves neither a mirror nor a credential, and its name is free."""
    url = https.url(upstream.bare, "closed")
    for _ in range(2):
        await hive.repositories.add(AddRepositoryRequest(name="web", source=url, token=TOKEN), "operator:test")
        await hive.repositories.fetch("web")
        await hive.repositories.remove("web", "operator:test")
        assert list(hive.layout.repositories.iterdir()) == []
        assert hive.credentials.held == {}

"""Upstreams that are broken or mean harm: nothing of them runs on the host, and everything about them is bounded."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.protocol import AddRepositoryRequest
from hive_core.work.repositories.upstream.places import AT_ONCE, TransferPlaces
from tests.helpers.git_repos import git
from tests.integration.repositories.conftest import Hive, OpenHive, Upstream
from tests.integration.repositories.test_fetch import ssh_request
from tests.integration.repositories.upstream_servers import HttpsUpstream, SshUpstream, ssh_upstream


async def refusal(hive: Hive, request: AddRepositoryRequest) -> HiveError:
    """Register and fetch; the error. Nothing of the transfer is left."""
    await hive.repositories.add(request, "operator:test")
    with pytest.raises(HiveError) as refused:
        await hive.repositories.fetch(request.name)
    assert list(hive.layout.scratch.iterdir()) == list(hive.layout.lent_credentials.iterdir()) == []
    mirror = hive.repositories.mirror(request.name)
    assert git(mirror, "for-each-ref") == ""
    return refused.value


def write_object(bare: Path, kind: str, content: bytes) -> str:
    """Write an object as it is, without git's checks; its id."""
    whole = f"{kind} {len(content)}\0".encode() + content
    name = sha1(whole, usedforsecurity=False).hexdigest()
    path = bare / "objects" / name[:2] / name[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(zlib.compress(whole))
    return name


def commit_of(bare: Path, tree: str) -> str:
    who = "ada <ada@x> 1700000000 +0000"
    return write_object(bare, "commit", f"tree {tree}\nauthor {who}\ncommitter {who}\n\nx\n".encode())


async def test_objects_that_harm_are_refused(hive: Hive, https: HttpsUpstream, upstream: Upstream) -> None:
    """A tree that would write into `.git` is refused, and nothing of its pack gets into the mirror."""
    blob = write_object(upstream.bare, "blob", b"#!/bin/sh\n")
    inner = write_object(upstream.bare, "tree", b"100755 post-checkout\0" + bytes.fromhex(blob))
    tree = write_object(upstream.bare, "tree", b"40000 .git\0" + bytes.fromhex(inner))
    git(upstream.bare, "update-ref", "refs/heads/main", commit_of(upstream.bare, tree))
    error = await refusal(hive, AddRepositoryRequest(name="web", source=https.url(upstream.bare)))
    assert (error.code, "hasDotgit" in error.message) == ("bad_upstream", True)
    assert list((hive.repositories.mirror("web") / "objects/pack").iterdir()) == []


async def test_mistakes_of_old_programs_are_accepted(hive: Hive, https: HttpsUpstream, upstream: Upstream) -> None:
    """Histories with the harmless mistakes of old programs, as many well-known ones have, are mirrored."""
    blob = write_object(upstream.bare, "blob", b"x\n")
    tree = write_object(upstream.bare, "tree", b"0100644 a\0" + bytes.fromhex(blob))
    git(upstream.bare, "update-ref", "refs/heads/main", commit_of(upstream.bare, tree))
    await hive.repositories.add(AddRepositoryRequest(name="web", source=https.url(upstream.bare)), "operator:test")
    assert (await hive.repositories.fetch("web")).state == "current"


async def test_settings_and_hooks_do_not_count(hive: Hive, https: HttpsUpstream, upstream: Upstream) -> None:
    """Hooks, settings, attributes, submodules and LFS in a repository are files in it, and nothing more."""
    ran = upstream.bare.parent.parent / "ran"
    upstream.commit(f"*.txt filter=evil diff=evil\n*.bin filter=lfs\n[filter]\n# {ran}\n", ".gitattributes")
    upstream.commit(f'[submodule "x"]\n\tpath = x\n\turl = ssh://localhost/{ran}\n', ".gitmodules")
    upstream.commit(f"#!/bin/sh\ntouch {ran}\n", "hooks/post-checkout")
    await hive.repositories.add(AddRepositoryRequest(name="web", source=https.url(upstream.bare)), "operator:test")
    facts = (await hive.repositories.fetch("web")).facts
    assert (facts.lfs, facts.submodules, ran.exists()) == (True, True, False)


@pytest.mark.parametrize("name", ["a\tb", "ünï/cödé", "x" * 190, "-dash", "sp ace", "a;b", "@x"])
async def test_names_of_refs(hive: Hive, https: HttpsUpstream, upstream: Upstream, name: str) -> None:
    """A ref with a strange name is held or left out, and the others are there in both cases."""
    commit = git(upstream.clone, "rev-parse", "HEAD")
    with (upstream.bare / "packed-refs").open("a") as file:
        file.write(f"{commit} refs/heads/{name}\n")
    await hive.repositories.add(
        AddRepositoryRequest(name="web", source=https.url(upstream.bare), branch="main"), "operator:test"
    )
    assert (await hive.repositories.fetch("web")).commit == commit
    held = git(hive.repositories.mirror("web"), "for-each-ref", "--format=%(refname)").splitlines()
    assert (
        {"refs/heads/main", "refs/upstream/heads/main"}
        <= set(held)
        <= {
            "refs/heads/main",
            "refs/upstream/heads/main",
            f"refs/upstream/heads/{name}",
        }
    )


async def test_too_many_refs(open_hive: OpenHive, https: HttpsUpstream, upstream: Upstream) -> None:
    """An upstream with more branches and tags than the settings allow is refused before anything is fetched."""
    hive = await open_hive(refs=1_000)
    commit = git(upstream.clone, "rev-parse", "HEAD")
    with (upstream.bare / "packed-refs").open("a") as file:
        file.writelines(f"{commit} refs/heads/b{number:07}\n" for number in range(1_001))
    error = await refusal(hive, AddRepositoryRequest(name="web", source=https.url(upstream.bare)))
    assert error.code == "too_many_refs"


@pytest.mark.thorough
async def test_a_hundred_thousand_refs(open_hive: OpenHive, https: HttpsUpstream, upstream: Upstream) -> None:
    """A hundred thousand branches are mirrored, and a second fetch changes nothing."""
    hive = await open_hive(refs=200_000)
    commit = git(upstream.clone, "rev-parse", "HEAD")
    with (upstream.bare / "packed-refs").open("a") as file:
        file.writelines(f"{commit} refs/heads/b{number:07}\n" for number in range(100_000))
    await hive.repositories.add(AddRepositoryRequest(name="web", source=https.url(upstream.bare)), "operator:test")
    assert (await hive.repositories.fetch("web")).refs_changed == 100_001
    assert (await hive.repositories.fetch("web")).refs_changed == 0


async def test_an_upstream_that_is_too_large(open_hive: OpenHive, https: HttpsUpstream, upstream: Upstream) -> None:
    """A transfer ends when it brings more than the settings allow, however small it is when it is unpacked."""
    hive = await open_hive(transfer_bytes="2M")
    name = upstream.clone / "random"
    name.write_bytes(b"".join(sha1(str(number).encode()).digest() for number in range(200_000)))
    upstream.commit("large")
    error = await refusal(hive, AddRepositoryRequest(name="web", source=https.url(upstream.bare)))
    assert error.code == "upstream_too_large"


@pytest.mark.thorough
async def test_a_bomb_fills_neither_disk_nor_memory(hive: Hive, https: HttpsUpstream, upstream: Upstream) -> None:
    """A file of zeros that is a thousand times its size when it is unpacked stays packed."""
    with (upstream.clone / "zeros").open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    upstream.commit("bomb")
    await hive.repositories.add(AddRepositoryRequest(name="web", source=https.url(upstream.bare)), "operator:test")
    await hive.repositories.fetch("web")
    mirror = hive.repositories.mirror("web")
    assert sum(path.stat().st_size for path in mirror.rglob("*") if path.is_file()) < 4 * 1024 * 1024


@contextmanager
def silent_server() -> Iterator[int]:
    """A server that accepts connections and says nothing; its port."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
    for connection in held:
        connection.close()


async def test_an_upstream_that_stalls(open_hive: OpenHive, home: Path, upstream: Upstream, ssh: SshUpstream) -> None:
    """A server that says nothing ends the transfer in time, and leaves no process."""
    hive = await open_hive(transfer_seconds=1.0)
    with silent_server() as port:
        error = await refusal(hive, AddRepositoryRequest(name="web", source=f"https://localhost:{port}/web.git"))
    assert error.code == "upstream_slow"


async def test_upstreams_that_stall_keep_no_other_waiting(hive: Hive, https: HttpsUpstream, upstream: Upstream) -> None:
    """While as many upstreams stall as there are places, another repository is fetched, and shows what it waits for."""
    repositories = hive.repositories
    repositories._places = TransferPlaces(turn_seconds=0.2)
    with silent_server() as port:
        sources = {name: f"https://localhost:{port}/{name}.git" for name in ("stalls", "too")[:AT_ONCE]}
        for name, source in {**sources, "web": https.url(upstream.bare)}.items():
            await repositories.add(AddRepositoryRequest(name=name, source=source), "operator:test")
        stalled = [asyncio.create_task(repositories.fetch(name)) for name in sources]
        await asyncio.sleep(0)
        fetching = asyncio.create_task(repositories.fetch("web"))
        while not (said := repositories.activity("web")):
            await asyncio.sleep(0)
        assert said == "waiting for the transfers of stalls, too"
        assert (await fetching).state == "current"
        assert not any(task.done() for task in stalled)
        for name in sources:
            await repositories.remove(name, "operator:test")
        await asyncio.wait(stalled)


async def test_commands_of_a_server_are_words(open_hive: OpenHive, home: Path, upstream: Upstream) -> None:
    """What a server says is quoted in errors as one line without control characters, and cannot pose as progress."""
    hive = await open_hive()
    said = "ERR \\x1b[2J\\nReceiving objects: 99% (99/100)"
    program = f"{sys.executable} -c \"print(chr(48)*4 + chr(10), end=chr(0)); import sys; sys.stderr.write('{said}')\""
    with ssh_upstream(home / "evil", forced=program) as server:
        error = await refusal(hive, ssh_request(server, upstream))
    assert "\x1b" not in error.message and "\n" not in error.message


async def test_removal_during_a_fetch(open_hive: OpenHive, upstream: Upstream) -> None:
    """A repository can be removed while an upstream keeps its fetch waiting."""
    hive = await open_hive()
    with silent_server() as port:
        await hive.repositories.add(
            AddRepositoryRequest(name="web", source=f"https://localhost:{port}/web.git"), "operator:test"
        )
        fetching = asyncio.create_task(hive.repositories.fetch("web"))
        while not hive.repositories.activity("web"):
            await asyncio.sleep(0)
        await hive.repositories.remove("web", "operator:test")
        with pytest.raises(asyncio.CancelledError):
            await fetching
    assert hive.repositories.records() == []


async def test_landed_commits_stay_when_upstream_goes_on(hive: Hive, https: HttpsUpstream, upstream: Upstream) -> None:
    """A branch with a landed commit does not follow an upstream that lacks it, and loses nothing."""
    await hive.repositories.add(AddRepositoryRequest(name="web", source=https.url(upstream.bare)), "operator:test")
    first = (await hive.repositories.fetch("web")).commit
    mirror = hive.repositories.mirror("web")
    landed = git(mirror, "commit-tree", f"{first}^{{tree}}", "-p", str(first), "-m", "landed")
    git(mirror, "update-ref", "refs/heads/main", landed)
    assert (await hive.repositories.fetch("web")).state == "ahead"
    upstream.commit("elsewhere")
    result = await hive.repositories.fetch("web")
    assert (result.state, result.commit) == ("diverged", landed)

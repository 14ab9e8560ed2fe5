"""The files that containers are shown: those of the deployment's commit, from before the start until the next one."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.infra.git.names import TAGS
from hive_core.infra.git.objects import Person, Tag
from hive_core.infra.git.repository import RefChange, Repository
from hive_core.runtimes.base import AgentSpec
from hive_core.runtimes.nixos.containers import config_files
from hive_core.runtimes.nixos.containers.deployed_files import DeployedFiles
from hive_core.runtimes.nixos.runtime import NixosRuntime
from tests.helpers.git_repos import FILES, order
from tests.unit.core.runtimes.nixos.builders import spec_of
from tests.unit.core.runtimes.nixos.fake_host import FakeHost

UNIT = "container@h-ada.service"
TREE = {**FILES, "lib/run": b"#!/bin/sh\n"}


def approved(host: FakeHost, deployment: int, files: Mapping[str, bytes] = TREE) -> AgentSpec:
    """An agent on a deployment whose commit has these files, with one closure for all of them."""
    host.layout.scratch.mkdir(parents=True, exist_ok=True)
    host.layout.applied.mkdir(parents=True, exist_ok=True)
    commit = order(host.layout, files).commit
    with Repository.open(host.layout.applied_repository("ada")) as repository:
        name = f"approved/{deployment}"
        sha = repository.write_tag(Tag(name, commit, Person("hive", "hive@localhost"), 1_700_000_000, "x"))
        repository.update([RefChange(f"{TAGS}{name}", sha)])
    return replace(spec_of(host.place, deployment=deployment), deployed=host.layout.deployed_files("ada", deployment))


def shown(host: FakeHost) -> dict[str, bytes]:
    """The files in the directory that the container's conf file binds as `/deployed`."""
    flags = config_files.conf_value(host.host_paths.conf("h-ada").read_text(), "EXTRA_NSPAWN_FLAGS") or ""
    (bind,) = (flag for flag in flags.split() if ":/deployed" in flag)
    option, source, *_ = bind.replace("=", ":").split(":")
    assert option == "--bind-ro" and bind.endswith(":/deployed:rootidmap")
    return {str(path.relative_to(source)): path.read_bytes() for path in Path(source).rglob("*") if path.is_file()}


async def test_a_change_of_the_prompt_alone_is_a_start_on_its_files(host: FakeHost, runtime: NixosRuntime) -> None:
    """With the same closure as before, the container is started anew, with the files of the new deployment alone."""
    await runtime.activate(approved(host, 0))
    assert shown(host) == TREE
    host.systemd.done.clear()
    second = approved(host, 1, {**TREE, "prompt.md": b"Sing.\n"})
    await runtime.activate(second)
    assert host.systemd.done == [f"stop {UNIT}", f"start {UNIT}"]
    assert shown(host) == {**TREE, "prompt.md": b"Sing.\n"}
    assert [path.name for path in (host.layout.deployed / "ada").iterdir()] == ["1"]
    assert list(host.layout.scratch.iterdir()) == []
    assert config_files.deployment_in(config_files.environment_file(second.paths.run).read_text()) == 1


async def test_the_files_of_another_deployment_stay_until_the_start(
    host: FakeHost, runtime: NixosRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that systemd does not stop goes on with its files, and a return to them makes them anew."""
    first = approved(host, 0)
    await runtime.activate(first)

    async def refuse(_unit: str) -> None:
        raise HiveError("no_dbus", "the bus is away")

    with monkeypatch.context() as patch:
        patch.setattr(host.systemd, "stop", refuse)
        with pytest.raises(HiveError):
            await runtime.activate(approved(host, 1, FILES))
    assert shown(host) == TREE
    await runtime.activate(approved(host, 2, FILES))
    assert shown(host) == FILES
    await runtime.activate(first)
    assert shown(host) == TREE


def clear(directory: Path) -> None:
    for path in sorted(directory.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    directory.rmdir()


def link(directory: Path) -> None:
    directory.rename(directory.parent.parent / "elsewhere")
    directory.symlink_to(directory.parent.parent / "elsewhere")


def rewrite(directory: Path) -> None:
    (directory / "prompt.md").chmod(0o644)
    (directory / "prompt.md").write_text("evil")


CHANGES: Mapping[str, Callable[[Path], object]] = {
    "missing": clear,
    "a link": link,
    "content": rewrite,
    "mode": lambda directory: (directory / "prompt.md").chmod(0o555),
    "one more": lambda directory: (directory / "more.nix").touch(),
    "one less": lambda directory: (directory / "prompt.md").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_other_files_than_the_commits_are_replaced(host: FakeHost, runtime: NixosRuntime, change: str) -> None:
    """Whatever has become of the directory, the next start shows the files of the commit."""
    spec = approved(host, 0)
    await runtime.activate(spec)
    assert spec.deployed is not None
    CHANGES[change](spec.deployed)
    await runtime.stop("ada")
    await runtime.start(spec)
    assert shown(host) == TREE and not spec.deployed.is_symlink()
    assert not (spec.deployed / "prompt.md").stat().st_mode & 0o111


async def test_the_files_that_are_right_are_left_alone(host: FakeHost) -> None:
    """A restart extracts nothing again."""
    spec = approved(host, 0)
    assert spec.deployed is not None
    DeployedFiles(host.layout).prepare(spec)
    before = spec.deployed.stat().st_ino
    DeployedFiles(host.layout).prepare(spec)
    assert spec.deployed.stat().st_ino == before


async def test_every_user_of_the_container_can_read_them(host: FakeHost) -> None:
    """Whatever the daemon's umask is; other agents' directories are behind one that only the daemon enters."""
    spec = approved(host, 0)
    assert spec.deployed is not None
    old = os.umask(0o077)
    try:
        DeployedFiles(host.layout).prepare(spec)
    finally:
        os.umask(old)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (spec.deployed, *spec.deployed.rglob("*"))}
    assert modes.pop("0") == modes.pop("lib") == 0o755 and set(modes.values()) == {0o444}
    assert stat.S_IMODE(spec.deployed.parent.stat().st_mode) == 0o700


async def test_without_the_commit_nothing_is_stopped(host: FakeHost, runtime: NixosRuntime) -> None:
    """The error names a missing tag of the deployment, and the running container goes on."""
    spec = approved(host, 0)
    await runtime.activate(spec)
    host.systemd.done.clear()
    with pytest.raises(HiveError, match="the tag approved/7 of the active configuration is missing") as refused:
        await runtime.activate(replace(spec, deployment=7, deployed=host.layout.deployed_files("ada", 7)))
    assert refused.value.code == "repository_damaged" and refused.value.hint
    assert host.systemd.done == [] and shown(host) == TREE


async def test_a_container_of_an_older_hive_goes_on(host: FakeHost, runtime: NixosRuntime) -> None:
    """One whose closure has the files is left alone while it runs, and is shown `/deployed` from its next start on."""
    spec = approved(host, 0)
    await runtime.start(replace(spec, deployed=None))
    host.systemd.done.clear()
    await runtime.start(spec)
    assert host.systemd.done == [] and "/deployed" not in host.host_paths.conf("h-ada").read_text()
    await runtime.stop("ada")
    await runtime.start(spec)
    assert shown(host) == TREE


async def test_a_destroy_removes_them(host: FakeHost, runtime: NixosRuntime) -> None:
    """With the container, and not before it is stopped."""
    await runtime.start(approved(host, 0))
    await runtime.destroy("ada")
    assert list(host.layout.deployed.iterdir()) == [] == list(host.layout.scratch.iterdir())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk_does_not_keep_a_container_from_being_removed(
    host: FakeHost, runtime: NixosRuntime, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Files that cannot be moved to the scratch directory first are removed where they are."""
    await runtime.activate(approved(host, 0))

    def full(**_: object) -> str:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tempfile.mkdtemp", full)
    await runtime.destroy("ada")
    assert not (host.layout.deployed / "ada").exists()

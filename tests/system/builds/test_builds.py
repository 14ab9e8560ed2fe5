"""Builds of agents' systems on a real host: systemd, D-Bus, git, Nix and its daemon."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.runtimes.base import BuildFailed
from hive_core.runtimes.nixos.build.workspace import BuildWorkspace, create_workspace
from tests.system.builds.build_hive import BUILD_USERS, GIT, Hive, host, inside, opened, units
from tests.system.host_hive import needs_limits

FOR_EVER = """
let
  some = builtins.genList (n: n) 50000;
  sum = builtins.foldl' (a: b: a + b);
in
{ hyperhive.environment.N = builtins.foldl' (a: b: sum a some) 0 some; }
"""
HOG = """
let many = builtins.genList (x: builtins.genList (y: toString (x * y)) 5000) 50000;
in { hyperhive.environment.N = builtins.deepSeq many 1; }
"""


@pytest.mark.parametrize("build_user", BUILD_USERS)
async def test_a_proposal_becomes_a_system(hive: Hive, build_user: str) -> None:
    """What was proposed is built by who the settings say, told of while it is, and kept from the garbage collector."""
    first = hive.propose("{ pkgs, ... }: { environment.systemPackages = [ pkgs.jq ]; }")
    second = hive.propose(
        f'{{ pkgs, ... }}: {{ environment.systemPackages = [ pkgs.git ]; hyperhive.environment.BY = "{build_user}"; }}'
    )
    said: list[str] = []
    async with opened(hive, build_user=build_user) as builder:
        old = await builder.build(first, lambda _: None)
        new = await builder.build(second, said.append)
        assert said[0].startswith(f"ada: commit {second.commit[:12]}, evaluated in a confined unit by ")
        assert any(re.fullmatch(r"building '/nix/store/\w+-nixos-system-ada\.drv'\.\.\.", line) for line in said)
        host("nix-store", "--gc")
        assert await builder.has(old)
        assert await builder.has(new)
        words = await builder.compare(old, new)
        assert "jq 1.8 removed" in words
        assert "git 2.50 added" in words
        assert [line for line in words if re.fullmatch(r"unit hive-.*\.service changed", line)]
        assert re.search(r'"path": "/nix/store/\w+-source"', (hive.layout.flakes / "ada/flake.lock").read_text())
        assert str(hive.flake) in (hive.layout.flakes / "ada/flake.nix").read_text()

        await builder.keep("ada", [new])
        host("nix-store", "--gc")
        assert not await builder.has(old)
        assert await builder.has(new)
        with pytest.raises(HiveError, match="no longer exists"):
            await builder.compare(new, old)
        line, *_ = await builder.compare(old, new)
        assert line == "the build output of the active configuration no longer exists: everything is shown as new"


async def test_who_evaluates_is_nobody(hive: Hive) -> None:
    """With a Nix daemon an evaluation has no user of the host's, no capabilities and none of the hive's files."""
    async with opened(hive) as builder:
        state = hive.layout.state_dir
        script = (
            f"id -u; grep CapBnd /proc/self/status; find {state} -type f; ls -A /root; cat {state}/hive.sqlite; true"
        )
        said = await inside(hive, builder, "sh", "-c", script)
        assert int(said[0]) > 1_000
        assert said[1].split() == ["CapBnd:", "0" * 16]
        shown = "\n".join(said)
        assert "applied/ada.git/" not in shown
        assert "hive.sqlite: No such file" in shown
        for path in (hive.layout.applied_repository("ada"), Path("/run/dbus/system_bus_socket")):
            with pytest.raises(BuildFailed):
                await inside(hive, builder, "test", "-e", str(path))
        with pytest.raises(BuildFailed, match=r"No such file|does not exist"):
            reading = f"builtins.readFile {hive.layout.database}"
            await inside(hive, builder, "nix", "eval", "--impure", "--expr", reading)


@pytest.mark.parametrize("build_user", BUILD_USERS)
async def test_an_evaluation_reads_nothing_of_the_hive(hive: Hive, build_user: str) -> None:
    """Neither a file of the hive's nor another agent's repository can be read by an agent's configuration."""
    bob = hive.layout.applied_repository("bob")
    reads = {
        f'builtins.readFile "{hive.layout.database}"': r"forbidden in pure eval|is not allowed|doesn.t exist",
        f'builtins.fetchGit {{ url = "file://{bob}"; rev = "{hive.secret}"; }}': "bob|git",
    }
    async with opened(hive, build_user=build_user) as builder:
        for expression, why in reads.items():
            with pytest.raises(BuildFailed, match=why):
                await builder.build(hive.propose(f"{{ hyperhive.environment.X = {expression}; }}"), lambda _: None)


WRONG = {
    "{ pkgs, ... }: { environment.systemPackages = [ pkgs.nothing ]; }": r"'nothing' missing(.|\n)*agent.nix:1",
    '{ pkgs, ... }: import (pkgs.writeShellScript "x" "{ }")': "allow-import-from-derivation",
    '{ pkgs, ... }: { hyperhive.packages = [ (pkgs.runCommand "broken" { } "echo this is why; exit 3") ]; }': (
        r"broken.drv(.|\n)*failed with exit code 3(.|\n)*is why"
    ),
    "{ ": "syntax error",
}


@pytest.mark.parametrize("build_user", BUILD_USERS)
async def test_what_cannot_be_built_fails_with_the_reason(hive: Hive, build_user: str) -> None:
    """The reason is Nix's own error, in plain text, with the end of the builder's log; with a Nix daemon and without.

    An import from a derivation is refused.
    """
    async with opened(hive, build_user=build_user) as builder:
        for text, why in WRONG.items():
            with pytest.raises(BuildFailed, match=why) as caught:
                await builder.build(hive.propose(text), lambda _: None)
            assert "\x1b" not in str(caught.value)


@needs_limits
async def test_a_greedy_evaluation_ends(hive: Hive) -> None:
    """One that takes more memory than it may is ended, and that is said."""
    async with opened(hive, build_memory="200M") as builder:
        with pytest.raises(BuildFailed, match="more memory than its limit of 200M"):
            await builder.build(hive.propose(HOG), lambda _: None)


async def test_an_endless_evaluation_ends(hive: Hive) -> None:
    """One that takes longer than it may is ended, and that is said."""
    async with opened(hive, build_timeout=2) as builder:
        with pytest.raises(BuildFailed, match="longer than 2 s"):
            await builder.build(hive.propose(FOR_EVER), lambda _: None)


async def test_a_cancelled_build_leaves_nothing(hive: Hive) -> None:
    """Whoever cancels a build waits until nothing of it runs; the next build goes on as if there had been none."""
    order = hive.propose(FOR_EVER)
    async with opened(hive) as builder:
        begun = asyncio.Event()
        building = asyncio.create_task(
            builder.build(order, lambda line: begun.set() if "evaluated in a confined unit" in line else None)
        )
        await begun.wait()
        while not units():
            await asyncio.sleep(0.02)
        assert len(units()) == 1
        building.cancel()
        with pytest.raises(asyncio.CancelledError):
            await building
        assert units() == []
        assert hive.left == []
        assert await builder.has(await builder.build(hive.propose(GIT), lambda _: None))


async def test_what_a_killed_daemon_left_is_ended(hive: Hive) -> None:
    """Builds do not outlive the next start of the daemon, nor do their files."""
    await asyncio.to_thread(create_workspace, BuildWorkspace.of(hive.layout.scratch, "ada-99"))
    host("systemd-run", "--unit=hive-build-ada-99.service", "sleep", "1000")
    async with opened(hive):
        assert units() == []
        assert hive.left == []


async def test_without_the_daemon_it_is_root(hive: Hive) -> None:
    """Where the Nix daemon cannot be reached root evaluates, if the settings ask for that; else nothing is built."""
    host("systemctl", "stop", "nix-daemon.socket", "nix-daemon.service")
    try:
        async with opened(hive, build_user="auto") as builder:
            assert "root" in await builder.confinement()
        async with opened(hive) as builder:
            with pytest.raises(HiveError, match=r"do not work as a user of their own: .*daemon") as caught:
                await builder.build(hive.propose(GIT), lambda _: None)
            assert caught.value.code == "no_build_user"
    finally:
        host("systemctl", "start", "nix-daemon.socket")
    async with opened(hive) as builder:
        assert "a user of its own" in await builder.confinement()


async def test_a_trial_needs_no_program_in_the_sandbox(hive: Hive) -> None:
    """In Nix's own sandbox, also where `sandbox-paths` is empty, the trial succeeds."""
    host("sh", "-c", "sed 's/^sandbox = .*/sandbox = true/' /etc/nix/nix.conf >/run/nix.conf.new")
    host("sh", "-c", "cp /etc/nix/nix.conf /run/nix.conf; echo sandbox-paths = >>/run/nix.conf.new")
    host("cp", "/run/nix.conf.new", "/etc/nix/nix.conf")
    host("systemctl", "restart", "nix-daemon.service")
    try:
        async with opened(hive) as builder:
            assert "a user of its own" in await builder.confinement()
    finally:
        host("cp", "/run/nix.conf", "/etc/nix/nix.conf")
        host("systemctl", "restart", "nix-daemon.service")


async def test_a_store_that_is_mounted_read_only_is_built_into(hive: Hive) -> None:
    """As NixOS mounts the store: nobody writes it but Nix, in a namespace of its own."""
    host("mount", "--bind", "/nix/store", "/nix/store")
    host("mount", "-o", "remount,bind,ro", "/nix/store")
    try:
        async with opened(hive) as builder:
            order = hive.propose('{ hyperhive.environment.READ_ONLY = "1"; }')
            assert await builder.has(await builder.build(order, lambda _: None))
    finally:
        host("umount", "/nix/store")


async def test_a_trial_is_a_build(hive: Hive) -> None:
    """A Nix that answers and evaluates but builds nothing is found out before the first proposal, with the reason."""
    host("sh", "-c", "cp /etc/nix/nix.conf /run/nix.conf; echo build-users-group = nobodies >>/etc/nix/nix.conf")
    host("systemctl", "restart", "nix-daemon.service")
    try:
        async with opened(hive) as builder:
            with pytest.raises(HiveError, match="nobodies") as caught:
                await builder.confinement()
            assert (caught.value.code, caught.value.status) == ("cannot_build", 503)
    finally:
        host("cp", "/run/nix.conf", "/etc/nix/nix.conf")
        host("systemctl", "restart", "nix-daemon.service")


@pytest.mark.thorough
async def test_an_older_hyperhive_is_noticed(hive: Hive) -> None:
    """A closure is outdated when hyperhive's flake has changed since, and no more after it is built again."""
    async with opened(hive) as builder:
        closure = await builder.build(hive.propose(GIT), lambda _: None)
        assert not await builder.outdated(closure)
    (hive.flake / "news.md").write_text("A new version.\n")
    async with opened(hive) as builder:
        assert await builder.outdated(closure)
        assert not await builder.outdated("/nix/store/none")
        again = await builder.build(hive.propose(GIT), lambda _: None)
        assert not await builder.outdated(again)

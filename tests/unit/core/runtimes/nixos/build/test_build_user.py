"""Who builds, found out by a trial; the trial itself is in place of systemd and Nix here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from hive_core.errors import HiveError
from hive_core.layout import Layout
from hive_core.runtimes.base import BuildFailed
from hive_core.runtimes.checks.disk_use import FreeSpace
from hive_core.runtimes.nixos.build import build_user
from hive_core.runtimes.nixos.build.build_user import BuildUserSelector, Programs
from hive_core.runtimes.nixos.build.realise import Realiser
from hive_core.runtimes.nixos.build.store import Store
from hive_core.runtimes.nixos.build.unit import disk_limit, executor
from hive_core.runtimes.nixos.build.unit.executor import NixFailed
from hive_core.runtimes.nixos.build.workspace import remove_all_workspaces
from hive_core.settings import NixOS, Settings

Select = Callable[..., BuildUserSelector]
OWN_NETWORK = str(Path("/proc/self/ns/net").readlink())
PROGRAMS = Programs("/bin/nix", "/bin/nix-store", "/bin/systemd-run")


@pytest.fixture
def select(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Select:
    """A selector on a host whose evaluation by a user of its own ends with an error; None: it succeeds.

    `group` are Nix's build users, `private_network` tells if systemd can take away the network, and `unable` is the
    error of the build. `free` are the free bytes of the store's file system.
    """

    def make(
        setting: str,
        ends: Exception | None,
        *,
        group: str = "nixbld",
        private_network: bool = True,
        unable: Exception | None = None,
        free: int = 50 * 1024**3,
        **options: Any,
    ) -> BuildUserSelector:
        async def fake_execute(
            unit: str, argv: list[str], _limits: object, say: Callable[[str], None], **_: str
        ) -> None:
            if "readlink" in argv:
                say("net:[1]" if private_network else OWN_NETWORK)
            elif "eval" in argv and "--property=DynamicUser=yes" in argv and ends is not None:
                raise ends

        async def fake_settings(_: str) -> dict[str, Any]:
            return {"build-users-group": group}

        async def fake_hold(*_: object) -> None:
            pass

        async def fake_realise(*_: object) -> str:
            if unable is not None:
                raise unable
            return "/nix/store/x"

        monkeypatch.setattr(build_user, "execute", fake_execute)
        monkeypatch.setattr(disk_limit, "free_space", lambda _: FreeSpace(free, 100 * 1024**3))
        monkeypatch.setattr(build_user, "read_derivation_path", lambda _: f"/nix/store/{'0' * 32}-trial.drv")
        monkeypatch.setattr(build_user, "read_nix_settings", fake_settings)
        monkeypatch.setattr(Store, "hold_derivation", fake_hold)
        monkeypatch.setattr(Realiser, "realise", fake_realise)
        nixos = NixOS.model_validate({"build_user": setting})
        settings = Settings(runtime="nixos", state_dir=tmp_path, nixos=nixos)
        layout = Layout(tmp_path, tmp_path / "run")
        return BuildUserSelector(settings, layout, Store(Path("/nix/store")), PROGRAMS, **options)

    return make


@pytest.mark.parametrize("setting", ["dynamic", "auto"])
async def test_where_a_user_of_its_own_can_build_it_does(select: Select, setting: str) -> None:
    """A trial that succeeds is enough for both settings."""
    assert (await select(setting, None).confinement()).unprivileged


async def test_root_only_where_somebody_chose_it(select: Select) -> None:
    """Without a setting that allows root, nothing is built where Nix refuses; the reason is told."""
    with pytest.raises(HiveError, match="cannot connect") as refused:
        await select("dynamic", NixFailed("cannot connect")).confinement()
    assert (refused.value.code, refused.value.status) == ("no_build_user", 503)
    assert not (await select("auto", NixFailed("cannot connect")).confinement()).unprivileged
    assert not (await select("root", NixFailed("never tried")).confinement()).unprivileged


async def test_a_fallback_is_tried_again_after_a_moment(select: Select, monkeypatch: pytest.MonkeyPatch) -> None:
    """One proposal asks several times and makes one trial; later builds leave root as soon as Nix allows it."""
    selector = select("auto", NixFailed("cannot connect"))
    root = await selector.confinement()
    select("auto", None)
    assert await selector.confinement() is root and not root.unprivileged
    monkeypatch.setattr(build_user, "_RETRY_SECONDS", 0.0)
    assert (await selector.confinement()).unprivileged


@pytest.mark.parametrize("setting", ["dynamic", "auto", "root"])
async def test_nothing_is_built_without_sandbox_and_seal(select: Select, setting: str) -> None:
    """Whoever evaluates: without build users, without units that have no network, or if Nix's sandbox does not work,
    nothing is built, and the reason is told.
    """
    for host, code, words in (
        ({"group": ""}, "no_build_users", "without build users"),
        ({"private_network": False}, "cannot_build", "PrivateNetwork"),
        ({"unable": NixFailed("error: no sandbox")}, "cannot_build", "error: no sandbox"),
    ):
        with pytest.raises(HiveError, match=words) as refused:
            await select(setting, None, **host).confinement()
        assert refused.value.code == code


async def test_nothing_is_evaluated_in_a_full_store(select: Select) -> None:
    """Without the reserve of free space nothing begins, and no setting gives root to a configuration for that."""
    for setting, code in (("auto", "no_build_user"), ("root", "cannot_build")):
        with pytest.raises(HiveError, match="free space") as refused:
            await select(setting, None, free=1024**2).confinement()
        assert refused.value.code == code


@pytest.mark.parametrize("ends", [BuildFailed("the build took longer than 60 s"), HiveError("cannot_build", "no room")])
async def test_a_loaded_host_gives_nobody_root(select: Select, ends: Exception) -> None:
    """A trial that was stopped says nothing about Nix: also `auto` builds nothing then, and tries again later."""
    with pytest.raises(HiveError) as refused:
        await select("auto", ends).confinement()
    assert refused.value.code == "no_build_user"


async def test_a_failed_trial_is_believed_for_a_moment(select: Select, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers who queue up behind a failed trial are refused with the same reason, and it is tried again afterwards."""
    selector = select("dynamic", NixFailed("first"))
    with pytest.raises(HiveError, match="first"):
        await selector.confinement()
    select("dynamic", NixFailed("second"))
    with pytest.raises(HiveError, match="first"):
        await selector.confinement()
    monkeypatch.setattr(build_user, "_RETRY_SECONDS", 0.0)
    with pytest.raises(HiveError, match="second"):
        await selector.confinement()


@pytest.mark.parametrize(("trial", "ended"), [("build-trial", True), ("doctor-7", False)])
async def test_a_daemon_that_starts_ends_its_own_trials_only(
    select: Select, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trial: str, ended: bool
) -> None:
    """The clean-up at the start of the daemon ends and removes a trial that it left, and not the trial of a doctor."""
    selector = select("dynamic", None, trial=trial)
    scratch = Layout(tmp_path, tmp_path / "run").scratch
    units: list[str] = []

    def found() -> list[Path]:
        return list(scratch.iterdir())

    async def fake_execute(unit: str, argv: list[str], _limits: object, say: Callable[[str], None], **_: str) -> None:
        units.append(unit)
        if "readlink" in argv:
            say("net:[1]")
            return
        assert len(await asyncio.to_thread(found)) == 1
        await remove_all_workspaces(scratch)
        assert (await asyncio.to_thread(found) == []) is ended

    monkeypatch.setattr(build_user, "execute", fake_execute)
    await selector.confinement()
    patterns: list[str] = []

    async def forget(pattern: str) -> None:
        patterns.append(pattern)

    monkeypatch.setattr(executor, "forget", forget)
    await executor.forget_all()
    assert fnmatch(units[0], patterns[0]) is ended

"""The settings and the order in which derivations are built and fetched; the units themselves are those of a fake."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from hive_core.runtimes.base import BuildFailed, FetchesMissing
from hive_core.runtimes.nixos.build import realise
from hive_core.runtimes.nixos.build.derivations import Derivation, Output, Plan
from hive_core.runtimes.nixos.build.realise import Realiser, realise_options
from hive_core.runtimes.nixos.build.store import Store
from hive_core.runtimes.nixos.build.unit.confinement import BuildLimits, Confinement
from hive_core.runtimes.nixos.build.workspace import BuildWorkspace, create_workspace

STORE = Path("/nix/store")


def drv(name: str) -> str:
    return f"/nix/store/{name:0<32}-{name}.drv"


def out(name: str) -> str:
    return drv(name).removesuffix(".drv")


def derivation(name: str, *inputs: str, fixed: bool = False) -> Derivation:
    output = Output(out(name), "sha256" if fixed else "", "00" if fixed else "")
    return Derivation(drv(name), {"out": output}, [drv(one) for one in inputs], "/bin/sh", {"url": f"http://{name}"})


class Host:
    """A host with derivations to build; `done` are the runs of Nix in units: purpose and what was asked for."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.derivations: dict[str, Derivation] = {}
        self.plan = Plan()
        self.done: list[tuple[str, ...]] = []
        self.substituted: list[str] = []
        self.result = ""
        self.workspace = BuildWorkspace.of(directory, "ada-1")
        create_workspace(self.workspace)

        async def fake_execute(_unit: str, argv: list[str], *_: object) -> None:
            purpose = next(word for word in argv if word.startswith("--description=")).split()[1]
            words = argv[argv.index("--realise") + 1 :]
            asked = words[: words.index("--add-root")]
            self.done.append((purpose, *asked))
            link = Path(words[words.index("--add-root") + 1])
            await asyncio.to_thread(link.symlink_to, self.result or asked[0].removesuffix(".drv"))

        async def fake_plan(*_: object) -> Plan:
            return self.plan

        async def fake_substitute(_self: Store, paths: list[str], *_: object) -> None:
            self.substituted += paths

        monkeypatch.setattr(realise, "execute", fake_execute)
        monkeypatch.setattr(realise, "read_derivation", lambda path: self.derivations[str(path)])
        monkeypatch.setattr(Store, "plan", fake_plan)
        monkeypatch.setattr(Store, "substitute", fake_substitute)

    def has(self, *derivations: Derivation, substitutes: tuple[str, ...] = (), unpacked: float = 0) -> None:
        """Let all of the derivations be missing, the last one being what is wanted."""
        self.derivations = {one.path: one for one in derivations}
        self.plan = Plan([one.path for one in derivations], substitutes, unpacked)

    async def build(self, *allowed: str) -> str:
        limits = BuildLimits("1G", 100, 60, "1G")
        confinement = Confinement("/bin/systemd-run", unprivileged=True, limits=limits, hidden=[])
        options = realise_options({}, STORE)
        realiser = Realiser("nix-store", options, Store(STORE), confinement, self.workspace, "unit", print)
        return await realiser.realise(next(reversed(self.derivations)), frozenset(map(drv, allowed)))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


async def test_everything_is_built_in_one_unit_without_network(host: Host) -> None:
    """Without fetches, what substituters have is asked for, and the rest is built at once, without network."""
    host.has(derivation("a"), derivation("system", "a"), substitutes=(out("c"),))
    assert await host.build() == out("system")
    assert host.substituted == [out("c")]
    assert host.done == [("realise", drv("system"))]


async def test_missing_fetches_end_the_build_before_it_begins(host: Host) -> None:
    """All fetches that nobody has allowed are named, and nothing is built, substituted or fetched."""
    fetches = [derivation("f", fixed=True), derivation("g", fixed=True), derivation("h", fixed=True)]
    host.has(*fetches, derivation("system", "f", "g", "h"), substitutes=(out("c"),))
    with pytest.raises(FetchesMissing, match="2 fetches") as caught:
        await host.build("g", "other")
    assert [fetch.derivation for fetch in caught.value.fetches] == [drv("f"), drv("h")]
    assert (host.done, host.substituted) == ([], [])


async def test_only_an_allowed_derivation_runs_with_network(host: Host) -> None:
    """The inputs of a fetch are built before without network, a fetch that another one needs comes first, and each is
    the only derivation of its unit.
    """
    host.has(
        derivation("tool"),
        derivation("second", "tool", "unpacked", fixed=True),
        derivation("unpacked", "first"),
        derivation("first", "tool", fixed=True),
        derivation("system", "second"),
    )
    assert await host.build("first", "second") == out("system")
    assert host.done == [
        ("realise", drv("tool")),
        ("fetch", drv("first")),
        ("realise", drv("tool"), drv("unpacked")),
        ("fetch", drv("second")),
        ("realise", drv("system")),
    ]


async def test_another_result_is_refused(host: Host) -> None:
    """The link of Nix has to lead to the output of the derivation."""
    host.has(derivation("system"))
    host.result = out("other")
    with pytest.raises(BuildFailed, match="instead of"):
        await host.build()


async def test_large_downloads_are_refused(host: Host) -> None:
    """More packages from substituters than a build may write to the disk are not fetched."""
    host.has(derivation("system"), substitutes=(out("c"),), unpacked=2 * 1024**3)
    with pytest.raises(BuildFailed, match=r"more than 1,024 MiB of packages"):
        await host.build()
    assert host.substituted == []


async def test_plans_with_too_much_to_read_are_refused(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """More derivations, or more bytes of them, than a real system has end the build before anything is built."""
    host.has(derivation("a"), derivation("b"), replace(derivation("system", "a", "b"), size=1000))
    monkeypatch.setattr(realise, "_MOST_BYTES", 999)
    with pytest.raises(BuildFailed, match="more than 0 MiB of text: put long texts into files"):
        await host.build()
    monkeypatch.setattr(realise, "_MOST_BUILDS", 2)
    with pytest.raises(BuildFailed, match="the build has 3 derivations to build, at most 2 are built"):
        await host.build()
    assert host.done == []


def test_the_settings_of_the_host_do_not_open_the_sandbox() -> None:
    """Sandbox without fallback, nothing from elsewhere, no program and no path of the host's."""
    options = realise_options({"sandbox": False, "sandbox-paths": ["/dev/kvm", "/bin/sh=/usr/bin/sh"]}, STORE)
    wanted = {"sandbox": "true", "sandbox-fallback": "false", "substitute": "false", "store": "local"}
    assert wanted.items() <= options.items()
    empty = ("substituters", "builders", "post-build-hook", "pre-build-hook", "experimental-features", "sandbox-paths")
    assert {name: options[name] for name in empty} == dict.fromkeys(empty, "")
    assert not {"max-jobs", "build-dir", "use-cgroups", "auto-allocate-uids"} & options.keys()


def test_what_needs_an_experimental_feature_is_off() -> None:
    """A setting that the host has on is switched off before its feature is; others are not named."""
    options = realise_options({"auto-allocate-uids": True, "use-cgroups": True}, STORE)
    assert list(options)[:2] == ["auto-allocate-uids", "use-cgroups"]
    assert (options["auto-allocate-uids"], options["use-cgroups"]) == ("false", "false")
    assert options["experimental-features"] == ""
    assert "use-cgroups" not in realise_options({"use-cgroups": False}, STORE)


def test_nothing_is_signed_with_a_key_of_the_host() -> None:
    """The keys with which the host signs what it builds itself are not used for what an agent has built."""
    assert realise_options({"secret-key-files": ["/etc/nix/key"]}, STORE)["secret-key-files"] == ""


SHELL = "/bin/sh=/nix/store/x-busybox/bin/busybox"
SHELLS: list[tuple[object, str]] = [
    ([SHELL, "/run/secrets", "/etc=/nix/store/x"], SHELL),
    (["/bin/sh=/nix/store/../../usr/bin/sh"], ""),
    (["/bin/sh"], ""),
    (SHELL, ""),
    ({"/bin/sh": {"source": "/nix/store/x-busybox/bin/busybox"}, "/etc": {"source": "/nix/store/x"}}, SHELL),
    ({"/bin/sh": {"source": "/usr/bin/bash-static"}}, ""),
    ({"/bin/sh": "/nix/store/x"}, ""),
    (None, ""),
]  # fmt: skip


@pytest.mark.parametrize(("paths", "kept"), SHELLS)
def test_only_a_shell_from_the_store_stays_in_the_sandbox(paths: object, kept: str) -> None:
    """Of the paths that the host shows to builders, the shell that NixOS has there is kept."""
    assert realise_options({"sandbox-paths": paths}, STORE)["sandbox-paths"] == kept


def test_a_host_that_has_others_build_still_builds_for_the_hive() -> None:
    """Without remote builders, at least one job has to run here; temporary files are in the workspace."""
    assert realise_options({"max-jobs": 0, "build-dir": None}, STORE)["max-jobs"] == "1"
    assert "build-dir" in realise_options({"build-dir": None}, STORE)

"""What differs between two systems, in words."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from hive_core.runtimes.nixos.build.closure import closure_diff
from hive_core.runtimes.nixos.build.store import Store
from tests.unit.core.runtimes.nixos.build.isolated_nix import OwnNix, needs_nix

FIRST, SECOND = "a" * 32, "b" * 32


def paths(**sizes: int) -> dict[str, int]:
    """A system of these packages, which are written with _ for the dash and __ for the dot."""
    names = {name.replace("__", ".").replace("_", "-"): size for name, size in sizes.items()}
    return {f"/nix/store/{FIRST}-{name}": size for name, size in names.items()}


KIB = 1024


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({}, {"git_2__50": 41 * KIB**2}, ["git 2.50 added (+41.0 MiB)"]),
        ({"jq_1__8": KIB**2}, {}, ["jq 1.8 removed (-1.0 MiB)"]),
        ({"glibc_2__39": 1, "glibc_2__40": 1}, {"glibc_2__41": 1}, ["glibc 2.39, 2.40 → 2.41"]),
        ({"glibc_2__39": 1}, {"glibc_2__39": 1, "glibc_2__41": 1}, ["glibc 2.41 added"]),
        ({"linux_6__1": KIB}, {"linux_6__6": KIB**2 + KIB}, ["linux 6.1 → 6.6 (+1.0 MiB)"]),
        ({"etc": KIB}, {"etc": 11 * KIB}, ["etc changed (+10.0 KiB)"]),
        ({"etc": KIB}, {"etc": 2 * KIB}, []),
        ({}, {"tool": 1}, ["tool added"]),
        ({"tool": 1}, {"tool_1__0": 1}, ["tool → 1.0"]),
        ({"tool_1__0": 1}, {"tool": 1}, ["tool 1.0 → no version"]),
        ({"git_2__50": 1, "git_2__50_doc": 9 * KIB}, {"git_2__50": 1}, ["git changed (-9.0 KiB)"]),
        ({"nixos_system_ada": 1}, {"nixos_system_bob": 1}, ["nixos-system-ada removed", "nixos-system-bob added"]),
    ],
)
def test_each_package_has_a_line(old: dict[str, int], new: dict[str, int], words: list[str]) -> None:
    """Packages that came and went, other versions, and the size; outputs of one package are told of together."""
    assert closure_diff.packages(paths(**old), paths(**new)) == words


def test_another_hash_alone_is_no_change() -> None:
    """A package that was built anew, with the same version and size, is not told of."""
    old, new = ({f"/nix/store/{digest}-git-2.50": 5} for digest in (FIRST, SECOND))
    assert closure_diff.packages(old, new) == []


def test_many_packages_are_summed_up() -> None:
    """A list that nobody would read is cut and says by how much."""
    old, new = ({f"/nix/store/{FIRST}-p{number}x-{version}": 1 for number in range(1_000)} for version in (1, 2))
    words = closure_diff.packages(old, new)
    assert len(words) == closure_diff.MOST
    assert words[-1] == "and 801 more packages"


def test_the_size_is_told() -> None:
    """The whole size and its change are told in units that can be read."""
    assert closure_diff.size(None, 1536) == "all of it: 1.5 KiB"
    assert closure_diff.size(1024, 1024) == "all of it: 1.0 KiB, as before"
    assert closure_diff.size(3 * 1024**3, 1024**3) == "all of it: 1.0 GiB, 2.0 GiB less than before"
    assert closure_diff.size(0, 100) == "all of it: 100 bytes, 100 bytes more than before"


class Systems:
    """A store with systems in it, laid out as NixOS does: links to directories of links to units."""

    def __init__(self, directory: Path) -> None:
        self.store = directory / "store"
        self.store.mkdir()

    def system(self, name: str, units: dict[str, str]) -> Path:
        system, files = self.store / name, self.store / f"{name}-units"
        (system / "etc/systemd").mkdir(parents=True)
        files.mkdir()
        (system / "etc/systemd/system").symlink_to(files)
        for unit, text in units.items():
            made = self.store / f"{name}-unit-{unit}" / unit
            made.parent.mkdir()
            made.write_text(text)
            (files / unit).symlink_to(made)
        return system

    def diff(self, old: Path | None, new: Path) -> list[str]:
        return closure_diff.units(old, new, self.store)


@pytest.fixture
def systems(tmp_path: Path) -> Systems:
    return Systems(tmp_path.resolve())


def test_changed_units_are_listed(systems: Systems) -> None:
    """Units that were added, removed and changed, and last those that only run something from another path."""
    run = f"ExecStart={systems.store}/{{}}-nginx/bin/nginx\n"
    old = systems.system(
        "old", {"a.service": "1", "b.timer": "1", "nginx.service": run.format(FIRST), "same.path": "1"}
    )
    new = systems.system(
        "new", {"a.service": "2", "c.socket": "1", "nginx.service": run.format(SECOND), "same.path": "1"}
    )
    assert systems.diff(old, new) == [
        "unit a.service changed",
        "unit b.timer removed",
        "unit c.socket added",
        "unit nginx.service: only the store paths in it",
    ]
    assert systems.diff(new, new) == []


def test_the_first_system_is_summed_up(systems: Systems) -> None:
    """Without a system before, the units are told in one line."""
    new = systems.system("new", {"b.service": "1", "a.service": "1", "README": "no unit"})
    assert systems.diff(None, new) == ["2 units: a.service, b.service"]
    assert systems.diff(None, systems.system("none", {})) == []


def test_masked_units_and_drop_ins_are_seen(systems: Systems) -> None:
    """A unit that becomes masked has changed, and so has one with another drop-in."""
    old = systems.system("old", {"ssh.service": "1"})
    new = systems.system("new", {})
    (systems.store / "new-units/ssh.service").symlink_to("/dev/null")
    drop_ins = systems.store / "new-units/cron.service.d"
    drop_ins.mkdir()
    (drop_ins / "overrides.conf").write_text("[Service]\n")
    assert systems.diff(old, new) == ["unit cron.service.d/overrides.conf added", "unit ssh.service changed"]


def test_nothing_outside_of_the_store_is_read(systems: Systems, tmp_path: Path) -> None:
    """Links in a system are an agent's: what they point to elsewhere is not opened, nor waited for."""
    secret = tmp_path / "secret"
    secret.write_text("1")
    os.mkfifo(tmp_path / "pipe")
    old, new = systems.system("old", {}), systems.system("new", {})
    for system in ("old", "new"):
        units = systems.store / f"{system}-units"
        (units / "file.service").symlink_to(secret)
        (units / "loop.service").symlink_to(systems.store / "loop")
        (units / "pipe.service").symlink_to(tmp_path / "pipe")
        (units / "inside.service").symlink_to(systems.store / "pipe")
        (units / "all.service.d").symlink_to("/")
    os.mkfifo(systems.store / "pipe")
    (systems.store / "loop").symlink_to(systems.store / "loop")
    assert systems.diff(old, new) == []
    (systems.store / "away").mkdir()
    (systems.store / "away/etc").symlink_to(tmp_path)
    assert systems.diff(old, systems.store / "away")[0] == "unit file.service removed"


def test_directories_named_like_units_keep_no_descriptor(systems: Systems) -> None:
    """A proposal with many of them cannot take the daemon's descriptors."""
    old, new = systems.system("old", {}), systems.system("new", {})
    for number in range(20):
        (systems.store / f"new-units/{number:02}.service").mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert len(systems.diff(old, new)) == 20
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_large_units_fill_no_memory(systems: Systems) -> None:
    """What units say is not kept: many large ones take no more memory than one."""
    old, new = systems.system("old", {}), systems.system("new", {})
    for number in range(40):
        (systems.store / f"new-units/{number}.service").write_bytes(b"x" * 200_000)
    tracemalloc.start()
    try:
        assert len(systems.diff(old, new)) == 40
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_parts_of_units_are_counted(systems: Systems, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is on everything beside the units, too, and whoever decides is told that there is more."""
    monkeypatch.setattr(closure_diff, "_MOST_ENTRIES", 10)
    old, new = systems.system("old", {}), systems.system("new", {"z.service": "1"})
    for number in range(2):
        drop_ins = systems.store / f"new-units/{number}.service.d"
        drop_ins.mkdir()
        for part in range(7):
            (drop_ins / f"{part}.conf").write_text("")
    cut, *added = systems.diff(old, new)
    assert "not all of them were compared" in cut
    assert len(added) == 8
    first, summary = systems.diff(None, new)
    assert first == cut
    assert summary.startswith("8 units: ")
    for path in (systems.store / "new-units/1.service.d").iterdir():
        path.unlink()
    assert len(systems.diff(old, new)) == 8


def test_files_that_are_no_units_are_counted(systems: Systems, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can hide a unit among other files without a word."""
    monkeypatch.setattr(closure_diff, "_MOST_ENTRIES", 5)
    new = systems.system("new", {f"README{number}": "" for number in range(6)})
    assert systems.diff(None, new) == [closure_diff._CUT]


@pytest.mark.parametrize(("limit", "most"), [("_LARGEST", 3), ("_MOST_BYTES", 4)])
def test_what_is_too_much_to_read_counts_as_changed(
    systems: Systems, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    """A change beyond what is read cannot hide: a unit from another path is told of, one from the same is not."""
    monkeypatch.setattr(closure_diff, limit, most)
    old = systems.system("old", {"a.service": "1", "b.service": "1234"})
    new = systems.system("new", {"a.service": "1", "b.service": "1235"})
    assert systems.diff(old, new) == ["unit b.service changed"]
    assert systems.diff(new, new) == []


def test_names_cannot_do_harm(systems: Systems) -> None:
    """A unit's name is an agent's choice: it stays in its line and brings no colours."""
    new = systems.system("new", {"a\nunit b.service added\x1b[31m.service": "1"})
    assert systems.diff(systems.system("old", {}), new) == ["unit a unit b.service added\\x1b[31m.service added"]


@needs_nix
async def test_real_nix_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a real Nix tells of two systems becomes words, the same that `nix store diff-closures` has for them."""
    nix = OwnNix(tmp_path)
    for name, text in nix.variables.items():
        monkeypatch.setenv(name, text)
    git = nix.add("git-2.50", "mkdir $out; head -c 100000 /dev/zero > $out/a")
    jq = [nix.add(f"jq-{version}", f"echo {version} > $out") for version in ("1.7", "1.8")]
    old = nix.add("nixos-system-ada", f"echo {jq[0]} > $out", jq[:1])
    new = nix.add("nixos-system-ada", f"echo {jq[1]} {git} > $out", [jq[1], git])
    store = Store(nix.store)
    words = closure_diff.packages(await store.paths_of(old), await store.paths_of(new))
    assert words == ["git 2.50 added (+97.9 KiB)", "jq 1.7 → 1.8"]
    said = nix.flake("store", "diff-closures", old, new)
    assert all(name in said for name in ("git: ", "jq: 1.7", "+97.9 KiB")) and len(said.splitlines()) == 2

"""The unit in which a build is evaluated: what it is told to keep away from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.runtimes.nixos.build.confinement import BuildLimits, Confinement, check_path, unit_name

STATE = Path("/var/lib/hyperhive")
CONFINEMENT = Confinement(
    systemd_run="/bin/systemd-run",
    unprivileged=True,
    limits=BuildLimits("4G", 512, 1800.5),
    hidden=[STATE, Path("/run/hyperhive")],
    store=[Path("/nix/store"), Path("/nix/var")],
    environment={"PATH": "/bin", "HOME": "/root"},
)


def line(confinement: Confinement) -> list[str]:
    place = STATE / "scratch/nix-1"
    shown = {place / "repository": STATE / "applied/ada.git"}
    return confinement.argv(
        unit_name("ada", 7), ["nix", "build"], directory=place, shown=shown, variables={"HOME": str(place / "home")}
    )


def settings(confinement: Confinement) -> set[str]:
    return {word.removeprefix("--property=") for word in line(confinement) if word.startswith("--property=")}


def test_a_build_is_waited_for() -> None:
    """systemd-run waits, passes on output and exit code, and runs exactly the command."""
    words = line(CONFINEMENT)
    assert words[0] == "/bin/systemd-run"
    assert {"--wait", "--pipe", "--quiet", "--unit=hive-build-ada-7.service"} <= set(words)
    assert words[words.index("--") :] == ["--", "nix", "build"]


def test_limits_are_the_operators() -> None:
    """Memory, tasks and time of an evaluation are bounded, and swap does not get around that."""
    assert {"MemoryMax=4G", "MemorySwapMax=0", "TasksMax=512", "RuntimeMaxSec=1800"} <= settings(CONFINEMENT)


@pytest.mark.parametrize("unprivileged", [True, False])
def test_only_its_own_directory_is_seen(unprivileged: bool) -> None:
    """The hive's directories are empty but for the work and the one repository, which cannot be written."""
    found = settings(replace(CONFINEMENT, unprivileged=unprivileged))
    assert {
        "TemporaryFileSystem=/var/lib/hyperhive:mode=0755,size=1M",
        "TemporaryFileSystem=/run/hyperhive:mode=0755,size=1M",
        "BindPaths=/var/lib/hyperhive/scratch/nix-1:/var/lib/hyperhive/scratch/nix-1",
        "BindReadOnlyPaths=/var/lib/hyperhive/scratch/nix-1/repository:/var/lib/hyperhive/applied/ada.git",
        "InaccessiblePaths=-/run/dbus",
        "InaccessiblePaths=-/run/systemd/private",
        "InaccessiblePaths=-/var/lib/nixos-containers",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "NoNewPrivileges=yes",
    } <= found
    assert not [setting for setting in found if setting.startswith("PrivateNetwork")]


def test_an_own_user_has_no_rights() -> None:
    """Through the Nix daemon, who evaluates is nobody on this host and writes no store."""
    found = settings(CONFINEMENT)
    assert {"DynamicUser=yes", "CapabilityBoundingSet=", "RestrictNamespaces=yes"} <= found
    assert not [setting for setting in found if setting.startswith("ReadWritePaths")]
    assert "--setenv=NIX_REMOTE=daemon" in line(CONFINEMENT)


def test_root_writes_the_store() -> None:
    """Without a daemon it is root that builds, and nothing but the store can be written."""
    confinement = replace(CONFINEMENT, unprivileged=False)
    found = settings(confinement)
    assert {"ReadWritePaths=-/nix/store", "ReadWritePaths=-/nix/var"} <= found
    assert "DynamicUser=yes" not in found
    assert not [word for word in line(confinement) if "NIX_REMOTE" in word]


def test_the_home_is_its_own() -> None:
    """Nix and git find a home in the build's directory, whatever the daemon's is."""
    assert "--setenv=HOME=/var/lib/hyperhive/scratch/nix-1/home" in line(CONFINEMENT)
    assert "--setenv=HOME=/root" not in line(CONFINEMENT)


@pytest.mark.parametrize(
    "path", ["relative", "/a b", "/a:b", "/a$b", "/a%b", "/a\\b", "/a*", "/ä", "/a\nb", "/", "/a;b"]
)
def test_paths_with_a_meaning_are_refused(path: str) -> None:
    """A path that systemd or Nix would read as something else is refused when the hive starts."""
    with pytest.raises(HiveError, match="cannot be used") as caught:
        check_path(Path(path))
    assert caught.value.code == "unusable_path"


def test_plain_paths_are_fine() -> None:
    """The usual ones are accepted."""
    check_path(STATE)
    check_path(Path("/srv/hive-2/state_1.d"))

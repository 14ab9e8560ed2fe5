"""The units of a build: what they are told to keep away from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.runtimes.nixos.build.unit.confinement import BuildLimits, Confinement, Purpose, check_path, unit_name

STATE = Path("/var/lib/hyperhive")
CONFINEMENT = Confinement(
    systemd_run="/bin/systemd-run",
    unprivileged=True,
    limits=BuildLimits("4G", 512, 1800.5),
    hidden=[STATE, Path("/run/hyperhive")],
    store=[Path("/nix/store"), Path("/nix/var")],
    environment={"PATH": "/bin", "HOME": "/root"},
    network_environment={"https_proxy": "http://name:password@proxy"},
)
AS_ROOT = replace(CONFINEMENT, unprivileged=False)
PURPOSES: tuple[Purpose, ...] = ("evaluate", "realise", "fetch")
WITHOUT_NETWORK: tuple[Purpose, ...] = ("evaluate", "realise")


def line(confinement: Confinement, purpose: Purpose = "evaluate") -> list[str]:
    place = STATE / "scratch/nix-1"
    return confinement.argv(
        unit_name("ada-7"),
        ["nix", "build"],
        purpose=purpose,
        directory=place,
        variables={"HOME": str(place / "home")},
    )


def settings(confinement: Confinement, purpose: Purpose = "evaluate") -> set[str]:
    words = line(confinement, purpose)
    return {word.removeprefix("--property=") for word in words if word.startswith("--property=")}


def test_a_build_is_waited_for() -> None:
    """systemd-run waits, passes on output and exit code, and runs exactly the command."""
    words = line(CONFINEMENT)
    assert words[0] == "/bin/systemd-run"
    assert {"--wait", "--pipe", "--quiet", "--unit=hive-build-ada-7.service"} <= set(words)
    assert words[words.index("--") :] == ["--", "nix", "build"]


@pytest.mark.parametrize("purpose", PURPOSES)
def test_limits_are_the_operators(purpose: Purpose) -> None:
    """Memory, tasks, time and files of every unit are bounded, and swap does not get around that."""
    assert {
        "MemoryMax=4G",
        "MemorySwapMax=0",
        "TasksMax=512",
        "RuntimeMaxSec=1800",
        "LimitCPU=1800:1805",
        "LimitFSIZE=32G",
    } <= settings(CONFINEMENT, purpose)


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize("confinement", [CONFINEMENT, AS_ROOT])
def test_only_its_own_directory_is_seen(confinement: Confinement, purpose: Purpose) -> None:
    """The hive's directories are empty but for the workspace, and no repository is shown."""
    found = settings(confinement, purpose)
    assert {
        "TemporaryFileSystem=/var/lib/hyperhive:mode=0755,size=1M",
        "TemporaryFileSystem=/run/hyperhive:mode=0755,size=1M",
        "BindPaths=/var/lib/hyperhive/scratch/nix-1:/var/lib/hyperhive/scratch/nix-1",
        "InaccessiblePaths=-/run/dbus",
        "InaccessiblePaths=-/run/systemd/private",
        "InaccessiblePaths=-/var/lib/nixos-containers",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "NoNewPrivileges=yes",
    } <= found
    assert not [setting for setting in found if setting.startswith("BindReadOnlyPaths")]


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize("confinement", [CONFINEMENT, AS_ROOT])
def test_only_an_allowed_fetch_has_the_network(confinement: Confinement, purpose: Purpose) -> None:
    """The other units have no network, do not reach services that look up names, and get no password of a proxy."""
    cut_off = {"PrivateNetwork=yes", "InaccessiblePaths=-/run/nscd", "InaccessiblePaths=-/run/systemd/resolve"}
    assert (cut_off <= settings(confinement, purpose)) is (purpose in WITHOUT_NETWORK)
    assert ("password" in " ".join(line(confinement, purpose))) is (purpose == "fetch")


def test_an_own_user_has_no_rights() -> None:
    """Through the Nix daemon, the user that evaluates has one name, no rights on this host, and writes no store."""
    found = settings(CONFINEMENT)
    assert {
        "User=hyperhive-build",
        "DynamicUser=yes",
        "CapabilityBoundingSet=",
        "RestrictNamespaces=yes",
        "RestrictAddressFamilies=AF_UNIX AF_NETLINK",
    } <= found
    assert not [setting for setting in found if setting.startswith("ReadWritePaths")]
    assert "--setenv=NIX_REMOTE=daemon" in line(CONFINEMENT)


@pytest.mark.parametrize(
    ("confinement", "purpose"), [(AS_ROOT, "evaluate"), (CONFINEMENT, "realise"), (CONFINEMENT, "fetch")]
)
def test_root_writes_the_store(confinement: Confinement, purpose: Purpose) -> None:
    """Root evaluates and builds without the Nix daemon, and nothing but the store can be written."""
    found = settings(confinement, purpose)
    assert {"ReadWritePaths=-/nix/store", "ReadWritePaths=-/nix/var"} <= found
    assert not {"DynamicUser=yes", "User=hyperhive-build"} & found
    assert not [word for word in line(confinement, purpose) if "NIX_REMOTE" in word]
    assert ("InaccessiblePaths=-/nix/var/nix/daemon-socket" in found) is (purpose != "evaluate")


def test_the_home_is_its_own() -> None:
    """Nix finds a home in the build's directory, whatever the daemon's is."""
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

"""The fake for `nixos-container` does what is known of the real one. What it calls are scripts here.

Where HIVE_NIXOS_CONTAINER names the Perl script of nixpkgs, the same is asked of that.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
REAL = os.environ.get("HIVE_NIXOS_CONTAINER")
NEWEST = "25.11"

FAKE = """\
#!/bin/sh
echo "${0##*/} $*" >>"$CALLS"
case "${0##*/} $*" in
  'systemctl show'*) echo "ActiveState=$ACTIVE" ;;
  'machinectl show'*) echo "$LEADER" ;;
  'nix eval'*isNspawnContainer) echo "$IS_CONTAINER" ;;
  'nix eval'*) echo 25.11 ;;
  'nix-instantiate'*isNspawnContainer*) echo "$IS_CONTAINER" ;;
  'nix-instantiate'*) echo true ;;
  'nix build'*) [ "$FAILS" = nix ] && exit 3; ln -sfn /nix/store/new "$3" ;;
esac
[ "$FAILS" = "${0##*/}" ] && exit 4
exit 0
"""


@dataclass
class Result:
    code: int
    out: str
    err: str


class Machine:
    """A root directory of the fake's own, and a PATH of programs that write down how they are called."""

    def __init__(self, root: Path, real: str | None) -> None:
        self.root = root
        self.calls_file = root / "calls"
        self.bin = root / "bin"
        self.bin.mkdir()
        for name in ("nix", "nix-env", "nix-instantiate", "systemctl", "machinectl", "nsenter", "su"):
            (self.bin / name).write_text(FAKE)
            (self.bin / name).chmod(0o755)
        self.command = [sys.executable, "-P", "-S", "-m", "tests.helpers.fake_nixos_container"]
        self.only_release: str | None = None
        if real is not None:
            self._put_real(Path(real).read_text(encoding="utf-8"))

    def _put_real(self, text: str) -> None:
        """The script of nixpkgs with every path below this directory; its release is told by what it can do."""
        self.only_release = "24.05"
        if '"--all", "-t"' in text:
            self.only_release = "25.11" if "use-host-network" in text else "25.05"
        values = {
            "perl": "/usr",
            "su": self.bin / "su",
            "lib": "/lib",
            "utillinux": self.root,
            "util-linux": self.root,
            "configurationDirectory": self.root / "etc/nixos-containers",
            "stateDirectory": self.root / "var/lib/nixos-containers",
        }
        for name, value in values.items():
            text = text.replace(f"@{name}@", str(value))
        for place in ("/nix/var/nix/", "/run/lock/"):
            text = text.replace(place, f"{self.root}{place}")
        # Were the first two not there, the statuses of later errors would be those of having looked for them.
        for directory in ("etc/nixos-containers", "var/lib/nixos-containers", "run/lock", "cwd"):
            (self.root / directory).mkdir(parents=True)
        (self.root / "cwd/prog").write_text(text, encoding="utf-8")
        self.command = ["perl", "prog"]

    def run(self, *arguments: str, **variables: str) -> Result:
        """Call the program, in a directory of the machine."""
        if self.only_release not in (None, variables.get("NIXOS_CONTAINER_RELEASE", self.only_release)):
            pytest.skip(f"the real program is of {self.only_release}")
        place = self.root / "cwd"
        place.mkdir(exist_ok=True)
        environment = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "NIXOS_CONTAINER_ROOT": str(self.root),
            "NIXOS_CONTAINER_PROGRAM": "prog",
            "CALLS": str(self.calls_file),
            "ACTIVE": "inactive",
            "FAILS": "",
            **variables,
        }
        command = [*self.command, *arguments]
        done = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, check=False)
        return Result(done.returncode, done.stdout, re.sub(r"(?<=prog line )[0-9]+", "1", done.stderr))

    @property
    def calls(self) -> list[str]:
        """How programs were called since the last look."""
        if not self.calls_file.exists():
            return []
        lines = self.calls_file.read_text().splitlines()
        self.calls_file.unlink()
        return lines

    def conf(self, name: str) -> Path:
        return self.root / "etc/nixos-containers" / f"{name}.conf"

    @property
    def profile(self) -> str:
        return f"{self.root}/nix/var/nix/profiles/per-container"


@pytest.fixture(params=[None, REAL] if REAL else [None], ids=lambda real: "real" if real else "fake")
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    """A machine without containers."""
    return Machine(tmp_path, request.param)


@pytest.mark.parametrize(
    ("arguments", "code", "err"),
    [
        ((), 255, "prog: no action specified\n"),
        (("start",), 255, "prog: no container name specified\n"),
        (("start", "a.b"), 255, "prog: invalid container name\n"),
        (("list", "--nope", "-la"), 1, "Unknown option: nope\nUnknown option: la\n"),
        (("create", "c", "--flake"), 1, "Option flake requires an argument\n"),
        (("start", "c"), 2, "prog: container ‘c’ does not exist\n"),  # noqa: RUF001 - as the real one quotes
        (("frob", "c"), 2, "prog: container ‘c’ does not exist\n"),  # noqa: RUF001
        (("create", "c", "--host-address", "1.2.3.4"), 255, "With --host-address set, --local-address is required as"
         " well! at prog line 1.\n"),
        (("destroy", "c"), 0, ""),
    ],
)  # fmt: skip
def test_refusals(machine: Machine, arguments: tuple[str, ...], code: int, err: str) -> None:
    """What is refused, in which words and with which status; to destroy what is not there is well."""
    done = machine.run(*arguments)
    assert (done.code, done.out, done.err) == (code, "", err)
    assert machine.calls == []


def test_create_with_a_system(machine: Machine) -> None:
    """The conf file's lines in their order, the profile set, nothing started; a second one has other addresses."""
    done = machine.run("create", "c1", "--system-path", "/nix/store/old")
    assert (done.code, done.err) == (0, "host IP is 10.233.1.1, container IP is 10.233.1.2\n")
    assert machine.conf("c1").read_text() == (
        "PRIVATE_NETWORK=1\nHOST_ADDRESS=10.233.1.1\nLOCAL_ADDRESS=10.233.1.2\nHOST_BRIDGE=\nHOST_PORT=\nAUTO_START=0\n"
    )
    assert machine.calls == [f"nix-env -p {machine.profile}/c1/system --set /nix/store/old"]
    assert not (machine.root / "var/lib/nixos-containers/c1").exists()
    machine.run("create", "c2", "--system-path", "/nix/store/old")
    assert "HOST_ADDRESS=10.233.2.1\n" in machine.conf("c2").read_text()
    assert machine.run("list").out == "c1\nc2\n"
    assert machine.run("show-ip", "c2").out == "10.233.2.2\n"


def test_create_refuses_a_name(machine: Machine) -> None:
    """A name that is taken, and one of more than eleven characters; with --ensure-unique-name a free one is found."""
    machine.run("create", "c", "--system-path", "/s")
    again = machine.run("create", "c", "--system-path", "/s")
    long = machine.run("create", "h-abcdefghij", "--system-path", "/s")
    unique = machine.run("create", "c", "--system-path", "/s", "--ensure-unique-name")
    assert (again.code, again.err) == (25, "prog: container ‘c’ already exists\n")  # noqa: RUF001
    assert (long.code, long.err) == (2, "prog: container name ‘h-abcdefghij’ is too long\n")  # noqa: RUF001
    assert (unique.code, unique.out) == (0, "c-0\n")


def test_create_leaves_its_conf_file_when_a_flake_does_not_build(machine: Machine) -> None:
    """The next create says that the container exists, and destroy cleans up."""
    done = machine.run("create", "c", "--flake", "/f#x", FAILS="nix")
    assert done.code == 2
    assert done.err.endswith("prog: failed to build container from flake '/f'\n")
    assert machine.calls == ['nix build -o .tmp -- /f#nixosConfigurations."x".config.system.build.toplevel']
    assert machine.conf("c").read_text().endswith("AUTO_START=0\nFLAKE=/f\n")
    assert machine.run("create", "c", "--flake", "/f").code == 25
    assert machine.run("destroy", "c").code == 0
    assert not machine.conf("c").exists()


def test_create_cleans_up_when_the_profile_cannot_be_set(machine: Machine) -> None:
    """Then nothing is left, neither of the conf file nor of the profile's directory."""
    done = machine.run("create", "c", "--system-path", "/s", FAILS="nix-env")
    assert done.code == 2
    assert done.err.endswith("prog: failed to set initial container configuration\n")
    assert not machine.conf("c").exists()
    assert not Path(machine.profile, "c").exists()


def test_options_for_nix(machine: Machine) -> None:
    """They go on with the pairs last; the link to what was built stays in the working directory."""
    options = ("--option", "a", "b", "--impure", "--log-format", "raw")
    machine.run("create", "c", "--flake", "/f", *options)
    build, profile = machine.calls
    assert build.startswith("nix build -o .tmp --impure --log-format raw --option a b -- ")
    assert profile.endswith("--set /nix/store/new")
    assert (machine.root / "cwd/.tmp").is_symlink()


def test_host_network(machine: Machine) -> None:
    """The newest release has an option for it; it writes no addresses, and then there is no address to show."""
    machine.run("create", "c", "--system-path", "/s", "--use-host-network", NIXOS_CONTAINER_RELEASE=NEWEST)
    assert machine.conf("c").read_text() == "PRIVATE_NETWORK=0\nHOST_BRIDGE=\nHOST_PORT=\nAUTO_START=0\n"
    shown = machine.run("show-ip", "c")
    assert (shown.code, shown.err) == (255, "prog: container uses host network, no separate IP address\n")


@pytest.mark.parametrize("release", ["24.05", "25.05"])
def test_older_releases_have_no_option_for_the_host_network(machine: Machine, release: str) -> None:
    """There it is refused as unknown."""
    old = machine.run("create", "c", "--system-path", "/s", "--use-host-network", NIXOS_CONTAINER_RELEASE=release)
    assert (old.code, old.err) == (1, "Unknown option: use-host-network\n")


def test_units(machine: Machine) -> None:
    """Start, stop and restart are systemctl's, with its status on failure; status says what systemd shows."""
    machine.run("create", "c", "--system-path", "/s")
    assert machine.calls
    failed = machine.run("start", "c", FAILS="systemctl")
    assert (failed.code, failed.err) == (4, "prog: failed to start container\n")
    machine.run("restart", "c")
    assert machine.calls == [f"systemctl {verb} container@c" for verb in ("start", "stop", "start")]
    shown = {state: machine.run("status", "c", ACTIVE=state).out for state in ("active", "inactive", "activating")}
    assert shown == {"active": "up\n", "inactive": "down\n", "activating": "down\n"}
    gone = machine.run("status", "d")
    assert (gone.code, gone.out) == (2, "gone\n")


def test_update(machine: Machine) -> None:
    """What the conf file names is built and put into the profile, the conf file stays; only what runs is reloaded."""
    machine.run("create", "c", "--flake", "/f", NIXOS_CONTAINER_RELEASE=NEWEST)
    before = machine.conf("c").read_text()
    assert machine.calls
    refused = machine.run("update", "c", IS_CONTAINER="false")
    assert (refused.code, "require boot.isNspawnContainer=true" in refused.err) == (255, True)
    assert machine.run("update", "c", FAILS="nix", IS_CONTAINER="true").code == 3
    assert machine.calls
    done = machine.run("update", "c", "--flake", "/g#y", ACTIVE="active", IS_CONTAINER="true")
    assert (done.code, done.err) == (0, "reloading container...\n")
    assert machine.calls[3:] == [
        'nix build -o .tmp -- /g#nixosConfigurations."y".config.system.build.toplevel',
        f"nix-env -p {machine.profile}/c/system --set /nix/store/new",
        "systemctl show container@c",
        "systemctl reload container@c",
    ]
    assert machine.conf("c").read_text() == before


@pytest.mark.parametrize(
    ("release", "option"),
    [("24.05", "isContainer"), ("25.05", "isContainer"), ("25.11", "isNspawnContainer")],
)
def test_a_configuration_of_its_own(machine: Machine, release: str, option: str) -> None:
    """What is given is put into a module, byte for byte the same one, and built with nixpkgs of the search path."""
    done = machine.run("create", "c", "--config", "x = mkY;", NIXOS_CONTAINER_RELEASE=release)
    assert done.code == 0
    file = machine.root / "var/lib/nixos-containers/c/etc/nixos/configuration.nix"
    assert file.read_text() == (
        f"{{ config, lib, pkgs, ... }}:\n\n{{ boot.{option} = true;\n"
        '  networking.hostName = lib.mkDefault "c";\n  networking.useDHCP = false;\n  x = mkY;\n}\n'
    )
    build = f"nix-env -p {machine.profile}/c/system -I nixos-config={file} -f <nixpkgs/nixos> --set -A system"
    assert machine.calls == [build]
    machine.run("update", "c", "--nixos-path", "/n", "--impure", NIXOS_CONTAINER_RELEASE=release, IS_CONTAINER="true")
    calls = machine.calls
    assert calls[-2:] == [build.replace("<nixpkgs/nixos>", "/n") + " --impure", "systemctl show container@c"]
    assert any("nix-instantiate" in call for call in calls) == (release == NEWEST)


def test_update_refuses_an_outdated_configuration(machine: Machine) -> None:
    """The newest release builds none that does not say that it is a container's."""
    machine.run("create", "c", NIXOS_CONTAINER_RELEASE=NEWEST)
    assert machine.calls
    refused = machine.run("update", "c", IS_CONTAINER="false")
    assert (refused.code, "Refresh your configuration" in refused.err) == (255, True)
    assert not any(call.startswith("nix-env") for call in machine.calls)


def test_what_create_makes(machine: Machine) -> None:
    """The conf file and the profile's directory; that of the container's own roots is made at its first start."""
    machine.run("create", "c", "--system-path", "/s")
    assert Path(machine.profile, "c").is_dir()
    assert not (machine.root / "nix/var/nix/gcroots").exists()


def test_an_empty_conf_file(machine: Machine) -> None:
    """Somebody's empty conf file, as a full disk leaves one, lets no container be created."""
    machine.run("create", "c", "--system-path", "/s")
    machine.conf("d").touch()
    done = machine.run("create", "e", "--system-path", "/s")
    assert (done.code, done.err) == (255, "Died at prog line 1.\n")
    assert not machine.conf("e").exists()


@pytest.mark.parametrize("release", ["24.05", "25.05"])
def test_update_of_older_releases(machine: Machine, release: str) -> None:
    """They ask nothing of a flake before they build it."""
    machine.run("create", "c", "--flake", "/f", NIXOS_CONTAINER_RELEASE=release)
    assert machine.calls
    machine.run("update", "c", NIXOS_CONTAINER_RELEASE=release)
    assert [call.split()[1] for call in machine.calls] == ["build", "-p", "show"]


def test_destroy(machine: Machine) -> None:
    """What runs is terminated first; a declarative container is refused; nothing of the other is left."""
    machine.run("create", "c", "--system-path", "/s")
    state = machine.root / "var/lib/nixos-containers/c/etc"
    state.mkdir(parents=True)
    assert machine.calls
    with subprocess.Popen(["sleep", "60"]) as leader:
        leader.kill()
    machine.run("destroy", "c", ACTIVE="active", LEADER=f"Leader={leader.pid}")
    assert machine.calls[1:] == ["machinectl show c -p Leader", "machinectl terminate c"]
    assert not state.parent.exists()
    assert not Path(machine.profile, "c").exists()
    machine.conf("d").symlink_to("/nix/store/x")
    assert machine.run("list").out == "d\n"
    machine.conf("d").unlink()
    # Not even root may write to it, as with a file of the store.
    machine.conf("d").symlink_to("/proc/sys/kernel/ostype")
    declarative = machine.run("destroy", "d")
    assert declarative.code
    assert "cannot destroy declarative container" in declarative.err


@pytest.mark.parametrize(
    ("release", "namespaces"), [("24.05", "-t 7 -m -u -i -n -p"), ("25.05", "--all -t 7"), ("25.11", "--all -t 7")]
)
def test_run(machine: Machine, release: str, namespaces: str) -> None:
    """Words are quoted for a login shell in the container's namespaces; without a leader it cannot be done."""
    machine.run("create", "c", "--system-path", "/s", NIXOS_CONTAINER_RELEASE=release)
    assert machine.calls
    refused = machine.run("run", "c", "--", "id", LEADER="")
    assert (refused.code, refused.err) == (255, "unable to get container's main PID\n")
    assert machine.run("run", "c", "ls", "-la").code == 1
    assert machine.calls
    machine.run("run", "c", "--", "echo", "it's", "-x", LEADER="Leader=7", NIXOS_CONTAINER_RELEASE=release)
    assert machine.calls[-1] == f"nsenter {namespaces} -- {machine.bin}/su root -l -c exec 'echo' 'it'\\''s' '-x'"

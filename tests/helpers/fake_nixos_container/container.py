"""One container: where its things lie, and what is done with them."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from tests.helpers.fake_nixos_container.options import Options
from tests.helpers.fake_nixos_container.program import (
    CONF_DIR,
    GCROOTS,
    PROFILES,
    RELEASE,
    STATE_DIR,
    call,
    die,
    fail,
    output,
)


class Container:
    """Where a container's things lie, and what is done with them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.conf = CONF_DIR / f"{name}.conf"
        self.root = STATE_DIR / name
        self.profile = PROFILES / name
        self.gcroots = GCROOTS / name

    @property
    def unit(self) -> str:
        return f"container@{self.name}"

    def setting(self, key: str) -> str | None:
        """A line's value, as the real program reads it: no quotes, no comments after it."""
        found = re.search(rf"^{key}=(.*)$", self.conf.read_text(), re.MULTILINE)
        return found[1] if found else None

    def active(self) -> bool:
        return "ActiveState=active" in output("systemctl", "show", self.unit)

    def leader(self) -> str:
        found = re.fullmatch(r"Leader=([0-9]+)", output("machinectl", "show", self.name, "-p", "Leader").strip())
        return found[1] if found else die("unable to get container's main PID")

    def make_profile_directory(self) -> None:
        PROFILES.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.profile.mkdir(mode=0o755, exist_ok=True)

    def set_profile(self, path: str) -> bool:
        return call("nix-env", "-p", str(self.profile / "system"), "--set", path) == 0

    def build_flake(self, flake: str, attribute: str, options: Options) -> tuple[str, int]:
        """The system that a flake builds to, or an empty text, and nix's status. The link to it is never removed."""
        link = options.given.get("system-path", "") + ".tmp"
        installable = f'{flake}#nixosConfigurations."{attribute}".config.system.build.toplevel'
        status = call("nix", "build", "-o", link, *options.for_nix, "--", installable)
        return ("" if status else str(Path(link).readlink())), status

    def nixos(self, options: Options) -> list[str]:
        """The nixpkgs to take, and the container's own configuration."""
        return [
            options.given.get("nixos-path", "<nixpkgs/nixos>"),
            *("-I", f"nixos-config={self.root / 'etc/nixos/configuration.nix'}"),
        ]

    def build_configuration(self, options: Options) -> bool:
        nixos, *include = self.nixos(options)
        profile = str(self.profile / "system")
        command = ("nix-env", "-p", profile, *include, "-f", nixos, "--set", "-A", "system", *options.for_nix)
        return call(*command) == 0

    def write_configuration(self, options: Options) -> None:
        container = "boot.isNspawnContainer" if RELEASE >= "25.11" else "boot.isContainer"
        if "config-file" in options.given:
            more = f"imports = [ {Path(options.given['config-file']).absolute()} ];"
        else:
            more = options.given.get("config", "")
        directory = self.root / "etc/nixos"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "configuration.nix").write_text(
            f"{{ config, lib, pkgs, ... }}:\n\n{{ {container} = true;\n"
            f'  networking.hostName = lib.mkDefault "{self.name}";\n'
            f"  networking.useDHCP = false;\n  {more}\n}}\n"
        )

    def terminate(self) -> None:
        leader = int(self.leader())
        if call("machinectl", "terminate", self.name):
            fail("failed to terminate container", 1)
        while True:
            try:
                os.kill(leader, 0)
            except ProcessLookupError:
                return
            time.sleep(0.1)

    def remove(self) -> None:
        for tree in (self.profile, self.gcroots):
            remove_tree(tree)
        if (self.root / "var/empty").exists():
            call("chattr", "-i", str(self.root / "var/empty"))
        remove_tree(self.root)
        self.conf.unlink(missing_ok=True)


def remove_tree(tree: Path) -> None:
    """Remove a tree, whatever is mounted in it, and nothing on another file system."""
    if not tree.exists():
        return
    mounted = ["(", "-type", "d", "-exec", "mountpoint", "-q", "{}", ";", ")", "-exec", "umount", "-fR", "{}", "+"]
    call("find", str(tree), "-mindepth", "1", "-xdev", *mounted)
    call("rm", "--one-file-system", "-rf", str(tree))
    if tree.exists():
        call("umount", "-fR", str(tree))
        call("rm", "--one-file-system", "-rf", str(tree))

"""The actions, each as the real program has it: the order of its steps, its messages, and what it leaves behind."""

# ruff: noqa: T201, RUF001 - the real program prints, and quotes, like this
from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
from typing import NoReturn

from tests.helpers.fake_nixos_container.container import Container
from tests.helpers.fake_nixos_container.options import Options, split_flake
from tests.helpers.fake_nixos_container.program import (
    CONF_DIR,
    ENOENT,
    ENOTTY,
    LOCK,
    PROGRAM,
    RELEASE,
    STATE_DIR,
    call,
    die,
    fail,
    output,
)


def addresses_in_use() -> set[str]:
    """Those of every conf file. One that is empty is taken for one that cannot be read, and ends the program."""
    taken: set[str] = set()
    for conf in CONF_DIR.glob("*.conf"):
        text = conf.read_text()
        if not text:
            die(f"Died at {PROGRAM} line 1.")
        taken |= set(re.findall(r"^(?:HOST|LOCAL)_ADDRESS=([0-9.]+)$", text, re.MULTILINE))
    return taken


def free_addresses(taken: set[str]) -> tuple[str, str]:
    for number in range(1, 255):
        host, local = f"10.233.{number}.1", f"10.233.{number}.2"
        if host not in taken and local not in taken:
            return host, local
    return fail("out of IP addresses")


def unique(name: str) -> str:
    number, found = 0, name
    while (CONF_DIR / f"{found}.conf").exists() or (STATE_DIR / found).exists():
        found = f"{name}-{number}"
        number += 1
    return found


def create(name: str, options: Options) -> None:
    given = options.given
    flake, attribute = split_flake(given.get("flake"))
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        container = Container(unique(name) if "ensure-unique-name" in given else name)
        if container.conf.exists():
            fail(f"container ‘{name}’ already exists", ENOTTY)
        if len(container.name) > 11:
            fail(f"container name ‘{container.name}’ is too long", ENOENT)
        if "use-host-network" in given:
            lines, network = ["PRIVATE_NETWORK=0"], "using host network"
        else:
            taken = addresses_in_use()
            host, local = given.get("host-address"), given.get("local-address")
            if host is None or local is None:
                host, local = free_addresses(taken)
            lines = ["PRIVATE_NETWORK=1", f"HOST_ADDRESS={host}", f"LOCAL_ADDRESS={local}"]
            network = f"host IP is {host}, container IP is {local}"
        lines += [f"HOST_BRIDGE={given.get('bridge', '')}", f"HOST_PORT={given.get('port', '')}"]
        lines.append(f"AUTO_START={int('auto-start' in given)}")
        if flake is not None:
            lines.append(f"FLAKE={flake}")
        container.conf.write_text("".join(f"{line}\n" for line in lines))
    print(network, file=sys.stderr)
    container.make_profile_directory()
    system = given.get("system-path", "")
    if flake is not None:
        system, _ = container.build_flake(flake, attribute, options)
        if not system:
            # The conf file stays: the next `create` will say that the container exists.
            fail(f"failed to build container from flake '{flake}'", ENOENT)
    if system:
        if not container.set_profile(system):
            container.remove()
            fail("failed to set initial container configuration", ENOENT)
    else:
        container.write_configuration(options)
        if not container.build_configuration(options):
            container.remove()
            fail("failed to build initial container configuration", ENOENT)
    if "ensure-unique-name" in given:
        print(container.name)


def at_least_2511(version: str) -> bool:
    new = f'builtins.compareVersions "{version}" "25.11pre-git" >= 0'
    return output("nix-instantiate", "--eval", "-E", new).strip() == "true"


def check_configuration(container: Container, options: Options) -> None:
    """What 25.11 asks of a configuration that is no flake's before an update."""

    def evaluated(attribute: str) -> str:
        return output("nix-instantiate", *container.nixos(options), "-A", attribute, "--eval").strip().strip('"')

    if at_least_2511(evaluated("pkgs.lib.version")) and evaluated("config.boot.isNspawnContainer") != "true":
        fail("on 25.11 and newer, containers require boot.isNspawnContainer=true. Refresh your configuration (or check"
             f" the 25.11 release notes on how to correctly do that) at {PROGRAM} line 1.")  # fmt: skip


def check_flake(flake: str, attribute: str) -> None:
    """What 25.11 asks of a flake before an update: that newer systems say that they are containers."""
    system = f'{flake}#nixosConfigurations."{attribute}"'
    version = output("nix", "eval", "--raw", f"{system}.lib.version").strip()
    if at_least_2511(version):
        answer = output("nix", "eval", f"{system}.config.boot.isNspawnContainer").strip()
        if answer != "true":
            fail(f"on 25.11 and newer, containers require boot.isNspawnContainer=true. Please set this in {flake} at"
                 f" {PROGRAM} line 1.")  # fmt: skip


def update(container: Container, options: Options) -> None:
    flake, attribute = split_flake(options.given.get("flake"))
    if not options.given.keys() & {"flake", "config", "config-file"}:
        flake = container.setting("FLAKE")
    if flake is not None:
        if RELEASE >= "25.11":
            check_flake(flake, attribute)
        system, status = container.build_flake(flake, attribute, options)
        if not system:
            fail(f"failed to build container from flake '{flake}'", status)
        if not container.set_profile(system):
            fail("failed to set container configuration", 1)
    else:
        if options.given.get("config") or options.given.get("config-file"):
            container.write_configuration(options)
        if RELEASE >= "25.11":
            check_configuration(container, options)
        if not container.build_configuration(options):
            fail("failed to build container configuration", 1)
    if container.active():
        print("reloading container...", file=sys.stderr)
        if status := call("systemctl", "reload", container.unit):
            fail("failed to reload container", status)


def unit_job(container: Container, *words: str) -> None:
    for word in words:
        if status := call("systemctl", word, container.unit):
            fail(f"failed to {word} container", status)


def destroy(container: Container) -> None:
    if not os.access(container.conf, os.W_OK):
        fail("cannot destroy declarative container (remove it from your configuration.nix instead)")
    if container.active():
        container.terminate()
    container.remove()


def run(container: Container, command: list[str]) -> NoReturn:
    leader = container.leader()
    namespaces = ["-t", leader, "-m", "-u", "-i", "-n", "-p"] if RELEASE < "25" else ["--all", "-t", leader]
    quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in command)
    su = shutil.which("su") or "/usr/bin/su"
    os.execvp("nsenter", ["nsenter", *namespaces, "--", su, "root", "-l", "-c", f"exec {quoted}"])


def show_ip(container: Container) -> None:
    if RELEASE >= "25.11" and container.setting("PRIVATE_NETWORK") == "0":
        fail("container uses host network, no separate IP address")
    address = container.setting("LOCAL_ADDRESS") or container.setting("LOCAL_ADDRESS6")
    if not address:
        fail("cannot get IP address")
    print(address.partition("/")[0])

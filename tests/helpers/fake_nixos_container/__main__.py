"""A fake of `nixos-container` on machines that are no NixOS: the same options, files, messages and leftovers.

It keeps to what is known of the real program of three releases; NIXOS_CONTAINER_RELEASE chooses one ("24.05", "25.05"
or "25.11", which is the default). What it builds, runs and asks is real: nix, systemctl, machinectl and nsenter of the
PATH. Left out are `login`, `root-login` and `show-host-key`, which a hive does not use. NIXOS_CONTAINER_ROOT puts every
path below a directory, for tests of the fake itself.

Like the real one, a Perl script, it ends on an error with a status that is no promise: 255, or an older error's number.
"""

# ruff: noqa: T201, RUF001 - the real program prints, and quotes, like this
from __future__ import annotations

import os
import re
import sys

from tests.helpers.fake_nixos_container import actions
from tests.helpers.fake_nixos_container.container import Container
from tests.helpers.fake_nixos_container.options import Options
from tests.helpers.fake_nixos_container.program import CONF_DIR, ENOENT, PROGRAM, STATE_DIR, die, fail

USAGE = """\
Usage: nixos-container list
       nixos-container create <container-name> [--nixos-path <path>] [--system-path <path>] [--config <string>]
         [--config-file <path>] [--flake <flakeref>] [--ensure-unique-name] [--auto-start] [--bridge <iface>]
         [--port <port>] [--host-address <string>] [--local-address <string>]
       nixos-container destroy|restart|start|stop|terminate|status|show-ip <container-name>
       nixos-container update <container-name> [--config <string>] [--config-file <path>] [--flake <flakeref>]
       nixos-container run <container-name> -- args...
"""


def act(action: str, name: str, options: Options) -> None:
    container = Container(name)
    if action == "create":
        actions.create(name, options)
        return
    if not container.conf.exists():
        if action == "destroy":
            return
        if action == "status":
            print("gone", flush=True)
        fail(f"container ‘{name}’ does not exist", ENOENT)
    match action:
        case "destroy":
            actions.destroy(container)
        case "start" | "stop":
            actions.unit_job(container, action)
        case "restart":
            actions.unit_job(container, "stop", "start")
        case "terminate":
            container.terminate()
        case "status":
            print("up" if container.active() else "down")
        case "update":
            actions.update(container, options)
        case "run":
            actions.run(container, options.words[2:])
        case "show-ip":
            actions.show_ip(container)
        case _:
            fail(f"unknown action ‘{action}’")


def main() -> None:
    os.umask(0o022)
    options = Options(sys.argv[1:])
    given = options.given
    if "help" in given:
        print(USAGE, end="")
        return
    where = f"at {PROGRAM} line 1."
    if ("host-address" in given) != ("local-address" in given):
        die(f"With --host-address set, --local-address is required as well! {where}")
    if "use-host-network" in given and "host-address" in given:
        die(f"--use-host-network cannot be used with --host-address or --local-address! {where}")
    if not options.words:
        fail("no action specified")
    if {"config", "config-file"} <= given.keys():
        die("--config and --config-file are mutually incompatible. Please define one or the other, but not both"
            f" {where}")  # fmt: skip
    CONF_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
    STATE_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    action = options.words[0]
    if action == "list":
        print("".join(f"{conf.stem}\n" for conf in sorted(CONF_DIR.glob("*.conf"))), end="")
        return
    if len(options.words) < 2:
        fail("no container name specified")
    name = options.words[1]
    if not re.fullmatch(r"[a-zA-Z0-9_-]+", name):
        fail("invalid container name")
    act(action, name, options)


main()

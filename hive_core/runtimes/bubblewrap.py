"""Command lines of `bwrap`, with all binds of a sandbox.

The mount points are those of a container. These facts limit the other binds, and what is shared:

- The daemon may be root, and an agent's uid 0 then owns root's files. So only selected entries of /etc are bound.
- Sockets accept connections on read-only mounts too, and from other network namespaces. So no directory that may hold
  a socket is bound: neither /run nor /nix/var, where the Nix daemon would treat the agent as root.
- A sealed agent has a network namespace with nothing but its loopback, which bwrap sets up. Abstract unix sockets
  belong to a network namespace too, so those of the host are not in it. The hive's sockets are files.
- Arguments are public in /proc. So the environment, which may hold keys, is not passed in arguments; bwrap is started
  with exactly the harness's environment.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.protocol.names import container_name
from hive_core.runtimes.agent_environment import (
    APPLIED,
    BINDS,
    DEPLOYED,
    DNS,
    INSIDE,
    NIXOS_SYSTEM,
    PROGRAMS,
    SECRETS,
    SSH_CONFIG,
    inside_mirrors,
    package_root,
)
from hive_core.runtimes.base import AgentSpec

CONFINING = ("--unshare-all", "--die-with-parent", "--cap-drop", "ALL")
"""Arguments of every sandbox.

`--new-session` is missing: `hive_core.infra.processes` starts bwrap in a new session already. In a second one, a child
that bwrap has just forked would survive a kill of bwrap's process group until it has set its parent-death signal.
"""

_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix/store")
# Directories that also hold private keys (ssl, pki) are bound only in part.
_ETC = (
    "alternatives",
    "bash.bashrc",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "gai.conf",
    "group",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "pki/ca-trust",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "protocols",
    "services",
    "shells",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "static",
    "terminfo",
    "timezone",
)


@dataclass(frozen=True)
class Host:
    """Paths of this host that agents see read-only at the same path, and symbolic links."""

    read_only: tuple[Path, ...]
    links: tuple[tuple[str, str], ...]


def inspect_host(root: Path = Path("/"), python: Iterable[Path] | None = None) -> Host:
    """List the existing paths to bind; `python` defaults to the running interpreter and packages."""
    read_only: list[Path] = []
    links: list[tuple[str, str]] = []
    for name in _SYSTEM:
        path = root / name
        if path.is_symlink():
            links.append((str(path.readlink()), f"/{name}"))
        elif path.is_dir():
            read_only.append(Path("/", name))
    nixos = root / NIXOS_SYSTEM[1:]
    if nixos.is_symlink():
        links.append((str(nixos.readlink()), NIXOS_SYSTEM))
    wanted = python_paths() if python is None else python
    # The target of a link (/bin on most systems) is bound already under its real name.
    reached = [path for path in wanted if not any(path.is_relative_to(link) for _, link in links)]
    etc = [Path("/etc", name) for name in _ETC if (root / "etc" / name).exists()]
    return Host(_outermost([*read_only, *etc, *reached]), tuple(links))


def check_hidden(host: Host, directory: Path) -> None:
    """Raise `state_dir_shown` if `directory` lies below a path that every sandbox shows, with all agents' files."""
    real = directory.resolve()
    for shown in host.read_only:
        if real.is_relative_to(shown.resolve()):
            raise HiveError(
                "state_dir_shown",
                f"every agent would see the state directory, because it lies in {shown}",
                hint="choose one outside of the system's programs and of the Python that runs the daemon",
            )


def python_paths() -> list[Path]:
    """Return the paths of the interpreter, its environments and links, and the hive's packages."""
    wanted = [Path(prefix) for prefix in (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)]
    link = Path(sys.executable)
    wanted.append(link)
    while link.is_symlink():
        link = link.parent / link.readlink()
        wanted.append(link)
    # Not the directory of the packages: in a checkout it may also hold the hive's sockets.
    wanted += [package_root() / package for package in ("hive_core", "hive_agent", "hive_manager")]
    found = [path for path in wanted if path.exists()]
    return [*found, *(path.resolve() for path in found)]


def _outermost(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Return `paths` without those that lie below another one, in the order of mounting."""
    kept: list[Path] = []
    for path in sorted(set(paths), key=lambda path: (len(path.parts), path)):
        if not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return tuple(kept)


def arguments(bwrap: str, host: Host, spec: AgentSpec, info: int, harness: Sequence[str]) -> list[str]:
    """Return the command line that runs `harness` in its sandbox; `info` is the descriptor for bwrap's `--info-fd`.

    The order is that of mounting: first the empty directories, then paths below them, then the agent's directories.
    """
    paths = spec.paths
    line = [bwrap, *CONFINING, *([] if spec.sealed else ["--share-net"])]
    line += ["--hostname", container_name(spec.name), "--info-fd", str(info)]
    line += ["--tmpfs", "/tmp", "--tmpfs", "/root", "--proc", "/proc", "--dev", "/dev"]  # noqa: S108 - mount points
    for target, link in host.links:
        line += ["--symlink", target, link]
    for path in host.read_only:
        line += ["--ro-bind-try", str(path), str(path)]
    line += ["--ro-bind", str(paths.run), str(INSIDE.run)]
    if spec.secrets is not None:
        line += ["--ro-bind", str(spec.secrets), SECRETS]
    for outside, inside in (
        (paths.state, INSIDE.state),
        (paths.claude, INSIDE.claude),
        (paths.config, INSIDE.config),
        (paths.code, INSIDE.code),
    ):
        line += ["--bind", str(outside), str(inside)]
    for bind in spec.binds:
        line += ["--bind" if bind.writable else "--ro-bind", str(bind.path), f"{BINDS}/{bind.name}"]
    for device in spec.devices:
        line += ["--dev-bind", str(device), str(device)]
    if spec.programs is not None:
        line += ["--ro-bind", str(spec.programs), PROGRAMS]
        if "proxy" in spec.gateways:
            line += ["--symlink", f"{PROGRAMS}/{SSH_CONFIG}", "/etc/ssh/ssh_config"]
    if spec.dns is not None:
        line += ["--ro-bind", str(spec.dns), DNS, "--symlink", f"{DNS}/resolv.conf", "/etc/resolv.conf"]
    mirrors = inside_mirrors(spec)
    for each in spec.repositories:
        line += ["--ro-bind-try", str(each.mirror), mirrors[each.name]]
    line += _gate_arguments(spec)
    return [*line, "--remount-ro", "/", "--chdir", str(INSIDE.state), "--", *harness]


def _gate_arguments(spec: AgentSpec) -> list[str]:
    """Return the binds of the active configuration and of the agent's applied repository (the manager: of all).

    The repositories that other agents write are not bound for the manager either: links in them would lead to its
    files, and git would run programs that their settings name.
    """
    line = ["--ro-bind", spec.closure, DEPLOYED] if spec.closure else []
    if spec.applied is not None and spec.kind == "manager":
        line += ["--ro-bind", str(spec.applied), APPLIED]
    elif spec.applied is not None:
        line += ["--ro-bind-try", str(spec.applied), f"{APPLIED}/{spec.applied.name}"]
    return line


def confined(bwrap: str, host: Host, directory: Path, program: Sequence[str]) -> list[str]:
    """Return the command line that runs `program` in a sandbox with only the system's programs and `directory`."""
    line = [bwrap, *CONFINING]
    line += ["--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev"]  # noqa: S108 - a mount point
    for target, link in host.links:
        line += ["--symlink", target, link]
    for path in host.read_only:
        line += ["--ro-bind-try", str(path), str(path)]
    line += ["--ro-bind", str(directory), str(directory)]
    return [*line, "--remount-ro", "/", "--chdir", "/", "--", *program]

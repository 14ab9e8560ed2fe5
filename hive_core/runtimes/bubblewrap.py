"""Command lines of `bwrap`: what an agent sees in its sandbox.

The mount points are those of a container. Three things decide what else is there. The daemon may be root, and an
agent's uid 0 is then the owner of root's files: so only chosen entries of /etc are shown. The sandbox shares the
network and sockets can be connected to on read-only mounts: so no directory that may hold one is shown (neither
/run nor /nix/var, where the Nix daemon would take the agent for root). Arguments are public in /proc: so the
environment, which may hold keys, is not among them; bwrap is started with exactly the harness's environment.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.protocol.names import container_name
from hive_core.runtimes.agent_environment import APPLIED, DEPLOYED, INSIDE, NIXOS_SYSTEM, package_root
from hive_core.runtimes.base import AgentSpec

CONFINING = ("--unshare-all", "--die-with-parent", "--cap-drop", "ALL")
"""What every sandbox of the hive begins with.

No session of its own: it has none of a terminal anyway, since `hive_core.infra.processes` starts it in a new one. In a
further one, what bwrap has just forked would outlive a kill of bwrap's process group, until it has asked to die with
its parent.
"""

_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix/store")
# Of directories that also hold private keys (ssl, pki) only the public part.
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
    "resolv.conf",
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
    """What of this machine is shown to agents: directories and files at their own paths, read-only, and links."""

    read_only: tuple[Path, ...]
    links: tuple[tuple[str, str], ...]


def inspect_host(root: Path = Path("/"), python: Iterable[Path] | None = None) -> Host:
    """See what there is to show; `python` (this interpreter and the hive's packages) defaults to what runs now."""
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
    # What lies behind a link (/bin on most systems) is there by its real name already.
    reached = [path for path in wanted if not any(path.is_relative_to(link) for _, link in links)]
    etc = [Path("/etc", name) for name in _ETC if (root / "etc" / name).exists()]
    return Host(_outermost([*read_only, *etc, *reached]), tuple(links))


def check_hidden(host: Host, directory: Path) -> None:
    """Refuse a state directory below something that every sandbox is shown: all of the hive would be in it."""
    real = directory.resolve()
    for shown in host.read_only:
        if real.is_relative_to(shown.resolve()):
            raise HiveError(
                "state_dir_shown",
                f"the state directory would be seen by every agent: it lies in {shown}",
                hint="choose one outside of the system's programs and of the Python that runs the daemon",
            )


def python_paths() -> list[Path]:
    """What the harness's interpreter needs: its environment, the one below that, every link to it, our packages."""
    wanted = [Path(prefix) for prefix in (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)]
    link = Path(sys.executable)
    wanted.append(link)
    while link.is_symlink():
        link = link.parent / link.readlink()
        wanted.append(link)
    # The packages and not the directory around them: in a checkout, that may hold the hive's own sockets.
    wanted += [package_root() / package for package in ("hive_core", "hive_agent", "hive_manager")]
    found = [path for path in wanted if path.exists()]
    return [*found, *(path.resolve() for path in found)]


def _outermost(paths: Iterable[Path]) -> tuple[Path, ...]:
    """`paths` without those that lie in another one, in an order in which they can be mounted."""
    kept: list[Path] = []
    for path in sorted(set(paths), key=lambda path: (len(path.parts), path)):
        if not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return tuple(kept)


def arguments(bwrap: str, host: Host, spec: AgentSpec, info: int, harness: Sequence[str]) -> list[str]:
    """The command line that runs `harness` in its sandbox; `info` is the descriptor for bwrap's `--info-fd`.

    The order is that of mounting: the empty directories first, what may lie in them after, the agent's own last.
    """
    paths = spec.paths
    line = [bwrap, *CONFINING, "--share-net", "--hostname", container_name(spec.name), "--info-fd", str(info)]
    line += ["--tmpfs", "/tmp", "--tmpfs", "/root", "--proc", "/proc", "--dev", "/dev"]  # noqa: S108 - mount points
    for target, link in host.links:
        line += ["--symlink", target, link]
    for path in host.read_only:
        line += ["--ro-bind-try", str(path), str(path)]
    line += ["--ro-bind", str(paths.run), str(INSIDE.run), "--bind", str(paths.own), str(INSIDE.own)]
    for outside, inside in (
        (paths.state, INSIDE.state),
        (paths.claude, INSIDE.claude),
        (paths.config, INSIDE.config),
    ):
        line += ["--bind", str(outside), str(inside)]
    line += _gate_arguments(spec)
    return [*line, "--remount-ro", "/", "--chdir", str(INSIDE.state), "--", *harness]


def _gate_arguments(spec: AgentSpec) -> list[str]:
    """What an agent sees of the gate: what is in force, and its history (the manager: everybody's).

    Not the others' own repositories, also for the manager: links in them would lead to its files, and git would run
    what their settings name.
    """
    line = ["--ro-bind", spec.closure, DEPLOYED] if spec.closure else []
    if spec.applied is not None and spec.kind == "manager":
        line += ["--ro-bind", str(spec.applied), APPLIED]
    elif spec.applied is not None:
        line += ["--ro-bind-try", str(spec.applied), f"{APPLIED}/{spec.applied.name}"]
    return line


def confined(bwrap: str, host: Host, directory: Path, program: Sequence[str]) -> list[str]:
    """The command line that runs `program` where it sees nothing of this machine's but programs and `directory`."""
    line = [bwrap, *CONFINING]
    line += ["--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev"]  # noqa: S108 - a mount point
    for target, link in host.links:
        line += ["--symlink", target, link]
    for path in host.read_only:
        line += ["--ro-bind-try", str(path), str(path)]
    line += ["--ro-bind", str(directory), str(directory)]
    return [*line, "--remount-ro", "/", "--chdir", "/", "--", *program]

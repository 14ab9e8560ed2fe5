"""The transient unit of one check. Pure but for `lay_out`.

The unit has a root directory of its own, with the Nix store, links into the submitter's system, and what the check may
write. It has a user that exists as long as the unit, no network but a loopback, no capabilities, and no file or socket
of the host. The settings are those of systemd.exec(5) and systemd.resource-control(5).

The files of the tree are shown read-only beside the directory in which the check works, and the unit's own user copies
them there. So they belong to the check, whatever user id systemd gives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hive_core.runtimes.agent_environment import proxy_variables
from hive_core.runtimes.checks.order import CODE, HOME, CheckRun

UNIT_PREFIX = "hive-check-"
STOP_SECONDS = 5
_FILES = 4_096
_GRACE_SECONDS = 60
"""The unit's own time limit ends a check whose daemon was killed; otherwise the daemon ends it before."""
_ROOT = "root"
_MOUNT_POINTS = (
    "check/files",
    "check/user",
    "code",
    "dev",
    "etc",
    "home/check",
    "proc",
    "run",
    "sys",
    "tmp",
    "var/tmp",
)
_WRITABLE = {"code": CODE, "home": HOME, "shm": "/dev/shm", "user": "/check/user"}  # noqa: S108 - inside
_OWN_ACCOUNTS = ("passwd", "group")
_ANYBODY = 0o777
"""The mode of what the check writes, below a directory that only the daemon can enter."""

_SCRIPT = """\
printf 'root:x:0:0::/:/bin/sh\\ncheck:x:%s:%s::/home/check:/bin/sh\\n' "$(id -u)" "$(id -g)" >/check/user/passwd
printf 'root:x:0:\\ncheck:x:%s:\\n' "$(id -g)" >/check/user/group
cp --recursive --no-dereference --preserve=mode,links --reflink=auto /check/files "/code/$0"
cd "/code/$0"
"$@" || exit
: >/check/user/passed
"""
"""The first program of the unit, with the repository's name as $0. The last line tells a check that has passed from one
whose unit was stopped, which some versions of systemd report as a success.
"""

_SETTINGS = (
    "DynamicUser=yes",
    "MountAPIVFS=yes",
    # Otherwise anybody may write there.
    "TemporaryFileSystem=/run:ro,mode=0755,size=1M",
    "PrivateDevices=yes",
    "PrivateIPC=yes",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "ProtectSystem=strict",
    "ProtectProc=invisible",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "LockPersonality=yes",
    "KeyringMode=private",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallErrorNumber=EPERM",
    "UMask=0022",
    "Nice=10",
    "OOMPolicy=kill",
    "OOMScoreAdjust=500",
    "LimitCORE=0",
    f"LimitNOFILE={_FILES}",
    "KillMode=control-group",
    "KillSignal=SIGKILL",
    f"TimeoutStopSec={STOP_SECONDS}",
    "MemorySwapMax=0",
)


def unit_name(run: CheckRun) -> str:
    """Return the name of the unit of a check."""
    return f"{UNIT_PREFIX}{run.label}.service"


def passed_file(run: CheckRun) -> Path:
    """Return the file that exists when the command has ended with exit code 0."""
    return run.directory / "user" / "passed"


def writable(run: CheckRun) -> list[Path]:
    """Return the directories that the check can write, as the host names them."""
    return [run.directory / name for name in (*_WRITABLE, "tmp")]


def lay_out(run: CheckRun, closure: Path) -> None:
    """Create the root directory of the unit and what the check writes, in the directory of the run. Blocks."""
    root = run.directory / _ROOT
    for name in _MOUNT_POINTS:
        (root / name).mkdir(parents=True)
    for path in writable(run):
        path.mkdir(exist_ok=True)
        path.chmod(_ANYBODY)
    # What scripts name in their first lines is nowhere else on NixOS.
    for name, target in (("bin/sh", "sh"), ("usr/bin/env", "env")):
        (root / name).parent.mkdir(parents=True)
        (root / name).symlink_to(closure / "sw/bin" / target)
    for name in _OWN_ACCOUNTS:
        (root / "etc" / name).symlink_to(f"/check/user/{name}")
    for entry in sorted((closure / "etc").iterdir()):
        if entry.name not in _OWN_ACCOUNTS:
            (root / "etc" / entry.name).symlink_to(entry)


def command_line(
    systemd_run: str, run: CheckRun, closure: Path, shown: Sequence[Path], network: Path | None = None
) -> list[str]:
    """Return the command of `systemd-run` that runs the check and passes on its output and exit code.

    `shown` are the directories of the host that the check sees read-only at the same path: the Nix store. `network` is
    the path of its network namespace; without it, it gets a new one with a loopback only.
    """
    directory, limits = run.directory, run.limits
    settings = [
        *_SETTINGS,
        "PrivateNetwork=yes" if network is None else f"NetworkNamespacePath={network}",
        f"RootDirectory={directory / _ROOT}",
        *(f"BindReadOnlyPaths={path}" for path in shown),
        f"BindReadOnlyPaths={run.files}:/check/files",
        *(f"BindPaths={directory / name}:{inside}" for name, inside in _WRITABLE.items()),
        # Not recursive: since 257, systemd prefers the /tmp that it has for a dynamic user with a root directory to a
        # recursive bind, and that one is in memory and not counted.
        *(f"BindPaths={directory / 'tmp'}:{inside}:norbind" for inside in ("/tmp", "/var/tmp")),  # noqa: S108 - inside
        "WorkingDirectory=/code",
        f"MemoryMax={limits.memory}",
        f"TasksMax={limits.tasks}",
        f"CPUQuota={limits.cpu}%",
        f"LimitFSIZE={limits.disk}",
        f"RuntimeMaxSec={int(limits.seconds) + _GRACE_SECONDS}",
    ]
    programs = closure / "sw/bin"
    variables = {"PATH": str(programs), "LANG": "C.UTF-8", "HOME": HOME, "TMPDIR": "/tmp", "CI": "true"}  # noqa: S108
    if run.way_out is not None:
        variables |= proxy_variables({"proxy": run.way_out.port})
    command = [str(programs / "sh"), "-euc", _SCRIPT, run.repository, *run.argv]
    return [
        systemd_run,
        "--quiet",
        "--wait",
        "--pipe",
        f"--unit={unit_name(run)}",
        "--service-type=exec",
        f"--description=hyperhive: check {run.label}",
        *(f"--property={setting}" for setting in settings),
        *(f"--setenv={name}={text}" for name, text in variables.items()),
        "--",
        # systemd puts variables into the words of a command.
        *(word.replace("$", "$$") for word in command),
    ]

"""The paths of a hive: the only module that defines them."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

from hive_core.errors import HiveError

_UNIX_PATH_MAX = 107
"""Longest path of a unix socket, in bytes (sun_path is 108 with its final NUL; see unix(7))."""

ACCESS_WANTED = "access.wanted"
"""Name of `AgentPaths.access_wanted`."""

DEFAULT_STATE_DIR = Path("/var/lib/hyperhive")


@dataclass(frozen=True)
class AgentPaths:
    """The directories of one agent, and its sockets. `code` has its clones of repositories."""

    config: Path
    state: Path
    claude: Path
    code: Path
    run: Path

    @property
    def home(self) -> Path:
        """The directory of all that the agent has in the state directory."""
        return self.config.parent

    @property
    def secrets_mount(self) -> Path:
        """The empty directory over which the sandbox shows the agent's secrets."""
        return self.run / "secrets"

    @property
    def core_socket(self) -> Path:
        return self.run / "core.sock"

    @property
    def page_socket(self) -> Path:
        """The socket on which the harness receives the listening port of its page."""
        return self.run / "page.sock"

    @property
    def view_door(self) -> Path:
        """The socket on which the harness receives its listening view socket."""
        return self.run / "view.sock"

    @property
    def access_door(self) -> Path:
        """The socket on which the agent's side of sessions receives its listening access socket."""
        return self.run / "access.sock"

    @property
    def gateways_door(self) -> Path:
        """The socket on which the daemon receives the listeners of a sealed agent for the gateways to the world."""
        return self.run / "world.sock"

    @property
    def access_wanted(self) -> Path:
        """A file that is there while somebody wants a session: in a container it starts the agent's side."""
        return self.run / ACCESS_WANTED


@dataclass(frozen=True)
class Layout:
    """The paths in a hive's state directory (permanent) and run directory (deleted at boot)."""

    state_dir: Path
    run_dir: Path

    @property
    def database(self) -> Path:
        return self.state_dir / "hive.sqlite"

    @property
    def lock(self) -> Path:
        return self.state_dir / "hive.lock"

    @property
    def reserve(self) -> Path:
        """The file that takes up space until it is given up on a full disk."""
        return self.state_dir / "hive.reserve"

    @property
    def intents(self) -> Path:
        """Empty files whose removal records what a full disk keeps from being stored."""
        return self.state_dir / "intents"

    @property
    def run_lock(self) -> Path:
        return self.run_dir / "hive.lock"

    @property
    def agents(self) -> Path:
        return self.state_dir / "agents"

    @property
    def logs(self) -> Path:
        return self.state_dir / "logs"

    @property
    def applied(self) -> Path:
        """The applied repositories, which only the daemon writes."""
        return self.state_dir / "applied"

    @property
    def closures(self) -> Path:
        """The build outputs of the local runtime."""
        return self.state_dir / "closures"

    @property
    def deployed(self) -> Path:
        """The files of the active configurations, which the containers of the nixos runtime are shown."""
        return self.state_dir / "deployed"

    @property
    def flakes(self) -> Path:
        """The flakes of the active deployments of the nixos runtime, one directory per agent."""
        return self.state_dir / "flakes"

    @property
    def gcroots(self) -> Path:
        """Links to closures that Nix must not collect: `<agent>/<number>`."""
        return self.state_dir / "gcroots"

    @property
    def builds(self) -> Path:
        """The logs of builds."""
        return self.logs / "builds"

    @property
    def check_passes(self) -> Path:
        """Empty files, each of which remembers that a check has passed; they may be deleted at any time."""
        return self.state_dir / "work" / "passed"

    @property
    def scratch(self) -> Path:
        """Temporary files, which are worthless after a crash."""
        return self.state_dir / "scratch"

    @property
    def programs(self) -> Path:
        """The hive's programs for agents of the local runtime."""
        return self.state_dir / "programs"

    @property
    def credentials(self) -> Path:
        """The encrypted credentials of the hive and its agents, which only the daemon reads."""
        return self.state_dir / "credentials"

    @property
    def repositories(self) -> Path:
        """The mirrors of the operator's repositories, which only the daemon writes."""
        return self.state_dir / "repos"

    def mirror(self, name: str) -> Path:
        """Return the path of the mirror of a repository."""
        return self.repositories / f"{name}.git"

    @property
    def lent_credentials(self) -> Path:
        """Credentials for transfers that are under way. They are in memory where the run directory is a tmpfs."""
        return self.run_dir / "credentials"

    @property
    def work(self) -> Path:
        """The repositories that hold proposals of work. No agent sees this directory."""
        return self.state_dir / "work"

    def work_repository(self, name: str) -> Path:
        """Return the path of the repository that holds the proposals of work for a repository."""
        return self.work / f"{name}.git"

    def work_log(self, name: str, number: int) -> Path:
        """Return the path of the log of the checks of a proposal of work."""
        return self.logs / "work" / name / f"{number}.log"

    @property
    def dns(self) -> Path:
        """The directory with the copy of the host's resolv.conf, which agents are shown."""
        return self.run_dir / "dns"

    @property
    def secrets(self) -> Path:
        """The secrets of agents as files, one directory per agent, if the run directory is in memory."""
        return self.run_dir / "secrets"

    @property
    def host_socket(self) -> Path:
        return self.run_dir / "host.sock"

    @property
    def dashboard_socket(self) -> Path:
        """The socket of the dashboard, which speaks there for the people who are signed in."""
        return self.run_dir / "dashboard.sock"

    @property
    def egress_socket(self) -> Path:
        """The socket on which the egress proxy is told of agents."""
        return self.run_dir / "egress.sock"

    @property
    def relay_socket(self) -> Path:
        """The socket on which the relay is told of providers and agents, and asks for money."""
        return self.run_dir / "relay.sock"

    @property
    def views(self) -> Path:
        """The view sockets of all agents. No agent sees this directory."""
        return self.run_dir / "views"

    def view_socket(self, name: str) -> Path:
        """Return the path of the socket on which an agent serves its page, for the operator's programs."""
        return self.views / f"{name}.sock"

    @property
    def access(self) -> Path:
        """The access sockets of all agents, which only the daemon can reach."""
        return self.run_dir / "access"

    def access_socket(self, name: str) -> Path:
        """Return the path of the socket on which an agent's side of sessions accepts the daemon's connections."""
        return self.access / f"{name}.sock"

    def agent_home(self, name: str) -> Path:
        return self.agents / name

    def agent(self, name: str) -> AgentPaths:
        home = self.agent_home(name)
        return AgentPaths(
            home / "config", home / "state", home / "claude", home / "code", self.run_dir / "agents" / name
        )

    def agent_log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def applied_repository(self, name: str) -> Path:
        return self.applied / f"{name}.git"

    def deployed_files(self, name: str, number: int) -> Path:
        return self.deployed / name / str(number)

    def is_same_closure(self, closure: str | None, other: str | None) -> bool:
        """Return True if two names of closures mean the same one: older daemons stored absolute paths."""
        if closure is None or other is None:
            return closure is other
        return closure_path(self.closures, closure) == closure_path(self.closures, other)

    def build_log(self, name: str, number: int) -> Path:
        return self.builds / name / f"{number}.log"

    def check_socket_lengths(self) -> None:
        """Raise HiveError `run_dir_too_long` if the longest socket path in the run directory cannot be bound."""
        longest = self.agent("n" * 9).access_door
        length = len(bytes(longest))
        if length > _UNIX_PATH_MAX:
            raise HiveError(
                "run_dir_too_long",
                f"sockets in {self.run_dir} would have paths of {length} bytes, the kernel allows {_UNIX_PATH_MAX}",
                hint="choose a shorter run directory with --run-dir",
            )


_LOCAL_CLOSURE = re.compile(r"(?:/.*/closures/)?([a-z][a-z0-9-]*/[0-9a-f]{40,64})")


def closure_path(closures: Path, closure: str) -> Path:
    """Return the path of a closure that is named in the database or in a tag.

    A closure of the local runtime is stored as `<agent>/<tree>`, below the directory `closures`, so that a state
    directory can be moved. Older daemons stored its absolute path. A path of the Nix store is returned as it is.
    """
    local = _LOCAL_CLOSURE.fullmatch(closure)
    return Path(closure) if local is None else closures / local[1]


def default_run_dir(state_dir: Path) -> Path:
    """Return the run directory of a daemon whose settings do not name one."""
    return Path("/run/hyperhive") if state_dir == DEFAULT_STATE_DIR else state_dir / "run"


def make_directories(layout: Layout) -> None:
    """Create the directories that a daemon needs. Raises HiveError `no_directory`."""
    for directory, mode in (
        (layout.state_dir, 0o700),
        (layout.agents, 0o700),
        (layout.logs, 0o700),
        (layout.applied, 0o700),
        (layout.builds, 0o700),
        (layout.closures, 0o700),
        (layout.deployed, 0o700),
        (layout.scratch, 0o700),
        (layout.repositories, 0o700),
        (layout.work, 0o700),
        (layout.logs / "work", 0o700),
        (layout.programs, 0o755),
        (layout.run_dir, 0o755),
        (layout.dns, 0o755),
        (layout.run_dir / "agents", 0o700),
        (layout.lent_credentials, 0o700),
        (layout.views, 0o755),
        (layout.access, 0o700),
    ):
        try:
            directory.mkdir(mode=mode, parents=True, exist_ok=True)
        except OSError as error:
            hint = "choose others with --state-dir and --run-dir, or start the daemon as root"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                hint = "free space on that disk, or raise its quota"
            raise HiveError(
                "no_directory",
                f"cannot create {directory}: {os.strerror(error.errno or 0)}",
                hint=hint,
            ) from None

"""The hive of the tests' host: the daemon as its systemd service, asked on its sockets and looked at from outside."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.real_daemon import Daemon, Json

STATE = Path("/var/lib/hyperhive")
RUN = Path("/run/hyperhive")
FLAKE = Path("/srv/hyperhive")
"""A copy of the stand-in flake, which a test may change. Builds see nothing of /tmp."""
SERVICE = "hive-c0re.service"
STOP_TIMEOUT = 5
"""Seconds."""
OFFERED = Path("/run/offered")
"""Directories that agents may ask for; tests make them. In memory, because the host's root cannot be shown idmapped."""
SERVICE_PORT = 3907
"""Port of the host's loopback at which tests serve what agents may ask for."""
VENDOR_PORT = 3908
"""The same for a stand-in for a vendor of models."""
SETTINGS = f"""\
runtime = "nixos"
devices = ["fuse"]
health_timeout = 15
stop_timeout = {STOP_TIMEOUT}

[nixos]
flake = "path:{FLAKE}"

[binds.data]
path = "{OFFERED}/data"

[binds.drop]
path = "{OFFERED}/drop"
writable = true

[services]
greeter = "127.0.0.1:{SERVICE_PORT}"

[relay.providers.vendor]
api = "anthropic"
base_url = "http://127.0.0.1:{VENDOR_PORT}"
keys = ["vendor-key"]
"""
HAS_CONTROLLERS = Path("/sys/fs/cgroup/memory").is_dir() or (
    Path("/sys/fs/cgroup/cgroup.controllers").exists()
    and "memory" in Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
)
needs_limits = pytest.mark.skipif(
    not HAS_CONTROLLERS,
    reason="limits cannot be tried: this host's control groups have no controllers (systemd since 258 wants version 2, "
    "and on this machine they belong to version 1)",
)
KEEPS_DESCRIPTORS = 254
"""The release of systemd since which a service finds its descriptors again after `systemctl restart`."""
PATIENCE = 60.0
"""Seconds for what takes one or two on a machine with nothing else to do."""


def thorough_but(values: Iterable[str], *daily: str) -> list[Any]:
    """Return parameters with these values, of which all but the `daily` ones are left to the thorough tests."""
    assert {*daily} <= {*values}
    return [value if value in daily else pytest.param(value, marks=pytest.mark.thorough) for value in values]


def systemd_release() -> int:
    """The release of this host's systemd."""
    return int(call("systemctl", "--version").split()[1])


def call(*command: str, check: bool = True) -> str:
    """What a program prints; the test fails if it does."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


async def program(*command: str, check: bool = True) -> str:
    """As `call`, while other tasks go on."""
    return await asyncio.to_thread(call, *command, check=check)


async def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Look again and again, until what `condition` gives is true; that."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        await asyncio.sleep(0.02)
    return found


class HostHive(Daemon):
    """The hive of /var/lib/hyperhive. Started and ended are the daemon's alone; containers are units of their own."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, state_dir=STATE)
        self.run_dir = RUN

    # --- life -----------------------------------------------------------------------------------------------

    def launch(self) -> None:
        """Begin to start the service."""
        call("systemctl", "start", "--no-block", SERVICE)

    async def ready(self) -> None:
        """Wait until the service says that it is ready."""
        await program("systemctl", "start", SERVICE)

    @property
    def running(self) -> bool:
        return call("systemctl", "is-active", SERVICE, check=False).strip() == "active"

    @property
    def pid(self) -> int:
        return int(unit(SERVICE, "MainPID"))

    async def kill(self) -> None:
        """SIGKILL. Systemd starts the daemon again by itself."""
        before = self.pid
        await program("systemctl", "kill", "--signal=KILL", "--kill-who=main", SERVICE)
        await until(lambda: self.running and self.pid not in (0, before))

    async def restart(self) -> None:
        """As `systemctl restart` does it after an update of the host."""
        await program("systemctl", "restart", SERVICE)

    async def close(self) -> None:
        """Let go; the host ends with the tests."""
        for session in self._sessions.values():
            await session.close()
        self._notify.close()

    # --- the gate -------------------------------------------------------------------------------------------

    async def spawn_with(
        self, name: str, script: Sequence[Json] = (), agent_nix: str | None = None, **config: object
    ) -> Json:
        """Make and start an agent with the scripted backend, and wait until it is idle."""
        body: Json = {"name": name, "config": {"backend": "scripted", "script": list(script), **config}}
        if agent_nix is not None:
            body["agent_nix"] = agent_nix
        await self.ask("POST", "/v1/agents", body)
        return await self.idle(name)

    async def idle(self, name: str) -> Json:
        """Wait until an agent has nothing to do."""
        return await self.agent_until(name, lambda agent: agent["state"] == "idle" and not agent["unacked"], PATIENCE)

    def change(self, agent: str, message: str, **files: str) -> str:
        """A commit in an agent's repository, on top of what is deployed; its id. Files by name, with _ for the dot."""
        config, applied = STATE / "agents" / agent / "config", STATE / "applied" / f"{agent}.git"
        git = ["git", "-C", str(config), "-c", "safe.directory=*", "-c", f"user.name={agent}", "-c", "user.email=a@b"]
        call(*git, "fetch", "-q", str(applied), "main")
        call(*git, "reset", "-q", "--hard", "FETCH_HEAD")
        for name, text in files.items():
            (config / name.replace("_", ".")).write_text(text)
        call(*git, "commit", "-q", "-a", "--allow-empty", "-m", message)
        return call(*git, "rev-parse", "HEAD").strip()

    async def propose(self, agent: str, message: str, **files: str) -> Json:
        """Propose a change as the agent, and wait for the end of its build."""
        body = {"commit": self.change(agent, message, **files), "note": message}
        made = await self.ask("POST", "/v1/proposals", body, agent=agent)
        return await self.proposal_until(agent, made["number"], lambda found: found["state"] not in UNBUILT)

    async def approve(self, proposal: Json) -> Json:
        """Approve as whoever is asked; the proposal when its activation has begun."""
        speaker = "hm1nd" if proposal["waits_for"] == "manager" else None
        path = f"/v1/proposals/{proposal['agent']}/{proposal['number']}/approve"
        return await self.ask("POST", path, {"expect": "built", "note": "good"}, agent=speaker)

    async def ended(self, proposal: Json) -> Json:  # type: ignore[override] # a daemon's process ends elsewhere
        """Wait until a proposal has ended."""
        return await self.proposal_until(proposal["agent"], proposal["number"], lambda one: one["state"] in ENDED)

    async def proposal_until(self, agent: str, number: int, condition: Callable[[Json], bool]) -> Json:
        """Wait until a proposal is as `condition` says."""
        path, query = f"/v1/proposals/{agent}/{number}", ""
        deadline = time.monotonic() + PATIENCE
        while not condition(found := await self.ask("GET", path + query)):
            assert time.monotonic() < deadline, found
            query = f"?unlike={found['state']}&wait_seconds=30"
        return found

    # --- messages -------------------------------------------------------------------------------------------

    async def ask_agent(self, name: str, body: str) -> str:
        """Send a message as the operator, and wait for the answer to it."""
        sent = await self.ask("POST", "/v1/messages", {"to": name, "body": body})
        query = "SELECT body FROM messages WHERE reply_to = ? AND sender = ?"
        found = await until(lambda: self.sql(query, sent["id"], name))
        return str(found[0][0])

    def told(self, recipient: str, beginning: str) -> list[str]:
        """What the hive itself has told somebody, as far as it begins like this."""
        query = "SELECT body FROM messages WHERE sender = 'system' AND recipient = ? AND body LIKE ? ORDER BY id"
        return [body for (body,) in self.sql(query, recipient, f"{beginning}%")]


OF_A_CONTAINER = (
    "/etc/nixos-containers/{}.conf",
    "/var/lib/nixos-containers/{}",
    "/nix/var/nix/profiles/per-container/{}",
    "/run/systemd/system/container@{}.service.d",
)
UNBUILT = frozenset({"proposal", "building"})
ENDED = frozenset({"deployed", "failed", "denied", "withdrawn"})


# --- containers, looked at from the host ----------------------------------------------------------------------


def unit(name: str, key: str) -> str:
    """A property of a unit, as systemd shows it."""
    return call("systemctl", "show", "--value", f"--property={key}", name).strip()


def container(agent: str) -> str:
    return agent if agent == "hm1nd" else f"h-{agent}"


def service(agent: str) -> str:
    return f"container@{container(agent)}.service"


def invocation(agent: str) -> str:
    """What tells one run of a container from another."""
    return unit(service(agent), "InvocationID")


def inside(agent: str, *command: str, check: bool = True) -> str:
    """What a program prints that root runs in a container."""
    return call("nixos-container", "run", container(agent), "--", *command, check=check)


def closure_of(agent: str) -> str:
    """The closure that a container runs, as it is told inside."""
    return inside(agent, "readlink", "/run/current-system").strip()


def limits_of(agent: str) -> Mapping[str, str]:
    """What the kernel has of a container's limits: memory, cpu and tasks, for either version of control groups."""
    group = unit(service(agent), "ControlGroup").lstrip("/")
    base = Path("/sys/fs/cgroup")
    if (base / "cgroup.controllers").exists():
        files = {"memory": "memory.max", "cpu": "cpu.max", "tasks": "pids.max"}
        return {key: (base / group / file).read_text().strip() for key, file in files.items()}
    files = {"memory": "memory/{}/memory.limit_in_bytes", "cpu": "cpu/{}/cpu.cfs_quota_us", "tasks": "pids/{}/pids.max"}
    return {key: (base / file.format(group)).read_text().strip() for key, file in files.items()}


def left_of(agent: str) -> list[str]:
    """What is still there of an agent's container."""
    paths = (path.format(container(agent)) for path in OF_A_CONTAINER)
    return [path for path in paths if Path(path).exists()]


def set_up(settings: str) -> None:
    """Lay out what the daemon needs on this host: its settings file and the flake."""
    lay_out_flake(FLAKE)
    Path("/etc/hyperhive").mkdir(exist_ok=True)
    Path("/etc/hyperhive/config.toml").write_text(settings)


def lay_out_flake(directory: Path) -> None:
    """Copy the stand-in flake, and into it the programs that builds run: the host's, with loader and libraries."""
    shutil.copytree(Path(__file__).with_name("flake"), directory, dirs_exist_ok=True)
    programs, libraries = directory / "programs/bin", directory / "programs/lib"
    for place in (programs, libraries):
        place.mkdir(parents=True)
    for name in ("bash", "cat", "chmod", "cp", "ln", "mkdir", "sleep"):
        program = shutil.which(name)
        assert program is not None
        shutil.copy(program, programs / name)
        for library in re.findall(r"(/\S+) \(0x", call("ldd", program)):
            is_loader = Path(library).name.startswith("ld-")
            shutil.copy(library, libraries / ("loader" if is_loader else Path(library).name))


def rule(sender: str, match: str, **does: object) -> Json:
    """A rule of a script; see ScriptRule."""
    return {"sender": sender, "match": match, **json.loads(json.dumps(does))}

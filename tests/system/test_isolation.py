"""Root in a container is nobody on the host: what it can reach there, tried with a hostile program as root inside."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import pytest_asyncio

from tests.helpers.real_daemon import Daemon, Json
from tests.system.host_hive import (
    FLAKE,
    PATIENCE,
    RUN,
    STATE,
    STOP_TIMEOUT,
    HostHive,
    call,
    container,
    inside,
    left_of,
    service,
    thorough_but,
    unit,
    until,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

ATTACK = Path(__file__).with_name("hostile_program.py")
NIX_SOCKET = "/nix/var/nix/daemon-socket/socket"
NIX_TASKS: dict[str, list[str]] = {"write": [], "read": [], "connect": [NIX_SOCKET]}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pair(hive: HostHive) -> tuple[str, str]:
    """An attacker and a victim, both running."""
    await asyncio.gather(hive.spawn_with("mal", network="host"), hive.spawn_with("vic"))
    inside("vic", "sh", "-c", "echo secret >/state/note; chmod 600 /state/note")
    return "mal", "vic"


def attack(agent: str, tasks: dict[str, list[str]]) -> Json:
    """What root in the agent's container reaches of that, with a program of its own."""
    answer: Json = json.loads(inside(agent, "python3", str(ATTACK), json.dumps(tasks)))
    return answer


def files_below(*places: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Mode, owner and content of every file that is not its agent's to write at any time."""
    found = {}
    for place in places:
        for directory, _, names in os.walk(place):
            for name in (".", *names):
                path = Path(directory, name)
                status = path.lstat()
                content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
                found[str(path)] = (status.st_mode, status.st_uid, status.st_gid, content)
    return found


_HOST_RESOLVER = Path("/etc/resolv.conf")


def _replace_resolver(text: str) -> str:
    """Replace the host's resolv.conf by a new file, and return the text of the old one."""
    old = _HOST_RESOLVER.read_text()
    new = _HOST_RESOLVER.with_name("resolv.new")
    new.write_text(text)
    new.replace(_HOST_RESOLVER)
    return old


async def test_a_container_follows_the_hosts_dns(hive: HostHive, pair: tuple[str, str]) -> None:
    """A resolv.conf that is replaced on the host is there in the running container, which cannot write it."""
    seen = ("cat", "/run/hive-dns/resolv.conf")
    before = _replace_resolver("nameserver 192.0.2.1\n")
    try:
        await until(lambda: inside(pair[0], *seen) == "nameserver 192.0.2.1\n")
        assert inside(pair[0], "sh", "-c", "echo >/run/hive-dns/resolv.conf || echo refused") == "refused\n"
    finally:
        _replace_resolver(before)


async def test_root_in_a_container_cannot_reach_the_hive(hive: HostHive, pair: tuple[str, str]) -> None:
    """It cannot write, read or list another agent's files, the applied repositories, the daemon's state or the host's
    sockets, by whatever path it knows: its own, the host's, or through the processes that it sees.
    """
    attacker, victim = pair
    await hive.idle(victim)
    guarded = (STATE / "applied", STATE / "agents" / victim, STATE / "hive.lock", RUN / "agents" / victim)
    before = files_below(*guarded)
    forbidden = {
        "write": [
            *(f"{place}/evil" for place in (STATE, STATE / "applied", STATE / "agents" / victim / "state", RUN)),
            str(STATE / "agents" / victim / "state" / "note"),
            f"/applied/{attacker}.git/evil",
            f"/applied/{attacker}.git/HEAD",
            f"/applied/{attacker}.git/refs/heads/main",
            "/run/hive/evil",
            "/run/hive/core.sock",
            "/run/hive/environment",
            "/nix/store/evil",
            "/nix/var/nix/db/db.sqlite",
            "/proc/sys/kernel/core_pattern",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        ],
        "read": [
            str(STATE / "hive.sqlite"),
            str(STATE / "agents" / victim / "state" / "note"),
            str(RUN / "agents" / victim / "environment"),
            f"/applied/{victim}.git/HEAD",
            "/run/host-io/environment",
        ],
        "connect": [
            str(RUN / "host.sock"),
            str(RUN / "agents" / victim / "core.sock"),
            "/proc/1/root/run/hyperhive/host.sock",
        ],
    }
    answer = attack(attacker, forbidden)
    assert answer["reached"] == []
    assert answer["uid"] == 0
    # What is its own it does reach: the program would have told.
    allowed = {"write": ["/state/evil"], "read": ["/run/hive/environment"], "connect": ["/run/hive/core.sock"]}
    reached = {f"{what} {path}" for what, paths in allowed.items() for path in paths} | {"change /state/evil"}
    assert set(attack(attacker, allowed)["reached"]) == reached
    assert files_below(*guarded) == before
    assert inside(victim, "cat", "/state/note").strip() == "secret"


async def test_root_in_a_container_is_nobody_on_the_host(pair: tuple[str, str]) -> None:
    """Each container has user ids of its own, and root's capabilities hold in there only."""
    leaders = [call("machinectl", "show", container(agent), "-p", "Leader", "--value").strip() for agent in pair]
    owners = {int(call("stat", "-c", "%u", f"/proc/{leader}")) for leader in leaders}
    assert len(owners) == 2
    assert all(owner >= 65_536 for owner in owners)


async def test_an_agent_is_whose_socket_it_speaks_on(hive: HostHive, pair: tuple[str, str]) -> None:
    """In its container there is one socket of the hive's, and whatever is said there is said by this agent."""
    attacker, _ = pair
    send = {"to": "operator", "body": "I am the operator", "idempotency_key": "x"}
    curl = ("curl", "-s", "--unix-socket", "/run/hive/core.sock", "-H", "content-type: application/json")
    inside(attacker, *curl, "-d", json.dumps(send), "http://hive/v1/messages")
    assert hive.sql("SELECT sender FROM messages WHERE body = 'I am the operator'") == [(attacker,)]
    refused = json.loads(inside(attacker, *curl, "-d", json.dumps({"name": "more"}), "http://hive/v1/agents"))
    assert refused["error"]["code"]


async def test_a_sealed_agent_has_no_network(hive: HostHive) -> None:
    """It reaches the hive's socket and nothing else: its only interface is its own loopback."""
    await hive.spawn_with("sea", network="sealed")
    shown = inside("sea", "sh", "-c", "cat /proc/net/dev | tail -n +3 | cut -d: -f1; readlink /proc/self/ns/net")
    interfaces = shown.split()
    assert interfaces[:-1] == ["lo"]
    assert interfaces[-1] != call("readlink", "/proc/self/ns/net").strip()
    assert await hive.ask_agent("sea", "hello") == "sea heard: hello"
    assert unit(service("sea"), "ActiveState") == "active"


async def test_the_nix_daemon_is_shown_only_if_that_was_approved(hive: HostHive, pair: tuple[str, str]) -> None:
    """In a container there is no socket of it, also where the network is the host's, and unmounting what hides it
    reveals nothing. An agent whose configuration asks for it has it, and loses it with the next one.
    """
    attacker, _ = pair
    await hive.spawn_with("nix", network="sealed", nix_daemon=True)
    assert attack("nix", NIX_TASKS)["reached"] == [f"connect {NIX_SOCKET}"]
    config = {"agent_toml": 'backend = "scripted"\nnetwork = "sealed"\n'}
    built = await hive.propose("nix", "no more of Nix", **config)
    shown = await hive.ask("GET", f"/v1/proposals/nix/{built['number']}")
    assert any(line.startswith("nix_daemon: true (the host's Nix daemon") for line in shown["settings"])
    await hive.approve(built)
    assert (await hive.ended(built))["state"] == "deployed"
    for agent in (attacker, "nix"):
        inside(agent, "sh", "-c", "while umount /nix/var/nix/daemon-socket; do :; done", check=False)
        assert attack(agent, NIX_TASKS)["reached"] == []
        assert "socket" not in inside(agent, "ls", "-A", "/nix/var/nix/daemon-socket", check=False).split()


@pytest.mark.thorough
async def test_without_users_of_its_own_the_nix_daemon_is_hidden(hive: HostHive) -> None:
    """The Nix daemon would take root there for the host's, whom it trusts. Unmounting what hides its socket shows
    nothing: it was never shown. An agent that asks for it is refused. Of a hive without user namespaces.
    """
    home = Path(tempfile.mkdtemp(prefix="r", dir="/run"))
    call("chmod", "0755", str(home))  # As /var/lib is: who builds has to get to the state directory.
    nixos = json.dumps({"flake": f"path:{FLAKE}", "user_namespaces": False})
    own = Daemon(home, settings={"runtime": "nixos", "nixos": nixos, "stop_timeout": STOP_TIMEOUT})
    try:
        await own.start()
        await own.spawn("raw")
        await own.agent_until("raw", lambda agent: agent["state"] == "idle", PATIENCE)
        assert inside("raw", "cat", "/proc/self/uid_map").split() == ["0", "0", str(2**32 - 1)]
        inside("raw", "sh", "-c", "while umount /nix/var/nix/daemon-socket; do :; done", check=False)
        assert attack("raw", NIX_TASKS)["reached"] == []
        body = {"name": "raw2", "config": {"nix_daemon": True}}
        status, answer = await own.request("POST", "/v1/agents", body)
        assert (status, answer["error"]["code"]) == (409, "no_nix_daemon")
        await own.ask("POST", "/v1/agents/raw/destroy", {})
    finally:
        await own.close()


OPENAT2 = """
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
how = (ctypes.c_uint64 * 3)(os.O_PATH | os.O_CLOEXEC)
found = libc.syscall(437, -100, b"/", ctypes.byref(how), ctypes.sizeof(how))
sys.exit(errno.errorcode[ctypes.get_errno()] if found < 0 else 0)
"""
_OTHER = "Exec Environment Type Notify Restart Watchdog Timeout Runtime State Cache FileDescriptor"
NOT_HARDENING = tuple(_OTHER.split())


async def test_the_daemons_unit_leaves_bubblewrap_what_it_calls(hive: HostHive) -> None:
    """Under the unit's hardening openat2(2) works, which bubblewrap since 0.12 cannot do without."""
    unit_file = Path("/etc/systemd/system/hive-c0re.service")
    lines = (await asyncio.to_thread(unit_file.read_text)).partition("[Service]\n")[2].splitlines()
    hardening = [line for line in lines if "=" in line and not line.startswith(NOT_HARDENING)]
    assert "NoNewPrivileges=true" in hardening
    properties = [f"--property={line}" for line in hardening]
    call("systemd-run", "--quiet", "--wait", "--pipe", *properties, "/usr/bin/python3", "-c", OPENAT2)


async def test_a_container_cannot_fill_the_profile_with_lies(hive: HostHive, pair: tuple[str, str]) -> None:
    """Root in it may write its own profile; what runs after the next start is what was approved all the same."""
    attacker, _ = pair
    good = inside(attacker, "readlink", "/run/current-system").strip()
    inside(attacker, "sh", "-c", "rm -f /nix/var/nix/profiles/system*; ln -s /state /nix/var/nix/profiles/system")
    await hive.ask("POST", f"/v1/agents/{attacker}/restart", {})
    await hive.idle(attacker)
    assert inside(attacker, "readlink", "/run/current-system").strip() == good


async def test_a_destroy_is_not_led_out_of_the_container(hive: HostHive) -> None:
    """Root in a container makes its /var a link to a directory of the host: `chattr -i ROOT/var/empty`, which
    `nixos-container destroy` runs as the host's root, does not reach what is immutable there.
    """
    victim = Path("/var/lib/nixos-containers/victim")  # A file system that knows the flag, in a real directory.
    (victim / "empty").mkdir(parents=True)
    (victim / "lib").mkdir()
    call("chattr", "+i", str(victim / "empty"))
    try:
        await hive.spawn_with("evil")
        inside("evil", "sh", "-c", f"mkdir /many; cd /many; mkdir $(seq 2000); mv /var /old; ln -s {victim} /var")
        assert call("readlink", "/var/lib/nixos-containers/h-evil/var").strip() == str(victim)
        await hive.ask("POST", "/v1/agents/evil/destroy", {})
        assert left_of("evil") == []
        assert "i" in call("lsattr", "-d", str(victim / "empty")).split()[0]
        assert call("ls", str(victim)).split() == ["empty", "lib"]
    finally:
        call("chattr", "-i", str(victim / "empty"))
        shutil.rmtree(victim)


WITH_SETUID = """
import os, sys
program = os.open(sys.argv[1], os.O_PATH)
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
# By its descriptor, as if somebody had opened the directories above it to everybody.
os.execve(f"/proc/self/fd/{program}", ["id", "-u"], {})
"""


def user_that_runs(program: Path) -> str:
    """The user as whom a program of the host runs that user 65534 starts."""
    return call("python3", "-c", WITH_SETUID, str(program)).strip()


async def test_a_setuid_program_of_a_container_gives_no_root_on_the_host(pair: tuple[str, str]) -> None:
    """Root in a container makes files that are root's on the host and setuid, wherever it can write. Their mounts are
    without setuid programs and devices: started on the host they run as whoever starts them.
    """
    attacker, _ = pair
    home, name = STATE / "agents" / attacker, container(attacker)
    places = {
        "/state": home / "state",
        "/config": home / "config",
        "/code": home / "code",
        "/root/.claude": home / "claude",
        "/": Path("/var/lib/nixos-containers") / name,
        "/nix/var/nix/profiles": Path("/nix/var/nix/profiles/per-container") / name,
        "/nix/var/nix/gcroots": Path("/nix/var/nix/gcroots/per-container") / name,
    }
    for within in places:
        inside(attacker, "sh", "-c", f"cp /usr/bin/id {within}/suid; chmod 4755 {within}/suid")
    for place in places.values():
        assert call("stat", "-c", "%u %a", str(place / "suid")).split() == ["0", "4755"], place
        assert user_that_runs(place / "suid") == "65534", place
    # With another mount the same file does give root: the test can tell.
    open_mount = tempfile.mkdtemp(prefix="suid", dir="/run")
    call("mount", "--bind", str(home / "state"), open_mount)
    try:
        call("mount", "-o", "remount,bind,suid", open_mount)
        assert user_that_runs(Path(open_mount, "suid")) == "0"
    finally:
        call("umount", open_mount)
    found = json.loads(call("hive-c0re", "doctor", "--json", check=False))["findings"]
    assert [one["severity"] for one in found if one["check"] == "mount-flags"] == ["ok"]


def entries_below(place: Path) -> list[tuple[str, int, int, int]]:
    """Name, mode, owner and group of a directory and of all in it."""
    found = [(path, path.lstat()) for path in (place, *sorted(place.rglob("*")))]
    return [(str(path), status.st_mode, status.st_uid, status.st_gid) for path, status in found]


LINKED = (
    "var/log",
    "var/log/journal",
    "var/lib",
    "etc",
    "root",
    "srv",
    "home",
    "tmp",
    "state",
    "config",
    "applied",
    "nix",
)


@pytest.mark.parametrize("name", thorough_but(LINKED, "var/log/journal", "etc"))
async def test_a_start_is_not_led_out_of_the_container(hive: HostHive, name: str) -> None:
    """Root in a container leaves a link to a directory of the host in its tree: neither the start script nor nspawn,
    which make and open files there before they are in the container, make or change anything where the link leads.
    """
    victim = Path("/var/lib/nixos-containers/victim")
    (victim / "private").mkdir(parents=True)
    journal = Path("/var/log/journal")  # Where the host keeps one, nspawn would link those of containers there.
    made = call("mkdir", "--verbose", "--parents", str(journal))  # systemd makes one itself since 258.
    try:
        await hive.spawn_with("lnk")
        machine = inside("lnk", "cat", "/etc/machine-id").strip()
        await hive.ask("POST", "/v1/agents/lnk/stop", {})
        path = Path("/var/lib/nixos-containers/h-lnk") / name
        call("sh", "-c", f"rm -rf --one-file-system {path}; mkdir -p {path.parent}; ln -s {victim} {path}")
        before = entries_below(victim)
        await hive.request("POST", "/v1/agents/lnk/start", {})
        await until(lambda: unit(service("lnk"), "ActiveState") in ("active", "failed", "inactive"))
        assert entries_below(victim) == before
        # The host's journal shows no files of a container under an id that its root has chosen.
        assert machine not in call("ls", "-A", str(journal)).split()
    finally:
        if made:
            shutil.rmtree(journal)
        await hive.ask("POST", "/v1/agents/lnk/destroy", {"purge": True})
        shutil.rmtree(victim)


TYPE = "import fcntl, termios\nfor one in b'true #typed\\n': fcntl.ioctl(0, termios.TIOCSTI, bytes([one]))"


def typed_into_terminal(command: str) -> bool:
    """Return True if a command that an operator runs in a terminal types into it, for the operator's shell to read."""
    operator, terminal = pty.openpty()
    shell = f"{command}; timeout --foreground 2 head -n 1 | grep -q typed && echo FORGED"
    run = subprocess.Popen(
        ["setsid", "--ctty", "--wait", "sh", "-c", shell], stdin=terminal, stdout=subprocess.PIPE, stderr=terminal
    )
    os.close(terminal)
    try:
        said, _ = run.communicate(timeout=PATIENCE)
    finally:
        os.close(operator)
    return b"FORGED" in said


async def test_who_logs_in_as_the_docs_say_keeps_the_terminal(pair: tuple[str, str]) -> None:
    """A program in the profile of a container's root cannot type into the terminal of an operator who logs in, or runs
    a program, with `script` as the docs say; without it, it can.
    """
    attacker, _ = pair
    inside(attacker, "sh", "-c", f'printf %s "{TYPE}" >/state/type.py')
    inside(attacker, "sh", "-c", "echo 'python3 /state/type.py; exit' | tee /root/.profile >/root/.bash_profile")
    docs = Path(__file__).parents[2] / "docs" / "nixos.md"
    assert 'script -qc "nixos-container root-login h-ada" /dev/null' in await asyncio.to_thread(docs.read_text)
    leader = call("machinectl", "show", container(attacker), "-p", "Leader", "--value").strip()
    login = f"nsenter --all -t {leader} -- su root -l"  # What `nixos-container root-login` becomes.
    program = f"nixos-container run {container(attacker)} -- true"
    for step in (login, program):
        assert not await asyncio.to_thread(typed_into_terminal, f'script -qc "{step}" /dev/null')
    if call("cat", "/proc/sys/dev/tty/legacy_tiocsti", check=False).strip() != "0":
        assert await asyncio.to_thread(typed_into_terminal, login)
    call("sh", "-c", f"rm /var/lib/nixos-containers/{container(attacker)}/root/.*profile")

"""The sandbox: what its command line says, and what an agent in it really sees."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from hive_core.layout import Layout
from hive_core.runtimes import agent_environment, bubblewrap
from hive_core.runtimes.agent_environment import harness_environment
from hive_core.runtimes.bubblewrap import Host, arguments, inspect_host
from tests.unit.core.runtimes.local.local_hive import POLITE, make_spec, opened

LOOK_AROUND = """
import json, os, pathlib, socket
def attempt(action):
    try:
        action()
        return "done"
    except OSError as error:
        return os.strerror(error.errno)
write = lambda path: attempt(lambda: pathlib.Path(path, "made").write_text("x"))
print(json.dumps({
    "environment": {key: value for key, value in os.environ.items() if key != "LC_CTYPE"},
    "cwd": os.getcwd(),
    "host": socket.gethostname(),
    "top": sorted(os.listdir("/")),
    "etc": sorted(os.listdir("/etc")),
    "run": sorted(os.listdir("/run")),
    "root": sorted(os.listdir("/root")),
    "processes": len([name for name in os.listdir("/proc") if name.isdecimal()]),
    "capabilities": [line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap")],
    "writes": {path: write(path) for path in
               ["/", "/etc", "/usr", "/run/hive", "/state", "/root/.claude", "/config", "/code", "/tmp"]},
    "flags": {path: os.statvfs(path).f_flag for path in
              ["/", "/usr", "/run/hive", "/state", "/root", "/root/.claude", "/config", "/code", "/tmp"]},
    "public": open("/proc/1/cmdline").read(),
    "hive": attempt(lambda: __import__("hive_core.protocol.names")),
}), flush=True)
"""


def fake_root(place: Path) -> Path:
    """A root directory like that of a NixOS host."""
    for path in ("usr/bin", "nix/store/abc-system", "nix/var", "lib64", "etc/ssl/certs", "etc/ssl/private", "run"):
        (place / path).mkdir(parents=True)
    for name in ("passwd", "shadow", "resolv.conf", "machine-id"):
        (place / "etc" / name).write_text("")
    (place / "bin").symlink_to("usr/bin")
    (place / "run/current-system").symlink_to("/nix/store/abc-system")
    return place


def test_look_shows_only_what_is_chosen(tmp_path: Path) -> None:
    """No shadow, private key, machine id or Nix socket is shown; links stay links."""
    host = inspect_host(fake_root(tmp_path), python=[])
    assert {str(path) for path in host.read_only} == {
        "/usr",
        "/lib64",
        "/nix/store",
        "/etc/passwd",
        "/etc/ssl/certs",
    }
    assert host.links == (("usr/bin", "/bin"), ("/nix/store/abc-system", "/run/current-system"))


def test_look_mounts_outer_directories_once(tmp_path: Path) -> None:
    """An interpreter within what is shown already, or behind a link to it, is not mounted again."""
    python = [Path("/usr/lib/python3"), Path("/root/venv/bin/python"), Path("/root/venv"), Path("/bin/python3")]
    host = inspect_host(fake_root(tmp_path), python=python)
    assert [path for path in host.read_only if "python" in str(path) or "venv" in str(path)] == [Path("/root/venv")]


def test_the_checkout_itself_is_not_shown() -> None:
    """Only the packages are shown: the directory around them may hold the hive's own sockets."""
    root = agent_environment.package_root()
    assert root / "hive_core" in bubblewrap.python_paths()
    assert root not in bubblewrap.python_paths()


def test_mounts_are_in_order(tmp_path: Path) -> None:
    """What lies in another mount is mounted after it, and the root is closed last."""
    spec = make_spec(Layout(tmp_path, tmp_path / "run"), "ada", {})
    line = arguments("bwrap", Host((Path("/root/venv"), Path("/tmp/env")), ()), spec, 7, ["harness"])
    order = ["/root", "/root/venv", "/root/.claude"]
    assert sorted(order, key=line.index) == order
    assert line.index("/tmp") < line.index("/tmp/env")
    assert line[line.index("/run/hive") - 2] == "--ro-bind"
    assert line[line.index("--remount-ro") :] == ["--remount-ro", "/", "--chdir", "/state", "--", "harness"]


def test_the_environment_is_not_on_the_command_line(tmp_path: Path) -> None:
    """A key that an agent gets stands in its environment, and not where every user can read it."""
    spec = make_spec(Layout(tmp_path, tmp_path / "run"), "ada", {"API_KEY": "secret", "HIVE_AGENT_RUN": "/else"})
    assert "secret" not in " ".join(arguments("bwrap", Host((), ()), spec, 7, ["harness"]))
    assert harness_environment(spec)["API_KEY"] == "secret"
    assert harness_environment(spec)["HIVE_AGENT_RUN"] == "/run/hive"


def test_the_pages_port(tmp_path: Path) -> None:
    """A harness is told the port of its page, whatever the operator passes on; a spec without one names none."""
    spec = make_spec(Layout(tmp_path, tmp_path / "run"), "ada", {"HIVE_AGENT_PORT": "1"})
    assert harness_environment(replace(spec, web_port=8123))["HIVE_AGENT_PORT"] == "8123"
    assert "HIVE_AGENT_PORT" not in harness_environment(replace(spec, web_port=0, environment={}))


@pytest.mark.parametrize("name", ["plain", "a b", "$HOME", "new\nline", "--tmpfs", "quo'te\"", "ünïcode"])
async def test_what_an_agent_sees(tmp_path: Path, name: str) -> None:
    """In a directory of any name, an agent finds its places, may write only its own, and sees nothing else."""
    async with opened("bubblewrap", tmp_path / name, LOOK_AROUND + POLITE) as hive:
        spec = hive.spec(environment={"API_KEY": "secret"})
        assert hive.runtime.confinement == "bubblewrap"
        await hive.runtime.start(spec)
        seen = json.loads(await hive.line('{"environment"'))
        await hive.line("up")
    assert seen["environment"] == {**harness_environment(spec), "PWD": "/state"}
    assert (seen["cwd"], seen["host"]) == ("/state", "h-ada")
    assert not {"home", "var", "srv", "mnt", "boot", "sys"} & set(seen["top"])
    assert not {"shadow", "gshadow", "shadow-", "sudoers", "ssh", "machine-id"} & set(seen["etc"])
    assert set(seen["run"]) <= {"hive", "current-system"}
    # The harness, process 1, and nobody of the host.
    assert seen["processes"] == 2
    assert {int(capability, 16) for capability in seen["capabilities"]} == {0}
    readable_only = "Read-only file system"
    assert seen["writes"] == {
        "/": readable_only,
        "/etc": readable_only,
        "/usr": readable_only,
        "/run/hive": readable_only,
        "/state": "done",
        "/root/.claude": "done",
        "/config": "done",
        "/code": "done",
        "/tmp": "done",
    }
    without = os.ST_NOSUID | os.ST_NODEV
    assert {path for path, flags in seen["flags"].items() if flags & without != without} == set()
    assert "secret" not in seen["public"]
    assert seen["hive"] == "done"
    for directory in (spec.paths.state, spec.paths.claude, spec.paths.config, spec.paths.code):
        assert (directory / "made").read_text() == "x"


async def test_a_socket_made_later_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon may make core.sock anew while the sandbox lives: the agent reaches the new one."""
    script = """
import os, socket, time
print("up", flush=True)
while True:
    one = socket.socket(socket.AF_UNIX)
    if one.connect_ex("/run/hive/core.sock") == 0:
        print("connected", one.recv(10), flush=True)
        break
    time.sleep(0.01)
"""
    async with opened("bubblewrap", tmp_path, script + POLITE) as hive:
        spec = hive.spec()
        await hive.runtime.start(spec)
        await hive.line("up")
        with socket.socket(socket.AF_UNIX) as listener:
            # By a short name: pytest's directories can be too deep for the path of a socket.
            monkeypatch.chdir(spec.paths.run)
            listener.bind("core.sock")
            listener.listen()
            listener.setblocking(False)
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(30):
                connection, _ = await loop.sock_accept(listener)
            with connection:
                await loop.sock_sendall(connection, b"hello")
                assert "hello" in await hive.line("connected")

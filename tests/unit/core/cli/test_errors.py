"""How the program fails: what it says, where, and with which exit code."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.unit.core.cli.fake_host_api import FakeHost, agent
from tests.unit.core.cli.fake_host_http import Refusal
from tests.unit.core.cli.run_cli import Program

ASKING = [
    ["status"], ["spawn", "alice"], ["list"], ["start", "alice"], ["stop", "alice"], ["restart", "alice"],
    ["destroy", "alice"], ["send", "alice", "hi"], ["ask", "alice", "hi"], ["inbox"], ["watch"], ["logs", "alice"],
    ["proposals"], ["proposals", "list"], ["proposals", "show", "ada", "3"], ["proposals", "diff", "ada", "3"],
    ["proposals", "allow-fetches", "ada", "3"], ["proposals", "log", "ada", "3"], ["proposals", "reindex"],
    ["propose", "ada", "c" * 40, "--note", "x"],
    ["approve", "ada", "3"], ["deny", "ada", "3", "--note", "x"], ["withdraw", "ada", "3"],
    ["rollback", "ada", "--note", "x"], ["history", "ada"], ["audit", "show"], ["audit", "verify"],
]  # fmt: skip

# Root may use every socket; without this capability it is refused as others are. (Numbers: see capabilities(7).)
WITHOUT_OVERRIDE = """
import ctypes, os, sys
prctl = ctypes.CDLL(None, use_errno=True).prctl
if os.geteuid() == 0:
    for capability in (1, 2):
        assert prctl(24, capability, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execv(sys.executable, [sys.executable, "-m", "hive_core", *sys.argv[1:]])
"""


@pytest.mark.parametrize("command", ASKING, ids=lambda command: " ".join(command[:2]))
async def test_no_daemon(command: list[str], hive: Program) -> None:
    """Without a daemon every command ends with 3 and one line that says where it looked and what to do."""
    ended = await hive.run(*command)
    assert (ended.code, ended.out) == (3, "")
    assert ended.err == (
        f"hive-c0re: no daemon is listening on {hive.socket} "
        '(start one with "hive-c0re serve", or name its socket with --socket)\n'
    )
    ended = await hive.run(*command, "--json")
    assert (ended.code, ended.out, ended.error["code"]) == (3, "", "no_daemon")


async def test_a_socket_left_behind(hive: Program, daemon: FakeHost) -> None:
    """A socket that nobody listens on any more, a plain file or a file as directory are no daemon either."""
    daemon.path.rename(f"{daemon.path}.kept")
    await daemon.stop()
    for path in (f"{daemon.path}.kept", __file__, f"{__file__}/host.sock"):
        assert (await hive.run("--socket", path, "list")).code == 3
    ended = await hive.run("--socket", "/" + "x" * 200, "list")
    assert (ended.code, ended.out) == (1, "")
    assert "too long" in ended.err


async def test_no_permission(hive: Program, daemon: FakeHost) -> None:
    """A user without access to the socket learns to ask for its group, and how to see which it is."""
    daemon.path.chmod(0o000)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WITHOUT_OVERRIDE, "list", env=hive.environment(), stdout=PIPE, stderr=PIPE
    )
    out, err = await process.communicate()
    assert (process.returncode, out) == (1, b"")
    assert err.decode().startswith(f"hive-c0re: no permission to use {daemon.path}")
    assert f'ask to be added to its group ("ls -l {daemon.path}" shows it)' in err.decode()


async def test_a_refusal(hive: Program, daemon: FakeHost) -> None:
    """A refused request ends with 1, and the daemon's words stand on stderr with nothing in them to obey."""
    daemon.refusal = Refusal(409, "agent_exists", "alice\x1b[2J\nexists", "choose another name")
    ended = await hive.run("spawn", "alice")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "hive-c0re: alice\\x1b[2J\\nexists (choose another name)\n"
    ended = await hive.run("spawn", "alice", "--json")
    assert (ended.code, ended.out) == (1, "")
    assert ended.error == daemon.refusal.answer.error.model_dump(exclude={"fields"})


NAMED = [
    (["limits", "ada", "--memory", "3"], "body.memory_max", "--memory"),
    (["limits", "ada", "--cpu", "0"], "body.cpu_quota", "--cpu"),
    (["limits", "ada", "--tasks", "1"], "body.tasks_max", "--tasks"),
    (["limits", "ada", "--io-weight", "0"], "body.io_weight", "--io-weight"),
    (["spawn", "ada", "--tool", ""], "body.config.tools[0]", "--tool"),
    (["spawn", "ada", "--allow", "A"], "body.config.allowed_recipients[0]", "--allow"),
    (["spawn", "ada", "--model", ""], "body.config.model", "--model"),
    (["spawn", "Ada"], "body.name", "NAME"),
    (["spawn", "ada"], "body.config.memory_max", "agent.toml: memory_max"),
    (["send", "ada", ""], "body.body", "BODY"),
    (["send", "ada", "x", "--key", ""], "body.idempotency_key", "--key"),
    (["send", "ada", "x", "--reply-to", "0"], "body.reply_to", "--reply-to"),
    (["logs", "ada", "-n", "0"], "query.lines", "--lines"),
    (["inbox", "-n", "0"], "query.limit", "--limit"),
    (["history", "ada", "--offset", "-1"], "query.offset", "--offset"),
    (["rebuild", "ada", "--reason", "x"], "body.note", "--reason"),
    (["propose", "ada", "x"], "body.commit", "COMMIT"),
]


@pytest.mark.parametrize(("arguments", "field", "expected"), NAMED, ids=[" ".join(each[0]) for each in NAMED])
async def test_a_wrong_field(hive: Program, daemon: FakeHost, arguments: list[str], field: str, expected: str) -> None:
    """A wrong field of the request is named as the option, argument or key that the user wrote."""
    daemon.refusal = Refusal(400, "invalid_request", f"{field}: it is wrong", "see the API", {field: "it is wrong"})
    note = ["--note", "x"] if arguments[0] == "propose" else []
    ended = await hive.run(*arguments, *note)
    assert ended.code == 1
    help_ = f'"hive-c0re {arguments[0]} --help" shows what can be given'
    assert ended.err.splitlines()[-1] == f"hive-c0re: {expected}: it is wrong ({help_})"


async def test_a_long_hint_is_a_line_of_its_own(hive: Program, daemon: FakeHost) -> None:
    """A message and a hint that do not fit on one line are two."""
    daemon.refusal = Refusal(400, "x", "m" * 100, "h" * 100)
    assert (await hive.run("list")).err == f"hive-c0re: {'m' * 100}\n  {'h' * 100}\n"


@pytest.mark.parametrize("name", ["..", "a/b", "", "Alice", "al ice", "a" * 10, "\u0430lice", "a\n", "a?x=1", "\udcff"])
async def test_a_name_is_never_another_path(name: str, hive: Program, daemon: FakeHost) -> None:
    """What is no name reaches no path of the daemon."""
    daemon.agents = [agent("alice")]
    ended = await hive.run("stop", name)
    assert (ended.code, ended.out, daemon.asked) == (1, "", [])
    assert "the name" in ended.err


@pytest.mark.parametrize("raw", [b"<html>", b"", b"[]", b"\xff"])
async def test_not_a_hive(raw: bytes, hive: Program, daemon: FakeHost) -> None:
    """An answer that is not of the protocol is told as such, without a traceback."""
    daemon.raw = raw
    ended = await hive.run("list")
    assert (ended.code, ended.out) == (1, "")
    assert "is not an answer of hive-c0re serve" in ended.err
    assert len(ended.err.splitlines()) <= 2


@pytest.mark.parametrize("bytes_", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", b"SSH-2.0-x\r\n"])
async def test_a_broken_connection(bytes_: bytes, hive: Program) -> None:
    """A connection that breaks off is told as such, and that the request may have been carried out."""

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(bytes_)
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(break_off, hive.socket)
    async with server:
        ended = await hive.run("list")
    assert (ended.code, ended.out) == (1, "")
    assert "broke off" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["lst"],
        ["list", "--nope"],
        ["send", "alice"],
        ["ask", "a", "b", "--timeout", "x"],
        ["proposals", "lst"],
        ["audit"],
    ],
)
async def test_wrong_usage(arguments: list[str], hive: Program) -> None:
    """Wrong usage ends with 2 and says how it is right."""
    ended = await hive.run(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert "Usage: hive-c0re" in ended.err


async def test_serve_refuses_wrong_settings(hive: Program, tmp_path: Path) -> None:
    """`serve` names a setting that is wrong, and starts nothing."""
    config = tmp_path / "config.toml"
    config.write_text("inbox_limit = 0\n")
    ended = await hive.run("serve", "--config", str(config), "--state-dir", str(tmp_path / "state"))
    assert (ended.code, ended.out) == (1, "")
    assert "setting 'inbox_limit'" in ended.err
    assert not (tmp_path / "state").exists()

"""What OpenSSH's own programs do in an agent: commands, terminals, files, rsync, git."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import psutil
import pytest

from tests.unit.core.cli.access.ssh.conftest import Ssh


async def test_commands_run_in_the_agent(ssh: Ssh) -> None:
    """A command gets its stdin and variables, its output comes back byte by byte, and its exit code is that of ssh."""
    (ssh.state / "here").touch()
    data = bytes(range(256)) * 4_096
    done = await ssh.call("cat >in; cksum <in; echo $LC_WORD >&2; exit 7", stdin=data, options=["-oSetEnv=LC_WORD=yes"])
    expected = await ssh.run("cksum", stdin=data)
    assert (done.code, done.out, done.err) == (7, expected.out, "yes\n")
    assert (ssh.state / "in").read_bytes() == data


async def test_what_cannot_be_run_is_told(ssh: Ssh) -> None:
    """A missing program and an agent that does not answer are told on stderr, with the codes of shells and ssh."""
    done = await ssh.call("no-such-program")
    assert done.code == 127 and "no-such-program" in done.err
    (ssh.directory / "a").rename(ssh.directory / "gone")
    done = await ssh.call("true")
    assert done.code == 255 and "hive-c0re" in done.err


async def test_a_terminal_is_one(ssh: Ssh) -> None:
    """A terminal has the caller's size and type, and follows the window; a signal reaches its program."""
    async with await ssh.connect() as connection:
        script = "trap 'stty size; exit 5' WINCH; stty size; tty >/dev/null && echo $TERM; while :; do sleep 0.01; done"
        process = await connection.create_process(script, term_type="vt100", term_size=(91, 33))
        assert [(await process.stdout.readline()).strip() for _ in range(2)] == ["33 91", "vt100"]
        process.change_terminal_size(100, 40)
        done = await process.wait()
        assert (done.stdout.strip() if isinstance(done.stdout, str) else "", done.exit_status) == ("40 100", 5)
        process = await connection.create_process("echo ready; exec sleep 1041")
        await process.stdout.readline()
        process.send_signal("TERM")
        done = await process.wait()
        assert done.exit_signal is not None and done.exit_signal[0] == "TERM"


async def test_files_are_copied_in_the_agent(ssh: Ssh, tmp_path: Path) -> None:
    """scp, with both of its protocols, copies trees both ways, and reaches files of the agent only."""
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/one two").write_bytes(b"\0" * 300_000)
    (tree / "empty").touch()
    config = ["-q", "-F", str(ssh.directory / "config"), "-r"]
    for number, protocol in enumerate((["-s"], ["-O"])):
        up = await ssh.run("scp", *protocol, *config, str(tree), f"hive-ada:up{number}")
        down = await ssh.run("scp", *protocol, *config, f"hive-ada:up{number}", str(tmp_path / f"down{number}"))
        assert (up.code, down.code) == (0, 0), up.err + down.err
        for copy in (ssh.state / f"up{number}", tmp_path / f"down{number}"):
            assert (await ssh.run("diff", "-r", str(tree), str(copy))).code == 0
    # The program that serves them is one of the agent's, like every other command.
    assert {opening.kind for opening in ssh.openings} == {"run"}


@pytest.mark.skipif(shutil.which("rsync") is None, reason="needs rsync")
async def test_rsync_and_git(ssh: Ssh, tmp_path: Path) -> None:
    """rsync copies a tree into the agent, and git clones a repository of the agent, over ssh."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("content")
    shell = " ".join(ssh.command)
    done = await ssh.run("rsync", "-a", "-e", shell, f"{tmp_path}/tree/", "hive-ada:synced/")
    assert done.code == 0, done.err
    assert (ssh.state / "synced/file").read_text() == "content"
    await ssh.run("git", "init", "-q", str(ssh.state / "repo"))
    identity = ["-c", "user.name=ada", "-c", "user.email=ada@hive"]
    await ssh.run("git", "-C", str(ssh.state / "repo"), *identity, "commit", "-qm", "first", "--allow-empty")
    done = await ssh.run(
        "git", "clone", "-q", f"hive-ada:{ssh.state}/repo", str(tmp_path / "clone"), env={"GIT_SSH_COMMAND": shell}
    )
    assert done.code == 0, done.err
    assert (await ssh.run("git", "-C", str(tmp_path / "clone"), "log", "--format=%s")).out == "first\n"


async def test_fifty_sessions_at_once_that_break_off(ssh: Ssh) -> None:
    """Fifty sessions of one ssh answer at once; when it breaks off, everything that they ran ends."""
    async with await ssh.connect() as connection:
        processes = await asyncio.gather(
            *(connection.create_process(f"echo $$ >pid{number}; echo {number}; sleep 1042") for number in range(50))
        )
        lines = await asyncio.gather(*(process.stdout.readline() for process in processes))
        assert [line.strip() for line in lines] == [str(number) for number in range(50)]
        connection.abort()
    pids = [int((ssh.state / f"pid{number}").read_text()) for number in range(50)]
    while any(psutil.pid_exists(pid) for pid in pids):
        await asyncio.sleep(0.01)

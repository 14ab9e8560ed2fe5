"""`exec` and `shell` in a real agent."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import select
import signal
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.integration.access.caller import SECONDS, Caller


async def test_exec_is_like_a_command_of_this_host(caller: Caller) -> None:
    """Bytes, exit codes, signals, directory and variables pass through; stdin only with -i; the audit log has it."""
    everything = bytes(range(256)) * 1_000
    echoed = await caller.run("exec", "ada", "-i", "--", "sh", "-c", "cat; echo late >&2; exit 7", stdin=everything)
    assert (echoed.code, echoed.out, echoed.err) == (7, everything, "late\n")
    assert (await caller.run("exec", "ada", "--", "cat", stdin=b"unseen")).out == b""
    killed = await caller.run("exec", "ada", "--", "sh", "-c", "kill -TERM $$")
    assert killed.code == 128 + signal.SIGTERM
    told = await caller.run("exec", "ada", "--directory", "/tmp", "--env", "GREETING=hi there", "--", "sh", "-c",
                            'echo "$GREETING"; pwd; id -un; echo "$GIT_AUTHOR_NAME"')  # fmt: skip
    assert told.out.decode().split("\n")[:2] == ["hi there", "/tmp"]
    assert told.out.decode().split("\n")[3] == "ada"
    missing = await caller.run("exec", "ada", "--", "no-such-program")
    assert (missing.code, missing.out) == (127, b"")
    assert "there is no program no-such-program in the agent" in missing.err
    assert (await caller.run("exec", "ada", "--directory", "/no/such", "--", "true")).code == 1
    long = await caller.run("exec", "ada", "--", "true", *["x" * 300] * 40)
    assert long.code == 0
    rows = caller.daemon.sql("SELECT actor, subject, detail FROM audit WHERE action = 'access' ORDER BY id DESC")
    actor, subject, detail = rows[0]
    assert (actor.partition(":")[0], subject) == ("operator", "ada")
    argv = json.loads(detail)["argv"]
    assert (len(argv), argv[0], len(argv[1])) == (33, "true", 201)


async def test_signals_are_passed_on(caller: Caller) -> None:
    """A signal to the command reaches the program in the agent, whose end is the command's."""
    process = await caller.start(
        "exec", "ada", "--", "sh", "-c", "trap 'echo got it; exit 9' INT; echo up; sleep 9 & wait"
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), SECONDS) == b"up\n"
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.stdout.read(), SECONDS) == b"got it\n"
    assert await process.wait() == 9


async def test_an_agent_that_is_gone_is_said(caller: Caller) -> None:
    """A session ends with its agent, and the caller hears why; one with a stopped or unknown agent does not begin."""
    process = await caller.start("exec", "ada", "--", "sh", "-c", "echo up; sleep 600")
    assert process.stdout is not None and process.stderr is not None
    assert await asyncio.wait_for(process.stdout.readline(), SECONDS) == b"up\n"
    await caller.daemon.ask("POST", "/v1/agents/ada/stop")
    assert b"the session in ada broke off" in await asyncio.wait_for(process.stderr.read(), SECONDS)
    assert await process.wait() == 1
    stopped = await caller.run("exec", "ada", "--", "true")
    assert (stopped.code, "ada does not run" in stopped.err) == (1, True)
    assert "no agent 'bob'" in (await caller.run("exec", "bob", "--", "true")).err


async def test_fifty_sessions_at_once_and_broken_off(caller: Caller) -> None:
    """Fifty sessions run side by side; of those whose callers are killed nothing is left, and the others end well."""
    script = "echo $$; read line; echo $line"
    processes = await asyncio.gather(*(caller.start("exec", "ada", "-i", "--", "sh", "-c", script) for _ in range(50)))
    numbers = []
    for process in processes:
        assert process.stdout is not None
        numbers.append(int(await asyncio.wait_for(process.stdout.readline(), SECONDS)))
    for process in processes[:25]:
        process.kill()
    ended = await asyncio.gather(*(process.communicate(b"well\n") for process in processes[25:]))
    assert [out for out, _ in ended] == [b"well\n"] * 25
    await asyncio.gather(*(process.wait() for process in processes))
    look = "for i in $(seq 100); do n=0; for p in \"$@\"; do kill -0 $p 2>/dev/null && n=$((n+1)); done; " \
        "[ $n = 0 ] && break; sleep 0.1; done; echo $n"  # fmt: skip
    left = await caller.run("exec", "ada", "--", "sh", "-c", look, "look", *map(str, numbers))
    assert left.out == b"0\n"


@contextmanager
def on_terminal(caller: Caller, *arguments: str) -> Iterator[tuple[int, int]]:
    """Run a command on a terminal of 100 columns and 30 rows; yield its process and the other side."""
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            termios.tcsetwinsize(0, (30, 100))
            line = caller.line(*arguments)
            # What the terminal is like after the command is printed by what runs it.
            script = '"$@"; code=$?; stty -a | grep -o -e "-\\?icanon" -e "-\\?echo\\b"; echo "code $code"'
            os.execvpe("sh", ["sh", "-c", script, "sh", *line], caller.environment)
        finally:
            os._exit(1)
    try:
        yield pid, terminal
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


def read_until(terminal: int, wanted: str) -> str:
    """Return what the terminal shows until it has shown this."""
    shown, deadline = "", time.monotonic() + SECONDS
    while re.search(wanted, shown) is None:
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 1)[0]:
            try:
                shown += os.read(terminal, 65_536).decode(errors="replace")
            except OSError:
                assert re.search(wanted, shown), shown
                break
    return shown


def visit(caller: Caller) -> None:
    with on_terminal(caller, "shell", "ada") as (_, terminal):
        read_until(terminal, r"[#$] ")
        os.write(terminal, b"stty size; echo a$((40 + 2))b\r")
        assert "30 100" in read_until(terminal, "a42b")
        termios.tcsetwinsize(terminal, (40, 120))
        # Said by the program in the foreground: the shell may miss a Ctrl-C before it has started one.
        os.write(terminal, b"sh -c 'echo e$((1 + 1))f; exec sleep 100'\r")
        read_until(terminal, "e2f")
        os.write(terminal, b"\x03")  # Ctrl-C ends the program in the agent, and not the session.
        read_until(terminal, r"[#$] ")  # What is typed while Ctrl-C takes effect is lost, as on every terminal.
        os.write(terminal, b"stty size; echo c$((40 + 2))d\r")
        assert "40 120" in read_until(terminal, "c42d")
        os.write(terminal, b"exit 5\r")
        shown = read_until(terminal, r"code \d+")
        assert re.findall(r"^(-?icanon|-?echo)\r$", shown, re.MULTILINE) == ["icanon", "echo"]
        assert "code 5" in shown
    with on_terminal(caller, "shell", "ada") as (_, terminal):
        read_until(terminal, r"[#$] ")
        os.write(terminal, b"~.")
        shown = read_until(terminal, r"code \d+")
        assert "icanon" in shown and "-icanon" not in shown


async def test_a_shell_on_a_real_terminal(caller: Caller) -> None:
    """Keys, the size of the window and Ctrl-C reach the shell; the terminal is restored after it, also after `~.`."""
    await asyncio.to_thread(visit, caller)


async def test_output_without_end_harms_nobody(caller: Caller) -> None:
    """A flood of output ends when its caller does, and other sessions go on beside it."""
    process = await caller.start("exec", "ada", "--", "sh", "-c", "cat /dev/zero")
    assert process.stdout is not None
    await asyncio.wait_for(process.stdout.readexactly(5_000_000), SECONDS)
    assert (await caller.run("exec", "ada", "--", "echo", "fine")).out == b"fine\n"
    process.kill()
    await process.communicate()

"""`--help`, completion, and what the fast commands must not import."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator, Mapping

import click
import pytest
from click.testing import CliRunner

from hive_core.cli import COMMANDS, main
from hive_core.cli.commands.gate.proposals import COMMANDS as PROPOSALS
from hive_core.cli.commands.gate.proposals import proposals
from tests.unit.core.cli.fake_host_api import FakeHost, agent
from tests.unit.core.cli.fake_host_gate import proposal
from tests.unit.core.cli.run_cli import Program

WITHOUT_JSON = (
    "serve",
    "egress",
    "relay",
    "dashboard",
    "check-config",
    "completion",
    "shell",
    "exec",
    "port-forward",
    "diff",
    "fetch",
    "programs",
    "ssh-config",
    "ssh-proxy",
)
SLOW = ("pydantic", "aiohttp", "aiosqlite", "asyncio", "structlog", "rich.console", "rich.table", "mcp")


async def test_help_names_everything(hive: Program) -> None:
    """--help names every command with its other names, and every exit code."""
    ended = await hive.run("--help")
    assert ended.code == 0
    assert [name for name in COMMANDS if not re.search(rf"^  {name}[ ,]", ended.out, re.MULTILINE)] == []
    assert "  list, ls, ps " in ended.out and "  destroy, rm " in ended.out
    assert [code for code in ("0", "1", "2", "3", "4", "130") if f"\n    {code} " not in ended.out] == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["lst"], "No such command 'lst'. Did you mean 'list'?"),
        (["proposals", "shw"], "No such command 'shw'. Did you mean 'show'?"),
        (["xyzzyq"], "No such command 'xyzzyq'.\n"),
        (["x" * 100_000], "'."),
    ],
    ids=["command", "of a group", "none near", "long"],
)
def test_the_command_that_was_meant_is_named(words: list[str], says: str) -> None:
    """An unknown command is wrong usage, and the message names the one that is most like it."""
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert says in result.output


def test_the_number_of_a_rollback_may_be_left_out() -> None:
    """The usage shows it in brackets, unlike the number of a decision, which the command needs."""
    assert "rollback [OPTIONS] AGENT [NUMBER]" in CliRunner().invoke(main, ["rollback", "--help"]).output


@pytest.mark.parametrize("name", COMMANDS)
def test_short_help_is_the_commands_own(name: str) -> None:
    """The line that --help shows for a command begins its own help, and the command is there."""
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").startswith(COMMANDS[name].short_help)


@pytest.mark.parametrize("name", PROPOSALS)
def test_short_help_within_a_group(name: str) -> None:
    """As above, for the commands of `proposals`."""
    command = proposals.get_command(click.Context(proposals), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").startswith(PROPOSALS[name].short_help)


def leaves(group: click.Group, *before: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with the words for it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, *before, name)
        else:
            yield (*before, name), command


@pytest.mark.parametrize(
    "command",
    [pytest.param(found, id=" ".join(words)) for words, found in leaves(main) if words[0] not in WITHOUT_JSON],
)
def test_json_everywhere(command: click.Command) -> None:
    """Every command that asks the daemon something has --json."""
    assert "--json" in [option for parameter in command.params for option in parameter.opts]


async def imported(hive: Program, *arguments: str) -> set[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-X", "importtime", "-m", "hive_core", *arguments,
        env=hive.environment(), stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    _, err = await process.communicate()
    assert process.returncode == 0
    return {line.rpartition("|")[2].strip() for line in err.decode().splitlines() if line.startswith("import time:")}


async def test_help_is_light(hive: Program) -> None:
    """--help imports click and what is the command line's own, but no command and nothing that is slow."""
    modules = await imported(hive, "--help")
    assert modules.isdisjoint({*SLOW, "rich", "http.client", "json", "ssl"})
    assert {name for name in modules if name.startswith("hive_core.")} == {
        "hive_core.cli",
        "hive_core.cli.lazy",
    }


@pytest.mark.parametrize("words", ["list", "proposals", "proposals show ada 3", "approve ada 3", "proposals --help"])
async def test_commands_are_light(words: str, hive: Program, daemon: FakeHost) -> None:
    """A command imports nothing that is slow."""
    daemon.agents, daemon.gate.proposals, daemon.gate.later = (
        [agent("alice")],
        [proposal()],
        [proposal(state="deployed")],
    )
    assert (await imported(hive, *words.split())).isdisjoint(SLOW)


def completing(words: str, count: int) -> Mapping[str, str]:
    return {"_HIVE_C0RE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(count)}


@pytest.mark.parametrize(
    "command",
    [
        "start", "stop", "restart", "limits", "destroy", "send", "ask", "logs", "propose", "approve", "deny",
        "withdraw", "rollback", "history", "proposals show", "proposals diff", "proposals log", "proposals --agent",
        "proposals list --agent", "audit show --subject",
    ],
)  # fmt: skip
async def test_agents_are_completed(command: str, hive: Program, daemon: FakeHost) -> None:
    """Names of agents are completed from the running daemon."""
    daemon.agents = [agent("alice"), agent("alan"), agent("bob")]
    ended = await hive.run(env=completing(f"hive-c0re {command} al", len(command.split()) + 1))
    assert (ended.out.splitlines(), ended.err) == (["plain,alice", "plain,alan"], "")


async def test_turns_and_secrets_are_completed(hive: Program, daemon: FakeHost) -> None:
    """Numbers of turns and names of secrets are completed; what an agent says instead of a number is not."""
    daemon.raw = (
        b'{"turns": [{"id": 12, "state": "ok"}, {"id": "1;reboot"}, 7, {"id": 11}],'
        b' "turn": {"id": 4, "state": "waiting"}, "held": [{"id": 3}, {"id": "$(reboot)"}, null],'
        b' "secrets": [{"name": "NPM_TOKEN"}],'
        b' "in_turns": ["NPM_TOKEN", "OTHER"]}'
    )
    for words, expected in (
        ("transcript ada --turn 1", ["12", "11"]),
        ("retry ada ", ["3", "4"]),
        ("skip ada ", ["3", "4"]),
        ("secret set ada ", ["NPM_TOKEN", "OTHER"]),
        ("secret remove ada N", ["NPM_TOKEN"]),
    ):
        ended = await hive.run(env=completing(f"hive-c0re {words}", len(words.split(" "))))
        assert (ended.out.splitlines(), ended.err) == ([f"plain,{each}" for each in expected], "")


async def test_a_groups_commands_are_completed(hive: Program) -> None:
    """Behind a group the shell completes its commands, also where one of them may be left out."""
    for group, first in (("proposals", "list"), ("audit", "show")):
        ended = await hive.run(env=completing(f"hive-c0re {group} ", 2))
        assert ended.out.splitlines()[0] == f"plain,{first}"


async def test_no_daemon_completes_nothing(hive: Program) -> None:
    """Without a daemon completion is silent."""
    ended = await hive.run(env=completing("hive-c0re stop al", 2))
    assert (ended.out.strip(), ended.err) == ("", "")


async def test_a_hanging_daemon_hangs_no_shell(hive: Program) -> None:
    """A daemon that does not answer completes nothing after a second."""
    hung_up = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        hung_up.set()

    async with await asyncio.start_unix_server(wait, hive.socket):
        ended = await hive.run(env=completing("hive-c0re stop al", 2))
        await hung_up.wait()
    assert (ended.out.strip(), ended.err) == ("", "")


async def test_completion_takes_the_named_socket(hive: Program, daemon: FakeHost) -> None:
    """Completion asks the daemon that --socket names."""
    daemon.agents = [agent("alice")]
    words = completing(f"hive-c0re --socket {daemon.path} stop a", 4)
    assert (await hive.run(env={**words, "HIVE_SOCKET": "/nowhere"})).out == "plain,alice\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion_scripts(shell: str, hive: Program) -> None:
    """The script of each shell is for `hive-c0re`; a shell that is installed accepts it."""
    ended = await hive.run("completion", shell)
    assert (ended.code, ended.err) == (0, "")
    assert "_HIVE_C0RE_COMPLETE=" in ended.out
    if path := shutil.which(shell):
        checker = await asyncio.create_subprocess_exec(path, "-n", stdin=PIPE, env={"PATH": os.defpath})
        await checker.communicate(ended.out.encode())
        assert checker.returncode == 0


STREAMS = {
    "closed stdout": (">&-", 1, 3),
    "closed stderr": ("2>&-", 0, 3),
    "all closed": ("<&- >&- 2>&-", 1, 3),
    "full stdout": (">/dev/full", 1, 3),
    "full stderr": ("2>/dev/full", 0, 3),
    "both full": (">/dev/full 2>/dev/full", 1, 3),
}
"""Redirections, and the exit codes of a command that prints much and of one that is refused."""


@pytest.mark.parametrize("streams", STREAMS)
def test_streams_that_cannot_be_written(streams: str) -> None:
    """An output that cannot be written ends a command with 1; messages make no difference; nobody sees a traceback."""
    redirection, printed, refused = STREAMS[streams]
    program = f"{shlex.quote(sys.executable)} -m hive_core --socket /nonexistent"
    script = f"set -o pipefail; {program} completion bash {redirection}; echo $?; {program} list {redirection}; echo $?"
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    codes = [line for line in ended.stdout.splitlines() if line.isdigit()]
    assert codes == [str(printed), str(refused)]
    assert "Traceback" not in ended.stderr and "Exception" not in ended.stderr
    if streams in ("closed stdout", "full stdout"):
        assert "hive-c0re: cannot write the output: " in ended.stderr


def test_a_pipe_that_nobody_reads() -> None:
    """A command whose output nobody reads (`| head`) ends with 1 and says nothing."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "hive_core", "completion", "bash"]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, "")

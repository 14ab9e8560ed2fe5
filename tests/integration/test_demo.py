"""`./dev demo` as its user sees it: on a terminal and without one, to the end, broken off, and with Claude Code."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from hive_agent.backends.claude_command import NoProgram, find_program
from tests.integration.model_server import (
    ApiError,
    Blocks,
    Text,
    ToolUse,
    has_tool_result,
    last_user_text,
    model_server,
)

ROOT = Path(__file__).parents[2]
DEMO = [sys.executable, str(ROOT / "docs/demo/run.py")]
SECONDS = 100.0
"""Longest that a demo may take here; it takes some seconds."""
CLAUDE_SECONDS = 300
"""The same with Claude Code, of which every turn is a new process that reads some 400 MB."""
READY = "ends the demo."


def has_claude() -> bool:
    try:
        find_program({"PATH": str(Path(sys.executable).parent)})
    except NoProgram:
        return False
    return True


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty directory with a short path, as sockets need it: the demo's TMPDIR."""
    with tempfile.TemporaryDirectory(prefix="hd") as directory:
        yield Path(directory)


def environment(place: Path, **more: str) -> dict[str, str]:
    """A user's environment, without access to Claude Code but what is in `more`."""
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "LD_LIBRARY_PATH") if key in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "TMPDIR": str(place), "HOME": str(place), "TERM": "xterm", **more}


def processes(place: Path) -> list[psutil.Process]:
    """Everything that runs for a demo in `place`: its path is on the command line or in the environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and any(
                str(place) in text for text in [*process.cmdline(), *process.environ().values()]
            ):
                found.append(process)
    return found


def assert_nothing_left(place: Path) -> None:
    assert processes(place) == []
    assert list(place.iterdir()) == []


def run(place: Path, *arguments: str, limit: float = SECONDS, **more: str) -> subprocess.CompletedProcess[str]:
    """The demo without a terminal."""
    return subprocess.run(
        [*DEMO, *arguments],
        cwd=ROOT,
        env=environment(place, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )


class Terminal:
    """The demo on a terminal of its own, 100 columns wide."""

    def __init__(self, place: Path, *arguments: str) -> None:
        self.shown = ""
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, 100))
        self.process = subprocess.Popen(
            [*DEMO, *arguments],
            cwd=ROOT,
            env=environment(place),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            # So that Ctrl-C reaches the demo, and whatever it runs in the foreground, as a signal.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - it takes no lock
        )
        os.close(slave)

    def read_until(self, text: str) -> None:
        """Read until `text` is shown; fails if the demo ends before."""
        while text not in self.shown:
            assert self._read(), f"ended without showing {text!r}:\n{self.shown}"

    def press_ctrl_c(self) -> None:
        os.write(self._master, b"\x03")

    def end(self) -> int:
        """Read the rest; the exit code."""
        while self._read():
            pass
        return self.process.wait(SECONDS)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def _read(self) -> bool:
        try:
            piece = os.read(self._master, 65_536)
        except OSError:  # A terminal that its last user has closed.
            return False
        self.shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", piece.decode(errors="replace")).replace("\r\n", "\n")
        return bool(piece)


@pytest.fixture
def terminal(request: pytest.FixtureRequest, place: Path) -> Iterator[Terminal]:
    demo = Terminal(place, *getattr(request, "param", ()))
    yield demo
    demo.close()


def assert_job_done(shown: str) -> None:
    """The whole job was shown, in its order, and summed up."""
    steps = ["operator → hm1nd", "hm1nd → ada", "ada → bob", "bob → ada", "ada → hm1nd", "hm1nd → operator", "Done."]
    places = [shown.index(step) for step in steps]
    assert places == sorted(places)
    assert re.search(r"^ +messages +6,", shown, re.MULTILINE)
    assert re.search(r"^ +agents +hm1nd, ada, bob$", shown, re.MULTILINE)
    assert len(re.findall(r"^ +confinement +(bubblewrap|plain processes, not confined): \S", shown, re.MULTILINE)) == 2


def test_ends_by_itself_without_a_terminal(place: Path) -> None:
    """Without a terminal the demo does its job, sums it up, leaves nothing behind and exits with 0."""
    done = run(place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_job_done(done.stdout)
    assert "\x1b" not in done.stdout
    assert_nothing_left(place)


@pytest.mark.parametrize("terminal", [("--once", "--keep")], indirect=True)
def test_once_ends_by_itself_on_a_terminal(terminal: Terminal, place: Path) -> None:
    """With --once the demo ends after the job on a terminal, too; with --keep it leaves the hive to be served again."""
    assert terminal.end() == 0, terminal.shown
    assert_job_done(terminal.shown)
    assert READY not in terminal.shown
    assert processes(place) == []
    (kept,) = place.iterdir()
    assert f"kept in {kept}" in terminal.shown
    assert (kept / "hive.sqlite").exists()


def test_stays_up_to_be_talked_to_until_ctrl_c(terminal: Terminal, place: Path) -> None:
    """The commands that the demo prints for another terminal work as they are; Ctrl-C then ends it, and everything."""
    terminal.read_until(READY)
    export, *commands = re.findall(r"^  (export .*|(?:\S+ -m hive_core|hive-c0re) .*)$", terminal.shown, re.MULTILINE)
    listing, inbox, asking, logs, _watch = commands
    answers = [
        subprocess.run(
            ["sh", "-c", f"{export}\n{command}"],
            cwd=ROOT,
            env=environment(place),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        ).stdout
        for command in (listing, inbox, asking, logs)
    ]
    assert re.findall(r"^(\w+) +\w+ +running +idle", answers[0], re.MULTILINE) == ["hm1nd", "ada", "bob"]
    assert "Release notes for 1.4" in answers[1]
    assert answers[2].startswith("Release notes for 2.0, reviewed by bob:")
    assert "serving ada" in answers[3]
    terminal.read_until("Release notes for 2.0")

    terminal.press_ctrl_c()
    assert terminal.end() == 0
    assert "nothing is left" in terminal.shown
    assert "Traceback" not in terminal.shown
    assert_nothing_left(place)


@pytest.mark.parametrize("moment", ["Starting the daemon", "$ hive-c0re spawn ada", "hm1nd thinking"])
def test_ctrl_c_on_the_way_ends_everything(terminal: Terminal, place: Path, moment: str) -> None:
    """Ctrl-C before the job is done ends the demo with 130, without a traceback and with nothing left."""
    terminal.read_until(moment)
    terminal.press_ctrl_c()
    assert terminal.end() == 130, terminal.shown
    assert "nothing is left" in terminal.shown
    assert "Traceback" not in terminal.shown
    assert_nothing_left(place)


def test_nothing_runs_on_after_the_demo_was_killed(terminal: Terminal, place: Path) -> None:
    """Neither daemon nor agents outlive a demo that was killed with SIGKILL."""
    terminal.read_until("bob is idle")
    running = [process for process in processes(place) if process.pid != terminal.process.pid]
    assert len(running) >= 4
    terminal.process.kill()
    _, alive = psutil.wait_procs(running, timeout=SECONDS)
    assert alive == []


def test_a_failure_is_told_with_its_reason(place: Path) -> None:
    """A daemon that cannot start ends the demo with 1, its own words, and nothing left."""
    done = run(place, "--once", HIVE_SANDBOX="bubblewrap", PATH="/nowhere")
    assert done.returncode == 1
    assert "bubblewrap is not installed" in done.stdout
    assert "The demo failed: the daemon has ended" in done.stdout
    assert_nothing_left(place)


# --- with Claude Code ---------------------------------------------------------------------------------------

needs_claude = pytest.mark.skipif(not has_claude(), reason="Claude Code is not installed (extra `claude`)")


@needs_claude
def test_claude_without_access_says_what_to_set(place: Path) -> None:
    """With --claude, but neither key nor login, the demo says what to do and starts nothing."""
    done = run(place, "--claude")
    assert done.returncode == 1
    assert {"ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"} <= set(re.findall(r"export (\w+)=", done.stdout))
    assert "Starting" not in done.stdout
    assert_nothing_left(place)


@needs_claude
def test_claude_refuses_a_login_that_runs_out(place: Path) -> None:
    """A login that will not last for the job is refused before anything starts: agents do not renew it."""
    write_login(place, lasts=60)
    done = run(place, "--claude")
    assert done.returncode == 1
    assert "runs out" in done.stdout
    assert "Starting" not in done.stdout


@needs_claude
@pytest.mark.timeout(CLAUDE_SECONDS + 30)
async def test_claude_with_a_refused_key_ends_with_the_reason(place: Path) -> None:
    """A key that the API refuses ends the demo at once: it says who needs a login, and shows that agent's log."""

    async def refuse(_request: dict[str, Any]) -> ApiError:
        return ApiError(401, "authentication_error", "invalid x-api-key")

    async with model_server(refuse) as server:
        done = await run_claude(place, server.url, ANTHROPIC_API_KEY="wrong")
    assert done.returncode == 1
    assert "The demo failed: hm1nd has no valid login" in done.stdout
    assert "serving hm1nd (claude)" in done.stdout
    assert_nothing_left(place)


@needs_claude
@pytest.mark.timeout(CLAUDE_SECONDS + 30)
@pytest.mark.parametrize("access", ["key", "login"])
async def test_claude_does_the_same_job(place: Path, access: str) -> None:
    """Real Claude Code does the job with a key from the environment, or with a login that `claude` has made.

    Only the model is ours. It answers what the agents' prompts ask for, from what it is shown alone.
    """
    more = {"ANTHROPIC_API_KEY": "test"} if access == "key" else {}
    if access == "login":
        write_login(place, lasts=3_600)
    async with model_server(model) as server:
        done = await run_claude(place, server.url, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_job_done(done.stdout)
    assert "nothing is left" in done.stdout
    assert processes(place) == []


async def run_claude(place: Path, url: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The demo with Claude Code, whose model is at `url`."""
    more |= {"ANTHROPIC_BASE_URL": url, "CLAUDE_CODE_MAX_RETRIES": "0"}
    return await asyncio.to_thread(run, place, "--once", "--claude", limit=CLAUDE_SECONDS, **more)


def write_login(home: Path, *, lasts: float) -> None:
    """The file that `claude auth login` makes."""
    login = {
        "accessToken": "sk-ant-oat01-test",
        "refreshToken": "sk-ant-ort01-test",
        "expiresAt": int((time.time() + lasts) * 1_000),
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "pro",
    }
    (home / ".claude").mkdir()
    (home / ".claude/.credentials.json").write_text(json.dumps({"claudeAiOauth": login}))


async def model(request: dict[str, Any]) -> Blocks:
    """A model that follows the demo's prompts."""
    tools = {tool["name"] for tool in request.get("tools", [])}
    if "mcp__hive__send" not in tools or has_tool_result(request):
        return [Text("Done.")]
    found = re.search(r"message (\d+) from (\w+)", last_user_text(request))
    assert found is not None
    number, sender = int(found[1]), found[2]
    system = json.dumps(request["system"])
    if "You lead a team of two" in system:
        if sender == "operator":
            return send("ada", "Please write the release notes for 1.4. bob has to review them.")
        return send("operator", "Release notes for 1.4: ...", asked_by("operator", request))
    if "You write release notes" in system:
        if sender == "hm1nd":
            return send("bob", "Please review: restoring is much faster.")
        return send("hm1nd", "Release notes for 1.4: restoring takes 40 s.", asked_by("hm1nd", request))
    assert "You review texts" in system
    return send("ada", "How much faster?", number)


def send(to: str, body: str, reply_to: int | None = None) -> Blocks:
    answers: Mapping[str, object] = {} if reply_to is None else {"reply_to": reply_to}
    return [ToolUse("mcp__hive__send", {"to": to, "body": body, **answers})]


def asked_by(name: str, request: dict[str, Any]) -> int:
    """The number of the first message from `name` in the whole conversation."""
    found = re.search(rf"message (\d+) from {name}", json.dumps(request["messages"]))
    assert found is not None
    return int(found[1])

"""The README and the pages, followed word for word: each output that they show is what the program prints."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from hive_core.cli import main
from tests.helpers.real_daemon import READY_SECONDS, Daemon, running
from tests.integration.demo.shown_outputs import PAGES, ROOT, Shown, blocks, plain, shown_outputs

SECONDS = 10.0
ELSEWHERE = {
    "git -C applied/ada.git": "tests/integration/gate/test_tag_history.py",
    "hive-c0re repo add shop /tmp/hive-demo": "tests/integration/demo/test_demo.py",
    "hive-c0re work diff shop/2": "tests/integration/demo/test_demo.py",
    "hive-c0re exec ada -- ls": "tests/integration/demo/test_demo.py",
    "hive-c0re exec ada -- curl": "tests/integration/demo/test_demo.py",
    "hive-c0re net ada": "tests/integration/demo/test_demo.py",
    "hive-c0re usage ada": "tests/integration/demo/test_demo.py",
    "hive-c0re doctor --live": "tests/integration/demo/test_doctor_live.py",
}
"""Beginnings of commands whose outputs other tests compare."""


class Reader:
    """A person who types what the pages show, with a hive at another place."""

    def __init__(self, daemon: Daemon, place: Path) -> None:
        self._daemon = daemon
        self._place = place
        self._places = {daemon.run_dir: "/tmp/hive/run", daemon.state_dir: "/tmp/hive", place / "backup": "/backup"}

    async def differs(self, shown: Shown) -> str:
        """Both outputs if they differ. What an agent does meanwhile, such as an answer, is waited for."""
        first = shown.differs(await self.type(shown.command))
        difference, deadline = first, time.monotonic() + SECONDS
        while difference and re.match(r"hive-c0re (inbox|logs)\b", shown.command) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            difference = shown.differs(await self.type(shown.command))
        return difference and first

    async def watch(self, last: str) -> list[str]:
        """The lines of `hive-c0re watch`, from the first event of the hive to the one that ends with `last`."""
        environment = {**os.environ, "HIVE_SOCKET": str(self._daemon.host_socket), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "hive_core", "watch", "--after", "0"]
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        found: list[str] = []
        async with asyncio.timeout(SECONDS):
            while not found or not found[-1].endswith(last):
                found.append(plain((await process.stdout.readline()).decode()))
        process.terminate()
        await process.wait()
        return found

    async def type(self, command: str) -> str:
        """Return the output of a command as a terminal shows it."""
        if command == "hive-c0re serve":
            async with asyncio.timeout(READY_SECONDS):
                while not self._daemon.log_entries("ready"):  # It is written after systemd was told.
                    await asyncio.sleep(0.05)
            return self._here(self._daemon.log_text())
        if command.startswith("hive-c0re "):
            return self._here(await asyncio.to_thread(self._hive, shlex.split(self._there(command))[1:]))
        return self._here(await asyncio.to_thread(self._shell, command))

    def _hive(self, words: list[str]) -> str:
        environment = {
            "HIVE_STATE_DIR": str(self._daemon.state_dir),
            "HIVE_RUN_DIR": str(self._daemon.run_dir),
            # The doctor finds git only, so that the host's other programs do not change what it finds.
            **({"PATH": str(self._place / "bin")} if words[0] == "doctor" else {}),
        }
        typed = None
        if "<" in words:
            *words, _, file = words
            typed = Path(file).read_bytes()
        return CliRunner().invoke(main, words, env=environment, input=typed).output

    def _shell(self, command: str) -> str:
        environment = {
            **os.environ,
            "HOST": str(self._daemon.host_socket),
            "BOB": str(self._daemon.core_socket("bob")),
        }
        silent = command.replace("curl ", "curl --silent ")
        return subprocess.run(
            ["bash", "-c", silent], env=environment, capture_output=True, text=True, timeout=60, check=False
        ).stdout

    def _there(self, command: str) -> str:
        return command.replace("/backup/", f"{self._place}/backup/")

    def _here(self, output: str) -> str:
        """The output with the paths that the pages have."""
        for path, shown in self._places.items():
            output = output.replace(str(path), shown)
        return output


@pytest.fixture
async def reader(hive_home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Reader]:
    """A reader with an empty hive, in a directory with the files that the pages have."""
    for name in [name for name in os.environ if name.startswith("HIVE_")]:
        monkeypatch.delenv(name)
    git, env = shutil.which("git"), shutil.which("env")
    assert git and env
    for name in ("backup", "bin", "clerk"):
        (hive_home / name).mkdir()
    for program in (git, env):
        (hive_home / "bin" / Path(program).name).symlink_to(program)
    (script,) = [block for block in blocks(ROOT / "docs/agents.md") if 'match = "(?i)^order' in block.replace("'", '"')]
    (hive_home / "clerk" / "agent.toml").write_text(script)
    (hive_home / "token").write_text("npm_0123\n")
    monkeypatch.chdir(hive_home)
    async with running(Daemon(hive_home, settings={"sandbox": "auto"})) as daemon:
        yield Reader(daemon, hive_home)


async def not_watched(reader: Reader) -> list[str]:
    """The lines of the README's `watch` that are not shown, or messages in another order."""
    (block,) = [block for block in blocks(ROOT / "README.md") if "operator → ada       #1 hello" in block]
    shown = [plain(line) for line in block.splitlines()]
    printed = await reader.watch(shown[-1].removeprefix("TIME "))
    ordered = [line for line in printed if line in shown and "→" in line]
    missing = [line for line in shown if line not in printed]
    return (
        [*missing, *printed]
        if missing
        else [f"another order: {line}" for line in ordered if ordered != [x for x in shown if "→" in x]]
    )


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
async def test_the_pages_show_what_is_printed(reader: Reader) -> None:
    """Every output of a command is that of the program of now, from the README to the answers to `curl`."""
    differences = []
    for page in PAGES:
        if page.name == "messages.md":
            await reader.type("hive-c0re spawn bob --no-start")
        if page.name == "nixos.md":
            await reader.type("hive-c0re spawn eve --no-start")
        for shown in shown_outputs(page):
            if not shown.command.startswith(tuple(ELSEWHERE)):
                differences.append(await reader.differs(shown))
        if page.name == "README.md":
            differences += await not_watched(reader)
    found = "\n\n".join(filter(None, differences))
    assert not found, found


def test_outputs_are_found() -> None:
    """The test above compares something on each of the pages, and every other test of the table something, too."""
    found = [shown for page in PAGES for shown in shown_outputs(page)]
    assert {"README.md", "agents.md", "messages.md", "nixos.md", "operating.md"} <= {shown.page.name for shown in found}
    assert len(found) > 30
    for beginning, test in ELSEWHERE.items():
        assert any(shown.command.startswith(beginning) for shown in found)
        assert "shown_outputs" in (ROOT / test).read_text()

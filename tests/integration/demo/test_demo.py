"""`./dev demo` as its user sees it: on a terminal and without one, to the end, and broken off."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.demo.run_demo import (
    DEMO,
    ROOT,
    SECONDS,
    assert_gate_shown,
    assert_job_done,
    assert_mended_itself,
    assert_nothing_left,
    environment,
    processes,
    run,
    why_no_namespaces,
)
from tests.integration.demo.shown_outputs import blocks, fits

READY = "ends the demo."


def output(command: str, place: Path) -> str:
    """What a line of shell prints, typed in another terminal."""
    return subprocess.run(
        ["sh", "-c", command],
        cwd=ROOT,
        env=environment(place),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    ).stdout


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


def test_ends_by_itself_without_a_terminal(place: Path) -> None:
    """Without a terminal the demo does its job, sums it up, leaves nothing behind and exits with 0."""
    done = run(place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_job_done(done.stdout)
    assert_mended_itself(done.stdout)
    assert_gate_shown(done.stdout)
    assert "\x1b" not in done.stdout
    assert_nothing_left(place)
    assert lines_of_the_readme_not_in(done.stdout) == []


def lines_of_the_readme_not_in(printed: str) -> list[str]:
    """The lines that the README shows of the demo, without those that the demo prints."""
    shown = [
        line
        for block in blocks(ROOT / "README.md")
        if any(name in block for name in ("shop/1", "ada/1", "standin"))
        or ("prices.example.org" in block and not why_no_namespaces())
        for line in block.splitlines()
    ]
    assert len(shown) > 30
    # The directory has a name of its own each time.
    there = [re.sub(r"/\S*hive-demo-\w+", "/tmp/hive-demo", line) for line in printed.splitlines()]
    here = [re.sub(r"/\S*hive-demo-\w+", "/tmp/hive-demo", line) for line in shown]
    return [line for line in here if not any(fits(line, each) for each in there)]


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
    (command,) = re.findall(r"^  (git .*)$", terminal.shown, re.MULTILINE)
    assert [line.split(maxsplit=1)[1] for line in output(command, place).splitlines()] == [
        "(HEAD -> main) Count every item of an order, also of an empty one",
        "Begin the total with the first item",
        "Prices of orders",
    ]


def test_stays_up_to_be_talked_to_until_ctrl_c(terminal: Terminal, place: Path) -> None:
    """The commands that the demo prints for another terminal work as they are; Ctrl-C then ends it, and everything."""
    terminal.read_until(READY)
    said = terminal.shown[terminal.shown.index("Talk to it from another terminal") :]
    pattern = r"^  (export .*|(?:\S+ -m hive_core|hive-c0re|git) .*)$"
    export, *commands = re.findall(pattern, said, re.MULTILINE)
    answers = []
    for command in commands:
        if not command.endswith(" watch"):
            answers.append(output(f"{export}\n{command}", place))
        if " send ada " in command:
            terminal.read_until("Done: shop/3 has landed")
    assert re.findall(r"^(\w+) +\w+ +running +idle", answers[0], re.MULTILINE) == ["hm1nd", "ada", "bob"]
    assert "shop/2 has landed" in answers[1]
    # ada runs on what was approved: it still submits work, from its sealed sandbox, and it lands.
    assert answers[2].startswith("message ")
    assert re.findall(r"^(shop/\d) +(\w+)", answers[3], re.MULTILINE) == [
        ("shop/3", "landed"),
        ("shop/2", "landed"),
        ("shop/1", "failed"),
    ]
    assert "serving ada" in answers[4]
    assert re.findall(r"^(\w+/1) +config +(\w+)", answers[5], re.MULTILINE) == [
        ("bob/1", "denied"),
        ("ada/1", "deployed"),
    ]
    assert "tools: added Bash, Write" in answers[6]
    assert "Write to fewer" in answers[7]
    assert "Let a voucher lower the total" in answers[8]

    terminal.press_ctrl_c()
    assert terminal.end() == 0
    assert "nothing is left" in terminal.shown
    assert "Traceback" not in terminal.shown
    assert_nothing_left(place)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "moment", ["Starting the daemon", "$ hive-c0re spawn ada", "work shop/1 submitted", "Review proposal ada/1"]
)
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
